//! Every lint: it fires on the smallest file that deserves it, not on that file's nearest good neighbour, and is silent where
//! its code is allowed.

use std::fmt::Write as _;
use std::path::Path;

use super::*;

const TINY: Machine = Machine { now: SystemTime::UNIX_EPOCH, descriptors: Some(1024), memory: Some(1 << 30) };

fn load(text: &str) -> Config {
    crate::config::load_text(text, Path::new("a.toml"), &|_| None)
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn codes(text: &str) -> Vec<&'static str> {
    findings(&load(text), &Machine::default()).into_iter().map(|finding| finding.lint.code).collect()
}

/// One listener, one route, one pool of two endpoints, and more: `{web}`, `{route}` and `{pool}` are keys of these.
fn site(web: &str, route: &str, pool: &str, more: &str) -> String {
    let bind = if web.contains("bind") { "" } else { "bind = [\"0.0.0.0:80\"]\n" };
    let endpoints =
        if pool.contains("endpoints") { "" } else { "endpoints = [\"10.0.0.1:8000\", \"10.0.0.2:8000\"]\n" };
    let action =
        if ["redirect", "respond"].iter().any(|key| route.contains(key)) { "" } else { "pool = \"p\"\n" };
    format!(
        "[listener.web]\n{bind}{web}\n[[route]]\nname = \"all\"\n{action}{route}\n[[route]]\nname = \"rest\"\n\
         path = \"/rest\"\npool = \"p\"\n[pool.p]\n{endpoints}{pool}\n{more}\n"
    )
}

fn tcp(pool: &str) -> String {
    let endpoints =
        if pool.contains("endpoints") { "" } else { "endpoints = [\"10.0.0.1:9000\", \"10.0.0.2:9000\"]\n" };
    format!(
        "[listener.web]\nbind = [\"0.0.0.0:1\"]\nprotocol = \"tcp\"\npool = \"p\"\n[pool.p]\n{endpoints}{pool}\n"
    )
}

/// A file with the finding, and one that is nearly the same and has none.
struct Case {
    code: &'static str,
    bad: String,
    good: String,
}

fn web(code: &'static str, bad: &str, good: &str) -> Case {
    Case { code, bad: site(bad, "", "", ""), good: site(good, "", "", "") }
}

fn route(code: &'static str, bad: &str, good: &str) -> Case {
    Case { code, bad: site("", bad, "", ""), good: site("", good, "", "") }
}

fn pool(code: &'static str, bad: &str, good: &str) -> Case {
    Case { code, bad: site("", "", bad, ""), good: site("", "", good, "") }
}

fn of_tcp(code: &'static str, bad: &str, good: &str) -> Case {
    Case { code, bad: tcp(bad), good: tcp(good) }
}

fn more(code: &'static str, bad: &str, good: &str) -> Case {
    Case { code, bad: site("", "", "", bad), good: site("", "", "", good) }
}

/// Of probes and of what `[check]` wants.
fn cases_of_times() -> Vec<Case> {
    let endpoints = |count: usize, key: &str| {
        let all: Vec<String> = (0..count).map(|i| format!("\"10.0.{}.{}:80\"", i / 250, i % 250)).collect();
        format!("balance = \"{key}\"\nendpoints = [{}]", all.join(", "))
    };
    vec![
        pool(
            "L001",
            "health = {}\n[check]\nobjective = \"10850ms\"",
            "health = {}\n[check]\nobjective = \"11s\"",
        ),
        pool("L002", "[check]\nobjective = \"1h\"", "health = {}\n[check]\nobjective = \"1h\""),
        pool(
            "L003",
            "timeouts = { response_header = \"23001ms\" }\nretry = \"off\"\n[check]\nclient_timeout = \"30s\"",
            "timeouts = { response_header = \"23s\" }\nretry = \"off\"\n[check]\nclient_timeout = \"30s\"",
        ),
        pool("L006", &endpoints(257, "rendezvous"), &endpoints(256, "rendezvous")),
        pool("L006", &endpoints(257, "rendezvous"), &endpoints(257, "maglev")),
        of_tcp(
            "L009",
            "health = { check = \"tcp\" }\nendpoints = [\"10.0.0.1:6443\"]",
            "health = { check = \"tcp\" }\nendpoints = [\"10.0.0.1:7000\"]",
        ),
        of_tcp(
            "L009",
            "health = { check = \"tcp\", port = 8080 }",
            "health = { check = \"http\", port = 8080 }",
        ),
        pool(
            "L009",
            "health = { check = \"tcp\" }",
            "health = { check = \"tcp\", send = \"a\", expect = \"b\" }",
        ),
        pool(
            "L011",
            "health = { expect_status = [\"200-399\"] }",
            "health = { expect_status = [\"200-299\", \"304\"] }",
        ),
        pool(
            "L012",
            "outlier = \"off\"\nhealth = { port = 9000 }",
            "outlier = \"off\"\nhealth = { port = 8000 }",
        ),
        pool("L012", "outlier = \"off\"\nhealth = { port = 9000 }", "health = { port = 9000 }"),
        of_tcp("L013", "health = { path = \"/primary\" }", "health = { path = \"/replica\" }"),
        of_tcp(
            "L013",
            "health = { path = \"/primary\" }",
            "exclusive = true\nhealth = { path = \"/primary\" }",
        ),
        pool("L014", "timeouts = { keep_alive = \"75s\" }", "timeouts = { keep_alive = \"60s\" }"),
        pool(
            "L015",
            "retry = { on = [\"timeout\"], per_try_timeout = \"8s\", within = \"17s\" }\n[check]\nclient_timeout = \"28s\"\n\
             [pool.p.timeouts]\nresponse_header = \"20s\"",
            "retry = { on = [\"timeout\"], per_try_timeout = \"8s\", within = \"17s\", attempts = 2 }\n[check]\nclient_timeout = \"28s\"\n\
             [pool.p.timeouts]\nresponse_header = \"20s\"",
        ),
        pool(
            "L016",
            "retry = { on = [\"timeout\"] }",
            "retry = { on = [\"timeout\"], per_try_timeout = \"3s\" }",
        ),
    ]
}

