//! Passive ejection: what takes an endpoint out, what never does, and how it comes back.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::clock::Moment;
use crate::harness::moody::Moody;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, own_ip, until};

/// The endpoints in their order, always the first that may be used; `outlier` are lines of that table.
fn in_order(endpoints: &[SocketAddr], outlier: &str) -> Proxy {
    Setup::http(endpoints)
        .pool("balance = \"first\"")
        .text(&format!("[pool.main.outlier]\n{outlier}"))
        .start()
}

fn of(endpoint: SocketAddr) -> String {
    format!("endpoint=\"{endpoint}\"")
}

fn ejections(proxy: &Proxy, endpoint: SocketAddr) -> f64 {
    proxy.metric("plimsoll_endpoint_ejections_total", &of(endpoint))
}

/// Sent once, whatever happens.
fn post(proxy: &Proxy) -> u16 {
    proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").status()
}

#[test]
fn connects_that_fail_in_a_row_eject_and_traffic_goes_on() {
    let good = Origin::saying("ok");
    let dead = free_port(own_ip());
    let proxy = in_order(
        &[dead, good.address()],
        "consecutive_failures = 3\nejection_time = \"1h\"\nmax_ejection_time = \"1h\"",
    );
    assert!((0..12).all(|_| proxy.get("/").text() == "ok"));
    assert_eq!(proxy.metric("plimsoll_endpoint_failures_total", &of(dead)), 3.0, "nobody asks it any more");
    assert_eq!(proxy.metric("plimsoll_endpoint_ejected", &of(dead)), 1.0);
    assert_eq!((ejections(&proxy, dead), ejections(&proxy, good.address())), (1.0, 0.0));
}

#[test]
fn connects_of_tcp_sessions_count_too() {
    let good = Origin::start(|mut session| session.send("hello"));
    let dead = free_port(own_ip());
    let proxy = Setup::tcp(&[dead, good.address()])
        .pool("balance = \"first\"")
        .text("[pool.main.outlier]\nconsecutive_failures = 2\nejection_time = \"1h\"\nmax_ejection_time = \"1h\"")
        .start();
    for _ in 0..6 {
        assert_eq!(proxy.connect().rest().expect("a greeting"), b"hello");
    }
    assert_eq!(proxy.metric("plimsoll_endpoint_failures_total", &of(dead)), 2.0);
    assert_eq!(ejections(&proxy, dead), 1.0);
}

#[test]
fn requests_that_break_eject_and_are_never_repeated_where_they_must_not_be() {
    let (broken, good) = (Moody::saying("a"), Origin::saying("b"));
    broken.breaks();
    let proxy = in_order(&[broken.address(), good.address()], "consecutive_failures = 4");
    let statuses: Vec<u16> = (0..8).map(|_| post(&proxy)).collect();
    assert_eq!(statuses, [502, 502, 502, 502, 200, 200, 200, 200]);
    assert_eq!((broken.asked(), good.seen().len()), (4, 4));
}

#[test]
fn one_success_clears_failures_in_a_row() {
    let (first, second) = (Moody::saying("a"), Origin::saying("b"));
    let proxy = in_order(&[first.address(), second.address()], "consecutive_failures = 3");
    for _ in 0..4 {
        first.breaks();
        assert_eq!((post(&proxy), post(&proxy)), (502, 502));
        first.answers(200);
        assert_eq!(post(&proxy), 200);
    }
    assert_eq!((first.asked(), second.seen().len()), (12, 0));
}

#[test]
fn the_last_usable_endpoint_is_never_ejected() {
    let broken = Moody::saying("back");
    broken.breaks();
    let proxy = in_order(&[broken.address()], "consecutive_failures = 1");
    assert!((0..10).all(|_| post(&proxy) == 502));
    assert_eq!((broken.asked(), ejections(&proxy, broken.address())), (10, 0.0));
    broken.answers(200);
    assert_eq!(proxy.get("/").text(), "back", "and it serves as soon as it can");
}

#[test]
fn a_lone_endpoint_whose_port_is_closed_is_asked_for_every_request() {
    let ip = own_ip();
    let address = free_port(ip);
    let proxy = in_order(&[address], "consecutive_failures = 1");
    assert!((0..5).all(|_| post(&proxy) == 503));
    assert_eq!(ejections(&proxy, address), 0.0);
    let _origin = Origin::start_at(ip, address.port(), |mut session| {
        session.request()?;
        session.ok("here")
    });
    assert_eq!(proxy.get("/").text(), "here");
}

