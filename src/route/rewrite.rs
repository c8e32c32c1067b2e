//! Another target for a request that has taken its route: path, query and host as they go on to the endpoint.

use std::borrow::Cow;

use super::path::{normalize, strip_prefix};
use super::pattern::Pattern;
use super::template::{Escape, Facts, Template};
use crate::model::host::split_authority;
use crate::model::request::RequestView;

/// What a route rewrites.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Nothing is rewritten unless this matches the path in normal form; its groups can be put in.
    pub regex: Option<Pattern>,
    /// Another path.
    pub path: Option<PathRewrite>,
    /// Another host, with or without a port.
    pub host: Option<Template>,
    /// Another query.
    pub query: Option<QueryRewrite>,
}

/// Another path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// In the place of the prefix that the route has matched.
    Prefix {
        /// What the route has matched.
        matched: Box<str>,
        /// What stands there instead.
        with: Box<str>,
    },
    /// In the place of the whole path.
    Whole(Template),
}

/// Another query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryRewrite {
    /// In the place of all of it; empty is none.
    Whole(Template),
    /// Parameter by parameter; names are compared decoded.
    Parameters {
        /// Taken away.
        remove: Vec<Box<str>>,
        /// Taken away where they are, and put behind all others unless their value comes out empty.
        set: Vec<(Box<str>, Template)>,
    },
}

/// What a request is sent with; nothing is what came.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Path and query.
    pub target: Option<Vec<u8>>,
    /// Host and, where written, port.
    pub authority: Option<Vec<u8>>,
}

/// Why a request cannot be rewritten: what it puts in makes no such part of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The path would lead elsewhere, by `.` or `..`.
    #[error("it puts dots into a path that is rewritten")]
    Dots,
    /// The host is none.
    #[error("it puts into a host what no host has")]
    Host,
}

impl Rewrite {
    /// Whether groups of a regular expression are put in.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        let path = match &self.path {
            Some(PathRewrite::Whole(path)) => Some(path),
            Some(PathRewrite::Prefix { .. }) | None => None,
        };
        let (whole, set) = match &self.query {
            Some(QueryRewrite::Whole(query)) => (Some(query), &[][..]),
            Some(QueryRewrite::Parameters { set, .. }) => (None, set.as_slice()),
            None => (None, &[][..]),
        };
        let templates = path.into_iter().chain(&self.host).chain(whole);
        templates.chain(set.iter().map(|(_, value)| value)).any(Template::has_groups)
    }

    /// The target of a request.
    ///
    /// # Errors
    /// [`RewriteError`]: then it is not to go on.
    pub fn apply<V: RequestView>(&self, request: &V, facts: &Facts<'_>) -> Result<Rewritten, RewriteError> {
        let normal = normalize(request.path());
        let groups = match &self.regex {
            Some(regex) => match regex.captures(&normal) {
                Some(groups) => Some(groups),
                None => return Ok(Rewritten::default()),
            },
            None => None,
        };
        let render = |template: &Template, escape| {
            let mut out = Vec::with_capacity(128);
            template.render(request, facts, groups.as_ref(), escape, &mut out);
            out
        };
        let authority = match &self.host {
            None => None,
            Some(host) => {
                let authority = render(host, Escape::Plain);
                let is_host = split_authority(&authority).is_some_and(|(host, _)| !host.is_empty());
                Some(Some(authority).filter(|_| is_host).ok_or(RewriteError::Host)?)
            }
        };
        // The star of OPTIONS is neither a path nor has it a query.
        if request.path() == b"*" || (self.path.is_none() && self.query.is_none()) {
            return Ok(Rewritten { target: None, authority });
        }
        let mut target = match &self.path {
            None => request.path().to_vec(),
            Some(PathRewrite::Prefix { matched, with }) => replace_prefix(request.path(), matched, with),
            Some(PathRewrite::Whole(template)) => {
                let mut path = render(template, Escape::Path);
                if path.first() != Some(&b'/') {
                    path.insert(0, b'/');
                }
                if template.as_static().is_none() && has_dots(&path) {
                    return Err(RewriteError::Dots);
                }
                path
            }
        };
        match &self.query {
            None => put_query(&mut target, request.query()),
            Some(QueryRewrite::Whole(template)) => {
                let query = render(template, Escape::Url);
                put_query(&mut target, Some(query.as_slice()).filter(|query| !query.is_empty()));
            }
            Some(QueryRewrite::Parameters { remove, set }) => {
                let names: Vec<&str> =
                    remove.iter().chain(set.iter().map(|(name, _)| name)).map(|n| &**n).collect();
                let mut query = others(request.query(), &names);
                for (name, value) in set {
                    let value = render(value, Escape::Parameter);
                    if !value.is_empty() {
                        put_parameter(&mut query, name.as_bytes());
                        query.push(b'=');
                        query.extend_from_slice(&value);
                    }
                }
                put_query(&mut target, Some(query.as_slice()).filter(|query| !query.is_empty()));
            }
        }
        Ok(Rewritten { target: Some(target), authority })
    }
}