/// Of retries, pools and their sizes.
fn cases_of_pools() -> Vec<Case> {
    let weights = |backup: u16| {
        format!(
            "endpoints = [\"10.0.0.1:8000\", {{ address = \"10.0.0.2:8000\", tier = 1, weight = {backup} }}]"
        )
    };
    let zones = |each: u32| {
        format!(
            "load = \"800/s\"\nendpoints = [{{ address = \"10.0.0.1:8000\", zone = \"a\", capacity = \"{each}/s\" }}, \
             {{ address = \"10.0.0.2:8000\", zone = \"b\", capacity = \"{each}/s\" }}]"
        )
    };
    let backup = "endpoints = [\"10.0.0.1:8000\", { address = \"10.0.0.2:8000\", tier = 1 }]";
    vec![
        pool("L007", "retry = { attempts = 1, hedge = {} }", "retry = { hedge = {} }"),
        pool(
            "L007",
            "retry = { per_try_timeout = \"1s\", on = [\"connect\", \"502\"] }",
            "retry = { per_try_timeout = \"1s\", on = [\"timeout\"] }",
        ),
        pool(
            "L017",
            "retry = { non_idempotent = true }",
            "retry = { non_idempotent = \"with_idempotency_key\" }",
        ),
        route(
            "L017",
            "retry = { non_idempotent = true }",
            "retry = { non_idempotent = true, on = [\"connect\"] }",
        ),
        route(
            "L018",
            "rate_limit = { key = \"source\", rate = \"10/s\", burst = 2560 }",
            "rate_limit = { key = \"source\", rate = \"10/s\", burst = 2559 }",
        ),
        pool(
            "L020",
            &format!("sticky = {{}}\n{backup}"),
            &format!("sticky = {{ failback = \"idle\", max_idle = \"30m\" }}\n{backup}"),
        ),
        pool("L020", &format!("sticky = {{}}\n{backup}"), "sticky = {}"),
        more(
            "L023",
            "[pool.q]\nendpoints = [\"10.0.0.3:8000\"]",
            "[pool.q]\nrequired = true\nendpoints = [\"10.0.0.3:8000\"]",
        ),
        Case {
            code: "L023",
            bad: site(
                "",
                "",
                "",
                "[pool.q]\nfailover = [\"r\"]\nendpoints = [\"10.0.0.3:8000\"]\n[pool.r]\nrequired = true\nendpoints = [\"10.0.0.4:8000\"]",
            ),
            good: site(
                "",
                "",
                "failover = [\"q\"]",
                "[pool.q]\nfailover = [\"r\"]\nendpoints = [\"10.0.0.3:8000\"]\n[pool.r]\nendpoints = [\"10.0.0.4:8000\"]",
            ),
        },
        pool("L024", &weights(0), &weights(1)),
        pool("L025", &zones(700), &zones(800)),
        pool("L025", &zones(300), &zones(900)),
        pool("L030", "endpoints = [\"10.0.0.1:443\"]", "endpoints = [\"10.0.0.1:443\"]\ntls = {}"),
        pool("L033", "min_available = 2", "min_available = 1"),
        pool("L033", "min_available = \"100%\"", "min_available = \"50%\""),
    ]
}

