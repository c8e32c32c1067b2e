//! Who is let in when not all can be: classes in the queue, a queue that stands, deadlines, ceilings that rise with the load.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::client::{self, Client};
use crate::harness::clock::pause;
use crate::harness::datagrams::{Asker, Echo};
use crate::harness::http2::{Frames, Outcome, get, reset};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, until};

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

/// What any process uses more memory than, so that it is overloaded.
const OVERLOADED: &str =
    "overload = { memory = 0.0001, descriptors = \"off\", lag = \"off\", hold = \"100ms\" }";

/// Puts another line in the place of the one about overload, and reloads.
fn change_overload(proxy: &Proxy, from: &str, to: &str) {
    let file = proxy.directory.join("plimsoll.toml");
    let text = std::fs::read_to_string(&file).expect("the file is there");
    std::fs::write(&file, text.replace(from, to)).expect("it can be written");
    assert_eq!(proxy.admin_change("POST", "/v1/reload", "").status(), 200);
}

#[test]
fn an_overloaded_process_gives_up_what_is_idle_and_sheds_by_class() {
    let origin = Origin::saying("here");
    let [critical, batch, tcp] = [(); 3].map(|()| free_port(Ipv4Addr::LOCALHOST));
    let proxy = Setup::http(&[origin.address()])
        .process("overload = \"off\"")
        .listener("h2c = true")
        .text(&format!(
            "[listener.critical]\nbind = [\"{critical}\"]\nclass = \"critical\"\n\
             [listener.batch]\nbind = [\"{batch}\"]\nclass = \"sheddable\"\n\
             [listener.tcp]\nbind = [\"{tcp}\"]\nclass = \"sheddable\"\nprotocol = \"tcp\"\npool = \"main\"\n"
        ))
        .start();
    let mut streams = Frames::connect(proxy.web);
    assert!(matches!(streams.ask(1, &get("/")).outcome(1), Outcome::Answer(200, _)));
    let (mut idle, mut kept) = (proxy.connect(), Client::connect(critical));
    assert_eq!((idle.get("/").status(), kept.get("/").status()), (200, 200));
    assert_eq!(client::get(batch, "/").status(), 200);
    assert_eq!(client::get(tcp, "/").text(), "here");
    change_overload(&proxy, "overload = \"off\"", OVERLOADED);
    proxy.until_metric("plimsoll_overload_stage", "", 2.0);
    idle.expect_end();
    assert_eq!(streams.sent_away(), 0, "an idle connection of HTTP/2 ends in good order");
    assert_eq!(kept.get("/").status(), 200, "the connection of a critical listener is kept");
    assert_eq!(kept.get("/").status(), 200);
    let shed = client::get(batch, "/");
    assert_eq!((shed.status(), shed.field("retry-after").as_deref()), (503, Some("1")));
    until("its record", || proxy.records(1).iter().any(|record| record["end"] == "overloaded").then_some(()));
    assert!(Client::is_turned_away(tcp));
    let default = proxy.connect().get("/");
    assert_eq!((default.status(), default.field("connection").as_deref()), (200, Some("close")));
    assert!(hits(&proxy, "overload") >= 2.0);
    let status = &proxy.admin_json("/v1/status")["overload"];
    assert_eq!((&status["stage"], &status["because"]), (&"shedding".into(), &"memory".into()));
    let health = &proxy.admin_json("/health")["components"]["process/overload"];
    assert_eq!(health["status"], "degraded");
    assert!(
        proxy.events().iter().any(|event| event["to"] == "overload: shedding" && event["kind"] == "alarm")
    );
    change_overload(&proxy, OVERLOADED, "overload = { hold = \"100ms\" }");
    proxy.until_metric("plimsoll_overload_stage", "", 0.0);
    assert_eq!(client::get(batch, "/").status(), 200);
    let mut again = proxy.connect();
    assert_eq!((again.get("/").status(), again.get("/").status()), (200, 200), "connections are kept again");
}

#[test]
fn an_adaptive_ceiling_follows_what_the_endpoint_can_do() {
    // One request at a time, whoever asks: twenty at once wait for each other there.
    let turn = Arc::new(std::sync::Mutex::new(()));
    let origin = Origin::start(move |mut session| {
        while let Some(request) = session.request()? {
            let held = turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            pause(Duration::from_millis(4));
            drop(held);
            session.ok(&request.path())?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()])
        .process("workers = 1")
        .text(
            "[pool.main.limits]\nmax_requests = 200\nqueue_timeout = \"30s\"\n\
             adaptive = { min = 1, baseline_every = \"1h\", headroom = 1 }",
        )
        .start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = proxy.connect();
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/").status(), 200);
                }
            });
        }
        // While it measures only one is let in; then as many as take no longer than twice as long, and a few that wait.
        let ceiling = || proxy.metric("plimsoll_endpoint_ceiling", "main");
        until("the ceiling to move", || (ceiling() > 1.5).then_some(()));
        for _ in 0..20 {
            pause(Duration::from_millis(100));
            let now = ceiling();
            assert!(now < 12.5, "{now}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(hits(&proxy, "max_requests") > 20.0, "the others have waited in the queue");
}

#[test]
fn an_overloaded_process_begins_no_sheddable_session() {
    let echo = Echo::start("a");
    let proxy = Setup::udp(&[echo.address]).listener("class = \"sheddable\"").process(OVERLOADED).start();
    proxy.until_metric("plimsoll_overload_stage", "", 2.0);
    let client = Asker::new(proxy.web);
    client.say(b"shed");
    until("it to be counted", || (hits(&proxy, "overload") >= 1.0).then_some(()));
    change_overload(&proxy, OVERLOADED, "overload = \"off\"");
    proxy.until_metric("plimsoll_overload_stage", "", 0.0);
    assert_eq!(client.insist("served"), "a:served");
    assert!(echo.seen().iter().all(|(_, what)| what != b"shed"), "what was shed went nowhere");
}
