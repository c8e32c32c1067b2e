//! The pool's queue: in order over all workers, nobody stranded, nobody served who has left, and full is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::clock::pause;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// One request at a time.
fn one_at_a_time(queue: usize, origin: &Origin) -> Proxy {
    Setup::http(&[origin.address()])
        .process("workers = 2")
        .text(&format!("[pool.main.limits]\nmax_requests = 1\nqueue = {queue}\nqueue_timeout = \"30s\""))
        .start()
}

/// An origin that answers `/hold` once it is let go, and everything else after a moment.
struct Held {
    origin: Origin,
    let_go: Arc<AtomicBool>,
}

impl Held {
    fn start() -> Self {
        let let_go = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&let_go);
        let origin = Origin::start(move |mut session| {
            while let Some(request) = session.request()? {
                if request.path() == "/hold" {
                    until("the test to let go", || flag.load(Ordering::SeqCst).then_some(()));
                } else {
                    pause(Duration::from_millis(3));
                }
                session.ok(&request.path())?;
            }
            Ok(())
        });
        Self { origin, let_go }
    }

    fn let_go(&self) {
        self.let_go.store(true, Ordering::SeqCst);
    }
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
    let held = Held::start();
    let origin = &held.origin;
    let proxy = one_at_a_time(100, origin);
    let holder = send(&proxy, "/hold");
    origin.request(0);
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..100 {
        clients.push(send(&proxy, &format!("/{number}")));
        if number % 5 == 4 {
            until("waiters to be counted", || (waiting(&proxy) >= f64::from(number + 1)).then_some(()));
        }
    }
    held.let_go();
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
    let held = Held::start();
    let origin = &held.origin;
    let proxy = one_at_a_time(1, origin);
    let mut holder = send(&proxy, "/hold");
    origin.request(0);
    let mut queued = send(&proxy, "/queued");
    until("one waiter", || (waiting(&proxy) >= 1.0).then_some(()));
    let answer = proxy.get("/too-many");
    assert_eq!(answer.status(), 503);
    assert!(answer.field("retry-after").is_some());
    assert_eq!(proxy.records(1)[0]["end"], "queue_full");
    held.let_go();
    assert_eq!(holder.answer().text(), "/hold");
    assert_eq!(queued.answer().text(), "/queued");
}

#[test]
fn who_leaves_the_queue_is_never_sent() {
    let held = Held::start();
    let origin = &held.origin;
    let proxy = one_at_a_time(10, origin);
    let mut holder = send(&proxy, "/hold");
    origin.request(0);
    let leaver = send(&proxy, "/leaver");
    until("one waiter", || (waiting(&proxy) >= 1.0).then_some(()));
    drop(leaver);
    assert_eq!(
        proxy.records(1)[0]["end"],
        "client_aborted",
        "noticed while it waits, not when its turn comes"
    );
    let mut next = send(&proxy, "/next");
    held.let_go();
    assert_eq!(holder.answer().text(), "/hold");
    assert_eq!(next.answer().text(), "/next");
    assert!(origin.seen().iter().all(|seen| seen.path() != "/leaver"));
}

#[test]
fn those_who_left_take_no_room_in_the_queue() {
    let held = Held::start();
    let proxy = one_at_a_time(2, &held.origin);
    let mut holder = send(&proxy, "/hold");
    held.origin.request(0);
    for left in 1..=6 {
        drop(send(&proxy, "/leaver"));
        proxy.records(left);
    }
    assert!(proxy.records(6).iter().all(|record| record["end"] == "client_aborted"));
    let mut waiters = [send(&proxy, "/first"), send(&proxy, "/second")];
    until("both to wait", || (waiting(&proxy) >= 2.0).then_some(()));
    held.let_go();
    assert_eq!(holder.answer().text(), "/hold");
    for (waiter, path) in waiters.iter_mut().zip(["/first", "/second"]) {
        assert_eq!(waiter.answer().text(), path);
    }
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
