//! TLS of listeners: certificates by name, resumption, reloads that change certificates, tcp.

use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion, SupportedProtocolVersion};

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::tls::{Authority, Talk, Tls, get, shown};
use crate::harness::until;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// `tls` with these certificates and more keys.
fn tls(certificates: &[String], more: &str) -> String {
    format!("tls = {{ certificates = [{}]{more} }}", certificates.join(", "))
}

fn kind(talk: &Talk) -> Option<HandshakeKind> {
    talk.conn.handshake_kind()
}

/// Two requests on connections of their own; how the hands of the second were shaken. The first answer is read to its end,
/// and with it the tickets of TLS 1.3.
fn again(client: &Tls, proxy: &Proxy) -> Option<HandshakeKind> {
    client.get(proxy.web, "a.test", "a.test").expect("an answer");
    let mut talk = client.connect(proxy.web, "a.test").expect("a connection");
    get(&mut talk, "a.test").expect("an answer");
    kind(&talk)
}

#[test]
fn requests_are_served_and_logged_and_endpoints_told() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], "")).start();
    for (version, name) in VERSIONS.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let client = authority.trusting().versions(&[version]).build();
        let answer = client.get(proxy.web, "a.test", "a.test").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
        let record =
            until("the record", || proxy.records(1).into_iter().find(|record| record["tls"] == name));
        assert_eq!(record["sni"], "a.test");
        assert_eq!(record["resumed"], false);
        assert!(record["cipher"].as_str().is_some_and(|cipher| cipher.starts_with("TLS_")), "{record}");
    }
    assert_eq!(origin.request(0).field("x-forwarded-proto").as_deref(), Some("https"));
    proxy.until_metric("plimsoll_listener_tls_handshakes_total", "result=\"full\"", 2.0);
}

#[test]
fn a_large_body_goes_under_tls_as_it_does_without() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::start(|mut session| {
        while session.request()?.is_some() {
            session.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{}",
                "x".repeat(3_000_000)
            ))?;
        }
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], "")).start();
    let client = authority.trusting().build();
    let answer = client.get(proxy.web, "a.test", "a.test").expect("an answer");
    assert_eq!(answer.len() - answer.find("\r\n\r\n").expect("a head") - 4, 3_000_000);
}

#[test]
fn the_certificate_is_that_of_the_name_exact_before_wildcard_else_the_first() {
    let authority = Authority::new();
    let first = authority.sign("first", &["first.test"]);
    let exact = authority.sign("exact", &["a.site.test"]);
    let wild = authority.sign("wild", &["*.site.test", "site.test"]);
    let listed = ["first", "wild", "exact"].map(|file| authority.listed(file, ""));
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&listed, "")).start();
    let client = authority.trusting().build();
    let got = |name: &str| shown(&client.connect(proxy.web, name).expect("a connection"));
    assert_eq!(got("a.site.test"), exact);
    assert_eq!(got("A.SITE.test"), exact);
    assert_eq!(got("b.site.test"), wild);
    assert_eq!(got("site.test"), wild);
    assert_eq!(got("first.test"), first);
    // Two labels are not one, and what nobody knows gets the first: a client that verifies does not go on.
    assert!(client.connect(proxy.web, "x.b.site.test").is_err());
    assert!(client.connect(proxy.web, "unknown.test").is_err());
    until("the refusals to be counted", || {
        let refused = proxy.metric("plimsoll_listener_tls_handshake_failures_total", "kind=\"alert\"");
        (refused == 2.0).then_some(())
    });
}

#[test]
fn of_two_certificates_for_a_name_the_client_gets_one_that_it_can_verify() {
    let authority = Authority::new();
    let rsa_key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    let rsa = authority.sign_by("rsa", &["a.test"], &rsa_key, |_| {});
    let ecdsa = authority.sign("ecdsa", &["a.test"]);
    let listed = ["rsa", "ecdsa"].map(|file| authority.listed(file, ""));
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&listed, "")).start();
    for version in VERSIONS {
        let client = authority.trusting().versions(&[version]).build();
        assert_eq!(shown(&client.connect(proxy.web, "a.test").expect("a connection")), ecdsa);
    }
    // By cipher suites: of TLS 1.2 only those with RSA.
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
    let old = authority.trusting().by(provider).versions(&[&TLS12]).build();
    assert_eq!(shown(&old.connect(proxy.web, "a.test").expect("a connection")), rsa);
}