/// The parameters of a query but for those of these names.
fn others(query: Option<&[u8]>, names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for pair in query.into_iter().flat_map(|query| query.split(|&b| b == b'&')) {
        let name = decoded(pair.split(|&b| b == b'=').next().unwrap_or_default());
        if !names.iter().any(|other| other.as_bytes() == &*name) {
            put_parameter(&mut out, pair);
        }
    }
    out
}

fn put_query(target: &mut Vec<u8>, query: Option<&[u8]>) {
    if let Some(query) = query {
        target.push(b'?');
        target.extend_from_slice(query);
    }
}

fn put_parameter(query: &mut Vec<u8>, pair: &[u8]) {
    if !query.is_empty() {
        query.push(b'&');
    }
    query.extend_from_slice(pair);
}

/// A name of a parameter without its escapes (the URL Standard, section 5.1), so that no other spelling of it stays.
fn decoded(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|&b| char::from(b).to_digit(16));
        let escaped = digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        (rest, _) = match (byte, escaped) {
            (b'%', Some(decoded)) => (tail.get(2..).unwrap_or_default(), out.push(decoded)),
            (b'+', _) => (tail, out.push(b' ')),
            _ => (tail, out.push(*byte)),
        };
    }
    Cow::Owned(out)
}

/// Whether an element of a path leads elsewhere: `.` or `..`, however they are spelt.
fn has_dots(path: &[u8]) -> bool {
    path.split(|&b| b == b'/').any(|element| {
        let (mut rest, mut dots) = (element, 0);
        while !rest.is_empty() {
            rest = match rest {
                [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
                _ => return false,
            };
            dots += 1;
        }
        matches!(dots, 1 | 2)
    })
}

/// `path` with another prefix, element by element; the rest is in normal form.
fn replace_prefix(path: &[u8], matched: &str, with: &str) -> Vec<u8> {
    let rest = strip_prefix(path, matched).unwrap_or(Cow::Borrowed(path));
    let with = with.trim_end_matches('/').as_bytes();
    let mut path = Vec::with_capacity(with.len() + rest.len() + 1);
    path.extend_from_slice(with);
    if !rest.starts_with(b"/") && (!rest.is_empty() || with.is_empty()) {
        path.push(b'/');
    }
    path.extend_from_slice(&rest);
    path
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::super::template::tests::{Request, facts};
    use super::*;

    fn parse(text: &str) -> Template {
        Template::parse(text).expect("a template")
    }

    fn path(text: &str) -> Rewrite {
        Rewrite { path: Some(PathRewrite::Whole(parse(text))), ..Rewrite::default() }
    }

    fn target(rewrite: &Rewrite, request: &Request) -> String {
        let rewritten = rewrite.apply(request, &facts()).expect("it can be rewritten");
        String::from_utf8_lossy(&rewritten.target.unwrap_or_default()).into_owned()
    }

    #[test]
    fn a_prefix_gives_way_to_another() {
        let rewritten = |path: &'static str, matched: &str, with: &str| {
            let prefix = PathRewrite::Prefix { matched: matched.into(), with: with.into() };
            let rewrite = Rewrite { path: Some(prefix), ..Rewrite::default() };
            target(&rewrite, &Request::to(path, None))
        };
        for (path, matched, with, want) in [
            ("/v1/users", "/v1", "/", "/users"),
            ("/v1", "/v1", "/", "/"),
            ("/v1/", "/v1", "/api", "/api/"),
            ("/v1", "/v1", "/api", "/api"),
            ("/v1/users", "/v1", "/api/", "/api/users"),
            ("/x/../v1//users", "/v1", "/api", "/api/users"),
            ("/users", "/", "/api", "/api/users"),
        ] {
            assert_eq!(rewritten(path, matched, with), want, "{path}");
        }
    }

    #[test]
    fn a_whole_path_keeps_the_query() {
        let request = Request::to("/a//b", Some("q")).with("tenant", "a/b?c");
        assert_eq!(target(&path("/x"), &request), "/x?q");
        assert_eq!(target(&path("/t/{header:tenant}{path}"), &request), "/t/a%2Fb%3Fc/a/b?q");
        assert_eq!(target(&path("{header:tenant}"), &request), "/a%2Fb%3Fc?q");
        let star = path("/x").apply(&Request::to("*", None), &facts());
        assert_eq!(star, Ok(Rewritten::default()));
    }

    #[test]
    fn no_path_leads_out_of_where_it_is_put() {
        let request = |value: &str| Request::to("/../b/./c", Some("p=%2e.")).with("x", value).with("y", ".");
        let apply = |text: &str, value: &str| path(text).apply(&request(value), &facts()).map(|r| r.target);
        for (text, value) in [
            ("/t/{header:x}/f", ".."),
            ("/t/{header:x}", "."),
            ("/t/{header:x}{header:y}/f", "."),
            ("/t/{query:p}/f", ""),
        ] {
            assert_eq!(apply(text, value), Err(RewriteError::Dots), "{text} {value}");
        }
        assert_eq!(
            apply("/t{path}/{header:x}", "...").ok().flatten().as_deref(),
            Some(&b"/t/b/c/...?p=%2e."[..])
        );
    }

    #[test]
    fn groups_of_a_match_are_put_in_and_elsewhere_nothing_changes() {
        let regex = Regex::new("^/u/([0-9]+)$").expect("a regex");
        let rewrite = Rewrite {
            regex: Some(regex.into()),
            host: Some(parse("u{1}.internal:81")),
            query: Some(QueryRewrite::Whole(parse("id={1}&{query}"))),
            ..path("/users/{1}")
        };
        let rewritten =
            rewrite.apply(&Request::to("/u/%34%32", Some("q=1&r")), &facts()).expect("it matches");
        assert_eq!(rewritten.target.as_deref(), Some(&b"/users/42?id=42&q=1&r"[..]));
        assert_eq!(rewritten.authority.as_deref(), Some(&b"u42.internal:81"[..]));
        assert_eq!(rewrite.apply(&Request::to("/u/x", None), &facts()), Ok(Rewritten::default()));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let rewrite = Rewrite { host: Some(parse("{header:x}")), ..Rewrite::default() };
        let apply = |value: &str| rewrite.apply(&Request::to("/", None).with("x", value), &facts());
        assert_eq!(apply("b.example:81").map(|r| r.authority), Ok(Some(b"b.example:81".to_vec())));
        for wrong in ["", "a b", "a/b", "u@a", "a:x", "a\r\nb"] {
            assert_eq!(apply(wrong), Err(RewriteError::Host), "{wrong:?}");
        }
    }

    #[test]
    fn parameters_are_set_and_removed_however_their_names_are_spelt() {
        let query = |remove: &[&str], set: &[(&str, &str)], came: Option<&str>| {
            let remove = remove.iter().map(|&name| name.into()).collect();
            let set = set.iter().map(|&(name, value)| (name.into(), parse(value))).collect();
            let rewrite =
                Rewrite { query: Some(QueryRewrite::Parameters { remove, set }), ..Rewrite::default() };
            target(&rewrite, &Request::to("/p", came).with("x", "a&b=c"))
        };
        assert_eq!(query(&["b"], &[], Some("a=1&b=2&c&b&bb=3")), "/p?a=1&c&bb=3");
        assert_eq!(query(&["b"], &[], Some("%62=2")), "/p");
        assert_eq!(query(&[], &[("a", "{header:x}")], Some("a=0&z=1&%61=2")), "/p?z=1&a=a%26b%3Dc");
        assert_eq!(query(&[], &[("a", "{header:none}")], Some("a=0&z")), "/p?z");
        assert_eq!(query(&[], &[("a", "1")], None), "/p?a=1");
    }
}
