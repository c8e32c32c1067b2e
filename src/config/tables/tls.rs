//! The keys of TLS towards endpoints, as data: of a pool and of its probes.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::number;
use Given::{Default, Optional, Required};

pub(super) static POOL_TLS: Section = Section::new(
    "TLS to the endpoints; verified. Probes have it too, unless they have their own. A failed handshake is a failed connect.",
    &[
        Key::new(
            "server_name",
            Kind::Or("{host}", &Kind::Text(Form::ExactHost)),
            Optional(r#""api.internal""#),
            "The name that is asked for (SNI) and that the certificate must have: a host, or \"{host}\" for the request's. By \
             default the endpoint's: its host as written, or else its address.",
        ),
        CA,
        CERT,
        KEY,
        VERIFY_KEY,
        MIN_VERSION,
        Key::new(
            "sessions",
            number(0, 100_000),
            Default("64"),
            "So many sessions of each endpoint can be resumed, 8 for each name that is asked for; 0 is none.",
        ),
    ],
);

pub(super) static PROBE_TLS: Section = Section::new(
    "TLS of a probe; verified, and in full each time.",
    &[
        Key::new(
            "server_name",
            Kind::Text(Form::ExactHost),
            Optional(r#""kubernetes""#),
            "The name that is asked for (SNI) and that the certificate must have; by default the endpoint's: its host as \
             written, or else its address.",
        ),
        CA,
        CERT,
        KEY,
        VERIFY_KEY,
        MIN_VERSION,
    ],
);

const CA: Key = Key::new(
    "ca",
    Kind::Text(Form::Some),
    Optional(r#""ca.crt""#),
    "Certificates that are trusted, PEM; by default the system's.",
);
const CERT: Key = Key::new(
    "cert",
    Kind::Text(Form::Some),
    Optional(r#""client.crt""#),
    "Our own certificate, PEM; needs key.",
);
const KEY: Key =
    Key::new("key", Kind::Text(Form::Some), Optional(r#""client.key""#), "Its key, PEM; needs cert.");
const VERIFY_KEY: Key = Key::new(
    "verify",
    Kind::Table(&VERIFY),
    Optional(r#"{ off = "self-signed, in a lab" }"#),
    "Only to switch verification off.",
);
const MIN_VERSION: Key = Key::new(
    "min_version",
    Kind::Choice(&[Word::new("1.2"), Word::new("1.3")]),
    Default(r#""1.2""#),
    "The oldest version of TLS that is spoken.",
);

static VERIFY: Section = Section::new(
    "Only to switch verification off.",
    &[Key::new(
        "off",
        Kind::Text(Form::Some),
        Required(r#""reason why""#),
        "The reason, which status shows.",
    )],
);
