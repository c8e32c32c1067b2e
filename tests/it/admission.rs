//! Who is let in when not all can be: classes in the queue, a queue that stands, deadlines, ceilings that rise with the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::clock::pause;
use crate::harness::http2::{Frames, get, reset};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

const ROUTES: &str = r#"
[[route]]
name = "high"
path_prefix = "/high"
pool = "main"
priority_class = "high"
[[route]]
name = "low"
path_prefix = "/low"
pool = "main"
priority_class = "low"
[[route]]
name = "all"
pool = "main"
"#;

/// An origin that answers a request for each permit.
struct Gated {
    origin: Origin,
    permits: Arc<AtomicUsize>,
}

impl Gated {
    fn start() -> Self {
        let permits = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&permits);
        let take = move || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).ok();
        let origin = Origin::start(move |mut session| {
            while let Some(request) = session.request()? {
                until("a permit", || take().map(|_| ()));
                session.ok(&request.path())?;
            }
            Ok(())
        });
        Self { origin, permits }
    }

    fn permit(&self, requests: usize) {
        self.permits.fetch_add(requests, Ordering::SeqCst);
    }

    fn proxy(&self, limits: &str) -> Setup {
        Setup::http(&[self.origin.address()])
            .process("workers = 2")
            .routes(ROUTES)
            .text(&format!("[pool.main.limits]\nqueue_timeout = \"30s\"\n{limits}"))
    }
}

