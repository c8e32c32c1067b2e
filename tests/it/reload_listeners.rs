//! Listeners that come, go, move and change by a reload, and what their connections notice of it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use plimsoll::ReloadError;

use crate::harness::client::{self, Client};
use crate::harness::embedded::Embedded;
use crate::harness::moody::Moody;
use crate::harness::origin::Origin;
use crate::harness::{free_port, own_ip, until};

/// A listener, and a route of it that answers with its text.
fn says(name: &str, bind: &[SocketAddr], text: &str) -> String {
    format!(
        "[listener.{name}]\nbind = {:?}\n[[route]]\nlisteners = [\"{name}\"]\n\
         respond = {{ status = 200, body = \"{text}\" }}\n",
        bind.iter().map(ToString::to_string).collect::<Vec<_>>()
    )
}

/// A tcp listener before one endpoint.
fn relays(name: &str, bind: SocketAddr, to: SocketAddr) -> String {
    format!(
        "[listener.{name}]\nbind = [\"{bind}\"]\nprotocol = \"tcp\"\npool = \"{name}\"\n\
         [pool.{name}]\nendpoints = [\"{to}\"]\n"
    )
}

fn addresses<const N: usize>() -> [SocketAddr; N] {
    [(); N].map(|()| free_port(own_ip()))
}

/// Opens a connection after the other and asks on it, until it is told to stop; how many answers came, and which text.
fn knocks(at: SocketAddr) -> (Arc<AtomicBool>, JoinHandle<Vec<String>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let knocking = thread::spawn(move || {
        let mut texts = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            texts.push(client::get(at, "/").text());
        }
        texts
    });
    (stop, knocking)
}

fn told(knocks: (Arc<AtomicBool>, JoinHandle<Vec<String>>)) -> Vec<String> {
    knocks.0.store(true, Ordering::Relaxed);
    knocks.1.join().expect("every connection was answered")
}

#[test]
fn a_listener_comes_and_one_that_stays_does_not_notice() {
    let [old, new] = addresses();
    let proxy = Embedded::start(&says("old", &[old], "old"));
    let mut stays = Client::connect(old);
    assert_eq!(stays.get("/").text(), "old");
    proxy.reload(&(says("old", &[old], "changed") + &says("new", &[new], "new")));
    assert_eq!(client::get(new, "/").text(), "new");
    assert_eq!(stays.get("/").text(), "changed", "the same connection, under what runs now");
}

#[test]
fn a_removed_listener_finishes_what_it_has_and_takes_no_more() {
    let [stays, goes] = addresses();
    let origin = Moody::saying("slow");
    origin.hangs();
    let with = format!(
        "{}[listener.goes]\nbind = [\"{goes}\"]\n[[route]]\nlisteners = [\"goes\"]\npath = \"/slow\"\npool = \"slow\"\n\
         [[route]]\nlisteners = [\"goes\"]\nrespond = {{ status = 200, body = \"goes\" }}\n[pool.slow]\nendpoints = [\"{}\"]\n",
        says("stays", &[stays], "stays"),
        origin.address()
    );
    let proxy = Embedded::start(&with);
    let mut idle = Client::connect(goes);
    assert_eq!(idle.get("/").text(), "goes");
    let mut fresh = Client::connect(goes);
    let mut busy = Client::connect(goes);
    busy.say("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.request(0);
    let mut other = Client::connect(stays);
    other.get("/");
    until("all to be accepted", || (proxy.status().listeners[1].connections == 3).then_some(()));
    proxy.reload(&says("stays", &[stays], "stays"));
    idle.expect_end();
    assert!(Client::is_turned_away(goes));
    let first = fresh.get("/");
    assert_eq!(first.text(), "goes", "it had connected before");
    assert_eq!(first.field("connection").as_deref(), Some("close"));
    origin.answers(200);
    let answer = busy.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "slow"));
    assert_eq!(answer.field("connection").as_deref(), Some("close"));
    busy.expect_end();
    assert_eq!(other.get("/").text(), "stays");
    assert_eq!(proxy.status().listeners.len(), 1);
}

#[test]
fn a_listener_that_is_only_called_otherwise_keeps_its_socket_and_its_connections() {
    let [address] = addresses();
    let proxy = Embedded::start(&says("before", &[address], "before"));
    let mut stays = Client::connect(address);
    assert_eq!(stays.get("/").text(), "before");
    let knocks = knocks(address);
    for round in 0..10 {
        let name = if round % 2 == 0 { "after" } else { "before" };
        proxy.reload(&says(name, &[address], name));
        assert_eq!(stays.get("/").text(), name);
    }
    assert!(!told(knocks).is_empty());
}

