//! The keys of `[pool.NAME]` and of the tables in it, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::admission::ADAPTIVE;
use super::health::{ENDPOINT_HEALTH, HEALTH};
use super::passive::{BREAKER, OUTLIER, RETRY};
use super::sticky::STICKY;
use super::tls::POOL_TLS;
use super::{DELAY, TIMEOUT, number, real, size};
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
                Word::new("peak_ewma"),
                Word::new("ring_hash"),
                Word::new("maglev"),
                Word::new("rendezvous"),
            ]),
            Default(r#""least_requests""#),
            "Which endpoint is next: round_robin, least_requests, peak_ewma (the soonest answer), random (the better of two), \
             first, or by hash_key: ring_hash (as nginx's consistent hash), maglev, rendezvous.",
        ),
        Key::new(
            "endpoints",
            Kind::List { of: &Kind::Short(&ENDPOINT, "address"), min: 1 },
            Required(r#"["10.0.1.10:8080", { address = "10.0.1.11:8080", weight = 2, tier = 0 }]"#),
            "Endpoints, each an address or a table; needed unless there is `endpoints_file`. Every address of a name in \
             \"app.internal:8080\" is one, and every address that \"srv:_http._tcp.app.internal\" leads to.",
        )
        .own()
        .or("endpoints_file"),
        Key::new(
            "endpoints_file",
            Kind::Text(Form::Some),
            Optional(r#""api.endpoints""#),
            "A file of more endpoints, watched: an address a line (# begins a comment), or a JSON list of addresses and of \
             objects with the keys of an endpoint. What cannot be read leaves the last endpoints in place.",
        )
        .own(),
        Key::new(
            "protocol",
            Kind::Choice(&[Word::new("http1"), Word::new("http2"), Word::new("auto")]),
            Default(r#""http1""#),
            "What is spoken with endpoints: http1, http2 (in the clear: at once), or auto, which TLS finds out (in the clear: http1).",
        ),
        Key::new("limits", Kind::Table(&POOL_LIMITS), Default("{}"), "Ceilings and the queue."),
        Key::new("timeouts", Kind::Table(&POOL_TIMEOUTS), Default("{}"), "Times; none is infinite."),
        Key::new(
            "retry",
            Kind::Or("off", &Kind::Table(&RETRY)),
            Default("{}"),
            "Which failures are tried again; \"off\" is one attempt.",
        ),
        Key::new(
            "hash_key",
            Kind::Text(Form::HashKey),
            Optional(r#""source""#),
            "What the hashing policies hash: source (the default), header:NAME, cookie:NAME, query:NAME, path, sni (the name that \
             a TLS client asks for; of a request its host). What a request \
             does not have is replaced by its source.",
        ),
        Key::new(
            "load_factor",
            Kind::Or("off", &real(1.01, 100.0)),
            Default(r#""off""#),
            "Bounded loads for the hashing policies: none gets more than so many times the mean, as in 1.25.",
        ),
        Key::new(
            "preset",
            Kind::Choice(&PRESETS),
            Optional(r#""patroni-replica""#),
            "What a known system needs: kube-apiserver, patroni-primary, patroni-replica, traefik, rabbitmq, redis-primary, \
             etcd. It goes over defaults and like, under what is written here; `plimsoll check --show` prints the result.",
        )
        .own(),
        Key::new("required", Kind::Bool, Default("false"), "Whether /readyz of this node depends on the pool."),
        Key::new(
            "exclusive",
            Kind::Bool,
            Default("false"),
            "At most one endpoint serves, such as a database leader: the one whose probe says so. Needs health; then there \
             is no ejection, no retry of sent work and no fail_open.",
        ),
        Key::new(
            "exclusive_rank",
            Kind::Table(&RANK),
            Optional(r#"{ json = "timeline" }"#),
            "Which of two that claim to lead is believed.",
        ),
        Key::new(
            "stale_for",
            TIMEOUT,
            Optional(r#""30s""#),
            "How long the last leader is kept when its health API is silent, nobody else claims and its port accepts; \"30s\" unless given.",
        ),
        Key::new(
            "failover",
            Kind::List { of: &Kind::Text(Form::Name), min: 0 },
            Default("[]"),
            "Pools tried, in order, when this one has nothing usable, as in [\"dr\"]; each is visited once.",
        ),
        Key::new(
            "spill",
            Kind::Or("off", &real(1.0, 10.0)),
            Default(r#""off""#),
            "Strict tiers and failover, or Envoy's overprovisioning factor: 1.4 spills once under 72 % of a tier is usable.",
        ),
        Key::new(
            "failback",
            Kind::Or("manual", &Kind::Table(&FAILBACK)),
            Default(r#"{ after = "60s", ramp = "30s" }"#),
            "How a recovered tier or pool gets traffic back: after a time without a relapse (doubled per flap) and over a \
             ramp, or \"manual\". Waived at start and when nothing else serves.",
        ),
        Key::new(
            "fail_open",
            Kind::Bool,
            Default("true"),
            "When nothing at all is usable, probe state and ejections are ignored and those whose port accepts are tried.",
        ),
        Key::new(
            "panic_threshold",
            real(0.0, 1.0),
            Default("0.0"),
            "Envoy's rule: fail open below this usable share; 0 is off.",
        ),
        Key::new(
            "min_available",
            Kind::Amount { min: 0 },
            Default("1"),
            "No drain, maintenance or ejection by judgement goes below it: a count or a share such as \"50%\". For \
             ejections a usable failover pool stands in for one.",
        ),
        Key::new(
            "source_address",
            Kind::Or("", &Kind::Or("client", &Kind::Text(Form::Ip))),
            Default(r#""""#),
            "The address of this node that connections to endpoints, and probes, come from, as in \"10.0.0.5\"; \"\" leaves it \
             to the system. \"client\" is each client's own: it needs CAP_NET_ADMIN, and endpoints whose way back leads through \
             this node (IP_TRANSPARENT); probes and clients without an address of the endpoint's family come from the node.",
        ),
        Key::new(
            "load",
            Kind::Text(Form::Rate),
            Optional(r#""800/s""#),
            "What the pool has to carry at its busiest, for `plimsoll check` alone: whether its endpoints can, also without one of \
             their zones, where each says its capacity.",
        )
        .own(),
        Key::new("slow_start", DELAY, Default(r#""0s""#), "A returned endpoint grows to its full share in so long."),
        Key::new("drain_timeout", DELAY, Default(r#""10m""#), "Long-lived work on a drained or removed endpoint."),
        Key::new(
            "max_connection_age",
            DELAY,
            Default(r#""0s""#),
            "Long-lived tcp sessions end, with jitter, at this age, so that newcomers get some; 0 is off.",
        ),
        Key::new(
            "health",
            Kind::Or("off", &Kind::Table(&HEALTH)),
            Optional("{}"),
            "Active probes; absent or \"off\": none.",
        ),
        Key::new(
            "outlier",
            Kind::Or("off", &Kind::Table(&OUTLIER)),
            Default("{}"),
            "Passive ejection, or \"off\".",
        ),
        Key::new(
            "breaker",
            Kind::Or("off", &Kind::Table(&BREAKER)),
            Optional("{}"),
            "A breaker; absent or \"off\": none.",
        ),
        Key::new(
            "send_proxy",
            Kind::Choice(&[Word::new("off"), Word::new("v1"), Word::new("v2")]),
            Default(r#""off""#),
            "A PROXY header at the start of each connection, before TLS, which tells the endpoint the client's address: off, v1, \
             v2 (with what is known of its TLS). A connection then serves that client alone.",
        ),
        Key::new(
            "sticky",
            Kind::Or("off", &Kind::Table(&STICKY)),
            Optional("{}"),
            "A client keeps coming to the same endpoint; absent or \"off\": no.",
        ),
        Key::new(
            "tls",
            Kind::Or("off", &Kind::Table(&POOL_TLS)),
            Optional(r#"{ server_name = "api.internal", ca = "internal-ca.pem" }"#),
            "TLS to the endpoints, verified; absent or \"off\": none.",
        ),
    ],
);

static PRESETS: [Word; 7] = [
    Word::new("kube-apiserver"),
    Word::new("patroni-primary"),
    Word::new("patroni-replica"),
    Word::new("traefik"),
    Word::new("rabbitmq"),
    Word::new("redis-primary"),
    Word::new("etcd"),
];

static RANK: Section = Section::new(
    "Which of two that claim to lead is believed.",
    &[Key::new(
        "json",
        Kind::Text(Form::Some),
        Required(r#""timeline""#),
        "The name of a number in the JSON of the probe's answer; the highest leads.",
    )],
);

static FAILBACK: Section = Section::new(
    "How a recovered tier or pool gets traffic back.",
    &[
        Key::new("after", DELAY, Default(r#""60s""#), "The time without a relapse; doubled per flap."),
        Key::new("ramp", DELAY, Default(r#""30s""#), "The time from none to all of the traffic."),
    ],
);

static ENDPOINT: Section = Section::new(
    "An endpoint.",
    &[
        Key::new(
            "address",
            Kind::Text(Form::Endpoint),
            Required(r#""10.0.1.10:8080""#),
            "Where it is: ip:port, host:port, or srv: and a service name.",
        ),
        Key::new(
            "name",
            Kind::Text(Form::Name),
            Optional(r#""app-1""#),
            "Its name; its address unless given. Endpoints of a DNS name are called name@ip:port.",
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
        Key::new("zone", Kind::Text(Form::Any), Default(r#""""#), "Where it stands; see zone of [process]."),
        Key::new(
            "health",
            Kind::Table(&ENDPOINT_HEALTH),
            Optional("{ port = 9000 }"),
            "Where its probes go, where that is not its own address.",
        ),
        Key::new(
            "capacity",
            Kind::Text(Form::Rate),
            Optional(r#""500/s""#),
            "What it can carry, for `plimsoll check` alone, which holds load of the pool to it.",
        ),
    ],
);

static POOL_LIMITS: Section = Section::new(
    "Ceilings and the queue.",
    &[
        Key::new(
            "max_requests",
            number(1, 1_000_000),
            Default("1024"),
            "Requests in flight per endpoint, where the pool serves http; tcp connections are counted apart.",
        ),
        Key::new(
            "max_connections",
            number(0, 1_000_000),
            Default("0"),
            "Connections per endpoint, where the pool serves tcp; 0 is no limit.",
        ),
        Key::new(
            "min_requests",
            number(1, 1_000_000),
            Optional("10"),
            "Requests in flight per endpoint while the pool has little to do: its ceiling is then the share of max_requests that \
             the pool's requests are of full_load, never under this (HAProxy's minconn and fullconn), and starts slowly \
             with the endpoint.",
        ),
        Key::new(
            "full_load",
            number(1, 10_000_000),
            Optional("1000"),
            "Requests of the pool, under way and waiting, from which on max_requests holds as a whole.",
        ),
        Key::new(
            "adaptive",
            Kind::Or("off", &Kind::Table(&ADAPTIVE)),
            Default(r#""off""#),
            "Requests in flight per endpoint by how fast it answers, up to max_requests.",
        ),
        Key::new(
            "queue",
            number(0, 1_000_000),
            Default("512"),
            "Waiting requests of the pool, by priority_class of their routes and then first come first served; in a full queue the \
             newest of the lowest class gives way to a higher one. 0 unless written in a pool that serves only tcp.",
        ),
        Key::new("queue_timeout", TIMEOUT, Default(r#""5s""#), "How long one waits (503)."),
        Key::new(
            "queue_target",
            Kind::Or("off", &TIMEOUT),
            Default(r#""off""#),
            "Above what one request takes, such as \"50ms\": when the first in line of a class has waited for longer than this \
             all through queue_interval, nobody of that class waits for longer than twice this until an interval in which it passed \
             again (503).",
        ),
        Key::new(
            "queue_interval",
            TIMEOUT,
            Default(r#""100ms""#),
            "How long a line must stand before queue_target counts; shorter bursts wait as they always do.",
        ),
        Key::new(
            "queue_newest_first",
            Kind::Bool,
            Default("false"),
            "Whether who came last is served first while queue_target is exceeded: its client is most surely still there.",
        ),
        Key::new(
            "answer_head",
            size(1 << 10, 1 << 20),
            Default(r#""64KiB""#),
            "A whole response head (502).",
        ),
        Key::new(
            "answer_fields",
            number(1, 10_000),
            Default("256"),
            "Fields of a response head or trailer section (502).",
        ),
        Key::new(
            "interim_answers",
            number(0, 10_000),
            Default("32"),
            "Interim answers (1xx) to one request; more are a flood (502).",
        ),
        Key::new(
            "answer_chunk_extensions",
            size(0, 1 << 20),
            Default(r#""16KiB""#),
            "Chunk extensions of one answer; one with more breaks off.",
        ),
        Key::new(
            "idle_connections",
            number(0, 1_000_000),
            Default("256"),
            "Idle connections kept per endpoint and worker; the oldest closes when one more comes. 0 keeps none.",
        ),
        Key::new(
            "http2_connections",
            number(1, 10_000),
            Default("8"),
            "HTTP/2 connections per endpoint and worker; one more is made when all are full, beyond that requests wait for queue_timeout.",
        ),
        Key::new(
            "http2_streams",
            number(1, 100_000),
            Default("128"),
            "Requests at once on an HTTP/2 connection to an endpoint; fewer where the endpoint announces fewer.",
        ),
        Key::new(
            "http2_window",
            size(16 << 10, 64 << 20),
            Default(r#""128KiB""#),
            "What of an answer over HTTP/2 is taken from the endpoint before the client has taken any.",
        ),
        Key::new(
            "http2_frames",
            number(1, 10_000_000),
            Default("10000"),
            "Frames of each kind that are none of an answer (PING, SETTINGS, empty DATA and the like) on one HTTP/2 connection in \
             any second; an endpoint that sends more loses it.",
        ),
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
        Key::new(
            "tcp_keepalive",
            TIMEOUT,
            Default(r#""30s""#),
            "First keepalive probe of a tcp session or tunnel without a byte.",
        ),
        Key::new(
            "http2_ping",
            TIMEOUT,
            Default(r#""10s""#),
            "PING on an HTTP/2 connection with requests and without a byte; it closes after as long again without an answer.",
        ),
    ],
);
