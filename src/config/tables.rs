//! The tables of keys: every section and key of a configuration, its type, range, default and meaning, as data.
//!
//! Keys of the contract whose feature is not there yet are here too, so that they are told from misspelt ones.

use std::time::Duration;

use super::form::Form;
use super::key::{Given, Key, Kind, Section, Word};
use Given::{Default, Optional, Required};

const MS: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A time-out: never zero, never infinite.
const TIMEOUT: Kind = Kind::Duration { min: MS, max: LONGEST };
/// A delay that may be nothing.
const DELAY: Kind = Kind::Duration { min: Duration::ZERO, max: LONGEST };

const fn number(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

/// A whole configuration.
pub(super) static ROOT: Section = Section::new(
    "Durations are text with a unit (ms, s, m, h, d), sizes too (B, KiB, MiB, GiB), addresses \"ip:port\" or \
     \"[v6]:port\", networks CIDR. \"${NAME}\" inside a text is the environment's value; \"$${\" is a plain \"${\".",
    &[
        Key::new(
            "include",
            Kind::List { of: &Kind::Text(Form::Some), min: 0 },
            Optional(r#"["conf.d/*.toml"]"#),
            "Files that are merged into this one, in sorted order, relative to it; before any table.",
        ),
        Key::new("process", Kind::Table(&PROCESS), Default("{}"), "The process itself."),
        Key::new("admin", Kind::Table(&ADMIN), Default("{}"), "The admin API."),
        Key::new("log", Kind::Table(&LOG), Default("{}"), "The log and the access log."),
        Key::new("defaults", Kind::Table(&DEFAULTS), Default("{}"), "What listeners and pools start from."),
        Key::new(
            "listener",
            Kind::Map { key: Form::Name, of: &Kind::Table(&LISTENER) },
            Required(r#"{ web = { bind = ["127.0.0.1:8080"] } }"#),
            "Listeners by name; at least one.",
        ),
        Key::new(
            "route",
            Kind::List { of: &Kind::Table(&ROUTE), min: 0 },
            Default("[]"),
            "Routes of http listeners.",
        ),
        Key::new(
            "pool",
            Kind::Map { key: Form::Name, of: &Kind::Table(&POOL) },
            Default("{}"),
            "Pools by name.",
        ),
        Key::later("health"),
        Key::later("check"),
        Key::later("notify"),
    ],
);

pub(super) static PROCESS: Section = Section::new(
    "The process itself.",
    &[
        Key::new(
            "workers",
            Kind::Or("auto", &Kind::Integer { min: 1, max: 1024 }),
            Default(r#""auto""#),
            "Data-plane threads: \"auto\" is one per CPU, or a number.",
        ),
        Key::new(
            "drain_delay",
            DELAY,
            Default(r#""0s""#),
            "/readyz says no for so long before listeners stop accepting.",
        ),
        Key::new("drain_timeout", DELAY, Default(r#""30s""#), "What live work gets at shutdown."),
        Key::later("zone"),
        Key::later("upgrade_drain_timeout"),
        Key::later("watch"),
        Key::later("reload_guard"),
        Key::later("warm_timeout"),
        Key::later("state_dir"),
        Key::later("resolvers"),
    ],
);

pub(super) static ADMIN: Section = Section::new(
    "The admin API.",
    &[
        Key::new(
            "bind",
            Kind::Text(Form::AdminBind),
            Default(r#""127.0.0.1:9900""#),
            "A loopback address, or \"unix:/path\" (mode 0600).",
        ),
        Key::new(
            "allowed_hosts",
            Kind::List { of: &Kind::Text(Form::ExactHost), min: 0 },
            Default("[]"),
            "Host values accepted beside the loopback names, as in [\"lb1.internal\"]; others are refused (421).",
        ),
        Key::later("token_file"),
        Key::later("read_token_file"),
    ],
);

pub(super) static LOG: Section = Section::new(
    "The log and the access log.",
    &[
        Key::new(
            "level",
            Kind::Choice(&[
                Word::new("error"),
                Word::new("warn"),
                Word::new("info"),
                Word::new("debug"),
                Word::new("trace"),
            ]),
            Default(r#""info""#),
            "The least level that is written.",
        ),
        Key::new(
            "format",
            Kind::Choice(&[Word::new("text"), Word::new("json")]),
            Default(r#""text""#),
            "Of the log and of the access log.",
        ),
        Key::new(
            "access",
            Kind::Text(Form::AccessLog),
            Default(r#""stdout""#),
            "Where access-log records go: off, stdout, stderr, or a path (reopened on SIGUSR1).",
        ),
    ],
);

pub(super) static DEFAULTS: Section = Section::new(
    "What listeners and pools start from: any of their keys but those that each must have for itself.",
    &[
        Key::new("listener", Kind::Base(&LISTENER), Default("{}"), "What every listener starts from."),
        Key::new("pool", Kind::Base(&POOL), Default("{}"), "What every pool starts from."),
    ],
);

pub(super) static LISTENER: Section = Section::new(
    "A listener: one or more bound addresses and a protocol.",
    &[
        Key::new(
            "bind",
            Kind::List { of: &Kind::Text(Form::Bind), min: 1 },
            Required(r#"["127.0.0.1:8080"]"#),
            "Addresses; \"[::]:80\" binds IPv6 only.",
        )
        .own(),
        Key::new(
            "protocol",
            Kind::Choice(&[Word::new("http"), Word::new("tcp"), Word::later("udp")]),
            Default(r#""http""#),
            "http goes on by routes, tcp to one pool.",
        ),
        Key::new("pool", Kind::Text(Form::Name), Optional(r#""api""#), "The pool of a tcp listener.").own(),
        Key::new(
            "trusted_proxies",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Networks whose X-Forwarded-*, X-Real-IP, CF-Connecting-IP and Forwarded fields are believed.",
        ),
        Key::new(
            "client_address",
            Kind::Choice(&[
                Word::new("x-forwarded-for"),
                Word::new("forwarded"),
                Word::new("cf-connecting-ip"),
                Word::new("x-real-ip"),
            ]),
            Default(r#""x-forwarded-for""#),
            "In which field a trusted peer names the client: also forwarded, cf-connecting-ip, x-real-ip.",
        ),
        Key::new(
            "max_connections",
            number(1, 10_000_000),
            Default("20000"),
            "Connections at once; at the ceiling accepting pauses. Also bounded by the descriptor limit.",
        ),
        Key::new(
            "max_connections_per_source",
            number(0, 10_000_000),
            Default("0"),
            "Connections at once of one source address; 0 is no limit.",
        ),
        Key::new(
            "allow",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Networks that may connect; empty is all.",
        ),
        Key::new(
            "deny",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Networks that may not connect.",
        ),
        Key::new(
            "freebind",
            Kind::Bool,
            Default("false"),
            "Bind an address that is not (yet) here: a floating one.",
        ),
        Key::new("limits", Kind::Table(&LISTENER_LIMITS), Default("{}"), "Sizes of requests."),
        Key::new("timeouts", Kind::Table(&LISTENER_TIMEOUTS), Default("{}"), "Times; none is infinite."),
        Key::later("accept_proxy_protocol"),
        Key::later("h2c"),
        Key::later("tls"),
        Key::later("when_empty"),
    ],
);

pub(super) static LISTENER_LIMITS: Section = Section::new(
    "Sizes of requests.",
    &[
        Key::new("head", size(1 << 10, 1 << 20), Default(r#""64KiB""#), "A whole request head (431)."),
        Key::new(
            "fields",
            number(1, 10_000),
            Default("128"),
            "Fields of a request head or trailer section (431).",
        ),
        Key::new(
            "target",
            size(64, 1 << 20),
            Default(r#""8KiB""#),
            "A request target (414); no more than head.",
        ),
    ],
);

pub(super) static LISTENER_TIMEOUTS: Section = Section::new(
    "Times of connections from clients.",
    &[
        Key::new(
            "request_header",
            TIMEOUT,
            Default(r#""10s""#),
            "A whole request head, from its first byte.",
        ),
        Key::new("keep_alive", TIMEOUT, Default(r#""60s""#), "Idle between requests."),
        Key::new("client_idle", TIMEOUT, Default(r#""60s""#), "No progress while a body moves."),
        Key::new(
            "tcp_keepalive",
            TIMEOUT,
            Default(r#""30s""#),
            "First keepalive probe of an idle connection.",
        ),
        Key::new("tcp_user_timeout", TIMEOUT, Default(r#""60s""#), "Unacknowledged data to a client."),
        Key::later("tls_handshake"),
        Key::later("udp_idle"),
    ],
);

pub(super) static ROUTE: Section = Section::new(
    "A route: conditions, all of which must hold, and one of pool, split, redirect and respond. Order: priority; \
     host exact, then wildcard (longer first), then none; path exact, then longest prefix, then regex; more \
     conditions; then the order of the file.",
    &[
        Key::new(
            "name",
            Kind::Text(Form::Name),
            Optional(r#""api""#),
            "Its name; \"route-N\" where none is given.",
        ),
        Key::new("priority", number(-1_000_000, 1_000_000), Default("0"), "Higher is asked first."),
        Key::new(
            "listeners",
            Kind::List { of: &Kind::Text(Form::Name), min: 1 },
            Optional(r#"["web"]"#),
            "Listeners that it serves; by default every http listener.",
        ),
        Key::new(
            "host",
            Kind::OneOrList(&Kind::Text(Form::Host)),
            Optional(r#"["example.com", "*.example.com"]"#),
            "A host or a list of hosts, without ports.",
        ),
        Key::new("path", Kind::Text(Form::Path), Optional(r#""/exact""#), "The whole path."),
        Key::new(
            "path_prefix",
            Kind::Text(Form::Path),
            Optional(r#""/v1""#),
            "The start of the path, element by element: /v1 and /v1/a but not /v1a.",
        ),
        Key::new(
            "path_regex",
            Kind::Text(Form::Regex),
            Optional(r#""^/u/[0-9]+$""#),
            "A regular expression, unanchored unless it anchors itself.",
        ),
        Key::new(
            "methods",
            Kind::List { of: &Kind::Text(Form::Method), min: 1 },
            Optional(r#"["GET", "HEAD"]"#),
            "Methods.",
        ),
        Key::new(
            "headers",
            Kind::Map { key: Form::Field, of: &Kind::Pattern },
            Optional(r#"{ x-canary = "1", user-agent = { regex = "^curl/" } }"#),
            "Fields, each with the text or the regular expression that one of its values must be.",
        ),
        Key::new(
            "query",
            Kind::Map { key: Form::Some, of: &Kind::Pattern },
            Optional(r#"{ version = "2" }"#),
            "Query parameters, likewise; compared as they are sent, undecoded.",
        ),
        Key::new(
            "cookies",
            Kind::Map { key: Form::Field, of: &Kind::Pattern },
            Optional(r#"{ beta = "yes" }"#),
            "Cookies, likewise.",
        ),
        Key::new(
            "source",
            Kind::List { of: &Kind::Text(Form::Network), min: 1 },
            Optional(r#"["10.0.0.0/8"]"#),
            "Networks of the client.",
        ),
        Key::new("pool", Kind::Text(Form::Name), Optional(r#""api""#), "Sends it to this pool."),
        Key::new(
            "split",
            Kind::List { of: &Kind::Table(&SPLIT), min: 1 },
            Optional(r#"[{ pool = "stable", weight = 95 }, { pool = "canary", weight = 5 }]"#),
            "Or: sends it to one of several pools, by weight.",
        ),
        Key::new(
            "split_by",
            Kind::Choice(&[Word::new("random"), Word::new("source"), Word::later("sticky")]),
            Optional(r#""random""#),
            "What decides in a split: random (the default), or source (a client stays with its pool).",
        ),
        Key::new(
            "redirect",
            Kind::Table(&REDIRECT),
            Optional(r#"{ to = "https://{host}{uri}", status = 308 }"#),
            "Or: answers with a redirect.",
        ),
        Key::new(
            "respond",
            Kind::Table(&RESPOND),
            Optional(r#"{ status = 503, body = "back soon" }"#),
            "Or: answers by itself.",
        ),
        Key::new(
            "request_headers",
            Kind::Table(&REQUEST_HEADERS),
            Optional(r#"{ remove = ["x-debug"], set = { x-tier = "web" }, add = {} }"#),
            "Edits to the request head on its way to the endpoint.",
        ),
        Key::new(
            "response_headers",
            Kind::Table(&RESPONSE_HEADERS),
            Optional(r#"{ remove = ["server"], set = {}, add = {} }"#),
            "Edits to the response head on its way to the client.",
        ),
        Key::new(
            "rewrite",
            Kind::Table(&REWRITE),
            Optional(r#"{ path_prefix = "/" }"#),
            "Rewriting of the path on its way to the endpoint.",
        ),
        Key::new(
            "timeouts",
            Kind::Table(&ROUTE_TIMEOUTS),
            Optional(r#"{ response_header = "60s" }"#),
            "Times that override the pool's.",
        ),
        Key::new(
            "retry",
            Kind::Or("off", &Kind::Table(&RETRY)),
            Optional(r#"{ attempts = 2 }"#),
            "Retry rules that override the pool's, key by key (in a split, those of [defaults.pool]); or \"off\".",
        ),
        Key::later("sni"),
        Key::later("rate_limit"),
        Key::later("health"),
    ],
);

pub(super) static SPLIT: Section = Section::new(
    "A part of a split.",
    &[
        Key::new("pool", Kind::Text(Form::Name), Required(r#""stable""#), "The pool."),
        Key::new("weight", number(0, 1000), Default("1"), "Its share, relative to the others; 0 takes none."),
    ],
);

pub(super) static REDIRECT: Section = Section::new(
    "A redirect.",
    &[
        Key::new(
            "to",
            Kind::Text(Form::Location),
            Required(r#""https://{host}{uri}""#),
            "Where to; {path} has no query, {query} no question mark, {uri} is both.",
        ),
        Key::new("status", Kind::OneOf(&[301, 302, 303, 307, 308]), Default("308"), "The status."),
    ],
);

pub(super) static RESPOND: Section = Section::new(
    "A fixed answer.",
    &[
        Key::new("status", number(200, 599), Required("503"), "The status."),
        Key::new("body", Kind::Text(Form::Any), Default(r#""""#), "The body, as plain text."),
    ],
);

pub(super) static REQUEST_HEADERS: Section = Section::new(
    "Edits to a request head: first remove, then set, then add.",
    &[
        edit_remove(),
        Key::new(
            "set",
            Kind::Map { key: Form::SetField, of: &Kind::Text(Form::FieldValue) },
            Default("{}"),
            "Fields that replace all of their name.",
        ),
        edit_add(),
    ],
);

pub(super) static RESPONSE_HEADERS: Section = Section::new(
    "Edits to a response head: first remove, then set, then add.",
    &[
        edit_remove(),
        Key::new(
            "set",
            Kind::Map { key: Form::EditedField, of: &Kind::Text(Form::FieldValue) },
            Default("{}"),
            "Fields that replace all of their name.",
        ),
        edit_add(),
    ],
);

const fn edit_remove() -> Key {
    Key::new(
        "remove",
        Kind::List { of: &Kind::Text(Form::EditedField), min: 0 },
        Default("[]"),
        "Fields taken away.",
    )
}

const fn edit_add() -> Key {
    Key::new(
        "add",
        Kind::Map { key: Form::EditedField, of: &Kind::Text(Form::FieldValue) },
        Default("{}"),
        "Fields put beside those that are there.",
    )
}

pub(super) static REWRITE: Section = Section::new(
    "One of the two.",
    &[
        Key::new(
            "path_prefix",
            Kind::Text(Form::Path),
            Optional(r#""/""#),
            "Takes the place of the route's matched path_prefix.",
        ),
        Key::new(
            "path",
            Kind::Text(Form::Path),
            Optional(r#""/index.html""#),
            "Takes the place of the whole path.",
        ),
    ],
);

pub(super) static ROUTE_TIMEOUTS: Section = Section::new(
    "Times of a route; what is not written is the pool's.",
    &[
        Key::new("connect", TIMEOUT, Optional(r#""2s""#), "Connecting."),
        Key::new("response_header", TIMEOUT, Optional(r#""60s""#), "To the response head."),
        Key::new("idle", TIMEOUT, Optional(r#""5m""#), "No progress while a body moves."),
        Key::new(
            "tunnel",
            TIMEOUT,
            Optional(r#""1h""#),
            "Upgraded connections without a byte in either direction.",
        ),
    ],
);

pub(super) static POOL: Section = Section::new(
    "A pool: endpoints with one balancing policy.",
    &[
        Key::new(
            "like",
            Kind::Text(Form::Name),
            Optional(r#""api""#),
            "Another pool that this one starts from.",
        )
        .own(),
        Key::new(
            "balance",
            Kind::Choice(&[
                Word::new("round_robin"),
                Word::new("least_requests"),
                Word::new("random"),
                Word::new("first"),
                Word::later("peak_ewma"),
                Word::later("ring_hash"),
                Word::later("maglev"),
                Word::later("rendezvous"),
            ]),
            Default(r#""least_requests""#),
            "Which endpoint is next: round_robin, least_requests, random (the better of two), first.",
        ),
        Key::new(
            "endpoints",
            Kind::List { of: &Kind::Short(&ENDPOINT, "address"), min: 1 },
            Required(r#"["10.0.1.10:8080", { address = "10.0.1.11:8080", weight = 2, tier = 0 }]"#),
            "Endpoints, each an address or a table.",
        )
        .own(),
        Key::new("limits", Kind::Table(&POOL_LIMITS), Default("{}"), "Ceilings and the queue."),
        Key::new("timeouts", Kind::Table(&POOL_TIMEOUTS), Default("{}"), "Times; none is infinite."),
        Key::new(
            "retry",
            Kind::Or("off", &Kind::Table(&RETRY)),
            Default("{}"),
            "Which failures are tried again; \"off\" is one attempt.",
        ),
        Key::later("hash_key"),
        Key::later("load_factor"),
        Key::later("endpoints_file"),
        Key::later("protocol"),
        Key::later("preset"),
        Key::later("send_proxy"),
        Key::later("source_address"),
        Key::later("required"),
        Key::later("exclusive"),
        Key::later("exclusive_rank"),
        Key::later("stale_for"),
        Key::later("failover"),
        Key::later("spill"),
        Key::later("failback"),
        Key::later("fail_open"),
        Key::later("panic_threshold"),
        Key::later("min_available"),
        Key::later("slow_start"),
        Key::later("drain_timeout"),
        Key::later("max_connection_age"),
        Key::later("health"),
        Key::later("outlier"),
        Key::later("breaker"),
        Key::later("sticky"),
        Key::later("tls"),
    ],
);

pub(super) static ENDPOINT: Section = Section::new(
    "An endpoint.",
    &[
        Key::new("address", Kind::Text(Form::Endpoint), Required(r#""10.0.1.10:8080""#), "Where it is."),
        Key::new(
            "name",
            Kind::Text(Form::Name),
            Optional(r#""app-1""#),
            "Its name; its address unless given.",
        ),
        Key::new("weight", number(0, 1000), Default("1"), "Its share, relative to the others; 0 takes none."),
        Key::new(
            "tier",
            number(0, 255),
            Default("0"),
            "Priority group: 0 is used first, 1 is its backup, and so on.",
        ),
        Key::new(
            "max_requests",
            number(1, 1_000_000),
            Optional("50"),
            "Requests (or tcp connections) in flight; the pool's limit unless given.",
        ),
        Key::later("zone"),
        Key::later("health"),
        Key::later("capacity"),
    ],
);

pub(super) static POOL_LIMITS: Section = Section::new(
    "Ceilings and the queue.",
    &[
        Key::new(
            "max_requests",
            number(1, 1_000_000),
            Default("1024"),
            "Requests in flight per endpoint, where the pool serves http.",
        ),
        Key::new(
            "max_connections",
            number(0, 1_000_000),
            Default("0"),
            "Connections per endpoint, where the pool serves tcp; 0 is no limit.",
        ),
        Key::new(
            "queue",
            number(0, 1_000_000),
            Default("512"),
            "Waiting requests of the pool, first come first served; 0 unless written in a pool that serves only tcp.",
        ),
        Key::new("queue_timeout", TIMEOUT, Default(r#""5s""#), "How long one waits (503)."),
    ],
);

pub(super) static POOL_TIMEOUTS: Section = Section::new(
    "Times of connections to endpoints.",
    &[
        Key::new("connect", TIMEOUT, Default(r#""2s""#), "Connecting (503)."),
        Key::new("response_header", TIMEOUT, Default(r#""60s""#), "To the response head (504)."),
        Key::new("idle", TIMEOUT, Default(r#""5m""#), "No progress while a body moves."),
        Key::new(
            "keep_alive",
            TIMEOUT,
            Default(r#""30s""#),
            "Idle connection to an endpoint; less where the endpoint announces less.",
        ),
        Key::new(
            "tunnel",
            TIMEOUT,
            Default(r#""1h""#),
            "Upgraded connections and tcp sessions without a byte in either direction.",
        ),
        Key::new("tcp_user_timeout", TIMEOUT, Default(r#""20s""#), "Unacknowledged data to an endpoint."),
    ],
);

pub(super) static RETRY: Section = Section::new(
    "Which failures are tried again, or \"off\".",
    &[
        Key::new("attempts", number(1, 100), Default("3"), "Tries in all, each on a different endpoint."),
        Key::new(
            "on",
            Kind::List { of: &Kind::Text(Form::Cause), min: 0 },
            Default(r#"["connect", "reset"]"#),
            "What is tried again: connect, reset, timeout, statuses such as \"502\" or \"502-504\".",
        ),
        Key::new("within", TIMEOUT, Default(r#""10s""#), "No new attempt starts later than this."),
        Key::new(
            "max_body",
            size(0, 64 << 20),
            Default(r#""64KiB""#),
            "Request bodies are kept for a repeat up to here.",
        ),
        Key::later("per_try_timeout"),
        Key::later("non_idempotent"),
        Key::later("budget"),
    ],
);

#[cfg(test)]
mod tests {
    use super::super::walk::read_text;
    use super::*;

    fn check(section: &'static Section, path: &str) {
        for key in section.supported() {
            let path = format!("{path}.{}", key.name);
            assert!(read_text(key.example(), key).is_some(), "{path} cannot be {}", key.example());
            assert!(key.doc.ends_with('.'), "{path} has no sentence about it");
            assert_eq!(
                section.keys.iter().filter(|other| other.name == key.name).count(),
                1,
                "{path} is there twice"
            );
            if let Some(below) = key.kind.section() {
                check(below, &path);
            }
        }
    }

    #[test]
    fn every_default_and_example_is_valid() {
        check(&ROOT, "");
    }
}
