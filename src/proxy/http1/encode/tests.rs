//! Tests of heads as they go on: what is taken away, what is said of the client, and what an operator changes.

use super::*;
use crate::model::field::{FieldEdits, FieldName, FieldValue};
use crate::proxy::http1::head::{Limits, parse_request, parse_response};

const LIMITS: Limits = Limits { head: 4096, fields: 64, target: 1024 };
const NONE: &FieldEdits = FieldEdits::NONE;

fn name(text: &str) -> FieldName {
    FieldName::new(text).expect("the test's own name")
}

fn value(text: &str) -> FieldValue {
    FieldValue::new(text).expect("the test's own value")
}

fn lines(text: &str) -> String {
    text.replace('|', "\r\n")
}

/// The head that goes on for one that came; lines end in `|`.
fn request(head: &str, trusted: bool, target: Option<&str>, route: &FieldEdits) -> String {
    let head = lines(head);
    let parsed = parse_request(head.as_bytes(), &LIMITS, Vec::new()).expect("the test's own head");
    let mut altered = Altered::default();
    if let Some(target) = target {
        altered.edit().target = Some(target.into());
    }
    let edits = RequestEdits {
        route,
        altered: &altered,
        peer: "::ffff:192.0.2.1".parse().expect("an address"),
        source: if trusted { "203.0.113.9" } else { "::ffff:192.0.2.1" }.parse().expect("an address"),
        trusted,
        family: Family::XForwarded,
        scheme: "http",
        told: Told::Nothing,
        request_id: b"id",
        trace: None,
        deadline: None,
    };
    let mut out = Buffer::default();
    put_request(&mut out, head.as_bytes(), &parsed, &edits);
    String::from_utf8_lossy(out.bytes()).replace("\r\n", "|")
}

#[track_caller]
fn check_request(head: &str, want: &str) {
    let ours = "X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: http|X-Forwarded-Host: a|X-Real-IP: 192.0.2.1|X-Request-Id: id||";
    assert_eq!(request(head, false, None, NONE), format!("{want}{ours}"), "{head:?}");
}

#[test]
fn a_plain_request_goes_on_as_it_came() {
    check_request(
        "PUT /a?b HTTP/1.1|Host: a|content-TYPE:  text/plain |Content-Length: 010|X-Two: 1|X-Two: 2||",
        "PUT /a?b HTTP/1.1|Host: a|content-TYPE: text/plain|Content-Length: 10|X-Two: 1|X-Two: 2|",
    );
}

#[test]
fn what_is_meant_for_this_hop_ends_here() {
    check_request(
        "GET / HTTP/1.1|Host: a|Connection: keep-alive, x-hop|X-Hop: 1|Keep-Alive: 5|TE: trailers|Proxy-Connection: x\
         |Proxy-Authorization: x|HTTP2-Settings: x|Upgrade: h2c|Transfer_Encoding: chunked|X-End: 1||",
        "GET / HTTP/1.1|Host: a|X-End: 1|",
    );
}

#[test]
fn every_target_becomes_a_path() {
    check_request("GET http://a:80/b?c HTTP/1.1|Host: a||", "GET /b?c HTTP/1.1|Host: a|");
    check_request("GET http://a?c HTTP/1.1|Host: a||", "GET /?c HTTP/1.1|Host: a|");
    check_request("GET http://a HTTP/1.1|Host: a||", "GET / HTTP/1.1|Host: a|");
    check_request("OPTIONS http://a HTTP/1.1|Host: a||", "OPTIONS * HTTP/1.1|Host: a|");
    check_request("OPTIONS * HTTP/1.1|Host: a||", "OPTIONS * HTTP/1.1|Host: a|");
}

#[test]
fn an_upgrade_goes_on_without_http2() {
    check_request(
        "GET / HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: h2c, one|Upgrade: two||",
        "GET / HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: one, two|",
    );
}

#[test]
fn an_expectation_goes_on_only_with_a_body() {
    check_request(
        "PUT / HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 1||",
        "PUT / HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 1|",
    );
    check_request("GET / HTTP/1.1|Host: a|Expect: 100-continue||", "GET / HTTP/1.1|Host: a|");
}

