//! The tables of keys: every section and key of a configuration, its type, range, default and meaning, as
//! data. Here are the root and what concerns the process; `listener`, `route` and `pool` have a file each, `admission` has
//! what says who is let in, and of a
//! pool `health` has the probes, `passive` all that live traffic teaches, `sticky` how clients stay.

mod admission;
mod edits;
mod gate;
mod health;
mod limits;
mod listener;
mod passive;
mod pool;
mod route;
mod sticky;
mod tls;
mod traces;
mod treatment;

use std::time::Duration;

use super::form::Form;
use super::key::{Given, Key, Kind, Section, Word};
use super::lints::LINTS;
use Given::{Default, Optional, Required};
use admission::OVERLOAD;
use listener::LISTENER;
pub(super) use passive::RETRY;
pub(super) use pool::POOL;
pub(super) use route::ROUTE;
use traces::TRACING;

const MS: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A time-out: never zero, never infinite.
const TIMEOUT: Kind = Kind::Duration { min: MS, max: LONGEST };
/// A delay that may be nothing.
const DELAY: Kind = Kind::Duration { min: Duration::ZERO, max: LONGEST };

const fn real(min: f64, max: f64) -> Kind {
    Kind::Real { min, max }
}

const fn number(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

/// A whole configuration.
pub(super) static ROOT: Section = Section::new(
    "Durations are text with a unit (ms, s, m, h, d), sizes too (B, KiB, MiB, GiB), addresses \"ip:port\", \
     \"[v6]:port\" or, of endpoints, \"host:port\", networks CIDR. \"${NAME}\" inside a text is the environment's value; \"$${\" is a plain \"${\".",
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
        Key::new(
            "tracing",
            Kind::Or("off", &Kind::Table(&TRACING)),
            Optional("{}"),
            "Traces; without this table none of their fields is looked at.",
        ),
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
        Key::new(
            "health",
            Kind::Table(&HEALTH_API),
            Optional("{}"),
            "The open health listener: /livez, /readyz and /health* without a token, for balancers above and kubelets.",
        ),
        Key::new(
            "check",
            Kind::Table(&CHECK),
            Default("{}"),
            "What `plimsoll check` holds a configuration to.",
        ),
        Key::new(
            "notify",
            Kind::List { of: &Kind::Table(&NOTIFY), min: 0 },
            Optional("[]"),
            "Where events are sent, beside the log.",
        ),
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
        Key::new(
            "upgrade_drain_timeout",
            DELAY,
            Default(r#""1h""#),
            "What live work gets in the old process after an upgrade.",
        ),
        Key::new(
            "upgrade_timeout",
            TIMEOUT,
            Default(r#""60s""#),
            "What a new process gets to be ready before an upgrade is given up.",
        ),
        Key::new(
            "zone",
            Kind::Text(Form::Any),
            Default(r#""""#),
            "Where this node stands: endpoints of the same zone are preferred. As in \"${ZONE}\"; \"\" is nowhere.",
        ),
        Key::new(
            "warm_timeout",
            Kind::Duration { min: Duration::ZERO, max: Duration::from_secs(240) },
            Default(r#""10s""#),
            "New endpoints are probed (without health: connected to) before a reload publishes them, and at the start before \
             /readyz says yes, up to this long; \"0s\" does not wait.",
        ),
        Key::new(
            "watch",
            Kind::Bool,
            Default("false"),
            "Reload when a file of the configuration, a certificate or a key changes; files of endpoints are always watched.",
        ),
        Key::new(
            "resolvers",
            Kind::List { of: &Kind::Text(Form::Resolver), min: 1 },
            Optional(r#"["127.0.0.1:53"]"#),
            "DNS servers that endpoints' names are asked of; those of /etc/resolv.conf unless given.",
        ),
        Key::new(
            "reload_guard",
            real(0.0, 1.0),
            Default("0.5"),
            "Refuse a reload that leaves a pool under this share of its usable endpoints; 0 is off.",
        ),
        Key::new(
            "overload",
            Kind::Or("off", &Kind::Table(&OVERLOAD)),
            Default("{}"),
            "When new work is turned away by the class of its listener, before anything fails; or \"off\".",
        ),
        Key::new(
            "state_dir",
            Kind::Text(Form::Any),
            Default(r#""""#),
            "Where the last good configuration, overrides and generated keys are kept, as in \"/var/lib/plimsoll\"; \"\" keeps none.",
        ),
    ],
);

pub(super) static ADMIN: Section = Section::new(
    "The admin API.",
    &[
        Key::new(
            "bind",
            Kind::Text(Form::AdminBind),
            Default(r#""127.0.0.1:9900""#),
            "A loopback address, \"unix:/path\" (mode 0600), or with token_file any other address.",
        ),
        Key::new(
            "allowed_hosts",
            Kind::List { of: &Kind::Text(Form::ExactHost), min: 0 },
            Default("[]"),
            "Host values accepted beside the loopback names, as in [\"lb1.internal\"]; others are refused (421).",
        ),
        Key::new(
            "limits",
            Kind::Table(&ADMIN_LIMITS),
            Default("{}"),
            "Ceilings; each is counted when it is reached.",
        ),
        Key::new("timeouts", Kind::Table(&ADMIN_TIMEOUTS), Default("{}"), "Times of connections."),
        Key::new(
            "token_file",
            Kind::Text(Form::Some),
            Optional(r#""admin.token""#),
            "A file of bearer tokens, one a line, that allow everything; read again when it changes. Without one, loopback may \
             look, change admin states and weights, fail over and reload, and the unix socket everything.",
        ),
        Key::new(
            "read_token_file",
            Kind::Text(Form::Some),
            Optional(r#""read.token""#),
            "A file of bearer tokens that allow GET only.",
        ),
    ],
);

static ADMIN_LIMITS: Section = Section::new(
    "Ceilings of the admin API.",
    &[
        Key::new(
            "connections",
            number(1, 10_000),
            Default("64"),
            "Connections at once; others wait to be accepted.",
        ),
        Key::new("streams", number(0, 10_000), Default("16"), "Streams of events at once (503)."),
    ],
);

static ADMIN_TIMEOUTS: Section = Section::new(
    "Times of connections to the admin API.",
    &[Key::new(
        "request_header",
        TIMEOUT,
        Default(r#""10s""#),
        "A whole request head, from when it can be sent: how long an idle connection stays.",
    )],
);

static HEALTH_LIMITS: Section = Section::new(
    "Ceilings of the open health listener.",
    &[Key::new(
        "connections",
        number(1, 10_000),
        Default("512"),
        "Connections at once; others wait to be accepted.",
    )],
);

static HEALTH_TIMEOUTS: Section = Section::new(
    "Times of connections to the open health listener.",
    &[Key::new("request_header", TIMEOUT, Default(r#""4s""#), "A whole request head.")],
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

static HEALTH_API: Section = Section::new(
    "The open health listener; absent: none. It answers GET on /livez, /readyz and /health*, and nothing else.",
    &[
        Key::new(
            "bind",
            Kind::List { of: &Kind::Text(Form::Bind), min: 1 },
            Required(r#"["0.0.0.0:9901"]"#),
            "Its addresses.",
        ),
        Key::new(
            "limits",
            Kind::Table(&HEALTH_LIMITS),
            Default("{}"),
            "Ceilings; each is counted when it is reached.",
        ),
        Key::new("timeouts", Kind::Table(&HEALTH_TIMEOUTS), Default("{}"), "Times of connections."),
    ],
);

static CHECK: Section = Section::new(
    "What `plimsoll check` holds a configuration to.",
    &[
        Key::new(
            "objective",
            TIMEOUT,
            Optional(r#""30s""#),
            "A pool whose probes may take longer to notice a dead endpoint is a finding.",
        ),
        Key::new("client_timeout", TIMEOUT, Optional(r#""60s""#), "How long clients wait for an answer."),
        Key::new(
            "allow_codes",
            Kind::List { of: &Kind::Choice(&FINDINGS), min: 0 },
            Default("[]"),
            "Findings that are not to be reported, by their codes; `plimsoll check --list-codes` and conf/lints.md say what each is.",
        ),
    ],
);

/// The codes of what `plimsoll check` finds.
static FINDINGS: [Word; LINTS.len()] = {
    let mut words = [const { Word::new("") }; LINTS.len()];
    let mut at = 0;
    while at < LINTS.len() {
        words[at] = Word::new(LINTS[at].code);
        at += 1;
    }
    words
};

static NOTIFY: Section = Section::new(
    "Where events are sent, beside the log: a webhook or a program.",
    &[
        Key::new(
            "webhook",
            Kind::Text(Form::Webhook),
            Optional(r#""https://hooks.internal/lb""#),
            "A URL that gets each event as JSON by POST; retried within bounds.",
        ),
        Key::new(
            "exec",
            Kind::List { of: &Kind::Text(Form::Some), min: 1 },
            Optional(r#"["/usr/local/bin/page"]"#),
            "Or: a program with its arguments, run for each event, which it reads as JSON; no shell.",
        ),
        Key::new(
            "events",
            Kind::List {
                of: &Kind::Choice(&[
                    Word::new("endpoint"),
                    Word::new("tier"),
                    Word::new("pool"),
                    Word::new("breaker"),
                    Word::new("reload"),
                    Word::new("process"),
                ]),
                min: 1,
            },
            Default(r#"["endpoint", "tier", "pool", "breaker", "reload", "process"]"#),
            "Changes of what: endpoint, tier, pool (its leader too), breaker, reload, process (our own sickness, drain).",
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

#[cfg(test)]
mod tests {
    use super::super::walk::read_text;
    use super::*;

    fn check(section: &'static Section, path: &str) {
        for key in section.keys.iter() {
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
