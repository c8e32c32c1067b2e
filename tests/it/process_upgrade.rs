//! The process replaced by another one: what is open stays open, what is known stays known, and a new process that does not
//! get ready changes nothing. `tests/clients/upgrades.py` does it ten times in a row under load.

use std::fs;
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::harness::{free_port, own_ip, until};

fn upgrade(proxy: &Proxy) -> Output {
    command(&["upgrade", "--admin", &proxy.admin.to_string()])
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn echo() -> Origin {
    Origin::start(|mut session| {
        loop {
            let before = session.wire.received.len();
            if session.wire.fill()? == 0 {
                return Ok(());
            }
            let new = session.wire.received[before..].to_vec();
            session.send(new)?;
        }
    })
}

#[test]
fn a_session_goes_on_in_the_old_process_which_is_listed_until_it_ends() {
    let origin = echo();
    let mut proxy = Setup::tcp(&[origin.address()]).start();
    let mut session = proxy.connect();
    assert_eq!(session.say("before").take(6).expect("an echo"), b"before");
    let old = proxy.id();
    let new = proxy.upgrade();
    assert_ne!(old, new);
    let listed = until("the old process to be listed", || {
        let status = proxy.admin_json("/v1/status");
        (status["old_processes"][0]["connections"] == 1).then_some(status)
    });
    assert_eq!(listed["old_processes"][0]["pid"], old);
    let shown = command(&["status", "--admin", &proxy.admin.to_string()]);
    let page = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(page.contains(&format!("process {old}, replaced by an upgrade")), "{page}");
    assert_eq!(session.say("after").take(5).expect("an echo"), b"after");
    assert_eq!(proxy.connect().say("new").take(3).expect("an echo"), b"new");
    drop(session);
    assert!(proxy.wait().success(), "the old process ends with its last connection");
    until("nobody to be listed", || {
        (proxy.admin_json("/v1/status")["old_processes"] == Value::Array(Vec::new())).then_some(())
    });
    assert_eq!(proxy.serving(), new);
}

#[test]
fn an_idle_connection_has_one_more_answer() {
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).start();
    let mut idle = proxy.connect();
    assert_eq!(idle.get("/").status(), 200);
    let first = proxy.upgrade();
    let answer = idle.get("/");
    assert_eq!((answer.status(), answer.field("connection")), (200, Some("close".to_owned())));
    idle.expect_end();
    proxy.wait();
    // And again, from a process that has been handed its sockets itself.
    assert_ne!(proxy.upgrade(), first);
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn more_and_fewer_workers_leave_no_socket_alone() {
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).process("workers = 3").start();
    for workers in [1, 4, 2] {
        let file = proxy.directory.join("plimsoll.toml");
        let text = fs::read_to_string(&file).expect("its file");
        let line = text.lines().find(|line| line.starts_with("workers")).expect("a line").to_owned();
        fs::write(&file, text.replace(&line, &format!("workers = {workers}"))).expect("it can be written");
        proxy.upgrade();
        // The kernel chooses a socket by the client's port: each is chosen now and then.
        for _ in 0..60 {
            assert_eq!(proxy.get("/").status(), 200);
        }
    }
}

#[test]
fn a_new_process_that_ends_or_hangs_or_has_a_broken_file_changes_nothing() {
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).process("upgrade_timeout = \"1s\"").linked().start();
    let mut stays = proxy.connect();
    let mut still = |proxy: &mut Proxy| {
        assert_eq!(stays.get("/").status(), 200);
        assert_eq!(proxy.get("/").status(), 200);
        assert_eq!(proxy.serving(), proxy.id());
        assert_eq!(proxy.admin_get("/readyz").status(), 200);
        assert!(proxy.ended().is_none());
    };
    proxy.install("#!/bin/sh\nexit 3\n");
    let output = upgrade(&proxy);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("exit status: 3"), "{}", errors(&output));
    still(&mut proxy);
    proxy.install("#!/bin/sh\nexec sleep 1000\n");
    let output = upgrade(&proxy);
    assert!(errors(&output).contains("not ready within 1s"), "{}", errors(&output));
    still(&mut proxy);
    let real = proxy_binary(&proxy);
    proxy.install(&format!("#!/bin/sh\nexec {real} \"$@\"\n"));
    let file = proxy.directory.join("plimsoll.toml");
    let good = fs::read_to_string(&file).expect("its file");
    fs::write(&file, good.replace("protocol", "protocoll")).expect("it can be written");
    let output = upgrade(&proxy);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("protocoll"), "{}", errors(&output));
    still(&mut proxy);
    fs::write(&file, good).expect("it can be written");
    proxy.upgrade();
    assert_eq!(proxy.get("/").status(), 200);
}

