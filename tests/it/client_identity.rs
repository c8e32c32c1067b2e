//! Who the client is, told by trusted peers in every way that there is: the one address found is what every rule, hash,
//! record and field goes by, and what endpoints are told of it.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::harness::between::lower;
use crate::harness::client::Client;
use crate::harness::http2::{Frames, Outcome, block};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::wire::Message;

const TRUSTING: &str = "trusted_proxies = [\"127.0.0.0/8\", \"fd00::/8\"]\nh2c = true";

/// Asks with these fields over HTTP/1 or HTTP/2; the text of the answer.
fn ask(proxy: &Proxy, http2: bool, fields: &[(&str, &str)]) -> String {
    if !http2 {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let answer = proxy.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"));
        assert_eq!(answer.status(), 200);
        return answer.text();
    }
    let mut head = vec![(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    head.extend(fields);
    let mut frames = Frames::connect(proxy.web);
    let Outcome::Answer(200, body) = frames.ask(1, &block(&head)).outcome(1) else { panic!("no answer") };
    String::from_utf8(body).expect("text")
}

/// What an endpoint sees of a request with these fields, for each pair of protocols.
fn seen(listener: &str, fields: &[(&str, &str)], check: impl Fn(&Message, &str)) {
    for (http2_in, http2_out) in [(false, false), (false, true), (true, false), (true, true)] {
        let origin = Origin::saying("ok");
        let endpoint = if http2_out { lower(origin.address()) } else { origin.address() };
        let protocol = if http2_out { "protocol = \"http2\"" } else { "" };
        let proxy = Setup::http(&[endpoint]).listener(TRUSTING).listener(listener).pool(protocol).start();
        ask(&proxy, http2_in, fields);
        check(&origin.request(0), &format!("{listener}, in {http2_in}, out {http2_out}"));
    }
}

/// Ways in which a trusted peer names 203.0.113.7, each with keys of the listener.
const WAYS: &[(&str, &[(&str, &str)])] = &[
    ("", &[("x-forwarded-for", "6.6.6.6, 203.0.113.7")]),
    ("", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.7:4711, fd00::9, 127.0.0.9")]),
    ("trusted_hops = 1", &[("x-forwarded-for", "6.6.6.6, 203.0.113.7")]),
    ("trusted_hops = 2", &[("x-forwarded-for", "6.6.6.6, 203.0.113.7"), ("x-forwarded-for", "9.9.9.9")]),
    ("client_address = \"forwarded\"", &[("forwarded", "for=6.6.6.6, for=203.0.113.7;proto=https")]),
    (
        "client_address = \"forwarded\"",
        &[("forwarded", "for=\""), ("forwarded", "For=\"203.0.113.7:_x\", for=\"[fd00::9]:80\";by=\"a,b\"")],
    ),
    (
        "client_address = \"forwarded\"\ntrusted_hops = 3",
        &[("forwarded", "for=6.6.6.6, for=203.0.113.7"), ("forwarded", "for=_hidden, for=unknown")],
    ),
    ("client_address = \"cf-connecting-ip\"", &[("cf-connecting-ip", "203.0.113.7")]),
    ("client_address = \"x-real-ip\"", &[("x-real-ip", "203.0.113.7")]),
];

const ROUTES: &str = "[[route]]\nname = \"inside\"\nsource = [\"203.0.113.7/32\"]\nrespond = { status = 200, body = \"inside\" }\n\
                      [[route]]\nname = \"all\"\npool = \"main\"\n";

#[test]
fn a_route_by_source_goes_by_the_client_that_a_trusted_peer_names() {
    for (listener, fields) in WAYS {
        let origin = Origin::saying("outside");
        let proxy =
            Setup::http(&[origin.address()]).listener(TRUSTING).listener(listener).routes(ROUTES).start();
        for http2 in [false, true] {
            assert_eq!(ask(&proxy, http2, fields), "inside", "{listener} {fields:?} {http2}");
            assert_eq!(ask(&proxy, http2, &[]), "outside", "{listener} {http2}");
        }
        for record in proxy.records(4).iter().filter(|record| record["route"] == "inside") {
            assert_eq!(record["client"], "203.0.113.7:0", "{listener}");
            assert!(record["peer"].as_str().is_some_and(|peer| peer.starts_with("127.")), "{record}");
        }
    }
}

#[test]
fn the_same_from_a_stranger_names_nobody() {
    for (listener, fields) in WAYS {
        let origin = Origin::saying("outside");
        let keys = TRUSTING.replace("127.0.0.0/8", "192.0.2.0/24");
        let proxy =
            Setup::http(&[origin.address()]).listener(&keys).listener(listener).routes(ROUTES).start();
        for (place, http2) in [false, true].into_iter().enumerate() {
            assert_eq!(ask(&proxy, http2, fields), "outside", "{listener} {fields:?} {http2}");
            let request = origin.request(place);
            let all = ["x-forwarded-for", "x-real-ip", "forwarded", "cf-connecting-ip"];
            let told: Vec<String> = all.iter().flat_map(|name| request.fields(name)).collect();
            assert_eq!(told, ["127.0.0.1", "127.0.0.1"], "{listener}");
        }
        for record in proxy.records(2) {
            assert_eq!(record["client"], record["peer"], "{listener}");
        }
    }
}

#[test]
fn a_proxy_header_and_fields_are_one_chain() {
    // The PROXY header names a proxy of ours, which in turn names its client.
    let origin = Origin::saying("outside");
    let proxy = Setup::http(&[origin.address()])
        .listener("accept_proxy_protocol = true")
        .listener("trusted_proxies = [\"127.0.0.0/8\", \"192.0.2.7/32\"]")
        .routes(ROUTES)
        .start();
    let get = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    for (source, want) in [("192.0.2.7", "inside"), ("192.0.2.8", "outside"), ("203.0.113.7", "inside")] {
        let header = format!("PROXY TCP4 {source} 192.0.2.200 4711 443\r\n");
        assert_eq!(proxy.connect().say(header + get).answer().text(), want, "{source}");
    }
    let told = origin.request(0);
    assert_eq!(
        (told.fields("x-forwarded-for"), told.fields("x-real-ip")),
        (vec!["192.0.2.8".to_owned()], vec!["192.0.2.8".to_owned()],)
    );
    let records = proxy.records(3);
    let mut clients: Vec<_> = records.iter().filter_map(|record| record["client"].as_str()).collect();
    clients.sort_unstable();
    assert_eq!(clients, ["192.0.2.8:4711", "203.0.113.7:0", "203.0.113.7:4711"]);
}

#[test]
fn where_a_proxy_header_alone_names_clients_no_field_does() {
    let origin = Origin::saying("outside");
    let proxy = Setup::http(&[origin.address()])
        .listener("accept_proxy_protocol = true")
        .listener("client_address = \"proxy-protocol\"")
        .listener("trusted_proxies = [\"0.0.0.0/0\"]")
        .routes(ROUTES)
        .start();
    let get = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\n\
               X-Forwarded-Host: b\r\nX-Forwarded-Proto: https\r\n\r\n";
    for (source, want) in [("192.0.2.8", "outside"), ("203.0.113.7", "inside")] {
        let header = format!("PROXY TCP4 {source} 192.0.2.200 4711 443\r\n");
        assert_eq!(proxy.connect().say(header + get).answer().text(), want, "{source}");
    }
    let told = origin.request(0);
    for (name, want) in [
        ("x-forwarded-for", "192.0.2.8"),
        ("x-real-ip", "192.0.2.8"),
        ("x-forwarded-host", "a"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(told.fields(name), [want], "{name}");
    }
}

#[test]
fn a_hash_by_source_and_a_split_by_source_go_by_the_client_that_a_trusted_peer_names() {
    let origins: Vec<Origin> = ["a", "b", "c", "d"].into_iter().map(Origin::saying).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    let hashed = Setup::http(&addresses)
        .listener(TRUSTING)
        .pool("balance = \"ring_hash\"\nhash_key = \"source\"")
        .start();
    let routes = "[[route]]\nname = \"all\"\nsplit = [{ pool = \"main\", weight = 50 }, { pool = \"other\", weight = 50 }]\n\
                  split_by = \"source\"\n";
    let other = format!("[pool.other]\nendpoints = [\"{}\"]\n", addresses[1]);
    let split = Setup::http(&addresses[..1]).listener(TRUSTING).routes(routes).text(&other).start();
    for (proxy, places) in [(&hashed, 4), (&split, 2)] {
        let mut used = HashSet::new();
        for client in 0..40 {
            let list = format!("6.6.6.6, 203.0.113.{client}");
            let own = ask(proxy, false, &[("x-forwarded-for", &list)]);
            // What stands left of the client changes nothing, nor does the protocol.
            let left = format!("9.9.9.9, 203.0.113.{client}");
            assert_eq!(ask(proxy, true, &[("x-forwarded-for", &left)]), own);
            used.insert(own);
        }
        assert_eq!(used.len(), places, "clients of one proxy are told apart");
    }
}

#[test]
fn limits_by_source_go_by_the_client_that_a_trusted_peer_names() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .listener(TRUSTING)
        .routes(
            "[[route]]\nname = \"all\"\npool = \"main\"\n\
             rate_limit = { key = \"source\", rate = \"1/m\", burst = 0 }\n",
        )
        .start();
    let status = |list: &str| {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        proxy.ask(format!("{head}X-Forwarded-For: {list}\r\n\r\n")).status()
    };
    assert_eq!(status("203.0.113.7"), 200);
    assert_eq!(status("9.9.9.9, 203.0.113.7"), 429, "what stands left of the client makes nobody else of it");
    assert_eq!(status("203.0.113.8"), 200);
}

#[test]
fn a_ceiling_and_admission_by_source_go_by_whom_the_connection_is_from() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .listener(TRUSTING)
        .listener("max_connections_per_source = 1\ndeny = [\"203.0.113.0/24\"]")
        .start();
    let mut first = proxy.connect();
    // Requests of different clients share the connection of their proxy: it is let in, and it is counted.
    let get = |list: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {list}\r\n\r\n");
    assert_eq!(first.say(get("203.0.113.7")).answer().status(), 200);
    assert_eq!(first.say(get("198.51.100.7")).answer().status(), 200);
    assert!(Client::is_turned_away(proxy.web));
    proxy.until_metric("plimsoll_listener_refused_total", "source", 1.0);
}

#[test]
fn what_strangers_claim_by_any_field_reaches_no_endpoint() {
    let claims = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/admin"),
        ("x-forwarded-user", "root"),
        ("x-client-ip", "6.6.6.6"),
        ("true-client-ip", "6.6.6.6"),
        ("x-cluster-client-ip", "6.6.6.6"),
        ("fastly-client-ip", "6.6.6.6"),
        ("cf-connecting-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
    ];
    for family in ["x-forwarded", "rfc7239", "both", "off"] {
        let keys = format!("trusted_proxies = [\"192.0.2.0/24\"]\nforwarded = \"{family}\"");
        let origin = Origin::saying("ok");
        let proxy = Setup::http(&[origin.address()]).listener(&keys).listener("h2c = true").start();
        for (place, http2) in [false, true].into_iter().enumerate() {
            ask(&proxy, http2, &claims);
            let request = origin.request(place);
            for (name, value) in claims {
                assert!(!request.fields(name).iter().any(|told| told.contains(value)), "{family} {name}");
            }
        }
    }
}

#[test]
fn endpoints_are_told_in_the_fields_that_the_listener_says() {
    let given = [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "b:8443"),
        ("x-forwarded-port", "8443"),
    ];
    let told = |request: &Message| {
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded"]
            .map(|name| request.fields(name).join(" | "))
    };
    let standard = "for=203.0.113.7;host=\"b:8443\";proto=https, for=127.0.0.1;host=a;proto=http";
    seen("forwarded = \"x-forwarded\"", &given, |request, case| {
        assert_eq!(told(request), ["203.0.113.7, 127.0.0.1", "https", "b:8443", "203.0.113.7", ""], "{case}");
        assert_eq!(request.fields("x-forwarded-port"), ["8443"], "{case}");
    });
    seen("forwarded = \"rfc7239\"", &given, |request, case| {
        assert_eq!(told(request), ["", "", "", "", standard], "{case}");
    });
    seen("forwarded = \"both\"", &given, |request, case| {
        let want = ["203.0.113.7, 127.0.0.1", "https", "b:8443", "203.0.113.7", standard];
        assert_eq!(told(request), want, "{case}");
    });
    seen("forwarded = \"off\"", &given, |request, case| {
        assert_eq!(told(request), ["203.0.113.7", "https", "b:8443", "", ""], "{case}");
    });
}

#[test]
fn a_chain_in_the_standard_field_is_extended() {
    let given =
        [("forwarded", "for=\"; for=6.6.6.6"), ("forwarded", "for=_a;by=\"x,y\" , for=\"[2001:db8::1]\"")];
    seen("forwarded = \"rfc7239\"\nclient_address = \"forwarded\"", &given, |request, case| {
        let want = "for=_a;by=\"x,y\", for=\"[2001:db8::1]\", for=127.0.0.1;host=a;proto=http";
        assert_eq!(request.fields("forwarded"), [want], "{case}");
    });
}
