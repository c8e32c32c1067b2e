//! The gRPC origin: HTTP/2 in the clear by prior knowledge, one unary method that answers with the message it was sent.

use std::io::Error;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// Path of the only method.
pub(crate) const METHOD: &str = "/bench.Echo/Unary";

/// Flow control must not be what is measured: messages are small, and all that comes is read.
const WINDOW: u32 = 1 << 20;

/// Streams that one connection may have under way: more than all clients of a line.
const STREAMS: u32 = 1000;

/// A message of so many bytes as gRPC frames it: not compressed, its length in four bytes.
pub(crate) fn message(bytes: usize) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + bytes);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
    framed.put_bytes(b'.', bytes);
    framed.freeze()
}

/// Starts the origin in a thread that lives as long as the process, and says where it listens.
pub(super) fn start() -> std::io::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    std::thread::Builder::new()
        .name("origin-grpc".to_owned())
        .spawn(move || runtime.block_on(accept(listener)))?;
    Ok(address)
}

/// Accepts for ever; an error of one connection closes that connection.
async fn accept(listener: TcpListener) {
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            drop(tokio::spawn(serve(socket)));
        }
    }
}

async fn serve(socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS);
    let mut connection = builder.handshake(socket).await.map_err(Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted.map_err(Error::other)?;
        drop(tokio::spawn(answer(request, respond)));
    }
    Ok(())
}

/// A call that fails is seen by its client.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(message.freeze(), false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}
