//! Clients that share HTTP/2 connections, each with one stream under way: plain requests, or unary gRPC calls.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::{Exchange, Load, Outcome, PATIENCE};
use crate::certificate::HOST;
use crate::origin::{SMALL_BODY, grpc};

/// Connections that all clients share.
const CONNECTIONS: usize = 8;

/// Flow control must not be what is measured: answers are small, and the load reads all that comes.
const WINDOW: u32 = 1 << 20;

pub(super) struct Multiplexed {
    runtime: Runtime,
    connections: Vec<SendRequest<Bytes>>,
    call: Arc<Call>,
    clients: usize,
}

/// One exchange, ready to be sent again and again.
struct Call {
    request: Request<()>,
    message: Option<Bytes>,
    /// Bytes of the answer's body.
    answer: usize,
}

impl Multiplexed {
    pub(super) fn connect(
        target: SocketAddr,
        exchange: Exchange,
        clients: usize,
        tls: Option<&Arc<ClientConfig>>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connections = runtime.block_on(async {
            let mut connections = Vec::with_capacity(CONNECTIONS);
            for _ in 0..CONNECTIONS {
                connections.push(open(target, tls).await?);
            }
            Ok::<_, Error>(connections)
        })?;
        let call = Arc::new(Call::new(exchange, tls.is_some())?);
        Ok(Self { runtime, connections, call, clients })
    }

    async fn run_all(&self, length: Duration) -> std::io::Result<Outcome> {
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for connection in self.connections.iter().cycle().take(self.clients) {
            tasks.spawn(keep_asking(connection.clone(), self.call.clone(), start + length));
        }
        let mut latencies = Vec::new();
        while let Some(done) = tasks.join_next().await {
            latencies.extend(done.map_err(Error::other)??);
        }
        Ok(Outcome::new(latencies, start.elapsed()))
    }
}

impl Load for Multiplexed {
    fn run(&mut self, length: Duration) -> std::io::Result<Outcome> {
        self.runtime.block_on(async {
            let late = |_| Error::new(ErrorKind::TimedOut, "no answer for 10 s");
            timeout(length + PATIENCE, self.run_all(length)).await.map_err(late)?
        })
    }
}

async fn open(target: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> std::io::Result<SendRequest<Bytes>> {
    let socket = TcpStream::connect(target).await?;
    socket.set_nodelay(true)?;
    let Some(tls) = tls else { return speak(socket).await };
    let name = ServerName::try_from(HOST).map_err(Error::other)?;
    let stream = TlsConnector::from(tls.clone()).connect(name, socket).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(Error::new(ErrorKind::Unsupported, "HTTP/2 was not agreed on"));
    }
    speak(stream).await
}

async fn speak<T>(stream: T) -> std::io::Result<SendRequest<Bytes>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    let (sender, connection) = builder.handshake(stream).await.map_err(Error::other)?;
    // It ends with the runtime; how it failed is seen by every stream that it carries.
    drop(tokio::spawn(connection));
    Ok(sender)
}

/// One client: the time of each exchange in nanoseconds, until `end`.
async fn keep_asking(
    mut sender: SendRequest<Bytes>,
    call: Arc<Call>,
    end: Instant,
) -> std::io::Result<Vec<u64>> {
    let mut latencies = Vec::new();
    let mut now = Instant::now();
    while now < end {
        sender = sender.ready().await.map_err(Error::other)?;
        call.exchange(&mut sender).await?;
        let sent = std::mem::replace(&mut now, Instant::now());
        latencies.push((now - sent).as_nanos() as u64);
    }
    Ok(latencies)
}

impl Call {
    fn new(exchange: Exchange, secured: bool) -> std::io::Result<Self> {
        let scheme = if secured { "https" } else { "http" };
        let (method, path, message, answer) = match exchange {
            Exchange::Grpc { bytes } => {
                let message = grpc::message(bytes);
                let answer = message.len();
                (Method::POST, grpc::METHOD, Some(message), answer)
            }
            Exchange::Http2 { path } => (Method::GET, path, None, SMALL_BODY),
            other => return Err(Error::new(ErrorKind::InvalidInput, format!("{other:?} is not HTTP/2"))),
        };
        let uri: Uri = format!("{scheme}://{HOST}{path}").parse().map_err(Error::other)?;
        let mut request = Request::builder().version(Version::HTTP_2).method(method).uri(uri);
        if message.is_some() {
            request = request.header("content-type", "application/grpc").header("te", "trailers");
        }
        let request = request.body(()).map_err(Error::other)?;
        Ok(Self { request, message, answer })
    }

    async fn exchange(&self, sender: &mut SendRequest<Bytes>) -> std::io::Result<()> {
        let (answer, mut stream) =
            sender.send_request(self.request.clone(), self.message.is_none()).map_err(Error::other)?;
        if let Some(message) = &self.message {
            stream.send_data(message.clone(), true).map_err(Error::other)?;
        }
        let (head, mut body) = answer.await.map_err(Error::other)?.into_parts();
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data.map_err(Error::other)?;
            length += data.len();
            body.flow_control().release_capacity(data.len()).map_err(Error::other)?;
        }
        let trailers = body.trailers().await.map_err(Error::other)?;
        self.check(head.status, length, trailers.as_ref().or(Some(&head.headers)))
    }

    /// Anything but the expected answer ends the run: it must not look fast.
    fn check(&self, status: StatusCode, length: usize, trailers: Option<&HeaderMap>) -> std::io::Result<()> {
        let called = || trailers?.get("grpc-status")?.to_str().ok();
        let right = status == StatusCode::OK && length == self.answer;
        if right && (self.message.is_none() || called() == Some("0")) {
            return Ok(());
        }
        let what = format!("unexpected answer: {status}, {length} bytes, grpc-status {:?}", called());
        Err(Error::new(ErrorKind::InvalidData, what))
    }
}
