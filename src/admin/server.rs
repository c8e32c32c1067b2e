//! Connections of the admin API: how many at once, how long each, and how they end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bind::{Accepted, Bound};
use super::routes::{Control, answer};
use crate::control::Handle;

/// Connections at once; further ones wait in the kernel until one ends.
const CONNECTIONS_MAX: usize = 64;
/// A request head, from when it can be sent; also how long an idle connection stays.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that one connection may take a place; Prometheus keeps its connections but opens a new one without complaint.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// What requests in flight get at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a head, and of what hyper buffers.
const HEAD_MAX: usize = 16 * 1024;
/// Pause after a failed accept, which is nearly always a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin API until `stop` is there; requests in flight then finish.
pub async fn serve(
    listener: Bound,
    handle: Handle,
    allowed_hosts: Vec<String>,
    stop: impl Future<Output = ()>,
) {
    serve_control(listener, Arc::new(handle), allowed_hosts, stop).await;
}

async fn serve_control(
    listener: Bound,
    control: Arc<dyn Control>,
    allowed_hosts: Vec<String>,
    stop: impl Future<Output = ()>,
) {
    let (stopping, stopped) = watch::channel(());
    let site = Arc::new(Site { control, allowed_hosts });
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut stop => break,
            Some(_ended) = connections.join_next() => {}
            (place, accepted) = next => match accepted {
                Ok(stream) => {
                    let (site, stopped) = (Arc::clone(&site), stopped.clone());
                    connections.spawn(async move {
                        connection(stream, site, stopped).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin API cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    drop(stopping);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(STOP_TIMEOUT, all_ended).await.is_err() {
        tracing::debug!("admin connections are cut at the end");
    }
}

/// What every connection answers from.
struct Site {
    control: Arc<dyn Control>,
    allowed_hosts: Vec<String>,
}

async fn connection(stream: Accepted, site: Arc<Site>, stopped: watch::Receiver<()>) {
    match stream {
        Accepted::Tcp(stream) => http(stream, site, stopped).await,
        Accepted::Unix(stream) => http(stream, site, stopped).await,
    }
}

/// `stopped` closes when the server stops.
async fn http<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    site: Arc<Site>,
    mut stopped: watch::Receiver<()>,
) {
    let service = service_fn(move |request| {
        let answer = answer(&*site.control, &site.allowed_hosts, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let whole = async {
        tokio::select! {
            result = served.as_mut() => return result,
            _closed = stopped.changed() => served.as_mut().graceful_shutdown(),
        }
        served.await
    };
    // What a client did wrong is between it and hyper, which has answered where it could.
    match timeout(CONNECTION_TIMEOUT, whole).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection broke"),
        Err(_elapsed) => tracing::debug!("an admin connection was open for too long"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::SystemTime;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::config::process::AdminBind;
    use crate::control::status::{EndpointStatus, PoolStatus, Readiness, Status, WorkerStatus};
    use crate::model::address::EndpointAddress;
    use crate::model::name::{EndpointName, NameError, PoolName};
    use crate::telemetry::metrics::{PANICS, Sink};

    /// A node with one pool; not ready (but for what is local) and not live when it is told to be sick.
    struct Node {
        pool: PoolStatus,
        sick: AtomicBool,
    }

    impl Node {
        fn new() -> Result<Self, NameError> {
            let endpoint = EndpointStatus {
                name: EndpointName::new("10.0.0.1:80")?,
                address: EndpointAddress::Ip(SocketAddr::from(([10, 0, 0, 1], 80))),
                weight: 2,
                tier: 1,
                usable: true,
                in_flight: 3,
                idle_connections: 4,
                requests: 5,
                failures: 6,
            };
            let pool = PoolStatus {
                name: PoolName::new("api")?,
                queue: 7,
                requests: 8,
                retries: 9,
                endpoints: vec![endpoint],
            };
            Ok(Self { pool, sick: AtomicBool::new(false) })
        }
    }

    impl Control for Node {
        fn status(&self) -> Status {
            Status {
                version: "1.2.3",
                generation: 4,
                config_hash: u64::MAX,
                started: SystemTime::UNIX_EPOCH,
                draining: false,
                workers: vec![WorkerStatus { connections: 1, handovers: 2 }],
                listeners: Vec::new(),
                pools: vec![self.pool.clone()],
            }
        }
        fn readiness(&self, local_only: bool) -> Readiness {
            let ready = local_only || !self.sick.load(Ordering::Relaxed);
            Readiness {
                ready,
                reasons: if ready { Vec::new() } else { vec!["pool api has no usable endpoint".into()] },
            }
        }
        fn is_live(&self) -> bool {
            !self.sick.load(Ordering::Relaxed)
        }
        fn collect(&self, sink: &mut dyn Sink) {
            sink.counter(&PANICS, &[], 17);
        }
    }

    type Failure = Box<dyn std::error::Error>;

    struct Site {
        node: Arc<Node>,
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        server: JoinHandle<()>,
    }

    fn start() -> Result<Site, Failure> {
        let node = Arc::new(Node::new()?);
        let bound = Bound::bind(&AdminBind::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))))?;
        let address = bound.address().ok_or("no address")?;
        let (stop, stopped) = oneshot::channel::<()>();
        let control: Arc<dyn Control> = Arc::clone(&node) as _;
        let server = tokio::spawn(serve_control(bound, control, vec!["lb1.internal".to_owned()], async {
            let _closed = stopped.await;
        }));
        Ok(Site { node, address, stop, server })
    }

    struct Reply {
        status: u16,
        head: String,
        body: String,
    }

    async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> io::Result<Reply> {
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok(Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    async fn ask(address: SocketAddr, method: &str, target: &str, host: &str) -> io::Result<Reply> {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        exchange(TcpStream::connect(address).await?, &request).await
    }

    #[tokio::test]
    async fn a_healthy_node_says_so_and_a_sick_one_says_why() -> Result<(), Failure> {
        let site = start()?;
        for (path, body) in [("/livez", r#"{"live":true}"#), ("/readyz", r#"{"ready":true}"#)] {
            let reply = ask(site.address, "GET", path, "any.name").await?;
            assert_eq!((reply.status, reply.body.as_str()), (200, body));
        }
        site.node.sick.store(true, Ordering::Relaxed);
        assert_eq!(ask(site.address, "GET", "/livez", "x").await?.status, 503);
        assert_eq!(ask(site.address, "GET", "/readyz?local", "x").await?.status, 200);
        let reply = ask(site.address, "GET", "/readyz", "x").await?;
        assert!(reply.head.contains("content-type: application/problem+json"), "{}", reply.head);
        let problem: serde_json::Value = serde_json::from_str(&reply.body)?;
        assert_eq!(problem["status"], 503);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["reasons"][0], "pool api has no usable endpoint");
        Ok(())
    }

    #[tokio::test]
    async fn status_and_metrics_show_what_control_knows() -> Result<(), Failure> {
        let site = start()?;
        let reply = ask(site.address, "GET", "/v1/status", "localhost:9900").await?;
        let status: serde_json::Value = serde_json::from_str(&reply.body)?;
        assert_eq!(status["config_hash"], "ffffffffffffffff");
        assert_eq!(status["started"], "1970-01-01T00:00:00.000Z");
        assert_eq!(status["pools"][0]["usable"], 1);
        assert_eq!(status["pools"][0]["endpoints"][0]["address"], "10.0.0.1:80");
        let metrics = ask(site.address, "GET", "/metrics", "x").await?;
        assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
        assert!(metrics.body.contains("\nplimsoll_panics_total 17\n"), "{}", metrics.body);
        Ok(())
    }

    #[tokio::test]
    async fn head_is_get_without_a_body_and_other_calls_are_problems() -> Result<(), Failure> {
        let site = start()?;
        let get = ask(site.address, "GET", "/v1/status", "localhost").await?;
        let head = ask(site.address, "HEAD", "/v1/status", "localhost").await?;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert!(head.head.contains(&format!("content-length: {}", get.body.len())), "{}", head.head);
        for (method, target, status) in
            [("GET", "/v1/nothing", 404), ("POST", "/v1/status", 405), ("GET", "/", 404)]
        {
            let reply = ask(site.address, method, target, "localhost").await?;
            assert_eq!(reply.status, status, "{method} {target}");
            assert!(reply.head.contains("application/problem+json"), "{}", reply.head);
            assert_eq!(reply.head.contains("allow: get, head"), status == 405);
        }
        Ok(())
    }

    #[tokio::test]
    async fn only_our_own_names_reach_v1() -> Result<(), Failure> {
        let site = start()?;
        for (host, status) in [
            ("localhost:9900", 200),
            ("LOCALHOST", 200),
            ("127.0.0.1:9900", 200),
            ("127.8.9.1", 200),
            ("[::1]:9900", 200),
            ("admin.localhost", 200),
            ("lb1.internal:9900", 200),
            ("LB1.internal.", 200),
            ("attacker.example", 421),
            ("localhost.attacker.example", 421),
            ("10.0.0.1", 421),
            ("", 421),
            ("a b", 400),
            ("user@localhost", 400),
        ] {
            assert_eq!(ask(site.address, "GET", "/v1/status", host).await?.status, status, "{host:?}");
        }
        assert_eq!(
            ask(site.address, "GET", "http://attacker.example/v1/status", "localhost").await?.status,
            421
        );
        let twice = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(exchange(TcpStream::connect(site.address).await?, twice).await?.status, 400);
        Ok(())
    }

    #[tokio::test]
    async fn a_unix_socket_answers_too() -> Result<(), Failure> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("admin.sock");
        let bound = Bound::bind(&AdminBind::Unix(path.clone()))?;
        let control: Arc<dyn Control> = Arc::new(Node::new()?);
        let _server = tokio::spawn(serve_control(bound, control, Vec::new(), std::future::pending()));
        let request = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(exchange(UnixStream::connect(&path).await?, request).await?.status, 200);
        Ok(())
    }

    #[tokio::test]
    async fn connections_beyond_the_ceiling_wait_for_a_place() -> Result<(), Failure> {
        let site = start()?;
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(site.address).await?;
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await?;
            // The answer shows that the connection has its place.
            assert_eq!(stream.read_u8().await?, b'H');
            open.push(stream);
        }
        let waiting = tokio::spawn(async move { ask(site.address, "GET", "/livez", "a").await });
        // The kernel has completed this connection before; the answer can only come once a place is free.
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(open.pop());
        assert_eq!(waiting.await??.status, 200);
        Ok(())
    }

    #[tokio::test]
    async fn stopping_closes_idle_connections_and_the_listener() -> Result<(), Failure> {
        let site = start()?;
        let mut idle = TcpStream::connect(site.address).await?;
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        assert_eq!(idle.read_u8().await?, b'H');
        drop(site.stop);
        site.server.await?;
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await?;
        assert!(rest.ends_with(br#"{"live":true}"#));
        assert!(TcpStream::connect(site.address).await.is_err());
        Ok(())
    }
}
