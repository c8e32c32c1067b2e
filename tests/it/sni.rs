//! TLS clients of a tcp listener by the name that they ask for, without decryption.

use std::time::Duration;

use serde_json::Value;

use crate::harness::client::Client;
use crate::harness::clock::{Moment, pause};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::secure::{self, Secure};
use crate::harness::tls;

fn vector(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).expect("short").to_be_bytes()[..], data].concat()
}

/// A ClientHello for this name, in records of so many bytes.
fn hello(name: &str, record: usize, padding: usize) -> Vec<u8> {
    let padded = [&[0, 21][..], &vector(&vec![0; padding])].concat();
    hello_with(name, record, &[&[0x0a, 0x0a, 0, 0][..], &padded].concat())
}

/// One with these extensions in front of the name.
fn hello_with(name: &str, record: usize, extensions: &[u8]) -> Vec<u8> {
    let mut extensions = extensions.to_vec();
    if !name.is_empty() {
        let list = vector(&[&[0][..], &vector(name.as_bytes())].concat());
        extensions.extend_from_slice(&[&[0, 0][..], &vector(&list)].concat());
    }
    let body = [&[3, 3][..], &[7; 32], &[0], &vector(&[0x13, 0x01]), &[1, 0], &vector(&extensions)].concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    message.chunks(record).flat_map(|part| [&[22, 3, 1][..], &vector(part)].concat()).collect()
}

/// Says its name, and once everything is there, how many bytes of the client have come.
fn saying(name: &'static str, bytes: usize) -> Origin {
    Origin::start(move |mut session| {
        session.send(name)?;
        let got = session.wire.take(bytes)?;
        assert_eq!(got.first(), Some(&22));
        session.send("+")
    })
}

struct Stand {
    named: Origin,
    below: Origin,
    rest: Origin,
    proxy: Proxy,
}

fn stand(keys: &str, bytes: usize) -> Stand {
    let [named, below, rest] = ["named", "below", "rest"].map(|name| saying(name, bytes));
    let routes = "[[route]]\nname = \"one\"\nlisteners = [\"web\"]\nsni = \"a.example\"\npool = \"named\"\n\
        [[route]]\nname = \"all\"\nlisteners = [\"web\"]\nsni = [\"*.example\", \"*.a.example\"]\npool = \"below\"\n";
    let pools = format!(
        "[pool.named]\nendpoints = [\"{}\"]\n[pool.below]\nendpoints = [\"{}\"]\n",
        named.address(),
        below.address()
    );
    let proxy = Setup::tcp(&[rest.address()]).listener(keys).routes(routes).text(&pools).start();
    Stand { named, below, rest, proxy }
}

#[track_caller]
fn comes_to(client: &mut Client, want: &str) {
    assert_eq!(client.rest().expect("an answer"), format!("{want}+").as_bytes());
}

#[test]
fn the_closest_name_decides_and_all_bytes_go_on() {
    let length = hello("a.example", 16_384, 0).len();
    let stand = stand("", length);
    for (name, want) in [
        ("a.example", "named"),
        ("A.EXAMPLE", "named"),
        ("b.example", "below"),
        ("x.a.example", "below"),
        ("a.other", "rest"),
        ("", "rest"),
    ] {
        let padding = "a.example".len().saturating_sub(name.len());
        let mut client = stand.proxy.connect();
        // As long as the others, whatever the name's length.
        let mut bytes = hello(name, 16_384, padding);
        bytes.resize(bytes.len().max(length), 23);
        comes_to(client.say(bytes), want);
    }
    let records = stand.proxy.records(6);
    let named = records.iter().filter(|record| record["host"] == "a.example");
    let led: Vec<_> = named.map(|record| (&record["pool"], &record["route"])).collect();
    assert_eq!(led, [(&"named".into(), &"one".into()); 2]);
    assert_eq!(stand.named.accepted(), 2);
    assert_eq!(stand.below.accepted(), 2);
    assert_eq!(stand.rest.accepted(), 2);
}

