//! What stands between a test and the proxy, so that a test that speaks one protocol is played in another: TLS around a
//! connection, HTTP/1 said as HTTP/2 on the way in, HTTP/2 said as HTTP/1 on the way out. None of it judges.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::http2::{Session, give};
use super::own_ip;

/// Serves every connection to an address of its own, on a thread that ends with the process.
fn serve<F: Future<Output = ()> + 'static>(
    connection: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = std::net::TcpListener::bind((own_ip(), 0)).expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("a socket");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                tokio::task::spawn_local(connection(stream));
            }
        });
    });
    address
}

/// Takes bytes in the clear, and gives them to `to` under TLS as a client of this configuration.
pub(crate) fn seal(to: SocketAddr, name: &str, config: &ClientConfig, alpn: &[u8]) -> SocketAddr {
    let mut config = config.clone();
    config.alpn_protocols = vec![alpn.to_vec()];
    let (config, name) = (Arc::new(config), ServerName::try_from(name.to_owned()).expect("a name"));
    let alpn = alpn.to_vec();
    serve(move |mut clear| {
        let (connector, name, alpn) = (TlsConnector::from(Arc::clone(&config)), name.clone(), alpn.clone());
        async move {
            let Ok(stream) = TcpStream::connect(to).await else { return };
            stream.set_nodelay(true).expect("a socket");
            let Ok(mut sealed) = connector.connect(name, stream).await else { return };
            assert_eq!(sealed.get_ref().1.alpn_protocol(), Some(alpn.as_slice()));
            // Either side may end it at any time.
            tokio::io::copy_bidirectional(&mut clear, &mut sealed).await.ok();
        }
    })
}

/// An origin on the h2 crate, which answers every request by `handle`.
pub(crate) fn http2_origin<F: Future<Output = Option<()>> + 'static>(
    handle: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
) -> SocketAddr {
    serve(move |stream| {
        let handle = handle.clone();
        async move {
            let handshake = h2::server::Builder::new().enable_connect_protocol().handshake(stream);
            let Ok(mut connection) = handshake.await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::task::spawn_local(handle(request, respond));
            }
        }
    })
}

async fn read_head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut held = Vec::new();
    loop {
        if let Some(at) = held.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = held.split_off(at + 4);
            return Ok((super::wire::latin1(&held), rest));
        }
        if stream.read_buf(&mut held).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

fn put_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// The pieces of a body in chunks, or as they are; false when it broke off.
async fn put_body(to: &mut TcpStream, body: &mut RecvStream, chunked: bool) -> io::Result<bool> {
    while let Some(data) = body.data().await {
        let Ok(data) = data else { return Ok(false) };
        body.flow_control().release_capacity(data.len()).ok();
        if chunked && !data.is_empty() {
            to.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
        }
        to.write_all(&data).await?;
        if chunked && !data.is_empty() {
            to.write_all(b"\r\n").await?;
        }
    }
    let Ok(trailers) = body.trailers().await else { return Ok(false) };
    if chunked {
        let mut end = b"0\r\n".to_vec();
        put_fields(&mut end, &trailers.unwrap_or_default());
        end.extend_from_slice(b"\r\n");
        to.write_all(&end).await?;
    }
    Ok(true)
}

/// Takes requests without a body of HTTP/1, asks `to` over HTTP/2, and writes what comes back as HTTP/1: chunked where no
/// length is given, and without its end where the stream was reset. Each connection is for one request.
pub(crate) fn raise(to: SocketAddr) -> SocketAddr {
    serve(move |mut client| async move {
        // An error is a client that has left.
        raised(&mut client, to).await.ok();
    })
}

async fn raised(client: &mut TcpStream, to: SocketAddr) -> io::Result<()> {
    let (head, _) = read_head(client).await?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut session = Session::connect(to).await;
    let (mut answer, _) = session.open(super::http2::request(method, path), true).await;
    let Some(response) = heads(client, &mut answer).await? else { return Ok(()) };
    let (parts, mut body) = response.into_parts();
    let (ended, counted) = (body.is_end_stream(), parts.headers.contains_key("content-length"));
    let mut out = format!("HTTP/1.1 {} x\r\n", parts.status.as_u16()).into_bytes();
    put_fields(&mut out, &parts.headers);
    match (ended, counted) {
        (true, false) if parts.status.as_u16() >= 205 || parts.status == StatusCode::OK => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        (false, false) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    client.write_all(&out).await?;
    if !ended {
        put_body(client, &mut body, !counted).await?;
    }
    Ok(())
}

/// Writes the interim answers and gives the final one; nothing when the stream was reset before it.
async fn heads(
    client: &mut TcpStream,
    answer: &mut ResponseFuture,
) -> io::Result<Option<Response<RecvStream>>> {
    loop {
        match poll_fn(|cx| answer.poll_informational(cx)).await {
            Some(Ok(interim)) => {
                let mut out = format!("HTTP/1.1 {} x\r\n", interim.status().as_u16()).into_bytes();
                put_fields(&mut out, interim.headers());
                out.extend_from_slice(b"\r\n");
                client.write_all(&out).await?;
            }
            Some(Err(_)) => return Ok(None),
            None => return Ok(poll_fn(|cx| Pin::new(&mut *answer).poll(cx)).await.ok()),
        }
    }
}

/// An endpoint of HTTP/2 that writes every request as HTTP/1, field for field, on a connection of its own to `to`, and
/// gives back what that answers with a `Content-Length`. Tunnels are granted and end at once.
pub(crate) fn lower(to: SocketAddr) -> SocketAddr {
    http2_origin(move |request, respond| lowered(request, respond, to))
}

async fn lowered(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    to: SocketAddr,
) -> Option<()> {
    let (parts, mut body) = request.into_parts();
    if parts.method == http::Method::CONNECT {
        // A tunnel, which nothing passes.
        return respond.send_response(Response::new(()), true).ok().map(drop);
    }
    let mut stream = TcpStream::connect(to).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let mut head = String::new();
    write!(head, "{} {target} HTTP/1.1\r\n", parts.method).ok()?;
    if let Some(authority) = parts.uri.authority() {
        write!(head, "host: {authority}\r\n").ok()?;
    }
    let mut head = head.into_bytes();
    put_fields(&mut head, &parts.headers);
    let chunked = !body.is_end_stream() && !parts.headers.contains_key("content-length");
    if chunked {
        head.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    head.extend_from_slice(b"\r\n");
    stream.write_all(&head).await.ok()?;
    if !put_body(&mut stream, &mut body, chunked).await.ok()? {
        return None;
    }
    let (head, mut rest) = read_head(&mut stream).await.ok()?;
    let length =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok())?;
    let mut response = Response::new(());
    *response.status_mut() = head.split(' ').nth(1)?.parse().ok()?;
    response.headers_mut().insert("content-length", length.into());
    let end = parts.method == http::Method::HEAD;
    let mut send = respond.send_response(response, end).ok()?;
    if !end {
        while rest.len() < length && stream.read_buf(&mut rest).await.ok()? > 0 {}
        give(&mut send, Bytes::from(rest), true).await.ok()?;
    }
    Some(())
}
