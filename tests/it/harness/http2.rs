//! HTTP/2 clients: one that writes and reads frames byte by byte and knows no rules, and one on the h2 crate for whole
//! exchanges.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::DEADLINE;
use super::client::Client;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it came.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer with this status, and its body.
    Answer(u16, Vec<u8>),
    /// RST_STREAM with this code.
    Reset(u32),
    /// The connection was ended, with the code of a GOAWAY where there was one.
    Ended(Option<u32>),
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// RST_STREAM.
pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// Fields as literals without indexing and without Huffman coding (RFC 7541 section 6.2.2): any bytes pass.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let bytes = super::wire::bytes_of(text);
            put_length(&mut block, bytes.len());
            block.extend_from_slice(&bytes);
        }
    }
    block
}

/// An integer with a prefix of 7 bits (RFC 7541 section 5.1).
fn put_length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(u8::try_from(length).expect("below 127"));
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).expect("below 128") + 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("below 128"));
}

/// A GET of `path`.
pub(crate) fn get(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)])
}

/// A POST to `path`.
pub(crate) fn post(path: &str) -> Vec<u8> {
    block(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path)])
}

/// The status that a block of an answer begins with: h2 writes it first, by the static table or as digits in Huffman's
/// code (RFC 7541 appendices A and B).
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A change of the table's size may stand in front (RFC 7541 section 6.3).
    let block = if block.first().is_some_and(|b| b & 0xe0 == 0x20) { &block[1..] } else { block };
    match *block {
        [first @ 0x88..=0x8e, ..] => INDEXED[usize::from(first - 0x88)],
        [_, length, ref digits @ ..] if length & 0x80 == 0 => {
            digits[..usize::from(length)].iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'))
        }
        [_, length, ref coded @ ..] => {
            let bits: Vec<u8> = coded[..usize::from(length & 0x7f)]
                .iter()
                .flat_map(|b| (0..8).rev().map(move |i| b >> i & 1))
                .collect();
            let (mut at, mut number) = (0, 0);
            for _ in 0..3 {
                let of = |n: usize| bits[at..at + n].iter().fold(0u16, |all, bit| all << 1 | u16::from(*bit));
                // The digits 0 to 2 have five bits, the others six, from 011001 on.
                let (digit, length) = if of(5) < 3 { (of(5), 5) } else { (of(6) - 0b01_1001 + 3, 6) };
                number = number * 10 + digit;
                at += length;
            }
            number
        }
        _ => 0,
    }
}

/// A connection of frames.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(crate) client: Client,
}

impl Frames {
    /// Connects, and begins as every client does: the preface and SETTINGS that say nothing.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::connect_with(to, &[])
    }

    /// Connects with these SETTINGS.
    pub(crate) fn connect_with(to: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let mut client = Client::connect(to);
        client.say([PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        Self { client }
    }

    /// Sends bytes, which must be taken.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.client.say(bytes);
        self
    }

    /// Sends bytes, whether they are taken or not: for floods, which are cut off on the way.
    pub(crate) fn try_say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.client.send(bytes).is_ok()
    }

    /// A request that has no body.
    pub(crate) fn ask(&mut self, stream: u32, block: &[u8]) -> &mut Self {
        self.say(frame(HEADERS, END_STREAM | END_HEADERS, stream, block))
    }

    /// The next frame; nothing at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let frame = self.read().ok()?;
        if frame.kind == SETTINGS && frame.flags & END_STREAM == 0 {
            // It may be closed already.
            self.try_say(super::http2::frame(SETTINGS, END_STREAM, 0, &[]));
        }
        Some(frame)
    }

    fn read(&mut self) -> io::Result<Frame> {
        let head = self.client.take(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = self.client.take(length)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind; fails at the end of the connection.
    pub(crate) fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("the connection ended without a frame {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// What becomes of a stream, once it has ended.
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        let (mut answer, mut body) = (None, Vec::new());
        let mut away = None;
        loop {
            let Some(frame) = self.next() else { return Outcome::Ended(away) };
            match frame.kind {
                GOAWAY => away = Some(code(&frame.payload[4..])),
                RST_STREAM if frame.stream == stream => return Outcome::Reset(code(&frame.payload)),
                HEADERS if frame.stream == stream && answer.is_none_or(|status| status < 200) => {
                    answer = Some(status(&frame.payload));
                }
                DATA if frame.stream == stream => body.extend_from_slice(&frame.payload),
                _ => {}
            }
            if frame.stream == stream && frame.flags & END_STREAM != 0 && matches!(frame.kind, DATA | HEADERS)
            {
                return Outcome::Answer(answer.unwrap_or(0), body);
            }
        }
    }

    /// The code of the GOAWAY that the connection ends with; fails where there is none.
    pub(crate) fn sent_away(&mut self) -> u32 {
        let mut away = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                away = Some(code(&frame.payload[4..]));
            }
        }
        away.expect("a GOAWAY")
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]])
}

/// Runs a test that waits for several things at once.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { tokio::time::timeout(DEADLINE, test).await.expect("it takes too long") })
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        super::wire::latin1(&self.body)
    }
}

/// A connection on the h2 crate.
#[derive(Clone)]
pub(crate) struct Session {
    send: SendRequest<Bytes>,
}

impl Session {
    /// Connects to a listener in the clear.
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(to).await.expect("a connection to the proxy");
        Self::over(stream, 1 << 16).await
    }

    /// Begins on any connection, with so large a window for each answer.
    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, window: u32) -> Self {
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            // Wider than that of a stream, so that one which is not read holds nobody up.
            .initial_connection_window_size(window.saturating_mul(16))
            .handshake(stream)
            .await
            .expect("a handshake");
        tokio::task::spawn_local(async move { drop(connection.await) });
        Self { send }
    }

    /// A request, whose answer and body are the test's to move.
    pub(crate) async fn open(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        poll_fn(|cx| self.send.poll_ready(cx)).await.expect("room for a request");
        self.send.send_request(request, end).expect("a stream")
    }

    /// A request without a body, and its whole answer.
    pub(crate) async fn ask(&mut self, request: Request<()>) -> Result<Answer, h2::Error> {
        let (response, _) = self.open(request, true).await;
        whole(response.await?).await
    }

    /// A GET of this path, and its whole answer.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(request("GET", path)).await.expect("an answer")
    }

    /// A request with a body, and its whole answer.
    pub(crate) async fn post(&mut self, request: Request<()>, body: Vec<u8>) -> Result<Answer, h2::Error> {
        let (response, mut send) = self.open(request, false).await;
        give(&mut send, Bytes::from(body), true).await?;
        whole(response.await?).await
    }

    /// Whether it can be extended CONNECTs that are asked for (RFC 8441 section 3).
    pub(crate) fn is_extended_connect_on(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }
}

/// A request for `http://a`.
pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://a{path}")).body(()).expect("a request")
}

/// Sends all of `data` as the other side takes it.
pub(crate) async fn give(send: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> Result<(), h2::Error> {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        let room = match poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Ok(()),
        };
        let piece = data.split_to(room.min(data.len()));
        send.send_data(piece, false)?;
    }
    if end {
        send.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// Reads an answer to its end.
pub(crate) async fn whole(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
}
