//! Who the client of a request is, told by proxies before us: by networks that are trusted, or by how many hops are ours.
//! Reading the fields is `model::forwarded`'s.
//!
//! # Why from the right
//! A list grows on its right side, where each proxy adds whom it was asked by. Its left side anybody can write, so the walk
//! begins with the nearest and ends at the first address that is not known to be a proxy of ours, at the latest where
//! something is no address: nothing to its left can be believed.
//!
//! # Networks or hops
//! Networks say who a proxy is, and stay right when a path gets longer or shorter. Hops (Envoy's `xff_num_trusted_hops` where it
//! is the edge) are for paths whose proxies have no known addresses, such as those of a cloud: of N hops the Nth element from
//! the right is the client, whatever is written in between. Wrong is the count as soon as one way in has fewer proxies: there a
//! client writes that element itself. So hops are counted only from a peer that is trusted by its network.

use std::net::IpAddr;
use std::num::NonZero;

use ipnet::IpNet;

use crate::model::forwarded::{Node, address_of, addresses_from_right, nodes_from_right};

/// Where a trusted peer names the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedIn {
    /// `X-Forwarded-For`, a list.
    XForwardedFor,
    /// `Forwarded` (RFC 7239), a list.
    Forwarded,
    /// `CF-Connecting-IP`, one address.
    CfConnectingIp,
    /// `X-Real-IP`, one address.
    XRealIp,
    /// The PROXY header of its connection alone: what requests say is nobody's word.
    ProxyHeader,
}

impl NamedIn {
    /// Every place.
    pub const ALL: [Self; 5] =
        [Self::XForwardedFor, Self::Forwarded, Self::CfConnectingIp, Self::XRealIp, Self::ProxyHeader];

    /// Its word in a configuration, which is the field's name where it is one.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::CfConnectingIp => "cf-connecting-ip",
            Self::XRealIp => "x-real-ip",
            Self::ProxyHeader => "proxy-protocol",
        }
    }

    /// Whether it names more than the client, so that hops can be counted.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(self, Self::XForwardedFor | Self::Forwarded)
    }
}

/// Whom a listener believes, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Networks of the proxies whose word is taken.
    pub trusted: Vec<IpNet>,
    /// Where they name the client.
    pub named_in: NamedIn,
    /// How many proxies there are before us, the peer among them; without it the trusted networks tell.
    pub hops: Option<NonZero<u32>>,
}

/// Why the client is taken to be who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The peer is not trusted, or not in what requests say, so it is the client itself.
    Stranger,
    /// A trusted peer names it.
    Named,
    /// A trusted peer names nobody, or nobody that can be understood, so it is taken for the client itself.
    Unnamed,
    /// The elements end, or stop being addresses, among trusted proxies: the last of these is taken.
    Exhausted,
}

impl Identity {
    /// Whether what requests from `peer` say of the client is believed. Whom a PROXY header names is a peer too.
    #[must_use]
    pub fn believes(&self, peer: IpAddr) -> bool {
        self.named_in != NamedIn::ProxyHeader && self.trusts(peer)
    }

    /// Whether `peer` is one of the proxies that are trusted.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        if self.trusted.is_empty() {
            return false;
        }
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }

    /// The client's address, given the other end of the connection and the values of the field in which it is named, in
    /// order.
    #[must_use]
    pub fn client_of<'a>(
        &self,
        peer: IpAddr,
        values: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> (IpAddr, Why) {
        let peer = peer.to_canonical();
        if !self.believes(peer) {
            return (peer, Why::Stranger);
        }
        match self.named_in {
            NamedIn::XForwardedFor => self.walk(peer, values.rev().flat_map(addresses_from_right)),
            NamedIn::Forwarded => {
                let address = |node| if let Node::Address(address) = node { Some(address) } else { None };
                self.walk(peer, values.rev().flat_map(nodes_from_right).map(address))
            }
            NamedIn::CfConnectingIp | NamedIn::XRealIp => single(peer, values),
            NamedIn::ProxyHeader => (peer, Why::Stranger),
        }
    }

    /// `claims` are the nearest first; nothing is what is no address.
    fn walk(&self, peer: IpAddr, mut claims: impl Iterator<Item = Option<IpAddr>>) -> (IpAddr, Why) {
        if let Some(hops) = self.hops {
            let named = claims.nth(hops.get() as usize - 1).flatten();
            return named.map_or((peer, Why::Unnamed), |client| (client, Why::Named));
        }
        let mut last = (peer, Why::Unnamed);
        for claim in claims {
            let Some(address) = claim else { return last };
            if !self.trusts(address) {
                return (address, Why::Named);
            }
            last = (address, Why::Exhausted);
        }
        last
    }
}

