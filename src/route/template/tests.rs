//! Templates: what they put in, what they are not, and that nothing a client sends leaves its place.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::model::method::Method;

pub(crate) struct Request {
    pub(crate) path: &'static str,
    pub(crate) query: Option<Vec<u8>>,
    pub(crate) fields: Vec<(&'static str, Vec<u8>)>,
}

impl Request {
    pub(crate) fn to(path: &'static str, query: Option<&str>) -> Self {
        Self { path, query: query.map(|query| query.as_bytes().to_vec()), fields: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name, value.as_ref().to_vec()));
        self
    }
}

impl RequestView for Request {
    fn method(&self) -> Method {
        Method::Get
    }
    fn method_bytes(&self) -> &[u8] {
        b"GET"
    }
    fn scheme(&self) -> &str {
        "https"
    }
    fn authority(&self) -> &[u8] {
        b"a.example:8443"
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref()
    }
    fn target(&self) -> &[u8] {
        self.path()
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()))
    }
    fn source(&self) -> IpAddr {
        Ipv4Addr::new(203, 0, 113, 9).into()
    }
}

pub(crate) fn facts() -> Facts<'static> {
    Facts {
        client_port: Some(4711),
        peer: Ipv4Addr::new(10, 0, 0, 1).into(),
        request_id: b"abc",
        listener: "web",
        route: "all",
        tls: Some(TlsFacts { version: "TLSv1.3", cipher: "AES", server_name: Some("a.example") }),
        pool: Some("api"),
        endpoint: Some("e1"),
        status: Some(502),
        imagined: false,
    }
}

