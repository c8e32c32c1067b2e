//! PROXY headers and TLS on the same connection: the header comes before the handshake on both sides, and tells endpoints of it.

use rustls::version::{TLS12, TLS13};

use plimsoll::proxy::proxy_protocol::{Header, TlsFacts};

use crate::harness::origin::Origin;
use crate::harness::presented::header;
use crate::harness::proxy::Setup;
use crate::harness::tls::{Authority, get};

/// What a header says of TLS, as text.
fn told(header: &Header) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (name, alpn) = (text(&header.facts.authority), text(&header.facts.alpn));
    let Some(TlsFacts {
        version, cipher, common_name, certificate, certificate_in_session, verified, ..
    }) = &header.facts.tls
    else {
        return format!("{name} {alpn} plain");
    };
    let (version, cipher, common_name) = (text(version), text(cipher), text(common_name));
    format!(
        "{name} {alpn} {version} {cipher} {common_name} {certificate} {certificate_in_session} {verified}"
    )
}

/// Answers every request with what the header of its connection tells of TLS.
fn telling() -> Origin {
    Origin::start(|mut session| {
        let told = told(&header(&mut session)?);
        while session.request()?.is_some() {
            session.ok(&told)?;
        }
        Ok(())
    })
}

#[test]
fn endpoints_are_told_how_their_client_is_secured() {
    let (authority, clients, origin) = (Authority::new(), Authority::new(), telling());
    authority.sign("a", &["a.test"]);
    let asks = format!("client_ca = \"{}\", client_auth = \"request\"", clients.path("ca.pem"));
    let tls = format!("tls = {{ certificates = [{}], {asks} }}", authority.listed("a", ""));
    let proxy = Setup::http(&[origin.address()]).listener(&tls).pool("send_proxy = \"v2\"").start();
    let alice = clients.client("alice");
    for (version, want) in
        [(&TLS12, "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256"), (&TLS13, "TLSv1.3 TLS_AES_128_GCM_SHA256")]
    {
        let versions = [version];
        let ask = |client: &crate::harness::tls::Tls| {
            let mut talk = client.connect(proxy.web, "a.test").expect("a connection");
            get(&mut talk, "a.test").expect("an answer").1
        };
        let mut with = authority.trusting().versions(&versions).showing(&alice).build();
        with.0.alpn_protocols = vec![b"http/1.1".to_vec()];
        assert_eq!(ask(&with), format!("a.test http/1.1 {want} alice true true true"));
        // The certificate of a resumed session was not shown on this connection.
        assert_eq!(ask(&with), format!("a.test http/1.1 {want} alice false true true"));
        let without = authority.trusting().versions(&versions).build();
        assert_eq!(ask(&without), format!("a.test  {want}  false false false"));
    }
}

#[test]
fn what_an_endpoint_of_a_tcp_pool_is_told_depends_on_who_ends_tls() {
    let authority = Authority::new();
    authority.sign("a", &["ends.test"]);
    let ended = telling();
    let passed = Origin::start(|mut session| {
        let told = told(&header(&mut session)?);
        // The ClientHello comes as it was.
        let first = session.wire.take(1)?;
        session.send(format!("{told} {first:?}"))
    });
    let routes = "[[route]]\nsni = \"passes.test\"\npool = \"passed\"\ntls = \"passthrough\"\n";
    let pools = format!("[pool.passed]\nendpoints = [\"{}\"]\nsend_proxy = \"v2\"\n", passed.address());
    let tls = format!("tls = {{ certificates = [{}] }}", authority.listed("a", ""));
    let setup = Setup::tcp(&[ended.address()]).listener(&tls).routes(routes).text(&pools);
    let proxy = setup.pool("send_proxy = \"v2\"").start();
    let client = authority.trusting().build();
    let mut talk = client.connect(proxy.web, "ends.test").expect("a connection");
    let want = "ends.test  TLSv1.3 TLS_AES_128_GCM_SHA256  false false false";
    assert_eq!(get(&mut talk, "ends.test").expect("an answer").1, want);
    let hello = client.hello("passes.test");
    assert_eq!(proxy.connect().say(hello).rest().expect("an answer"), b"passes.test  plain [22]");
}

#[test]
fn a_client_that_a_header_names_shakes_hands_after_it() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    authority.sign("a", &["a.test"]);
    let tls = format!("tls = {{ certificates = [{}] }}", authority.listed("a", ""));
    let trusting = "accept_proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let proxy = Setup::http(&[origin.address()]).listener(trusting).listener(&tls).start();
    let client = authority.trusting().build();
    let headers: [&[u8]; 3] = [
        b"PROXY TCP4 192.0.2.7 192.0.2.200 4711 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\xc8\x12\x67\x01\xbb",
        // What it tells of TLS is of another connection.
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x17\xc0\0\x02\x07\xc0\0\x02\xc8\x12\x67\x01\xbb\x20\0\x08\x01\0\0\0\x01\x21\0\0",
    ];
    for (place, header) in headers.into_iter().enumerate() {
        let mut talk = client.connect_after(header, proxy.web, "a.test").expect("a connection");
        assert_eq!(get(&mut talk, "a.test").expect("an answer").0, 200);
        let request = origin.request(place);
        assert_eq!(request.fields("x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(request.field("x-forwarded-proto").as_deref(), Some("https"));
    }
    // Of a trusted peer nothing is taken without one, and it is no part of the handshake.
    assert!(client.connect(proxy.web, "a.test").is_err());
    proxy.until_metric("plimsoll_listener_refused_total", "proxy_header", 1.0);
    for record in proxy.records(4).iter().filter(|record| record["status"] == 200) {
        assert_eq!((&record["client"], &record["tls"]), (&"192.0.2.7:4711".into(), &"TLSv1.3".into()));
    }
}
