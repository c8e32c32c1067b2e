//! The file on disk read again: by a signal, by the admin API, by the command; and what a bad one leads to.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Output;

use rustix::process::Signal;

use crate::harness::client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::harness::until;

const ROUTE: &str = "[[route]]\nname = \"all\"\nrespond = { status = 200, body = \"before\" }\n";

fn start() -> (Origin, Proxy) {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).routes(ROUTE).start();
    (origin, proxy)
}

/// Writes the file of a running process anew, as the change of its text has it.
fn rewrite(proxy: &Proxy, from: &str, to: &str) {
    let file = proxy.directory.join("plimsoll.toml");
    let text = fs::read_to_string(&file).expect("its file");
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).expect("it can be written");
}

fn reload(proxy: &Proxy, more: &[&str]) -> Output {
    let admin = proxy.admin.to_string();
    command(&[&["reload", "--admin", &admin], more].concat())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn sighup_reads_the_file_again_and_a_bad_one_changes_nothing() {
    let (_origin, proxy) = start();
    let mut stays = proxy.connect();
    assert_eq!(stays.get("/").text(), "before");
    assert_eq!(proxy.metric("plimsoll_config_last_reload_successful", ""), 1.0);
    rewrite(&proxy, "before", "after");
    proxy.signal(Signal::HUP);
    until("the new answer", || (stays.get("/").text() == "after").then_some(()));
    let published = proxy.metric("plimsoll_config_last_reload_success_timestamp_seconds", "");
    rewrite(&proxy, "status = 200", "status = 2000\nstatsu = 1");
    proxy.signal(Signal::HUP);
    let failed = || (proxy.metric("plimsoll_reloads_total", "failed") == 1.0).then_some(());
    until("the reload to be refused", failed);
    assert_eq!(stays.get("/").text(), "after");
    assert_eq!(proxy.metric("plimsoll_config_last_reload_successful", ""), 0.0);
    assert_eq!(proxy.metric("plimsoll_config_last_reload_success_timestamp_seconds", ""), published);
    assert_eq!(proxy.metric("plimsoll_config_generation", ""), 2.0);
    let refused = proxy.events().into_iter().find(|event| event["to"] == "refused").expect("an event");
    let place = refused["evidence"][0]["result"].as_str().expect("a place").to_owned();
    assert!(place.contains("plimsoll.toml:"), "{refused}");
    until("the log", || proxy.errors().iter().any(|line| line.contains("statsu")).then_some(()));
}

#[test]
fn the_command_waits_and_its_status_says_how_it_ended() {
    let (_origin, proxy) = start();
    rewrite(&proxy, "before", "after");
    let done = reload(&proxy, &["--wait"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains("generation 2"), "{}", text(&done));
    assert_eq!(proxy.get("/").text(), "after");
    rewrite(&proxy, "[process]", "[process]\nworkers = 3\nworkers_ = 3");
    let file = proxy.directory.join("plimsoll.toml").display().to_string();
    let (bad, checked) = (reload(&proxy, &["--wait"]), command(&["check", "--config", &file]));
    assert_eq!(bad.status.code(), Some(2), "{}", text(&bad));
    assert_eq!(text(&bad), text(&checked), "every error as check prints it");
    rewrite(&proxy, "\nworkers = 2\n", "\n");
    rewrite(&proxy, "\nworkers_ = 3", "");
    let refused = reload(&proxy, &["--wait"]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("workers"), "{}", text(&refused));
    assert_eq!(proxy.get("/").text(), "after");
}

#[test]
fn a_command_that_does_not_wait_has_it_done_all_the_same() {
    let (_origin, proxy) = start();
    rewrite(&proxy, "before", "after");
    let asked = reload(&proxy, &[]);
    assert_eq!(asked.status.code(), Some(0), "{}", text(&asked));
    until("the new answer", || (proxy.get("/").text() == "after").then_some(()));
}

#[test]
fn what_needs_a_restart_is_said_and_not_done_in_silence() {
    let (_origin, proxy) = start();
    rewrite(&proxy, "[process]", "[process]\nstate_dir = \"state\"");
    let done = reload(&proxy, &["--wait"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains("process.state_dir"), "{}", text(&done));
}

#[test]
fn the_level_of_the_log_changes_in_place() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).log("access = \"off\"\nlevel = \"error\"").start();
    assert!(proxy.errors().is_empty(), "{:?}", proxy.errors());
    rewrite(&proxy, "level = \"error\"", "level = \"info\"");
    let done = reload(&proxy, &["--wait"]);
    assert!(!text(&done).contains("log.level"), "{}", text(&done));
    until("a line", || proxy.errors().iter().any(|line| line.contains("published")).then_some(()));
}

#[test]
fn a_configuration_in_a_body_is_for_the_owner_of_the_process() {
    let (_origin, proxy) = start();
    let body = fs::read_to_string(proxy.directory.join("plimsoll.toml")).expect("its file");
    let answer = proxy.admin_change("POST", "/v1/reload", &body.replace("before", "after"));
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.field("content-type").as_deref(), Some("application/problem+json"));
    assert_eq!(proxy.get("/").text(), "before");

    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).routes(ROUTE).unix_admin().start();
    let body = fs::read_to_string(proxy.directory.join("plimsoll.toml")).expect("its file");
    for (body, status, serves) in [
        (body.replace("before", "after"), 200, "after"),
        (body.replace("before", "later\"\nbody = \"twice"), 422, "after"),
        (String::new(), 200, "before"),
    ] {
        let socket = UnixStream::connect(proxy.directory.join("admin.sock")).expect("its socket");
        let answer = client::exchange_unix(
            socket,
            &format!(
                "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            ),
        );
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("\"diagnostics\":[{"), status == 422, "{answer}");
        assert_eq!(proxy.get("/").text(), serves);
    }
}
