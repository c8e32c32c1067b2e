//! Udp listeners: sessions, their ends and ceilings, endpoints that refuse, the address that answers come from, and what
//! reloads and upgrades leave as it is.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::clock::{Moment, pause};
use crate::harness::datagrams::{Asker, Echo};
use crate::harness::moody::Moody;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, own_ip, until};

fn sessions(proxy: &Proxy) -> f64 {
    proxy.metric("plimsoll_listener_connections", "listener=\"web\"")
}

fn dropped(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("plimsoll_listener_datagrams_dropped_total", &format!("reason=\"{reason}\""))
}

/// A port on which nobody receives, so that the kernel answers for it.
fn closed() -> SocketAddr {
    let socket = UdpSocket::bind((own_ip(), 0)).expect("a loopback port");
    socket.local_addr().expect("its address")
}

#[test]
fn every_client_has_a_session_with_a_socket_of_its_own() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let proxy = Setup::udp(&[a.address, b.address]).pool("balance = \"round_robin\"").start();
    let clients: Vec<Asker> = (0..60).map(|_| Asker::new(proxy.web)).collect();
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            let said = format!("{round}-{number}");
            let answer = client.ask(&said);
            assert!(answer == format!("a:{said}") || answer == format!("b:{said}"), "{answer}");
        }
    }
    let seen = [a.seen(), b.seen()].concat();
    assert_eq!(seen.len(), 180);
    let sources: HashSet<SocketAddr> = seen.iter().map(|(from, _)| *from).collect();
    assert_eq!(sources.len(), 60, "one upstream socket for each session, kept over its datagrams");
    assert!(a.seen().len() > 60 && b.seen().len() > 60, "both have some");
    assert!((sessions(&proxy) - 60.0).abs() < 0.5);
    let ways = |way: &str| proxy.metric("plimsoll_listener_datagrams_total", &format!("direction=\"{way}\""));
    assert!((ways("in") - 180.0).abs() < 0.5 && (ways("out") - 180.0).abs() < 0.5);
}

#[test]
fn a_quiet_session_ends_and_leaves_one_record() {
    let echo = Echo::start("a");
    let proxy = Setup::udp(&[echo.address]).listener("timeouts = { udp_idle = \"200ms\" }").start();
    let client = Asker::new(proxy.web);
    client.ask("12345");
    client.ask("");
    client.say(b"quiet");
    let records = proxy.records(1);
    let record = &records[0];
    assert_eq!((record["protocol"].as_str(), record["end"].as_str()), (Some("UDP"), Some("idle_timeout")));
    assert_eq!((record["datagrams_in"].as_u64(), record["datagrams_out"].as_u64()), (Some(3), Some(2)));
    assert_eq!((record["bytes_in"].as_u64(), record["bytes_out"].as_u64()), (Some(10), Some(9)));
    assert_eq!(
        (record["endpoint"].clone(), record["attempts"].as_u64()),
        (echo.address.to_string().into(), Some(1))
    );
    assert!(sessions(&proxy) < 0.5);
    client.ask("again");
    let sources: HashSet<SocketAddr> = echo.seen().iter().map(|(from, _)| *from).collect();
    assert_eq!(sources.len(), 2, "what comes later is another session");
}

#[test]
fn one_answer_may_be_all_that_a_session_is_for() {
    let echo = Echo::start("a");
    let proxy = Setup::udp(&[echo.address]).listener("limits = { udp_answers = 1 }").start();
    let client = Asker::new(proxy.web);
    client.ask("one");
    client.ask("two");
    let records = proxy.records(2);
    assert!(records.iter().all(|record| record["end"] == "done"), "{records:?}");
}

#[test]
fn who_refuses_is_passed_over_before_the_client_notices() {
    let (dead, echo) = (closed(), Echo::start("b"));
    let proxy = Setup::udp(&[dead, echo.address])
        .pool("balance = \"first\"\noutlier = { consecutive_failures = 2, ejection_time = \"1m\" }")
        .listener("timeouts = { udp_idle = \"200ms\" }")
        .start();
    // One datagram each: nobody asks twice.
    for question in ["one", "two", "three"] {
        assert_eq!(Asker::new(proxy.web).ask(question), format!("b:{question}"));
    }
    assert!((proxy.metric("plimsoll_endpoint_failures_total", "kind=\"connect\"") - 2.0).abs() < 0.5);
    proxy.until_endpoint("main", &dead.to_string(), "usable", false);
    let mut attempts: Vec<u64> =
        proxy.records(3).iter().filter_map(|record| record["attempts"].as_u64()).collect();
    // Workers write theirs when they like.
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2, 2], "the third session knows of the ejection");
}

