//! What a lookup costs among ten routes and among ten thousand, for the three shapes that large tables have.
//! The larger one should stay within twice the smaller.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use plimsoll::model::host::HostPattern;
use plimsoll::model::method::Method;
use plimsoll::model::name::RouteName;
use plimsoll::model::request::RequestView;
use plimsoll::route::{PathPattern, Rule, Table};

struct Request {
    authority: String,
    path: String,
}

impl RequestView for Request {
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
        self.authority.as_bytes()
    }
    fn target(&self) -> &[u8] {
        self.path()
    }

    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> Option<&[u8]> {
        None
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        [(&b"user-agent"[..], &b"bench"[..]), (b"accept", b"*/*")].into_iter()
    }
    fn source(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
}

fn rule(host: Option<&str>, path: &str, methods: &[&str]) -> Rule {
    Rule {
        name: RouteName::new("r").expect("a name"),
        priority: 0,
        listeners: Vec::new(),
        hosts: host.map(|host| HostPattern::parse(host).expect("a host")).into_iter().collect(),
        path: PathPattern::Prefix(path.to_owned()),
        methods: methods.iter().map(ToString::to_string).collect(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        source: Vec::new(),
    }
}

fn by_host(i: usize) -> (Rule, Request) {
    let host = format!("app{i}.example.com");
    (
        rule(Some(&host), "/", &[]),
        Request { authority: format!("{host}:8080"), path: "/v1/users/7".to_owned() },
    )
}

fn by_wildcard(i: usize) -> (Rule, Request) {
    let pattern = format!("*.app{i}.example.com");
    let authority = format!("www.app{i}.example.com");
    (rule(Some(&pattern), "/v1", &["GET"]), Request { authority, path: "/v1/users/7".to_owned() })
}

fn by_path(i: usize) -> (Rule, Request) {
    let prefix = format!("/v1/team{}/app{i}", i % 100);
    let path = format!("{prefix}/users/7");
    (rule(None, &prefix, &[]), Request { authority: "api.example.com".to_owned(), path })
}

/// The `i`-th rule and a request that takes it.
type Shape = fn(usize) -> (Rule, Request);

fn lookup(c: &mut Criterion) {
    let shapes: [(&str, Shape); 3] =
        [("by_host", by_host), ("by_wildcard", by_wildcard), ("by_path", by_path)];
    for (name, shape) in shapes {
        let mut group = c.benchmark_group(name);
        for routes in [10, 10_000] {
            let (rules, requests): (Vec<Rule>, Vec<Request>) = (0..routes).map(shape).unzip();
            let table = Table::new(rules);
            group.bench_function(BenchmarkId::from_parameter(routes), |b| {
                // A stride that visits every route in no order that a cache could foresee.
                let mut at = 0;
                b.iter(|| {
                    at = (at + 7_919) % routes;
                    let found = table.find(black_box(&requests[at]));
                    assert_eq!(found, Some(at));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, lookup);
criterion_main!(benches);
