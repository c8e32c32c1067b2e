//! The commands that change and show a live process, as an operator calls them.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::{Mutex, mpsc};

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::harness::{free_port, own_ip, until};

fn call(proxy: &Proxy, line: &str) -> (Option<i32>, String) {
    let admin = proxy.admin.to_string();
    let mut words: Vec<&str> = line.split_whitespace().collect();
    words.extend(["--admin", &admin]);
    said(&command(&words))
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Who answers, out of so many requests.
fn answers(proxy: &Proxy, count: usize) -> Vec<String> {
    let mut answers: Vec<String> = (0..count).map(|_| proxy.get("/").text()).collect();
    answers.sort();
    answers.dedup();
    answers
}

fn endpoint(address: SocketAddr) -> String {
    format!("main/{address}")
}

#[test]
fn a_drained_endpoint_gets_nothing_until_it_is_ready_again() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = Setup::http(&[a.address(), b.address()]).pool("balance = \"round_robin\"").start();
    let (first, second) = (endpoint(a.address()), endpoint(b.address()));
    assert_eq!(
        call(&proxy, &format!("drain {first} --wait")),
        (Some(0), format!("{first}: drained\n")),
        "nothing is in flight"
    );
    assert_eq!(answers(&proxy, 6), ["b"]);
    let (code, text) = call(&proxy, &format!("maintain {second}"));
    assert!(code == Some(1) && text.contains("min_available"), "{text}");
    assert_eq!(answers(&proxy, 6), ["b"]);
    let (code, page) = call(&proxy, "status");
    assert_eq!(code, Some(0), "{page}");
    let line = |of: &Origin| {
        let address = of.address().to_string();
        page.lines().find(|line| line.contains(&address)).unwrap_or_default()
    };
    assert!(page.contains("pool main: 1 of 2 usable"), "{page}");
    assert!(line(&a).contains("drain") && line(&b).contains(" usable "), "{page}");
    assert_eq!(call(&proxy, &format!("ready {first}")).0, Some(0));
    assert_eq!(answers(&proxy, 6), ["a", "b"]);
    assert_eq!(call(&proxy, &format!("maintain {second} --force")).0, Some(0));
    assert_eq!(answers(&proxy, 6), ["a"]);
}

#[test]
fn a_zone_is_drained_as_a_whole_and_what_remains_is_told() {
    let (a, b, c) = (Origin::saying("a"), Origin::saying("b"), Origin::saying("c"));
    let listed =
        |origin: &Origin, zone: &str| format!("{{ address = \"{}\", zone = \"{zone}\" }}", origin.address());
    let endpoints = [listed(&a, "a"), listed(&b, "b"), listed(&c, "b")].join(", ");
    let alone = format!("[pool.alone]\nendpoints = [{}]\n", listed(&c, "b"));
    let proxy = Setup::listed(&endpoints).pool("balance = \"round_robin\"").text(&alone).start();
    assert_eq!(call(&proxy, "drain --zone nowhere").0, Some(2));
    let (code, text) = call(&proxy, "drain --zone b --wait");
    let remains = text.lines().filter(|line| line.contains("min_available")).count();
    assert_eq!((code, remains), (Some(1), 1), "the only endpoint of a pool stays: {text}");
    let drained = text.lines().filter(|line| line.ends_with(": drained")).count();
    assert_eq!(drained, 2, "{text}");
    assert_eq!(answers(&proxy, 6), ["a"]);
    assert_eq!(call(&proxy, "ready --zone b").0, Some(0));
    assert_eq!(answers(&proxy, 9), ["a", "b", "c"]);
    assert_eq!(call(&proxy, "drain --zone b --force").0, Some(0));
}

#[test]
fn a_drain_is_waited_for_up_to_its_timeout() {
    let (go, wait) = mpsc::sync_channel::<()>(1);
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |mut session| {
        session.request()?;
        drop(wait.lock().map(|wait| wait.recv()));
        session.ok("late")
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.request(0);
    let drain = format!("drain {} --force --wait", endpoint(origin.address()));
    let (code, text) = call(&proxy, &format!("{drain} --timeout 300ms"));
    assert!(code == Some(1) && text.contains("still has 1 in flight"), "{text}");
    go.send(()).expect("the origin waits");
    assert_eq!(client.answer().text(), "late");
    let (code, text) = call(&proxy, &drain);
    assert!(code == Some(0) && text.ends_with(": drained\n"), "{text}");
}

#[test]
fn a_pool_fails_over_and_comes_home() {
    let (home, dr) = (Origin::saying("home"), Origin::saying("dr"));
    let other = format!("[pool.dr]\nendpoints = [\"{}\"]\n", dr.address());
    let proxy = Setup::http(&[home.address()]).pool("failover = [\"dr\"]").text(&other).start();
    assert_eq!(answers(&proxy, 3), ["home"]);
    let (code, text) = call(&proxy, "failover main --to dr");
    assert_eq!(code, Some(0), "{text}");
    until("the failover", || (proxy.get("/").text() == "dr").then_some(()));
    assert!(call(&proxy, "status").1.contains("traffic goes to pool dr"));
    assert_eq!(call(&proxy, "failover main --to home").0, Some(0));
    until("the way home", || (proxy.get("/").text() == "home").then_some(()));
    let (code, text) = call(&proxy, "failover main --to nowhere");
    assert_eq!((code, text.trim_end()), (Some(2), "pool \"main\" does not fail over to \"nowhere\""));
}

#[test]
fn what_does_not_exist_is_a_wrong_call_in_words() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    assert_eq!(call(&proxy, "ready other/a:80"), (Some(2), "there is no pool \"other\"\n".to_owned()));
    assert_eq!(
        call(&proxy, "drain main/a:80"),
        (Some(2), "pool \"main\" has no endpoint \"a:80\"\n".to_owned())
    );
    let (code, text) = call(&proxy, "drain main");
    assert!(code == Some(2) && text.contains("POOL/ENDPOINT"), "{text}");
}

#[test]
fn without_a_process_a_command_fails_and_says_where_it_looked() {
    let nobody = free_port(own_ip()).to_string();
    let (code, text) = said(&command(&["status", "--admin", &nobody]));
    assert!(code == Some(1) && text.contains(&nobody) && text.contains("PLIMSOLL_ADMIN"), "{text}");
}

#[test]
fn a_unix_socket_is_asked_like_an_address() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).unix_admin().start();
    let socket = format!("unix:{}", proxy.directory.join("admin.sock").display());
    let (code, page) = said(&command(&["status", "--admin", &socket]));
    assert!(code == Some(0) && page.contains("pool main: 1 of 1 usable"), "{page}");
}
