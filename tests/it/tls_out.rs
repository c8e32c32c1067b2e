//! TLS to endpoints: who is trusted, which name is asked for, what is shown, how often hands are shaken, and what a failure
//! is taken for.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rcgen::date_time_ymd;
use rustls::version::{TLS12, TLS13};

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::own_ip;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::secure::{Authority, Handshake, Pair, Secure, Settings, self_signed};
use crate::harness::until;

/// A proxy before these endpoints, which trusts `authority` and asks for `api.test`.
fn before(endpoints: &[SocketAddr], authority: &Authority, more: &str) -> Setup {
    let ca = authority.ca();
    Setup::http(endpoints)
        .process("workers = 1")
        .pool(&format!("tls = {{ server_name = \"api.test\", ca = \"{}\"{more} }}", ca.display()))
}

/// How many handshakes have failed for this reason.
fn failures(proxy: &Proxy, reason: &str) -> u64 {
    let labels = format!("pool=\"main\",reason=\"{reason}\"");
    proxy.metric("plimsoll_pool_tls_failures_total", &labels) as u64
}

fn to(proxy: &Proxy, host: &str) -> (u16, String) {
    let answer = proxy.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    (answer.status(), answer.text())
}

fn shown(pair: &Pair) -> String {
    format!(", cert = \"{}\", key = \"{}\"", pair.cert.display(), pair.key.display())
}

/// Answers one request of every connection, which then ends.
fn once() -> Origin {
    Origin::start(|mut session| {
        session.request()?;
        session.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    })
}

#[test]
fn traffic_goes_to_whom_the_authority_vouches_for_over_one_connection() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let secure = Secure::named(origin.address(), &authority, "api.test");
    let proxy = before(&[secure.address()], &authority, "").start();
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(client.post("/", "body").text(), "ok");
    let expected = Handshake {
        server_name: Some("api.test".to_owned()),
        resumed: false,
        alpn: Some("http/1.1".to_owned()),
        certified: false,
    };
    assert_eq!(secure.seen(), [expected]);
    let endpoint = secure.address().to_string();
    assert_eq!(proxy.metric("plimsoll_endpoint_reused_total", &endpoint), 5.0);
}

/// What a request comes to, and what is said of it, when the endpoint has this TLS.
fn check_failure(authority: &Authority, settings: &Settings<'_>, reason: &str, words: &str) {
    let origin = Origin::saying("ok");
    let secure = Secure::start(origin.address(), settings);
    failure_at(&secure.address(), authority, "", reason, words);
    assert!(origin.seen().is_empty(), "{reason}: it was sent the request");
}

fn failure_at(endpoint: &SocketAddr, authority: &Authority, more: &str, reason: &str, words: &str) {
    let proxy = before(&[*endpoint], authority, more).pool("retry = \"off\"").start();
    assert_eq!(proxy.get("/").status(), 503, "{reason}");
    assert_eq!(failures(&proxy, reason), 1, "{reason}");
    assert_eq!(proxy.metric("plimsoll_endpoint_failures_total", "kind=\"connect\""), 1.0);
    let said = |line: &String| line.contains("an attempt failed") && line.contains(words);
    until(&format!("a line of {reason}"), || proxy.errors().iter().any(said).then_some(()));
    assert_eq!(proxy.records(1)[0]["end"], "connect_failed");
}

#[test]
fn whom_nobody_vouches_for_is_sent_nothing_and_it_is_said_why() {
    let authority = Authority::new();
    let only = |pair| Settings { pairs: vec![("api.test", pair)], ..Settings::default() };
    let past = authority.issue("api.test", |params| params.not_after = date_time_ymd(2020, 1, 1));
    check_failure(&authority, &only(past), "expired", "the certificate has expired");
    let future = authority.issue("api.test", |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
    });
    check_failure(&authority, &only(future), "not_yet_valid", "not valid yet");
    let other = authority.issue("other.test", |_| {});
    check_failure(&authority, &only(other), "wrong_name", "for another name");
    for other in [Authority::new(), Authority::named("another authority")] {
        let foreign = other.issue("api.test", |_| {});
        check_failure(&authority, &only(foreign), "unknown_authority", "nobody who is trusted");
    }
    let old = Settings { version: Some(&TLS12), ..only(authority.issue("api.test", |_| {})) };
    let secure = Secure::start(Origin::saying("ok").address(), &old);
    let min = ", min_version = \"1.3\"";
    failure_at(&secure.address(), &authority, min, "refused", "the endpoint refused");
}

