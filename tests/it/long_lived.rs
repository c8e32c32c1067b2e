//! Connections that last: the age at which they end, and how the kernel is told to watch their peers, on both sides.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::Socket;

use crate::harness::client::Client;
use crate::harness::clock::Moment;
use crate::harness::origin::{Origin, Session};
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::until;

fn echo(mut session: Session) -> io::Result<()> {
    loop {
        let before = session.wire.received.len();
        if session.wire.fill()? == 0 {
            return Ok(());
        }
        let new = session.wire.received[before..].to_vec();
        session.send(new)?;
    }
}

fn exchange(client: &mut Client, text: &str) {
    client.say(text);
    assert_eq!(client.take(text.len()).expect("an echo"), text.as_bytes());
}

/// The process's own end of its connection to `peer`.
fn socket_of(proxy: &Proxy, peer: SocketAddr) -> Socket {
    let id = i32::try_from(proxy.id()).ok().and_then(Pid::from_raw).expect("an id");
    let process = pidfd_open(id, PidfdFlags::empty()).expect("a child");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", proxy.id())).expect("a child");
    let mut numbers = descriptors.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let found = numbers.find_map(|number| {
        let socket = Socket::from(pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?);
        (socket.peer_addr().ok()?.as_socket()? == peer).then_some(socket)
    });
    found.unwrap_or_else(|| panic!("no connection to {peer}"))
}

#[test]
fn the_kernel_watches_both_ends_of_a_session() {
    let origin = Origin::start(echo);
    let proxy = Setup::tcp(&[origin.address()])
        .listener("timeouts = { tcp_keepalive = \"11s\", tcp_user_timeout = \"33s\" }")
        .text("[pool.main.timeouts]\ntcp_user_timeout = \"22s\"")
        .start();
    let mut client = proxy.connect();
    exchange(&mut client, "hello");
    let down = socket_of(&proxy, client.stream().local_addr().expect("an address"));
    assert!(down.keepalive().expect("a socket"));
    assert_eq!(down.tcp_keepalive_time().expect("a socket"), Duration::from_secs(11));
    assert_eq!(down.tcp_user_timeout().expect("a socket"), Some(Duration::from_secs(33)));
    let up = socket_of(&proxy, origin.address());
    assert!(up.keepalive().expect("a socket"));
    assert_eq!(up.tcp_keepalive_time().expect("a socket"), Duration::from_secs(30));
    assert_eq!(up.tcp_user_timeout().expect("a socket"), Some(Duration::from_secs(22)));
}

#[test]
fn by_default_no_end_may_be_silent_for_long() {
    let origin = Origin::start(echo);
    let proxy = Setup::tcp(&[origin.address()]).start();
    let mut client = proxy.connect();
    exchange(&mut client, "hello");
    let down = socket_of(&proxy, client.stream().local_addr().expect("an address"));
    let up = socket_of(&proxy, origin.address());
    for (socket, user_timeout) in [(down, 60), (up, 20)] {
        assert!(socket.keepalive().expect("a socket"));
        assert_eq!(socket.tcp_keepalive_time().expect("a socket"), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().expect("a socket"), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().expect("a socket"), 3);
        assert_eq!(socket.tcp_user_timeout().expect("a socket"), Some(Duration::from_secs(user_timeout)));
    }
}

#[test]
fn connections_of_requests_are_watched_too() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "ok");
    let down = socket_of(&proxy, client.stream().local_addr().expect("an address"));
    assert!(down.keepalive().expect("a socket"));
    assert_eq!(down.tcp_user_timeout().expect("a socket"), Some(Duration::from_secs(60)));
    let up = socket_of(&proxy, origin.address());
    assert_eq!(up.tcp_user_timeout().expect("a socket"), Some(Duration::from_secs(20)));
}

#[test]
fn a_session_ends_at_its_age_however_busy() {
    let origin = Origin::start(echo);
    let proxy = Setup::tcp(&[origin.address()]).pool("max_connection_age = \"1s\"").start();
    let start = Moment::now();
    let mut idle = proxy.connect();
    let mut busy = proxy.connect();
    until("the busy one to end", || {
        let echoed = busy.send("x").and_then(|()| busy.take(1)).is_ok();
        (!echoed).then_some(())
    });
    assert!(start.elapsed() >= Duration::from_millis(880), "up to a tenth sooner: {:?}", start.elapsed());
    idle.expect_end();
    let ends: Vec<_> = proxy.records(2).into_iter().map(|record| record["end"].clone()).collect();
    assert_eq!(ends, ["aged", "aged"]);
    let mut next = proxy.connect();
    exchange(&mut next, "new ones are welcome");
}

#[test]
fn a_tunnel_ends_at_its_age() {
    let origin = Origin::start(|mut session| {
        session.head()?;
        session.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")?;
        echo(session)
    });
    let proxy = Setup::http(&[origin.address()]).pool("max_connection_age = \"700ms\"").start();
    let mut client = proxy.connect();
    let start = Moment::now();
    client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.answer().status(), 101);
    exchange(&mut client, "hello");
    client.expect_end();
    assert!(start.elapsed() >= Duration::from_millis(610), "{:?}", start.elapsed());
    assert_eq!(proxy.records(1)[0]["end"], "aged");
}

#[test]
fn sessions_that_came_together_do_not_go_together() {
    let origin = Origin::start(echo);
    let proxy = Setup::tcp(&[origin.address()]).pool("max_connection_age = \"3s\"").start();
    let mut clients: Vec<Client> = (0..40).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        exchange(client, "x");
    }
    let ages: Vec<f64> = proxy.records(40).iter().filter_map(|record| record["total_us"].as_f64()).collect();
    let longest = ages.iter().copied().fold(f64::MIN, f64::max);
    let shortest = ages.iter().copied().fold(f64::MAX, f64::min);
    assert!(longest - shortest >= 100_000.0, "{shortest} to {longest}");
    assert!(shortest >= 2_690_000.0, "{shortest}");
}
