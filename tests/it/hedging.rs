//! A second attempt beside a slow one: when it is made, whose answer the client gets, and that nobody pays for having lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::moody::Moody;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// A slow origin takes so long.
const LATE: Duration = Duration::from_millis(400);

fn hedge(rule: &str) -> String {
    format!("[pool.main.retry]\nhedge = {{ {rule} }}\n")
}

/// `first` is asked first, always, and another at once when it is not as fast as usual.
fn in_order(endpoints: &[SocketAddr], more: &str) -> Proxy {
    Setup::http(endpoints)
        .pool("balance = \"first\"")
        .text(&format!("{}{more}", hedge("min_delay = \"20ms\", max_delay = \"50ms\"")))
        .start()
}

fn slow() -> Origin {
    Origin::start(|mut session| {
        while session.request()?.is_some() {
            session.wire.silent_for(LATE);
            session.ok("slow")?;
        }
        Ok(())
    })
}

/// How often something happened that has a metric.
fn count(proxy: &Proxy, what: &str) -> u64 {
    proxy.metric(&format!("plimsoll_pool_{what}_total"), "pool=\"main\"") as u64
}

fn in_flight(proxy: &Proxy, origin: &Origin) -> f64 {
    proxy.metric("plimsoll_endpoint_in_flight", &origin.address().to_string())
}

fn ask(proxy: &Proxy, method: &str) -> u16 {
    proxy
        .ask(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"))
        .status()
}

#[test]
fn the_answer_comes_from_the_other_one_when_the_first_is_late() {
    let (slow, fast) = (Moody::saying("slow"), Origin::saying("fast"));
    let proxy = in_order(&[slow.address(), fast.address()], "");
    slow.hangs();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "fast"));
    let record = &proxy.records(1)[0];
    assert_eq!(record["attempts"], 2);
    assert_eq!(record["endpoint"], fast.address().to_string());
    assert_eq!((count(&proxy, "hedges"), count(&proxy, "hedges_won"), count(&proxy, "retries")), (1, 1, 0));
}

#[test]
fn after_the_quantile_that_was_measured_almost_all_answers_are_fast() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_slow);
    let turning = Origin::start(move |mut session| {
        while session.request()?.is_some() {
            if told.load(Ordering::SeqCst) {
                session.wire.silent_for(5 * LATE);
            }
            session.ok("turning")?;
        }
        Ok(())
    });
    let fast = Origin::saying("fast");
    let proxy = Setup::http(&[turning.address(), fast.address()])
        .pool("balance = \"round_robin\"")
        .text(&hedge("after = 0.9, min_delay = \"20ms\""))
        .text("budget = { ratio = 1.0, minimum_per_second = 100 }")
        .start();
    for _ in 0..60 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    is_slow.store(true, Ordering::SeqCst);
    // The first one may come before what was measured is known to whoever sends.
    let late = (0..30).filter(|_| proxy.get("/").text() == "turning").count();
    assert!(late <= 2, "{late}");
    assert!(count(&proxy, "hedges_won") >= 12, "{}", count(&proxy, "hedges_won"));
}

#[test]
fn what_may_not_be_sent_twice_is_not_hedged() {
    let slow = slow();
    let fast = Origin::saying("fast");
    let proxy = in_order(&[slow.address(), fast.address()], "max_body = \"1KiB\"");
    for method in ["POST", "PATCH", "BREW"] {
        assert_eq!(ask(&proxy, method), 200, "{method}");
    }
    let body = "x".repeat(4096);
    let large =
        format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4096\r\nConnection: close\r\n\r\n{body}");
    assert_eq!(proxy.ask(large).status(), 200);
    // How large a chunked one is shows only when it has gone.
    let chunks = "400\r\n".to_owned() + &body[..1024] + "\r\n";
    let chunked = format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{}0\r\n\r\n",
        chunks.repeat(4)
    );
    assert_eq!(proxy.ask(chunked).status(), 200);
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n";
    assert_eq!(proxy.connect().say(upgrade).answer().status(), 200);
    assert_eq!((slow.seen().len(), fast.seen().len(), count(&proxy, "hedges")), (6, 0, 0));
}

#[test]
fn a_body_that_was_kept_goes_to_both() {
    let (slow, fast) = (Moody::saying("slow"), Origin::saying("fast"));
    let proxy = in_order(&[slow.address(), fast.address()], "");
    slow.hangs();
    assert_eq!(ask(&proxy, "PUT"), 200);
    assert_eq!((slow.request(0).text(), fast.request(0).text()), ("hi".to_owned(), "hi".to_owned()));
}

#[test]
fn a_spent_budget_ends_it() {
    let (slow, fast) = (Moody::saying("slow"), Origin::saying("fast"));
    let budget =
        "budget = { ratio = 0.0, minimum_per_second = 0 }\n[pool.main.timeouts]\nresponse_header = \"1s\"";
    let proxy = in_order(&[slow.address(), fast.address()], budget);
    slow.hangs();
    assert_eq!(proxy.get("/").status(), 504);
    assert!(fast.seen().is_empty());
    assert_eq!((count(&proxy, "hedges"), count(&proxy, "hedges_refused")), (0, 1));
}

