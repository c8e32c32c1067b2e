//! A client of the admin API of a running process: where it is, one request and its answer, and what an answer that
//! refuses says, in words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Failure;
use crate::config::tokens;

/// Where the admin API is when nobody says.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9900";

/// The variable of the environment that says where the admin API is.
const VARIABLE: &str = "PLIMSOLL_ADMIN";

/// The variable of the environment that names a file with a token for it.
const TOKEN_VARIABLE: &str = "PLIMSOLL_TOKEN_FILE";

/// One request with its connection and its whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer; the status of ten thousand endpoints has about a tenth.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Where the admin API of a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// `ip:port` or `host:port`.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// What the call says, else the environment, else the default.
    pub(super) fn find(asked: Option<&str>) -> Result<Self, Failure> {
        let from_environment = || std::env::var(VARIABLE).ok().filter(|value| !value.is_empty());
        match asked.map(str::to_owned).or_else(from_environment) {
            Some(text) => Self::parse(&text),
            None => Self::parse(DEFAULT_ADDRESS),
        }
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
            return Ok(Self::Unix(Path::new(path).to_owned()));
        }
        let port = text
            .rsplit_once(':')
            .and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
        if port.is_none() || HeaderValue::from_str(text).is_err() {
            return Err(Failure::Input(format!(
                "\"{text}\" is no address of an admin API: write 127.0.0.1:9900 or unix:/run/plimsoll/admin.sock"
            )));
        }
        Ok(Self::Tcp(text.to_owned()))
    }

    fn host(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Unix(_) => "localhost",
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => out.write_str(address),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// What is read of problem details (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
}

/// The process at an address.
#[derive(Debug)]
pub(super) struct Client {
    address: Address,
    authorization: Option<HeaderValue>,
}

impl Client {
    pub(super) const fn new(address: Address) -> Self {
        Self { address, authorization: None }
    }

    /// The same with the first token of `file`, or of the one that the environment names, if any does.
    pub(super) fn with_token(self, file: Option<&Path>) -> Result<Self, Failure> {
        let from_environment = || std::env::var_os(TOKEN_VARIABLE).filter(|value| !value.is_empty());
        let Some(file) = file.map(Path::to_owned).or_else(|| from_environment().map(PathBuf::from)) else {
            return Ok(self);
        };
        let wrong = |what: String| Failure::Input(format!("the token of {}: {what}", file.display()));
        let tokens = tokens::read(&file).map_err(wrong)?;
        let first = tokens.first().map_or("", String::as_str);
        let mut field =
            HeaderValue::from_str(&format!("Bearer {first}")).map_err(|error| wrong(error.to_string()))?;
        field.set_sensitive(true);
        Ok(Self { authorization: Some(field), ..self })
    }

    /// What is at `path`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, None, TIMEOUT).await
    }

    /// What is at `path`, as text.
    pub(super) async fn get_text(&self, path: &str) -> Result<String, Failure> {
        let mut request = self.request(Method::GET, path, None)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/plain"));
        let body = self.answered(request, TIMEOUT).await?;
        String::from_utf8(body.into()).map_err(|error| {
            Failure::Running(format!("the answer of {} is not understood: {error}", self.address))
        })
    }

    /// Orders what needs no body, and waits so long for what it has led to.
    pub(super) async fn order<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<T, Failure> {
        self.ask(method, path, None, patience).await
    }

    /// Sends `body`, and reads what it has led to.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<T, Failure> {
        self.ask(method, path, Some(body.to_string()), TIMEOUT).await
    }

    /// Sends a text, and waits so long for what is said to it.
    pub(super) async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        text: String,
        patience: Duration,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, Some(text), patience).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        patience: Duration,
    ) -> Result<T, Failure> {
        let body = self.answered(self.request(method, path, body)?, patience).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::Running(format!("the answer of {} is not understood: {error}", self.address))
        })
    }

    /// The body of the answer, where it is no refusal.
    async fn answered(&self, request: Request<Full<Bytes>>, patience: Duration) -> Result<Bytes, Failure> {
        let (status, body) = timeout(patience, self.exchange(request)).await.map_err(|_elapsed| {
            Failure::Running(format!("the admin API at {} did not answer within {patience:?}", self.address))
        })??;
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let request = Request::builder().method(method).uri(path).header(HOST, self.address.host());
        let request = match &self.authorization {
            Some(field) => request.header(AUTHORIZATION, field),
            None => request,
        };
        let request = if body.is_some() { request.header(CONTENT_TYPE, "application/json") } else { request };
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        request.body(body).map_err(|error| Failure::Input(format!("{path} cannot be asked for: {error}")))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let unreachable = |error| {
            Failure::Running(format!(
                "no process answers at {}: {error}; --admin or {VARIABLE} says where its admin API is",
                self.address
            ))
        };
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address.as_str()).await.map_err(unreachable)?;
                self.answer(stream, request).await
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                self.answer(stream, request).await
            }
        }
    }

    async fn answer<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let broken = |error: String| Failure::Running(format!("asking {} failed: {error}", self.address));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.to_string()))?;
        let exchange = async move {
            let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange);
        // The connection makes the answer happen; an answer that it could not bring has its own error.
        tokio::select! {
            answer = &mut exchange => answer,
            _ended = connection => exchange.await,
        }
        .map_err(broken)
    }
}

/// What a refusal says. What does not exist, what cannot be asked for, and a configuration that is not valid are wrong
/// calls; the rest failed as things are.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let detail = serde_json::from_slice::<Problem>(body).map_or_else(|_| status.to_string(), |p| p.detail);
    match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
            Failure::Input(detail)
        }
        _ => Failure::Running(detail),
    }
}

/// A name as a segment of a path: everything but unreserved characters is percent-encoded (RFC 3986 section 2.3).
pub(super) fn segment(name: &str) -> String {
    let mut segment = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_socket() {
        let tcp = |text: &str| Address::Tcp(text.to_owned());
        let unix = Address::Unix(PathBuf::from("/run/a.sock"));
        for (text, want) in [
            ("127.0.0.1:9900", Some(tcp("127.0.0.1:9900"))),
            ("[::1]:1", Some(tcp("[::1]:1"))),
            ("lb1.internal:9900", Some(tcp("lb1.internal:9900"))),
            ("unix:/run/a.sock", Some(unix.clone())),
            ("/run/a.sock", Some(unix)),
            ("9900", None),
            (":9900", None),
            ("localhost", None),
            ("http://localhost", None),
            ("a\n:1", None),
        ] {
            assert_eq!(Address::parse(text).ok(), want, "{text:?}");
        }
    }

    #[test]
    fn names_become_segments() {
        assert_eq!(segment("10.0.0.1:80"), "10.0.0.1%3A80");
        assert_eq!(segment("[::1]:80"), "%5B%3A%3A1%5D%3A80");
        assert_eq!(segment("unix:/a b"), "unix%3A%2Fa%20b");
    }

    #[test]
    fn a_refusal_speaks_in_the_words_of_its_detail() {
        let problem =
            br#"{"type":"about:blank","title":"Conflict","status":409,"detail":"too few are left"}"#;
        let failure = refused(StatusCode::CONFLICT, problem);
        assert!(matches!(&failure, Failure::Running(text) if text == "too few are left"), "{failure:?}");
        let failure = refused(StatusCode::NOT_FOUND, b"nothing here");
        assert!(matches!(&failure, Failure::Input(text) if text == "404 Not Found"), "{failure:?}");
    }
}