/// Of trust.
fn cases_of_trust() -> Vec<Case> {
    let tls = "[pool.p.tls]\nverify = { off = \"old\" }";
    let limit = |key: &str| format!("rate_limit = {{ key = \"{key}\", rate = \"5/s\" }}");
    let by_source = limit("source");
    vec![
        more("L004", tls, "[pool.p.tls]\nserver_name = \"a\""),
        more(
            "L005",
            "[admin]\nbind = \"10.0.0.1:9900\"\ntoken_file = \"t\"",
            "[admin]\nbind = \"127.0.0.1:9900\"\ntoken_file = \"t\"",
        ),
        web(
            "L010",
            "accept_proxy_protocol = true",
            "accept_proxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\"]",
        ),
        Case {
            code: "L019",
            bad: site("client_address = \"cf-connecting-ip\"", &by_source, "", ""),
            good: site(
                "client_address = \"cf-connecting-ip\"\ntrusted_proxies = [\"104.16.0.0/13\"]",
                &by_source,
                "",
                "",
            ),
        },
        Case {
            code: "L019",
            bad: site("allow = [\"104.16.0.0/13\"]", "", "sticky = { table = \"source\" }", ""),
            good: site("allow = [\"10.0.0.0/8\"]", "", "sticky = { table = \"source\" }", ""),
        },
        web(
            "L019",
            "trusted_proxies = [\"10.0.0.0/8\"]\nmax_connections_per_source = 10",
            "max_connections_per_source = 10",
        ),
        web("L026", "trusted_proxies = [\"0.0.0.0/0\"]", "trusted_proxies = [\"10.0.0.0/8\"]"),
        web("L026", "trusted_proxies = [\"::/0\"]", "trusted_proxies = [\"::/0\"]\nallow = [\"fd00::/8\"]"),
        route("L027", &limit("header:X-Forwarded-For"), &by_source),
        Case {
            code: "L028",
            bad: site("", "basic_auth = { users_file = \"u\" }", "", ""),
            good: site("bind = [\"127.0.0.1:80\"]", "basic_auth = { users_file = \"u\" }", "", ""),
        },
        route(
            "L029",
            "forward_auth = { pool = \"p\", path = \"/auth\", on_error = \"allow\" }",
            "forward_auth = { pool = \"p\", path = \"/auth\" }",
        ),
        route(
            "L034",
            "methods = [\"POST\"]\nredirect = { to = \"/rest\", status = 301 }",
            "methods = [\"POST\"]\nredirect = { to = \"/rest\", status = 307 }",
        ),
    ]
}

/// Of routes.
fn cases_of_routes() -> Vec<Case> {
    let redirect = |to: &str| format!("redirect = {{ to = \"{to}\" }}");
    let second = |to: &str| {
        format!(
            "path_prefix = \"/old\"\n{}\n[[route]]\nname = \"other\"\npath_prefix = \"/new\"\n{}",
            redirect("/new/"),
            redirect(to)
        )
    };
    vec![
        route("L021", &redirect("http://{host}{uri}"), &redirect("https://{host}{uri}")),
        route("L021", &redirect("{path}"), &redirect("/rest")),
        route("L021", &second("/old/"), &second("/rest")),
        route(
            "L021",
            &format!("path_regex = \"^/a(.*)$\"\n{}", redirect("/a/b{1}")),
            &format!("path_regex = \"^/a(.*)$\"\n{}", redirect("/b{1}")),
        ),
        route("L022", "path = \"/rest\"", "path = \"/other\""),
        route("L022", "path_regex = \"^api/\"", "path_regex = \"^/api/\""),
        route(
            "L022",
            "host = \"a.example\"\nheaders = { host = \"b.example\" }",
            "host = \"a.example\"\nheaders = { host = \"a.example:80\" }",
        ),
        Case {
            code: "L022",
            bad: site("allow = [\"10.0.0.0/8\"]", "source = [\"192.168.0.0/16\"]", "", ""),
            good: site("allow = [\"10.0.0.0/8\"]", "source = [\"10.1.0.0/16\"]", "", ""),
        },
    ]
}

fn cases() -> Vec<Case> {
    let all = [cases_of_times(), cases_of_pools(), cases_of_trust(), cases_of_routes()];
    all.into_iter().flatten().collect()
}

