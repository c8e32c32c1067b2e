//! What new tcp connections get while nothing behind a listener is usable: reset, held, or not accepted at all.

use std::net::{SocketAddr, TcpStream};

use crate::harness::client::Client;
use crate::harness::origin::{Origin, Session};
use crate::harness::proxy::{Proxy, Setup};
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
    proxy.connect().expect_end();
}

#[test]
fn they_are_held_until_something_is_usable() {
    let endpoint = free_port(own_ip());
    let proxy = before(endpoint, "{ hold = \"20s\", max = 2 }");
    let mut held = [proxy.connect(), proxy.connect()];
    until("a third to be turned away", || Client::is_turned_away(proxy.web).then_some(()));
    let _origin = origin_at(endpoint);
    for client in &mut held {
        assert_eq!(client.take(5).expect("a greeting"), b"hello");
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
