//! The keys of `[pool.NAME]` and of the tables in it, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::{TIMEOUT, number, size};
use Given::{Default, Optional, Required};

pub(in super::super) static POOL: Section = Section::new(
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

static ENDPOINT: Section = Section::new(
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

static POOL_LIMITS: Section = Section::new(
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

static POOL_TIMEOUTS: Section = Section::new(
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

pub(in super::super) static RETRY: Section = Section::new(
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
