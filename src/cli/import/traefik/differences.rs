//! What differs between the two products without a line that stands for it, as far as the output has to do with it.

use super::super::document::{Block, Document, Value};
use super::super::report::Report;
use super::source::Parts;

/// Tells the differences.
pub(super) fn tell(parts: &Parts<'_>, document: &Document, report: &mut Report) {
    let routes = &document.routes;
    if !parts.of("http", "routers").all.is_empty() {
        ALWAYS.iter().for_each(|text| report.general(*text));
        let of_some = [
            (has(&document.listeners, "trusted_proxies"), TRUSTED),
            (has(routes, "response_headers"), FIELDS),
            (routes.iter().any(has_guards), ORDER),
            (has(&document.pools, "health"), CHECKED),
            (has(&document.pools, "health.path"), FOLLOWED),
        ];
        of_some.iter().filter(|(holds, _)| *holds).for_each(|(_, text)| report.general(*text));
    }
    if !parts.of("tcp", "routers").all.is_empty() {
        OF_TCP.iter().for_each(|text| report.general(*text));
        let named = |block: &Block| block.table.get("sni").is_some();
        if routes.iter().any(named) {
            report.general(POSTGRES);
        }
    }
}

/// Whether a key, or one of a table of this name, is written.
fn has(blocks: &[Block], key: &str) -> bool {
    let below =
        |path: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    blocks.iter().flat_map(|block| &block.table.entries).any(|entry| below(&entry.path))
}

/// Whether a route asks for several things before it lets a request go on, so that their order matters.
fn has_guards(route: &Block) -> bool {
    let count = |key: &&str| match route.table.get(key) {
        Some(Value::List(many)) if **key != *"allow" => many.len(),
        Some(_) => 1,
        None => 0,
    };
    let guards = ["allow", "cors", "rate_limit", "concurrency_limit", "basic_auth", "forward_auth"];
    let edited = ["request_headers", "rewrite"].iter().any(|key| route.table.get(key).is_some());
    let asked = route.table.get("forward_auth").is_some() && edited;
    asked || guards.iter().map(count).sum::<usize>() > 1
}

/// What differs always.
const ALWAYS: [&str; 10] = [
    "endpoints are told X-Forwarded-For, -Proto and -Host, X-Real-IP and X-Request-Id; Traefik tells them X-Forwarded-Port and X-Forwarded-Server as well, and no X-Request-Id.",
    "Traefik asks endpoints for gzip where the client asks for nothing, and unpacks the answer; here requests go on as they are.",
    "X-Forwarded-*, X-Real-IP, Forwarded and CF-Connecting-IP of peers that are in no trusted_proxies go no further; Traefik lets Forwarded and CF-Connecting-IP pass, and what it does not know, as X-Forwarded-Ssl.",
    "paths are compared in normal form, where /a/. is /a/, and go on as they came; to Traefik that is /a, and it sends on what it compares. A ; in a query is no & here.",
    "a client has 10 s for a head of at most 64 KiB with a target of 8 KiB, and 60 s until its next request ([listener.NAME.limits] and timeouts); Traefik has 60 s, 1 MiB and 180 s where nothing else is written.",
    "our own answers have short texts as their bodies, and 503 a Retry-After. Requests that no route takes get 404, as from Traefik.",
    "an endpoint that cannot be reached is 503 here; Traefik answers 502, and 504 where it cannot connect in time.",
    "an endpoint that fails live traffic 5 times in a row is out for 10 s ([pool.NAME.outlier]); Traefik goes by checks alone unless passiveHealthCheck is written. At most 1024 requests at once come to one, more wait ([pool.NAME.limits]); Traefik has no ceiling.",
    "nothing is tried again where no retry middleware is: retry = \"off\" in the pools. Without that line connections that fail would be tried elsewhere.",
    "connecting has a limit of 2 s, an answer one of 60 s to its head and 5 m for each pause of its body, an upgraded connection (WebSocket) 1 h without a byte ([pool.NAME.timeouts]); Traefik has 30 s to connect, and no other.",
];

const TRUSTED: &str = "X-Real-IP is the client that a trusted proxy names; Traefik says there whom the connection is from, or what that proxy sent as X-Real-IP.";

const FIELDS: &str = "response_headers hold for our own answers too, whichever middleware makes them; in Traefik for those of middlewares behind `headers` only.";

const ORDER: &str = "a route asks for allow, cors, its limits and then who the client is, in this order, and of the request as it came; Traefik in the order of the middlewares.";

const CHECKED: &str = "an endpoint that is checked is used once its first probe is good, and after a bad one the next comes 500 ms later; Traefik takes servers for up until a check fails.";

const FOLLOWED: &str = "a redirect is what a check goes by; Traefik follows it to where it leads, unless followRedirects is false.";

const OF_TCP: [&str; 2] = [
    "a tcp connection that no route takes is reset; Traefik ends the handshake with its own certificate and answers 404, or closes it.",
    "a tcp session without a byte either way for 1 h is closed ([pool.NAME.timeouts] tunnel); Traefik keeps it.",
];

const POSTGRES: &str = "clients of PostgreSQL that ask for TLS before they begin it have no name here, and go where those without one go; Traefik understands that. With sslnegotiation=direct they begin with TLS.";
