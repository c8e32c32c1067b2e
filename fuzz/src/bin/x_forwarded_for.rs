//! `X-Forwarded-For` and fields of one address: what the nearest proxy has added is found whatever stands left of it, and an
//! address is one that is written as addresses are.

#![no_main]

use std::net::{IpAddr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use plimsoll::model::forwarded::{address_of, addresses_from_right};
use plimsoll::policy::identity::{Identity, NamedIn, Why};

const PEER: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fuzz_target!(|data: &[u8]| {
    if let Some(address) = address_of(data) {
        assert!(data.iter().all(|b| b.is_ascii_hexdigit() || b".:[]".contains(b)), "{}", data.escape_ascii());
        assert_eq!(address_of(address.to_string().as_bytes()), Some(address));
        assert_eq!(address, address.to_canonical());
    }
    let claims: Vec<Option<IpAddr>> = addresses_from_right(data).collect();
    assert_eq!(claims.len(), 1 + data.iter().filter(|&&byte| byte == b',').count());

    let trusted = ["::1/128", "10.0.0.0/8"].map(|network| network.parse().expect("a network")).to_vec();
    let identity = Identity { trusted, named_in: NamedIn::XForwardedFor, hops: None };
    let line = [data, b", 192.0.2.1:4711, 10.0.0.2"].concat();
    let (client, why) = identity.client_of(PEER, [&line[..]].into_iter());
    assert_eq!((client.to_string().as_str(), why), ("192.0.2.1", Why::Named));
    let (found, why) = identity.client_of(PEER, [data].into_iter());
    match why {
        Why::Named => assert!(!identity.trusts(found) && claims.contains(&Some(found))),
        _ => assert!(identity.trusts(found)),
    }
    let single = Identity { named_in: NamedIn::XRealIp, ..identity };
    let want = address_of(data).map_or((PEER, Why::Unnamed), |address| (address, Why::Named));
    assert_eq!(single.client_of(PEER, [data].into_iter()), want);
});
