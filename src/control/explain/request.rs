//! A request that nobody has sent, from the words that it is asked about in.

use std::net::IpAddr;

use super::Wrong;
use crate::model::field::{FieldName, FieldValue, is_token_byte};
use crate::model::host::split_authority;
use crate::model::method::Method;
use crate::model::request::RequestView;
use crate::policy::identity::{Identity, Why};

/// A request that nobody sent.
#[derive(Debug)]
pub(super) struct Imagined {
    method: String,
    scheme: &'static str,
    authority: String,
    /// The path, and the query with its question mark.
    target: String,
    path: String,
    query: Option<String>,
    fields: Vec<(FieldName, FieldValue)>,
    source: IpAddr,
}

impl Imagined {
    /// Reads `METHOD URL -H 'NAME: VALUE'...`; a `Host` field takes the place of the URL's host.
    pub(super) fn new(method: &str, url: &str, headers: &[String], source: IpAddr) -> Result<Self, Wrong> {
        if method.is_empty() || !method.bytes().all(is_token_byte) {
            return Err(Wrong(format!("{method:?} is no method; write GET, for example")));
        }
        let (scheme, rest) = split_scheme(url)?;
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A fragment never leaves the client (RFC 9110 section 4.2.5).
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        if let Some(wrong) = target.bytes().find(|byte| !(b'!'..=b'~').contains(byte)) {
            return Err(Wrong(format!("a URL cannot contain byte 0x{wrong:02x}; write it as %{wrong:02X}")));
        }
        let mut fields = Vec::new();
        let mut authority = authority.to_owned();
        for header in headers {
            let (name, value) = field(header)?;
            if name.matches(b"host") {
                value.as_str().clone_into(&mut authority);
            }
            fields.push((name, value));
        }
        if split_authority(authority.as_bytes()).is_none() {
            return Err(Wrong(format!("{authority:?} is no host; write example.com or example.com:8080")));
        }
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        let target = query.as_ref().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        Ok(Self { method: method.to_owned(), scheme, authority, target, path, query, fields, source })
    }

    /// The port that the URL names or implies; nothing without a host.
    pub(super) fn port(&self) -> Option<u16> {
        let (host, port) = split_authority(self.authority.as_bytes())?;
        let implied = if self.scheme == "https" { 443 } else { 80 };
        (!host.is_empty()).then_some(port.unwrap_or(implied))
    }

    /// Takes for its source whom a listener takes for the client of a request with these fields from that source, and tells
    /// why; nothing where that is nobody else.
    pub(super) fn identify(&mut self, identity: &Identity) -> Option<String> {
        let word = identity.named_in.word();
        let named = self.fields.iter().filter(|(name, _)| name.matches(word.as_bytes()));
        let values: Vec<&[u8]> = named.map(|(_, value)| value.as_str().as_bytes()).collect();
        let peer = self.source.to_canonical();
        let (client, why) = identity.client_of(peer, values.into_iter());
        self.source = client;
        match why {
            Why::Stranger => None,
            Why::Named => Some(format!("{client}, whom {word} names; the peer {peer} is trusted to say so")),
            Why::Unnamed => Some(format!("{client}, the trusted peer itself: {word} names nobody")),
            Why::Exhausted => Some(format!(
                "{client}, the last in {word} that can be read: all of them are trusted proxies"
            )),
        }
    }

    /// The request on one line.
    pub(super) fn describe(&self) -> String {
        let Self { method, scheme, authority, target, source, .. } = self;
        let host = if authority.is_empty() { String::new() } else { format!("{scheme}://{authority}") };
        format!("{method} {host}{target} from {source}")
    }
}

fn split_scheme(url: &str) -> Result<(&'static str, &str), Wrong> {
    if url.starts_with('/') {
        return Ok(("http", url));
    }
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => Ok(("http", rest)),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => Ok(("https", rest)),
        _ => Err(Wrong(format!("{url:?} is no URL; write http://host/path, https://host/path or /path"))),
    }
}

fn field(header: &str) -> Result<(FieldName, FieldValue), Wrong> {
    let wrong = |why: &str| Wrong(format!("-H {header:?}: {why}; write -H 'name: value'"));
    let (name, value) = header.split_once(':').ok_or_else(|| wrong("there is no colon"))?;
    let name = FieldName::new(name).map_err(|error| wrong(&error.to_string()))?;
    let value = FieldValue::new(value).map_err(|error| wrong(&error.to_string()))?;
    Ok((name, value))
}

impl RequestView for Imagined {
    fn method(&self) -> Method {
        Method::from_bytes(self.method.as_bytes())
    }
    fn method_bytes(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn scheme(&self) -> &str {
        self.scheme
    }
    fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }
    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }
    fn path(&self) -> &[u8] {
        self.path.as_bytes()
    }
    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref().map(str::as_bytes)
    }
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_str().as_bytes()))
    }
    fn source(&self) -> IpAddr {
        self.source
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn read(url: &str, headers: &[&str]) -> Result<Imagined, Wrong> {
        let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
        Imagined::new("GET", url, &headers, Ipv4Addr::LOCALHOST.into())
    }

    #[test]
    fn urls_are_taken_apart_as_clients_do() {
        for (url, authority, path, query, port) in [
            ("http://a", "a", "/", None, Some(80)),
            ("https://a/b?c#d", "a", "/b", Some("c"), Some(443)),
            ("HTTP://[::1]:81?x", "[::1]:81", "/", Some("x"), Some(81)),
            ("/only/path", "", "/only/path", None, None),
            ("/a?x=http://b/", "", "/a", Some("x=http://b/"), None),
        ] {
            let got =
                read(url, &[]).ok().map(|r| (r.authority.clone(), r.path.clone(), r.query.clone(), r.port()));
            assert_eq!(
                got,
                Some((authority.to_owned(), path.to_owned(), query.map(str::to_owned), port)),
                "{url}"
            );
        }
        for url in ["ftp://a/", "a/b", "http://u@a/", "http://a:x/", "http://a/ b", "http://a/\u{e9}"] {
            assert!(matches!(read(url, &[]), Err(Wrong(_))), "{url}");
        }
    }

    #[test]
    fn a_host_field_names_the_host() {
        let request = read("http://10.0.0.1:8080/", &["Host: api.example.com", "X-A:  1 "]);
        let seen = request.ok().map(|r| (r.authority.clone(), r.field("x-a").map(<[u8]>::to_vec)));
        assert_eq!(seen, Some(("api.example.com".to_owned(), Some(b"1".to_vec()))));
    }
}
