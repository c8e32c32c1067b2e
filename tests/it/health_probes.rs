//! Active probes as an operator sees them: which results decide, who gets traffic meanwhile, and what is told of it.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::clock::{Moment, pause};
use crate::harness::member::{HEALTH_PORT, Member, addresses, probes, probes_of};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// Two members behind probes with these keys beside the usual ones.
fn two(more: &str) -> (Member, Member, Proxy) {
    let (one, other) = (Member::http(), Member::http());
    let setup = Setup::http(&addresses(&[&one, &other])).pool("balance = \"round_robin\"");
    let proxy = setup.text(&probes(more)).start();
    (one, other, proxy)
}

/// Who answers so many requests.
fn answers(proxy: &Proxy, count: usize) -> Vec<String> {
    (0..count).map(|_| proxy.get("/").text()).collect()
}

#[test]
fn the_first_result_decides_in_either_direction() {
    let (well, sick) = (Member::http(), Member::http());
    sick.says(503);
    // Nothing but the first result can have come within the test.
    let text =
        probes("interval = \"1h\"\nfast_interval = \"1h\"\ndown_interval = \"1h\"\nrise = 9\nfall = 9");
    let proxy = Setup::http(&addresses(&[&well, &sick])).text(&text).start();
    proxy.until_endpoint("main", &well.name(), "probe.state", "up");
    proxy.until_endpoint("main", &sick.name(), "probe.state", "says no");
    assert_eq!((well.asked(), sick.asked()), (1, 1));
    assert!(answers(&proxy, 10).iter().all(|who| *who == well.name()));
}

#[test]
fn only_results_in_a_row_bring_an_endpoint_down_and_up() {
    let (one, other, proxy) = two("rise = 3\nfall = 3");
    for member in [&one, &other] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    one.says(503);
    let down = proxy.event(&one.name(), "down: says no");
    assert_eq!((&down["from"], &down["because"]), (&"up".into(), &"3 in a row: status 503".into()));
    let results: Vec<_> =
        down["evidence"].as_array().into_iter().flatten().map(|e| e["result"].clone()).collect();
    assert!(results.ends_with(&["says no".into(), "says no".into(), "says no".into()]), "{results:?}");
    assert_eq!(results.iter().filter(|result| **result == "says no").count(), 3, "{results:?}");
    assert!(answers(&proxy, 10).iter().all(|who| *who == other.name()));
    one.says(200);
    let up = until("the return", || {
        proxy.events().into_iter().find(|e| e["endpoint"] == one.name() && e["from"] == "down: says no")
    });
    assert_eq!((&up["to"], &up["because"]), (&"up".into(), &"3 in a row: status 200".into()));
    assert!(answers(&proxy, 10).contains(&one.name()));
}

#[test]
fn good_results_between_bad_ones_take_their_progress_back() {
    let (one, other, proxy) = two("rise = 1\nfall = 3");
    for member in [&one, &other] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    one.alternates(&[503, 503, 200]);
    let asked = one.asked();
    until("some probes", || (one.asked() >= asked + 12).then_some(()));
    assert!(proxy.events().iter().all(|event| event["from"] != "up"), "{:?}", proxy.events());
    assert!(answers(&proxy, 4).contains(&one.name()));
}

#[test]
fn an_unproven_endpoint_gets_traffic_only_where_none_is_proven() {
    let (unproven, other) = (Member::http(), Member::http());
    unproven.hangs();
    other.hangs();
    let setup = Setup::http(&addresses(&[&unproven, &other])).pool("balance = \"round_robin\"");
    let proxy = setup.text(&probes("timeout = \"1m\"")).start();
    until("both probes", || (unproven.asked() + other.asked() == 2).then_some(()));
    assert_eq!(proxy.endpoint("main", &unproven.name())["probe"]["state"], "unknown");
    let both = answers(&proxy, 10);
    assert!(both.contains(&unproven.name()) && both.contains(&other.name()), "{both:?}");
    other.says(200);
    proxy.until_endpoint("main", &other.name(), "probe.state", "up");
    assert_eq!(proxy.endpoint("main", &unproven.name())["reason"], "unproven");
    assert!(answers(&proxy, 10).iter().all(|who| *who == other.name()));
}

