//! One POST of an event to a URL, on a connection of its own.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::uri::{InvalidUri, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What one POST may take: name, connection and answer together.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a URL cannot be a webhook.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is no URL.
    #[error("it is no URL: {0}")]
    Malformed(#[from] InvalidUri),
    /// It has no host.
    #[error("it names no host")]
    NoHost,
    /// It is neither http nor https.
    #[error("only http:// and https:// are understood")]
    Scheme,
    /// It has a user name, which logs would show.
    #[error("a user name in a URL is not supported")]
    User,
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("the exchange broke: {0}")]
    Exchange(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("no answer within {0:?}")]
    TooLong(Duration),
}

/// Where to POST.
#[derive(Debug)]
pub(super) struct Webhook {
    host: String,
    port: u16,
    target: PathAndQuery,
    authority: HeaderValue,
}

impl Webhook {
    pub(super) fn parse(url: &str) -> Result<Self, AddressError> {
        let uri: Uri = url.parse()?;
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(AddressError::NoHost);
        };
        if authority.as_str().contains('@') {
            return Err(AddressError::User);
        }
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(AddressError::Scheme);
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| AddressError::NoHost)?;
        Ok(Self {
            host: bare.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            target: uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            authority: value,
        })
    }

    /// POSTs the JSON `body`; any 2xx takes it.
    pub(super) async fn post(&self, body: &str) -> Result<(), PostError> {
        let exchange = async {
            let stream =
                TcpStream::connect((self.host.as_str(), self.port)).await.map_err(PostError::Connect)?;
            self.exchange(stream, body).await
        };
        timeout(POST_TIMEOUT, exchange).await.unwrap_or(Err(PostError::TooLong(POST_TIMEOUT)))
    }

    async fn exchange<S>(&self, stream: S, body: &str) -> Result<(), PostError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = self.request(body);
        let answer = async move {
            let status = sender.send_request(request).await?.status();
            if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
        };
        // The connection makes the answer happen and ends with it; what comes after the head does not matter.
        tokio::select! {
            answer = answer => answer,
            Err(error) = connection => Err(error.into()),
        }
    }

    fn request(&self, body: &str) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(self.target.clone());
        let fields = request.headers_mut();
        fields.insert(HOST, self.authority.clone());
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("plimsoll/", env!("CARGO_PKG_VERSION"))));
        request
    }
}

/// Without path and query, which often are the secret.
impl fmt::Display for Webhook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.authority.to_str().unwrap_or("?"))
    }
}
