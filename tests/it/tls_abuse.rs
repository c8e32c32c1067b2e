//! What a client does too often to a connection under TLS ends it by a limit with a name; others are served all the while.

use std::io::Read;

use rustls::version::{TLS12, TLS13};

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::sealed::{ALERT, DATA, HANDSHAKE, Sealed};
use crate::harness::tls::{Authority, get};
use crate::harness::until;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn start(authority: &Authority, origin: &Origin) -> Proxy {
    authority.sign("a", &["a.test"]);
    let tls = format!("tls = {{ certificates = [{}] }}", authority.listed("a", ""));
    Setup::http(&[origin.address()]).listener(&tls).start()
}

#[track_caller]
fn counted(proxy: &Proxy, limit: &str) {
    until(limit, || {
        let hits = proxy.metric("plimsoll_limit_hits_total", &format!("limit=\"{limit}\""));
        (hits == 1.0).then_some(())
    });
}

/// It ends, whatever the proxy still says.
fn ends(client: &mut Sealed) {
    while client.next().is_some() {}
}

#[test]
fn a_renegotiation_is_refused_and_a_second_one_ends_the_connection() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let proxy = start(&authority, &origin);
    // The message without the head of its record.
    let hello = authority.trusting().versions(&[&TLS12]).build().hello("a.test").split_off(5);
    let mut client = Sealed::connect(&authority, proxy.web, "a.test");
    client.send(HANDSHAKE, &hello).expect("sent");
    // It is told at once, though there is no answer that it could come with, and may go on.
    assert_eq!(client.next(), Some(ALERT));
    client.send(DATA, GET).expect("sent");
    assert_eq!(client.next(), Some(DATA));
    client.send(HANDSHAKE, &hello).expect("sent");
    ends(&mut client);
    counted(&proxy, "tls.renegotiations");
    proxy.until_metric("plimsoll_listener_tls_handshakes_total", "result=\"full\"", 1.0);
}

#[test]
fn records_without_data_and_warnings_are_taken_only_so_often() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let proxy = start(&authority, &origin);
    let user_canceled = [1, 90];
    for (kind, content, some, limit) in
        [(DATA, &b""[..], 32, "tls.empty_records"), (ALERT, &user_canceled, 4, "tls.alerts")]
    {
        let mut client = Sealed::connect(&authority, proxy.web, "a.test");
        for _ in 0..some {
            client.send(kind, content).expect("sent");
        }
        client.send(DATA, GET).expect("sent");
        assert_eq!(client.next(), Some(DATA), "{limit}");
        for _ in 0..=some {
            // It may have been closed on us by then.
            client.send(kind, content).ok();
        }
        ends(&mut client);
        counted(&proxy, limit);
    }
}

#[test]
fn new_keys_are_taken_only_so_often() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let proxy = start(&authority, &origin);
    let client = authority.trusting().versions(&[&TLS13]).build();
    let mut talk = client.connect(proxy.web, "a.test").expect("a connection");
    for _ in 0..32 {
        talk.conn.refresh_traffic_keys().expect("asked");
    }
    assert_eq!(get(&mut talk, "a.test").expect("an answer").0, 200);
    for _ in 0..33 {
        talk.conn.refresh_traffic_keys().expect("asked");
    }
    while talk.conn.wants_write() {
        talk.conn.write_tls(&mut talk.sock).expect("sent");
    }
    let mut rest = Vec::new();
    talk.read_to_end(&mut rest).expect_err("an alert");
    assert_eq!(rest, b"");
    counted(&proxy, "tls.key_updates");
    let other = client.connect(proxy.web, "a.test").and_then(|mut talk| get(&mut talk, "a.test"));
    assert_eq!(other.expect("an answer").0, 200);
}
