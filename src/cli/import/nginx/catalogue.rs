//! Every directive that is known: where nginx takes it, and what becomes of those that no other part of the importer reads.

use std::collections::HashMap;
use std::sync::LazyLock;

pub(super) use super::directives::NO_FILES;
use super::directives::{FILES, ONLY_HTTP, READ, ROWS};

/// Where a directive may stand.
pub(super) type Contexts = u16;

pub(super) const MAIN: Contexts = 1;
pub(super) const EVENTS: Contexts = 1 << 1;
pub(super) const HTTP: Contexts = 1 << 2;
pub(super) const SERVER: Contexts = 1 << 3;
pub(super) const LOCATION: Contexts = 1 << 4;
pub(super) const IF: Contexts = 1 << 5;
pub(super) const EXCEPT: Contexts = 1 << 6;
pub(super) const UPSTREAM: Contexts = 1 << 7;
pub(super) const STREAM: Contexts = 1 << 8;
pub(super) const STREAM_SERVER: Contexts = 1 << 9;
pub(super) const STREAM_UPSTREAM: Contexts = 1 << 10;
pub(super) const MATCH: Contexts = 1 << 11;
/// An `if` of a server.
pub(super) const SERVER_IF: Contexts = 1 << 12;

const ANY: Contexts = u16::MAX;

/// What becomes of a directive that nothing else reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is read; what nobody has asked for has no use.
    Read,
    /// Nothing stands for it, and why.
    Skip(&'static str),
    /// What to do instead.
    Cannot(&'static str),
}

use Fate::{Cannot, Skip};

pub(super) type Row = (&'static [&'static str], Contexts, Fate);

/// The contexts and the fate of a directive; nothing of one that no module of nginx has.
#[must_use]
pub(super) fn find(name: &str) -> Option<(Contexts, Fate)> {
    static ALL: LazyLock<HashMap<&str, (Contexts, Fate)>> = LazyLock::new(|| {
        let mut all: HashMap<&str, (Contexts, Fate)> = HashMap::new();
        for (names, contexts, fate) in ROWS.iter().chain(FILES).chain(READ) {
            for name in *names {
                let row = all.entry(name).or_insert((0, *fate));
                row.0 |= contexts;
            }
        }
        all
    });
    ALL.get(name).copied().or_else(|| by_start(name))
}

/// Families of directives that have one fate.
fn by_start(name: &str) -> Option<(Contexts, Fate)> {
    const FAMILIES: &[(&str, Fate)] = &[
        ("fastcgi_", Cannot(ONLY_HTTP)),
        ("uwsgi_", Cannot(ONLY_HTTP)),
        ("scgi_", Cannot(ONLY_HTTP)),
        ("memcached_", Cannot(ONLY_HTTP)),
        ("proxy_cache", Cannot("nothing is cached here: keep a cache behind it, or in the application")),
        ("perl", Cannot("no code runs here: let an endpoint do it")),
        ("js_", Cannot("no code runs here: let an endpoint do it")),
        ("mail", Cannot("mail is relayed as tcp: listeners with protocol = \"tcp\"")),
        ("auth_jwt", Cannot("tokens are looked at by a service that forward_auth asks")),
        ("auth_oidc", Cannot("tokens are looked at by a service that forward_auth asks")),
        ("geoip", Cannot("a CDN's field for the country, or networks: `source` of a route")),
        ("image_filter", Cannot("bodies are passed on as they are: let an endpoint do it")),
        ("xslt_", Cannot("bodies are passed on as they are: let an endpoint do it")),
        ("dav_", Cannot("no files are served here: let a web server be an endpoint")),
        ("zone_sync", Skip("nodes share no state: sticky cookies are signed, so every node takes them")),
        ("otel_", Cannot("[tracing] has otlp")),
        ("opentracing", Cannot("[tracing] has otlp")),
        (
            "modsecurity",
            Cannot("no code runs here: a service that forward_auth asks, or one in front of the endpoints"),
        ),
        ("lua_", Cannot("no code runs here: let an endpoint do it")),
        ("quic_", Cannot("HTTP/3 is not spoken: HTTP/2 is")),
        ("http3", Cannot("HTTP/3 is not spoken: HTTP/2 is")),
        ("spdy_", Skip("SPDY is gone: HTTP/2 is spoken")),
        ("aio", Skip("no files are served here")),
        ("f4f", Cannot(NO_FILES)),
        ("hls", Cannot(NO_FILES)),
        ("mp4", Cannot(NO_FILES)),
        ("secure_link", Cannot("links are not checked here: a service that forward_auth asks can")),
    ];
    let lua = name.ends_with("_by_lua") || name.ends_with("_by_lua_block") || name.ends_with("_by_lua_file");
    if lua {
        return Some((ANY, Cannot("no code runs here: let an endpoint do it")));
    }
    FAMILIES.iter().find(|(start, _)| name.starts_with(start)).map(|(_, fate)| (ANY, *fate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_known_with_their_places() {
        assert_eq!(find("proxy_pas"), None);
        assert!(find("limit_req_zone").is_some_and(|(contexts, _)| contexts & SERVER == 0));
        assert!(find("fastcgi_param").is_some_and(|(_, fate)| matches!(fate, Cannot(_))));
        assert!(find("keepalive_timeout").is_some_and(|(contexts, _)| contexts & UPSTREAM != 0));
    }
}