#[test]
fn where_everybody_refuses_the_session_says_so() {
    let proxy = Setup::udp(&[closed()]).pool("outlier = \"off\"").start();
    let client = Asker::new(proxy.web);
    client.say(b"hello");
    let records = proxy.records(1);
    assert_eq!(records[0]["end"], "connect_failed");
    assert!((dropped(&proxy, "refused") - 1.0).abs() < 0.5);
}

#[test]
fn an_endpoint_that_comes_back_is_found_by_the_same_client() {
    let address = closed();
    let other = Echo::start("b");
    let proxy = Setup::udp(&[address, other.address]).pool("balance = \"first\"\noutlier = \"off\"").start();
    let client = Asker::new(proxy.web);
    let first = Echo::at(address, "a");
    assert_eq!(client.ask("x"), "a:x");
    drop(first);
    // What was under way when the endpoint went is lost; one that asks again is answered.
    assert_eq!(client.insist("y"), "b:y");
}

#[test]
fn at_the_ceiling_a_quiet_session_gives_way_and_a_busy_one_does_not() {
    let echo = Echo::start("a");
    let proxy = Setup::udp(&[echo.address]).process("workers = 1").listener("max_connections = 2").start();
    let clients = [Asker::new(proxy.web), Asker::new(proxy.web)];
    for client in &clients {
        client.ask("x");
    }
    let third = Asker::new(proxy.web);
    third.say(b"y");
    until("the datagram to be dropped", || (dropped(&proxy, "max_connections") > 0.5).then_some(()));
    assert!(third.hears_within(Duration::from_millis(50)).is_none());
    pause(Duration::from_millis(700));
    assert_eq!(clients[1].ask("x"), "a:x");
    pause(Duration::from_millis(500));
    // Quiet for more than a second by now, but for the second one.
    assert_eq!(third.ask("z"), "a:z");
    let records = proxy.records(1);
    assert_eq!(records[0]["end"], "evicted");
    assert!((sessions(&proxy) - 2.0).abs() < 0.5);
    assert!((proxy.metric("plimsoll_listener_sessions_evicted_total", "web") - 1.0).abs() < 0.5);
}

#[test]
fn sources_have_ceilings_and_may_be_kept_out() {
    let echo = Echo::start("a");
    let denied = own_ip();
    let proxy = Setup::udp(&[echo.address])
        .listener(&format!(
            "max_connections_per_source = 2\ndeny = [\"{denied}/32\"]\nlimits = {{ udp_datagram = \"100B\" }}"
        ))
        .start();
    let clients: Vec<Asker> = (0..2).map(|_| Asker::new(proxy.web)).collect();
    clients.iter().for_each(|client| drop(client.ask("x")));
    Asker::new(proxy.web).say(b"y");
    until("the third session to be refused", || (dropped(&proxy, "per_source") > 0.5).then_some(()));
    Asker::from(denied.into(), proxy.web).say(b"y");
    until("the source to be kept out", || (dropped(&proxy, "denied") > 0.5).then_some(()));
    clients[0].say(&[b'x'; 101]);
    until("the datagram to be too long", || (dropped(&proxy, "udp_datagram") > 0.5).then_some(()));
    assert_eq!(clients[0].ask("z"), "a:z");
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let echo = Echo::start("a");
    let elsewhere = own_ip();
    let [port, port6] = [free_port(own_ip()).port(), free_port(own_ip()).port()];
    let text = format!(
        "[listener.any]\nbind = [\"0.0.0.0:{port}\", \"[::]:{port6}\"]\nprotocol = \"udp\"\npool = \"main\"\n"
    );
    let _proxy = Setup::udp(&[echo.address]).text(&text).start();
    // A connected socket hears nobody but whom it asked.
    for ip in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2), elsewhere] {
        let client = Asker::from(elsewhere.into(), (ip, port).into());
        assert_eq!(client.ask("x"), "a:x", "asked at {ip}");
    }
    assert_eq!(Asker::new((Ipv6Addr::LOCALHOST, port6).into()).ask("six"), "a:six");
}

#[test]
fn large_datagrams_pass_whole() {
    let echo = Echo::start("a");
    let proxy = Setup::udp(&[echo.address]).start();
    let client = Asker::new(proxy.web);
    for length in [1, 1473, 9000, 65_000] {
        let said = vec![b'x'; length];
        client.say(&said);
        assert_eq!(client.hear().expect("an answer"), [b"a:", said.as_slice()].concat());
    }
}

