//! The admin API: is it alive, is it ready, what does it measure, what is its state, and whom does it refuse.

use crate::harness::client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};

fn running() -> (Origin, Proxy) {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    (origin, proxy)
}

fn ask(proxy: &Proxy, head: &str) -> crate::harness::wire::Message {
    client::ask(proxy.admin, format!("{head}Connection: close\r\n\r\n"))
}

#[test]
fn alive_and_ready() {
    let (_origin, proxy) = running();
    for path in ["/livez", "/readyz", "/readyz?local"] {
        assert_eq!(proxy.admin_get(path).status(), 200, "{path}");
    }
}

#[test]
fn metrics_are_well_formed_and_count() {
    let (origin, proxy) = running();
    for _ in 0..7 {
        proxy.get("/");
    }
    proxy.records(7);
    let endpoint = origin.address().to_string();
    assert!((proxy.metric("plimsoll_endpoint_requests_total", &endpoint) - 7.0).abs() < 0.5);
    assert!((proxy.metric("plimsoll_pool_requests_total", "2xx") - 7.0).abs() < 0.5);
    assert!((proxy.metric("plimsoll_terminations_total", "done") - 7.0).abs() < 0.5);
    let page = proxy.admin_get("/metrics");
    let mut seen = std::collections::BTreeSet::new();
    assert!(page.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    for line in page.text().lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(series.to_owned()), "twice: {series}");
        assert!(
            ["plimsoll_", "process_", "tokio_"].iter().any(|prefix| series.starts_with(prefix)),
            "{line}"
        );
    }
}

#[test]
fn status_is_json_and_names_what_runs() {
    let (origin, proxy) = running();
    let answer = proxy.admin_get("/v1/status");
    assert_eq!(answer.status(), 200);
    assert!(answer.field("content-type").is_some_and(|kind| kind.starts_with("application/json")));
    let status: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    let text = status.to_string();
    for part in ["web", "main", &origin.address().to_string(), &proxy.web.to_string()] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn what_is_not_there_is_a_problem() {
    let (_origin, proxy) = running();
    let answer = proxy.admin_get("/v1/nothing");
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.field("content-type").as_deref(), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(problem["status"], 404);
    assert_eq!(
        ask(&proxy, "POST /v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n").status(),
        405
    );
}

#[test]
fn a_foreign_host_is_refused_except_for_health() {
    let (_origin, proxy) = running();
    assert_eq!(ask(&proxy, "GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n").status(), 421);
    assert_eq!(ask(&proxy, "GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1:9900\r\n").status(), 200);
    assert_eq!(ask(&proxy, "GET /livez HTTP/1.1\r\nHost: evil.example\r\n").status(), 200);
    assert_eq!(ask(&proxy, "GET /readyz HTTP/1.1\r\nHost: 10.1.2.3\r\n").status(), 200);
}

#[test]
fn the_admin_api_and_the_health_listener_have_limits_that_are_counted() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).admin("limits = { connections = 2, streams = 0 }").start();
    let hits = |limit: &str| proxy.metric("plimsoll_limit_hits_total", &format!("limit=\"{limit}\""));
    let stream = "GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n";
    assert_eq!(ask(&proxy, stream).status(), 503);
    assert!((hits("admin_streams") - 1.0).abs() < 0.5);
    let before = hits("admin_connections");
    let mut open = client::Client::connect(proxy.admin);
    assert_eq!(open.get("/livez").status(), 200);
    // The second one has the last place.
    assert!(hits("admin_connections") > before + 0.5);
    assert!(hits("health_connections") < 0.5);
}