#[test]
fn hops_are_counted_down_for_options_alone() {
    check_request(
        "OPTIONS / HTTP/1.1|Host: a|Max-Forwards: 2||",
        "OPTIONS / HTTP/1.1|Host: a|Max-Forwards: 1|",
    );
    check_request("GET / HTTP/1.1|Host: a|Max-Forwards: 2||", "GET / HTTP/1.1|Host: a|Max-Forwards: 2|");
    check_request(
        "OPTIONS / HTTP/1.1|Host: a|Max-Forwards: x||",
        "OPTIONS / HTTP/1.1|Host: a|Max-Forwards: x|",
    );
}

#[test]
fn what_a_peer_says_of_the_client_is_replaced_unless_it_is_trusted() {
    let head = "GET / HTTP/1.1|Host: a|X-Forwarded-For: 203.0.113.9|X-Forwarded-For: 10.0.0.1|X-Forwarded-Proto: https\
                |X-Forwarded-Host: b|Forwarded: for=x|CF-Connecting-IP: 1.2.3.4|X-Real-IP: 5.6.7.8|X-Request-Id: theirs||";
    check_request(head, "GET / HTTP/1.1|Host: a|");
    assert_eq!(
        request(head, true, None, NONE),
        "GET / HTTP/1.1|Host: a|X-Forwarded-Proto: https|X-Forwarded-Host: b|Forwarded: for=x|CF-Connecting-IP: 1.2.3.4\
         |X-Forwarded-For: 203.0.113.9, 10.0.0.1, 192.0.2.1|X-Real-IP: 203.0.113.9|X-Request-Id: id||",
    );
}

#[test]
fn the_operators_edits_hold_for_our_own_fields_too() {
    let edits = FieldEdits {
        remove: vec![name("x-debug"), name("x-real-ip"), name("x-forwarded-host")],
        set: vec![(name("Host"), value("b")), (name("x-request-id"), value("fixed"))],
        add: vec![(name("X-Add"), value("2"))],
    };
    assert_eq!(
        request("GET /a?q HTTP/1.1|Host: a|X-Debug: 1|X-Add: 1||", false, Some("/new?q"), &edits),
        "GET /new?q HTTP/1.1|X-Add: 1|X-Forwarded-For: 192.0.2.1|X-Forwarded-Proto: http|Host: b|x-request-id: fixed\
         |X-Add: 2||",
    );
}

#[track_caller]
fn check_response(head: &str, client: Version, close: bool, framing: Framing, want: &str) {
    let head = lines(head);
    let parsed = parse_response(head.as_bytes(), &LIMITS, false, Vec::new()).expect("the test's own head");
    let route =
        FieldEdits { remove: vec![name("server")], set: Vec::new(), add: vec![(name("X-Add"), value("1"))] };
    let mut out = Buffer::default();
    let edits = ResponseEdits { head: HeadEdits::of(&route), client, close, framing };
    put_response(&mut out, head.as_bytes(), &parsed, &edits);
    assert_eq!(String::from_utf8_lossy(out.bytes()).replace("\r\n", "|"), want, "{head:?}");
}

#[test]
fn an_answer_announces_the_body_that_the_client_gets() {
    use Framing::{Chunked, Length, UntilClose};
    use Version::{Http10, Http11};
    for (head, client, close, framing, want) in [
        ("Content-Length: 5|", Http11, false, Length(5), "Content-Length: 5|X-Add: 1|"),
        ("Content-Length: 5|", Http11, true, Length(5), "Content-Length: 5|Connection: close|X-Add: 1|"),
        (
            "Content-Length: 5|",
            Http10,
            false,
            Length(5),
            "Content-Length: 5|Connection: keep-alive|X-Add: 1|",
        ),
        ("Transfer-Encoding: chunked|", Http11, false, Chunked, "Transfer-Encoding: chunked|X-Add: 1|"),
        ("Transfer-Encoding: chunked|", Http10, true, UntilClose, "Connection: close|X-Add: 1|"),
        (
            "Server: s|Connection: x|X: 1|Keep-Alive: timeout=5|Y: 2|Upgrade: h2c|",
            Http11,
            true,
            UntilClose,
            "Y: 2|Connection: close|X-Add: 1|",
        ),
    ] {
        let (head, want) = (format!("HTTP/1.1 200 OK|{head}|"), format!("HTTP/1.1 200 OK|{want}|"));
        check_response(&head, client, close, framing, &want);
    }
}