fn send(proxy: &Proxy, path: &str) -> Client {
    let mut client = proxy.connect();
    client.say(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

fn waiting(proxy: &Proxy, count: usize) {
    proxy.until_metric("plimsoll_pool_queue_length", "main", count as f64);
}

fn hits(proxy: &Proxy, limit: &str) -> f64 {
    proxy.metric("plimsoll_limit_hits_total", &format!("limit=\"{limit}\""))
}

#[test]
fn higher_classes_are_served_first_and_each_in_its_order() {
    let gated = Gated::start();
    let proxy = gated.proxy("max_requests = 1").start();
    let holder = send(&proxy, "/hold");
    gated.origin.request(0);
    let came = ["/low/1", "/normal/1", "/low/2", "/high/1", "/normal/2", "/high/2"];
    let mut clients = Vec::new();
    for (number, path) in came.iter().enumerate() {
        clients.push(send(&proxy, path));
        waiting(&proxy, number + 1);
    }
    let queue = &proxy.admin_json("/v1/pools/main")["queue_by_class"];
    assert_eq!(*queue, serde_json::json!({ "high": 2, "normal": 2, "low": 2 }));
    assert!((proxy.metric("plimsoll_pool_queue_waiting", "class=\"low\"") - 2.0).abs() < 0.1);
    gated.permit(7);
    for (client, path) in clients.iter_mut().zip(came) {
        assert_eq!(client.answer().text(), path);
    }
    let served: Vec<String> = gated.origin.seen()[1..].iter().map(|seen| seen.path()).collect();
    assert_eq!(served, ["/high/1", "/high/2", "/normal/1", "/normal/2", "/low/1", "/low/2"]);
    drop(holder);
}

#[test]
fn in_a_full_queue_a_higher_class_takes_the_place_of_the_newest_low_one() {
    let gated = Gated::start();
    let proxy = gated.proxy("max_requests = 1\nqueue = 2").start();
    let _holder = send(&proxy, "/hold");
    gated.origin.request(0);
    let mut first = send(&proxy, "/low/1");
    waiting(&proxy, 1);
    let mut second = send(&proxy, "/low/2");
    waiting(&proxy, 2);
    let mut high = send(&proxy, "/high");
    let displaced = second.answer();
    assert_eq!(displaced.status(), 503);
    assert!(displaced.field("retry-after").is_some());
    assert_eq!(proxy.records(1)[0]["end"], "queue_full");
    gated.permit(3);
    assert_eq!(high.answer().text(), "/high");
    assert_eq!(first.answer().text(), "/low/1");
}

#[test]
fn a_queue_that_stands_is_shed_until_it_was_empty() {
    let gated = Gated::start();
    let proxy = gated.proxy("max_requests = 1\nqueue_target = \"20ms\"\nqueue_interval = \"60ms\"").start();
    let mut holder = send(&proxy, "/hold");
    gated.origin.request(0);
    let mut oldest = send(&proxy, "/oldest");
    waiting(&proxy, 1);
    let mut others = Vec::new();
    // Each that joins looks at how long the first in line has waited.
    until("the queue to stand", || {
        others.push(send(&proxy, "/other"));
        (proxy.metric("plimsoll_pool_queue_shed_total", "main") >= 1.0).then_some(())
    });
    let shed = oldest.answer();
    assert_eq!((shed.status(), shed.field("retry-after").as_deref()), (503, Some("1")));
    assert_eq!(proxy.records(1)[0]["end"], "queue_shed");
    assert!(hits(&proxy, "queue_target") >= 1.0);
    // While it stands, nobody waits for long, though no place becomes free.
    assert_eq!(send(&proxy, "/late").answer().status(), 503);
    gated.permit(1000);
    assert_eq!(holder.answer().text(), "/hold");
    waiting(&proxy, 0);
    assert_eq!(proxy.get("/after").text(), "/after");
    assert!(proxy.metric("plimsoll_pool_queue_stands", "class=\"normal\"") < 0.5);
}

#[test]
fn a_call_whose_deadline_cannot_be_met_does_not_wait_for_it() {
    let gated = Gated::start();
    let proxy = gated.proxy("max_requests = 1").start();
    let mut holder = send(&proxy, "/hold");
    gated.origin.request(0);
    let mut first = send(&proxy, "/first");
    waiting(&proxy, 1);
    pause(Duration::from_millis(250));
    let mut call = proxy.connect();
    call.say(
        "POST /call HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\ngrpc-timeout: 200m\r\n\
         Content-Length: 0\r\n\r\n",
    );
    let answer = call.answer();
    assert_eq!(answer.field("grpc-status").as_deref(), Some("4"));
    assert!((hits(&proxy, "queue_deadline") - 1.0).abs() < 0.1);
    gated.permit(2);
    assert_eq!(holder.answer().text(), "/hold");
    assert_eq!(first.answer().text(), "/first");
    assert!(gated.origin.seen().iter().all(|seen| seen.path() != "/call"));
}

#[test]
fn a_stream_that_is_cancelled_leaves_the_queue() {
    let gated = Gated::start();
    let proxy = gated.proxy("max_requests = 1").listener("h2c = true").start();
    let mut holder = send(&proxy, "/hold");
    gated.origin.request(0);
    let mut client = Frames::connect(proxy.web);
    client.ask(1, &get("/cancelled")).ask(3, &get("/waits"));
    waiting(&proxy, 2);
    client.say(reset(1, 8));
    waiting(&proxy, 1);
    gated.permit(2);
    assert_eq!(holder.answer().text(), "/hold");
    until("the other to be served", || (gated.origin.seen().len() == 2).then_some(()));
    assert_eq!(gated.origin.seen()[1].path(), "/waits");
}

#[test]
fn ceilings_rise_with_the_load_of_the_pool() {
    let gated = Gated::start();
    let proxy = gated.proxy("max_requests = 4\nmin_requests = 1\nfull_load = 8").start();
    let mut clients = Vec::new();
    // How many are under way by how many have come: a quarter of half the load, then more, then all four.
    for (came, under_way) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3), (8, 4), (9, 4)] {
        clients.push(send(&proxy, "/"));
        waiting(&proxy, came - under_way);
        proxy.until_metric("plimsoll_endpoint_in_flight", "main", under_way as f64);
    }
    let name = gated.origin.address().to_string();
    assert_eq!(proxy.endpoint("main", &name)["max_requests"], 4);
    // As the load falls, so does the ceiling: with three left, one at a time.
    gated.permit(6);
    waiting(&proxy, 2);
    proxy.until_metric("plimsoll_endpoint_in_flight", "main", 1.0);
    assert!((proxy.metric("plimsoll_endpoint_ceiling", "main") - 1.0).abs() < 0.1);
    gated.permit(3);
    for client in &mut clients {
        assert_eq!(client.answer().status(), 200);
    }
}
