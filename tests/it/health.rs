//! How well the node is, as a balancer above or a kubelet asks it.

use crate::harness::client;
use crate::harness::moody::Moody;
use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::{free_port, own_ip, until};

#[test]
fn health_names_every_pool_and_its_status_first() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let whole = proxy.admin_get("/health");
    assert_eq!(whole.status(), 200);
    assert!(
        whole.text().starts_with("{\"status\":\"healthy\",\"components\":{\"main\":{"),
        "{}",
        whole.text()
    );
    let pool = proxy.admin_get("/health/pools/main");
    assert!(pool.status() == 200 && pool.text().starts_with("{\"status\":\"healthy\""), "{}", pool.text());
    assert_eq!(proxy.admin_get("/health/pools/other").status(), 404);
}

#[test]
fn a_balancer_may_ask_by_head_under_any_host() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut asking = client::Client::connect(proxy.admin);
    asking.say("HEAD /health HTTP/1.1\r\nHost: lb.example\r\nConnection: close\r\n\r\n");
    let answer = asking.answer_to("HEAD");
    assert_eq!((answer.status(), answer.body.len()), (200, 0));
}

#[test]
fn an_endpoint_that_may_not_be_picked_degrades_its_pool() {
    let origin = Origin::saying("ok");
    let idle = format!("{{ address = \"{}\", weight = 0 }}", origin.address());
    let other = format!("[pool.other]\nendpoints = [{idle}, \"127.0.0.1:9\"]\n");
    let proxy = Setup::http(&[origin.address()]).text(&other).start();
    let answer = proxy.admin_get("/health");
    let health: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((answer.status(), &health["status"]), (200, &"degraded".into()));
    assert_eq!(health["components"]["main"]["status"], "healthy");
    let message = health["components"]["other"]["message"].as_str().unwrap_or_default();
    assert!(message.ends_with("weight 0"), "{message}");
}

#[test]
fn pools_show_the_whole_state_of_their_endpoints() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    // Which tier serves is decided a moment after the start.
    let pool = until("a tier to serve", || {
        let pool = proxy.admin_json("/v1/pools/main");
        (pool["serving_tier"] == 0).then_some(pool)
    });
    assert_eq!(proxy.admin_json("/v1/pools"), serde_json::json!([pool]));
    let endpoint = &pool["endpoints"][0];
    assert_eq!((&endpoint["usable"], &endpoint["admin_state"]), (&true.into(), &"ready".into()));
    assert_eq!(endpoint["probe"]["state"], "off");
    assert_eq!(proxy.admin_get("/v1/pools/other").status(), 404);
}

#[test]
fn the_open_listener_tells_health_to_anybody_and_nothing_else() {
    let origin = Origin::saying("ok");
    let open = free_port(own_ip());
    let proxy = Setup::http(&[origin.address()]).text(&format!("[health]\nbind = [\"{open}\"]\n")).start();
    for path in ["/livez", "/readyz", "/health", "/health/pools/main"] {
        assert_eq!(client::get(open, path).status(), 200, "{path}");
    }
    assert_eq!(client::get(open, "/v1/status").status(), 404);
    assert_eq!(client::get(open, "/metrics").status(), 404);
    drop(proxy);
}

#[test]
fn the_route_action_and_the_health_api_judge_a_pool_alike() {
    let origin = Moody::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .routes(
            "[[route]]\nname = \"well\"\npath = \"/well\"\nhealth = \"main\"\n[[route]]\nname = \"all\"\npool = \"main\"\n",
        )
        .text("[pool.main.breaker]\nscope = \"pool\"\nfailure_threshold = 1\nopen_time = \"1h\"")
        .start();
    let both = || (proxy.get("/well").status(), proxy.admin_get("/health/pools/main").status());
    assert_eq!(both(), (200, 200));
    origin.answers(500);
    assert_eq!(proxy.get("/").status(), 500);
    until("both to see the breaker", || (both() == (503, 503)).then_some(()));
    let message = proxy.admin_json("/health/pools/main")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.ends_with("breaker open"), "{message}");
}