/// The one address in the one field; of two nobody knows which is right.
fn single<'a>(peer: IpAddr, mut values: impl Iterator<Item = &'a [u8]>) -> (IpAddr, Why) {
    match (values.next().and_then(address_of), values.next()) {
        (Some(client), None) => (client, Why::Named),
        _ => (peer, Why::Unnamed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(named_in: NamedIn, hops: u32) -> Identity {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|n| n.parse().expect("a network")).to_vec();
        Identity { trusted, named_in, hops: NonZero::new(hops) }
    }

    #[track_caller]
    fn check(identity: &Identity, peer: &str, values: &[&str], want: (&str, Why)) {
        let [peer, client] = [peer, want.0].map(|a| a.parse::<IpAddr>().expect("the test's own address"));
        let given = values.iter().map(|value| value.as_bytes());
        assert_eq!(identity.client_of(peer, given), (client, want.1), "{peer} says {values:?}");
    }

    #[test]
    fn a_list_is_walked_from_the_right_past_trusted_proxies_only() {
        let by = identity(NamedIn::XForwardedFor, 0);
        let check = |peer, values: &[&str], want| check(&by, peer, values, want);
        check("192.0.2.1", &["203.0.113.9"], ("192.0.2.1", Why::Stranger));
        check("::ffff:192.0.2.1", &[], ("192.0.2.1", Why::Stranger));
        check("10.0.0.1", &[], ("10.0.0.1", Why::Unnamed));
        check("10.0.0.1", &["203.0.113.9"], ("203.0.113.9", Why::Named));
        check("::ffff:10.0.0.1", &["203.0.113.9:1234"], ("203.0.113.9", Why::Named));
        check("fd00::1", &["[2001:db8::1]:1234"], ("2001:db8::1", Why::Named));
        check("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"], ("203.0.113.9", Why::Named));
        check("10.0.0.1", &["1.1.1.1", "203.0.113.9,10.0.0.2"], ("203.0.113.9", Why::Named));
        check("10.0.0.1", &["203.0.113.9", "10.0.0.2"], ("203.0.113.9", Why::Named));
        check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], ("10.0.0.3", Why::Exhausted));
        check("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], ("10.0.0.2", Why::Exhausted));
        check("10.0.0.1", &["203.0.113.9, "], ("10.0.0.1", Why::Unnamed));
        check("10.0.0.1", &["203.0.113.9", ""], ("10.0.0.1", Why::Unnamed));
    }

    #[test]
    fn the_standard_field_is_walked_alike() {
        let by = identity(NamedIn::Forwarded, 0);
        let check = |values: &[&str], want| check(&by, "10.0.0.1", values, want);
        check(&["for=203.0.113.9;proto=https, for=\"[fd00::2]:1\""], ("203.0.113.9", Why::Named));
        check(&["for=203.0.113.9, for=_hidden, for=10.0.0.2"], ("10.0.0.2", Why::Exhausted));
        check(&["for=203.0.113.9", "proto=https"], ("10.0.0.1", Why::Unnamed));
        check(&["for=\"", "for=203.0.113.9"], ("203.0.113.9", Why::Named));
        check(&["for=\", for=203.0.113.9"], ("203.0.113.9", Why::Named));
    }

    #[test]
    fn of_so_many_hops_the_last_is_the_client() {
        // Envoy's examples for the edge: "HTTP header manipulation", x-forwarded-for.
        const LIST: &str = "203.0.113.128, 203.0.113.10, 203.0.113.1";
        let check = |hops, peer, values: &[&str], want| {
            check(&identity(NamedIn::XForwardedFor, hops), peer, values, want);
        };
        check(1, "10.0.0.1", &[LIST], ("203.0.113.1", Why::Named));
        check(2, "10.0.0.1", &[LIST], ("203.0.113.10", Why::Named));
        check(3, "10.0.0.1", &[LIST], ("203.0.113.128", Why::Named));
        check(4, "10.0.0.1", &[LIST], ("10.0.0.1", Why::Unnamed));
        check(2, "10.0.0.1", &["203.0.113.10", "203.0.113.1"], ("203.0.113.10", Why::Named));
        // The client itself may be in a network of ours, and what is between need not be an address.
        check(2, "10.0.0.1", &["1.1.1.1, 10.0.0.9, unknown"], ("10.0.0.9", Why::Named));
        check(2, "10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], ("10.0.0.1", Why::Unnamed));
        check(2, "192.0.2.1", &[LIST], ("192.0.2.1", Why::Stranger));
        let by = identity(NamedIn::Forwarded, 2);
        let (client, why) =
            by.client_of([10, 0, 0, 1].into(), [&b"for=1.1.1.1, for=203.0.113.9, for=_x"[..]].into_iter());
        assert_eq!((client.to_string().as_str(), why), ("203.0.113.9", Why::Named));
    }

    #[test]
    fn no_field_is_believed_where_proxy_headers_alone_name_clients() {
        let by = identity(NamedIn::ProxyHeader, 0);
        check(&by, "10.0.0.1", &["192.0.2.1"], ("10.0.0.1", Why::Stranger));
        let peer = "10.0.0.1".parse().expect("an address");
        assert!(by.trusts(peer) && !by.believes(peer));
    }

    #[test]
    fn a_single_address_is_believed_of_a_trusted_peer_alone_and_only_once() {
        for named_in in [NamedIn::XRealIp, NamedIn::CfConnectingIp] {
            let by = identity(named_in, 0);
            check(&by, "10.0.0.1", &["203.0.113.9"], ("203.0.113.9", Why::Named));
            check(&by, "10.0.0.1", &["203.0.113.9, 1.1.1.1"], ("10.0.0.1", Why::Unnamed));
            check(&by, "10.0.0.1", &["203.0.113.9", "203.0.113.9"], ("10.0.0.1", Why::Unnamed));
            check(&by, "192.0.2.1", &["203.0.113.9"], ("192.0.2.1", Why::Stranger));
        }
    }
}