#[test]
fn an_endpoint_without_tls_is_told_apart_from_one_that_hangs_up() {
    let authority = Authority::new();
    let rude = Origin::start(|mut session| session.send("SSH-2.0-x\r\n"));
    failure_at(&rude.address(), &authority, "", "protocol", "speaks no TLS");
    let gone = Origin::start(|_| Ok(()));
    failure_at(&gone.address(), &authority, "", "closed", "ended the connection");
}

#[test]
fn an_endpoint_that_hangs_in_the_handshake_costs_the_connect_timeout_and_no_answer() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    // The system takes connections for it, and nobody ever says a word.
    let silent = TcpListener::bind((own_ip(), 0)).expect("a loopback port");
    let silent_address = silent.local_addr().expect("its address");
    let secure = Secure::named(origin.address(), &authority, "api.test");
    let proxy = before(&[silent_address, secure.address()], &authority, "")
        .pool("balance = \"first\"\ntimeouts = { connect = \"150ms\" }")
        .start();
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    assert_eq!(failures(&proxy, "timeout"), 3);
    let end = &proxy.records(1)[0];
    assert!(end["connect_us"].as_u64().is_some_and(|time| time >= 150_000), "{end}");
}

#[test]
fn sessions_are_resumed_with_the_endpoint_that_they_were_made_with() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new();
        let origins = [once(), once()];
        let secure = origins.each_ref().map(|origin| {
            let pairs = vec![("api.test", authority.issue("api.test", |_| {}))];
            Secure::start(
                origin.address(),
                &Settings { pairs, version: Some(version), ..Settings::default() },
            )
        });
        let endpoints = secure.each_ref().map(Secure::address);
        let proxy = before(&endpoints, &authority, "").pool("balance = \"round_robin\"").start();
        for _ in 0..6 {
            assert_eq!(proxy.get("/").text(), "ok");
        }
        for endpoint in &secure {
            let resumed: Vec<bool> = endpoint.seen().iter().map(|seen| seen.resumed).collect();
            assert_eq!(resumed, [false, true, true]);
        }
    }
}

#[test]
fn no_session_is_resumed_where_none_is_kept() {
    let (authority, origin) = (Authority::new(), once());
    let secure = Secure::named(origin.address(), &authority, "api.test");
    let proxy = before(&[secure.address()], &authority, ", sessions = 0").start();
    for _ in 0..3 {
        assert_eq!(proxy.get("/").text(), "ok");
    }
    assert_eq!(secure.seen().iter().filter(|seen| !seen.resumed).count(), 3);
}

#[test]
fn an_endpoint_that_wants_a_certificate_gets_ours_or_counts_as_not_reached() {
    for version in [&TLS12, &TLS13] {
        let (authority, origin) = (Authority::new(), Origin::saying("ok"));
        let pairs = || vec![("api.test", authority.issue("api.test", |_| {}))];
        let demanding =
            Settings { pairs: pairs(), clients: Some(&authority), version: Some(version), abrupt: false };
        let secure = Secure::start(origin.address(), &demanding);
        let ours = shown(&authority.issue("plimsoll", |_| {}));
        let proxy = before(&[secure.address()], &authority, &ours).start();
        assert_eq!(proxy.get("/").text(), "ok");
        assert!(secure.seen().iter().all(|seen| seen.certified));
        drop(proxy);

        // With TLS 1.3 the refusal comes when a request has been sent, which the endpoint does not read.
        let easy = Secure::start(origin.address(), &Settings { pairs: pairs(), ..Settings::default() });
        let proxy =
            before(&[secure.address(), easy.address()], &authority, "").pool("balance = \"first\"").start();
        assert_eq!(proxy.get("/").text(), "ok");
        assert_eq!(proxy.connect().post("/", "").text(), "ok");
        assert_eq!(failures(&proxy, "refused"), 2);
        let said = |line: &String| line.contains("the endpoint refused") && line.contains("ertificate");
        until("a line about it", || proxy.errors().iter().any(said).then_some(()));
        // Of a body that is not kept nothing may have gone: with TLS 1.2 nothing has.
        let status = if version == &TLS12 { 200 } else { 503 };
        assert_eq!(proxy.connect().post("/", "body").status(), status);
        assert_eq!(proxy.metric("plimsoll_endpoint_failures_total", "kind=\"reset\""), 0.0);
    }
}

