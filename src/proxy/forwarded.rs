//! Who the client is, and what the endpoint is told of it: `X-Forwarded-*`, `X-Real-IP`, `Forwarded`, by trust.
//!
//! What an untrusted peer says is left out and replaced. Lists are walked from the right, past trusted proxies, to the
//! first address that is not one; the leftmost, which anybody can write, is never used.

use std::net::IpAddr;

use super::http1::fields::Kind;
use crate::runtime::listener::{ClientAddress, Listener};

/// The client's address, given the other end of the connection and the request's fields.
#[must_use]
pub fn client_of<'a>(
    listener: &Listener,
    peer: IpAddr,
    fields: impl DoubleEndedIterator<Item = (Kind, &'a [u8])>,
) -> IpAddr {
    let peer = peer.to_canonical();
    if !listener.trusts(peer) {
        return peer;
    }
    match listener.client_address {
        ClientAddress::XForwardedFor => walk(listener, peer, Kind::XForwardedFor, fields, address_of),
        ClientAddress::Forwarded => walk(listener, peer, Kind::Forwarded, fields, for_of),
        ClientAddress::CfConnectingIp => single(peer, Kind::CfConnectingIp, fields),
        ClientAddress::XRealIp => single(peer, Kind::XRealIp, fields),
    }
}

fn walk<'a>(
    listener: &Listener,
    peer: IpAddr,
    kind: Kind,
    fields: impl DoubleEndedIterator<Item = (Kind, &'a [u8])>,
    read: impl Fn(&[u8]) -> Option<IpAddr>,
) -> IpAddr {
    let mut client = peer;
    for (_, value) in fields.rev().filter(|(k, _)| *k == kind) {
        for element in value.rsplit(|&b| b == b',') {
            // What is no address ends the walk: nothing to its left can be believed.
            let Some(address) = read(element.trim_ascii()) else { return client };
            client = address;
            if !listener.trusts(client) {
                return client;
            }
        }
    }
    client
}

fn single<'a>(peer: IpAddr, kind: Kind, mut fields: impl Iterator<Item = (Kind, &'a [u8])>) -> IpAddr {
    fields.find(|(k, _)| *k == kind).and_then(|(_, value)| address_of(value)).unwrap_or(peer)
}

/// An address, with or without a port, with or without brackets.
fn address_of(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0.parse().ok()?,
        None => match text.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => text.parse::<std::net::SocketAddrV4>().ok()?.ip().to_owned().into(),
        },
    };
    Some(address.to_canonical())
}

