//! Who the client of a request is, from its fields, and what the endpoint is told of that in `Forwarded`. Who is believed is
//! `policy::identity`'s; the fields of the `X-` family are written by the encoders of each protocol.
//!
//! What an untrusted peer says is left out and replaced.

use std::net::IpAddr;

use super::http1::encode::RequestEdits;
use super::http1::fields::Kind;
use crate::model::address::UNIX_CLIENT;
use crate::model::forwarded::{Family, Node, address_of, elements_from_right, put_element};
use crate::policy::identity::NamedIn;
use crate::runtime::listener::Listener;

/// The client's address, given the other end of the connection and the request's fields.
#[must_use]
pub fn client_of<'a>(
    listener: &Listener,
    peer: IpAddr,
    fields: impl DoubleEndedIterator<Item = (Kind, &'a [u8])>,
) -> IpAddr {
    let named_in = match listener.identity.named_in {
        NamedIn::XForwardedFor => Kind::XForwardedFor,
        NamedIn::Forwarded => Kind::Forwarded,
        NamedIn::CfConnectingIp => Kind::CfConnectingIp,
        NamedIn::XRealIp => Kind::XRealIp,
        NamedIn::ProxyHeader => return peer.to_canonical(),
    };
    let values = fields.filter(|(kind, _)| *kind == named_in).map(|(_, value)| value);
    listener.identity.client_of(peer, values).0
}

/// Whether a field in which a trusted peer speaks of the client goes on as it came; the others are written anew, or say the
/// same in another way.
#[must_use]
pub const fn stays(kind: Kind, family: Family) -> bool {
    match kind {
        Kind::CfConnectingIp | Kind::ClientClaim => true,
        Kind::XForwardedProto | Kind::XForwardedHost => !matches!(family, Family::Rfc7239),
        Kind::XForwardedFor | Kind::XRealIp => matches!(family, Family::Off),
        Kind::Forwarded => !family.has_standard(),
        _ => false,
    }
}

/// The value of `Forwarded` for an endpoint: what a trusted peer has told, and an element of ours.
#[must_use]
pub fn standard<'f>(
    edits: &RequestEdits<'_>,
    authority: &[u8],
    given: impl Iterator<Item = (Kind, &'f [u8])>,
) -> Vec<u8> {
    let mut value = Vec::with_capacity(96);
    if edits.trusted {
        put_told(&mut value, &given.collect::<Vec<_>>());
    }
    let peer = Some(edits.peer).filter(|peer| *peer != UNIX_CLIENT.ip());
    put_element(&mut value, peer, authority, edits.scheme.as_bytes());
    value
}

/// The elements that a peer has told. What cannot be read, and what stands left of it, would make the whole field unreadable
/// for others, so it is left out.
fn put_told(value: &mut Vec<u8>, given: &[(Kind, &[u8])]) {
    let lines = given.iter().rev().filter(|(kind, _)| *kind == Kind::Forwarded);
    let elements = lines.flat_map(|(_, line)| elements_from_right(line));
    let mut told: Vec<&[u8]> =
        elements.take_while(|(_, node)| *node != Node::Invalid).map(|(element, _)| element).collect();
    told.reverse();
    value.extend(told.join(&b", "[..]));
    if !given.iter().any(|(kind, _)| *kind == Kind::Forwarded) {
        put_translated(value, given);
    }
}

/// The fields of the other family say the same (RFC 7239 section 7.4); its host and scheme are those of the first hop.
fn put_translated(value: &mut Vec<u8>, given: &[(Kind, &[u8])]) {
    let of = |wanted| given.iter().filter(move |(kind, _)| *kind == wanted).map(|(_, value)| *value);
    let [mut host, mut scheme] = [Kind::XForwardedHost, Kind::XForwardedProto].map(|kind| of(kind).next());
    for element in of(Kind::XForwardedFor).flat_map(|line| line.split(|&byte| byte == b',')) {
        let client = address_of(element.trim_ascii());
        put_element(value, client, host.take().unwrap_or_default(), scheme.take().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::field::FieldEdits;
    use crate::proxy::http1::encode::Told;
    use crate::proxy::phases::Altered;

    #[track_caller]
    fn check(trusted: bool, given: &[(Kind, &str)], want: &str) {
        let route = FieldEdits::default();
        let edits = RequestEdits {
            route: &route,
            altered: Altered::NONE,
            peer: [10, 0, 0, 1].into(),
            source: [192, 0, 2, 1].into(),
            trusted,
            family: Family::Rfc7239,
            scheme: "https",
            told: Told::Nothing,
            request_id: b"",
            trace: None,
            deadline: None,
        };
        let given = given.iter().map(|(kind, value)| (*kind, value.as_bytes()));
        let value = standard(&edits, b"a:8443", given);
        assert_eq!(String::from_utf8_lossy(&value), want);
    }

    #[test]
    fn the_standard_field_is_begun_extended_or_made_of_the_others() {
        const OURS: &str = "for=10.0.0.1;host=\"a:8443\";proto=https";
        let told = [(Kind::Forwarded, "for=192.0.2.1"), (Kind::XForwardedFor, "192.0.2.9")];
        check(false, &told, OURS);
        check(true, &told, &format!("for=192.0.2.1, {OURS}"));
        let lines = [(Kind::Forwarded, "for=_a;by=\", \""), (Kind::Forwarded, "for=_b , for=_c")];
        check(true, &lines, &format!("for=_a;by=\", \", for=_b, for=_c, {OURS}"));
        let broken = [(Kind::Forwarded, "for=192.0.2.1, for=\"x, for=192.0.2.2")];
        check(true, &broken, &format!("for=192.0.2.2, {OURS}"));
        let others = [
            (Kind::XForwardedFor, "192.0.2.1, junk"),
            (Kind::XForwardedProto, "http"),
            (Kind::XForwardedHost, "b"),
            (Kind::XForwardedFor, "2001:db8::1"),
        ];
        let translated = "for=192.0.2.1;host=b;proto=http, for=unknown, for=\"[2001:db8::1]\"";
        check(true, &others, &format!("{translated}, {OURS}"));
        check(true, &[], OURS);
    }
}
