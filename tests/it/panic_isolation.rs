//! A panic ends one connection, is counted and logged, and nobody else notices. The panic is provoked by a path that
//! only test builds know.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::until;

#[test]
fn a_panic_ends_its_connection_alone() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .process("workers = 1")
        .environment("PLIMSOLL_TEST_PANIC_PATH", "/panic")
        .start();
    let mut bystander = proxy.connect();
    assert_eq!(bystander.get("/").text(), "ok");
    for _ in 0..3 {
        let mut victim = proxy.connect();
        assert_eq!(victim.get("/").text(), "ok");
        victim.say("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(victim.response("GET").map_or(true, |answer| answer.status() >= 500));
    }
    assert_eq!(bystander.get("/").text(), "ok");
    assert_eq!(proxy.get("/").text(), "ok");
    assert!((proxy.metric("plimsoll_panics_total", "") - 3.0).abs() < 0.5);
    assert!((proxy.metric("plimsoll_terminations_total", "end=\"panic\"") - 3.0).abs() < 0.5);
    until("the panic in the log", || proxy.errors().iter().any(|line| line.contains("panic")).then_some(()));
}

#[test]
fn a_panic_gives_back_what_its_request_held() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .listener("max_connections = 2")
        .environment("PLIMSOLL_TEST_PANIC_PATH", "/panic")
        .text("[pool.main.limits]\nmax_requests = 1\nqueue = 0")
        .start();
    for _ in 0..8 {
        let mut victim = proxy.connect();
        victim.say("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(victim.response("GET").map_or(true, |answer| answer.status() >= 500));
    }
    assert_eq!(proxy.get("/").text(), "ok");
}

#[test]
fn a_request_that_panicked_leaves_a_record() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).environment("PLIMSOLL_TEST_PANIC_PATH", "/panic").start();
    let mut victim = proxy.connect();
    victim.get("/");
    victim.say("GET /panic?why HTTP/1.1\r\nHost: a\r\n\r\n");
    victim.expect_end();
    let records = proxy.records(2);
    assert_eq!(records.len(), 2);
    let record = &records[1];
    assert_eq!((record["end"].as_str(), record["status"].as_u64()), (Some("panic"), Some(0)));
    assert_eq!((record["target"].as_str(), record["route"].as_str()), (Some("/panic?why"), Some("all")));
    assert_eq!(record["client"], victim.stream().local_addr().expect("an address").to_string());
}
