//! The keys of `[pool.NAME.health]`, active probes, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::tls::PROBE_TLS;
use super::{LONGEST, TIMEOUT, number, real};
use Given::{Default, Optional};
use std::time::Duration;

const PORT: Kind = number(1, 65_535);
/// More often than this would be an attack.
const INTERVAL: Kind = Kind::Duration { min: Duration::from_millis(10), max: LONGEST };

pub(in super::super) static HEALTH: Section = Section::new(
    "Active probes, or \"off\". The first result decides; then rise and fall count results in a row.",
    &[
        Key::new(
            "check",
            Kind::Choice(&[
                Word::new("http"),
                Word::new("tcp"),
                Word::new("udp"),
                Word::new("tls"),
                Word::new("grpc"),
                Word::new("postgres"),
                Word::new("mysql"),
                Word::new("redis"),
                Word::new("agent"),
                Word::new("exec"),
            ]),
            Default(r#""http""#),
            "What is asked: http, tcp, udp, tls, grpc (grpc.health.v1), postgres, mysql, redis, agent (HAProxy's agent-check), exec.",
        ),
        Key::new(
            "path",
            Kind::Text(Form::PathAndQuery),
            Default(r#""/""#),
            "http: the path, with or without a query.",
        ),
        Key::new("method", Kind::Text(Form::Method), Default(r#""GET""#), "http: the method."),
        Key::new(
            "host",
            Kind::Text(Form::Authority),
            Optional(r#""api.example.com""#),
            "http, grpc: the Host; by default the address that is asked.",
        ),
        Key::new(
            "headers",
            Kind::Map { key: Form::ProbeField, of: &Kind::Text(Form::FieldValue) },
            Default("{}"),
            "http: further fields of the request.",
        ),
        Key::new(
            "expect_status",
            Kind::List { of: &Kind::Text(Form::Statuses), min: 1 },
            Default(r#"["200-299"]"#),
            "http: statuses of a good answer.",
        ),
        Key::new(
            "expect_body",
            Kind::Text(Form::Regex),
            Optional(r#""ok""#),
            "http: a regular expression that the body must match.",
        ),
        Key::new(
            "port",
            PORT,
            Optional("8008"),
            "The port that is asked; the endpoint's unless given. An agent needs one.",
        ),
        Key::new(
            "send_proxy",
            Kind::Bool,
            Optional("true"),
            "Whether probes begin with a PROXY header as the pool's send_proxy has it, one that says LOCAL; by default those do \
             that go to the endpoint's own address and port.",
        ),
        Key::new(
            "tls",
            Kind::Or("off", &Kind::Table(&PROBE_TLS)),
            Optional(r#"{ server_name = "kubernetes", ca = "ca.crt" }"#),
            "http, tcp, tls, grpc, postgres, mysql, redis: TLS, verified; the check tls always has it. What is not written is as in \
             tls of the pool; \"off\" is none although the pool has it.",
        ),
        Key::new(
            "send",
            Kind::Text(Form::Any),
            Optional(r#""PING\r\n""#),
            "tcp, udp, agent: what is sent first. A udp check without it sends an empty datagram.",
        ),
        Key::new(
            "expect",
            Kind::Pattern,
            Optional(r#"{ regex = "^\\+PONG" }"#),
            "tcp, udp: what must be in the first bytes of the answer: a text, or { regex = \"...\" }. A udp check without it takes silence for a yes and a refusal (ICMP) for a no.",
        ),
        Key::new(
            "service",
            Kind::Text(Form::Any),
            Default(r#""""#),
            "grpc: the service; \"\" is the whole server.",
        ),
        Key::new(
            "user",
            Kind::Text(Form::Some),
            Optional(r#""plimsoll""#),
            "postgres, mysql: the user that is named; without one mysql reads the greeting only.",
        ),
        Key::new(
            "role",
            Kind::Choice(&[Word::new("any"), Word::new("primary")]),
            Default(r#""any""#),
            "redis: whether replicas are good too.",
        ),
        Key::new(
            "command",
            Kind::List { of: &Kind::Text(Form::Some), min: 1 },
            Optional(r#"["/usr/local/bin/probe", "--quick"]"#),
            "exec: a program with its arguments, no shell; status 0 is good.",
        ),
        Key::new(
            "interval",
            INTERVAL,
            Default(r#""2s""#),
            "From the end of one probe to the start of the next.",
        ),
        Key::new(
            "timeout",
            TIMEOUT,
            Default(r#""2500ms""#),
            "Limit of a whole probe: connect, TLS and answer together; above one SYN retransmission on purpose.",
        ),
        Key::new("rise", number(1, 1000), Default("2"), "Good results in a row that bring it up."),
        Key::new("fall", number(1, 1000), Default("3"), "Bad results in a row that bring it down."),
        Key::new(
            "fast_interval",
            INTERVAL,
            Optional(r#""500ms""#),
            "The interval after the first result that disagrees with the state; by default \"500ms\", or interval if less.",
        ),
        Key::new(
            "down_interval",
            INTERVAL,
            Optional(r#""2s""#),
            "The interval while down; by default interval.",
        ),
        Key::new(
            "jitter",
            real(0.0, 0.5),
            Default("0.1"),
            "Each interval is drawn from 1 - jitter to 1 + jitter of it.",
        ),
        Key::new(
            "damping",
            Kind::Or("off", &Kind::Table(&DAMPING)),
            Default("{}"),
            "Flap damping: what falls too often is held down for a while, or \"off\". Off in exclusive pools unless written.",
        ),
        Key::new(
            "on_demotion",
            Kind::Or("off", &Kind::Table(&ON_DEMOTION)),
            Default(r#""off""#),
            "Live connections when the probe says no; { close_after = \"0s\" } in exclusive pools unless written.",
        ),
        Key::new(
            "on_unreachable",
            Kind::Or("off", &Kind::Table(&ON_UNREACHABLE)),
            Default(r#"{ close_after = "2s", rate = "500/s" }"#),
            "Live tcp connections and tunnels when the probe cannot be asked and the traffic port does not accept either.",
        ),
        Key::new(
            "shed",
            Kind::Or("off", &Kind::Table(&SHED)),
            Default(r#""off""#),
            "Once an endpoint has returned, long-lived tcp sessions of the others end at this rate until it has its share.",
        ),
    ],
);

static DAMPING: Section = Section::new(
    "Flap damping: each fall adds 1 to a penalty that halves every half_life.",
    &[
        Key::new("half_life", TIMEOUT, Default(r#""60s""#), "Time in which the penalty halves."),
        Key::new("suppress", real(1.0, 1000.0), Default("3.0"), "From this penalty on it is held down."),
        Key::new("reuse", real(0.1, 1000.0), Default("1.0"), "Under this penalty it is let up again."),
        Key::new("max_time", TIMEOUT, Default(r#""5m""#), "It is never held for longer than this."),
    ],
);

static ON_DEMOTION: Section = Section::new(
    "What happens to live connections when the probe says no.",
    &[
        Key::new("close_after", super::DELAY, Default(r#""0s""#), "They are closed after so long."),
        Key::new(
            "rate",
            Kind::Text(Form::Rate),
            Optional(r#""500/s""#),
            "At this rate; all at once unless given.",
        ),
    ],
);

static ON_UNREACHABLE: Section = Section::new(
    "What happens to live connections when the endpoint is not there.",
    &[
        Key::new("close_after", super::DELAY, Default(r#""2s""#), "They are closed after so long."),
        Key::new("rate", Kind::Text(Form::Rate), Default(r#""500/s""#), "At this rate."),
    ],
);

static SHED: Section = Section::new(
    "How sessions are moved to an endpoint that has returned.",
    &[Key::new("rate", Kind::Text(Form::Rate), Default(r#""5/s""#), "So many sessions of the pool.")],
);

pub(super) static ENDPOINT_HEALTH: Section = Section::new(
    "Where the probes of an endpoint go.",
    &[
        Key::new("address", Kind::Text(Form::Ip), Optional(r#""10.0.1.11""#), "Another IP address."),
        Key::new("port", PORT, Optional("9000"), "Another port."),
    ],
);
