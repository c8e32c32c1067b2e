//! The keys of what stands before a route and of the pages in the place of errors, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section};
use super::DELAY;
use Given::{Default, Optional, Required};

pub(super) static MAINTENANCE: Section = Section::new(
    "The route is out of service (503).",
    &[
        Key::new(
            "page",
            Kind::Short(&PAGE, "file"),
            Optional(r#""maintenance.html""#),
            "What clients are told, as in error_pages; else the page of 503, if there is one.",
        ),
        Key::new(
            "allow",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Clients for whom it is in service all the same.",
        ),
        Key::new("retry_after", DELAY, Optional(r#""10m""#), "What clients are asked to wait."),
    ],
);

pub(super) const ERROR_PAGES: Kind = Kind::Map { key: Form::PageStatus, of: &Kind::Short(&PAGE, "file") };

static PAGE: Section = Section::new(
    "A page.",
    &[
        Key::new(
            "file",
            Kind::Text(Form::Some),
            Required(r#""sorry.html""#),
            "A file of at most 1 MiB, relative to this one; read with the configuration, and with process.watch again when it \
             changes.",
        ),
        Key::new(
            "content_type",
            Kind::Text(Form::Some),
            Optional(r#""text/html; charset=utf-8""#),
            "What it is; by default what the end of its name says.",
        ),
        Key::new(
            "template",
            Kind::Bool,
            Default("false"),
            "Whether there are variables in it, as in respond, and {status}.",
        ),
    ],
);

pub(super) static CORS: Section = Section::new(
    "What scripts of other origins may do (the Fetch Standard). Preflight requests are answered here, and what endpoints say \
     of it is replaced.",
    &[
        Key::new(
            "origins",
            Kind::List { of: &Kind::Text(Form::Some), min: 1 },
            Required(r#"["https://app.example", "https://*.app.example"]"#),
            "Origins; \"*\" is every one, and cannot stand beside credentials.",
        ),
        Key::new(
            "methods",
            Kind::List { of: &Kind::Text(Form::Method), min: 0 },
            Default(r#"["GET", "HEAD", "POST"]"#),
            "Methods that they may use.",
        ),
        Key::new(
            "headers",
            Kind::List { of: &Kind::Text(Form::Field), min: 0 },
            Default("[]"),
            "Fields that they may send, as in [\"authorization\", \"content-type\"]; \"*\" is any.",
        ),
        Key::new(
            "expose",
            Kind::List { of: &Kind::Text(Form::Field), min: 0 },
            Default("[]"),
            "Fields of answers that they may read.",
        ),
        Key::new(
            "credentials",
            Kind::Bool,
            Default("false"),
            "Whether cookies and authorization come along.",
        ),
        Key::new("max_age", DELAY, Optional(r#""10m""#), "How long a browser may remember what is allowed."),
    ],
);
