//! The keys of `[listener.NAME]` and of the tables in it, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::{TIMEOUT, number, size};
use Given::{Default, Optional, Required};

pub(in super::super) static LISTENER: Section = Section::new(
    "A listener: one or more bound addresses and a protocol.",
    &[
        Key::new(
            "bind",
            Kind::List { of: &Kind::Text(Form::BindAny), min: 1 },
            Required(r#"["127.0.0.1:8080"]"#),
            "Addresses; \"[::]:80\" binds IPv6 only. \"unix:/path\" is a unix socket, whose clients have no address: rules, records \
             and X-Forwarded-For know them as 0.0.0.0. Its file is replaced when nobody listens on it, and goes with the listener.",
        )
        .own(),
        Key::new(
            "unix_mode",
            Kind::Choice(&[Word::new("0600"), Word::new("0660"), Word::new("0666")]),
            Default(r#""0660""#),
            "Who may connect to its unix sockets, as the mode of the file.",
        ),
        Key::new(
            "protocol",
            Kind::Choice(&[Word::new("http"), Word::new("tcp"), Word::new("udp")]),
            Default(r#""http""#),
            "http goes on by routes, tcp and udp to one pool.",
        ),
        Key::new("pool", Kind::Text(Form::Name), Optional(r#""api""#), "The pool of a tcp or udp listener.")
            .own(),
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
            "Connections at once; at the ceiling accepting pauses. Of a udp listener sessions: at the ceiling one that has been quiet for a second \
             gives way, else the newcomer's datagram is dropped. Also bounded by the descriptor limit.",
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
        Key::new(
            "when_empty",
            Kind::Or("reset", &Kind::Or("stop_listening", &Kind::Table(&HOLD))),
            Optional(r#""reset""#),
            "What connections of a tcp listener get when no endpoint of the pool and its failover accepts: \"reset\" (the default), \
             \"stop_listening\" (after 3 s without any), or { hold = \"30s\", max = 1000 }.",
        ),
    ],
);

static HOLD: Section = Section::new(
    "Connections that wait for an endpoint.",
    &[
        Key::new("hold", TIMEOUT, Default(r#""30s""#), "How long a connection waits, then it is reset."),
        Key::new(
            "max",
            number(1, 1_000_000),
            Default("1000"),
            "How many wait at once; the others are reset.",
        ),
    ],
);

static LISTENER_LIMITS: Section = Section::new(
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
        Key::new(
            "chunk_extensions",
            size(0, 1 << 20),
            Default(r#""16KiB""#),
            "Chunk extensions of one request body (400): padding bytes with them is an attack.",
        ),
        Key::new(
            "linger",
            size(0, 1 << 30),
            Default(r#""1MiB""#),
            "What is still read of a client after its last answer, so that no reset overtakes that.",
        ),
        Key::new(
            "backlog",
            number(1, 65_535),
            Default("4096"),
            "Connections that wait to be accepted, for each worker; the kernel cuts it to net.core.somaxconn.",
        ),
        Key::new(
            "udp_datagram",
            size(1, 65_535),
            Default(r#""65535B""#),
            "A datagram of a udp listener, either way; longer ones are dropped.",
        ),
        Key::new(
            "udp_answers",
            number(0, 1_000_000),
            Default("0"),
            "Datagrams of the endpoint after which a udp session ends (1 suits DNS); 0 is no limit.",
        ),
    ],
);

static LISTENER_TIMEOUTS: Section = Section::new(
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
        Key::new(
            "linger",
            TIMEOUT,
            Default(r#""2s""#),
            "How long is read of a client after its last answer; see limits.",
        ),
        Key::later("tls_handshake"),
        Key::new(
            "udp_idle",
            TIMEOUT,
            Default(r#""30s""#),
            "A session of a udp listener without a datagram either way.",
        ),
    ],
);
