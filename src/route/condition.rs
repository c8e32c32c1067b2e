//! The conditions beside host and path: methods, fields, query parameters, cookies and the client's address.

use crate::model::field::FieldName;
use crate::model::request::RequestView;

use super::rule::{Rule, ValuePattern};

/// A condition that does not hold.
#[derive(Debug)]
pub(super) enum Miss<'a> {
    Method,
    Header(&'a FieldName, &'a ValuePattern),
    Query(&'a str, &'a ValuePattern),
    Cookie(&'a str, &'a ValuePattern),
    Source,
}

/// The first condition of `rule` that does not hold, the cheap ones asked first; nothing when all hold.
pub(super) fn first_miss<'a, V: RequestView>(rule: &'a Rule, request: &V) -> Option<Miss<'a>> {
    if !rule.methods.is_empty() && !rule.methods.iter().any(|m| m.as_bytes() == request.method_bytes()) {
        return Some(Miss::Method);
    }
    if !rule.source.is_empty() {
        // A v4 client on a v6 socket is a v4 client.
        let client = request.source().to_canonical();
        if !rule.source.iter().any(|network| network.contains(&client)) {
            return Some(Miss::Source);
        }
    }
    for (name, pattern) in &rule.headers {
        if !header_values(request, name).any(|value| pattern.matches(value)) {
            return Some(Miss::Header(name, pattern));
        }
    }
    for (name, pattern) in &rule.query {
        if !query_values(request.query(), name).any(|value| pattern.matches(value)) {
            return Some(Miss::Query(name, pattern));
        }
    }
    for (name, pattern) in &rule.cookies {
        if !cookie_values(request, name).any(|value| pattern.matches(value)) {
            return Some(Miss::Cookie(name, pattern));
        }
    }
    None
}

/// The value of each field line of that name; a list within one line is one value. `host` is what the request names,
/// which over HTTP/2 no field has.
pub(super) fn header_values<'a, V: RequestView>(
    request: &'a V,
    name: &'a FieldName,
) -> impl Iterator<Item = &'a [u8]> {
    let host = Some(request.authority()).filter(|authority| !authority.is_empty() && name.matches(b"host"));
    let named =
        request.fields().filter(move |(n, _)| host.is_none() && name.matches(n)).map(|(_, value)| value);
    host.into_iter().chain(named)
}

/// The values of the query parameter of that name, undecoded; one without `=` has the empty value.
pub fn query_values<'a>(query: Option<&'a [u8]>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = query.into_iter().flat_map(|query| query.split(|&b| b == b'&'));
    pairs.filter_map(move |pair| match pair.strip_prefix(name.as_bytes())? {
        [] if !pair.is_empty() => Some(&[][..]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

/// The values of the cookie of that name (RFC 6265 section 4.2.1); names have case, quotes belong to the value.
/// All lines are read: HTTP/2 may split what was one (RFC 9113 section 8.2.3).
pub fn cookie_values<'a, V: RequestView>(request: &'a V, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let lines = request.fields().filter(|(n, _)| n.eq_ignore_ascii_case(b"cookie"));
    let pairs = lines.flat_map(|(_, line)| line.split(|&b| b == b';'));
    pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
