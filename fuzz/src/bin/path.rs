//! Paths against a model that normalizes by replacing text until nothing changes and asks every rule.
//!
//! An input is lines: the last one is the path of the request, the others are patterns: `=/exact`, `/prefix`, or
//! anything else for a route without a path.

#![no_main]

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use plimsoll::model::method::Method;
use plimsoll::model::name::RouteName;
use plimsoll::model::request::RequestView;
use plimsoll::route::path::{normalize, strip_prefix};
use plimsoll::route::{PathPattern, Rule, Table, Verdict};

fuzz_target!(|data: &[u8]| {
    let mut lines: Vec<&[u8]> = data.split(|&b| b == b'\n').take(40).collect();
    let path = lines.pop().unwrap_or_default();
    if !path.starts_with(b"/") {
        // Only the star of OPTIONS gets so far; it is no path and is left as it is.
        assert_eq!(normalize(path).as_ref(), path);
        return;
    }
    let normal = model_normalize(path);
    assert_eq!(normalize(path).as_ref(), normal.as_bytes(), "normal form");
    assert_eq!(normalize(normal.as_bytes()).as_ref(), normal.as_bytes(), "normalizing twice");

    let rules: Vec<Rule> = lines.iter().map(|line| rule(&String::from_utf8_lossy(line))).collect();
    let want = model_find(&rules, &normal);
    let table = Table::new(rules.clone());
    assert_eq!(table.find(&Request(path)), want);
    let explained = table.explain(&Request(path));
    assert_eq!(explained.iter().find(|c| c.verdict == Verdict::Taken).map(|c| c.rule), want);

    for rule in &rules {
        if let PathPattern::Prefix(prefix) = &rule.path {
            let below = strip_prefix(path, prefix);
            assert_eq!(below.is_some(), model_path(&rule.path, &normal).is_some());
            if let Some(rest) = below {
                let whole = [model_prefix(prefix).as_bytes(), &rest].concat();
                assert_eq!(whole, normal.as_bytes(), "prefix and rest are the path");
            }
        }
    }
});

fn model_normalize(path: &[u8]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        let escape = path.get(at..at + 3).and_then(|e| std::str::from_utf8(e).ok()).filter(|_| byte == b'%');
        let decoded = escape.and_then(|e| e.get(1..)).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let decoded = decoded.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (value, allowed) = match decoded {
            Some(value) => (value, "-._~"),
            None => (byte, "-._~!$&'()*+,;=:@/"),
        };
        if value.is_ascii_alphanumeric() || allowed.as_bytes().contains(&value) {
            text.push(char::from(value));
        } else {
            text.push_str(&format!("%{value:02X}"));
        }
        at += if decoded.is_some() { 3 } else { 1 };
    }
    until_still(&mut text, |text| text.replace("//", "/"));
    text.push('\n');
    until_still(&mut text, |text| text.replace("/./", "/").replace("/.\n", "/\n"));
    until_still(&mut text, |text| {
        let Some(dots) = text.find("/../").or_else(|| text.find("/..\n")) else { return text.to_owned() };
        let parent = text[..dots].rfind('/').unwrap_or(0);
        let rest = text[dots + 3..].strip_prefix('/').unwrap_or(&text[dots + 3..]);
        format!("{}/{rest}", &text[..parent])
    });
    text.pop();
    text
}

fn until_still(text: &mut String, step: impl Fn(&str) -> String) {
    loop {
        let next = step(text);
        if next == *text {
            return;
        }
        *text = next;
    }
}

fn model_prefix(prefix: &str) -> String {
    let normal = model_normalize(prefix.as_bytes());
    normal.strip_suffix('/').unwrap_or(&normal).to_owned()
}

/// How well the path matches, as (kind, length): bigger is closer.
fn model_path(pattern: &PathPattern, path: &str) -> Option<(u8, usize)> {
    match pattern {
        PathPattern::Exact(text) => (model_normalize(text.as_bytes()) == path).then_some((2, 0)),
        PathPattern::Prefix(text) => {
            let prefix = model_prefix(text);
            let below = prefix.is_empty() || path == prefix || path.starts_with(&format!("{prefix}/"));
            below.then_some((u8::from(!prefix.is_empty()), prefix.len()))
        }
        _ => Some((0, 0)),
    }
}

fn model_find(rules: &[Rule], path: &str) -> Option<usize> {
    let key = |(index, rule): (usize, &Rule)| Some((model_path(&rule.path, path)?, Reverse(index)));
    rules.iter().enumerate().filter_map(key).max().map(|(_, Reverse(index))| index)
}

fn rule(line: &str) -> Rule {
    let path = match line.strip_prefix('=') {
        Some(exact) if exact.starts_with('/') => PathPattern::Exact(exact.to_owned()),
        None if line.starts_with('/') => PathPattern::Prefix(line.to_owned()),
        _ => PathPattern::Any,
    };
    Rule {
        name: RouteName::new("r").expect("a name"),
        priority: 0,
        listeners: Vec::new(),
        hosts: Vec::new(),
        path,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        source: Vec::new(),
    }
}

struct Request<'a>(&'a [u8]);

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
        b"example.com"
    }
    fn target(&self) -> &[u8] {
        self.path()
    }

    fn path(&self) -> &[u8] {
        self.0
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
