//! The table against what is promised, and against a model that asks every rule in the slow, obvious way.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::model::field::FieldName;
use crate::model::host::HostPattern;
use crate::model::method::Method;
use crate::model::name::RouteName;
use crate::model::request::RequestView;

#[derive(Debug, Clone)]
struct Request {
    method: &'static str,
    authority: String,
    path: String,
    query: Option<String>,
    fields: Vec<(&'static str, String)>,
    source: IpAddr,
}

impl RequestView for Request {
    fn method(&self) -> Method {
        Method::from_bytes(self.method.as_bytes())
    }
    fn method_bytes(&self) -> &[u8] {
        self.method.as_bytes()
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
        self.query.as_deref().map(str::as_bytes)
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
    fn source(&self) -> IpAddr {
        self.source
    }
}

/// `GET` of `host/path?query`.
fn get(url: &str) -> Request {
    let (authority, rest) = url.split_at(url.find('/').expect("a path"));
    let (path, query) =
        rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query.to_owned())));
    Request {
        method: "GET",
        authority: authority.to_owned(),
        path: path.to_owned(),
        query,
        fields: Vec::new(),
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    }
}

fn any() -> Rule {
    Rule {
        name: RouteName::new("r").expect("a name"),
        priority: 0,
        listeners: Vec::new(),
        hosts: Vec::new(),
        path: PathPattern::Any,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        source: Vec::new(),
    }
}

/// A rule for `host` (`""`: any) and a path: `=/exact`, `~regex`, `/prefix` or nothing.
fn rule(host: &str, path: &str) -> Rule {
    let path = match path.as_bytes().first() {
        None => PathPattern::Any,
        Some(b'=') => PathPattern::Exact(path[1..].to_owned()),
        Some(b'~') => PathPattern::Regex(regex(&path[1..])),
        Some(_) => PathPattern::Prefix(path.to_owned()),
    };
    let hosts = if host.is_empty() { Vec::new() } else { vec![HostPattern::parse(host).expect("a host")] };
    Rule { hosts, path, ..any() }
}

fn regex(text: &str) -> Pattern {
    ::regex::bytes::Regex::new(text).expect("a regex").into()
}

fn exact(value: &str) -> ValuePattern {
    ValuePattern::Exact(value.to_owned())
}

/// Asserts which rule each request takes, and that `explain` says the same.
fn check(rules: &[Rule], cases: &[(&str, Option<usize>)]) {
    for (url, want) in cases {
        check_request(rules, &get(url), *want);
    }
}

fn check_request(rules: &[Rule], request: &Request, want: Option<usize>) {
    let table = Table::new(rules.to_vec());
    assert_eq!(table.find(request), want, "{request:?}");
    let candidates = table.explain(request);
    let taken: Vec<usize> =
        candidates.iter().filter(|c| c.verdict == Verdict::Taken).map(|c| c.rule).collect();
    assert_eq!(taken, Vec::from_iter(want), "explain of {request:?}: {candidates:?}");
    assert_eq!(candidates.len(), rules.len());
}

#[test]
fn the_closest_host_is_asked_first_and_falls_through() {
    let rules = [
        rule("", "/"),
        rule("*.example.com", "/"),
        rule("*.api.example.com", "/v1"),
        rule("a.api.example.com", "/only"),
    ];
    check(
        &rules,
        &[
            ("a.api.example.com/only", Some(3)),
            ("a.api.example.com/v1", Some(2)),
            ("a.api.example.com/else", Some(1)),
            ("api.example.com/v1", Some(1)),
            ("example.com/only", Some(0)),
            ("A.API.Example.com.:8080/only", Some(3)),
            ("/only", Some(0)),
        ],
    );
}

#[test]
fn a_wide_host_with_a_close_path_comes_after_a_close_host() {
    check(
        &[rule("", "=/a"), rule("a.com", "")],
        &[("a.com/a", Some(1)), ("b.com/a", Some(0)), ("b.com/b", None)],
    );
}