#[test]
fn who_loses_is_closed_and_not_blamed() {
    // Keeps its connections and would answer, were it not for the one it waits for.
    let slow = Origin::start(|mut session| {
        while session.request()?.is_some() {
            while session.wire.silent_for(LATE) {}
            session.ok("slow")?;
        }
        Ok(())
    });
    let fast = Origin::saying("fast");
    let proxy = in_order(&[slow.address(), fast.address()], "[pool.main.outlier]\nconsecutive_failures = 1");
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "fast");
    }
    until("its connections to be closed", || (slow.open() == 0).then_some(()));
    assert_eq!((slow.seen().len(), slow.accepted()), (3, 3), "none was used again");
    let failures = proxy.metric("plimsoll_endpoint_failures_total", &slow.address().to_string());
    assert!(failures.abs() < f64::EPSILON && proxy.events().iter().all(|event| event["kind"] != "endpoint"));
    until("nothing to be in flight", || {
        (in_flight(&proxy, &slow) + in_flight(&proxy, &fast) < 0.5).then_some(())
    });
}

#[test]
fn the_first_may_still_win() {
    let slow = Moody::saying("slow");
    let other = Origin::start(|mut session| {
        session.request()?;
        while session.wire.silent_for(LATE) {}
        Ok(())
    });
    let proxy = in_order(&[slow.address(), other.address()], "");
    slow.hangs();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    other.request(0);
    slow.answers(200);
    assert_eq!(client.answer().text(), "slow");
    until("the other to be let go", || (other.open() == 0).then_some(()));
    assert_eq!((count(&proxy, "hedges"), count(&proxy, "hedges_won")), (1, 0));
}

#[test]
fn one_that_breaks_leaves_it_to_the_other() {
    for breaks_first in [true, false] {
        let (one, two) = (Moody::saying("one"), Moody::saying("two"));
        let proxy = in_order(&[one.address(), two.address()], "");
        one.hangs();
        two.hangs();
        let mut client = proxy.connect();
        client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        two.request(0);
        let (breaking, answering) = if breaks_first { (&one, &two) } else { (&two, &one) };
        breaking.breaks();
        until("the failure to be counted", || {
            let failures = proxy.metric("plimsoll_endpoint_failures_total", &breaking.address().to_string());
            (failures > 0.5).then_some(())
        });
        answering.answers(200);
        let answer = client.answer();
        assert_eq!(answer.text(), if breaks_first { "two" } else { "one" });
        assert_eq!((one.asked(), two.asked()), (1, 1));
    }
}

#[test]
fn a_status_that_would_be_tried_again_does_not_win_while_another_may() {
    let (one, two) = (Moody::saying("one"), Moody::saying("two"));
    let proxy = in_order(&[one.address(), two.address()], "on = [\"connect\", \"503\"]");
    one.hangs();
    two.hangs();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    two.request(0);
    two.answers(503);
    until("its answer to have gone", || (two.open() == 0).then_some(()));
    one.answers(200);
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "one"));
}

#[test]
fn a_second_one_that_cannot_be_reached_changes_nothing() {
    let slow = Moody::saying("slow");
    let dead = SocketAddr::from((crate::harness::own_ip(), 1));
    let proxy = in_order(&[slow.address(), dead], "");
    slow.hangs();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    until("the connect to fail", || {
        let failures = proxy.metric("plimsoll_endpoint_failures_total", &dead.to_string());
        (failures > 0.5).then_some(())
    });
    slow.answers(200);
    assert_eq!(client.answer().text(), "slow");
    assert_eq!(count(&proxy, "hedges"), 0, "nothing was sent");
    assert_eq!(proxy.records(1)[0]["attempts"], 1);
}

#[test]
fn a_client_that_leaves_takes_both_with_it() {
    let (one, two) = (Moody::saying("one"), Moody::saying("two"));
    let proxy = in_order(&[one.address(), two.address()], "");
    one.hangs();
    two.hangs();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    two.request(0);
    drop(client);
    let record = &proxy.records(1)[0];
    assert_eq!((&record["end"], &record["attempts"]), (&"client_aborted".into(), &2.into()));
    until("nothing to be in flight", || {
        (in_flight(&proxy, &one) + in_flight(&proxy, &two) < 0.5).then_some(())
    });
}

#[test]
fn an_early_hint_decides_who_goes_on() {
    let slow = Moody::saying("slow");
    let other = Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        session.wire.silent_for(Duration::from_millis(100));
        session.ok("hinted")
    });
    let proxy = in_order(&[slow.address(), other.address()], "");
    slow.hangs();
    let mut client = proxy.connect();
    client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status(), 103);
    assert_eq!(client.answer().text(), "hinted");
}

#[test]
fn backups_and_failover_pools_get_nothing_of_it() {
    let slow = slow();
    let (backup, region) = (Origin::saying("backup"), Origin::saying("region"));
    let proxy =
        Setup::listed(&format!("\"{}\", {{ address = \"{}\", tier = 1 }}", slow.address(), backup.address()))
            .pool("failover = [\"region\"]")
            .text(&hedge("min_delay = \"20ms\", max_delay = \"50ms\""))
            .text(&format!("[pool.region]\nendpoints = [\"{}\"]", region.address()))
            .start();
    assert_eq!(proxy.get("/").text(), "slow");
    assert_eq!(count(&proxy, "hedges"), 0);
}