#[test]
fn each_datagram_tells_of_its_client_where_the_pool_says_so() {
    let echo = Echo::start("a");
    let proxy = Setup::udp(&[echo.address]).pool("send_proxy = \"v2\"").start();
    let client = Asker::new(proxy.web);
    for said in ["one", "two"] {
        client.say(said.as_bytes());
        assert!(client.hear().expect("an answer").ends_with(said.as_bytes()));
    }
    for ((_, seen), said) in echo.seen().iter().zip(["one", "two"]) {
        // PROXY over datagrams of IPv4 (proxy-protocol.txt section 2.2), then what the client has sent.
        assert!(seen.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c"), "{seen:?}");
        let SocketAddr::V4(web) = proxy.web else { panic!("an IPv4 address") };
        assert_eq!(seen[20..24], web.ip().octets());
        assert_eq!(seen[26..28], web.port().to_be_bytes());
        assert_eq!(&seen[28..], said.as_bytes());
    }
}

#[test]
fn clients_of_one_address_go_to_one_endpoint_by_hashing() {
    let echoes = [Echo::start("a"), Echo::start("b"), Echo::start("c")];
    let addresses: Vec<SocketAddr> = echoes.iter().map(|echo| echo.address).collect();
    for balance in ["ring_hash", "maglev", "rendezvous"] {
        let proxy = Setup::udp(&addresses).pool(&format!("balance = \"{balance}\"")).start();
        let ip = own_ip();
        let names: HashSet<String> = (0..12).map(|_| Asker::from(ip.into(), proxy.web).ask("x")).collect();
        assert_eq!(names.len(), 1, "{balance}: {names:?}");
        let spread: HashSet<String> =
            (0..40).map(|_| Asker::from(own_ip().into(), proxy.web).ask("x")).collect();
        assert!(spread.len() > 1, "{balance}");
    }
}

fn rewrite(proxy: &Proxy, change: impl FnOnce(String) -> String) {
    let file = proxy.directory.join("plimsoll.toml");
    let text = change(fs::read_to_string(&file).expect("its file"));
    fs::write(&file, text).expect("its file");
    let answer = proxy.admin_change("POST", "/v1/reload?force", "");
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[test]
fn a_reload_keeps_sessions() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let proxy = Setup::udp(&[a.address, b.address]).pool("balance = \"first\"").start();
    let client = Asker::new(proxy.web);
    client.ask("one");
    rewrite(&proxy, |text| {
        text.replace("balance = \"first\"", "balance = \"round_robin\"\nslow_start = \"1s\"")
    });
    client.ask("two");
    let sources: HashSet<SocketAddr> = a.seen().iter().map(|(from, _)| *from).collect();
    assert_eq!((a.seen().len(), sources.len()), (2, 1), "the same session, by the same socket");
    assert!(proxy.output().is_empty(), "no session has ended");
}

#[test]
fn sessions_of_a_removed_endpoint_end_after_drain_timeout() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let proxy =
        Setup::udp(&[a.address, b.address]).pool("balance = \"first\"\ndrain_timeout = \"300ms\"").start();
    let client = Asker::new(proxy.web);
    assert_eq!(client.ask("one"), "a:one");
    let gone = format!("\"{}\", ", a.address);
    rewrite(&proxy, |text| text.replace(&gone, ""));
    assert_eq!(client.ask("two"), "a:two", "it goes on for as long as it may");
    let records = proxy.records(1);
    assert_eq!(records[0]["end"], "endpoint_drained");
    assert_eq!(client.ask("three"), "b:three");
}

#[test]
fn a_removed_listener_takes_its_sessions_along_and_its_address_is_free() {
    let echo = Echo::start("a");
    let second = free_port(own_ip());
    let text = format!("[listener.two]\nbind = [\"{second}\"]\nprotocol = \"udp\"\npool = \"main\"\n");
    let proxy = Setup::udp(&[echo.address]).text(&text).start();
    let client = Asker::new(second);
    client.ask("x");
    rewrite(&proxy, |all| all.replace(&text, ""));
    assert_eq!(proxy.records(1)[0]["end"], "listener_removed");
    until("the address", || UdpSocket::bind(second).ok());
}

#[test]
fn an_endpoint_that_goes_down_loses_its_sessions_to_another() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let (asked, well) = (Moody::saying("ok"), Moody::saying("ok"));
    let (ip, port) = (asked.address().ip(), asked.address().port());
    let endpoints = format!(
        "{{ address = \"{}\", health = {{ address = \"{ip}\", port = {port} }} }}, {{ address = \"{}\", tier = 1, \
         health = {{ address = \"{}\", port = {} }} }}",
        a.address,
        b.address,
        well.address().ip(),
        well.address().port()
    );
    let proxy = Setup::listed_udp(&endpoints)
        .pool("failback = { after = \"0s\" }")
        .text("[pool.main.health]\ncheck = \"http\"\ninterval = \"50ms\"\nfall = 2\ntimeout = \"500ms\"")
        .start();
    let client = Asker::new(proxy.web);
    assert_eq!(client.ask("one"), "a:one");
    asked.answers(500);
    proxy.until_endpoint("main", &a.address.to_string(), "usable", false);
    assert_eq!(client.ask("two"), "b:two", "by the session that the next datagram began");
    assert_eq!(proxy.records(1)[0]["end"], "endpoint_unreachable");
}