#[test]
fn the_same_probe_of_two_pools_is_made_once() {
    let member = Member::http();
    let second = Origin::start_at(ip_of(&member), 0, |mut session| {
        while session.request()?.is_some() {
            session.ok("second")?;
        }
        Ok(())
    });
    let setup = Setup::http(&[member.address()]).text(&probes("")).text(&format!(
        "[pool.second]\nendpoints = [\"{}\"]\n{}",
        second.address(),
        probes_of("second", "")
    ));
    let proxy = setup.start();
    let name = second.address().to_string();
    proxy.until_endpoint("second", &name, "probe.state", "up");
    proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    // No probe starts before the last one has ended, 90 ms and more apart: twice as many would be seen.
    let (before, start) = (member.asked(), Moment::now());
    until("more probes", || (member.asked() >= before + 10).then_some(()));
    assert!(start.elapsed() > Duration::from_millis(9 * 90 - 45), "{:?}", start.elapsed());
    member.says(503);
    proxy.until_endpoint("second", &name, "probe.state", "says no");
    proxy.until_endpoint("main", &member.name(), "probe.state", "says no");
}

fn ip_of(member: &Member) -> std::net::Ipv4Addr {
    match member.address().ip() {
        std::net::IpAddr::V4(ip) => ip,
        std::net::IpAddr::V6(_) => unreachable!("members are on 127/8"),
    }
}

#[test]
fn saying_no_and_not_answering_are_told_apart() {
    let (one, other, proxy) = two("");
    for member in [&one, &other] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    one.states(503, "leaving");
    other.falls_silent();
    let no = proxy.event(&one.name(), "down: says no");
    let silent = proxy.event(&other.name(), "down: cannot be asked");
    let last = |event: &serde_json::Value| event["evidence"].as_array().and_then(|list| list.last().cloned());
    let (no, silent) = (last(&no).expect("evidence"), last(&silent).expect("evidence"));
    assert_eq!((&no["result"], &no["text"]), (&"says no".into(), &"status 503".into()));
    let answer = no["answer"].as_str().unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 503 X\r\n") && answer.ends_with("leaving"), "{answer}");
    assert_eq!(no["phases"][0]["phase"], "connect");
    assert!(no["took_ms"].as_f64().is_some_and(|took| took > 0.0));
    assert_eq!(silent["result"], "cannot be asked");
    assert_eq!(silent["text"], "connection closed before a complete answer");
    assert_eq!(proxy.endpoint("main", &one.name())["probe"]["state"], "says no");
    assert_eq!(proxy.endpoint("main", &other.name())["probe"]["state"], "cannot be asked");
}

#[test]
fn a_refused_and_a_silent_health_port_cannot_be_asked() {
    let (refused, silent) = (Member::http(), Member::http());
    refused.stop_health();
    silent.hangs();
    let setup = Setup::http(&addresses(&[&refused, &silent]));
    let proxy = setup.text(&probes("timeout = \"200ms\"")).start();
    for (member, text) in [(&refused, "connection refused"), (&silent, "timeout before an answer")] {
        let event = proxy.event(&member.name(), "down: cannot be asked");
        let because = event["because"].as_str().unwrap_or_default();
        assert!(because.contains(text), "{because}");
    }
}

#[test]
fn a_probe_reads_what_the_server_still_writes() {
    let (member, body) = (Member::http(), "x".repeat(50_000));
    member.states(503, &body);
    let proxy = Setup::http(&[member.address()]).text(&probes("")).start();
    proxy.event(&member.name(), "down: says no");
    until("more probes", || (member.asked() > 10).then_some(()));
    assert_eq!(member.broken_off(), 0);
}

