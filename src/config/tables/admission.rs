//! The keys that say who is let in when not all can be, as data.

use super::super::key::{Given, Key, Kind, Section, Word};
use super::{DELAY, TIMEOUT, number, real};
use Given::Default;

/// `priority_class` of a route.
pub(super) const PRIORITY_CLASS: Key = Key::new(
    "priority_class",
    Kind::Choice(&[Word::new("high"), Word::new("normal"), Word::new("low")]),
    Default(r#""normal""#),
    "Whose turn it is where requests wait for an endpoint: high before normal before low, each first come first served; one \
     place in 16 goes to whoever has waited longest, so that no class waits for ever.",
);

/// `class` of a listener.
pub(super) const LISTENER_CLASS: Key = Key::new(
    "class",
    Kind::Choice(&[Word::new("default"), Word::new("critical"), Word::new("sheddable")]),
    Default(r#""default""#),
    "What its new work is worth when the process is overloaded (see overload of [process]): sheddable is turned away first, \
     default when it gets worse, critical never. Requests get 503 with Retry-After, tcp connections a reset, udp sessions do \
     not begin.",
);

/// `overload` of the process.
pub(super) static OVERLOAD: Section = Section::new(
    "When the process gives something up before it fails. From 90 % of memory or descriptors on, connections of listeners that \
     are not critical close once they are idle; from the threshold on, new work of sheddable listeners is turned away, and \
     from half way between it and all (twice of lag) that of all but critical ones.",
    &[
        Key::new(
            "memory",
            Kind::Or("off", &real(0.0001, 1.0)),
            Default("0.9"),
            "The share of the memory that the process may have (the least limit of its control groups, else the machine's).",
        ),
        Key::new(
            "descriptors",
            Kind::Or("off", &real(0.0001, 1.0)),
            Default("0.9"),
            "The share of the descriptors that it may have open.",
        ),
        Key::new(
            "lag",
            Kind::Or("off", &TIMEOUT),
            Default(r#""1s""#),
            "How late timers of a worker run, twice in a row; nothing that is idle is closed for that.",
        ),
        Key::new("hold", DELAY, Default(r#""5s""#), "How long it must be better before less is given up."),
    ],
);

/// `adaptive` of a pool's limits.
pub(super) static ADAPTIVE: Section = Section::new(
    "Requests in flight per endpoint, found out by how long it takes to answer (Envoy's gradient): from time to time it is \
     measured with few at once, and then lets in what makes answers no slower than that and the headroom. Never above \
     max_requests.",
    &[
        Key::new("min", number(1, 1_000_000), Default("3"), "Never fewer, and as few while it is measured."),
        Key::new("baseline_every", TIMEOUT, Default(r#""60s""#), "How often it is measured anew."),
        Key::new(
            "headroom",
            real(0.01, 10.0),
            Default("0.25"),
            "How much slower answers may be, as a share of the time that they take without load.",
        ),
    ],
);
