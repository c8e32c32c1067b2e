//! Who may connect at all: denied sources get no byte, allowed ones everything.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::wire::Wire;

/// A connection, unless the refusal is faster than the connect.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> Option<Wire> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("a loopback source");
    socket.connect(&to.into()).ok()?;
    Some(Wire::new(socket.into()))
}

fn served(source: Ipv4Addr, to: SocketAddr) -> bool {
    let Some(mut wire) = connect_from(source, to) else { return false };
    // A denied connection may be closed before the request is taken.
    drop(wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let served = wire.response("GET").is_ok_and(|answer| answer.status() == 200);
    assert!(served || wire.received.is_empty(), "a denied source was told something");
    served
}

#[test]
fn deny_shuts_out_a_network_and_nobody_else() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener("deny = [\"127.9.0.0/16\"]").start();
    assert!(served(Ipv4Addr::LOCALHOST, proxy.web));
    assert!(!served(Ipv4Addr::new(127, 9, 1, 1), proxy.web));
    assert!(proxy.metric("plimsoll_listener_refused_total", "denied") >= 1.0);
}

#[test]
fn allow_lets_in_a_network_and_nobody_else_and_deny_wins() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .listener("allow = [\"127.9.0.0/16\"]")
        .listener("deny = [\"127.9.9.0/24\"]")
        .start();
    assert!(served(Ipv4Addr::new(127, 9, 1, 1), proxy.web));
    assert!(!served(Ipv4Addr::LOCALHOST, proxy.web));
    assert!(!served(Ipv4Addr::new(127, 9, 9, 1), proxy.web));
}

#[test]
fn tcp_listeners_deny_too() {
    let origin = Origin::saying("ok");
    let proxy = Setup::tcp(&[origin.address()]).listener("deny = [\"127.9.0.0/16\"]").start();
    assert!(served(Ipv4Addr::LOCALHOST, proxy.web));
    assert!(!served(Ipv4Addr::new(127, 9, 1, 1), proxy.web));
}
