//! The keys of `sticky` of a pool, as data.

use std::time::Duration;

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::{LONGEST, TIMEOUT, number};
use Given::{Default, Optional};

/// Cookies count in whole seconds.
const SECONDS: Kind =
    Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(400 * 24 * 60 * 60) };

pub(super) static STICKY: Section = Section::new(
    "A client keeps coming to the endpoint that it came to first: by a signed cookie, or by a part of what it sends that a \
     table knows. A drained endpoint, or one of weight 0, keeps its clients for `drain_timeout` of the pool; an attempt that \
     failed binds its client anew. While an endpoint has no room its clients wait for it, in the pool's queue.",
    &[
        Key::new(
            "cookie",
            Kind::Text(Form::CookieName),
            Optional(r#""plimsoll_api""#),
            "The name of the cookie; plimsoll_ and the pool's name unless given. It has no address in it, and endpoints do not \
             see it. Pools of a split may have one name.",
        ),
        Key::new(
            "table",
            Kind::Text(Form::TableKey),
            Optional(r#""source""#),
            "In the place of a cookie: source, header:NAME, cookie:NAME or query:NAME. Who does not have it is balanced.",
        ),
        Key::new(
            "size",
            number(1, 10_000_000),
            Default("200000"),
            "Entries of the table; who has not come for the longest gives way to newcomers.",
        ),
        Key::new("expire", TIMEOUT, Default(r#""30m""#), "How long an entry of the table holds without use."),
        Key::new(
            "learn",
            Kind::Bool,
            Default("false"),
            "With table = \"cookie:NAME\": entries come from what endpoints set in that cookie, and from nothing else.",
        ),
        Key::new(
            "max_age",
            SECONDS,
            Optional(r#""48h""#),
            "For how long a cookie counts from when it was made; without it, until the client ends its session.",
        ),
        Key::new(
            "max_idle",
            Kind::Duration { min: Duration::from_secs(1), max: LONGEST },
            Optional(r#""30m""#),
            "A client that has not come for so long is new: measured to an eighth, for which its cookie is renewed. In a table, \
             with failback = \"idle\", of those that are away.",
        ),
        Key::new(
            "key_file",
            Kind::Text(Form::Some),
            Optional(r#""sticky.key""#),
            "A file of keys, one a line, each of at least 32 bytes: the first signs, all verify; nodes with the same file take \
             each other's cookies. Without it, a key of our own: kept in state_dir if there is one.",
        ),
        Key::new("path", Kind::Text(Form::Path), Default(r#""/""#), "Below which path the cookie is sent."),
        Key::new(
            "domain",
            Kind::Text(Form::ExactHost),
            Optional(r#""example.com""#),
            "To which domain, and all below it, the cookie is sent; unless given to the host that set it.",
        ),
        Key::new(
            "same_site",
            Kind::Choice(&[Word::new("lax"), Word::new("strict"), Word::new("none")]),
            Default(r#""lax""#),
            "On which requests from other sites the cookie is sent.",
        ),
        Key::new(
            "secure",
            Kind::Choice(&[Word::new("auto"), Word::new("always"), Word::new("never")]),
            Default(r#""auto""#),
            "Whether the cookie is for TLS only: auto is where the client came by TLS, always is for when somebody before us \
             ends it.",
        ),
        Key::new(
            "when_down",
            Kind::Choice(&[Word::new("rebalance"), Word::new("fail")]),
            Default(r#""rebalance""#),
            "A client whose endpoint cannot be used: is bound to another one, or fails (503) until it is back.",
        ),
        Key::new(
            "failback",
            Kind::Choice(&[Word::new("stay"), Word::new("idle"), Word::new("expiry")]),
            Default(r#""stay""#),
            "A client that had to go to a backup tier or a failover pool: stays for as long as it comes, comes home when it was \
             idle for `max_idle`, or when its binding is as old as `max_age` (in a table `expire`).",
        ),
    ],
);
