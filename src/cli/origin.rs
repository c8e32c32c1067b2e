//! The demo's origins: three small HTTP servers on ports that the kernel chooses, on one thread of their own.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;

/// The names of the origins, which they also answer with.
pub(super) const NAMES: [&str; 3] = ["red", "green", "blue"];

/// How long `/slow` takes.
const SLOW: Duration = Duration::from_secs(2);
/// Connections of one origin at once.
const CONNECTIONS_MAX: usize = 1024;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Starts the origins; they live as long as the process. Returns their addresses in the order of [`NAMES`].
pub(super) fn start() -> io::Result<[SocketAddr; 3]> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 3];
    for (name, address) in NAMES.into_iter().zip(&mut addresses) {
        let listener = std::net::TcpListener::bind(*address)?;
        listener.set_nonblocking(true)?;
        *address = listener.local_addr()?;
        let _context = runtime.enter();
        runtime.spawn(serve(name, TcpListener::from_std(listener)?));
    }
    let work = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("demo-origins".to_owned()).spawn(work)?;
    Ok(addresses)
}

async fn serve(name: &'static str, listener: TcpListener) {
    let served = Arc::new(AtomicU64::new(0));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let served = Arc::clone(&served);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let number = served.fetch_add(1, Ordering::Relaxed) + 1;
                async move { answer(name, number, &request).await }
            });
            // An error here is a client that left, or `/kill`, which is meant to be one.
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

/// A connection that is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("killed as asked")]
struct Killed;

async fn answer(
    name: &'static str,
    number: u64,
    request: &Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Killed> {
    let path = request.uri().path();
    let mut status = StatusCode::OK;
    let mut text = format!("{name} here, my request number {number}\n");
    if path == "/slow" {
        tokio::time::sleep(SLOW).await;
    } else if path.strip_prefix("/kill/") == Some(name) {
        return Err(Killed);
    } else if let Some(code) = path.strip_prefix("/status/") {
        // What is no final status is a wrong request.
        let code = code.parse().ok().filter(|code| (200..600).contains(code));
        status = code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::BAD_REQUEST);
    } else if path == "/headers" {
        for (field, value) in request.headers() {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "  {field}: {}", value.as_bytes().escape_ascii());
        }
    }
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert("x-origin", HeaderValue::from_static(name));
    Ok(response)
}
