//! Connections of the admin API and of the open health listener: how many at once, how long each, and how they end.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::access::{Door, Tokens};
use super::answer;
use super::bind::{Accepted, Bound};
use super::limits::Hits;
use super::routes::{Scope, Site};
use crate::config::process::ApiLimits;
use crate::control::Handle;

/// The longest that one connection without a stream may take a place; Prometheus keeps its connections but opens a new
/// one without complaint.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a head, and of what hyper buffers. No setting: our own requests have a tenth of it.
const HEAD_MAX: usize = 16 * 1024;
/// Pause after a failed accept, which is nearly always a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin API, to those whom `tokens` and the address allow it, until `stop` is there and says what
/// requests in flight get.
pub async fn serve(
    listener: Arc<Bound>,
    handle: Handle,
    allowed_hosts: Vec<String>,
    tokens: Tokens,
    (limits, hits): (ApiLimits, Arc<Hits>),
    stop: impl Future<Output = Duration>,
) {
    let door = Door::new(listener.address(), tokens);
    let scope = Scope::Admin { allowed_hosts };
    serve_control(listener, Site::new(Arc::new(handle), scope, door, limits, hits), stop).await;
}

/// Serves the open health listener, which tells anybody how well this node is and nothing else, until `stop` is there and says what
/// requests in flight get.
pub async fn serve_health(
    listener: Arc<Bound>,
    handle: Handle,
    (limits, hits): (ApiLimits, Arc<Hits>),
    stop: impl Future<Output = Duration>,
) {
    let door = Door::new(listener.address(), Tokens::default());
    serve_control(listener, Site::new(Arc::new(handle), Scope::Health, door, limits, hits), stop).await;
}