#[test]
fn a_hello_may_be_cut_anywhere() {
    let bytes = hello("a.example", 100, 3000);
    let stand = stand("", bytes.len());
    let mut client = stand.proxy.connect();
    client.stream().set_nodelay(true).expect("an option");
    for part in bytes.chunks(150) {
        client.say(part);
        pause(Duration::from_millis(1));
    }
    comes_to(&mut client, "named");
    let mut client = stand.proxy.connect();
    comes_to(client.say(&bytes), "named");
}

#[test]
fn a_hello_that_does_not_come_whole_ends_by_a_limit_with_a_name() {
    let stand = stand("timeouts = { tls_handshake = \"200ms\" }\nlimits = { client_hello = \"2KiB\" }", 1);
    let mut slow = stand.proxy.connect();
    slow.say(&hello("a.example", 16_384, 0)[..50]).expect_end();
    stand.proxy.connect().say(hello("a.example", 16_384, 3000)).expect_end();
    stand.proxy.connect().say(hello("a.example", 50, 1900)).expect_end();
    let mut broken = hello("a.example", 16_384, 0);
    broken[5] = 2;
    stand.proxy.connect().say(broken).expect_end();
    let mut half = stand.proxy.connect();
    half.say(&hello("a.example", 16_384, 0)[..50]).finish().expect("a FIN");
    half.expect_end();
    stand.proxy.until_metric("plimsoll_limit_hits_total", "tls_handshake", 1.0);
    stand.proxy.until_metric("plimsoll_limit_hits_total", "client_hello", 2.0);
    stand.proxy.until_metric("plimsoll_listener_refused_total", "client_hello", 1.0);
    let mut ends: Vec<String> =
        stand.proxy.records(5).iter().map(|record| record["end"].to_string()).collect();
    ends.sort();
    assert_eq!(ends, ["\"client_aborted\"", "\"client_timeout\"", "\"limit\"", "\"limit\"", "\"refused\""]);
    assert_eq!(stand.named.accepted(), 0);
}

#[test]
fn a_hello_that_comes_byte_by_byte_is_waited_for_until_its_time_is_up() {
    let bytes = hello("a.example", 16_384, 0);
    let stand = stand("timeouts = { tls_handshake = \"300ms\" }", bytes.len());
    let mut client = stand.proxy.connect();
    client.stream().set_nodelay(true).expect("an option");
    for byte in &bytes {
        client.say([*byte]);
    }
    comes_to(&mut client, "named");
    // Each byte is progress, and yet its time is that of the whole.
    let since = Moment::now();
    let mut slow = stand.proxy.connect();
    slow.stream().set_nodelay(true).expect("an option");
    for byte in &bytes {
        if slow.send([*byte]).is_err() {
            break;
        }
        pause(Duration::from_millis(10));
    }
    slow.expect_end();
    assert!(since.elapsed() >= Duration::from_millis(250), "{:?}", since.elapsed());
    stand.proxy.until_metric("plimsoll_limit_hits_total", "limit=\"tls_handshake\"", 1.0);
    assert_eq!(stand.named.accepted(), 1);
}

#[test]
fn with_encrypted_client_hello_the_outer_name_leads_on_and_an_address_is_no_name() {
    let stand = stand("", 100);
    let encrypted = [&[0xfe, 0x0d][..], &vector(&[0; 300]), &[0x1a, 0x1a, 0, 1, 0]].concat();
    comes_to(stand.proxy.connect().say(hello_with("b.example", 16_384, &encrypted)), "below");
    for address in ["192.0.2.7", "2001:db8::7", "[2001:db8::7]"] {
        comes_to(stand.proxy.connect().say(hello(address, 16_384, 100)), "rest");
    }
    let records = stand.proxy.records(4);
    assert_eq!(
        records.iter().filter(|record| record["host"] == "").count(),
        3,
        "no address is logged as a name"
    );
}

