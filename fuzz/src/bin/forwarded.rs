//! `Forwarded`: what proxies add on the right is read whatever a client has written on the left, what is read can be written
//! and read again, and the client found is never one that stands left of what cannot be believed.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZero;

use libfuzzer_sys::fuzz_target;
use plimsoll::model::forwarded::{Node, elements_from_right, nodes_from_right, put_element};
use plimsoll::policy::identity::{Identity, NamedIn, Why};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fuzz_target!(|data: &[u8]| {
    let nodes: Vec<Node> = nodes_from_right(data).collect();
    assert!(nodes.len() <= data.len());
    for (element, node) in elements_from_right(data) {
        assert!(!element.is_empty() && element == element.trim_ascii());
        // Each stands for itself, wherever it stood.
        assert!(nodes_from_right(element).eq([node]), "{}", element.escape_ascii());
    }

    let mut line = data.to_vec();
    line.extend_from_slice(b", ");
    let mut own = Vec::new();
    put_element(&mut own, Some(CLIENT), data, b"https");
    line.extend_from_slice(&own);
    assert!(nodes_from_right(&own).eq([Node::Address(CLIENT)]), "{}", own.escape_ascii());
    assert_eq!(nodes_from_right(&line).next(), Some(Node::Address(CLIENT)), "{}", line.escape_ascii());

    let trusted = vec!["10.0.0.0/8".parse().expect("a network")];
    let identity = Identity { trusted, named_in: NamedIn::Forwarded, hops: None };
    assert_eq!(identity.client_of(PEER, [&line[..]].into_iter()), (CLIENT, Why::Named));
    assert_eq!(identity.client_of(CLIENT, [data].into_iter()), (CLIENT, Why::Stranger));
    let lines = data.split(|&byte| byte == b'\n');
    let (found, why) = identity.client_of(PEER, lines.clone());
    match why {
        Why::Named => assert!(!identity.trusts(found)),
        _ => assert!(identity.trusts(found)),
    }
    for hops in 1..4 {
        let counted = Identity { hops: NonZero::new(hops), ..identity.clone() };
        let nth = lines.clone().rev().flat_map(nodes_from_right).nth(hops as usize - 1);
        let want = match nth {
            Some(Node::Address(address)) => (address, Why::Named),
            _ => (PEER, Why::Unnamed),
        };
        assert_eq!(counted.client_of(PEER, lines.clone()), want);
    }
});
