//! Tests of heads: what each rule of RFC 9112 accepts and refuses, and one verdict in every splitting.

use proptest::prelude::*;

use super::*;
use crate::proxy::http1::scan::{Scan, Scanner};

const LIMITS: Limits = Limits { head: 4096, fields: 8, target: 32 };

fn parse(head: &str) -> Result<RequestHead, Refusal> {
    let line = head.split_inclusive('\n').next().unwrap_or_default();
    check_request_line(line.as_bytes(), &LIMITS)?;
    parse_request(head.as_bytes(), &LIMITS, Vec::new())
}

#[track_caller]
fn accept(head: &str) -> RequestHead {
    parse(head).unwrap_or_else(|refusal| panic!("{head:?} is refused: {refusal}"))
}

fn text(head: &str, span: Span) -> String {
    String::from_utf8_lossy(span.get(head.as_bytes())).into_owned()
}

/// A GET with these field lines, each ending in a `|` for CRLF.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", fields.replace('|', "\r\n"))
}

fn last(bytes: &[u8], piece: usize) -> Scan {
    let mut scanner = Scanner::default();
    for end in (piece..bytes.len()).step_by(piece).chain([bytes.len()]) {
        let found = scanner.scan(&bytes[..end]);
        if matches!(found, Scan::Complete(_) | Scan::BareLf) {
            return found;
        }
    }
    Scan::Partial
}

#[test]
fn the_end_of_a_head_is_found() {
    for (bytes, want) in [
        ("GET / HTTP/1.1\r\n\r\n", Scan::Complete(18)),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", Scan::Complete(27)),
        ("GET / HTTP/1.1\r\nHost: a\r\n", Scan::Partial),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", Scan::Partial),
        ("GET / HTTP/1.1\n\n", Scan::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Scan::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Scan::BareLf),
        ("\n", Scan::BareLf),
        ("", Scan::Partial),
    ] {
        for piece in 1..=bytes.len().max(1) {
            assert_eq!(last(bytes.as_bytes(), piece), want, "{bytes:?} in {piece}s");
        }
    }
}

#[test]
fn a_start_line_is_announced_once() {
    let mut scanner = Scanner::default();
    assert_eq!(scanner.scan(b"GET /"), Scan::Partial);
    assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\n"), Scan::StartLine(16));
    assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHo"), Scan::Partial);
    assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Scan::Complete(27));
}