#[test]
fn sessions_are_resumed_also_after_a_reload_that_replaces_the_certificate() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let setup = Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], ""));
    let proxy = setup.process("watch = true").start();
    let clients = VERSIONS.map(|version| authority.trusting().versions(&[version]).build());
    for client in &clients {
        assert_eq!(again(client, &proxy), Some(HandshakeKind::Resumed));
    }
    proxy.until_metric("plimsoll_listener_tls_handshakes_total", "result=\"resumed\"", 2.0);
    let fresh = authority.trusting().build();
    let mut stays = fresh.connect(proxy.web, "a.test").expect("a connection");
    assert_eq!(get(&mut stays, "a.test").expect("an answer").0, 200);

    let renewed = authority.sign("a", &["a.test", "b.test"]);
    until("the new certificate", || {
        let client = authority.trusting().build();
        let talk = client.connect(proxy.web, "a.test").expect("a connection");
        (shown(&talk) == renewed).then_some(())
    });
    assert_eq!(get(&mut stays, "a.test").expect("it goes on").0, 200);
    for client in &clients {
        assert_eq!(again(client, &proxy), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn sessions_are_resumed_by_the_process_that_takes_over() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], "")).start();
    let clients = VERSIONS.map(|version| authority.trusting().versions(&[version]).build());
    for client in &clients {
        client.get(proxy.web, "a.test", "a.test").expect("an answer");
    }
    proxy.upgrade();
    for client in &clients {
        let talk = client.connect(proxy.web, "a.test").expect("a connection");
        assert_eq!(kind(&talk), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn nodes_with_the_same_ticket_keys_resume_each_others_sessions_and_others_do_not() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let node = |keys: &str| {
        fs::write(authority.folder.join(keys), format!("{}\n", keys.repeat(32))).expect("a file");
        let more = format!(", ticket_keys = \"{}\"", authority.path(keys));
        Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], &more)).start()
    };
    let (one, other, stranger) = (node("k1"), node("k1"), node("k2"));
    for version in VERSIONS {
        let client = authority.trusting().versions(&[version]).build();
        client.get(one.web, "a.test", "a.test").expect("an answer");
        assert_eq!(again(&client, &other), Some(HandshakeKind::Resumed));
        let talk = client.connect(stranger.web, "a.test").expect("a connection");
        assert_eq!(kind(&talk), Some(HandshakeKind::Full));
    }
}

#[test]
fn versions_and_protocols_are_those_that_are_written() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let more = ", min_version = \"1.3\", alpn = [\"http/1.1\"]";
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], more)).start();
    let old = authority.trusting().versions(&[&TLS12]).build();
    assert!(old.connect(proxy.web, "a.test").is_err());
    let mut client = authority.trusting().build();
    client.0.alpn_protocols = vec![b"other".to_vec(), b"http/1.1".to_vec()];
    let talk = client.connect(proxy.web, "a.test").expect("a connection");
    assert_eq!(talk.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(talk.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    client.0.alpn_protocols = vec![b"other".to_vec()];
    assert!(client.connect(proxy.web, "a.test").is_err());
    for kind in ["incompatible", "alpn"] {
        let labels = format!("kind=\"{kind}\"");
        until(kind, || {
            let failed = proxy.metric("plimsoll_listener_tls_handshake_failures_total", &labels);
            (failed == 1.0).then_some(())
        });
    }
}

#[test]
fn a_tcp_listener_takes_tls_off_and_relays_both_ways() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::start(|mut session| {
        session.send("220 ready\r\n")?;
        let said = session.wire.take(1_000_000)?;
        session.send(said)
    });
    let proxy = Setup::tcp(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], "")).start();
    let mut talk = authority.trusting().build().connect(proxy.web, "a.test").expect("a connection");
    let mut greeting = [0; 11];
    talk.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"220 ready\r\n");
    let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    talk.write_all(&sent).expect("it is taken");
    let mut back = vec![0; sent.len()];
    talk.read_exact(&mut back).expect("it comes back");
    assert!(back == sent);
    drop(talk);
    let record = proxy.records(1).remove(0);
    assert_eq!((&record["tls"], &record["sni"]), (&"TLSv1.3".into(), &"a.test".into()));
}