#[test]
fn a_route_of_several_hosts_stands_at_the_place_of_each() {
    let both = Rule {
        hosts: vec![HostPattern::parse("a.com").expect("host"), HostPattern::parse("*.b.com").expect("host")],
        ..rule("", "/x")
    };
    let rules = [rule("*.com", "/x"), rule("x.b.com", "/x"), both];
    check(
        &rules,
        &[("a.com/x", Some(2)), ("y.b.com/x", Some(2)), ("x.b.com/x", Some(1)), ("c.com/x", Some(0))],
    );
}

#[test]
fn exact_then_longest_prefix_then_regex_then_anything() {
    let rules = [
        rule("", "/"),
        rule("", "~^/v1/u/[0-9]+$"),
        rule("", "/v1"),
        rule("", "/v1/users/"),
        rule("", "=/v1/users"),
    ];
    check(
        &rules,
        &[
            ("h/v1/users", Some(4)),
            ("h/v1/users/", Some(3)),
            ("h/v1/users/7", Some(3)),
            ("h/v1/usersx", Some(2)),
            ("h/v1/u/7", Some(2)),
            ("h/v1", Some(2)),
            ("h/v1x", Some(0)),
            ("h/", Some(0)),
        ],
    );
    check(
        &[rule("", "/"), rule("", ""), rule("", "~^/u/[0-9]+$")],
        &[("h/u/7", Some(2)), ("h/u/x", Some(0))],
    );
}

#[test]
fn a_path_is_matched_whichever_way_it_is_spelled() {
    let rules = [rule("", "/"), rule("", "/admin"), rule("", "=/caf\u{e9}/%7e"), rule("", "~^/re/$")];
    for path in
        ["/admin", "//admin/x", "/./admin", "/x/../admin", "/%61dmin", "/%2e/admin", "/x/%2E%2e/admin//"]
    {
        check(&rules, &[(&format!("h{path}"), Some(1))]);
    }
    check(&rules, &[("h/caf%c3%a9/~", Some(2)), ("h/re/x/..", Some(3)), ("h/x%2F..%2Fadmin", Some(0))]);
}

#[test]
fn the_star_of_options_only_meets_routes_for_any_path() {
    let star = Request { method: "OPTIONS", path: "*".to_owned(), ..get("h/") };
    check_request(&[rule("", "/v1"), rule("", "/")], &star, Some(1));
    check_request(&[rule("", "/v1"), rule("", "=/")], &star, None);
}

#[test]
fn priority_stands_above_everything() {
    let rules = [
        rule("a.com", "=/x"),
        Rule { priority: 1, ..rule("", "/x") },
        Rule { priority: -1, ..rule("a.com", "") },
    ];
    check(&rules, &[("a.com/x", Some(1)), ("a.com/y", Some(2)), ("b.com/x", Some(1)), ("b.com/y", None)]);
}

#[test]
fn more_conditions_come_first_and_then_the_order_of_the_file() {
    let canary =
        Rule { headers: vec![(FieldName::new("X-Canary").expect("token"), exact("1"))], ..rule("", "/") };
    let post = Rule { methods: vec!["POST".to_owned()], ..canary.clone() };
    let rules = [rule("", "/"), rule("", "/"), canary, post];
    check(&rules, &[("h/", Some(0))]);
    let with =
        Request { fields: vec![("x-canary", "0".to_owned()), ("x-CANARY", "1".to_owned())], ..get("h/") };
    check_request(&rules, &with, Some(2));
    check_request(&rules, &Request { method: "POST", ..with }, Some(3));
    check_request(&rules, &Request { method: "post", ..get("h/") }, Some(0));
}

#[test]
fn query_parameters_are_split_and_left_undecoded() {
    let rules = [
        Rule { query: vec![("v".to_owned(), exact("2"))], ..any() },
        Rule { query: vec![("debug".to_owned(), exact(""))], ..any() },
        Rule { query: vec![("q".to_owned(), ValuePattern::Regex(regex("^a=")))], ..any() },
    ];
    check(
        &rules,
        &[
            ("h/?v=2", Some(0)),
            ("h/?x=1&v=1&v=2", Some(0)),
            ("h/?vv=2&xv=2", None),
            ("h/?v=%32", None),
            ("h/?a&debug", Some(1)),
            ("h/?debug=", Some(1)),
            ("h/?q=a=b", Some(2)),
            ("h/?", None),
            ("h/", None),
        ],
    );
}

