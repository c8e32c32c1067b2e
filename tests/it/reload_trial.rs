//! Reloads that are planned, refused by the guard, and put on trial.

use std::fs;

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::harness::{free_port, own_ip, until};

/// A proxy with one origin, and its file.
fn start(origin: &Origin) -> (Proxy, String) {
    let proxy = Setup::http(&[origin.address()]).process("warm_timeout = \"300ms\"").start();
    let text = fs::read_to_string(proxy.directory.join("plimsoll.toml")).expect("its file");
    (proxy, text)
}

fn write(proxy: &Proxy, text: &str) {
    fs::write(proxy.directory.join("plimsoll.toml"), text).expect("its file");
}

fn reload(proxy: &Proxy, query: &str) -> (u16, String) {
    let answer = proxy.admin_change("POST", &format!("/v1/reload{query}"), "");
    (answer.status(), answer.text())
}

#[test]
fn what_leaves_nothing_usable_is_refused_unless_it_is_forced() {
    let origin = Origin::saying("old");
    let (proxy, text) = start(&origin);
    let dead = free_port(own_ip());
    write(&proxy, &text.replace(&origin.address().to_string(), &dead.to_string()));
    let (status, why) = reload(&proxy, "");
    assert_eq!(status, 409, "{why}");
    for part in ["pool \\\"main\\\" would have 0 usable endpoints where 1 are", "0 of 1 new ones", "--force"]
    {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(proxy.get("/").text(), "old");
    let (status, why) = reload(&proxy, "?force");
    assert_eq!(status, 200, "{why}");
    assert_eq!(proxy.get("/").status(), 503);
}

#[test]
fn a_new_one_that_is_well_takes_the_place_of_all() {
    let (old, new) = (Origin::saying("old"), Origin::saying("new"));
    let (proxy, text) = start(&old);
    write(&proxy, &text.replace(&old.address().to_string(), &new.address().to_string()));
    assert_eq!(reload(&proxy, "").0, 200);
    assert_eq!(proxy.get("/").text(), "new");
}

#[test]
fn what_nobody_confirms_is_taken_back() {
    let (old, new) = (Origin::saying("old"), Origin::saying("new"));
    let (proxy, text) = start(&old);
    let hash = proxy.admin_json("/v1/config")["config_hash"].clone();
    write(&proxy, &text.replace(&old.address().to_string(), &new.address().to_string()));
    assert_eq!(reload(&proxy, "?confirm=2s").0, 200);
    assert_eq!(proxy.get("/").text(), "new");
    assert!(proxy.admin_json("/v1/status")["confirm_until"].is_string());
    until("it to go back", || (proxy.admin_json("/v1/config")["config_hash"] == hash).then_some(()));
    assert_eq!(proxy.get("/").text(), "old");
    let event = until("its event", || proxy.events().into_iter().find(|event| event["to"] == "gone back"));
    assert!(event["because"].as_str().is_some_and(|why| why.contains("nobody confirmed it")), "{event}");
    assert_eq!(proxy.admin_change("POST", "/v1/reload/confirm", "").status(), 409, "too late");
}

#[test]
fn what_is_confirmed_stays() {
    let (old, new) = (Origin::saying("old"), Origin::saying("new"));
    let (proxy, text) = start(&old);
    write(&proxy, &text.replace(&old.address().to_string(), &new.address().to_string()));
    let (admin, address) = (proxy.admin.to_string(), |line: &[&str]| command(line));
    let reloaded = address(&["reload", "--wait", "--confirm", "1h", "--admin", &admin]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert_eq!(proxy.metric("plimsoll_config_on_trial", ""), 1.0);
    let confirmed = address(&["confirm", "--admin", &admin]);
    assert!(confirmed.status.success(), "{confirmed:?}");
    assert_eq!(proxy.metric("plimsoll_config_on_trial", ""), 0.0);
    assert!(proxy.admin_json("/v1/config")["confirm_until"].is_null());
    assert_eq!(proxy.get("/").text(), "new");
    assert_eq!(address(&["confirm", "--admin", &admin]).status.code(), Some(1), "nothing waits any more");
}

#[test]
fn a_trial_under_which_requests_fail_ends_at_once() {
    let origin = Origin::saying("well");
    let (proxy, text) = start(&origin);
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    write(
        &proxy,
        &text.replace("name = \"all\"\npool = \"main\"", "name = \"all\"\nrespond = { status = 500 }"),
    );
    assert_eq!(reload(&proxy, "?confirm=1h").0, 200);
    until("it to go back", || {
        proxy.get("/");
        proxy.events().into_iter().find(|event| event["to"] == "gone back")
    });
    assert_eq!(proxy.get("/").text(), "well");
    let event = proxy.events().into_iter().find(|event| event["to"] == "gone back").expect("its event");
    assert!(
        event["because"].as_str().is_some_and(|why| why.contains("requests failed, where 0.0 % did")),
        "{event}"
    );
    assert!(event["evidence"][0]["text"].as_str().is_some_and(|text| text.contains("endpoints are usable")));
}

#[test]
fn a_plan_says_what_a_reload_would_change_and_changes_nothing() {
    let origin = Origin::saying("old");
    let (proxy, text) = start(&origin);
    let file = proxy.directory.join("plimsoll.toml");
    let (file, admin) = (file.to_str().expect("text"), proxy.admin.to_string());
    let plan = |file: &str| command(&["plan", file, "--admin", &admin]);
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let same = plan(file);
    assert!(same.status.success() && said(&same).ends_with("nothing changes\n"), "{same:?}");

    let added = free_port(own_ip());
    write(
        &proxy,
        &text.replace("endpoints = [", &format!("slow_start = \"9s\"\nendpoints = [\"{added}\", ")),
    );
    let planned = plan(file);
    assert!(planned.status.success(), "{planned:?}");
    let said_now = said(&planned);
    assert!(said_now.contains("pool main: changed\n  slow_start: \"0s\" -> \"9s\"\n"), "{said_now}");
    assert!(said_now.contains(&format!("endpoint main/{added}: added\n")), "{said_now}");
    assert_eq!(proxy.admin_json("/v1/status")["generation"], 1, "nothing has changed");

    write(&proxy, &text.replace("workers = 2", "workers = 3"));
    let refused = plan(file);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    write(&proxy, "nonsense");
    assert_eq!(plan(file).status.code(), Some(2));
    write(&proxy, &text);
    let elsewhere = proxy.directory.join("other.toml");
    fs::write(&elsewhere, &text).expect("a file");
    let body = plan(elsewhere.to_str().expect("text"));
    assert_eq!(body.status.code(), Some(2), "a body goes over the unix socket only: {body:?}");
}