/// The `for` parameter of one element of `Forwarded` (RFC 7239 section 4).
fn for_of(element: &[u8]) -> Option<IpAddr> {
    element.split(|&b| b == b';').find_map(|pair| {
        let pair = pair.trim_ascii();
        let (name, value) = pair.split_at_checked(4)?;
        if !name.eq_ignore_ascii_case(b"for=") {
            return None;
        }
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        address_of(value)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::name::ListenerName;
    use crate::policy::admission::overload::Importance;
    use crate::runtime::limits::{ClientLimits, Flood, Http2Limits};
    use crate::runtime::listener::{ListenerLive, Protocol, Timeouts};

    fn listener(client_address: ClientAddress) -> Listener {
        let second = Duration::from_secs(1);
        Listener {
            name: ListenerName::new("web").expect("a name"),
            bind: Vec::new(),
            unix_mode: 0,
            protocol: Protocol::Tcp {
                pool: None,
                sni: None,
                when_empty: crate::runtime::listener::WhenEmpty::Reset,
            },
            trusted_proxies: ["10.0.0.0/8", "fd00::/8"].map(|n| n.parse().expect("a network")).to_vec(),
            proxy_header_max: None,
            client_address,
            allow: Vec::new(),
            deny: Vec::new(),
            freebind: false,
            importance: Importance::default(),
            h2c: false,
            max_connections: 1,
            max_connections_per_source: 0,
            head_max: 0,
            fields_max: 0,
            target_max: 0,
            limits: ClientLimits {
                chunk_extensions: 0,
                linger: second,
                linger_bytes: 0,
                http2: Http2Limits {
                    streams: 1,
                    stream_window: 0,
                    connection_window: 0,
                    send_buffer: 0,
                    continuations: 0,
                    rates: [0; Flood::RATED],
                },
            },
            bandwidth: [None; 2],
            handshakes_max: 1,
            backlog: 1,
            tls: None,
            timeouts: Timeouts {
                tls_handshake: second,
                request_header: second,
                keep_alive: second,
                client_idle: second,
                tcp_keepalive: second,
                tcp_user_timeout: second,
            },
            live: Arc::new(ListenerLive::new(1)),
        }
    }

    #[track_caller]
    fn check(by: ClientAddress, peer: &str, fields: &[(Kind, &str)], want: &str) {
        let [peer, want] = [peer, want].map(|a| a.parse::<IpAddr>().expect("the test's own address"));
        let given = fields.iter().map(|(kind, value)| (*kind, value.as_bytes()));
        assert_eq!(client_of(&listener(by), peer, given), want, "{peer} says {fields:?}");
    }

    #[test]
    fn a_list_is_walked_from_the_right_past_trusted_proxies_only() {
        const FOR: Kind = Kind::XForwardedFor;
        let check =
            |peer, fields: &[(Kind, &str)], want| check(ClientAddress::XForwardedFor, peer, fields, want);
        check("192.0.2.1", &[(FOR, "203.0.113.9")], "192.0.2.1");
        check("::ffff:192.0.2.1", &[], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &[(FOR, "203.0.113.9")], "203.0.113.9");
        check("::ffff:10.0.0.1", &[(FOR, "203.0.113.9:1234")], "203.0.113.9");
        check("fd00::1", &[(FOR, "[2001:db8::1]:1234")], "2001:db8::1");
        check("10.0.0.1", &[(FOR, "1.1.1.1, 203.0.113.9, 10.0.0.2")], "203.0.113.9");
        check("10.0.0.1", &[(FOR, "1.1.1.1"), (FOR, "203.0.113.9,10.0.0.2")], "203.0.113.9");
        check("10.0.0.1", &[(FOR, "203.0.113.9"), (FOR, "10.0.0.2")], "203.0.113.9");
        check("10.0.0.1", &[(FOR, "10.0.0.3, 10.0.0.2")], "10.0.0.3");
        check("10.0.0.1", &[(FOR, "203.0.113.9, unknown, 10.0.0.2")], "10.0.0.2");
        check("10.0.0.1", &[(FOR, "203.0.113.9, ")], "10.0.0.1");
        check(
            "10.0.0.1",
            &[(Kind::Forwarded, "for=203.0.113.9"), (Kind::XRealIp, "203.0.113.9")],
            "10.0.0.1",
        );
        check("10.0.0.1", &[(Kind::HopByHop, "203.0.113.9")], "10.0.0.1");
    }

    #[test]
    fn the_standard_field_is_walked_alike() {
        const FORWARDED: Kind = Kind::Forwarded;
        let check = |fields: &[(Kind, &str)], want| check(ClientAddress::Forwarded, "10.0.0.1", fields, want);
        check(&[(FORWARDED, "for=203.0.113.9;proto=https, for=\"[fd00::2]:1\"")], "203.0.113.9");
        check(&[(FORWARDED, "for=203.0.113.9, for=_hidden, for=10.0.0.2")], "10.0.0.2");
        check(&[(FORWARDED, "for=203.0.113.9"), (FORWARDED, "proto=https")], "10.0.0.1");
        check(&[(Kind::XForwardedFor, "203.0.113.9")], "10.0.0.1");
    }

    #[test]
    fn a_single_address_is_believed_of_a_trusted_peer_alone() {
        for (by, kind) in
            [(ClientAddress::XRealIp, Kind::XRealIp), (ClientAddress::CfConnectingIp, Kind::CfConnectingIp)]
        {
            check(by, "10.0.0.1", &[(kind, "203.0.113.9")], "203.0.113.9");
            check(by, "10.0.0.1", &[(kind, "203.0.113.9, 1.1.1.1")], "10.0.0.1");
            check(by, "192.0.2.1", &[(kind, "203.0.113.9")], "192.0.2.1");
        }
    }

    #[test]
    fn addresses_are_read_in_every_form_that_proxies_write() {
        for (text, want) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:4711", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("unknown", None),
            ("", None),
        ] {
            let want = want.map(|w| w.parse::<IpAddr>().expect("the test's own address"));
            assert_eq!(address_of(text.as_bytes()), want, "{text}");
        }
        assert_eq!(for_of(b"by=_x;For=\"[2001:db8::1]:4711\""), address_of(b"2001:db8::1"));
        assert_eq!(for_of(b"proto=https"), None);
        assert_eq!(for_of(b"for=_hidden"), None);
    }
}
