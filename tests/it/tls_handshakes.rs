//! Handshakes are bounded in number and time, and what is none ends the connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::harness::DEADLINE;
use crate::harness::client::Client;
use crate::harness::clock::Moment;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::tls::Authority;
use crate::harness::until;

fn start(authority: &Authority, origin: &Origin, more: &str) -> Proxy {
    authority.sign("a", &["a.test"]);
    let tls = format!("tls = {{ certificates = [{}] }}", authority.listed("a", ""));
    Setup::http(&[origin.address()]).listener(&format!("{tls}\n{more}")).start()
}

fn failures(proxy: &Proxy, kind: &str) -> f64 {
    proxy.metric("plimsoll_listener_tls_handshake_failures_total", &format!("kind=\"{kind}\""))
}

/// A ClientHello whose record announces more than comes.
const BEGUN: &[u8] = b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03";

#[test]
fn a_handshake_that_stands_still_is_cut_by_its_timeout() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let proxy = start(&authority, &origin, "timeouts = { tls_handshake = \"300ms\" }");
    for begun in [&b""[..], BEGUN] {
        let since = Moment::now();
        let mut client = Client::connect(proxy.web);
        client.say(begun);
        client.expect_end();
        assert!(since.elapsed() >= std::time::Duration::from_millis(250), "{:?}", since.elapsed());
    }
    // They are counted once the sockets are closed.
    let hits = || proxy.metric("plimsoll_limit_hits_total", "limit=\"tls_handshake\"");
    until("both to be counted", || ((failures(&proxy, "timeout"), hits()) == (2.0, 2.0)).then_some(()));
    assert!(
        proxy.records(2).iter().all(|record| record["end"] == "tls_timeout" && record["protocol"] == "TLS")
    );
}

#[test]
fn what_is_no_handshake_is_refused_with_an_alert_and_counted() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let proxy = start(&authority, &origin, "");
    let sent: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\xff\xff\x01\x00\x00\x00",
        b"\x17\x03\x03\x00\x05hello",
    ];
    for bytes in sent {
        let mut stream = TcpStream::connect_timeout(&proxy.web, DEADLINE).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.write_all(bytes).expect("sent");
        let mut answer = Vec::new();
        // A reset is an end, too.
        stream.read_to_end(&mut answer).ok();
        assert!(answer.first().is_none_or(|kind| *kind == 0x15), "{bytes:?}: {answer:?}");
    }
    until("all to be counted", || (failures(&proxy, "malformed") == 5.0).then_some(()));
    let mut left = TcpStream::connect_timeout(&proxy.web, DEADLINE).expect("a connection");
    left.write_all(BEGUN).expect("sent");
    left.shutdown(Shutdown::Both).expect("a socket");
    until("the end to be counted", || (failures(&proxy, "closed") == 1.0).then_some(()));
}

#[test]
fn above_the_ceiling_handshakes_wait_for_a_place_and_get_it() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let proxy = start(&authority, &origin, "limits = { handshakes = 2 }");
    let client = authority.trusting().build();
    let begun = [(); 2].map(|()| {
        let mut stalls = Client::connect(proxy.web);
        stalls.say(client.hello("a.test"));
        stalls
    });
    until("both to have a place", || {
        (proxy.metric("plimsoll_listener_tls_handshakes", "web") == 2.0).then_some(())
    });
    let to = proxy.web;
    let waits = std::thread::spawn(move || client.get(to, "a.test", "a.test"));
    until("the third to wait", || {
        (proxy.metric("plimsoll_limit_hits_total", "limit=\"handshakes\"") == 1.0).then_some(())
    });
    drop(begun);
    let answer = waits.join().expect("it ends").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_stalled_flood_does_not_keep_established_connections_from_being_served() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let proxy =
        start(&authority, &origin, "limits = { handshakes = 4 }\ntimeouts = { tls_handshake = \"500ms\" }");
    let client = authority.trusting().build();
    let mut stays = client.connect(proxy.web, "a.test").expect("a connection");
    // A client may be done with its handshake a moment before the proxy gives its place to the next.
    let is_calm = || (proxy.metric("plimsoll_listener_tls_handshakes", "web") == 0.0).then_some(());
    until("its place to be free", is_calm);
    let hello = client.hello("a.test");
    let flood = |bytes: &[u8]| {
        let one = || {
            let mut stalls = Client::connect(proxy.web);
            stalls.say(bytes);
            stalls
        };
        (0..40).map(|_| one()).collect::<Vec<_>>()
    };
    let stalled = flood(&hello);
    assert_eq!(crate::harness::tls::get(&mut stays, "a.test").expect("an answer").0, 200);
    // Who waits behind them is cut by the same timeout, and then there is room again.
    for mut client in stalled {
        client.rest().ok();
    }
    until("all forty to be counted", || (failures(&proxy, "timeout") == 40.0).then_some(()));
    // Who says nothing, or half of something, takes no place at all.
    let waited = || proxy.metric("plimsoll_limit_hits_total", "limit=\"handshakes\"");
    let before = waited();
    let silent = [flood(b""), flood(BEGUN)];
    client.get(proxy.web, "a.test", "a.test").expect("an answer");
    assert_eq!((before, waited()), (36.0, 36.0));
    for mut client in silent.into_iter().flatten() {
        client.expect_end();
    }
    client.get(proxy.web, "a.test", "a.test").expect("an answer");
    until("no handshake to be under way", is_calm);
}