#[test]
fn a_udp_probe_wants_its_answer_and_takes_a_refusal_for_a_no() {
    let (a, dead) = (Echo::start("a"), closed());
    let proxy = Setup::udp(&[a.address, dead])
        .text("[pool.main.health]\ncheck = \"udp\"\nsend = \"ping\"\nexpect = { regex = \"^a:ping$\" }\ninterval = \"50ms\"")
        .start();
    proxy.until_endpoint("main", &a.address.to_string(), "probe.state", "up");
    proxy.until_endpoint("main", &dead.to_string(), "usable", false);
    let last = proxy.endpoint("main", &dead.to_string())["probe"].to_string();
    assert!(last.contains("refused"), "{last}");
}

#[test]
fn a_udp_probe_without_an_answer_to_expect_takes_silence_for_a_yes() {
    let (quiet, dead) = (Echo::start("a"), closed());
    let proxy = Setup::udp(&[quiet.address, dead])
        .text(
            "[pool.main.health]\ncheck = \"udp\"\nsend = \"quiet\"\ninterval = \"50ms\"\ntimeout = \"300ms\"",
        )
        .start();
    proxy.until_endpoint("main", &quiet.address.to_string(), "probe.state", "up");
    proxy.until_endpoint("main", &dead.to_string(), "usable", false);
}

#[test]
fn a_drain_waits_for_the_answer_that_is_under_way() {
    let echo = Echo::answering_after((own_ip(), 0).into(), "a", Duration::from_millis(400));
    let mut proxy = Setup::udp(&[echo.address]).start();
    let client = Asker::new(proxy.web);
    client.say(b"x");
    until("the question", || (echo.seen().len() == 1).then_some(()));
    let start = Moment::now();
    proxy.signal(Signal::TERM);
    assert_eq!(client.hear().expect("an answer"), b"a:x");
    assert!(proxy.wait().success());
    assert!(start.elapsed() < Duration::from_secs(10), "a quiet session is not waited for in vain");
}

#[test]
fn an_upgrade_hands_the_socket_over() {
    let echo = Echo::start("a");
    let mut proxy = Setup::udp(&[echo.address]).start();
    let clients: Vec<Asker> = (0..8).map(|_| Asker::new(proxy.web)).collect();
    clients.iter().for_each(|client| assert_eq!(client.ask("before"), "a:before"));
    let slow = Asker::new(proxy.web);
    proxy.upgrade();
    assert!(proxy.wait().success(), "the old one ends once its sessions are quiet");
    for client in &clients {
        assert_eq!(client.ask("after"), "a:after", "nobody takes datagrams away any more");
    }
    assert_eq!(slow.ask("new"), "a:new");
    proxy.upgrade();
    assert_eq!(slow.insist("twice"), "a:twice");
}

#[test]
fn an_inherited_socket_belongs_to_one_worker() {
    let echo = Echo::start("a");
    let socket = UdpSocket::bind((own_ip(), 0)).expect("a loopback port");
    let address = socket.local_addr().expect("its address");
    let mut proxy = Setup::udp(&[echo.address]).process("workers = 2").inherit(&socket, "web").start();
    let clients: Vec<Asker> = (0..20).map(|_| Asker::new(address)).collect();
    for round in ["one", "two", "three"] {
        clients.iter().for_each(|client| assert_eq!(client.ask(round), format!("a:{round}")));
    }
    let sources: HashSet<SocketAddr> = echo.seen().iter().map(|(from, _)| *from).collect();
    assert_eq!(sources.len(), 20, "no session is in two places");
    // What comes when we have gone is for whoever has the socket.
    proxy.signal(Signal::TERM);
    proxy.wait();
    clients[0].say(b"still there");
    let mut room = [0; 100];
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    assert_eq!(socket.recv(&mut room).expect("a datagram"), 11);
}

#[test]
fn a_second_process_cannot_share_the_address_in_silence() {
    let echo = Echo::start("a");
    let proxy = Setup::udp(&[echo.address]).start();
    let error = UdpSocket::bind(proxy.web).expect_err("it is taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let text = format!("[listener.tcp]\nbind = [\"{}\"]\nprotocol = \"tcp\"\npool = \"main\"\n", proxy.web);
    rewrite(&proxy, |all| all + &text);
    assert!(std::net::TcpStream::connect(proxy.web).is_ok(), "a tcp listener may have the same port");
}
