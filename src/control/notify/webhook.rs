//! One POST of an event to a URL, on a connection of its own.

use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::{InvalidUri, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::control::tls::TlsClient;
use crate::runtime::tls::client::Settings;
use crate::runtime::tls::files::TlsError;

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
    /// TLS cannot be spoken to it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum PostError {
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
pub(in super::super) struct Webhook {
    host: String,
    port: u16,
    target: PathAndQuery,
    authority: HeaderValue,
    /// For https.
    tls: Option<Box<TlsClient>>,
}

impl Webhook {
    pub(in super::super) fn parse(url: &str) -> Result<Self, AddressError> {
        let uri: Uri = url.parse()?;
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(AddressError::NoHost);
        };
        if authority.as_str().contains('@') {
            return Err(AddressError::User);
        }
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(AddressError::Scheme),
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| AddressError::NoHost)?;
        let client = || TlsClient::new(Settings::default(), Some(bare)).map(Box::new);
        Ok(Self {
            tls: is_secure.then(client).transpose()?,
            host: bare.to_owned(),
            port: uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            target: uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
            authority: value,
        })
    }

    /// POSTs the JSON `body`; any 2xx takes it.
    pub(super) async fn post(&self, body: &str) -> Result<(), PostError> {
        let json = HeaderValue::from_static("application/json");
        let fields = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
        let status = self.send(Bytes::copy_from_slice(body.as_bytes()), fields).await?;
        if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
    }

    /// POSTs `body` with these fields; the status that it is answered with.
    pub(in super::super) async fn send(
        &self,
        body: Bytes,
        fields: HeaderMap,
    ) -> Result<StatusCode, PostError> {
        let request = self.request(body, fields);
        let exchange = async {
            let name = (self.host.as_str(), self.port);
            let stream = TcpStream::connect(name).await.map_err(PostError::Connect)?;
            let Some(tls) = &self.tls else { return exchange(stream, request).await };
            let peer = stream.peer_addr().map_err(PostError::Connect)?;
            let stream =
                tls.connect(stream, (None, peer.into()), &[b"http/1.1"]).await.map_err(PostError::Connect)?;
            exchange(stream, request).await
        };
        timeout(POST_TIMEOUT, exchange).await.unwrap_or(Err(PostError::TooLong(POST_TIMEOUT)))
    }

    fn request(&self, body: Bytes, mut fields: HeaderMap) -> Request<Full<Bytes>> {
        fields.insert(HOST, self.authority.clone());
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("plimsoll/", env!("CARGO_PKG_VERSION"))));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = fields;
        request
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move { Ok(sender.send_request(request).await?.status()) };
    let mut answer = pin!(answer);
    // The connection makes the answer happen. How it ends does not matter: many servers forget TLS's close_notify,
    // and an answer that it could not bring has its own error.
    tokio::select! {
        answer = &mut answer => answer,
        _ended = connection => answer.await,
    }
}

/// Without path and query, which often are the secret.
impl fmt::Display for Webhook {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.authority.to_str().unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    type Failure = Box<dyn std::error::Error>;

    #[test]
    fn the_log_never_shows_the_path() -> Result<(), AddressError> {
        let webhook = Webhook::parse("http://hooks.internal:8080/secret?key=1")?;
        assert_eq!(webhook.to_string(), "hooks.internal:8080");
        assert_eq!((webhook.host.as_str(), webhook.port), ("hooks.internal", 8080));
        assert_eq!(Webhook::parse("http://[::1]/")?.host, "::1");
        Ok(())
    }

    /// A TLS server with a certificate for `localhost` that answers one POST with 204, and the certificate's PEM.
    async fn server() -> Result<(u16, String), Failure> {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut text = Vec::new();
                while !text.ends_with(b"}") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    text.push(byte);
                }
                if stream.write_all(b"HTTP/1.1 204 x\r\n\r\n").await.is_err() {
                    return;
                }
            }
        });
        Ok((port, own.cert.pem()))
    }

    #[tokio::test]
    async fn https_posts_to_whom_it_can_verify_only() -> Result<(), Failure> {
        let folder = tempfile::tempdir()?;
        let (port, pem) = server().await?;
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, pem)?;
        let mut webhook = Webhook::parse(&format!("https://localhost:{port}/"))?;
        let refused = webhook.post("{}").await;
        assert!(matches!(refused, Err(PostError::Connect(_))), "{refused:?}");
        let settings = Settings { ca: Some(ca), ..Settings::default() };
        webhook.tls = Some(Box::new(TlsClient::new(settings, Some("localhost"))?));
        let taken = webhook.post("{}").await;
        assert!(taken.is_ok(), "{taken:?}");
        Ok(())
    }
}
