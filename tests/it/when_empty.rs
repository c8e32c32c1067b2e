//! What new tcp connections get while nothing behind a listener is usable: reset, held, or not accepted at all.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::origin::{Origin, Session};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::wire::Wire;
use crate::harness::{free_port, own_ip, until};

fn greet(mut session: Session) -> std::io::Result<()> {
    session.send("hello")?;
    session.wire.take(1).map(drop)
}

/// A proxy before one address where nothing listens yet, and an `Origin` can be started later.
fn before(endpoint: SocketAddr, when_empty: &str) -> Proxy {
    Setup::tcp(&[endpoint])
        .listener(&format!("when_empty = {when_empty}"))
        .text(
            "[pool.main.health]\ncheck = \"tcp\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\nfast_interval = \"50ms\"",
        )
        .start()
}

fn origin_at(endpoint: SocketAddr) -> Origin {
    let std::net::IpAddr::V4(ip) = endpoint.ip() else { panic!("a v4 address") };
    Origin::start_at(ip, endpoint.port(), greet)
}

#[test]
fn they_are_reset_at_once_by_default() {
    let proxy = before(free_port(own_ip()), "\"reset\"");
    assert!(Client::is_turned_away(proxy.web));
}

#[test]
fn they_are_held_until_something_is_usable() {
    let endpoint = free_port(own_ip());
    let proxy = before(endpoint, "{ hold = \"20s\", max = 2 }");
    // Which of three comes first is the workers' affair.
    let three = (0..3).filter_map(|_| TcpStream::connect(proxy.web).ok());
    let mut held: Vec<Wire> = three.map(Wire::new).collect();
    until("one of three to be turned away", || {
        held.retain_mut(|wire| wire.silent_for(Duration::from_millis(1)));
        (held.len() <= 2).then_some(())
    });
    let _origin = origin_at(endpoint);
    assert_eq!(held.len(), 2);
    for wire in &mut held {
        assert_eq!(wire.take(5).expect("a greeting"), b"hello");
    }
    assert!(proxy.metric("plimsoll_limit_hits_total", "limit=\"when_empty\"") >= 1.0);
}

#[test]
fn none_is_accepted_until_something_is_usable_where_the_operator_wants_that() {
    let endpoint = free_port(own_ip());
    let proxy = before(endpoint, "\"stop_listening\"");
    until("the listener to close", || TcpStream::connect(proxy.web).is_err().then_some(()));
    let _origin = origin_at(endpoint);
    until("the listener to open", || TcpStream::connect(proxy.web).is_ok().then_some(()));
    assert_eq!(proxy.connect().take(5).expect("a greeting"), b"hello");
}
