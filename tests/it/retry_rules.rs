//! The rules around repeats: the budget, idempotency keys, the time of one try, and the wait before the same endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::clock::{Moment, pause};
use crate::harness::moody::Moody;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, own_ip};

fn in_order(endpoints: &[SocketAddr], retry: &str) -> Proxy {
    Setup::http(endpoints)
        .pool("balance = \"first\"")
        .pool("outlier = \"off\"")
        .text(&format!("[pool.main.retry]\n{retry}"))
        .start()
}

fn post(proxy: &Proxy, fields: &str) -> u16 {
    proxy
        .ask(format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 2\r\nConnection: close\r\n\r\nhi"
        ))
        .status()
}

/// Answers every request after so long, with 200.
fn after(time: Duration, text: &'static str) -> Origin {
    Origin::start(move |mut session| {
        while session.request()?.is_some() {
            pause(time);
            session.ok(text)?;
        }
        Ok(())
    })
}

#[test]
fn the_budget_bounds_repeats_when_everything_fails() {
    let origins: Vec<Moody> = ["a", "b", "c"].into_iter().map(Moody::saying).collect();
    for origin in &origins {
        origin.answers(502);
    }
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address()).collect();
    let proxy = in_order(&addresses, "on = [\"502\"]\nbudget = { ratio = 0.1, minimum_per_second = 1 }");
    let start = Moment::now();
    for _ in 0..100 {
        assert_eq!(proxy.get("/").status(), 502);
    }
    let asked: usize = origins.iter().map(|origin| origin.asked()).sum();
    // The reserve is that of the ten seconds for which a repeat counts, and comes back after them.
    let reserves = 1 + usize::try_from(start.elapsed().as_secs() / 10).expect("few");
    assert!((110..=100 + 10 + 10 * reserves).contains(&asked), "{asked} attempts for 100 requests");
    assert!(proxy.metric("plimsoll_pool_retries_refused_total", "main") >= 80.0);
    assert_eq!(proxy.metric("plimsoll_pool_retries_total", "main"), (asked - 100) as f64);
}

#[test]
fn without_a_budget_every_request_has_all_its_attempts() {
    let origins: Vec<Moody> = ["a", "b", "c"].into_iter().map(Moody::saying).collect();
    for origin in &origins {
        origin.answers(502);
    }
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address()).collect();
    let proxy = in_order(&addresses, "on = [\"502\"]\nbudget = \"off\"");
    for _ in 0..60 {
        assert_eq!(proxy.get("/").status(), 502);
    }
    let asked: Vec<usize> = origins.iter().map(Moody::asked).collect();
    assert_eq!(asked, [60, 60, 60], "each on an endpoint that was not tried");
}

#[test]
fn failed_connects_do_not_draw_on_the_budget() {
    let origin = Origin::saying("ok");
    let endpoints = [free_port(own_ip()), free_port(own_ip()), origin.address()];
    let proxy = in_order(&endpoints, "budget = { ratio = 0.0, minimum_per_second = 0 }");
    assert!((0..30).all(|_| proxy.get("/").status() == 200));
}

#[test]
fn a_post_is_repeated_only_with_its_key_and_where_the_operator_says_so() {
    let (broken, good) = (Moody::saying("a"), Origin::saying("b"));
    broken.breaks();
    let addresses = [broken.address(), good.address()];
    let key = "Idempotency-Key: 7b4e\r\n";
    for (setting, with_key, without_key) in
        [("\"with_idempotency_key\"", 200, 502), ("false", 502, 502), ("true", 200, 200)]
    {
        let proxy = in_order(&addresses, &format!("non_idempotent = {setting}"));
        let before = good.seen().len();
        assert_eq!((post(&proxy, key), post(&proxy, "")), (with_key, without_key), "{setting}");
        let repeats = usize::from(with_key == 200) + usize::from(without_key == 200);
        assert_eq!(good.seen().len() - before, repeats, "{setting}");
        assert!(good.seen().iter().all(|request| request.text() == "hi"));
    }
}

#[test]
fn a_try_that_takes_too_long_moves_on() {
    let (slow, good) = (Moody::saying("slow"), Origin::saying("good"));
    slow.hangs();
    let proxy =
        in_order(&[slow.address(), good.address()], "on = [\"timeout\"]\nper_try_timeout = \"200ms\"");
    let start = Moment::now();
    assert_eq!(proxy.get("/").text(), "good");
    assert!(start.elapsed() >= Duration::from_millis(190));
    assert!(start.elapsed() < Duration::from_secs(10), "response_header is a minute");
    assert_eq!(proxy.records(1)[0]["attempts"], 2);
}