#[test]
fn what_expires_within_three_weeks_is_an_alarm_and_a_metric() {
    let authority = Authority::new();
    let soon = std::time::SystemTime::now() + Duration::from_secs(10 * 24 * 3600);
    let key = KeyPair::generate().expect("a key");
    authority.sign_by("a", &["a.test"], &key, |params| params.not_after = soon.into());
    authority.sign("b", &["b.test"]);
    let listed = ["a", "b"].map(|file| authority.listed(file, ""));
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&listed, "")).start();
    let alarms = || {
        let events = proxy.events().into_iter();
        events.filter(|event| event["to"] == "a certificate expires soon").collect::<Vec<_>>()
    };
    let alarm = until("the alarm", || alarms().pop());
    let because = alarm["because"].as_str().expect("text");
    assert!(because.contains("a.crt of listener web expires in 9 days"), "{because}");
    assert_eq!(alarms().len(), 1);
    assert_eq!(proxy.admin_change("POST", "/v1/reload", "").status(), 200);
    until("the alarm of the reload", || (alarms().len() == 2).then_some(()));
    let expiry = proxy.metric("plimsoll_listener_tls_certificate_expiry_timestamp_seconds", "a.crt");
    let want = soon.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    assert!((expiry - want).abs() < 2.0, "{expiry} {want}");
}

#[test]
fn ciphers_are_taken_in_our_order_but_for_clients_that_have_chacha_first() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], "")).start();
    for version in VERSIONS {
        for (first, want) in
            [("AES_256", "AES_128_GCM"), ("AES_128", "AES_128_GCM"), ("CHACHA20", "CHACHA20")]
        {
            let mut provider = aws_lc_rs::default_provider();
            provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains(first));
            let client = authority.trusting().by(provider).versions(&[version]).build();
            let talk = client.connect(proxy.web, "a.test").expect("a connection");
            let suite = talk.conn.negotiated_cipher_suite().expect("a suite").suite();
            assert!(format!("{suite:?}").contains(want), "{suite:?} of {first} first");
        }
    }
}

#[test]
fn keys_of_tickets_take_turns_by_their_file() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let file = authority.folder.join("keys");
    let write = |keys: &[&str]| {
        let lines: Vec<String> = keys.iter().map(|key| key.repeat(32)).collect();
        fs::write(&file, lines.join("\n")).expect("a file");
    };
    write(&["a"]);
    let more = format!(", ticket_keys = \"{}\"", file.display());
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], &more)).start();
    let turn = |keys: &[&str]| {
        write(keys);
        assert_eq!(proxy.admin_change("POST", "/v1/reload", "").status(), 200);
    };
    let client = || authority.trusting().versions(&[&TLS12]).build();
    let [first, second, third] = [client(), client(), client()];
    let ask = |client: &Tls| {
        let mut talk = client.connect(proxy.web, "a.test").expect("a connection");
        get(&mut talk, "a.test").expect("an answer");
        kind(&talk)
    };
    assert_eq!(ask(&first), Some(HandshakeKind::Full));
    assert_eq!(ask(&third), Some(HandshakeKind::Full));
    // The new key seals, the old one still opens; a ticket that it opened is replaced by one of the new key.
    turn(&["b", "a"]);
    assert_eq!(ask(&first), Some(HandshakeKind::Resumed));
    assert_eq!(ask(&second), Some(HandshakeKind::Full));
    turn(&["b"]);
    for client in [&first, &second] {
        assert_eq!(ask(client), Some(HandshakeKind::Resumed));
    }
    assert_eq!(ask(&third), Some(HandshakeKind::Full));
}

#[test]
fn no_handshake_fails_while_certificates_are_replaced_and_a_bad_one_replaces_nothing() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener(&tls(&[authority.listed("a", "")], "")).start();
    let stop = AtomicBool::new(false);
    let (to, client) = (proxy.web, authority.trusting().build());
    let mut stays = client.connect(to, "a.test").expect("a connection");
    let last = std::thread::scope(|scope| {
        let handshakes = scope.spawn(|| {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = authority.trusting().build().get(to, "a.test", "a.test").expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                done += 1;
            }
            done
        });
        let mut last = None;
        for _ in 0..10 {
            last = Some(authority.sign("a", &["a.test"]));
            assert_eq!(proxy.admin_change("POST", "/v1/reload", "").status(), 200);
            assert_eq!(get(&mut stays, "a.test").expect("it goes on").0, 200);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(handshakes.join().expect("no failure") > 0);
        last
    });
    for broken in ["", "no certificate\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(authority.folder.join("a.crt"), broken).expect("a file");
        assert_ne!(proxy.admin_change("POST", "/v1/reload", "").status(), 200, "{broken:?}");
    }
    let anew = authority.trusting().build().connect(to, "a.test").expect("a connection");
    assert_eq!(Some(shown(&anew)), last);
    assert_eq!(get(&mut stays, "a.test").expect("it goes on").0, 200);
}
