//! The keys of `rate_limit` and `concurrency_limit` of a route, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::{TIMEOUT, number};
use Given::{Default, Optional, Required};

pub(super) const RATE_LIMITS: Kind = Kind::OneOrList(&Kind::Table(&RATE_LIMIT));
pub(super) const CONCURRENCY_LIMITS: Kind = Kind::OneOrList(&Kind::Table(&CONCURRENCY_LIMIT));

static RATE_LIMIT: Section = Section::new(
    "How fast requests of one key may come. Of several limits all must pass, and one that stops a request leaves the others \
     uncharged.",
    &[
        Key::new(
            "name",
            Kind::Text(Form::Name),
            Optional(r#""api""#),
            "Its name in metrics and headers: by default the route's, from the second on with \"-2\" and so on behind it. Limits of \
             the same name count together, and need the same key, rate and size.",
        ),
        key(),
        Key::new(
            "rate",
            Kind::Text(Form::Rate),
            Required(r#""100/s""#),
            "How many in a second (/s), minute (/m) or hour (/h), evenly spread.",
        ),
        Key::new(
            "burst",
            number(0, 1_000_000),
            Default("0"),
            "How many may come ahead of the rate: one more than this pass at once.",
        ),
        Key::new(
            "delay",
            number(0, 1_000_000),
            Optional("0"),
            "So many of the burst go on at once, the others are held until they are due. By default none is held; 0 holds all that \
             come ahead, as nginx does without nodelay.",
        ),
        Key::new(
            "on_limit",
            Kind::Choice(&[Word::new("reject"), Word::new("drop"), Word::new("tarpit"), Word::new("count")]),
            Default(r#""reject""#),
            "What becomes of those that come too fast: reject (status, with Retry-After), drop (the connection is closed without an \
             answer; over HTTP/2 the stream), tarpit (held, then rejected), or count (they pass and are only counted).",
        ),
        Key::new("status", number(400, 599), Default("429"), "The status of a rejection."),
        Key::new(
            "headers",
            Kind::Choice(&[Word::new("off"), Word::new("rejected"), Word::new("all")]),
            Default(r#""rejected""#),
            "Which answers have RateLimit and RateLimit-Policy: none, rejections, or all.",
        ),
        Key::new(
            "tarpit",
            TIMEOUT,
            Default(r#""10s""#),
            "With on_limit = \"tarpit\": how long requests are held.",
        ),
        Key::new(
            "tarpit_max",
            number(1, 1_000_000),
            Default("1000"),
            "How many are held at once; more are rejected without being held.",
        ),
        Key::new(
            "size",
            number(1, 100_000_000),
            Default("100000"),
            "Keys that are remembered, at about 50 bytes each. Beyond, those are forgotten first that have their whole burst again.",
        ),
        prefix_v4(),
        prefix_v6(),
    ],
);

static CONCURRENCY_LIMIT: Section = Section::new(
    "How many requests of one key may be under way; a tunnel is under way until it ends.",
    &[
        Key::new(
            "name",
            Kind::Text(Form::Name),
            Optional(r#""api""#),
            "Its name in metrics, as that of a rate limit. Limits of the same name count together, and need the same key.",
        ),
        key(),
        Key::new("max", number(1, 1_000_000), Required("10"), "How many."),
        Key::new("status", number(400, 599), Default("429"), "The status of an answer to those beyond."),
        prefix_v4(),
        prefix_v6(),
    ],
);

const fn key() -> Key {
    Key::new(
        "key",
        Kind::OneOrList(&Kind::Text(Form::LimitKey)),
        Default(r#""source""#),
        "What tells requests apart, or a list of what together does: source, header:NAME, cookie:NAME, query:NAME, path, host, \
         listener, or global (nothing does). A request that has none of what is named is not limited.",
    )
}

const fn prefix_v4() -> Key {
    Key::new("prefix_v4", number(1, 32), Default("32"), "Bits of an IPv4 source that tell clients apart.")
}

const fn prefix_v6() -> Key {
    Key::new(
        "prefix_v6",
        number(1, 128),
        Default("64"),
        "Bits of an IPv6 source that do: one client mostly has a whole /64.",
    )
}