#[test]
fn the_last_try_has_all_of_response_header() {
    let origins = [after(Duration::from_millis(700), "a"), after(Duration::from_millis(700), "b")];
    let addresses = [origins[0].address(), origins[1].address()];
    let proxy = in_order(&addresses, "on = [\"timeout\"]\nper_try_timeout = \"100ms\"");
    assert_eq!(proxy.get("/").text(), "b", "late, but an answer");
    assert_eq!(post(&proxy, ""), 200, "where nothing may follow the first try is the last");
    let all = Setup::http(&addresses)
        .pool("balance = \"first\"")
        .text("[pool.main.timeouts]\nresponse_header = \"300ms\"")
        .text("[pool.main.retry]\non = [\"timeout\"]\nper_try_timeout = \"100ms\"")
        .start();
    assert_eq!(all.get("/").status(), 504, "and no more than that");
}

#[test]
fn one_endpoint_that_breaks_once_is_asked_again_after_a_short_wait() {
    let origin = Origin::start(|mut session| {
        while session.request()?.is_some() {
            if session.number == 1 {
                return Ok(());
            }
            session.ok("there")?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).start();
    let start = Moment::now();
    assert_eq!(proxy.get("/").text(), "there");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(origin.seen().len(), 2);
    let record = &proxy.records(1)[0];
    assert_eq!((&record["attempts"], &record["end"]), (&2.into(), &"done".into()));
}

#[test]
fn one_endpoint_that_always_breaks_is_asked_so_often_and_no_more() {
    let origin = Moody::saying("x");
    origin.breaks();
    let proxy = Setup::http(&[origin.address()]).start();
    assert_eq!(proxy.get("/").status(), 502);
    assert_eq!(origin.asked(), 3);
    assert_eq!(post(&proxy, ""), 502);
    assert_eq!(origin.asked(), 4, "and a request that may have been acted on once");
}

#[test]
fn no_attempt_starts_after_within() {
    let (slow, good) = (Moody::saying("slow"), Origin::saying("good"));
    slow.hangs();
    let proxy = Setup::http(&[slow.address(), good.address()])
        .pool("balance = \"first\"")
        .text("[pool.main.timeouts]\nresponse_header = \"300ms\"")
        .text("[pool.main.retry]\non = [\"timeout\"]\nwithin = \"100ms\"")
        .start();
    assert_eq!(proxy.get("/").status(), 504);
    assert!(good.seen().is_empty());
}

#[test]
fn a_retry_never_goes_back_also_where_a_key_leads_there() {
    let origins: Vec<Moody> = ["a", "b", "c"].into_iter().map(Moody::saying).collect();
    for origin in &origins {
        origin.answers(502);
    }
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address()).collect();
    for policy in ["ring_hash", "maglev", "rendezvous"] {
        let proxy = Setup::http(&addresses)
            .pool(&format!("balance = \"{policy}\""))
            .text("[pool.main.retry]\non = [\"502\"]")
            .start();
        let before: Vec<usize> = origins.iter().map(Moody::asked).collect();
        assert_eq!(proxy.get("/").status(), 502);
        let asked: Vec<usize> =
            origins.iter().zip(before).map(|(origin, before)| origin.asked() - before).collect();
        assert_eq!(asked, [1, 1, 1], "{policy}");
    }
}

#[test]
fn every_503_of_ours_says_when_to_come_back() {
    let origin = Moody::saying("x");
    let dead = free_port(own_ip());
    let one_place = "[pool.main.limits]\nmax_requests = 1\nqueue_timeout = \"200ms\"\nqueue = ";
    let held = |queue: u32| {
        origin.hangs();
        let proxy = Setup::http(&[origin.address()]).text(&format!("{one_place}{queue}")).start();
        let before = origin.asked();
        let mut holder = proxy.connect();
        holder.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        origin.request(before);
        let answer = proxy.get("/");
        origin.answers(200);
        (answer, holder)
    };
    let answers = [
        ("no connection", Setup::http(&[dead]).start().get("/")),
        ("queue full", held(0).0),
        ("queue timeout", held(5).0),
    ];
    for (cause, answer) in answers {
        let seconds = answer.field("retry-after").and_then(|text| text.parse::<u32>().ok());
        assert!(answer.status() == 503 && seconds >= Some(1), "{cause}: {} {seconds:?}", answer.status());
    }
}
