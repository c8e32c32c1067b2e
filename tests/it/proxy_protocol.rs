//! PROXY headers: believed of trusted peers, asked of them, and sent to endpoints.

use plimsoll::model::proxy_protocol::Version;
use serde_json::json;

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::presented::header;
use crate::harness::proxy::{Proxy, Setup};

const TRUSTING: &str = "accept_proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn trusting(origin: &Origin, keys: &str) -> Proxy {
    Setup::http(&[origin.address()]).listener(TRUSTING).listener(keys).start()
}

fn named(source: &str) -> String {
    format!("PROXY TCP4 {source} 192.0.2.200 4711 443\r\n")
}

#[test]
fn the_named_client_takes_the_peers_place_in_fields_and_log() {
    let origin = Origin::saying("ok");
    let proxy = trusting(&origin, "");
    let mut client = proxy.connect();
    // The request comes in the same segment, and another after it on the same connection.
    assert_eq!(client.say(named("192.0.2.7") + GET).answer().text(), "ok");
    assert_eq!(client.get("/2").text(), "ok");
    for place in 0..2 {
        let request = origin.request(place);
        assert_eq!(request.fields("x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(request.field("x-real-ip").as_deref(), Some("192.0.2.7"));
        assert!(request.start_line().starts_with("GET /"));
    }
    let peer = client.local_address().to_string();
    for record in proxy.records(2) {
        assert_eq!((&record["client"], &record["peer"]), (&json!("192.0.2.7:4711"), &json!(peer)));
    }
}

#[test]
fn a_trusted_peer_without_a_header_is_turned_away() {
    let origin = Origin::saying("ok");
    let proxy = trusting(&origin, "");
    for bytes in [GET, "PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n", "\r\n\r\nGET"] {
        let mut client = proxy.connect();
        client.say(bytes).expect_end();
    }
    // A whole line that says nothing of the client, as that of a probe: it is the peer.
    assert_eq!(proxy.connect().say(format!("PROXY UNKNOWN\r\n{GET}")).answer().status(), 200);
    assert_eq!(origin.seen().len(), 1);
    let records = proxy.records(4);
    assert_eq!(records.iter().filter(|record| record["end"] == "refused").count(), 3);
    proxy.until_metric("plimsoll_listener_refused_total", "proxy_header", 3.0);
}

#[test]
fn from_others_no_header_is_taken() {
    let origin = Origin::saying("ok");
    let keys = "accept_proxy_protocol = true\ntrusted_proxies = [\"192.0.2.0/24\"]";
    let proxy = Setup::http(&[origin.address()]).listener(keys).start();
    assert_eq!(proxy.get("/").text(), "ok");
    assert_eq!(proxy.connect().say(named("192.0.2.7") + GET).answer().status(), 400);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn who_may_connect_is_decided_by_the_named_client() {
    let origin = Origin::saying("ok");
    let proxy =
        trusting(&origin, "deny = [\"192.0.2.7/32\", \"127.0.0.0/8\"]\nmax_connections_per_source = 1");
    proxy.connect().say(named("192.0.2.7") + GET).expect_end();
    proxy.connect().say(format!("PROXY UNKNOWN\r\n{GET}")).expect_end();
    let mut first = proxy.connect();
    assert_eq!(first.say(named("192.0.2.9") + GET).answer().text(), "ok");
    // Another connection of the same client is one too many, though its peer has many.
    proxy.connect().say(named("192.0.2.9") + GET).expect_end();
    assert_eq!(proxy.connect().say(named("192.0.2.10") + GET).answer().text(), "ok");
    proxy.until_metric("plimsoll_listener_refused_total", "denied", 2.0);
    proxy.until_metric("plimsoll_listener_refused_total", "per_source", 1.0);
}

#[test]
fn routes_and_trust_go_by_the_named_client() {
    let origin = Origin::saying("ok");
    let routes = "[[route]]\nsource = [\"192.0.2.0/24\"]\npool = \"main\"\n";
    let proxy = Setup::http(&[origin.address()]).listener(TRUSTING).routes(routes).start();
    let ask = |source: &str| {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        proxy.connect().say(named(source) + request).answer().status()
    };
    // One that is itself a trusted proxy names the client in turn; anybody else only thinks so.
    assert_eq!(ask("192.0.2.7"), 200);
    assert_eq!(ask("198.51.100.7"), 404);
    assert_eq!(ask("127.9.9.9"), 200);
    assert_eq!(origin.request(0).fields("x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(origin.request(1).fields("x-forwarded-for"), ["192.0.2.1, 127.9.9.9"]);
}

#[test]
fn a_header_may_come_in_pieces_but_not_for_ever() {
    let origin = Origin::saying("ok");
    let proxy = trusting(&origin, "timeouts = { tls_handshake = \"300ms\" }");
    let mut client = proxy.connect();
    for byte in named("192.0.2.7").bytes() {
        client.say([byte]);
    }
    assert_eq!(client.say(GET).answer().text(), "ok");
    let mut slow = proxy.connect();
    slow.say("PROXY TCP4 ").expect_end();
    let mut silent = proxy.connect();
    silent.expect_end();
    // One that ends half-way waits for nothing.
    let mut half = proxy.connect();
    half.say("PROXY TCP4 ").finish().expect("a FIN");
    half.expect_end();
    proxy.until_metric("plimsoll_limit_hits_total", "tls_handshake", 2.0);
}

#[test]
fn a_header_over_its_limit_is_refused_before_it_has_come() {
    let origin = Origin::saying("ok");
    let proxy = trusting(&origin, "limits = { proxy_header = \"300B\" }");
    let mut client = proxy.connect();
    client.say(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\x00").expect_end();
    assert_eq!(proxy.records(1)[0]["end"], "limit");
    proxy.until_metric("plimsoll_limit_hits_total", "proxy_header", 1.0);
}

#[test]
fn a_tcp_session_is_of_the_named_client() {
    let origin = Origin::start(|mut session| {
        let got = session.wire.take(5)?;
        session.send(got)
    });
    let proxy = Setup::tcp(&[origin.address()]).listener(TRUSTING).start();
    let mut client = proxy.connect();
    client.say(named("192.0.2.7") + "hello").finish().expect("a FIN");
    assert_eq!(client.rest().expect("an echo"), b"hello");
    let record = &proxy.records(1)[0];
    assert_eq!(record["client"], "192.0.2.7:4711");
    assert_eq!(record["peer"], client.local_address().to_string());
}

/// Answers every request with the client that the header of its connection named.
fn naming() -> Origin {
    Origin::start(|mut session| {
        let told = header(&mut session)?.addresses;
        let told = told.map_or_else(|| "nobody".to_owned(), |told| told.source.to_string());
        while session.request()?.is_some() {
            session.ok(&told)?;
        }
        Ok(())
    })
}

#[test]
fn endpoints_are_told_who_the_client_is_and_a_connection_serves_nobody_else() {
    for version in Version::ALL {
        let origin = naming();
        let send = format!("send_proxy = \"{}\"", version.word());
        let proxy = Setup::http(&[origin.address()]).process("workers = 1").pool(&send).start();
        let mut clients = [proxy.connect(), proxy.connect()];
        for _ in 0..3 {
            for client in &mut clients {
                let own = client.local_address().to_string();
                assert_eq!(client.get("/").text(), own);
            }
        }
        assert_eq!(origin.accepted(), 2, "each client has a connection of its own, and keeps it");
    }
}

#[test]
fn a_named_client_is_passed_on() {
    let origin = naming();
    let proxy = Setup::http(&[origin.address()]).listener(TRUSTING).pool("send_proxy = \"v2\"").start();
    assert_eq!(proxy.connect().say(named("192.0.2.7") + GET).answer().text(), "192.0.2.7:4711");
    // What a trusted peer has told beside the address goes on as well.
    let facts = Origin::start(|mut session| {
        let header = header(&mut session)?;
        let told = String::from_utf8_lossy(&header.facts.authority).into_owned();
        session.request()?;
        session.ok(&told)
    });
    let proxy = Setup::http(&[facts.address()]).listener(TRUSTING).pool("send_proxy = \"v2\"").start();
    let with_name =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x18\xc0\0\x02\x01\xc0\0\x02\x02\0\x7b\x16\x2e\x02\0\x09a.example";
    let mut client = proxy.connect();
    assert_eq!(client.say([with_name, GET.as_bytes()].concat()).answer().text(), "a.example");
}

#[test]
fn tcp_endpoints_are_told_before_the_first_byte() {
    let origin = Origin::start(|mut session| {
        let told = header(&mut session)?.addresses.expect("addresses");
        let said = session.wire.take(3)?;
        session.send(format!("{} {} {}", told.source, told.destination, String::from_utf8_lossy(&said)))
    });
    for version in Version::ALL {
        let send = format!("send_proxy = \"{}\"", version.word());
        let proxy = Setup::tcp(&[origin.address()]).pool(&send).start();
        let mut client = proxy.connect();
        client.say("hey");
        let want = format!("{} {} hey", client.local_address(), proxy.web);
        assert_eq!(client.rest().expect("an answer"), want.as_bytes());
    }
}

#[test]
fn probes_say_that_they_are_our_own() {
    let origin = naming();
    let pool = "send_proxy = \"v2\"\nhealth = { expect_body = \"^nobody$\", interval = \"50ms\" }";
    let proxy = Setup::http(&[origin.address()]).pool(pool).start();
    proxy.until_endpoint("main", &origin.address().to_string(), "probe.state", "up");
    let plain = Origin::saying("plain");
    let health =
        format!("health = {{ port = {}, address = \"{}\" }}", plain.address().port(), plain.address().ip());
    let endpoint = format!("{{ address = \"{}\", {health} }}", origin.address());
    let proxy =
        Setup::listed(&endpoint).pool("send_proxy = \"v1\"\nhealth = { interval = \"50ms\" }").start();
    proxy.until_endpoint("main", &origin.address().to_string(), "probe.state", "up");
    assert!(plain.request(0).start_line().starts_with("GET / "), "another port is asked plainly");
    drop(Client::connect(proxy.web));
}
