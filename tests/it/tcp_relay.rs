//! The TCP relay: bytes both ways, half-close kept, resets passed on, dead endpoints passed over.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::origin::{Origin, Session};
use crate::harness::proxy::Setup;
use crate::harness::{free_port, own_ip, until};

/// Sends back all it gets, and what it was once more at the end of the input.
fn echo(mut session: Session) -> io::Result<()> {
    loop {
        let before = session.wire.received.len();
        if session.wire.fill()? == 0 {
            return session.send("<end>");
        }
        let new = session.wire.received[before..].to_vec();
        session.send(new)?;
    }
}

#[test]
fn the_server_may_speak_first() {
    let origin = Origin::start(|mut session| {
        session.send("220 ready\r\n")?;
        session.wire.take(6)?;
        session.send("221 bye\r\n")
    });
    let proxy = Setup::tcp(&[origin.address()]).start();
    let mut client = proxy.connect();
    assert_eq!(client.take(11).expect("a greeting"), b"220 ready\r\n");
    assert_eq!(client.say("QUIT\r\n").rest().expect("an end"), b"221 bye\r\n");
}

#[test]
fn a_half_closed_session_still_gets_its_answer() {
    let origin = Origin::start(echo);
    let proxy = Setup::tcp(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("hello");
    client.finish().expect("a FIN");
    assert_eq!(client.rest().expect("an answer"), b"hello<end>");
}

#[test]
fn the_other_half_may_close_first() {
    let origin = Origin::start(|mut session| {
        session.send("done")?;
        session.wire.finish()?;
        let said = session.wire.take(300_000)?;
        assert!(said.iter().all(|&byte| byte == b'x'));
        Ok(())
    });
    let proxy = Setup::tcp(&[origin.address()]).start();
    let mut client = proxy.connect();
    assert_eq!(client.rest().expect("the answer"), b"done");
    for _ in 0..3 {
        client.say([b'x'; 100_000]);
    }
    client.finish().expect("a FIN");
    until("the session to end", || (origin.open() == 0).then_some(()));
    assert_eq!(proxy.records(1)[0]["bytes_in"], 300_000);
}

#[test]
fn megabytes_survive_both_ways_at_once() {
    let origin = Origin::start(echo);
    let proxy = Setup::tcp(&[origin.address()]).start();
    thread::scope(|scope| {
        for seed in 0..4_u8 {
            let proxy = &proxy;
            scope.spawn(move || {
                let data: Vec<u8> = (0..4_000_000_u32)
                    .map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_be_bytes()[3] ^ seed)
                    .collect();
                let mut client = proxy.connect();
                let mut sender =
                    crate::harness::wire::Wire::new(client.stream().try_clone().expect("a descriptor"));
                let copy = data.clone();
                let sending = thread::spawn(move || sender.send(copy).and_then(|()| sender.finish()));
                let back = client.rest().expect("an answer");
                sending.join().expect("a thread").expect("all is sent");
                assert!(back[..data.len()] == data && back[data.len()..] == *b"<end>", "session {seed}");
            });
        }
    });
}

#[test]
fn a_reset_by_the_endpoint_is_no_clean_end() {
    let origin = Origin::start(|mut session| {
        session.wire.take(2)?;
        session.wire.reset()
    });
    let proxy = Setup::tcp(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("hi");
    let error = client.rest().expect_err("a reset must not look like an end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_by_the_client_reaches_the_endpoint() {
    let origin = Origin::start(|mut session| {
        session.wire.take(2)?;
        let reset = session.wire.fill().is_err();
        session.wire.received = vec![u8::from(reset)];
        drop(session.wire.send("x"));
        if reset { Err(ErrorKind::ConnectionReset.into()) } else { session.request().map(drop) }
    });
    let proxy = Setup::tcp(&[origin.address()]).start();
    let mut client = proxy.connect();
    client.say("hi");
    until("the bytes to be there", || {
        (proxy.metric("plimsoll_endpoint_in_flight", "main") >= 1.0).then_some(())
    });
    client.into_wire().reset().expect("a reset");
    until("the session to end", || (origin.accepted() == 1 && origin.open() == 0).then_some(()));
    assert_eq!(proxy.records(1)[0]["end"], "client_aborted");
}

#[test]
fn a_dead_endpoint_is_passed_over() {
    let origin = Origin::start(echo);
    let proxy =
        Setup::tcp(&[free_port(own_ip()), origin.address()]).pool("balance = \"round_robin\"").start();
    for _ in 0..6 {
        let mut client = proxy.connect();
        client.say("hello");
        client.finish().expect("a FIN");
        assert_eq!(client.rest().expect("an answer"), b"hello<end>");
    }
}

#[test]
fn nothing_but_dead_endpoints_ends_the_connection() {
    let proxy = Setup::tcp(&[free_port(own_ip())]).start();
    assert!(Client::is_turned_away(proxy.web));
    assert_eq!(proxy.records(1)[0]["end"], "connect_failed");
}

#[test]
fn a_silent_session_ends_and_a_talking_one_does_not() {
    let origin = Origin::start(echo);
    let proxy = Setup::tcp(&[origin.address()]).text("[pool.main.timeouts]\ntunnel = \"600ms\"").start();
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert!(client.silent_for(Duration::from_millis(150)));
        assert_eq!(client.say("x").take(1).expect("an echo"), b"x");
    }
    client.expect_end();
    assert_eq!(proxy.records(1)[0]["end"], "idle_timeout");
}

#[test]
fn sessions_go_round_and_count_against_their_limit() {
    let origins: Vec<Origin> = (0..2).map(|_| Origin::start(echo)).collect();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let proxy = Setup::tcp(&addresses)
        .pool("balance = \"round_robin\"")
        .text("[pool.main.limits]\nmax_connections = 1")
        .start();
    let mut held: Vec<Client> = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.connect();
        assert_eq!(client.say("hi").take(2).expect("an echo"), b"hi");
        held.push(client);
    }
    assert_eq!(origins.iter().map(Origin::accepted).collect::<Vec<_>>(), [1, 1]);
    assert!(Client::is_turned_away(proxy.web));
    assert_eq!(origins.iter().map(Origin::accepted).sum::<usize>(), 2);
}
