//! The keys of a pool about what live traffic teaches: ejection, breaker and retry, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::{TIMEOUT, number, real, size};
use Given::{Default, Optional};

const CAUSES: Kind = Kind::List { of: &Kind::Text(Form::Cause), min: 0 };
/// A share of which none would be always and all never.
const SHARE: Kind = real(0.001, 1.0);

pub(super) static OUTLIER: Section = Section::new(
    "Passive ejection, or \"off\": an endpoint on which live traffic fails is taken out for a time. Never the last usable one.",
    &[
        Key::new(
            "count",
            CAUSES,
            Default(r#"["connect", "reset", "timeout"]"#),
            "What is a failure; add statuses such as \"500\" or \"502-504\".",
        ),
        Key::new("consecutive_failures", number(0, 1_000_000), Default("5"), "So many in a row; 0 is off."),
        Key::new(
            "failure_ratio",
            Kind::Or("off", &SHARE),
            Default("0.5"),
            "This share of failures within the window, or \"off\".",
        ),
        Key::new(
            "minimum_requests",
            number(1, 1_000_000),
            Default("20"),
            "The share is judged from so many requests within the window on.",
        ),
        Key::new("window", TIMEOUT, Default(r#""10s""#), "The sliding window."),
        Key::new(
            "ejection_time",
            TIMEOUT,
            Default(r#""10s""#),
            "How long it is out, times the number of ejections.",
        ),
        Key::new("max_ejection_time", TIMEOUT, Default(r#""5m""#), "No ejection lasts longer."),
        Key::new(
            "max_ejected",
            Kind::Amount { min: 0 },
            Default(r#""50%""#),
            "So many may be out at once by ratio, status or latency; a share is one at least where a failover pool is \
             usable.",
        ),
        Key::new(
            "latency",
            Kind::Or("off", &Kind::Table(&LATENCY)),
            Default(r#""off""#),
            "Ejection of endpoints that answer much later than the others, as in { factor = 3.0, minimum_requests = 20 }.",
        ),
        Key::new(
            "max_fails",
            number(0, 1_000_000),
            Optional("1"),
            "nginx's rule, in place of consecutive_failures and failure_ratio: so many failures within fail_timeout; 0 is never.",
        ),
        Key::new(
            "fail_timeout",
            TIMEOUT,
            Optional(r#""10s""#),
            "Of nginx's rule: within so long, and for so long; \"10s\" unless given.",
        ),
    ],
);

static LATENCY: Section = Section::new(
    "Ejection of endpoints that answer much later than the others.",
    &[
        Key::new(
            "factor",
            real(1.1, 1000.0),
            Default("3.0"),
            "So many times the median of the pool's means to the response head.",
        ),
        Key::new(
            "minimum_requests",
            number(1, 1_000_000),
            Default("20"),
            "Endpoints with fewer requests in the window are not judged.",
        ),
        Key::new("floor", TIMEOUT, Default(r#""50ms""#), "Means under this are never too late."),
    ],
);

pub(super) static BREAKER: Section = Section::new(
    "A breaker, or \"off\": it opens on failures, and then nothing is asked for a while but a few trials.",
    &[
        Key::new(
            "scope",
            Kind::Choice(&[Word::new("endpoint"), Word::new("pool")]),
            Default(r#""endpoint""#),
            "One for each endpoint, or one for the pool.",
        ),
        Key::new(
            "failure_threshold",
            number(0, 1_000_000),
            Default("5"),
            "So many failures in a row; 0 is off, which it is where only failure_ratio is written.",
        ),
        Key::new(
            "failure_ratio",
            Kind::Or("off", &SHARE),
            Default(r#""off""#),
            "This share of failures within the window, as in 0.5.",
        ),
        Key::new(
            "minimum_requests",
            number(1, 1_000_000),
            Default("20"),
            "The share is judged from so many requests within the window on.",
        ),
        Key::new("success_threshold", number(1, 1_000_000), Default("2"), "So many good trials close it."),
        Key::new("window", TIMEOUT, Default(r#""60s""#), "The sliding window."),
        Key::new(
            "open_time",
            TIMEOUT,
            Default(r#""60s""#),
            "How long it is open: exact the first time, then doubled, up to ten times, with jitter.",
        ),
        Key::new("half_open_requests", number(1, 1000), Default("1"), "Trials at once."),
        Key::new(
            "count",
            CAUSES,
            Default(r#"["connect", "reset", "timeout", "500-599"]"#),
            "What is a failure.",
        ),
    ],
);

pub(in super::super) static RETRY: Section = Section::new(
    "Which failures are tried again, or \"off\".",
    &[
        Key::new("attempts", number(1, 100), Default("3"), "Tries in all, each on a different endpoint."),
        Key::new(
            "on",
            CAUSES,
            Default(r#"["connect", "reset"]"#),
            "What is tried again: connect, reset, timeout, statuses such as \"502\" or \"502-504\", and those of gRPC, such as \
             \"grpc-unavailable\", of calls that have no answer but that.",
        ),
        Key::new(
            "per_try_timeout",
            Kind::Or("off", &TIMEOUT),
            Default(r#""off""#),
            "Limit of a try to its response head where another would follow it; the last has response_header. It adds \"timeout\" \
             to on where that is not written, and does nothing where on is written without it.",
        ),
        Key::new("within", TIMEOUT, Default(r#""10s""#), "No new attempt starts later than this."),
        Key::new(
            "non_idempotent",
            Kind::Or("with_idempotency_key", &Kind::Bool),
            Default("false"),
            "Whether requests such as POST are tried again though they may have been acted on: false, true, or \
             \"with_idempotency_key\" (those with that field).",
        ),
        Key::new(
            "max_body",
            size(0, 64 << 20),
            Default(r#""64KiB""#),
            "Request bodies are kept for a repeat up to here.",
        ),
        Key::new(
            "hedge",
            Kind::Or("off", &Kind::Table(&HEDGE)),
            Default(r#""off""#),
            "A second try beside one whose answer is late, inside the budget: the first answer is taken.",
        ),
        Key::new(
            "budget",
            Kind::Or("off", &Kind::Table(&BUDGET)),
            Default("{}"),
            "How much of the traffic may be retries, or \"off\".",
        ),
    ],
);

static HEDGE: Section = Section::new(
    "A second try on another endpoint of the tier, beside one whose answer is late: only of what may be sent twice. The \
     first answer is taken, the other try is cancelled.",
    &[
        Key::new(
            "after",
            real(0.5, 0.9999),
            Default("0.95"),
            "The quantile of the pool's times to the response head after which the second try starts.",
        ),
        Key::new("min_delay", TIMEOUT, Default(r#""5ms""#), "It never starts sooner."),
        Key::new(
            "max_delay",
            Kind::Or("off", &TIMEOUT),
            Default(r#""off""#),
            "It never waits for longer, also while there are too few answers to tell the quantile.",
        ),
    ],
);

static BUDGET: Section = Section::new(
    "How much of a pool's traffic may be retries, or \"off\": one for all routes; failed connects do not draw on it.",
    &[
        Key::new("ratio", real(0.0, 10.0), Default("0.2"), "Retries per request, over 10 s."),
        Key::new("minimum_per_second", number(0, 100_000), Default("3"), "So many are always allowed."),
    ],
);