#[test]
fn every_lint_finds_what_it_is_for_and_nothing_beside_it() {
    let mut wrong = String::new();
    for Case { code, bad, good } in cases() {
        let (found, clean) = (codes(&bad), codes(&good));
        if !found.contains(&code) || clean.contains(&code) {
            let _infallible = writeln!(wrong, "{code}: {found:?} in\n{bad}\nand {clean:?} in\n{good}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_lint_is_silent_where_its_code_is_allowed() {
    for Case { code, bad, .. } in cases() {
        let mut config = load(&bad);
        config.check.allow_codes = vec![code.to_owned()];
        let left = findings(&config, &Machine::default());
        assert!(left.iter().all(|finding| finding.lint.code != code), "{code}: {left:?}");
    }
}

#[test]
fn every_code_has_a_case_and_one_meaning() {
    // Files and machines are in tests of their own.
    let elsewhere = ["L008", "L031", "L032"];
    let cases = cases();
    for (at, lint) in LINTS.iter().enumerate() {
        assert_eq!(lint.code, format!("L{:03}", at + 1));
        assert!(
            cases.iter().any(|case| case.code == lint.code) || elsewhere.contains(&lint.code),
            "{}",
            lint.code
        );
        assert!(LINTS.iter().filter(|other| other.name == lint.name).count() == 1, "{}", lint.name);
        assert!(
            lint.reason.ends_with('.') && !lint.remedy.ends_with('.') && !lint.remedy.contains('|'),
            "{}",
            lint.code
        );
    }
}

#[test]
fn a_finding_says_where_it_stands() {
    let text = "[listener.web]\nbind = [\"127.0.0.1:80\"]\n\n[[route]]\npool = \"p\"\n[[route]]\npool = \"p\"\n\
                [defaults.pool]\nmin_available = 2\n[defaults.pool.timeouts]\nkeep_alive = \"75s\"\n\
                [pool.p]\nlike = \"q\"\nendpoints = [\"10.0.0.1:8000\", \"10.0.0.2:8000\"]\n\
                [pool.q]\nendpoints = [\"10.0.0.1:8000\", \"10.0.0.2:8000\"]\nretry = { non_idempotent = true }\n";
    let found = findings(&load(text), &Machine::default());
    let at = |finding: &Finding| {
        let place = finding.place.as_ref().expect("a place");
        format!(
            "{} {} {}:{}:{}",
            finding.lint.code,
            finding.key,
            place.file.display(),
            place.line,
            place.column
        )
    };
    assert_eq!(
        found.iter().map(at).collect::<Vec<_>>(),
        [
            "L014 pool.p.timeouts.keep_alive a.toml:11:1",
            "L017 pool.p.retry.non_idempotent a.toml:17:11",
            "L022 route.route-2 a.toml:6:1",
            "L023 pool.q a.toml:15:7",
            "L033 pool.p.min_available a.toml:9:1",
            "L033 pool.q.min_available a.toml:9:1",
        ]
    );
}

#[test]
fn ceilings_are_held_to_the_machine() {
    let of = |keys: &str, machine: &Machine| -> Vec<&str> {
        findings(&load(&site(keys, "", "", "[process]\noverload = \"off\"")), machine)
            .into_iter()
            .map(|finding| finding.lint.code)
            .collect()
    };
    assert_eq!(of("max_connections = 449", &TINY), ["L031"]);
    assert_eq!(of("max_connections = 448", &TINY), Vec::<&str>::new());
    let large = Machine { descriptors: Some(1 << 20), ..TINY };
    assert_eq!(of("max_connections = 32769", &large), ["L032"]);
    assert_eq!(of("max_connections = 32768", &large), Vec::<&str>::new());
    assert_eq!(of("max_connections = 1000000", &Machine::default()), Vec::<&str>::new(), "nothing is known");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is quadratic is seen in real time alone")]
fn a_thousand_pools_and_ten_thousand_routes_take_no_time_to_look_at() {
    let mut text = String::from("[listener.web]\nbind = [\"127.0.0.1:80\"]\n");
    for i in 0..10_000 {
        let _infallible = write!(
            text,
            "[[route]]\nhost = \"h{}.example\"\npath_prefix = \"/p{}\"\npool = \"p{}\"\n",
            i / 10,
            i % 10,
            i % 1000
        );
    }
    for i in 0..1000 {
        let endpoints: Vec<String> =
            (0..10).map(|j| format!("\"10.{}.{}.{j}:80\"", i / 250, i % 250)).collect();
        let _infallible = writeln!(
            text,
            "[pool.p{i}]\nhealth = {{ check = \"tcp\" }}\nendpoints = [{}]",
            endpoints.join(", ")
        );
    }
    let config = load(&text);
    let begun = std::time::Instant::now();
    let found = findings(&config, &Machine::default());
    assert_eq!(found.len(), 1000);
    // Without optimization; what is quadratic takes minutes.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
