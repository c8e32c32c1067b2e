//! Certificates of clients: required, requested, told to endpoints, and never got around by naming another host.

use std::io;

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::tls::{Authority, Talk, get};
use crate::harness::until;

/// A listener with these certificates, whose clients are asked as `more` says.
fn start(origin: &Origin, certificates: &[String], more: &str) -> Proxy {
    let listed = certificates.join(", ");
    let tls = format!("tls = {{ certificates = [{listed}], client_headers = true{more} }}");
    Setup::http(&[origin.address()]).listener(&tls).start()
}

fn ask(talk: io::Result<Talk>, host: &str) -> io::Result<(u16, String)> {
    talk.and_then(|mut talk| get(&mut talk, host))
}

#[test]
fn who_must_show_a_certificate_does_not_get_on_without() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let more = format!(", client_ca = \"{}\"", clients.path("ca.pem"));
    let proxy = start(&origin, &[authority.listed("a", "")], &more);
    let (alice, mallory) = (clients.client("alice, of \"a\""), strangers.client("mallory"));
    for version in [&TLS12, &TLS13] {
        let versions = [version];
        let client = || authority.trusting().versions(&versions);
        let with = client().showing(&alice).build();
        assert_eq!(ask(with.connect(proxy.web, "a.test"), "a.test").expect("an answer").0, 200);
        // In TLS 1.3 a client learns only after its first bytes that it was refused.
        let without = ask(client().build().connect(proxy.web, "a.test"), "a.test").expect_err("refused");
        assert!(without.to_string().contains("alert"), "{without}");
        let stranger = client().showing(&mallory).build();
        assert!(ask(stranger.connect(proxy.web, "a.test"), "a.test").is_err());
    }
    until("the refusals", || {
        let labels = "kind=\"client_certificate\"";
        let refused = proxy.metric("plimsoll_listener_tls_handshake_failures_total", labels);
        (refused == 4.0).then_some(())
    });
    let told = origin.request(0);
    assert_eq!(told.field("x-client-cert-subject").as_deref(), Some("CN=alice\\, of \\\"a\\\""));
    let sha256 = told.field("x-client-cert-sha256").expect("a fingerprint");
    assert!(sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()), "{sha256}");
    let records = proxy.records(6);
    let named = |record: &&serde_json::Value| record["client_cert"] == "CN=alice\\, of \\\"a\\\"";
    assert_eq!(records.iter().filter(named).count(), 2);
    assert_eq!(records.iter().filter(|record| record["client_cert_sha256"] == *sha256).count(), 2);
    assert_eq!(records.iter().filter(|record| record["end"] == "tls_failed").count(), 4);
}

#[test]
fn a_resumed_session_is_still_that_of_its_client() {
    let (authority, clients) = (Authority::new(), Authority::new());
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let more = format!(", client_ca = \"{}\"", clients.path("ca.pem"));
    let proxy = start(&origin, &[authority.listed("a", "")], &more);
    let alice = clients.client("alice");
    for version in [&TLS12, &TLS13] {
        let client = authority.trusting().versions(&[version]).showing(&alice).build();
        assert_eq!(ask(client.connect(proxy.web, "a.test"), "a.test").expect("an answer").0, 200);
        let mut talk = client.connect(proxy.web, "a.test").expect("a connection");
        assert_eq!(get(&mut talk, "a.test").expect("an answer").0, 200);
        assert_eq!(talk.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    }
    let subjects: Vec<_> = (0..4).map(|place| origin.request(place).field("x-client-cert-subject")).collect();
    assert!(subjects.iter().all(|subject| subject.as_deref() == Some("CN=alice")), "{subjects:?}");
}

#[test]
fn who_is_only_requested_gets_on_without_and_nobody_forges_what_is_told() {
    let (authority, clients) = (Authority::new(), Authority::new());
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let more = format!(", client_ca = \"{}\", client_auth = \"request\"", clients.path("ca.pem"));
    let proxy = start(&origin, &[authority.listed("a", "")], &more);
    let mut talk = authority.trusting().build().connect(proxy.web, "a.test").expect("a connection");
    io::Write::write_all(
        &mut talk,
        b"GET /forged HTTP/1.1\r\nHost: a.test\r\nX-Client-Cert-Subject: CN=root\r\n\r\n",
    )
    .expect("sent");
    assert_eq!(get(&mut talk, "a.test").expect("an answer").0, 200);
    let forged = origin.request(0);
    assert_eq!(forged.fields("x-client-cert-subject"), [""; 0]);
    assert_eq!(forged.fields("x-client-cert-sha256"), [""; 0]);
}

#[test]
fn naming_one_host_and_asking_for_another_does_not_get_around_its_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    authority.sign("open", &["open.test", "also.test"]);
    authority.sign("closed", &["closed.test", "*.closed.test"]);
    let closed = authority.listed("closed", &format!(", client_ca = \"{}\"", clients.path("ca.pem")));
    let origin = Origin::saying("ok");
    let proxy = start(&origin, &[authority.listed("open", ""), closed], "");
    let alice = clients.client("alice");
    let (with, without) = (authority.trusting().showing(&alice).build(), authority.trusting().build());
    let open = || without.connect(proxy.web, "open.test");
    assert_eq!(ask(open(), "open.test").expect("an answer").0, 200);
    assert_eq!(ask(open(), "also.test:443").expect("an answer").0, 200);
    for host in ["closed.test", "CLOSED.test.", "closed.test:443", "sub.closed.test"] {
        assert_eq!(ask(open(), host).expect("an answer").0, 421, "{host}");
    }
    // The names of the default certificate ask for nothing, so neither does a name that nobody knows.
    assert_eq!(ask(open(), "unknown.test").expect("an answer").0, 200);
    assert_eq!(ask(with.connect(proxy.web, "closed.test"), "sub.closed.test").expect("an answer").0, 200);
    assert_eq!(ask(with.connect(proxy.web, "closed.test"), "open.test").expect("an answer").0, 200);
    assert!(ask(without.connect(proxy.web, "closed.test"), "closed.test").is_err());
    proxy.until_metric("plimsoll_listener_tls_misdirected_total", "", 4.0);
}

#[test]
fn a_ticket_from_where_nothing_is_asked_opens_nothing_that_asks() {
    let (authority, clients) = (Authority::new(), Authority::new());
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let keys = authority.folder.join("keys");
    std::fs::write(&keys, "k".repeat(32)).expect("a file");
    let keys = format!(", ticket_keys = \"{}\"", keys.display());
    let plain = format!("tls = {{ certificates = [{}]{keys} }}", authority.listed("a", ""));
    let open = Setup::http(&[origin.address()]).listener(&plain).start();
    let more = format!("{keys}, client_ca = \"{}\"", clients.path("ca.pem"));
    let closed = start(&origin, &[authority.listed("a", "")], &more);
    for version in [&TLS12, &TLS13] {
        let client = authority.trusting().versions(&[version]).build();
        assert_eq!(ask(client.connect(open.web, "a.test"), "a.test").expect("an answer").0, 200);
        assert!(ask(client.connect(closed.web, "a.test"), "a.test").is_err());
    }
}
