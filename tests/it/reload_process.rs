//! What belongs to the process and not to its traffic: the sockets of the admin API and of the open health listener, who may
//! ask them, and the logs. A reload changes them in place, or changes nothing.

use std::fs;
use std::net::SocketAddr;

use crate::harness::client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::harness::{free_port, own_ip, until};

const TOKEN: &str = "full-0123456789abcdef";

/// Writes the tables `[admin]`, `[health]` and `[log]` of a running process anew.
fn rewrite(proxy: &Proxy, admin: &str, health: &str, log: &str) {
    let file = proxy.directory.join("plimsoll.toml");
    let text = fs::read_to_string(&file).expect("its file");
    let (before, rest) = text.split_once("[admin]").expect("the table");
    let (_, after) = rest.split_once("[listener.web]").expect("the listener");
    let tables = format!("[admin]\n{admin}\n{health}\n[log]\n{log}\n[listener.web]");
    fs::write(file, format!("{before}{tables}{after}")).expect("it can be written");
}

/// Reloads by the admin API at this address.
fn reload(admin: SocketAddr) -> std::process::Output {
    command(&["reload", "--wait", "--admin", &admin.to_string()])
}

fn status(admin: SocketAddr, path: &str, more: &str) -> u16 {
    client::ask(admin, format!("GET {path} HTTP/1.1\r\n{more}Connection: close\r\n\r\n")).status()
}

#[test]
fn the_admin_api_moves_and_its_rules_change_without_a_restart() {
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).start();
    let (old, new, health) = (proxy.admin, free_port(own_ip()), free_port(own_ip()));
    fs::write(proxy.directory.join("admin.token"), TOKEN).expect("a file");
    // A connection that waits for its next request is closed, not cut in an answer.
    let mut idle = client::Client::connect(old);
    idle.say("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.answer().status(), 200);
    let log = "access = \"stdout\"\nformat = \"json\"";
    rewrite(
        &proxy,
        &format!("bind = \"{new}\"\nallowed_hosts = [\"lb1.internal\"]\ntoken_file = \"admin.token\""),
        &format!("[health]\nbind = [\"{health}\"]"),
        log,
    );
    let output = reload(old);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("restart"));
    idle.expect_end();
    until("the old socket to be closed", || std::net::TcpStream::connect(old).is_err().then_some(()));
    proxy.admin = new;
    assert_eq!(status(health, "/readyz", "Host: anybody\r\n"), 200);
    assert_eq!(status(health, "/v1/status", "Host: localhost\r\n"), 404);
    assert_eq!(status(new, "/v1/status", "Host: lb1.internal\r\n"), 200);
    let plan = |token: &str| {
        let field = format!("Authorization: Bearer {token}");
        let body = "[listener.web]\nbind = [\"127.0.0.1:1\"]\n";
        let length = body.len();
        let head =
            format!("POST /v1/plan HTTP/1.1\r\nHost: localhost\r\n{field}\r\nContent-Length: {length}\r\n");
        client::ask(new, format!("{head}Connection: close\r\n\r\n{body}")).status()
    };
    assert_eq!((plan("guess-0123456789abcdef"), plan(TOKEN)), (401, 200));

    rewrite(&proxy, &format!("bind = \"{new}\""), "", log);
    assert!(reload(new).status.success());
    until("the rule to be gone", || {
        (status(new, "/v1/status", "Host: lb1.internal\r\n") == 421).then_some(())
    });
    until("the health socket to be closed", || std::net::TcpStream::connect(health).is_err().then_some(()));
    // What moved is what a process that takes over is given.
    proxy.upgrade();
    assert_eq!(proxy.get("/").text(), "ok");
}

#[test]
fn what_cannot_be_bound_read_or_opened_leaves_everything_as_it_was() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let (admin, free, other) = (proxy.admin, free_port(own_ip()), free_port(own_ip()));
    let taken = std::net::TcpListener::bind(free_port(own_ip())).expect("a socket");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("its address");
    fs::write(proxy.directory.join("long.token"), TOKEN).expect("a file");
    let (here, log) = (format!("bind = \"{admin}\""), "access = \"stdout\"\nformat = \"json\"");
    for (admin_table, health, log, why) in [
        (format!("bind = \"{}\"", taken.1), format!("[health]\nbind = [\"{free}\"]"), log, "admin.bind"),
        (
            format!("bind = \"{free}\""),
            format!("[health]\nbind = [\"{other}\", \"{}\"]", taken.1),
            log,
            "health.bind",
        ),
        (format!("bind = \"{free}\"\ntoken_file = \"missing.token\""), String::new(), log, "missing.token"),
        (here, format!("[health]\nbind = [\"{free}\"]"), "access = \"/nowhere/access.log\"", "log.access"),
    ] {
        rewrite(&proxy, &admin_table, &health, log);
        let output = reload(admin);
        assert_eq!(output.status.code().map(|code| code == 0), Some(false), "{why}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(why), "{why}: {said}");
        assert_eq!(status(admin, "/v1/status", "Host: localhost\r\n"), 200);
        for address in [free, other] {
            assert!(std::net::TcpStream::connect(address).is_err(), "{why}: nothing listens at {address}");
        }
        assert_eq!(proxy.admin_json("/v1/config")["generation"], 1, "{why}");
    }
    assert_eq!(proxy.get("/").text(), "ok");
    proxy.records(1);
}

#[test]
fn logs_go_elsewhere_and_look_otherwise_from_a_reload_on() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let (here, none) = (format!("bind = \"{}\"", proxy.admin), "");
    assert_eq!(proxy.get("/json").text(), "ok");
    proxy.records(1);
    let file = proxy.directory.join("access.log");
    rewrite(&proxy, &here, none, "access = \"./access.log\"\nformat = \"text\"");
    assert!(reload(proxy.admin).status.success());
    assert_eq!(proxy.get("/text").text(), "ok");
    let line = until("a line", || {
        fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.lines().find(|l| l.contains("/text")).map(str::to_owned))
    });
    assert!(line.starts_with("time="), "{line}");
    let published = |line: &String| line.contains("generation 2 is published") && !line.starts_with('{');
    until("an event as text", || proxy.errors().iter().any(published).then_some(()));
    rewrite(&proxy, &here, none, "access = \"off\"\nformat = \"json\"");
    assert!(reload(proxy.admin).status.success());
    assert_eq!(proxy.get("/off").text(), "ok");
    let published = |line: &String| line.contains("generation 3 is published") && line.starts_with('{');
    until("an event as JSON", || proxy.errors().iter().any(published).then_some(()));
    rewrite(&proxy, &here, none, "access = \"stdout\"\nformat = \"json\"");
    assert!(reload(proxy.admin).status.success());
    assert_eq!(proxy.get("/again").text(), "ok");
    let records = proxy.records(2);
    assert_eq!(records[1]["target"], "/again", "{records:?}");
    assert!(!fs::read_to_string(&file).expect("the file").contains("/off"));
}
