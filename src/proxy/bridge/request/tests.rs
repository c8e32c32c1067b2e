//! What is refused of a request before it can mean something else elsewhere, and what is made of the rest.

use super::*;

const LIMITS: Limits = Limits { head: 1024, fields: 8, target: 64 };

struct Case {
    method: &'static str,
    uri: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    ended: bool,
    protocol: Option<&'static str>,
}

fn get(uri: &'static str) -> Case {
    Case { method: "GET", uri, fields: Vec::new(), ended: true, protocol: None }
}

fn settle(case: &Case) -> Result<Request, Refusal> {
    let mut builder = http::Request::builder().method(case.method).uri(case.uri);
    for (name, value) in &case.fields {
        // As the h2 crate makes them: what the crate lets pass in lower case is more than tokens.
        let name = HeaderName::from_lowercase(name.as_bytes()).expect("the test's own name");
        builder = builder.header(name, *value);
    }
    let (parts, ()) = builder.body(()).expect("the test's own request").into_parts();
    let mut request = Request::new(parts, "https", IpAddr::from([192, 0, 2, 1]));
    request.settle(&LIMITS, case.ended, case.protocol).map(|()| request)
}

#[track_caller]
fn check_refused(case: &Case, want: &str) {
    let refusal = settle(case).expect_err("it is to be refused");
    assert!(refusal.to_string().contains(want), "{refusal}");
}

#[test]
fn a_target_is_a_clean_path_of_a_web_url() {
    assert!(settle(&get("https://a/b?c")).is_ok());
    check_refused(&get("ftp://a/"), "scheme");
    check_refused(&get("https://a/\u{e9}"), "percent-encoded");
    check_refused(
        &get("https://a/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        "longer",
    );
    check_refused(&get("*"), "slash");
    let mut options = Case { method: "OPTIONS", ..get("*") };
    options.fields.push(("host", "a"));
    assert!(settle(&options).is_ok());
}

#[test]
fn one_host_is_named_and_only_one() {
    check_refused(&get("/"), "no host");
    check_refused(&Case { fields: vec![("host", "a"), ("host", "b")], ..get("/") }, "twice");
    check_refused(&Case { fields: vec![("host", "b")], ..get("https://a/") }, "different hosts");
    check_refused(&get("https://u@a/"), "host is not valid");
    let request = settle(&Case { fields: vec![("host", "A")], ..get("https://a/") }).expect("they agree");
    assert_eq!(request.authority(), b"a");
    let request = settle(&Case { fields: vec![("host", "b:81")], ..get("/") }).expect("it is named");
    assert_eq!(request.authority(), b"b:81");
}

#[test]
fn the_length_of_a_body_is_said_once_and_in_digits() {
    let post = |fields| Case { method: "POST", fields, ended: false, ..get("https://a/") };
    for (value, want) in [("", "no number"), ("+5", "no number"), ("18446744073709551617", "no number")] {
        check_refused(&post(vec![("content-length", value)]), want);
    }
    check_refused(&post(vec![("content-length", "1"), ("content-length", "1")]), "twice");
    let framing = |case: &Case| settle(case).expect("it is valid").framing;
    assert_eq!(framing(&post(vec![("content-length", "7")])), Framing::Length(7));
    assert_eq!(framing(&post(Vec::new())), Framing::Chunked);
    assert_eq!(framing(&get("https://a/")), Framing::None);
}

#[test]
fn fields_are_bounded_and_stand_alone() {
    check_refused(&Case { fields: vec![("x\"y", "z")], ..get("https://a/") }, "token");
    check_refused(&Case { fields: vec![("x", "y "); 1], ..get("https://a/") }, "white space");
    check_refused(&Case { fields: vec![("x", "y"); 9], ..get("https://a/") }, "more fields");
    let long: &'static str = "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy";
    check_refused(&Case { fields: vec![("x", long); 7], ..get("https://a/") }, "larger");
}

#[test]
fn methods_that_are_not_passed_on_are_told_apart() {
    let with = |method, protocol| settle(&Case { method, protocol, ended: false, ..get("https://a/") });
    assert_eq!(with("CONNECT", None).err(), Some(Refusal::Connect));
    assert_eq!(with("CONNECT", Some("connect-udp")).err(), Some(Refusal::Protocol));
    assert_eq!(with("TRACE", None).err(), Some(Refusal::Method));
    assert_eq!(with("PRI", None).err(), Some(Refusal::Method));
    assert!(with("CONNECT", Some("websocket")).expect("it is spoken").websocket);
}

#[test]
fn crumbs_of_cookies_are_joined() {
    let crumbs = vec![("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")];
    let request = settle(&Case { fields: crumbs, ..get("https://a/") }).expect("it is valid");
    assert_eq!(request.field("cookie"), Some(&b"a=1; b=2; c=3"[..]));
    assert_eq!(request.parts.headers.get_all("cookie").iter().count(), 1);
}

#[test]
fn an_expectation_is_only_one_where_a_body_follows() {
    let expect = |value, ended| settle(&Case { fields: vec![("expect", value)], ended, ..get("https://a/") });
    assert!(expect("100-continue", false).expect("it is valid").expects_continue);
    assert!(!expect("100-continue", true).expect("it is valid").expects_continue);
    assert_eq!(expect("wonders", false).err(), Some(Refusal::Expectation));
}