#[test]
fn statuses_without_a_body_announce_none() {
    let none = Framing::None;
    let (v, close) = (Version::Http11, false);
    check_response("HTTP/1.1 204 |Content-Length: 5||", v, close, none, "HTTP/1.1 204 |X-Add: 1||");
    check_response(
        "HTTP/1.1 304 |Content-Length: 5||",
        v,
        close,
        none,
        "HTTP/1.1 304 |Content-Length: 5|X-Add: 1||",
    );
}

#[test]
fn interim_answers_are_not_the_operators_to_edit() {
    let (v, none) = (Version::Http11, Framing::None);
    check_response(
        "HTTP/1.1 103 Early Hints|Link: x|Server: s|Content-Length: 0||",
        v,
        false,
        none,
        "HTTP/1.1 103 Early Hints|Link: x|Server: s||",
    );
    check_response(
        "HTTP/1.1 101 Switching Protocols|Connection: upgrade|Upgrade: x||",
        v,
        true,
        none,
        "HTTP/1.1 101 Switching Protocols|Upgrade: x|Connection: Upgrade||",
    );
}

#[test]
fn an_upgrade_that_is_told_of_is_named_in_connection() {
    for (client, close, connection) in [
        (Version::Http11, false, "Upgrade"),
        (Version::Http11, true, "close, Upgrade"),
        (Version::Http10, false, "keep-alive, Upgrade"),
        (Version::Http10, true, "close, Upgrade"),
    ] {
        check_response(
            "HTTP/1.1 426 Upgrade Required|Connection: upgrade|Upgrade: x|Content-Length: 0||",
            client,
            close,
            Framing::None,
            &format!(
                "HTTP/1.1 426 Upgrade Required|Upgrade: x|Content-Length: 0|Connection: {connection}|X-Add: 1||"
            ),
        );
    }
}

#[test]
fn what_is_said_of_a_client_certificate_is_ours_or_a_trusted_peers() {
    let certificate = ClientCertificate {
        subject: "CN=a".to_owned(),
        common_name: None,
        sha256: "ab".to_owned(),
        is_current: true,
    };
    let head = lines(
        "GET / HTTP/1.1|Host: a|x-client-cert-subject: CN=root|X-Client-Cert-SHA256: 00|X_Client_Cert_Subject: b||",
    );
    let parsed = parse_request(head.as_bytes(), &LIMITS, Vec::new()).expect("the test's own head");
    let said = |trusted, told| {
        let edits = RequestEdits {
            route: NONE,
            altered: Altered::NONE,
            peer: "192.0.2.1".parse().expect("an address"),
            source: "192.0.2.1".parse().expect("an address"),
            trusted,
            family: Family::XForwarded,
            scheme: "https",
            told,
            request_id: b"id",
            trace: None,
            deadline: None,
        };
        let mut out = Buffer::default();
        put_request(&mut out, head.as_bytes(), &parsed, &edits);
        let text = String::from_utf8_lossy(out.bytes()).to_lowercase();
        let lines = text.lines().filter_map(|line| line.strip_prefix("x-client-cert-").map(str::to_owned));
        lines.collect::<Vec<_>>()
    };
    for trusted in [false, true] {
        assert_eq!(said(trusted, Told::Certificate(None)), [""; 0], "{trusted}");
        assert_eq!(
            said(trusted, Told::Certificate(Some(&certificate))),
            ["subject: cn=a", "sha256: ab"],
            "{trusted}"
        );
    }
    assert_eq!(said(false, Told::Nothing), [""; 0]);
    assert_eq!(said(true, Told::Nothing), ["subject: cn=root", "sha256: 00"]);
}