#[test]
fn a_port_passes_some_names_through_and_ends_the_tls_of_others() {
    let (ours, theirs) = (tls::Authority::new(), secure::Authority::new());
    ours.sign("ends", &["ends.test", "*.ends.test"]);
    let behind = Origin::saying("through");
    let passed = Secure::named(behind.address(), &theirs, "passes.test");
    let ended = Origin::saying("ended");
    let routes = "[[route]]\nsni = [\"passes.test\", \"deep.ends.test\"]\npool = \"passed\"\ntls = \"passthrough\"\n\
        [[route]]\nsni = \"*.ends.test\"\npool = \"main\"\n";
    let pool = format!("[pool.passed]\nendpoints = [\"{}\"]\n", passed.address());
    let keys = format!("tls = {{ certificates = [{}] }}", ours.listed("ends", ""));
    let proxy = Setup::tcp(&[ended.address()]).listener(&keys).routes(routes).text(&pool).start();
    let trusts_us = ours.trusting().build();
    let mut trusts_them = ours.trusting().build();
    let ask = |client: &tls::Tls, name: &str| tls::get(&mut client.connect(proxy.web, name)?, name);
    for name in ["ends.test", "a.ends.test"] {
        assert_eq!(ask(&trusts_us, name).expect("an answer").1, "ended", "{name}");
    }
    // Who knows only our authority does not get on with theirs, and the other way about.
    assert!(ask(&trusts_us, "passes.test").is_err() && ask(&trusts_us, "deep.ends.test").is_err());
    trusts_them.trust(&theirs.ca());
    assert_eq!(ask(&trusts_them, "passes.test").expect("an answer").1, "through");
    let record =
        |host: &str| proxy.records(5).into_iter().find(|record| record["host"] == host).expect("a record");
    assert_eq!(
        (&record("passes.test")["pool"], &record("passes.test")["tls"]),
        (&"passed".into(), &Value::Null)
    );
    assert_eq!(
        (&record("a.ends.test")["pool"], &record("a.ends.test")["tls"]),
        (&"main".into(), &"TLSv1.3".into())
    );
}

#[test]
fn what_is_no_tls_comes_to_the_listeners_own_pool() {
    let origin = Origin::saying("plain");
    let routes =
        "[[route]]\nsni = \"a.example\"\npool = \"other\"\n[pool.other]\nendpoints = [\"127.0.0.1:1\"]\n";
    let proxy = Setup::tcp(&[origin.address()]).routes(routes).start();
    assert_eq!(proxy.get("/").text(), "plain");
}

#[test]
fn without_a_pool_of_its_own_a_listener_resets_whom_no_name_leads_on() {
    let origin = saying("named", 1);
    let routes = "[[route]]\nsni = \"a.example\"\npool = \"main\"\n";
    let endpoints = format!("\"{}\"", origin.address());
    let proxy = Setup::tcp_by_sni(&endpoints).routes(routes).start();
    comes_to(proxy.connect().say(hello("a.example", 16_384, 0)), "named");
    proxy.connect().say(hello("b.example", 16_384, 0)).expect_end();
    proxy.connect().say("GET / HTTP/1.1\r\n\r\n").expect_end();
    proxy.until_metric("plimsoll_listener_refused_total", "unknown_name", 2.0);
    let records = proxy.records(3);
    assert!(records.iter().any(|record| record["host"] == "b.example" && record["end"] == "no_route"));
}

#[test]
fn a_name_keeps_to_its_endpoint_where_the_pool_hashes_it() {
    let origins: Vec<Origin> = ["one", "two", "three", "four"].map(|name| saying(name, 1)).into();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let proxy = Setup::tcp(&addresses).pool("balance = \"maglev\"\nhash_key = \"sni\"").start();
    let ask = |name: &str| proxy.connect().say(hello(name, 16_384, 0)).rest().expect("an answer");
    let mut seen = std::collections::HashSet::new();
    for number in 0..12 {
        let name = format!("host-{number}.example");
        let first = ask(&name);
        assert_eq!(ask(&name), first);
        seen.insert(first);
    }
    assert!(seen.len() > 1, "twelve names are not all on one of four");
}
