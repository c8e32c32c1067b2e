//! The keys of `[[route]]` and of the tables in it, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::admission::PRIORITY_CLASS;
use super::edits::{REDIRECT, REQUEST_HEADERS, RESPOND, RESPONSE_HEADERS, REWRITE};
use super::gate::{CORS, ERROR_PAGES, MAINTENANCE};
use super::limits::{CONCURRENCY_LIMITS, RATE_LIMITS};
use super::passive::RETRY;
use super::{TIMEOUT, number, size, treatment};
use Given::{Default, Optional, Required};

pub(in super::super) static ROUTE: Section = Section::new(
    "A route: conditions, all of which must hold, and one of pool, split, redirect, respond and \
     health. Order: priority; \
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
            Kind::Choice(&[Word::new("random"), Word::new("source"), Word::new("sticky")]),
            Optional(r#""random""#),
            "What decides in a split: random, source (a client stays with its pool), or sticky: the sticky cookie or table of its \
             pools, so that a client stays with its pool and its endpoint for as long as the pool has a weight. Unless given: sticky where \
             a pool is sticky, else random.",
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
            "health",
            Kind::Text(Form::Name),
            Optional(r#""api""#),
            "Or: answers 200 or 503 by the health of this pool, for a balancer above.",
        ),
        Key::new(
            "request_headers",
            Kind::Table(&REQUEST_HEADERS),
            Optional(r#"{ remove = ["x-debug"], set = { x-tier = "web", x-client = "{client}" } }"#),
            "Edits to the request head on its way to the endpoint.",
        ),
        Key::new(
            "response_headers",
            Kind::Table(&RESPONSE_HEADERS),
            Optional(r#"{ remove = ["server"], set = { x-served-by = "{endpoint}" } }"#),
            "Edits to the response head on its way to the client.",
        ),
        Key::new(
            "rewrite",
            Kind::Table(&REWRITE),
            Optional(r#"{ path_prefix = "/" }"#),
            "Rewriting of path, host and query on their way to the endpoint.",
        ),
        Key::new(
            "allow",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Networks whose clients alone may use the route (403); empty is all. Unlike source, it does not leave the request to \
             another route.",
        ),
        Key::new(
            "deny",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Networks whose clients may not (403); goes before allow.",
        ),
        Key::new(
            "maintenance",
            Kind::Switch(&MAINTENANCE),
            Optional(r#"{ page = "maintenance.html", allow = ["10.0.0.0/8"], retry_after = "10m" }"#),
            "Takes the route out of service (503): true, or with a page and who may use it all the same.",
        ),
        Key::new(
            "max_body",
            size(0, 1 << 50),
            Optional(r#""10MiB""#),
            "The largest request body (413): at once by its Content-Length, else when it has become larger.",
        ),
        Key::new(
            "cors",
            Kind::Table(&CORS),
            Optional(r#"{ origins = ["https://app.example"], credentials = true, max_age = "10m" }"#),
            "What scripts of other origins may do.",
        ),
        Key::new(
            "error_pages",
            ERROR_PAGES,
            Default("{}"),
            "Pages in the place of this proxy's errors, by status (\"503\"), range (\"500-504\") or class (\"5xx\"); before the \
             listener's.",
        ),
        Key::new(
            "intercept_errors",
            Kind::Bool,
            Default("false"),
            "Whether pages also take the place of errors that endpoints answer with (nginx's proxy_intercept_errors).",
        ),
        Key::new(
            "timeouts",
            Kind::Table(&ROUTE_TIMEOUTS),
            Optional(r#"{ response_header = "60s" }"#),
            "Times that override the pool's.",
        ),
        PRIORITY_CLASS,
        Key::new(
            "retry",
            Kind::Or("off", &Kind::Table(&RETRY)),
            Optional(r#"{ attempts = 2 }"#),
            "Retry rules that override the pool's, key by key (in a split, those of [defaults.pool]); or \"off\".",
        ),
        Key::new(
            "sni",
            Kind::OneOrList(&Kind::Text(Form::Host)),
            Optional(r#"["db.example.com", "*.db.example.com"]"#),
            "For tcp listeners, in the place of all other conditions: names that TLS clients ask for. Exact before wildcard, \
             longer wildcards first; whom no route takes, the listener's own pool does.",
        ),
        Key::new(
            "tls",
            Kind::Choice(&[Word::new("passthrough"), Word::new("terminate")]),
            Optional(r#""passthrough""#),
            "With sni: whether TLS goes through to the endpoint or ends here; by default it ends here where the listener has \
             TLS.",
        ),
        treatment::basic_auth(),
        treatment::forward_auth(),
        treatment::mirror(),
        treatment::buffer_request(),
        treatment::buffer_response(),
        treatment::compress(),
        Key::new(
            "rate_limit",
            RATE_LIMITS,
            Optional(r#"{ key = "source", rate = "100/s", burst = 20 }"#),
            "How fast requests of one key may come: a limit, or a list of limits that all must pass.",
        ),
        Key::new(
            "concurrency_limit",
            CONCURRENCY_LIMITS,
            Optional(r#"{ key = "source", max = 10 }"#),
            "How many requests of one key may be under way: a limit, or a list of limits that all must pass.",
        ),
    ],
);

static SPLIT: Section = Section::new(
    "A part of a split.",
    &[
        Key::new("pool", Kind::Text(Form::Name), Required(r#""stable""#), "The pool."),
        Key::new("weight", number(0, 1000), Default("1"), "Its share, relative to the others; 0 takes none."),
    ],
);

static ROUTE_TIMEOUTS: Section = Section::new(
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