#[test]
fn of_two_that_fail_the_last_one_stays() {
    let (one, two) = (Moody::saying("a"), Moody::saying("b"));
    one.breaks();
    two.breaks();
    let proxy = in_order(
        &[one.address(), two.address()],
        "consecutive_failures = 2\nejection_time = \"1h\"\nmax_ejection_time = \"1h\"",
    );
    for _ in 0..10 {
        assert_eq!(post(&proxy), 502);
    }
    assert_eq!((one.asked(), two.asked()), (2, 8));
    assert_eq!(ejections(&proxy, two.address()), 0.0);
}

#[test]
fn statuses_count_only_where_they_are_listed() {
    let (sick, good) = (Moody::saying("sick"), Origin::saying("good"));
    sick.answers(503);
    let listed = "count = [\"connect\", \"502-504\"]\nconsecutive_failures = 3";
    let addresses = [sick.address(), good.address()];
    let proxy = in_order(&addresses, listed);
    let statuses: Vec<u16> = (0..6).map(|_| proxy.get("/").status()).collect();
    assert_eq!(statuses, [503, 503, 503, 200, 200, 200]);

    let by_default = in_order(&addresses, "consecutive_failures = 3");
    assert!(
        (0..6).all(|_| by_default.get("/").status() == 503),
        "two applications may share these endpoints"
    );

    let other_statuses = in_order(&addresses, listed);
    sick.answers(404);
    assert!((0..6).all(|_| other_statuses.get("/").status() == 404));
    assert_eq!(ejections(&other_statuses, sick.address()), 0.0);
}

#[test]
fn too_large_a_share_of_failures_within_the_window_ejects() {
    let (half, good) = (Moody::saying("a"), Origin::saying("b"));
    let proxy = in_order(
        &[half.address(), good.address()],
        "count = [\"500\"]\nconsecutive_failures = 0\nfailure_ratio = 0.5\nminimum_requests = 10\nwindow = \"1m\"",
    );
    for number in 0..10 {
        assert_eq!(ejections(&proxy, half.address()), 0.0, "after {number} requests");
        half.answers(if number % 2 == 1 { 500 } else { 200 });
        proxy.get("/");
    }
    assert_eq!(ejections(&proxy, half.address()), 1.0);
    assert!((0..5).all(|_| proxy.get("/").text() == "b"));
}

#[test]
fn ejection_by_judgement_leaves_what_min_available_says() {
    let origins: Vec<Moody> = ["a", "b", "c"].into_iter().map(Moody::saying).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address()).collect();
    let proxy = Setup::http(&addresses)
        .pool("balance = \"first\"")
        .pool("min_available = 2")
        .text("[pool.main.outlier]\nconsecutive_failures = 2\nmax_ejected = \"100%\"\nejection_time = \"1h\"\nmax_ejection_time = \"1h\"")
        .start();
    origins.iter().for_each(Moody::breaks);
    for _ in 0..10 {
        assert_eq!(post(&proxy), 502);
    }
    let asked: Vec<usize> = origins.iter().map(Moody::asked).collect();
    assert_eq!(asked, [2, 8, 0], "the second fails, and has to stay");
}

#[test]
fn failed_connects_are_facts_and_know_no_min_available() {
    let good = Origin::saying("ok");
    let dead = [free_port(own_ip()), free_port(own_ip())];
    let proxy = Setup::http(&[dead[0], dead[1], good.address()])
        .pool("balance = \"first\"")
        .pool("min_available = 3")
        .text("[pool.main.outlier]\nconsecutive_failures = 2\nmax_ejected = 0\nejection_time = \"1h\"\nmax_ejection_time = \"1h\"")
        .start();
    assert!((0..6).all(|_| proxy.get("/").status() == 200));
    assert_eq!((ejections(&proxy, dead[0]), ejections(&proxy, dead[1])), (1.0, 1.0));
    assert_eq!(proxy.metric("plimsoll_endpoint_failures_total", "main"), 4.0);
}

#[test]
fn outlier_off_ejects_nothing() {
    let (broken, good) = (Moody::saying("a"), Origin::saying("b"));
    broken.breaks();
    let proxy = Setup::http(&[broken.address(), good.address()])
        .pool("balance = \"first\"")
        .pool("outlier = \"off\"")
        .start();
    assert!((0..8).all(|_| post(&proxy) == 502));
    assert!(good.seen().is_empty());
}

