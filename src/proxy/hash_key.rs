//! What the hashing policies go by: one part of a request, or the client's address.

use std::net::IpAddr;

use crate::model::host::split_authority;
use crate::model::request::RequestView;
use crate::route::{cookie_values, query_values};
use crate::runtime::pool::HashKey;

/// The key of a request; a part that it does not have is replaced by its source.
#[must_use]
pub fn of_request<V: RequestView>(key: &HashKey, view: &V) -> Vec<u8> {
    let part = match key {
        // Requests say themselves which name they mean, whether or not TLS asked for one.
        HashKey::Sni => match split_authority(view.authority()) {
            Some((host, _)) if !host.is_empty() => return host.to_ascii_lowercase(),
            _ => None,
        },
        HashKey::Source => None,
        HashKey::Header(name) => view.field(name.as_str()),
        HashKey::Cookie(name) => cookie_values(view, name).next(),
        HashKey::Query(name) => query_values(view.query(), name).next(),
        HashKey::Path => Some(view.path()),
    };
    match part {
        Some(part) if !part.is_empty() => part.to_vec(),
        _ => of_source(view.source()),
    }
}

/// The key of a tcp session; where no name was asked for, it is that of the client.
#[must_use]
pub fn of_connection(key: &HashKey, source: IpAddr, server_name: Option<&str>) -> Vec<u8> {
    match (key, server_name) {
        (HashKey::Sni, Some(name)) => name.as_bytes().to_vec(),
        _ => of_source(source),
    }
}

/// The key of a client: its address as text, as nginx's `$remote_addr`.
#[must_use]
pub fn of_source(source: IpAddr) -> Vec<u8> {
    source.to_canonical().to_string().into_bytes()
}
