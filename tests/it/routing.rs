//! Which route takes a request, and what routes do: pools, splits, redirects, answers, rewriting.

use crate::harness::client::get;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};

fn routed(routes: &str) -> (Origin, Proxy) {
    let origin = Origin::saying("main");
    let proxy = Setup::http(&[origin.address()]).routes(routes).start();
    (origin, proxy)
}

fn respond(name: &str, conditions: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\n{conditions}\nrespond = {{ status = 200, body = \"{name}\" }}\n")
}

fn said(proxy: &Proxy, request: &str) -> String {
    proxy.ask(format!("{request}Connection: close\r\n\r\n")).text()
}

#[test]
fn every_condition_counts_and_the_more_exact_route_wins() {
    let (_origin, proxy) = routed(
        &[
            respond("fallback", ""),
            respond("wild", "host = \"*.example.com\""),
            respond("exact", "host = \"a.example.com\""),
            respond("prefix", "host = \"a.example.com\"\npath_prefix = \"/v1/\""),
            respond("path", "host = \"a.example.com\"\npath = \"/v1/x\""),
            respond("regex", "host = \"a.example.com\"\npath_regex = \"^/u/[0-9]+$\""),
            respond("method", "host = \"m.example.com\"\nmethods = [\"PUT\"]"),
            respond("header", "host = \"h.example.com\"\nheaders = { x-canary = \"1\" }"),
            respond("query", "host = \"q.example.com\"\nquery = { v = { regex = \"^2\" } }"),
            respond("cookie", "host = \"c.example.com\"\ncookies = { tester = \"yes\" }"),
            respond("source", "host = \"s.example.com\"\nsource = [\"127.0.0.0/8\"]"),
            respond("elsewhere", "host = \"s.example.com\"\nsource = [\"10.0.0.0/8\"]\npriority = 5"),
            respond("urgent", "path = \"/urgent\"\npriority = 10"),
        ]
        .concat(),
    );
    let cases = [
        ("GET / HTTP/1.1\r\nHost: other\r\n", "fallback"),
        ("GET / HTTP/1.1\r\nHost: b.example.com\r\n", "wild"),
        ("GET / HTTP/1.1\r\nHost: A.Example.COM:8080\r\n", "exact"),
        ("GET http://a.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n", "exact"),
        ("GET /v1 HTTP/1.1\r\nHost: a.example.com\r\n", "prefix"),
        ("GET /v1/y HTTP/1.1\r\nHost: a.example.com\r\n", "prefix"),
        ("GET /v10 HTTP/1.1\r\nHost: a.example.com\r\n", "exact"),
        ("GET /v1/x?y HTTP/1.1\r\nHost: a.example.com\r\n", "path"),
        ("GET /u/12 HTTP/1.1\r\nHost: a.example.com\r\n", "regex"),
        ("GET /u/x HTTP/1.1\r\nHost: a.example.com\r\n", "exact"),
        ("PUT / HTTP/1.1\r\nHost: m.example.com\r\nContent-Length: 0\r\n", "method"),
        ("GET / HTTP/1.1\r\nHost: m.example.com\r\n", "wild"),
        ("GET / HTTP/1.1\r\nHost: h.example.com\r\nX-Canary: 1\r\n", "header"),
        ("GET / HTTP/1.1\r\nHost: h.example.com\r\nX-Canary: 10\r\n", "wild"),
        ("GET /?a=1&v=20 HTTP/1.1\r\nHost: q.example.com\r\n", "query"),
        ("GET /?v=1 HTTP/1.1\r\nHost: q.example.com\r\n", "wild"),
        ("GET / HTTP/1.1\r\nHost: c.example.com\r\nCookie: a=b; tester=yes\r\n", "cookie"),
        ("GET / HTTP/1.1\r\nHost: c.example.com\r\nCookie: a=b; tester=no\r\n", "wild"),
        ("GET / HTTP/1.1\r\nHost: s.example.com\r\n", "source"),
        ("GET /urgent HTTP/1.1\r\nHost: a.example.com\r\n", "urgent"),
    ];
    for (request, route) in cases {
        assert_eq!(said(&proxy, request), route, "{request}");
    }
}

#[test]
fn no_route_is_404() {
    let (origin, proxy) = routed("[[route]]\nname = \"one\"\nhost = \"a.example\"\npool = \"main\"\n");
    assert_eq!(proxy.get("/").status(), 404);
    assert!(origin.seen().is_empty());
    assert_eq!(proxy.records(1)[0]["end"], "no_route");
}

#[test]
fn tricks_in_a_path_do_not_choose_the_route() {
    let routes = [respond("open", ""), respond("admin", "path_prefix = \"/admin\"")].concat();
    let (_origin, proxy) = routed(&routes);
    for path in ["/admin", "/admin/x", "/x/../admin", "/./admin", "//admin", "/%61dmin", "/x/%2e%2e/admin"] {
        let answer = proxy.get(path);
        assert!(answer.text() == "admin" || answer.status() == 400, "{path} went to {}", answer.text());
    }
}

#[test]
fn a_redirect_says_where_to() {
    let (_origin, proxy) = routed(
        "[[route]]\nname = \"r\"\nredirect = { to = \"https://{host}{uri}\", status = 308 }\n\
         [[route]]\nname = \"p\"\npath_prefix = \"/p\"\nredirect = { to = \"/new{path}?from=old&{query}\", status = 302 }\n\
         [[route]]\nname = \"q\"\npath_prefix = \"/q\"\nredirect = { to = \"/new{?query}\", status = 302 }\n",
    );
    let answer = proxy.get("/a/b?c=d");
    assert_eq!((answer.status(), answer.field("location").as_deref()), (308, Some("https://a/a/b?c=d")));
    let answer = proxy.get("/p/x?y=z");
    assert_eq!((answer.status(), answer.field("location").as_deref()), (302, Some("/new/p/x?from=old&y=z")));
    for (asked, to) in [("/q/x?y=z", "/new?y=z"), ("/q/x", "/new")] {
        assert_eq!(proxy.get(asked).field("location").as_deref(), Some(to));
    }
}

#[test]
fn a_redirect_cannot_be_given_fields() {
    let (_origin, proxy) =
        routed("[[route]]\nname = \"r\"\nredirect = { to = \"https://{host}{uri}\", status = 301 }\n");
    for path in ["/%0d%0aSet-Cookie:%20a=b", "/\\evil.example", "//evil.example"] {
        let answer = proxy.get(path);
        assert_eq!(answer.field("set-cookie"), None);
        assert!(
            answer.status() == 400 || answer.field("location").is_some_and(|to| to.starts_with("https://a/"))
        );
    }
}

#[test]
fn a_fixed_answer_has_exactly_its_body_and_keeps_the_connection() {
    let (origin, proxy) =
        routed("[[route]]\nname = \"r\"\nrespond = { status = 503, body = \"back soon\" }\n");
    let mut client = proxy.connect();
    for _ in 0..2 {
        let answer = client.post("/", "hello");
        assert_eq!((answer.status(), answer.text().as_str()), (503, "back soon"));
        assert_eq!(answer.field("content-length").as_deref(), Some("9"));
    }
    assert!(origin.seen().is_empty());
    assert_eq!(proxy.records(2)[0]["end"], "responded");
}

#[test]
fn a_rewrite_changes_the_path_and_keeps_the_query() {
    let (origin, proxy) = routed(
        "[[route]]\nname = \"a\"\npath_prefix = \"/api/v1\"\npool = \"main\"\nrewrite = { path_prefix = \"/\" }\n\
         [[route]]\nname = \"b\"\npath_prefix = \"/old/\"\npool = \"main\"\nrewrite = { path_prefix = \"/new/deep/\" }\n\
         [[route]]\nname = \"c\"\npath = \"/c\"\npool = \"main\"\nrewrite = { path = \"/fixed\" }\n",
    );
    let cases = [
        ("/api/v1/x?q=/api/v1", "/x?q=/api/v1"),
        ("/api/v1", "/"),
        ("/api/v1?q", "/?q"),
        ("/old/x/y", "/new/deep/x/y"),
        ("/c?k=v", "/fixed?k=v"),
    ];
    for (place, (sent, seen)) in cases.iter().enumerate() {
        proxy.get(sent);
        assert_eq!(origin.request(place).path(), *seen, "{sent}");
    }
}

fn split(by: &str, weights: (u32, u32)) -> (Origin, Origin, Proxy) {
    let (stable, canary) = (Origin::saying("stable"), Origin::saying("canary"));
    let (left, right) = weights;
    let proxy = Setup::http(&[stable.address()])
        .routes(&format!(
            "[[route]]\nname = \"s\"\nsplit_by = \"{by}\"\n\
             split = [{{ pool = \"main\", weight = {left} }}, {{ pool = \"canary\", weight = {right} }}]\n"
        ))
        .text(&format!("[pool.canary]\nendpoints = [\"{}\"]", canary.address()))
        .start();
    (stable, canary, proxy)
}

#[test]
fn a_random_split_keeps_to_its_weights() {
    let (stable, canary, proxy) = split("random", (3, 1));
    let mut client = proxy.connect();
    for _ in 0..400 {
        client.get("/");
    }
    assert_eq!(stable.seen().len() + canary.seen().len(), 400);
    assert!((60..=140).contains(&canary.seen().len()), "{}", canary.seen().len());
    let (_stable, canary, proxy) = split("random", (1, 0));
    for _ in 0..50 {
        get(proxy.web, "/");
    }
    assert!(canary.seen().is_empty());
}

#[test]
fn a_split_by_source_gives_a_client_the_same_pool_always() {
    let (stable, canary, proxy) = split("source", (1, 1));
    for _ in 0..30 {
        proxy.get("/");
    }
    assert!(stable.seen().is_empty() || canary.seen().is_empty());
}