#[test]
fn an_address_moves_to_another_listener_without_a_refusal() {
    let [moves, first, second] = addresses();
    let here = says("first", &[first, moves], "first") + &says("second", &[second], "second");
    let there = says("first", &[first], "first") + &says("second", &[second, moves], "second");
    let proxy = Embedded::start(&here);
    let knocks = knocks(moves);
    for _ in 0..10 {
        proxy.reload(&there);
        until("the second", || (client::get(moves, "/").text() == "second").then_some(()));
        proxy.reload(&here);
        until("the first", || (client::get(moves, "/").text() == "first").then_some(()));
    }
    let texts = told(knocks);
    assert!(texts.iter().all(|text| text == "first" || text == "second"), "{texts:?}");
}

#[test]
fn another_protocol_on_the_same_address_refuses_nobody() {
    let [address] = addresses();
    let origin = Origin::saying("relayed");
    let http = says("door", &[address], "answered");
    let tcp = relays("door", address, origin.address());
    let proxy = Embedded::start(&http);
    let knocks = knocks(address);
    for _ in 0..5 {
        proxy.reload(&tcp);
        assert_eq!(client::get(address, "/").text(), "relayed");
        proxy.reload(&http);
        assert_eq!(client::get(address, "/").text(), "answered");
    }
    let texts = told(knocks);
    assert!(texts.iter().all(|text| text == "relayed" || text == "answered"), "{texts:?}");
}

#[test]
fn a_port_that_is_taken_refuses_the_reload_and_nothing_has_changed() {
    let [serves, free, taken] = addresses();
    let holder = TcpListener::bind(taken).expect("it is free");
    let proxy = Embedded::start(&says("web", &[serves], "old"));
    let next = says("web", &[serves], "new") + &says("more", &[free, taken], "more");
    let refused = proxy.try_reload(&next).expect_err("the port is taken");
    assert!(
        matches!(&refused, ReloadError::Bind { listener, address, .. } if listener == "more" && *address == taken.into()),
        "{refused}"
    );
    assert_eq!(client::get(serves, "/").text(), "old");
    assert!(Client::is_turned_away(free), "what was bound for it is let go");
    assert_eq!(proxy.generation(), 1);
    drop(holder);
    proxy.reload(&next);
    assert_eq!(client::get(taken, "/").text(), "more");
}

#[test]
fn a_listener_that_listens_everywhere_may_listen_at_one_address_instead() {
    // Free at every address: the other tests have ports at their own.
    let everywhere = free_port(Ipv4Addr::UNSPECIFIED);
    let one = SocketAddr::from((own_ip(), everywhere.port()));
    let proxy = Embedded::start(&says("web", &[everywhere], "everywhere"));
    assert_eq!(client::get(one, "/").text(), "everywhere");
    proxy.reload(&says("web", &[one], "one"));
    assert_eq!(client::get(one, "/").text(), "one");
    proxy.reload(&says("web", &[everywhere], "everywhere"));
    assert_eq!(client::get(one, "/").text(), "everywhere");
}

#[test]
fn a_tcp_session_outlives_everything_around_it() {
    let [tcp, web] = addresses();
    let origin = Origin::start(|mut session| {
        while session.wire.fill()? > 0 {
            let said = std::mem::take(&mut session.wire.received);
            session.send(said)?;
        }
        Ok(())
    });
    let relay = relays("db", tcp, origin.address());
    let proxy = Embedded::start(&(relay.clone() + &says("web", &[web], "0")));
    let mut session = Client::connect(tcp);
    session.say("one");
    assert_eq!(session.take(3).expect("an echo"), b"one");
    for round in 1..=20 {
        let around = if round % 3 == 0 { String::new() } else { says("web", &[web], &round.to_string()) };
        proxy.reload(&(relay.clone() + &around));
        session.say("two");
        assert_eq!(session.take(3).expect("an echo"), b"two");
    }
}

#[test]
fn places_are_used_again() {
    let [stays] = addresses();
    let base = says("stays", &[stays], "stays");
    let proxy = Embedded::start(&base);
    for round in 0..6 {
        let [comes] = addresses();
        proxy.reload(&(base.clone() + &says(&format!("comes{round}"), &[comes], "comes")));
        assert_eq!(client::get(comes, "/").text(), "comes");
        proxy.reload(&base);
        assert_eq!(client::get(stays, "/").text(), "stays");
    }
    assert_eq!(proxy.status().listeners.len(), 1);
}