#[test]
fn the_name_can_be_the_requests_and_connections_are_kept_apart_by_it() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let pair = |name| (name, authority.issue(name, |_| {}));
    let settings = Settings { pairs: vec![pair("a.test"), pair("b.test")], ..Settings::default() };
    let secure = Secure::start(origin.address(), &settings);
    let proxy = Setup::http(&[secure.address()])
        .process("workers = 1")
        .pool(&format!("tls = {{ server_name = \"{{host}}\", ca = \"{}\" }}", authority.ca().display()))
        .start();
    for host in ["a.test", "b.test:8443", "A.test", "b.test"] {
        assert_eq!(to(&proxy, host), (200, "ok".to_owned()), "{host}");
    }
    let names: Vec<_> = secure.seen().into_iter().filter_map(|seen| seen.server_name).collect();
    assert_eq!(names, ["a.test", "b.test"]);
    // Hosts that nobody has, or that no certificate could have, are no fault of the endpoint's.
    for _ in 0..10 {
        assert_eq!(to(&proxy, "c.test").0, 503);
        assert_eq!(to(&proxy, "a..test").0, 503);
    }
    let state = proxy.endpoint("main", &secure.address().to_string());
    assert_eq!(state["ejection"]["count"], 0, "{state}");
    assert_eq!(to(&proxy, "a.test").0, 200);
}

#[test]
fn without_a_name_the_address_must_be_in_the_certificate() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let secure = Secure::named(origin.address(), &authority, "192.0.2.1");
    let tls = format!("tls = {{ ca = \"{}\" }}", authority.ca().display());
    let proxy = Setup::http(&[secure.address()]).pool(&tls).start();
    assert_eq!(proxy.get("/").status(), 503);
    let ip = secure.address().ip().to_string();
    let pairs = vec![(ip.as_str(), authority.issue(&ip, |_| {}))];
    secure.renew(&Settings { pairs, ..Settings::default() });
    assert_eq!(proxy.get("/").text(), "ok");
    assert_eq!(secure.seen()[0].server_name, None, "an address is no name to send");
}

#[test]
fn a_certificate_that_signed_itself_is_taken_where_it_is_the_one_that_is_trusted() {
    let origin = Origin::saying("ok");
    let good = self_signed("api.test", |_| {});
    let late = self_signed("api.test", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = self_signed("api.test", |params| params.not_before = date_time_ymd(2090, 1, 1));
    let other = self_signed("other.test", |_| {});
    for (pair, trusted, reason) in [
        (&good, &good, None),
        // Whether anybody trusted has signed it is not even asked of one with the mark of an authority.
        (&good, &other, Some("bad_certificate")),
        (&other, &other, Some("wrong_name")),
        (&late, &late, Some("expired")),
        (&early, &early, Some("not_yet_valid")),
    ] {
        let pairs = vec![("api.test", pair.clone())];
        let secure = Secure::start(origin.address(), &Settings { pairs, ..Settings::default() });
        let tls = format!("tls = {{ server_name = \"api.test\", ca = \"{}\" }}", trusted.cert.display());
        let proxy = Setup::http(&[secure.address()]).pool(&tls).pool("retry = \"off\"").start();
        let (status, _) = to(&proxy, "api.test");
        let Some(reason) = reason else {
            assert_eq!(status, 200);
            continue;
        };
        assert_eq!((status, failures(&proxy, reason)), (503, 1), "{reason}");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn verification_can_be_switched_off_for_a_reason() {
    let origin = Origin::saying("ok");
    let secure = Secure::named(origin.address(), &Authority::new(), "nobody.test");
    let proxy = Setup::http(&[secure.address()]).pool("tls = { verify = { off = \"a lab\" } }").start();
    assert_eq!(proxy.get("/").text(), "ok");
    assert_eq!(proxy.admin_json("/v1/pools/main")["verify_off"], "a lab");
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

#[test]
fn another_authority_comes_by_a_reload_and_connections_of_the_old_one_are_closed() {
    let (old, new, origin) = (Authority::new(), Authority::new(), Origin::saying("ok"));
    let secure = Secure::named(origin.address(), &old, "api.test");
    let proxy = before(&[secure.address()], &old, "").start();
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "ok");
    let reload = || assert_eq!(proxy.admin_change("POST", "/v1/reload", "").status(), 200);
    // Nothing has changed: the connection stays.
    reload();
    assert_eq!(client.get("/").text(), "ok");
    assert_eq!(secure.seen().len(), 1);

    let pairs = vec![("api.test", new.issue("api.test", |_| {}))];
    write(&old.ca(), &new.pem());
    reload();
    until("the idle connection to be closed", || (origin.open() == 0).then_some(()));
    // Whoever shows the old authority's certificate is not believed any more.
    assert_eq!(client.get("/").status(), 503);
    secure.renew(&Settings { pairs, ..Settings::default() });
    assert_eq!(client.get("/").text(), "ok");
    assert!(!secure.seen()[1].resumed, "a session outlived what it was trusted by");

    write(&old.ca(), "nonsense");
    let refused = proxy.admin_change("POST", "/v1/reload", "");
    assert!(refused.status() >= 400 && refused.text().contains("ca.pem"), "{}", refused.text());
    assert_eq!(client.get("/").text(), "ok");
}

#[test]
fn probes_have_the_tls_of_their_pool_unless_they_say_otherwise() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    let secure = Secure::named(origin.address(), &authority, "api.test");
    let proxy =
        before(&[secure.address()], &authority, "").text("[pool.main.health]\ninterval = \"50ms\"").start();
    let name = secure.address().to_string();
    proxy.until_endpoint("main", &name, "usable", true);
    until("probes", || (secure.seen().len() > 2).then_some(()));
    assert!(secure.seen().iter().all(|seen| !seen.resumed), "a probe proves the certificate each time");
    drop(proxy);

    let proxy = before(&[secure.address()], &authority, "")
        .text("[pool.main.health]\ninterval = \"50ms\"\nfall = 1\ntls = \"off\"")
        .start();
    proxy.until_endpoint("main", &name, "usable", false);
}

#[test]
fn a_connection_that_went_stale_costs_nobody_an_answer() {
    let authority = Authority::new();
    let origin = Origin::start(|mut session| {
        session.request()?;
        session.ok("ok")?;
        // The second one is read and dropped: the close raced with it.
        session.request().map(drop)
    });
    let secure = Secure::named(origin.address(), &authority, "api.test");
    let proxy = before(&[secure.address()], &authority, "").pool("retry = \"off\"").start();
    let mut client = proxy.connect();
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "ok");
    }
    let endpoint = secure.address().to_string();
    assert!(proxy.metric("plimsoll_endpoint_stale_total", &endpoint) > 0.0, "nothing went stale");
}

