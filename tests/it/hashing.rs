//! The hashing policies by what clients see: a key keeps its endpoint, and only the keys of a dead one move.

use std::net::{Ipv4Addr, SocketAddr};

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};

const POLICIES: [&str; 3] = ["ring_hash", "maglev", "rendezvous"];
const NAMES: [&str; 4] = ["s1", "s2", "s3", "s4"];

fn four() -> Vec<Origin> {
    NAMES.into_iter().map(Origin::saying).collect()
}

fn hashed(origins: &[Origin], policy: &str, key: &str) -> Proxy {
    let addresses: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    Setup::http(&addresses)
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .pool(&format!("balance = \"{policy}\"\nhash_key = \"{key}\""))
        .start()
}

/// Who answers a GET of this target with these fields, from this client.
fn who(proxy: &Proxy, source: u32, target: &str, fields: &str) -> String {
    let answer = proxy.ask(format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 10.1.2.{source}\r\n{fields}\r\n"
    ));
    assert_eq!(answer.status(), 200);
    answer.text()
}

/// A target and fields that carry this key where `hash_key` looks for it, and other things around it.
fn carrying(hash_key: &str, key: u32, noise: u32) -> (String, String) {
    match hash_key {
        "header:x-user" => (format!("/{noise}"), format!("X-User: user-{key}\r\nX-Noise: {noise}\r\n")),
        "cookie:sid" => (format!("/{noise}"), format!("Cookie: n={noise}; sid=user-{key}; m={noise}\r\n")),
        "query:user" => (format!("/{noise}?n={noise}&user=user-{key}&m={noise}"), String::new()),
        "path" => (format!("/users/{key}?n={noise}"), String::new()),
        other => panic!("{other}"),
    }
}

#[test]
fn a_key_keeps_its_endpoint_whatever_else_the_request_says() {
    let origins = four();
    for policy in POLICIES {
        for hash_key in ["header:x-user", "cookie:sid", "query:user", "path"] {
            let proxy = hashed(&origins, policy, hash_key);
            let mut used = [0; 4];
            for key in 0..40 {
                let (target, fields) = carrying(hash_key, key, 1);
                let first = who(&proxy, 1, &target, &fields);
                let (target, fields) = carrying(hash_key, key, 2);
                assert_eq!(who(&proxy, 2, &target, &fields), first, "{policy} {hash_key} {key}");
                used[NAMES.iter().position(|name| *name == first).expect("one of the four")] += 1;
            }
            assert!(used.iter().all(|count| *count > 0), "{policy} {hash_key}: {used:?}");
        }
    }
}

#[test]
fn a_source_keeps_its_endpoint() {
    let origins = four();
    for policy in POLICIES {
        let proxy = hashed(&origins, policy, "source");
        let first: Vec<String> = (1..40).map(|source| who(&proxy, source, "/", "")).collect();
        let again: Vec<String> = (1..40).map(|source| who(&proxy, source, "/other", "X-A: b\r\n")).collect();
        assert_eq!(first, again, "{policy}");
        assert!(NAMES.iter().all(|name| first.iter().any(|who| who == name)), "{policy}: {first:?}");
    }
}

#[test]
fn a_request_without_the_key_goes_by_its_source() {
    let origins = four();
    let by_source = hashed(&origins, "ring_hash", "source");
    let expected: Vec<String> = (1..30).map(|source| who(&by_source, source, "/", "")).collect();
    for (hash_key, target, fields) in [
        ("header:x-user", "/", "X-User: \r\n"),
        ("header:x-user", "/", ""),
        ("cookie:sid", "/", "Cookie: other=1\r\n"),
        ("query:user", "/?other=1", ""),
    ] {
        let proxy = hashed(&origins, "ring_hash", hash_key);
        let found: Vec<String> = (1..30).map(|source| who(&proxy, source, target, fields)).collect();
        assert_eq!(found, expected, "{hash_key} {fields:?}");
    }
}

#[test]
fn only_the_keys_of_a_dead_endpoint_move() {
    for policy in POLICIES {
        let origins = four();
        let proxy = hashed(&origins, policy, "header:x-user");
        let ask = |key: u32| who(&proxy, 1, "/", &format!("X-User: user-{key}\r\n"));
        let before: Vec<String> = (0..60).map(ask).collect();
        origins[2].stop();
        let after: Vec<String> = (0..60).map(ask).collect();
        let mut heirs: Vec<&str> = Vec::new();
        for (key, (before, after)) in before.iter().zip(&after).enumerate() {
            if before == "s3" {
                assert_ne!(after, "s3");
                heirs.push(after);
            } else {
                assert_eq!(before, after, "{policy}: key {key} had nothing to do with the dead one");
            }
        }
        heirs.sort_unstable();
        heirs.dedup();
        assert!(heirs.len() >= 2, "{policy}: its keys go to several, not all to one: {heirs:?}");
    }
}

/// Which endpoint greets a session from each of so many addresses.
fn greeters(proxy: &Proxy, sources: u8) -> Vec<String> {
    let greeter = |source| {
        let mut client = Client::connect_from(Ipv4Addr::new(127, 9, 9, source), proxy.web);
        String::from_utf8_lossy(&client.rest().expect("a name")).into_owned()
    };
    (1..=sources).map(greeter).collect()
}

/// Where sources went, and where they go now that this endpoint takes none: its own have moved, and at most so many
/// others beside them.
fn only_its_own_moved(before: &[String], after: &[String], gone: &str, others: usize, policy: &str) {
    let moved = |(before, after): &(&String, &String)| *before != gone && before != after;
    let strays = before.iter().zip(after).filter(moved).count();
    assert!(strays <= others, "{policy}: {strays} sources had nothing to do with {gone}");
    assert!(before.iter().any(|name| name == gone) && after.iter().all(|name| name != gone), "{policy}");
}

#[test]
fn tcp_sessions_go_by_their_source() {
    for policy in POLICIES {
        let origins: Vec<Origin> =
            NAMES.into_iter().map(|name| Origin::start(move |mut session| session.send(name))).collect();
        let listed: Vec<String> = origins
            .iter()
            .zip(NAMES)
            .map(|(origin, name)| format!("{{ name = \"{name}\", address = \"{}\" }}", origin.address()))
            .collect();
        let proxy = Setup::listed_tcp(&listed.join(", ")).pool(&format!("balance = \"{policy}\"")).start();
        let all = greeters(&proxy, 60);
        assert_eq!(all, greeters(&proxy, 60), "{policy}");
        assert!(NAMES.iter().all(|name| all.iter().any(|greeter| greeter == name)), "{policy}: {all:?}");
        // Taken out of the table: maglev lets go of about as many others.
        let change = proxy.admin_change("PATCH", "/v1/pools/main/endpoints/s2", "{\"weight\":0}");
        assert_eq!(change.status(), 200, "{}", change.text());
        let without = greeters(&proxy, 60);
        only_its_own_moved(&all, &without, "s2", if policy == "maglev" { 30 } else { 0 }, policy);
        // Found dead: only its own move, whatever the policy.
        origins[2].stop();
        only_its_own_moved(&without, &greeters(&proxy, 60), "s3", 0, policy);
    }
}
