//! Requests that are none (RFC 9113 section 8): fields, pseudo fields, and bodies that are not what they say.

use super::Expect::{Answered, Reset};
use super::{Case, PROTOCOL_ERROR, case, end, play};
use crate::harness::http2::{self, DATA, END_HEADERS, END_STREAM, HEADERS, block, frame};

/// A whole request of these fields.
fn ask(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields))
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "a");

/// A GET with a field more.
fn with(name: &str, value: &str) -> Vec<u8> {
    ask(&[METHOD, SCHEME, PATH, AUTHORITY, (name, value)])
}

/// A POST of this length, and its DATA.
fn counted(length: &str, pieces: &[&[u8]]) -> Vec<u8> {
    let mut head = http2::post("/");
    head.extend(block(&[("content-length", length)]));
    let mut all = frame(HEADERS, END_HEADERS, 1, &head);
    for (i, piece) in pieces.iter().enumerate() {
        let flags = if i + 1 == pieces.len() { END_STREAM } else { 0 };
        all.extend(frame(DATA, flags, 1, piece));
    }
    all
}

fn malformed(rule: &'static str, sent: impl AsRef<[u8]>) -> Case {
    case(rule, Reset(&[PROTOCOL_ERROR]), sent)
}

#[test]
fn requests_are_answered() {
    let mut trailed = frame(HEADERS, END_HEADERS, 1, &http2::post("/"));
    trailed.extend(frame(DATA, 0, 1, b"x"));
    trailed.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("x-t", "1")])));
    let cases = [
        case("8.1: GET", Answered, ask(&[METHOD, SCHEME, PATH, AUTHORITY])),
        case("8.1: POST", Answered, [super::begin(1), end(1, b"x")].concat()),
        case("8.1: POST with trailers", Answered, trailed),
        case("8.1.1: Content-Length", Answered, counted("5", &[b"he", b"llo"])),
        case("8.2.2: TE of trailers", Answered, with("te", "trailers")),
        case(
            "8.2.3: Cookie in crumbs",
            Answered,
            ask(&[METHOD, SCHEME, PATH, AUTHORITY, ("cookie", "a"), ("cookie", "b")]),
        ),
        case("8.3.1: Host in the place of :authority", Answered, ask(&[METHOD, SCHEME, PATH, ("host", "a")])),
        case(
            "8.3.1: OPTIONS of the server",
            Answered,
            ask(&[(":method", "OPTIONS"), SCHEME, (":path", "*"), AUTHORITY]),
        ),
    ];
    play(&cases);
}

#[test]
fn fields_that_are_none_are_refused() {
    let cases = [
        malformed("8.2.1: a name in upper case", with("X-Up", "1")),
        malformed("8.2.1: a colon in a name", with("x:y", "1")),
        malformed("8.2.1: a space in a name", with("x y", "1")),
        malformed("8.2.1: a line end in a name", with("x\r\ny", "1")),
        malformed("8.2.1: NUL in a name", with("x\0", "1")),
        malformed("8.2.1: a name beyond ASCII", with("x\u{ff}", "1")),
        malformed("8.2.1: no name", with("", "1")),
        malformed("8.2.1: NUL in a value", with("x", "a\0b")),
        malformed("8.2.1: CR in a value", with("x", "a\rb")),
        malformed("8.2.1: LF in a value", with("x", "a\nb")),
        malformed("8.2.1: a line end in a value", with("x", "a\r\nGET /smuggled HTTP/1.1\r\n")),
        malformed("8.2.2: Connection", with("connection", "keep-alive")),
        malformed("8.2.2: Keep-Alive", with("keep-alive", "timeout=5")),
        malformed("8.2.2: Proxy-Connection", with("proxy-connection", "keep-alive")),
        malformed("8.2.2: Transfer-Encoding", with("transfer-encoding", "chunked")),
        malformed("8.2.2: Upgrade", with("upgrade", "h2c")),
        malformed("8.2.2: TE of anything else", with("te", "trailers, deflate;q=0.5")),
    ];
    play(&cases);
}

#[test]
fn pseudo_fields_are_the_four_once_each_and_in_front() {
    let cases = [
        malformed("8.3: an unknown one", with(":test", "ok")),
        malformed("8.3: one of answers", with(":status", "200")),
        malformed("8.3: behind a field", ask(&[METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH])),
        malformed("8.3: :method behind a field", ask(&[SCHEME, PATH, ("x", "y"), METHOD])),
        malformed("8.3.1: :method twice", ask(&[METHOD, METHOD, SCHEME, PATH, AUTHORITY])),
        malformed("8.3.1: :scheme twice", ask(&[METHOD, SCHEME, SCHEME, PATH, AUTHORITY])),
        malformed("8.3.1: :path twice", ask(&[METHOD, SCHEME, PATH, PATH, AUTHORITY])),
        malformed("8.3.1: :authority twice", ask(&[METHOD, SCHEME, PATH, AUTHORITY, (":authority", "b")])),
        malformed("8.3.1: no :method", ask(&[SCHEME, PATH, AUTHORITY])),
        malformed("8.3.1: no :scheme", ask(&[METHOD, PATH, AUTHORITY])),
        malformed("8.3.1: no :path", ask(&[METHOD, SCHEME, AUTHORITY])),
        malformed("8.3.1: an empty :path", ask(&[METHOD, SCHEME, (":path", ""), AUTHORITY])),
        malformed("8.3.1: an empty :method", ask(&[(":method", ""), SCHEME, PATH, AUTHORITY])),
        malformed(
            "8.3.1: a method that is a line",
            ask(&[(":method", "GET / HTTP/1.1\r\nx: y"), SCHEME, PATH]),
        ),
        malformed(
            "8.3.1: a path with a line end",
            ask(&[METHOD, SCHEME, (":path", "/ HTTP/1.1\r\nx: y\r\n"), AUTHORITY]),
        ),
        malformed("8.3.1: a path with a space", ask(&[METHOD, SCHEME, (":path", "/ x"), AUTHORITY])),
        malformed(
            "8.3.1: an authority with a line end",
            ask(&[METHOD, SCHEME, PATH, (":authority", "a\r\nx: y")]),
        ),
        malformed(
            "8.3.1: a scheme with a line",
            ask(&[METHOD, (":scheme", "http://b/?x="), PATH, AUTHORITY]),
        ),
        malformed("8.3: :protocol without CONNECT", with(":protocol", "websocket")),
        // h2 leaves these out by itself, so that no endpoint sees them.
        case("8.3: in trailers", Answered, {
            let mut sent = [super::begin(1), frame(DATA, 0, 1, b"x")].concat();
            sent.extend(ask(&[METHOD, SCHEME, PATH]));
            sent
        }),
    ];
    play(&cases);
}

#[test]
fn bodies_are_as_long_as_they_say() {
    let cases = [
        malformed("8.1.1: less than it says", counted("5", &[b"four"])),
        malformed("8.1.1: more than it says", counted("1", &[b"test"])),
        malformed("8.1.1: less in pieces", counted("9", &[b"test", b"test"])),
        malformed("8.1.1: more in pieces", counted("1", &[b"test", b"test"])),
        malformed("8.1.1: none at all", with("content-length", "5")),
        malformed("8.1.1: no number", counted("x", &[b"test"])),
        malformed("8.1.1: below nothing", counted("-4", &[b"test"])),
        malformed("8.1.1: more than can be counted", counted("99999999999999999999", &[b"test"])),
    ];
    play(&cases);
}