fn parse(text: &str) -> Template {
    Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn render(text: &str, request: &Request, escape: Escape) -> String {
    let mut out = Vec::new();
    parse(text).render(request, &facts(), None, escape, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn every_variable_is_put_in() {
    let request = Request::to("/p/x", Some("a=1&b=%20")).with("X-One", "1").with("cookie", "s=t; u=v");
    for (text, want) in [
        ("{client}:{client_port} by {peer}", "203.0.113.9:4711 by 10.0.0.1"),
        ("{scheme}://{host}{uri}", "https://a.example:8443/p/x?a=1&b=%20"),
        ("{hostname}{path}", "a.example/p/x"),
        ("{method} {query}", "GET a=1&b=%20"),
        ("{header:x-one}{cookie:u}{query:b}{header:no}", "1v%20"),
        ("{request_id} {listener} {route} {pool} {endpoint}", "abc web all api e1"),
        ("{tls_version} {tls_cipher} {sni} {status}", "TLSv1.3 AES a.example 502"),
        ("", ""),
    ] {
        assert_eq!(render(text, &request, Escape::Plain), want, "{text}");
    }
}

#[test]
fn a_query_that_is_empty_is_not_one_that_is_not_there() {
    for (query, want) in [(Some("q=1"), "/a?q=1 q=1 ?q=1"), (Some(""), "/a?  ?"), (None, "/a  ")] {
        assert_eq!(render("{uri} {query} {?query}", &Request::to("/a", query), Escape::Plain), want);
    }
}

#[test]
fn a_brace_that_begins_no_name_is_text_and_two_stand_for_one() {
    for (text, want) in [
        (r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#),
        ("{{host}} {host}", "{host} a.example:8443"),
        ("body { color: red }", "body { color: red }"),
        ("{", "{"),
        ("}{}", "}{}"),
        ("{{{method}}}", "{GET}"),
        ("${host} $ {method}", "${host} $ GET"),
    ] {
        assert_eq!(render(text, &Request::to("/", None), Escape::Plain), want, "{text}");
    }
    assert_eq!(parse("{{x}}").as_static(), Some("{x}"));
    assert_eq!(parse("x{host}").as_static(), None);
}

#[test]
fn what_is_no_variable_is_told() {
    for (text, want) in [
        ("{cleint}", TemplateError::Unknown("cleint".to_owned())),
        ("{color:red}", TemplateError::Unknown("color:red".to_owned())),
        ("{header}", TemplateError::NoName("header".to_owned())),
        ("{header:a b}", TemplateError::NoName(String::new())),
        ("{header:ä}", TemplateError::NoName(String::new())),
        ("{cookie:}", TemplateError::NoName("cookie".to_owned())),
        ("{host:x}", TemplateError::NameToo("host".to_owned())),
    ] {
        match Template::parse(text) {
            Err(error) => assert_eq!(error, want, "{text}"),
            // What has a space or no ASCII is no name at all.
            Ok(template) => assert!(want == TemplateError::NoName(String::new()), "{template:?}"),
        }
    }
}

#[test]
fn what_clients_send_cannot_leave_its_place() {
    let request = Request::to("/", Some("q=a%0d%0ab/../c"))
        .with("x", "a\r\nSet-Cookie: b=c\u{0}d")
        .with("y", "../<b>\"'`&?#/")
        .with("cookie", "s=\"}]\\");
    for (text, escape, want) in [
        ("{header:x}", Escape::Field, "a  Set-Cookie: b=c d"),
        ("/{header:x}", Escape::Url, "/a%0D%0ASet-Cookie:%20b%3Dc%00d"),
        ("/{header:y}/x", Escape::Path, "/..%2F%3Cb%3E%22%27%60%26%3F%23%2F/x"),
        ("/{query:q}", Escape::Path, "/a%0d%0ab%2F..%2Fc"),
        ("/?q={query:q}", Escape::Url, "/?q=a%0d%0ab/../c"),
        ("<p title='{header:y}'>", Escape::Html, "<p title='../&lt;b&gt;&quot;&#39;&#96;&amp;?#/'>"),
        (r#"{"s":"{cookie:s}"}"#, Escape::Json, r#"{"s":"\"}]\\"}"#),
        (r#""{header:x}""#, Escape::Json, r#""a\u000D\u000ASet-Cookie: b=c\u0000d""#),
    ] {
        assert_eq!(render(text, &request, escape), want, "{text} {escape:?}");
    }
}

#[test]
fn a_value_of_a_field_is_left_out_when_nothing_is_known() {
    let request = Request::to("/", None).with("x", "  1 ");
    let value = |text: &str| parse(text).value(&request, &facts());
    assert_eq!(value("{header:none}"), None);
    assert_eq!(value("<{header:none}>"), Some(b"<>".to_vec()));
    assert_eq!(value("{header:x}"), Some(b"1".to_vec()));
}

#[test]
fn groups_are_found_by_number_and_by_name() {
    let regex = Regex::new("^/u/(?P<id>[0-9]+)(/.*)?$").expect("a regex");
    let groups = regex.captures(b"/u/42/x").expect("it matches");
    let mut out = Vec::new();
    let template =
        parse("/users/{group:id}{2}?all={0}").with_groups_of(Some(&regex)).expect("they are there");
    template.render(&Request::to("/u/42/x", None), &facts(), Some(&groups), Escape::Url, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "/users/42/x?all=/u/42/x");
    let wrong =
        |text: &str, regex| parse(text).with_groups_of(regex).expect_err("it does not fit").to_string();
    assert_eq!(wrong("{3}", Some(&regex)), "the regular expression has no group 3");
    assert_eq!(wrong("{group:no}", Some(&regex)), "the regular expression has no group group:no");
    assert_eq!(wrong("{1}", None), "1 is a group of a regular expression, and there is none");
}

#[test]
fn what_is_not_known_of_an_imagined_request_is_shown_as_it_is_written() {
    let facts = Facts { request_id: b"", endpoint: None, status: None, imagined: true, ..facts() };
    let mut out = Vec::new();
    let text = "{request_id} {endpoint} {status} {pool}";
    parse(text).render(&Request::to("/", None), &facts, None, Escape::Plain, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "{request_id} {endpoint} {status} api");
}

proptest! {
    #[test]
    fn no_text_panics_and_text_without_braces_is_itself(text in "[a-z:{}_1\"]{0,24}") {
        match Template::parse(&text) {
            Ok(template) => {
                let mut out = Vec::new();
                template.render(&Request::to("/", None), &facts(), None, Escape::Plain, &mut out);
                let braces = text.contains('{');
                prop_assert!(braces || out == text.as_bytes());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn whatever_a_client_sends_is_harmless(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        let request = Request::to("/", None).with("x", &value);
        let rendered = |escape| {
            let mut out = Vec::new();
            parse("{header:x}").render(&request, &facts(), None, escape, &mut out);
            out
        };
        prop_assert!(rendered(Escape::Field).iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f)));
        prop_assert!(rendered(Escape::Url).iter().all(|&b| b.is_ascii_alphanumeric() || b"-._~:%".contains(&b)));
        prop_assert!(rendered(Escape::Html).iter().all(|b| !b"<>\"'".contains(b)));
        let json = format!("\"{}\"", String::from_utf8_lossy(&rendered(Escape::Json)));
        let read: Result<String, _> = serde_json::from_str(&json);
        prop_assert_eq!(read.ok(), Some(String::from_utf8_lossy(&value).into_owned()));
    }
}