#[test]
fn an_ejected_endpoint_returns_after_its_time_and_the_next_ejection_is_longer() {
    let (sick, good) = (Moody::saying("sick"), Origin::saying("good"));
    sick.breaks();
    let time = Duration::from_millis(400);
    let proxy =
        in_order(&[sick.address(), good.address()], "consecutive_failures = 1\nejection_time = \"400ms\"");
    for times in 1..=2 {
        let asked = sick.asked();
        let before = until("it to be asked, and to fail", || {
            let before = Moment::now();
            proxy.get("/");
            (sick.asked() > asked).then_some(before)
        });
        until("it to be asked again", || {
            assert_eq!(proxy.get("/").text(), "good");
            (sick.asked() > asked + 1).then_some(())
        });
        // That request ejected it again, so what comes next begins with this ejection.
        assert!(before.elapsed() >= time * times, "{times}: {:?}", before.elapsed());
    }
    sick.answers(200);
    until("the return", || (proxy.get("/").text() == "sick").then_some(()));
    assert!((0..10).all(|_| proxy.get("/").text() == "sick"), "and it stays");
}

#[test]
fn max_fails_lets_one_trial_through_after_fail_timeout() {
    let (sick, good) = (Moody::saying("sick"), Origin::saying("good"));
    sick.breaks();
    let timeout = Duration::from_secs(2);
    let proxy = in_order(&[sick.address(), good.address()], "max_fails = 2\nfail_timeout = \"2s\"");
    let start = Moment::now();
    while start.elapsed() < timeout / 2 {
        assert_eq!(proxy.get("/").text(), "good", "it broke before an answer, and a GET may be repeated");
        assert!(sick.asked() <= 2);
    }
    assert_eq!(sick.asked(), 2);
    until("one trial", || {
        assert_eq!(proxy.get("/").text(), "good");
        (sick.asked() == 3).then_some(())
    });
    let trial = Moment::now();
    assert!(start.elapsed() >= timeout);
    for _ in 0..10 {
        let before = sick.asked();
        assert_eq!(proxy.get("/").text(), "good");
        assert!(
            sick.asked() == before || trial.elapsed() >= timeout,
            "one trial, and then another fail_timeout"
        );
    }
    sick.answers(200);
    until("a trial that goes well", || (proxy.get("/").text() == "sick").then_some(()));
    assert!((0..10).all(|_| proxy.get("/").text() == "sick"), "and then it is back at once");
}

#[test]
fn an_endpoint_much_slower_than_the_others_is_ejected_where_that_is_wanted() {
    let slow = Origin::start(|mut session| {
        while session.request()?.is_some() {
            crate::harness::clock::pause(Duration::from_millis(80));
            session.ok("slow")?;
        }
        Ok(())
    });
    let others = [Origin::saying("b"), Origin::saying("c")];
    let proxy = Setup::http(&[slow.address(), others[0].address(), others[1].address()])
        .pool("balance = \"round_robin\"")
        .text("[pool.main.outlier]\nwindow = \"1s\"\nlatency = { factor = 3.0, minimum_requests = 3, floor = \"40ms\" }")
        .start();
    until("its ejection", || {
        assert_eq!(proxy.get("/").status(), 200);
        (ejections(&proxy, slow.address()) == 1.0).then_some(())
    });
    assert_eq!(proxy.metric("plimsoll_endpoint_ejected", "main"), 1.0, "and none of the others");
    assert!((0..9).all(|_| proxy.get("/").text() != "slow"));
}

/// A pool of one place, with another pool behind it.
fn with_failover(sick: &Moody, other: &Origin, more: &str) -> Proxy {
    Setup::http(&[sick.address()])
        .pool("failover = [\"dr\"]")
        .text("[pool.main.limits]\nmax_requests = 1\nqueue_timeout = \"1m\"")
        .text(more)
        .text(&format!("[pool.dr]\nendpoints = [\"{}\"]", other.address()))
        .start()
}

fn send(proxy: &Proxy, method: &str) -> Client {
    let mut client = proxy.connect();
    client.say(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
    client
}

#[test]
fn who_waits_for_an_endpoint_that_is_ejected_goes_on_to_the_failover_pool() {
    let (sick, other) = (Moody::saying("sick"), Origin::saying("dr"));
    let proxy = with_failover(
        &sick,
        &other,
        "[pool.main.outlier]\nconsecutive_failures = 1\nejection_time = \"1h\"\nmax_ejection_time = \"1h\"",
    );
    sick.hangs();
    let mut first = send(&proxy, "POST");
    sick.request(0);
    let mut waiting = [send(&proxy, "POST"), send(&proxy, "GET")];
    until("both to wait", || (proxy.metric("plimsoll_pool_queue_length", "main") >= 2.0).then_some(()));
    let start = Moment::now();
    sick.breaks();
    assert_eq!(first.answer().status(), 502);
    for client in &mut waiting {
        assert_eq!(client.answer().text(), "dr");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "at once, not when queue_timeout is over");
    assert_eq!(sick.asked(), 1);
    assert_eq!(proxy.metric("plimsoll_pool_failed_over_total", "main"), 2.0);
}
