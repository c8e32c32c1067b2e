//! Templates: whatever they are and whatever a client sends, they end, and what they put in stays in its place.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use plimsoll::model::host::split_authority;
use plimsoll::model::method::Method;
use plimsoll::model::request::RequestView;
use plimsoll::route::rewrite::{PathRewrite, QueryRewrite, Rewrite};
use plimsoll::route::template::{Escape, Facts, Template};

// A template, a zero byte, and what a client sends: path, query and a field, each behind another one.
fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |&b| b == 0);
    let mut part = || parts.next().unwrap_or_default();
    let Ok(text) = std::str::from_utf8(part()) else { return };
    let Ok(template) = Template::parse(text) else { return };
    assert_eq!(template.as_written(), text);
    let is_path = |path: &[u8]| path.starts_with(b"/") && path.iter().all(|b| b.is_ascii_graphic() && *b != b'?');
    let path = Some(part()).filter(|path| is_path(path)).unwrap_or(b"/");
    let query = Some(part()).filter(|query| query.iter().all(u8::is_ascii_graphic));
    let request = Request { path, query, value: part() };
    check_escapes(&request);
    check_rewrite(&template, &request);
});

/// Templates of nothing but variables, so that every byte is a client's.
fn check_escapes(request: &Request<'_>) {
    for text in ["{header:x}", "{uri}", "{query:q}", "{cookie:c}", "{client}{host}{header:x}{request_id}"] {
        let template = Template::parse(text).expect("a template");
        let render = |escape| {
            let mut out = Vec::new();
            template.render(request, &FACTS, None, escape, &mut out);
            out
        };
        assert!(render(Escape::Field).iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f)));
        for escape in [Escape::Url, Escape::Path, Escape::Parameter] {
            assert!(render(escape).iter().all(|b| b.is_ascii_graphic() && !b"\"<>#\\".contains(b)));
        }
        assert!(!render(Escape::Path).contains(&b'?') && !render(Escape::Parameter).contains(&b'&'));
        assert!(!render(Escape::Html).iter().any(|b| b"<>\"'".contains(b)));
        assert!(!render(Escape::Json).iter().any(|&b| b < b' '));
    }
}

fn check_rewrite(template: &Template, request: &Request<'_>) {
    let rewrite = Rewrite {
        regex: None,
        path: Some(PathRewrite::Whole(Template::parse("/in/{header:x}{path}").expect("a template"))),
        host: Some(template.clone()),
        query: Some(QueryRewrite::Whole(Template::parse("{query}&x={header:x}").expect("a template"))),
    };
    let Ok(rewritten) = rewrite.apply(request, &FACTS) else { return };
    let host = rewritten.authority.expect("it is rewritten");
    assert!(split_authority(&host).is_some_and(|(host, _)| !host.is_empty()));
    let target = rewritten.target.expect("it is rewritten");
    assert!(target.starts_with(b"/in/") && target.iter().all(u8::is_ascii_graphic));
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    assert!(plimsoll::route::path::normalize(path).starts_with(b"/in"));
}

const FACTS: Facts<'static> = Facts {
    client_port: Some(1),
    peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    request_id: b"id",
    listener: "web",
    route: "all",
    tls: None,
    pool: Some("api"),
    endpoint: None,
    status: None,
    imagined: false,
};

struct Request<'a> {
    path: &'a [u8],
    query: Option<&'a [u8]>,
    value: &'a [u8],
}

impl RequestView for Request<'_> {
    fn method(&self) -> Method {
        Method::Get
    }
    fn method_bytes(&self) -> &[u8] {
        b"GET"
    }
    fn scheme(&self) -> &str {
        "http"
    }
    fn authority(&self) -> &[u8] {
        b"a.example"
    }
    fn target(&self) -> &[u8] {
        self.path
    }
    fn path(&self) -> &[u8] {
        self.path
    }
    fn query(&self) -> Option<&[u8]> {
        self.query
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        [(&b"x"[..], self.value), (&b"cookie"[..], self.value)].into_iter()
    }
    fn source(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
}
