//! What a service manager sees and gives: notifications by the protocol of `sd_notify(3)`, and sockets by that of
//! `sd_listen_fds(3)`. `tests/clients/systemd_guest.py` tries the same with a real systemd.

use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::client::{self, Client};
use crate::harness::clock::Moment;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, own_directory};
use crate::harness::{DEADLINE, free_port, own_ip, until};

/// A manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        Self(socket)
    }

    /// The next message as its lines.
    fn hears(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned).collect()
    }

    /// The next message that begins with this line, whatever comes before it.
    fn waits_for(&self, line: &str) -> Vec<String> {
        loop {
            let message = self.hears();
            if message.first().is_some_and(|first| first == line) {
                return message;
            }
        }
    }
}

#[test]
fn a_manager_at_a_path_hears_when_it_is_ready_and_when_it_stops() {
    let path = own_directory().join("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).expect("a socket"));
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()])
        .process("drain_delay = \"1s\"\ndrain_timeout = \"2s\"")
        .environment("NOTIFY_SOCKET", &path.to_string_lossy())
        .start();
    let ready = manager.hears();
    assert_eq!(ready.first().map(String::as_str), Some("READY=1"));
    assert!(ready.get(1).is_some_and(|line| line.starts_with("STATUS=generation 1, ")), "{ready:?}");
    assert_eq!(proxy.get("/").text(), "ok");
    proxy.signal(Signal::TERM);
    let stopping = manager.waits_for("STOPPING=1");
    // Its delay, its drain, and what follows.
    assert_eq!(stopping.get(1).map(String::as_str), Some("EXTEND_TIMEOUT_USEC=18000000"), "{stopping:?}");
    assert!(stopping.get(2).is_some_and(|line| line.starts_with("STATUS=draining, ")), "{stopping:?}");
    assert!(proxy.wait().success());
}

#[test]
fn a_manager_with_an_abstract_name_hears_at_half_of_its_time_that_workers_turn() {
    let name = format!("plimsoll-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = Manager::new(UnixDatagram::bind_addr(&address).expect("a socket"));
    let origin = Origin::saying("ok");
    let _proxy = Setup::http(&[origin.address()])
        .environment("NOTIFY_SOCKET", &format!("@{name}"))
        .environment("WATCHDOG_USEC", "1000000")
        .start();
    manager.waits_for("READY=1");
    manager.waits_for("WATCHDOG=1");
    let first = Moment::now();
    manager.waits_for("WATCHDOG=1");
    assert!(first.elapsed() > Duration::from_millis(300), "{:?}", first.elapsed());
}

#[test]
fn the_watchdog_of_another_process_is_none_of_ours() {
    let path = own_directory().join("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).expect("a socket"));
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()])
        .environment("NOTIFY_SOCKET", &path.to_string_lossy())
        .environment("WATCHDOG_USEC", "100000")
        .environment("WATCHDOG_PID", "1")
        .process("drain_delay = \"500ms\"")
        .start();
    manager.waits_for("READY=1");
    proxy.signal(Signal::TERM);
    let mut heard = Vec::new();
    while !heard.iter().any(|line| line == "STOPPING=1") {
        heard.extend(manager.hears());
    }
    assert!(!heard.iter().any(|line| line == "WATCHDOG=1"), "{heard:?}");
    assert!(proxy.wait().success());
}

/// Waits for a line of the log.
fn line(proxy: &Proxy, of: &str) -> String {
    until(of, || proxy.errors().into_iter().find(|line| line.contains(of)))
}

#[test]
fn an_inherited_socket_takes_the_place_of_a_bind_and_outlives_the_process() {
    let origin = Origin::saying("ok");
    let socket = TcpListener::bind((own_ip(), 0)).expect("a socket");
    let address = socket.local_addr().expect("its address");
    // By its name: it is not the address of the configuration.
    let start = || Setup::http(&[origin.address()]).inherit(&socket, "web").start();
    let mut proxy = start();
    assert_eq!(client::get(address, "/").status(), 200);
    assert!(Client::is_turned_away(proxy.web), "what the socket stands for is not bound");
    assert!(line(&proxy, "accepting on an inherited socket").contains(&address.to_string()));
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    let mut waiting = Client::connect(address);
    waiting.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _next = start();
    assert_eq!(waiting.answer().status(), 200, "what came in between has waited for the next process");
}

#[test]
fn a_socket_that_belongs_to_no_listener_is_told_of() {
    let origin = Origin::saying("ok");
    let socket = TcpListener::bind((own_ip(), 0)).expect("a socket");
    let proxy = Setup::http(&[origin.address()]).inherit(&socket, "nobody").start();
    assert!(line(&proxy, "belongs to no listener").contains("nobody"));
    assert_eq!(proxy.get("/").status(), 200, "what is configured is bound");
}

#[test]
fn a_listener_that_comes_back_finds_its_inherited_socket_again() {
    let origin = Origin::saying("ok");
    let socket = TcpListener::bind((own_ip(), 0)).expect("a socket");
    let address = socket.local_addr().expect("its address");
    let proxy = Setup::http(&[origin.address()]).inherit(&socket, "web").start();
    let file = proxy.directory.join("plimsoll.toml");
    let text = std::fs::read_to_string(&file).expect("its configuration");
    let spare = free_port(own_ip());
    let without = text
        .replace("[listener.web]", "[listener.spare]")
        .replace(&proxy.web.to_string(), &spare.to_string());
    std::fs::write(&file, without).expect("a configuration without the listener");
    proxy.signal(Signal::HUP);
    until("the other listener", || TcpStream::connect(spare).ok());
    let mut waiting = Client::connect(address);
    waiting.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    std::fs::write(&file, text).expect("the configuration of before");
    proxy.signal(Signal::HUP);
    assert_eq!(waiting.answer().status(), 200);
}
