//! The pool's queue: in order over all workers, nobody stranded, nobody served who has left, and full is full.

use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::clock::pause;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// One request at a time; `/hold` is answered when its connection says so, everything else after a moment.
fn one_at_a_time(queue: usize, origin: &Origin) -> Proxy {
    Setup::http(&[origin.address()])
        .process("workers = 2")
        .text(&format!("[pool.main.limits]\nmax_requests = 1\nqueue = {queue}\nqueue_timeout = \"30s\""))
        .start()
}

fn slow() -> Origin {
    Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            let time = if request.path() == "/hold" { 1500 } else { 3 };
            pause(Duration::from_millis(time));
            session.ok(&request.path())?;
        }
        Ok(())
    })
}

fn waiting(proxy: &Proxy) -> f64 {
    proxy.metric("plimsoll_pool_queue_length", "main")
}

fn send(proxy: &Proxy, path: &str) -> Client {
    let mut client = proxy.connect();
    client.say(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

#[test]
fn waiters_are_served_in_their_order_and_none_is_stranded() {
    let origin = slow();
    let proxy = one_at_a_time(100, &origin);
    let holder = send(&proxy, "/hold");
    origin.request(0);
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..100 {
        clients.push(send(&proxy, &format!("/{number}")));
        if number % 5 == 4 {
            until("waiters to be counted", || (waiting(&proxy) >= f64::from(number + 1)).then_some(()));
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().text(), format!("/{number}"));
    }
    drop(holder);
    let order: Vec<usize> =
        origin.seen()[1..].iter().map(|seen| seen.path()[1..].parse().expect("a number")).collect();
    assert_eq!(order.len(), 100);
    for (place, &number) in order.iter().enumerate() {
        assert!(place.abs_diff(number) <= 10, "waiter {number} was served as number {place}: {order:?}");
    }
}

#[test]
fn a_full_queue_says_so_at_once() {
    let origin = slow();
    let proxy = one_at_a_time(1, &origin);
    let mut holder = send(&proxy, "/hold");
    origin.request(0);
    let mut queued = send(&proxy, "/queued");
    until("one waiter", || (waiting(&proxy) >= 1.0).then_some(()));
    let answer = proxy.get("/too-many");
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some());
    assert_eq!(proxy.records(1)[0]["end"], "queue_full");
    assert_eq!(holder.answer().text(), "/hold");
    assert_eq!(queued.answer().text(), "/queued");
}

#[test]
fn who_leaves_the_queue_is_never_sent() {
    let origin = slow();
    let proxy = one_at_a_time(10, &origin);
    let mut holder = send(&proxy, "/hold");
    origin.request(0);
    let leaver = send(&proxy, "/leaver");
    until("one waiter", || (waiting(&proxy) >= 1.0).then_some(()));
    drop(leaver);
    until("the waiter to be gone", || (waiting(&proxy) < 1.0).then_some(()));
    let mut next = send(&proxy, "/next");
    assert_eq!(holder.answer().text(), "/hold");
    assert_eq!(next.answer().text(), "/next");
    assert!(origin.seen().iter().all(|seen| seen.path() != "/leaver"));
    assert!(proxy.records(1).iter().any(|record| record["end"] == "client_aborted"));
}

#[test]
fn a_slot_is_free_again_after_every_kind_of_end() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            match request.path().as_str() {
                "/break" => return Ok(()),
                "/half" => return session.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
                "/nonsense" => return session.send("nonsense\r\n\r\n"),
                path => session.ok(path)?,
            }
        }
        Ok(())
    });
    let proxy = one_at_a_time(10, &origin);
    for path in ["/break", "/half", "/nonsense", "/left"] {
        for _ in 0..3 {
            let mut client = send(&proxy, path);
            if path != "/left" {
                // Broken in one way or another, as it should be.
                drop(client.response("GET"));
            }
        }
    }
    for _ in 0..20 {
        assert_eq!(proxy.get("/fine").text(), "/fine");
    }
}