/// Where the binary of a running process is.
fn proxy_binary(proxy: &Proxy) -> String {
    let path = fs::read_link(format!("/proc/{}/exe", proxy.id())).expect("its program");
    path.display().to_string()
}

#[test]
fn a_program_is_tried_without_an_upgrade() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).linked().start();
    let admin = proxy.admin.to_string();
    let binary = proxy_binary(&proxy);
    let check = |program: &str| command(&["upgrade", "--admin", &admin, "--check", program]);
    assert_eq!(check(&binary).status.code(), Some(0));
    proxy.install("#!/bin/sh\necho 999\n");
    let output = check(&proxy.directory.join("plimsoll").display().to_string());
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("version 999"), "{}", errors(&output));
    assert_eq!(check("/nonexistent/plimsoll").status.code(), Some(1));
    let file = proxy.directory.join("plimsoll.toml");
    let good = fs::read_to_string(&file).expect("its file");
    fs::write(&file, good.replace("protocol", "protocoll")).expect("it can be written");
    let output = check(&binary);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("protocoll"), "{}", errors(&output));
    assert_eq!(proxy.serving(), proxy.id());
}

#[test]
fn a_sick_endpoint_stays_sick_and_what_the_operator_said_stays_said() {
    let well = Origin::saying("well");
    let dead = free_port(own_ip());
    // After the first ones no probe comes any more within the test.
    let mut proxy = Setup::http(&[well.address(), dead])
        .pool("health = { check = \"tcp\", interval = \"500ms\", fall = 1, down_interval = \"10m\" }")
        .start();
    proxy.until_endpoint("main", &dead.to_string(), "probe.state", "cannot be asked");
    let drained = well.address().to_string();
    let path = format!("/v1/pools/main/endpoints/{drained}?force");
    assert_eq!(proxy.admin_change("PATCH", &path, "{\"admin_state\":\"drain\",\"weight\":7}").status(), 200);
    let since = proxy.endpoint("main", &dead.to_string())["probe"]["since"].clone();
    // Somebody listens there now; only a probe could know.
    let _revived = std::net::TcpListener::bind(dead).expect("its address");
    proxy.upgrade();
    let seen = proxy.endpoint("main", &dead.to_string());
    assert_eq!(
        (&seen["usable"], &seen["probe"]["state"]),
        (&false.into(), &"cannot be asked".into()),
        "{seen}"
    );
    let text = |value: &Value| value.as_str().map(|text| text[..19].to_owned());
    assert_eq!(text(&seen["probe"]["since"]), text(&since));
    let seen = proxy.endpoint("main", &drained);
    assert_eq!((&seen["admin_state"], &seen["weight"]), (&"drain".into(), &7.into()));
}

#[test]
fn an_admin_socket_keeps_its_file() {
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).unix_admin().start();
    let socket = proxy.directory.join("admin.sock");
    let status = |proxy: &Proxy| {
        let address = format!("unix:{}", proxy.directory.join("admin.sock").display());
        command(&["status", "--admin", &address]).status.success()
    };
    let output = command(&["upgrade", "--admin", &format!("unix:{}", socket.display())]);
    assert!(output.status.success(), "{}", errors(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let new = said.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a number");
    proxy.taken_over_by(new);
    assert!(proxy.wait().success());
    assert!(socket.exists() && status(&proxy));
    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn a_signal_to_stop_ends_the_new_process_and_the_old_one_apart() {
    let origin = echo();
    let mut proxy = Setup::tcp(&[origin.address()]).process("drain_timeout = \"100ms\"").start();
    let mut session = proxy.connect();
    assert_eq!(session.say("x").take(1).expect("an echo"), b"x");
    proxy.upgrade();
    // The old one has an hour; asked to stop it has what a stop has.
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    assert_eq!(proxy.connect().say("new").take(3).expect("an echo"), b"new");
}
