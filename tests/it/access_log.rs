//! One access-log record per request or connection, in both formats, with who, where, how long and why it ended.

use std::fs;

use serde_json::{Value, json};

use crate::harness::origin::Origin;
use crate::harness::proxy::{Setup, own_directory};
use crate::harness::until;

#[test]
fn a_record_says_what_happened() {
    let origin = Origin::saying("hello");
    let proxy = Setup::http(&[origin.address()]).start();
    proxy.connect().post("/x?y=1", "hi");
    let record = &proxy.records(1)[0];
    let want = [
        ("listener", json!("web")),
        ("route", json!("all")),
        ("pool", json!("main")),
        ("endpoint", json!(origin.address().to_string())),
        ("attempts", json!(1)),
        ("protocol", json!("HTTP/1.1")),
        ("method", json!("POST")),
        ("host", json!("a")),
        ("target", json!("/x?y=1")),
        ("status", json!(200)),
        ("bytes_in", json!(2)),
        ("bytes_out", json!(5)),
        ("end", json!("done")),
    ];
    for (key, value) in want {
        assert_eq!(record[key], value, "{key}");
    }
    assert!(record["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")));
    assert_eq!(record["id"], json!(origin.request(0).field("x-request-id")));
    for phase in ["head_us", "queue_us", "connect_us", "response_header_us", "total_us"] {
        assert!(record[phase].is_u64(), "{phase}");
    }
}

#[test]
fn every_request_has_exactly_one_line_whatever_a_peer_sends() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    for number in 0..20 {
        client.get(&format!("/{number}?\"forged\":1}}%0a{{\"end\":\"done\""));
    }
    proxy.ask("GET / HTTP/1.1\r\nHost: a\r\nX-A: \"\x1b[2J\"\r\nConnection: close\r\n\r\n");
    proxy.ask("BROKEN\r\n\r\n");
    let records = proxy.records(22);
    assert_eq!((records.len(), proxy.output().len()), (22, 22));
    assert!(records.iter().all(|record| record["end"].is_string()));
    let mut ids: Vec<&Value> = records.iter().take(20).map(|record| &record["target"]).collect();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[test]
fn text_has_the_same_in_one_line() {
    let origin = Origin::saying("hello");
    let proxy = Setup::http(&[origin.address()]).log("access = \"stdout\"").log("format = \"text\"").start();
    proxy.get("/x");
    let line = until("a line", || proxy.output().first().cloned());
    for part in
        ["listener=web", "route=all", "pool=main", "status=200", "attempts=1", "end=done", "method=\"GET\""]
    {
        assert!(line.split(' ').any(|word| word == part), "{part} is not in {line}");
    }
}

#[test]
fn the_log_goes_where_it_is_told() {
    let origin = Origin::saying("ok");
    let off = Setup::http(&[origin.address()]).log("access = \"off\"").start();
    off.get("/");
    let file = own_directory().join("access.log");
    let to_file = Setup::http(&[origin.address()])
        .log(&format!("access = \"{}\"", file.display()))
        .log("format = \"json\"")
        .start();
    to_file.get("/in-file");
    let text =
        until("a line in the file", || fs::read_to_string(&file).ok().filter(|text| text.contains('\n')));
    assert!(text.contains("/in-file"));
    assert_eq!((off.output().len(), to_file.output().len()), (0, 0));
}

#[test]
fn the_file_is_reopened_on_usr1() {
    let origin = Origin::saying("ok");
    let file = own_directory().join("access.log");
    let proxy = Setup::http(&[origin.address()]).log(&format!("access = \"{}\"", file.display())).start();
    proxy.get("/before");
    until("a line", || fs::read_to_string(&file).ok().filter(|text| text.contains("/before")));
    fs::rename(&file, file.with_extension("1")).expect("a rename");
    proxy.signal(rustix::process::Signal::USR1);
    until("a line in the new file", || {
        proxy.get("/after");
        fs::read_to_string(&file).ok().filter(|text| text.contains("/after"))
    });
}

#[test]
fn a_client_that_left_is_to_blame_itself() {
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.request(0);
    drop(client);
    assert_eq!(proxy.records(1)[0]["end"], "client_aborted");
}

#[test]
fn a_tcp_session_has_one_record() {
    let origin = Origin::start(|mut session| {
        session.wire.take(4)?;
        session.send("pong!")
    });
    let proxy = Setup::tcp(&[origin.address()]).start();
    let mut client = proxy.connect();
    assert_eq!(client.say("ping").rest().expect("an answer"), b"pong!");
    drop(client);
    let record = &proxy.records(1)[0];
    assert_eq!(record["protocol"], "TCP");
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&json!(4), &json!(5)));
    assert_eq!((&record["end"], &record["pool"]), (&json!("done"), &json!("main")));
}