#[test]
fn a_hedge_shakes_hands_beside_the_attempt_that_is_slow() {
    let authority = Authority::new();
    let slow = Origin::start(|mut session| {
        session.request()?;
        session.request().map(drop)
    });
    let fast = Origin::saying("fast");
    let secure = [&slow, &fast].map(|origin| Secure::named(origin.address(), &authority, "api.test"));
    let endpoints = secure.each_ref().map(Secure::address);
    let proxy = before(&endpoints, &authority, "")
        .pool("balance = \"first\"")
        .text("[pool.main.retry]\nhedge = { min_delay = \"20ms\", max_delay = \"50ms\" }")
        .start();
    assert_eq!(proxy.get("/").text(), "fast");
    assert_eq!(slow.seen().len(), 1);
}

#[test]
fn a_plain_tcp_session_goes_on_to_its_endpoint_by_tls() {
    let authority = Authority::new();
    // Echoes until the client ends its direction, then says goodbye: half a connection is one.
    let origin = Origin::start(|mut session| {
        let all = session.wire.rest()?;
        session.send(&all)?;
        session.send("bye")
    });
    let secure = Secure::named(origin.address(), &authority, "api.test");
    let silent = TcpListener::bind((own_ip(), 0)).expect("a loopback port");
    let silent_address = silent.local_addr().expect("its address");
    let ca = authority.ca();
    let proxy = Setup::tcp(&[silent_address, secure.address()])
        .pool(&format!("tls = {{ server_name = \"api.test\", ca = \"{}\" }}", ca.display()))
        .pool("balance = \"first\"\ntimeouts = { connect = \"150ms\" }")
        .start();
    let sent = "x".repeat(300_000);
    let mut wire = Client::connect(proxy.web).into_wire();
    wire.send(&sent).expect("sent");
    wire.finish().expect("half closed");
    let heard = wire.rest().expect("an orderly end");
    assert_eq!(heard.len(), sent.len() + 3);
    assert!(heard.ends_with(b"bye"));
    let seen = secure.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].alpn, None, "what a session speaks is not known");
    assert_eq!(failures(&proxy, "timeout"), 1);
}