async fn serve_control(listener: Arc<Bound>, site: Site, stop: impl Future<Output = Duration>) {
    let (stopping, stopped) = watch::channel(());
    let site = Arc::new(site.stopping(stopped.clone()));
    let places = Arc::new(Semaphore::new(site.limits.connections));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    let patience = loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            // First: whoever comes now is for those who serve after this.
            biased;
            patience = &mut stop => break patience,
            Some(_ended) = connections.join_next() => {}
            (place, accepted) = next => match accepted {
                Ok(stream) => {
                    if places.available_permits() == 0 {
                        site.count_full();
                    }
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
    };
    drop(listener);
    drop(stopping);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(patience, all_ended).await.is_err() {
        tracing::debug!("admin connections are cut at the end");
    }
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
    let streaming = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request| {
        let (site, streaming) = (Arc::clone(&site), Arc::clone(&streaming));
        async move {
            let answer = site.answer(request).await;
            streaming.fetch_or(answer::is_stream(&answer), Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(site.limits.request_header).max_buf_size(HEAD_MAX);
    builder.keep_alive(!site.is_open());
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let whole = async {
        tokio::select! {
            result = served.as_mut() => return result,
            _closed = stopped.changed() => served.as_mut().graceful_shutdown(),
        }
        served.await
    };
    let mut whole = pin!(whole);
    let ended = loop {
        match timeout(CONNECTION_TIMEOUT, whole.as_mut()).await {
            // A stream ends by itself when its reader takes nothing.
            Err(_elapsed) if streaming.load(Ordering::Relaxed) => {}
            ended => break ended,
        }
    };
    // What a client did wrong is between it and hyper, which has answered where it could.
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection broke"),
        Err(_elapsed) => tracing::debug!("an admin connection was open for too long"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::admin::routes::Control;
    use crate::admin::sample::Node;
    use crate::config::process::AdminBind;
    use crate::control::journal::{Change, EVENTS_KEPT, Kind};

    type Failure = Box<dyn std::error::Error>;

    const LIMITS: ApiLimits =
        ApiLimits { connections: 8, streams: 3, request_header: Duration::from_secs(10) };

    /// What is served, to everybody on loopback.
    fn served(control: Arc<dyn Control>, scope: Scope, bound: &Bound) -> super::Site {
        let door = Door::new(bound.address(), Tokens::default());
        super::Site::new(control, scope, door, LIMITS, Arc::default())
    }

    struct Site {
        node: Arc<Node>,
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        server: JoinHandle<()>,
    }

    fn start() -> Result<Site, Failure> {
        start_as(Scope::Admin { allowed_hosts: vec!["lb1.internal".to_owned()] })
    }

    fn start_as(scope: Scope) -> Result<Site, Failure> {
        let node = Arc::new(Node::new()?);
        let bound = Bound::bind(&AdminBind::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))))?;
        let address = bound.address().ok_or("no address")?;
        let (stop, stopped) = oneshot::channel::<()>();
        let control: Arc<dyn Control> = Arc::clone(&node) as _;
        let site = served(control, scope, &bound);
        let server = tokio::spawn(serve_control(Arc::new(bound), site, async {
            let _closed = stopped.await;
            Duration::from_secs(2)
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
        site.node.set_usable(false);
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
        let site = served(control, Scope::Admin { allowed_hosts: Vec::new() }, &bound);
        let _server = tokio::spawn(serve_control(Arc::new(bound), site, std::future::pending()));
        let request = "GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        assert_eq!(exchange(UnixStream::connect(&path).await?, request).await?.status, 200);
        Ok(())
    }

    #[tokio::test]
    async fn connections_beyond_the_ceiling_wait_for_a_place() -> Result<(), Failure> {
        let site = start()?;
        let mut open = Vec::new();
        for _ in 0..LIMITS.connections {
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

    #[tokio::test]
    async fn health_tells_each_pool_and_503_when_one_has_nothing() -> Result<(), Failure> {
        let site = start_as(Scope::Health)?;
        let all = ask(site.address, "GET", "/health", "any.name").await?;
        let one = "{\"status\":\"healthy\",\"latency_ms\":null,\"message\":\"1 of 1 endpoints usable\"}";
        let expected = format!("{{\"status\":\"healthy\",\"components\":{{\"api\":{one}}}}}");
        assert_eq!((all.status, all.body), (200, expected));
        assert_eq!(ask(site.address, "GET", "/health/pools/api", "x").await?.body, one);
        assert_eq!(ask(site.address, "GET", "/health/pools/other", "x").await?.status, 404);
        let sick = start_as(Scope::Health)?;
        sick.node.set_usable(false);
        let all = ask(sick.address, "GET", "/health", "x").await?;
        assert_eq!(all.status, 503);
        assert!(all.body.starts_with("{\"status\":\"unhealthy\""), "{}", all.body);
        let head = ask(sick.address, "HEAD", "/health/pools/api", "x").await?;
        assert_eq!((head.status, head.body.as_str()), (503, ""));
        Ok(())
    }

    #[tokio::test]
    async fn an_open_listener_tells_health_and_nothing_else() -> Result<(), Failure> {
        let site = start_as(Scope::Health)?;
        for path in ["/livez", "/readyz", "/health"] {
            assert_eq!(ask(site.address, "GET", path, "any.name").await?.status, 200, "{path}");
            assert_eq!(ask(site.address, "POST", path, "any.name").await?.status, 405, "{path}");
        }
        for path in ["/", "/metrics", "/v1/status", "/v1/events", "/v1/pools/api"] {
            assert_eq!(ask(site.address, "GET", path, "localhost").await?.status, 404, "{path}");
        }
        assert_eq!(ask(site.address, "PATCH", "/v1/pools/api/endpoints/a", "localhost").await?.status, 404);
        Ok(())
    }

    async fn send(address: SocketAddr, head: &str, body: &str) -> io::Result<Reply> {
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        exchange(TcpStream::connect(address).await?, &request).await
    }

    #[tokio::test]
    async fn changes_reach_control_and_answer_with_what_is_now() -> Result<(), Failure> {
        let site = start()?;
        let path = "PATCH /v1/pools/api/endpoints/10.0.0.1%3A80";
        let reply = send(site.address, path, r#"{"admin_state":"drain"}"#).await?;
        let endpoint: serde_json::Value = serde_json::from_str(&reply.body)?;
        assert_eq!((reply.status, &endpoint["name"]), (200, &"10.0.0.1:80".into()));
        let forced = send(site.address, &format!("{path}?force"), r#"{"weight":7}"#).await?;
        assert_eq!(forced.status, 200);
        let pool = send(site.address, "POST /v1/pools/api/failover", r#"{"to":"home"}"#).await?;
        let pool: serde_json::Value = serde_json::from_str(&pool.body)?;
        assert_eq!(pool["name"], "api");
        let unknown = send(site.address, "POST /v1/pools/other/failover", r#"{"to":"dr"}"#).await?;
        assert_eq!(unknown.status, 404);
        assert!(unknown.head.contains("application/problem+json"), "{}", unknown.head);
        let asked = site.node.asked.lock().map_err(|error| error.to_string())?.clone();
        let expected =
            ["api/10.0.0.1:80 drain - false", "api/10.0.0.1:80 - 7 true", "api to home", "other to dr"];
        assert_eq!(asked, expected);
        Ok(())
    }

    #[tokio::test]
    async fn what_is_no_change_of_ours_is_refused() -> Result<(), Failure> {
        let site = start()?;
        let path = "/v1/pools/api/endpoints/a";
        for (head, body, status) in [
            (format!("PATCH {path}"), "{}", 400),
            (format!("PATCH {path}"), "x", 400),
            (format!("PATCH {path}"), &*"x".repeat(5000), 413),
            (format!("POST {path}"), "{}", 405),
            ("GET /v1/pools/api/failover".to_owned(), "", 405),
        ] {
            assert_eq!(send(site.address, &head, body).await?.status, status, "{head} {body}");
        }
        for (origin, status) in [("http://evil.example", 403), ("null", 403), ("http://localhost", 200)] {
            let head =
                format!("POST /v1/pools/api/failover HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n");
            let rest = "Content-Length: 13\r\nConnection: close\r\n\r\n{\"to\":\"home\"}";
            let reply = exchange(TcpStream::connect(site.address).await?, &(head + rest)).await?;
            assert_eq!(reply.status, status, "{origin}");
        }
        assert_eq!(site.node.asked.lock().map_err(|error| error.to_string())?.len(), 1);
        Ok(())
    }

    #[tokio::test]
    async fn what_runs_is_shown_with_where_it_came_from() -> Result<(), Failure> {
        let site = start()?;
        let reply = ask(site.address, "GET", "/v1/config", "localhost").await?;
        let shown: serde_json::Value = serde_json::from_str(&reply.body)?;
        assert_eq!((&shown["provenance"], &shown["generation"]), (&"last good".into(), &4.into()));
        assert_eq!(shown["fallback"]["why"], "broken");
        assert_eq!(shown["confirm_until"], "1970-01-01T00:00:00.000Z");
        assert_eq!(shown["files"][0], "sample.toml");
        assert!(
            shown["effective"].as_str().is_some_and(|text| text.contains("\n[listener.web]\n")),
            "{shown}"
        );
        assert_eq!(ask(site.address, "GET", "/v1/config", "evil.example").await?.status, 421);
        Ok(())
    }

    #[tokio::test]
    async fn a_plan_is_asked_like_a_reload_and_nothing_to_confirm_is_a_conflict() -> Result<(), Failure> {
        let site = start()?;
        let reply = send(site.address, "POST /v1/plan", "").await?;
        let plan: serde_json::Value = serde_json::from_str(&reply.body)?;
        assert_eq!(
            (&plan["summary"], &plan["refused"][0]),
            (&"nothing changes".into(), &"too little".into())
        );
        assert_eq!(send(site.address, "POST /v1/plan", "[listener.web]").await?.status, 403, "no owner");
        assert_eq!(send(site.address, "POST /v1/reload/confirm", "").await?.status, 409);
        assert_eq!(send(site.address, "PATCH /v1/plan", "").await?.status, 405);
        let asked = site.node.asked.lock().map_err(|error| error.to_string())?.clone();
        assert_eq!(asked, ["plan File"]);
        Ok(())
    }

    #[tokio::test]
    async fn events_are_a_list_from_a_number_on() -> Result<(), Failure> {
        let site = start()?;
        assert_eq!(ask(site.address, "GET", "/v1/events", "localhost").await?.body, "[]");
        for number in 1..=3 {
            site.node.journal().append(Change::new(Kind::Alarm, format!("state {number}"), "a test"));
        }
        let reply = ask(site.address, "GET", "/v1/events?after=1", "localhost").await?;
        let events: serde_json::Value = serde_json::from_str(&reply.body)?;
        assert_eq!(events.as_array().map(Vec::len), Some(2));
        assert_eq!((&events[0]["id"], &events[1]["to"]), (&2.into(), &"state 3".into()));
        assert_eq!(ask(site.address, "GET", "/v1/events?after=x", "localhost").await?.status, 400);
        assert_eq!(ask(site.address, "GET", "/v1/events", "evil.example").await?.status, 421);
        Ok(())
    }

    /// Opens a stream of events and reads it, chunk framing and all, up to `until`.
    async fn stream(address: SocketAddr, fields: &str, until: &str) -> io::Result<(TcpStream, String)> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{fields}\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let text = read_until(&mut stream, until).await?;
        Ok((stream, text))
    }

    async fn read_until(stream: &mut TcpStream, until: &str) -> io::Result<String> {
        let mut text = Vec::new();
        while !text.ends_with(until.as_bytes()) {
            text.push(stream.read_u8().await?);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    #[tokio::test]
    async fn a_stream_goes_on_with_new_events_and_resumes_where_it_broke() -> Result<(), Failure> {
        let site = start()?;
        let journal = site.node.journal();
        journal.append(Change::new(Kind::Alarm, "first", "a test"));
        let (mut open, text) = stream(site.address, "", "\"to\":\"first\"}\n\n").await?;
        assert!(text.contains("content-type: text/event-stream"), "{text}");
        assert!(text.contains("id: 1\ndata: {"), "{text}");
        journal.append(Change::new(Kind::Alarm, "second", "a test"));
        let text = read_until(&mut open, "\"to\":\"second\"}\n\n").await?;
        assert!(text.contains("id: 2\n"), "{text}");
        drop(open);
        journal.append(Change::new(Kind::Alarm, "third", "a test"));
        let (_open, text) = stream(site.address, "Last-Event-ID: 2\r\n", "\"to\":\"third\"}\n\n").await?;
        assert!(!text.contains("second"), "{text}");
        Ok(())
    }

    #[tokio::test]
    async fn a_stream_tells_what_left_the_journal() -> Result<(), Failure> {
        let site = start()?;
        for _ in 0..EVENTS_KEPT + 2 {
            site.node.journal().append(Change::new(Kind::Alarm, "again", "a test"));
        }
        let (_open, text) = stream(site.address, "", "id: 3\n").await?;
        assert!(text.contains("id: 2\nevent: missed\ndata: {\"missed\":2}\n\n"), "{text}");
        Ok(())
    }

    #[tokio::test]
    async fn streams_have_their_ceiling_and_end_with_the_server() -> Result<(), Failure> {
        let site = start()?;
        let mut open = Vec::new();
        for _ in 0..LIMITS.streams {
            open.push(stream(site.address, "", "retry: 1000\n\n").await?.0);
        }
        let (_refused, text) = stream(site.address, "", "}").await?;
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        drop(open.pop());
        // Its place is given back once the server sees it gone, which nothing tells from outside.
        while stream(site.address, "Connection: close\r\n", "\n\n").await.is_err() {}
        drop(site.stop);
        site.server.await?;
        for mut stream in open {
            assert_eq!(read_until(&mut stream, "0\r\n\r\n").await?.matches("data:").count(), 0);
        }
        Ok(())
    }
}
