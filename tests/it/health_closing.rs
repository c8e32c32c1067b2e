//! Live connections when the health of their endpoint changes: which end, which stay, and how quickly.

use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::clock::Moment;
use crate::harness::member::{Member, addresses, greeted, probes};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

/// Two members of a tcp pool behind probes with these keys beside the usual ones, both up.
fn two(more: &str) -> (Member, Member, Proxy) {
    let (one, other) = (Member::tcp(), Member::tcp());
    let setup = Setup::tcp(&addresses(&[&one, &other])).pool("balance = \"round_robin\"");
    let proxy = setup.text(&probes(more)).start();
    for member in [&one, &other] {
        proxy.until_endpoint("main", &member.name(), "probe.state", "up");
    }
    (one, other, proxy)
}

/// A session with each of two members.
fn sessions(proxy: &Proxy, one: &Member, other: &Member) -> (Client, Client) {
    let to = |member: &Member| {
        until("a session", || {
            let (client, name) = greeted(proxy);
            (name == member.name()).then_some(client)
        })
    };
    (to(one), to(other))
}

fn lives(client: &mut Client) -> bool {
    client.silent_for(Duration::from_millis(300))
}

fn until_asked_again(member: &Member, times: usize) {
    let asked = member.asked();
    until("more probes", || (member.asked() >= asked + times).then_some(()));
}

#[test]
fn a_no_keeps_sessions_unless_asked_for() {
    let (one, other, proxy) = two("");
    let (mut client, _other) = sessions(&proxy, &one, &other);
    one.says(503);
    proxy.event(&one.name(), "down: says no");
    until_asked_again(&one, 5);
    assert!(lives(&mut client));
}

#[test]
fn on_demotion_ends_sessions_once_the_no_is_certain() {
    let (one, other, proxy) = two("on_demotion = { close_after = \"0s\" }\nrise = 1");
    let (mut client, mut others) = sessions(&proxy, &one, &other);
    // Two of three are no "no".
    one.alternates(&[503, 503, 200]);
    until_asked_again(&one, 6);
    assert!(lives(&mut client));
    one.says(503);
    client.expect_end();
    assert!(lives(&mut others));
    assert_eq!(proxy.event(&one.name(), "down: says no")["from"], "up");
}

#[test]
fn an_endpoint_that_cannot_be_asked_keeps_its_sessions_while_its_port_accepts() {
    let (one, other, proxy) = two("on_unreachable = { close_after = \"0s\" }");
    let (mut client, _other) = sessions(&proxy, &one, &other);
    one.stop_health();
    proxy.event(&one.name(), "down: cannot be asked");
    assert!(lives(&mut client));
    // Only now the port goes too, and the session with it.
    one.traffic().refuse();
    client.expect_end();
}

#[test]
fn an_endpoint_that_says_no_keeps_its_sessions_although_its_port_refuses() {
    let (one, other, proxy) = two("on_unreachable = { close_after = \"0s\" }");
    let (mut client, _other) = sessions(&proxy, &one, &other);
    one.traffic().refuse();
    one.says(503);
    proxy.event(&one.name(), "down: says no");
    until_asked_again(&one, 5);
    assert!(lives(&mut client));
}

#[test]
fn sessions_of_an_unreachable_endpoint_end_and_no_others() {
    let (one, other, proxy) = two("on_unreachable = { close_after = \"600ms\" }");
    let (mut client, mut others) = sessions(&proxy, &one, &other);
    one.stop_health();
    one.traffic().refuse();
    proxy.event(&one.name(), "down: cannot be asked");
    let down = Moment::now();
    client.expect_end();
    assert!(down.elapsed() > Duration::from_millis(200), "{:?}", down.elapsed());
    assert!(lives(&mut others));
}

#[test]
fn an_endpoint_that_comes_back_in_time_keeps_its_sessions() {
    let (one, other, proxy) = two("on_demotion = { close_after = \"2s\" }\nrise = 1");
    let (mut client, _other) = sessions(&proxy, &one, &other);
    one.says(503);
    proxy.event(&one.name(), "down: says no");
    one.says(200);
    proxy.until_endpoint("main", &one.name(), "usable", true);
    assert!(client.silent_for(Duration::from_millis(2500)));
}

#[test]
fn a_rate_bounds_how_quickly_sessions_end() {
    let (one, other, proxy) = two("on_demotion = { close_after = \"0s\", rate = \"10/s\" }");
    other.says(503);
    proxy.until_endpoint("main", &other.name(), "usable", false);
    let held: Vec<_> = (0..10).map(|_| greeted(&proxy)).collect();
    assert!(held.iter().all(|(_, name)| *name == one.name()));
    other.says(200);
    proxy.until_endpoint("main", &other.name(), "usable", true);
    until("all sessions", || (one.traffic().open() == 10).then_some(()));
    one.says(503);
    until("the first to end", || (one.traffic().open() < 10).then_some(()));
    let first = Moment::now();
    until("the last to end", || (one.traffic().open() == 0).then_some(()));
    assert!(first.elapsed() > Duration::from_millis(600), "{:?}", first.elapsed());
}

#[test]
fn sessions_move_to_an_endpoint_that_has_returned() {
    let (one, other) = (Member::tcp(), Member::tcp());
    other.says(503);
    let setup = Setup::tcp(&addresses(&[&one, &other])).text(&probes("shed = { rate = \"20/s\" }"));
    let proxy = setup.start();
    proxy.until_endpoint("main", &one.name(), "usable", true);
    proxy.until_endpoint("main", &other.name(), "probe.state", "says no");
    let mut held: Vec<Client> = (0..10).map(|_| greeted(&proxy).0).collect();
    other.says(200);
    until("the first to move", || (one.traffic().open() < 10).then_some(()));
    // Another snapshot on the way there does not end it.
    let path = format!("/v1/pools/main/endpoints/{}", other.name());
    assert_eq!(proxy.admin_change("PATCH", &path, r#"{"weight":1}"#).status(), 200);
    until("an even spread", || {
        for client in &mut held {
            if !client.silent_for(Duration::from_millis(1)) {
                *client = greeted(&proxy).0;
            }
        }
        (one.traffic().open() == 5 && other.traffic().open() == 5).then_some(())
    });
    // And no further.
    assert!(held.iter_mut().all(|client| client.silent_for(Duration::from_millis(50))));
}