#[test]
fn an_endpoint_that_flaps_is_held_down_visibly() {
    let damping = "damping = { half_life = \"2s\", suppress = 2.0, reuse = 1.0, max_time = \"4s\" }\nrise = 1\nfall = 1";
    let (one, other, proxy) = two(damping);
    for member in [&one, &other] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    let until_asked = |status| {
        one.says(status);
        proxy.until_endpoint("main", &one.name(), "probe.last.text", format!("status {status}"));
    };
    let suppressed = until("the suppression", || {
        until_asked(503);
        let held = proxy.endpoint("main", &one.name());
        until_asked(200);
        (!held["suppressed_until"].is_null()).then_some(held)
    });
    assert_eq!(suppressed["usable"], false);
    // Its probes are good by now.
    let held = proxy.endpoint("main", &one.name());
    assert_eq!((&held["probe"]["state"], &held["usable"]), (&"says no".into(), &false.into()));
    let told = |event: &serde_json::Value| !event["suppressed_until"].is_null();
    assert!(proxy.events().iter().any(told), "{:?}", proxy.events());
    let free = until("the end of the suppression", || {
        Some(proxy.endpoint("main", &one.name())).filter(|endpoint| endpoint["usable"] == true)
    });
    assert_eq!(
        (&free["suppressed_until"], &free["probe"]["state"]),
        (&serde_json::Value::Null, &"up".into())
    );
}

#[test]
fn a_stop_of_our_own_is_nobodys_fault() {
    let members: Vec<Member> = (0..3).map(|_| Member::http()).collect();
    let setup = Setup::http(&addresses(&members.iter().collect::<Vec<_>>()));
    let proxy = setup.text(&probes("timeout = \"1s\"\nfall = 1")).start();
    for member in &members {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    let before = proxy.events();
    // Probes are under way while we are stopped, and no answer has come when their limit has long passed.
    for member in &members {
        let asked = member.hangs().asked();
        until("a probe", || (member.asked() > asked).then_some(()));
    }
    proxy.signal(Signal::STOP);
    pause(Duration::from_secs(3));
    proxy.signal(Signal::CONT);
    let asked: Vec<_> = members.iter().map(|member| member.says(200).asked()).collect();
    for (member, asked) in members.iter().zip(asked) {
        until("more probes", || (member.asked() > asked + 5).then_some(()));
    }
    assert_eq!(proxy.events(), before);
    assert!(members.iter().all(|member| proxy.endpoint("main", &member.name())["usable"] == true));
}

#[test]
fn a_webhook_hears_of_an_endpoint_with_the_evidence() {
    let hook = Origin::saying("");
    let sink = format!("[[notify]]\nwebhook = \"http://{}/lb\"\nevents = [\"endpoint\"]\n", hook.address());
    let member = Member::http();
    let proxy = Setup::http(&[member.address()]).text(&probes("")).text(&sink).start();
    proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    member.says(500);
    let mut told = until("the webhook", || {
        let events = hook.seen().into_iter().filter_map(|request| serde_json::from_slice(&request.body).ok());
        events.into_iter().find(|event: &serde_json::Value| event["to"] == "down: says no")
    });
    assert_eq!((&told["pool"], &told["endpoint"]), (&"main".into(), &member.name().into()));
    assert_eq!(told["evidence"].as_array().map(Vec::len).map(|count| count >= 3), Some(true), "{told}");
    // The webhook also counts what it was not told.
    assert_eq!(told.as_object_mut().and_then(|told| told.remove("dropped")), Some(0.into()));
    assert_eq!(told, proxy.event(&member.name(), "down: says no"));
}

#[test]
fn a_health_port_may_stand_elsewhere_for_one_endpoint() {
    let (member, elsewhere) = (Member::http(), Member::http());
    member.says(503);
    let endpoint = format!(
        "{{ address = \"{}\", health = {{ address = \"{}\", port = {HEALTH_PORT} }} }}",
        member.address(),
        elsewhere.address().ip()
    );
    let proxy = Setup::listed(&endpoint).text(&probes("")).start();
    proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    assert_eq!(member.asked(), 0);
}