proptest! {
    #[test]
    fn the_verdict_on_a_head_is_the_same_in_every_splitting(
        pieces in prop::collection::vec(
            prop::sample::select(vec!["\r\n", "\n", "\r", "a", "GET / HTTP/1.1", ": ", "\r\n\r\n"]), 0..12),
        splits in prop::collection::vec(0usize..200, 0..8),
    ) {
        let bytes = pieces.concat().into_bytes();
        let mut ends: Vec<usize> = splits.into_iter().filter(|&end| end < bytes.len()).collect();
        ends.sort_unstable();
        let mut scanner = Scanner::default();
        let mut found = Scan::Partial;
        for end in ends.into_iter().chain([bytes.len()]) {
            found = scanner.scan(&bytes[..end]);
            if matches!(found, Scan::Complete(_) | Scan::BareLf) {
                break;
            }
        }
        if matches!(found, Scan::StartLine(_)) {
            found = Scan::Partial;
        }
        prop_assert_eq!(found, last(&bytes, bytes.len().max(1)));
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let request = [b"GET / HTTP/1.1\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat();
        let response = [b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat();
        for bytes in [bytes.as_slice(), &request, &response] {
            check_request_line(bytes, &LIMITS).ok();
            parse_request(bytes, &LIMITS, Vec::new()).ok();
            parse_response(bytes, &LIMITS, false, Vec::new()).ok();
        }
    }
}

#[test]
fn request_lines_are_checked_before_the_rest_has_come() {
    let long = format!("GET /{} HTTP/1.1", "x".repeat(32));
    for (line, status) in [
        ("GET / HTTP/1.1", None),
        ("get / HTTP/1.0", None),
        ("GET / HTTP/2.0", Some("version")),
        ("GET / HTTP/1.2", Some("version")),
        ("GET / HTTP/1.10", Some("malformed")),
        ("GET / http/1.1", Some("malformed")),
        ("GET /", Some("malformed")),
        ("GET  / HTTP/1.1", Some("malformed")),
        ("GET / HTTP/1.1 ", Some("malformed")),
        (" GET / HTTP/1.1", Some("malformed")),
        ("G(T / HTTP/1.1", Some("malformed")),
        (&long, Some("target")),
    ] {
        let got = check_request_line(format!("{line}\r\n").as_bytes(), &LIMITS).err().map(|r| match r {
            Refusal::Malformed(_) => "malformed",
            Refusal::Version => "version",
            Refusal::TargetTooLong => "target",
            _ => "other",
        });
        assert_eq!(got, status, "{line:?}");
    }
}

#[test]
fn a_body_has_one_framing_or_the_request_is_refused() {
    for (fields, want) in [
        ("", Ok(Framing::None)),
        ("Content-Length: 0|", Ok(Framing::None)),
        ("Content-Length: 5|", Ok(Framing::Length(5))),
        ("Content-Length: 010|", Ok(Framing::Length(10))),
        ("Transfer-Encoding: Chunked|", Ok(Framing::Chunked)),
        ("Content_Length: 5|", Ok(Framing::None)),
        ("Transfer-Encoding: chunked|Content-Length: 5|", Err(400)),
        ("Content-Length: 5|Transfer-Encoding: chunked|", Err(400)),
        ("Content-Length: 5|Content-Length: 5|", Err(400)),
        ("Content-Length: 5, 5|", Err(400)),
        ("Content-Length: +5|", Err(400)),
        ("Content-Length:|", Err(400)),
        ("Content-Length: 99999999999999999999|", Err(400)),
        ("Transfer-Encoding: chunked|Transfer-Encoding: chunked|", Err(400)),
        ("Transfer-Encoding: gzip, chunked|", Err(501)),
        ("Transfer-Encoding: identity|", Err(501)),
        ("Transfer-Encoding: chunked,|", Err(501)),
        ("Connection: content-length|Content-Length: 5|", Err(400)),
        ("Connection: transfer-encoding|Transfer-Encoding: chunked|", Err(400)),
        ("Connection: host|", Err(400)),
    ] {
        let got = parse(&get(fields)).map(|head| head.framing).map_err(|refusal| match refusal {
            Refusal::Coding => 501,
            _ => 400,
        });
        assert_eq!(got, want, "{fields:?}");
    }
    let http10 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(parse(http10).is_err(), "HTTP/1.0 has no transfer codings");
}

#[test]
fn field_lines_are_name_colon_value_and_end_in_crlf() {
    for line in
        ["X : y", " X: y", "X\t: y", ": y", "X", "X(: y", "X: a\0b", "X: a\rb", "X: a\x7fb", "X: y\r\n z"]
    {
        assert!(parse(&get(&format!("{line}|"))).is_err(), "{line:?}");
    }
    let head = get("A:|B: \t b \t|");
    let fields = accept(&head).fields;
    let values: Vec<String> = fields.iter().skip(1).map(|f| text(&head, f.value)).collect();
    assert_eq!(values, ["", "b"]);
    assert!(matches!(parse(&get(&"X: y|".repeat(8))), Err(Refusal::TooManyFields)), "nine fields");
}

#[test]
fn a_request_names_one_host() {
    #[track_caller]
    fn check(start: &str, want: Option<&str>) {
        let head = format!("{}\r\n\r\n", start.replace('|', "\r\n"));
        let got = parse(&head).ok().map(|parsed| text(&head, parsed.authority));
        assert_eq!(got.as_deref(), want, "{start:?}");
    }
    check("GET / HTTP/1.1|Host: a.b:80", Some("a.b:80"));
    check("GET / HTTP/1.1|Host: [::1]:80", Some("[::1]:80"));
    check("GET / HTTP/1.1|Host:", Some(""));
    check("GET / HTTP/1.0", Some(""));
    check("GET / HTTP/1.1", None);
    check("GET / HTTP/1.1|Host: a|Host: a", None);
    check("GET / HTTP/1.1|Host: a, b", None);
    check("GET / HTTP/1.1|Host: user@a", None);
    check("GET / HTTP/1.1|Host: a:http", None);
    check("GET / HTTP/1.1|Host: a/b", None);
    check("GET http://a/ HTTP/1.1|Host: a", Some("a"));
    check("GET http://a:80/ HTTP/1.1|Host: A", Some("a"));
    check("GET http://a:81/ HTTP/1.1|Host: a:81", Some("a:81"));
    check("GET https://a:443/ HTTP/1.1|Host: a", Some("a"));
    check("GET http://a/ HTTP/1.1|Host:", Some("a"));
    check("GET http://a/ HTTP/1.0", Some("a"));
    check("GET http://a/ HTTP/1.1|Host: b", None);
    check("GET http://a:81/ HTTP/1.1|Host: a", None);
    check("GET http:/// HTTP/1.1|Host: a", None);
    check("GET http://u@a/ HTTP/1.1|Host: a", None);
}

#[test]
fn the_four_forms_of_a_target_are_read() {
    #[track_caller]
    fn check(line: &str, want: Option<(&str, Option<&str>)>) {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let got =
            parse(&head).ok().map(|parsed| (text(&head, parsed.path), parsed.query.map(|q| text(&head, q))));
        assert_eq!(got.as_ref().map(|(path, query)| (path.as_str(), query.as_deref())), want, "{line:?}");
    }
    check("GET /a?b?c", Some(("/a", Some("b?c"))));
    check("GET /a?", Some(("/a", Some(""))));
    check("GET http://a", Some(("", None)));
    check("GET HTTP://a?b", Some(("", Some("b"))));
    check("GET http://a/b?c", Some(("/b", Some("c"))));
    check("OPTIONS *", Some(("*", None)));
    check("OPTIONS http://a", Some(("", None)));
    check("GET *", None);
    check("GET a", None);
    check("GET ftp://a/", None);
    check("GET /a#b", None);
    check("GET /\u{e4}", None);
    check("CONNECT a:443", None);
}

#[test]
fn a_connection_persists_by_version_and_option() {
    for (version, connection, want) in [
        ("1.1", "", true),
        ("1.1", "Connection: x, close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: CLOSE\r\n", false),
        ("1.1", "Connection: close, keep-alive\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(accept(&head).persistent, want, "{version} {connection:?}");
    }
}

#[test]
fn fields_that_connection_names_go_no_further() {
    let head = get("Connection: x-a, , X-TRACE|Connection: te|X-A: 1|X-Trace: 2|X-B: 3|");
    let kinds: Vec<(String, Kind)> =
        accept(&head).fields.iter().map(|f| (text(&head, f.name), f.kind)).collect();
    let of = |name: &str| kinds.iter().find(|(n, _)| n == name).map(|(_, kind)| *kind);
    assert_eq!(of("X-A"), Some(Kind::HopByHop));
    assert_eq!(of("X-Trace"), Some(Kind::HopByHop));
    assert_eq!(of("X-B"), Some(Kind::Other));
}

#[test]
fn connection_cannot_take_away_what_others_rely_on() {
    // Taking it away would make a trusted proxy's own address that of the client.
    for name in ["Host", "Content-Length", "X-Forwarded-For", "x-forwarded-proto", "Forwarded", "X-Real-IP"] {
        assert!(parse(&get(&format!("Connection: {name}|{name}: 1|"))).is_err(), "{name}");
    }
}

#[test]
fn an_upgrade_is_passed_on_only_where_it_is_one() {
    for (fields, want) in [
        ("Connection: upgrade|Upgrade: websocket|Sec-WebSocket-Key: k|", Ok(true)),
        ("Connection: keep-alive, Upgrade|Upgrade: other|", Ok(true)),
        ("Connection: upgrade|Upgrade: h2c, other|", Ok(true)),
        ("Upgrade: other|", Ok(false)),
        ("Connection: upgrade|", Ok(false)),
        ("Connection: upgrade|Upgrade: H2C|", Ok(false)),
        ("Connection: upgrade|Upgrade: other|Content-Length: 1|", Ok(false)),
        ("Connection: upgrade|Upgrade: websocket|", Err(())),
        // Every line counts, and a key that does not go on is none.
        ("Connection: upgrade|Upgrade: websocket|Upgrade: other|", Err(())),
        ("Connection: upgrade|Upgrade: other|Upgrade: h2c|", Ok(true)),
        ("Connection: upgrade, sec-websocket-key|Upgrade: websocket|Sec-WebSocket-Key: k|", Err(())),
    ] {
        assert_eq!(parse(&get(fields)).map(|head| head.upgrade).map_err(|_| ()), want, "{fields:?}");
    }
}

#[test]
fn only_one_expectation_is_understood() {
    let post = |fields: &str| parse(&get(&format!("Content-Length: 1|{fields}")));
    assert!(post("Expect: 100-Continue|").is_ok_and(|head| head.expects_continue));
    assert!(post("").is_ok_and(|head| !head.expects_continue));
    assert!(post("Connection: expect|Expect: 100-continue|").is_ok_and(|head| !head.expects_continue));
    assert!(matches!(post("Expect: other|"), Err(Refusal::Expectation)));
    assert!(matches!(post("Expect: 100-continue|Expect: other|"), Err(Refusal::Expectation)));
    assert!(parse(&get("Expect: 100-continue|")).is_ok_and(|head| !head.expects_continue), "no body");
}

fn answer(head: &str, to_head: bool) -> Result<ResponseHead, &'static str> {
    let head = format!("HTTP/{}\r\n\r\n", head.replace('|', "\r\n"));
    parse_response(head.as_bytes(), &LIMITS, to_head, Vec::new())
}

#[test]
fn the_end_of_an_answer_is_known_or_it_is_refused() {
    for (head, want) in [
        ("1.1 200 OK|Content-Length: 5", Some((Framing::Length(5), true))),
        ("1.1 200 OK|Content-Length: 0", Some((Framing::None, true))),
        ("1.1 200 OK|Transfer-Encoding: chunked", Some((Framing::Chunked, true))),
        ("1.1 200 OK|Content-Length: 5|Connection: close", Some((Framing::Length(5), false))),
        ("1.1 200 OK", Some((Framing::UntilClose, false))),
        ("1.0 200 OK|Content-Length: 5", Some((Framing::Length(5), false))),
        ("1.0 200 OK|Content-Length: 5|Connection: keep-alive", Some((Framing::Length(5), true))),
        ("1.1 204 No Content", Some((Framing::None, true))),
        ("1.1 304 Not Modified|Content-Length: 5", Some((Framing::None, true))),
        ("1.1 100 Continue", Some((Framing::None, true))),
        ("1.1 200", Some((Framing::UntilClose, false))),
        ("1.1 200 OK|Content-Length: 5|Transfer-Encoding: chunked", None),
        ("1.1 200 OK|Content-Length: 5|Content-Length: 5", None),
        ("1.1 200 OK|Transfer-Encoding: gzip, chunked", None),
        ("1.0 200 OK|Transfer-Encoding: chunked", None),
        ("1.1 099 Early", None),
        ("1.1 20 OK", None),
        ("2 200 OK", None),
        ("1.1 200 OK|X : y", None),
    ] {
        let got = answer(head, false).ok().map(|head| (head.framing, head.persistent));
        assert_eq!(got, want, "{head:?}");
    }
    assert_eq!(answer("1.1 200 OK|Content-Length: 5", true).map(|h| h.framing), Ok(Framing::None));
}

#[test]
fn nothing_stands_in_front_of_a_status_line() {
    for before in ["\r\n", " ", "0\r\n"] {
        let head = format!("{before}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert!(parse_response(head.as_bytes(), &LIMITS, false, Vec::new()).is_err(), "{before:?}");
    }
}

#[test]
fn an_endpoint_says_how_long_it_keeps_an_idle_connection() {
    for (value, want) in
        [("timeout=5, max=100", Some(5)), ("max=1,timeout=7", Some(7)), ("timeout=x", None), ("5", None)]
    {
        let head = answer(&format!("1.1 204 No Content|Keep-Alive: {value}"), false);
        assert_eq!(head.map(|head| head.keep_alive), Ok(want), "{value:?}");
    }
}
