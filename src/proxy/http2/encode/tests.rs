//! Heads for HTTP/2 endpoints: what goes on, what stays here, and what has another form there.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::Request as HttpRequest;

use super::*;
use crate::model::field::FieldEdits;
use crate::model::forwarded::Family;
use crate::proxy::phases::Altered;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn neutral(path: &str, fields: &[(&str, &str)]) -> Request {
    let mut message = HttpRequest::builder().method("GET").uri(format!("http://a.test{path}"));
    for (name, value) in fields {
        message = message.header(*name, *value);
    }
    let parts = message.body(()).expect("a request").into_parts().0;
    Request::new(parts, "http", PEER)
}

fn edits(route: &FieldEdits, trusted: bool) -> RequestEdits<'_> {
    RequestEdits {
        route,
        altered: Altered::NONE,
        peer: PEER,
        source: PEER,
        trusted,
        family: Family::XForwarded,
        scheme: "https",
        told: Told::Nothing,
        request_id: b"6f",
        trace: None,
        deadline: None,
    }
}

fn encoded(request: &Request, edits: &RequestEdits<'_>) -> HttpRequest<()> {
    super::request(request, edits, false).expect("it can be said")
}

#[test]
fn what_is_for_one_connection_alone_stays_here_and_trailers_are_asked_for() {
    let fields = [("te", "gzip, trailers"), ("proxy-connection", "close"), ("host", "a.test"), ("x-a", "1")];
    let none = FieldEdits::default();
    let message = encoded(&neutral("/x?y=z", &fields), &edits(&none, false));
    assert_eq!(message.uri(), "http://a.test/x?y=z");
    let headers = message.headers();
    assert_eq!(headers.get("te").map(HeaderValue::as_bytes), Some(&b"trailers"[..]));
    assert_eq!(headers.get("x-a").map(HeaderValue::as_bytes), Some(&b"1"[..]));
    assert!(!headers.contains_key("proxy-connection") && !headers.contains_key("host"));
}

#[test]
fn who_the_client_is_is_ours_to_say_unless_the_peer_is_trusted() {
    let fields =
        [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "gopher"), ("x-real-ip", "192.0.2.8")];
    let (request, none) = (neutral("/", &fields), FieldEdits::default());
    let value = |trusted: bool, name: &str| {
        let message = encoded(&request, &edits(&none, trusted));
        let values: Vec<_> = message.headers().get_all(name).iter().map(|v| v.as_bytes().to_vec()).collect();
        values.concat()
    };
    assert_eq!(value(false, "x-forwarded-for"), b"10.0.0.1");
    assert_eq!(value(false, "x-forwarded-proto"), b"https");
    assert_eq!(value(true, "x-forwarded-for"), b"192.0.2.7, 10.0.0.1");
    assert_eq!(value(true, "x-forwarded-proto"), b"gopher");
    assert_eq!(value(true, "x-real-ip"), b"10.0.0.1");
}

#[test]
fn a_time_limit_goes_on_less_what_has_gone() {
    let request = neutral("/", &[("grpc-timeout", "10S")]);
    let none = FieldEdits::default();
    let deadline = Some(Instant::now() + Duration::from_secs(5));
    let message = encoded(&request, &RequestEdits { deadline, ..edits(&none, false) });
    let left =
        message.headers().get("grpc-timeout").and_then(|left| crate::model::grpc::timeout(left.as_bytes()));
    assert!(left.is_some_and(|left| left <= Duration::from_secs(5) && left > Duration::from_secs(4)));
}

#[test]
fn a_path_that_has_no_form_is_percent_encoded() {
    let mut request = neutral("/", &[]);
    let none = FieldEdits::default();
    let mut altered = Altered::default();
    altered.edit().target = Some(b"/a<b>^\\c%20".into());
    let message = encoded(&request, &RequestEdits { altered: &altered, ..edits(&none, false) });
    assert_eq!(message.uri().path(), "/a%3Cb%3E%5E%5Cc%20");
    request.websocket = true;
    let message = encoded(&request, &edits(&none, false));
    assert_eq!(message.method(), HttpMethod::CONNECT);
    assert_eq!(message.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
}
