//! What has changed, as the admin API of a running process tells it: a list, and a stream that goes on.

use rustix::process::Signal;

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Setup, own_directory};
use crate::harness::until;

#[test]
fn the_start_is_the_first_event_of_the_list() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let answer = proxy.admin_get("/v1/events");
    assert_eq!(answer.status(), 200);
    let events: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(events[0]["id"], 1);
    assert_eq!((&events[0]["kind"], &events[0]["to"]), (&"process".into(), &"running".into()));
    assert_eq!(proxy.admin_get("/v1/events?after=1").text(), "[]");
    assert!((proxy.metric("plimsoll_events_total", "process") - 1.0).abs() < 0.5);
}

#[test]
fn a_stream_tells_of_the_drain_and_ends_with_the_process() {
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).process("drain_delay = \"300ms\"").start();
    let mut stream = Client::connect(proxy.admin);
    stream.say("GET /v1/events?after=1 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n");
    proxy.signal(Signal::TERM);
    let answer = stream.answer();
    assert_eq!(answer.field("content-type").as_deref(), Some("text/event-stream"));
    let text = answer.text();
    assert!(text.starts_with("retry: 1000\n\nid: 2\ndata: {"), "{text}");
    assert!(text.contains("\"to\":\"draining\""), "{text}");
    assert!(proxy.wait().success());
    let lines: Vec<serde_json::Value> =
        proxy.errors().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let line = lines.iter().find(|line| line["to"] == "draining").expect("a line of the log");
    assert_eq!(
        (&line["id"], &line["kind"], &line["from"]),
        (&2.into(), &"process".into(), &"running".into())
    );
}

#[test]
fn a_webhook_is_told_again_until_it_takes_an_event() {
    let origin = Origin::saying("ok");
    let hook = Origin::start(|mut session| {
        session.request()?;
        let status = if session.number == 1 { "503 Not Now" } else { "200 OK" };
        session.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
    });
    let sink = format!("[[notify]]\nwebhook = \"http://{}/lb\"\nevents = [\"process\"]\n", hook.address());
    let mut proxy = Setup::http(&[origin.address()]).text(&sink).start();
    let told: Vec<serde_json::Value> =
        (0..2).map(|place| serde_json::from_slice(&hook.request(place).body).expect("JSON")).collect();
    assert_eq!((&told[0]["id"], &told[1]["id"]), (&1.into(), &1.into()));
    until("the count", || (proxy.metric("plimsoll_notifications_total", "sent") > 0.5).then_some(()));
    // What happens at the end is told before the process is gone.
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    let last: serde_json::Value = serde_json::from_slice(&hook.request(2).body).expect("JSON");
    assert_eq!(last["to"], "draining");
}

#[test]
fn a_program_reads_an_event_as_json() {
    let origin = Origin::saying("ok");
    let folder = own_directory();
    let file = folder.join("told");
    let sink = format!("[[notify]]\nexec = [\"/usr/bin/tee\", \"{}\"]\n", file.display());
    let _proxy = Setup::http(&[origin.address()]).text(&sink).start();
    let event: serde_json::Value =
        until("the event", || serde_json::from_slice(&std::fs::read(&file).ok()?).ok());
    assert_eq!((&event["id"], &event["to"]), (&1.into(), &"running".into()));
    std::fs::remove_dir_all(folder).expect("it is ours");
}