#[test]
fn cookies_are_read_from_all_lines() {
    let rules = [Rule { cookies: vec![("id".to_owned(), exact("7"))], ..any() }];
    for (line, want) in [
        ("id=7", Some(0)),
        ("a=b;  id=7 ;c", Some(0)),
        ("xid=7", None),
        ("id=70", None),
        ("ID=7", None),
        ("id", None),
    ] {
        let fields =
            vec![("Cookie", "first=1".to_owned()), ("cookie", line.to_owned()), ("x", "id=7".to_owned())];
        check_request(&rules, &Request { fields, ..get("h/") }, want);
    }
}

#[test]
fn the_source_lies_in_a_network_however_the_socket_shows_it() {
    let rules = [Rule {
        source: vec!["10.0.0.0/8".parse().expect("net"), "2001:db8::/32".parse().expect("net")],
        ..any()
    }];
    for (source, want) in [
        ("10.1.2.3", Some(0)),
        ("::ffff:10.1.2.3", Some(0)),
        ("2001:db8::1", Some(0)),
        ("11.0.0.1", None),
        ("::1", None),
    ] {
        check_request(&rules, &Request { source: source.parse().expect("ip"), ..get("h/") }, want);
    }
}

#[test]
fn explain_names_the_first_condition_that_failed_in_the_order_of_asking() {
    let rules = [
        rule("", "/"),
        rule("b.com", "/"),
        rule("a.com", "=/y"),
        Rule { cookies: vec![("c".to_owned(), exact("1"))], ..rule("a.com", "/x") },
        Rule {
            headers: vec![(FieldName::new("X-Canary").expect("token"), exact("1"))],
            ..rule("*.com", "~^/")
        },
        Rule { methods: vec!["POST".to_owned(), "PUT".to_owned()], ..rule("a.com", "/x/z") },
        rule("*.com", ""),
    ];
    let request = Request { fields: vec![("x-canary", "0\u{7}".to_owned())], ..get("a.com/./x/z") };
    let lost = |text: &str| Verdict::Lost(text.to_owned());
    let want = [
        (2, lost(r#"path: wants "/y", is "/x/z" (sent as "/./x/z")"#)),
        (5, lost("method: wants POST or PUT, is GET")),
        (3, lost(r#"cookie c: wants "1", is absent"#)),
        (1, lost(r#"host: wants "b.com", is "a.com""#)),
        (4, lost(r#"header X-Canary: wants "1", is "0\u{7}""#)),
        (6, Verdict::Taken),
        (0, Verdict::NotAsked),
    ];
    let got = Table::new(rules.to_vec()).explain(&request);
    assert_eq!(got, want.map(|(rule, verdict)| Candidate { rule, verdict }));
}

#[test]
fn a_host_of_a_thousand_labels_and_a_path_of_a_thousand_elements_find_their_route() {
    let rules = [rule("*.example.com", "/a"), rule("", "")];
    check(&rules, &[(&format!("{}example.com{}", "a.".repeat(1000), "/a".repeat(1000)), Some(0))]);
    check(&rules, &[(&format!("{}/a", "a.".repeat(1000)), Some(1))]);
}

// ---- The model: every rule is asked, texts are compared as texts. ----

/// How well the rule's hosts match: bigger is closer.
fn model_host(rule: &Rule, host: &str) -> Option<usize> {
    if rule.hosts.is_empty() {
        return Some(0);
    }
    let closeness = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(text) => (**text == *host).then_some(usize::MAX),
        HostPattern::Wildcard(suffix) => {
            (host.ends_with(&**suffix) && host.len() > suffix.len()).then_some(suffix.len())
        }
    };
    rule.hosts.iter().filter_map(closeness).max()
}

/// How well the path matches, as (kind, length): bigger is closer.
fn model_path(pattern: &PathPattern, path: &str) -> Option<(u8, usize)> {
    match pattern {
        PathPattern::Any => Some((0, 0)),
        PathPattern::Regex(regex) => regex.is_match(path.as_bytes()).then_some((1, 0)),
        PathPattern::Exact(text) => (text == path).then_some((3, 0)),
        PathPattern::Prefix(text) => {
            let text = text.trim_end_matches('/');
            let below = path == text || path.starts_with(&format!("{text}/"));
            below.then_some(if text.is_empty() { (0, 0) } else { (2, text.len()) })
        }
    }
}

fn model_find(rules: &[Rule], request: &Request) -> Option<usize> {
    let key = |(index, rule): (usize, &Rule)| {
        let host = model_host(rule, &request.authority)?;
        let path = model_path(&rule.path, &request.path)?;
        let method = rule.methods.is_empty() || rule.methods.iter().any(|m| m == request.method);
        let header = rule.headers.iter().all(|(name, pattern)| {
            let is_it = |(n, v): &(&str, String)| {
                n.eq_ignore_ascii_case(name.as_str()) && pattern.matches(v.as_bytes())
            };
            request.fields.iter().any(is_it)
        });
        (method && header).then(|| (rule.priority, host, path, rule.condition_count(), Reverse(index)))
    };
    rules.iter().enumerate().filter_map(key).max().map(|(.., Reverse(index))| index)
}

fn some_rule() -> impl Strategy<Value = Rule> {
    let host = prop::sample::select(vec!["a.b.c", "b.c", "x.b.c", "*.b.c", "*.c", "*.a.b.c"]);
    let path = prop_oneof![
        Just(String::new()),
        "(/[ab]){0,3}/?".prop_map(|path| if path.is_empty() { "/".to_owned() } else { path }),
        "=(/[ab]){1,3}/?",
        prop::sample::select(vec!["~^/a", "~b$", "~/a/b", "~^/[ab]+/?$"]).prop_map(str::to_owned),
    ];
    let canary = prop::option::of(prop::sample::select(vec!["0", "1"]));
    (
        prop::collection::vec(host, 0..3),
        path,
        prop::bool::weighted(0.2),
        canary,
        prop_oneof![4 => Just(0), 1 => -1..2],
    )
        .prop_map(|(hosts, path, post, canary, priority)| Rule {
            hosts: hosts.into_iter().map(|host| HostPattern::parse(host).expect("a host")).collect(),
            methods: if post { vec!["POST".to_owned()] } else { Vec::new() },
            headers: canary
                .map(|v| (FieldName::new("x-canary").expect("token"), exact(v)))
                .into_iter()
                .collect(),
            priority,
            ..rule("", &path)
        })
}

fn some_request() -> impl Strategy<Value = Request> {
    let host = prop::sample::select(vec!["a.b.c", "b.c", "x.b.c", "y.a.b.c", "c", ""]);
    let canary = prop::option::of(prop::sample::select(vec!["0", "1"]));
    (host, "(/[ab]{1,2}){0,4}/?", any_bool(), canary).prop_map(|(host, path, post, canary)| Request {
        method: if post { "POST" } else { "GET" },
        authority: host.to_owned(),
        path: if path.is_empty() { "/".to_owned() } else { path },
        fields: canary.map(|v| ("X-Canary", v.to_owned())).into_iter().collect(),
        ..get("h/")
    })
}

fn any_bool() -> impl Strategy<Value = bool> {
    prop::bool::ANY
}

proptest! {
    #[test]
    fn the_table_finds_what_asking_everyone_finds(
        rules in prop::collection::vec(some_rule(), 0..24),
        requests in prop::collection::vec(some_request(), 1..8),
    ) {
        let table = Table::new(rules.clone());
        for request in &requests {
            let want = model_find(&rules, request);
            prop_assert_eq!(table.find(request), want, "{:?}", request);
            let explained = table.explain(request);
            let taken = explained.iter().find(|candidate| candidate.verdict == Verdict::Taken);
            prop_assert_eq!(taken.map(|candidate| candidate.rule), want);
        }
    }
}

#[test]
fn routes_behind_wider_ones_are_hidden() {
    let hidden = |rules: &[Rule]| shadow::hidden(&rules.iter().collect::<Vec<_>>());
    // The same again; a longer prefix is asked first, a shorter one of higher priority before it.
    assert_eq!(hidden(&[rule("a", "/x"), rule("a", "/x/")]), [(1, 0)]);
    assert_eq!(hidden(&[rule("", ""), rule("", "/")]), [(1, 0)]);
    assert_eq!(
        hidden(&[rule("a", "/x"), rule("a", "/x/y"), rule("a", "=/x"), rule("a", "~^/x"), rule("", "")]),
        []
    );
    let first = |host, path| Rule { priority: 1, ..rule(host, path) };
    assert_eq!(hidden(&[rule("a", "/x/y"), first("a", "/x"), rule("a", "/z")]), [(0, 1)]);
    assert_eq!(hidden(&[rule("b.a", "=/x"), first("*.a", "")]), [(0, 1)]);
    assert_eq!(hidden(&[rule("a", "=/x"), first("*.a", "")]), []);
    assert_eq!(hidden(&[rule("a", "~^/x"), rule("a", "~^/x"), rule("a", "")]), [(1, 0)]);
    assert_eq!(hidden(&[rule("a", "~.*"), rule("a", "")]), [(1, 0)]);
    // All of its hosts must be taken, by whomever.
    let both =
        Rule { hosts: [rule("a", ""), rule("b", "")].into_iter().flat_map(|r| r.hosts).collect(), ..any() };
    assert_eq!(hidden(&[rule("a", ""), both.clone()]), []);
    assert_eq!(hidden(&[rule("a", ""), rule("b", ""), both]), [(2, 0)]);
}

#[test]
fn conditions_say_whether_a_route_hides_another() {
    let hidden = |rules: &[Rule]| shadow::hidden(&rules.iter().collect::<Vec<_>>());
    let header = |value: ValuePattern| vec![(FieldName::new("x-a").expect("token"), value)];
    let with = |value| Rule { headers: header(value), ..any() };
    assert_eq!(hidden(&[with(exact("1")), with(exact("2")), with(exact("1"))]), [(2, 0)]);
    assert_eq!(
        hidden(&[with(ValuePattern::Regex(regex("^1"))), with(exact("1")), with(exact("2"))]),
        [(1, 0)]
    );
    let methods = |all: &[&str]| Rule { methods: all.iter().map(|&one| one.to_owned()).collect(), ..any() };
    assert_eq!(hidden(&[methods(&["GET", "POST"]), methods(&["POST"]), methods(&["PUT"]), any()]), [(1, 0)]);
    let from = |net: &str| Rule { source: vec![net.parse().expect("a network")], ..any() };
    assert_eq!(hidden(&[from("10.0.0.0/8"), from("10.1.0.0/16"), from("0.0.0.0/0")]), [(1, 0)]);
    let at = |name: &str| Rule {
        listeners: vec![crate::model::name::ListenerName::new(name).expect("a name")],
        ..any()
    };
    assert_eq!(hidden(&[at("a"), at("b"), any(), at("b")]), [(3, 1)]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is quadratic is seen in real time alone")]
fn ten_thousand_routes_of_one_path_are_not_compared_with_each_other() {
    let one = |number: usize| Rule {
        headers: vec![(FieldName::new("x-a").expect("token"), exact(&number.to_string()))],
        ..rule("a", "/x")
    };
    let rules: Vec<Rule> = (0..10_000).map(one).collect();
    let begun = std::time::Instant::now();
    assert_eq!(shadow::hidden(&rules.iter().collect::<Vec<_>>()), []);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

proptest! {
    #[test]
    fn no_request_takes_a_hidden_route(
        rules in prop::collection::vec(some_rule(), 0..24),
        requests in prop::collection::vec(some_request(), 1..32),
    ) {
        let hidden: Vec<usize> =
            shadow::hidden(&rules.iter().collect::<Vec<_>>()).into_iter().map(|(rule, _)| rule).collect();
        for request in &requests {
            let taken = model_find(&rules, request);
            prop_assert!(taken.is_none_or(|taken| !hidden.contains(&taken)), "{:?} takes {:?}", request, taken);
        }
    }
}
