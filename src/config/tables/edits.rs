//! The keys of what a route changes in requests and answers, and of the answers that it gives by itself, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section};
use super::number;
use Given::{Default, Optional, Required};

/// What every text with variables says of them.
pub(super) const VARIABLES: &str = "Variables in it: {client} (the client's address after trust), {client_port}, {peer}, {host} (with \
     its port), {hostname}, {path}, {query}, {?query} (behind its question mark, where there is one), {uri} (both), \
     {scheme}, {method}, {request_id}, {listener}, {route}, {tls_version}, {tls_cipher}, {sni}, {header:NAME}, \
     {cookie:NAME}, {query:NAME}; {{host}} is the text {host}.";

pub(super) static REDIRECT: Section = Section::new(
    "A redirect.",
    &[
        Key::new(
            "to",
            Kind::Text(Form::Location),
            Required(r#""https://{host}{uri}""#),
            "Where to, with variables as in request_headers; {path} has no query, {query} no question mark; {?query} has \
             it where there is a query, {uri} is both. {1}, {2} and {group:NAME} are groups of the route's path_regex.",
        ),
        Key::new("status", Kind::OneOf(&[301, 302, 303, 307, 308]), Default("308"), "The status."),
    ],
);

pub(super) static RESPOND: Section = Section::new(
    "A fixed answer.",
    &[
        Key::new("status", number(200, 599), Required("503"), "The status."),
        Key::new(
            "body",
            Kind::Text(Form::Body),
            Default(r#""""#),
            "The body, with variables as in request_headers; a brace that begins no name is text. What is put into HTML or \
             JSON is escaped as these ask for.",
        ),
        Key::new(
            "content_type",
            Kind::Text(Form::FieldValue),
            Default(r#""text/plain; charset=utf-8""#),
            "What the body is.",
        ),
    ],
);

pub(super) static REQUEST_HEADERS: Section = Section::new(
    "Edits to a request head: first remove, then rename, then set, then add.",
    &[
        edit_remove(),
        edit_rename(),
        Key::new(
            "set",
            Kind::Map { key: Form::SetField, of: &Kind::Text(Form::RequestValue) },
            Default("{}"),
            VARIABLES,
        ),
        Key::new(
            "add",
            Kind::Map { key: Form::EditedField, of: &Kind::Text(Form::RequestValue) },
            Default("{}"),
            "Fields put beside those that are there, likewise. {pool} is the pool. A field whose value comes out empty is \
             left out.",
        ),
    ],
);

pub(super) static RESPONSE_HEADERS: Section = Section::new(
    "Edits to a response head: first remove, then rename, then set, then add. They hold for answers of this proxy too.",
    &[
        edit_remove(),
        edit_rename(),
        Key::new(
            "set",
            Kind::Map { key: Form::EditedField, of: &Kind::Text(Form::ResponseValue) },
            Default("{}"),
            "Fields that replace all of their name, with variables as in request_headers, and {endpoint} (that answered) and \
             {status}.",
        ),
        Key::new(
            "add",
            Kind::Map { key: Form::EditedField, of: &Kind::Text(Form::ResponseValue) },
            Default("{}"),
            "Fields put beside those that are there, likewise.",
        ),
    ],
);

const fn edit_remove() -> Key {
    Key::new(
        "remove",
        Kind::List { of: &Kind::Text(Form::EditedField), min: 0 },
        Default("[]"),
        "Fields taken away.",
    )
}

const fn edit_rename() -> Key {
    Key::new(
        "rename",
        Kind::Map { key: Form::EditedField, of: &Kind::Text(Form::EditedField) },
        Default("{}"),
        "Fields that get another name, as in { x-old = \"x-new\" }, beside those that have it already.",
    )
}

pub(super) static REWRITE: Section = Section::new(
    "Another target for what goes on to the endpoint: at most one of path and path_prefix, and the host, and the query.",
    &[
        Key::new(
            "path_regex",
            Kind::Text(Form::Regex),
            Optional(r#""^/u/([0-9]+)$""#),
            "Rewrites only where this matches the path; its groups are {1}, {2} and {group:NAME} in the other keys. Without it \
             these are the groups of the route's own path_regex. At most 1 MiB when compiled.",
        ),
        Key::new(
            "path_prefix",
            Kind::Text(Form::Path),
            Optional(r#""/""#),
            "Takes the place of the route's matched path_prefix.",
        ),
        Key::new(
            "path",
            Kind::Text(Form::PathTemplate),
            Optional(r#""/users/{1}""#),
            "Takes the place of the whole path, with variables as in request_headers, each one element of it. A request whose \
             values would lead out of it by dots is refused (400).",
        ),
        Key::new(
            "host",
            Kind::Text(Form::HostTemplate),
            Optional(r#""app.internal""#),
            "Takes the place of the host, with or without a port, likewise. X-Forwarded-Host keeps what came.",
        ),
        Key::new(
            "query",
            Kind::Short(&QUERY, "all"),
            Optional(r#"{ set = { version = "2" }, remove = ["debug"] }"#),
            "Takes the place of the query (\"\" is none), or changes parameters of it.",
        ),
    ],
);

static QUERY: Section = Section::new(
    "Either all of a query, or parameters of it.",
    &[
        Key::new(
            "all",
            Kind::Text(Form::QueryTemplate),
            Optional(r#""id={1}&{query}""#),
            "All of it, with variables as in request_headers.",
        ),
        Key::new(
            "set",
            Kind::Map { key: Form::Parameter, of: &Kind::Text(Form::QueryTemplate) },
            Default("{}"),
            "Parameters that replace all of their name, likewise.",
        ),
        Key::new(
            "remove",
            Kind::List { of: &Kind::Text(Form::Parameter), min: 0 },
            Default("[]"),
            "Parameters taken away, however their names are escaped.",
        ),
    ],
);
