//! Authorities and host patterns: whatever is accepted is what it says it is, and a pattern finds its own host.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use plimsoll::model::host::{HostPattern, split_authority};
use plimsoll::model::method::Method;
use plimsoll::model::name::RouteName;
use plimsoll::model::request::RequestView;
use plimsoll::route::{PathPattern, Rule, Table};

fuzz_target!(|data: &[u8]| {
    check_authority(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(pattern) = HostPattern::parse(text)
    {
        check_pattern(&pattern);
    }
});

fn check_authority(authority: &[u8]) {
    let Some((host, port)) = split_authority(authority) else { return };
    let rest = authority.strip_prefix(host).expect("the host opens the authority");
    let digits = rest.strip_prefix(b":").unwrap_or(rest);
    assert!(rest.is_empty() || rest.starts_with(b":"));
    assert!(digits.iter().all(u8::is_ascii_digit));
    match port {
        Some(port) => assert_eq!(std::str::from_utf8(digits).expect("digits").parse(), Ok(port)),
        None => assert!(digits.is_empty()),
    }
    match host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        Some(literal) => assert!(std::str::from_utf8(literal).expect("text").parse::<Ipv6Addr>().is_ok()),
        None => assert!(host.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))),
    }
    assert_eq!(split_authority(host), Some((host, None)));
}

fn check_pattern(pattern: &HostPattern) {
    let text = pattern.to_string();
    assert_eq!(HostPattern::parse(&text).as_ref(), Ok(pattern), "what is shown is what is read");
    assert!(!text.bytes().any(|b| b.is_ascii_uppercase()));
    let host = match pattern {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Wildcard(suffix) => format!("x{suffix}"),
    };
    let table = Table::new(vec![rule(pattern.clone())]);
    let mut spellings =
        vec![host.clone(), format!("{host}:8080"), format!("{host}:"), host.to_ascii_uppercase()];
    if !host.starts_with('[') {
        spellings.push(format!("{host}."));
    }
    for authority in spellings {
        assert_eq!(table.find(&Request(&authority)), Some(0), "{authority:?}");
    }
    if let HostPattern::Wildcard(suffix) = pattern {
        assert_eq!(table.find(&Request(&suffix[1..])), None, "a label must stand in front");
    }
}

fn rule(host: HostPattern) -> Rule {
    Rule {
        name: RouteName::new("r").expect("a name"),
        priority: 0,
        listeners: Vec::new(),
        hosts: vec![host],
        path: PathPattern::Any,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        source: Vec::new(),
    }
}

struct Request<'a>(&'a str);

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
        self.0.as_bytes()
    }
    fn target(&self) -> &[u8] {
        self.path()
    }

    fn path(&self) -> &[u8] {
        b"/"
    }
    fn query(&self) -> Option<&[u8]> {
        None
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
    fn source(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
}
