//! What endpoints are told about the client: replaced for strangers, extended for trusted peers.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;

const FORGED: &str = "GET /x HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.7\r\n\
                      X-Forwarded-Proto: https\r\nX-Forwarded-Host: forged.example\r\nX-Real-IP: 203.0.113.8\r\n\
                      Forwarded: for=203.0.113.9\r\nX-Request-Id: from-outside\r\n\r\n";

#[test]
fn a_stranger_cannot_say_who_it_is() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    proxy.ask(FORGED);
    let request = origin.request(0);
    assert_eq!(request.fields("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.fields("x-forwarded-proto"), ["http"]);
    assert_eq!(request.fields("x-forwarded-host"), ["shop.example"]);
    assert_eq!(request.fields("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(request.fields("forwarded"), Vec::<String>::new());
    assert_eq!(request.fields("host"), ["shop.example"]);
}

#[test]
fn a_trusted_peer_is_believed_and_extended() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener("trusted_proxies = [\"127.0.0.0/8\"]").start();
    proxy.ask(FORGED);
    let request = origin.request(0);
    assert_eq!(request.field("x-forwarded-for").as_deref(), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(request.fields("x-forwarded-proto"), ["https"]);
    assert_eq!(request.fields("x-forwarded-host"), ["forged.example"]);
    assert_eq!(request.fields("x-real-ip"), ["203.0.113.7"]);
    assert_eq!(request.fields("x-request-id"), ["from-outside"]);
    assert_eq!(proxy.records(1)[0]["client"].as_str().map(|c| c.starts_with("203.0.113.7")), Some(true));
}

#[test]
fn the_client_is_the_first_untrusted_address_from_the_right() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .listener("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]")
        .start();
    proxy.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Forwarded-For: 203.0.113.7, 10.1.1.1\r\n\r\n",
    );
    assert_eq!(origin.request(0).fields("x-real-ip"), ["203.0.113.7"]);
}

#[test]
fn another_header_can_name_the_client() {
    let cases = [
        ("forwarded", "Forwarded: for=6.6.6.6, for=\"203.0.113.7:4711\";proto=https"),
        ("cf-connecting-ip", "CF-Connecting-IP: 203.0.113.7"),
        ("x-real-ip", "X-Real-IP: 203.0.113.7"),
    ];
    for (name, field) in cases {
        let origin = Origin::saying("ok");
        let proxy = Setup::http(&[origin.address()])
            .listener("trusted_proxies = [\"127.0.0.0/8\"]")
            .listener(&format!("client_address = \"{name}\""))
            .start();
        proxy.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n\r\n"));
        assert_eq!(origin.request(0).fields("x-real-ip"), ["203.0.113.7"], "{name}");
    }
}

#[test]
fn every_request_has_an_id_of_its_own() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    let mut ids: Vec<String> = (0..20)
        .flat_map(|place| {
            client.get("/");
            origin.request(place).fields("x-request-id")
        })
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert!(ids.iter().all(|id| id.len() >= 16));
}
