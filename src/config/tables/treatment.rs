//! The keys of `[[route]]` for what is done with a request and its answer beside sending them on, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::{DELAY, TIMEOUT, number, size};
use Given::{Default, Optional, Required};

/// `basic_auth`.
pub(super) const fn basic_auth() -> Key {
    Key::new(
        "basic_auth",
        Kind::Table(&BASIC_AUTH),
        Optional(r#"{ realm = "staff", users_file = "staff.htpasswd" }"#),
        "Lets in who has a name and a password of a file (RFC 7617); all others get 401.",
    )
}

static BASIC_AUTH: Section = Section::new(
    "Names and passwords. A check is made beside the worker, and a login that was right is remembered.",
    &[
        Key::new(
            "realm",
            Kind::Text(Form::FieldValue),
            Default(r#""restricted""#),
            "What the client is told that the password is for.",
        ),
        Key::new(
            "users_file",
            Kind::Text(Form::Some),
            Required(r#""staff.htpasswd""#),
            "Lines of NAME:HASH as htpasswd writes them: bcrypt, SHA-crypt or $apr1$; nothing in the clear. Read at each load.",
        ),
        Key::new(
            "user_header",
            Kind::Text(Form::EditedField),
            Optional(r#""x-remote-user""#),
            "A field of the request to the endpoint with the name; what the client sends under this name never goes on.",
        ),
        Key::new(
            "keep_authorization",
            Kind::Bool,
            Default("false"),
            "Whether Authorization goes on to the endpoint, password and all.",
        ),
        Key::new(
            "remember",
            DELAY,
            Default(r#""5m""#),
            "How long a login that was right is not checked again, unless its hash is another.",
        ),
        Key::new(
            "max_remembered",
            number(0, 1_000_000),
            Default("10000"),
            "Logins that are remembered; the oldest gives way.",
        ),
        Key::new(
            "max_checks",
            number(1, 10_000),
            Default("64"),
            "Logins that are checked at once or wait for that; one more gets 503.",
        ),
    ],
);

/// `forward_auth`.
pub(super) const fn forward_auth() -> Key {
    Key::new(
        "forward_auth",
        Kind::Table(&FORWARD_AUTH),
        Optional(r#"{ pool = "auth", path = "/verify", response_headers = ["x-user"] }"#),
        "Asks another service about each request first: 2xx lets it in, 401, 403, a redirect and every other 3xx and 4xx go \
         to the client as they are.",
    )
}

static FORWARD_AUTH: Section = Section::new(
    "A GET without a body, with X-Forwarded-Method, -Uri, -Host, -Proto and -For, by the pool's own rules.",
    &[
        Key::new("pool", Kind::Text(Form::Name), Required(r#""auth""#), "The pool that is asked."),
        Key::new("path", Kind::Text(Form::PathAndQuery), Default(r#""/""#), "The path that is asked for."),
        Key::new(
            "request_headers",
            Kind::List { of: &Kind::Text(Form::Field), min: 0 },
            Default("[]"),
            "Fields of the request that the service gets; empty is all but those of its body and conditions.",
        ),
        Key::new(
            "response_headers",
            Kind::List { of: &Kind::Text(Form::EditedField), min: 0 },
            Default("[]"),
            "Fields of a 2xx that the endpoint gets; what the client sends under these names never goes on.",
        ),
        Key::new(
            "timeout",
            TIMEOUT,
            Default(r#""5s""#),
            "To the service's answer; all tries together take at most twice as long.",
        ),
        Key::new(
            "max_answer",
            size(0, 16 << 20),
            Default(r#""64KiB""#),
            "The largest body of an answer that goes to the client.",
        ),
        Key::new(
            "on_error",
            Kind::Choice(&[Word::new("deny"), Word::new("allow")]),
            Default(r#""deny""#),
            "When the service answers with 5xx or not at all: deny (503), or allow.",
        ),
    ],
);

/// `mirror`.
pub(super) const fn mirror() -> Key {
    Key::new(
        "mirror",
        Kind::Table(&MIRROR),
        Optional(r#"{ pool = "next", share = "10%" }"#),
        "Sends requests to another pool as well, whose answers nobody gets; the client's own never waits for that.",
    )
}

static MIRROR: Section = Section::new(
    "A copy of the request as it goes to the endpoint; of one with a body once the client has its answer. Never of WebSocket.",
    &[
        Key::new("pool", Kind::Text(Form::Name), Required(r#""next""#), "The pool that gets the copies."),
        Key::new("share", Kind::Percent, Default(r#""100%""#), "The share of requests."),
        Key::new(
            "max_body",
            size(0, 64 << 20),
            Default(r#""64KiB""#),
            "Requests with a larger body are left out.",
        ),
        Key::new("timeout", TIMEOUT, Default(r#""30s""#), "How long a copy and its answer may take."),
        Key::new(
            "max_in_flight",
            number(1, 100_000),
            Default("64"),
            "Copies under way at once, for each worker; one more is left out.",
        ),
    ],
);

/// `buffer_request`.
pub(super) const fn buffer_request() -> Key {
    Key::new(
        "buffer_request",
        size(1, 1 << 30),
        Optional(r#""1MiB""#),
        "Takes in a request's body, up to so much of it, before an endpoint is picked: slow uploads hold no endpoint. The rest \
         of a larger one streams.",
    )
}

/// `buffer_response`.
pub(super) const fn buffer_response() -> Key {
    Key::new(
        "buffer_response",
        size(1, 1 << 30),
        Optional(r#""1MiB""#),
        "Takes an answer off its endpoint up to so far ahead of the client: slow clients hold no endpoint.",
    )
}

/// `compress`.
pub(super) const fn compress() -> Key {
    Key::new(
        "compress",
        Kind::Table(&COMPRESS),
        Optional(r#"{ codings = ["zstd", "br", "gzip"] }"#),
        "Compresses answers for clients that take it (RFC 9110 section 12.5.3); never ranges, what is compressed already, or \
         what says no-transform.",
    )
}

static COMPRESS: Section = Section::new(
    "Which answers, and how.",
    &[
        Key::new(
            "codings",
            Kind::List {
                of: &Kind::Choice(&[Word::new("zstd"), Word::new("br"), Word::new("gzip")]),
                min: 1,
            },
            Default(r#"["zstd", "br", "gzip"]"#),
            "Content codings; of those that the client wants most the first here.",
        ),
        Key::new(
            "types",
            Kind::List { of: &Kind::Text(Form::Some), min: 1 },
            Default(
                r#"["text/*", "application/json", "application/*+json", "application/javascript", "application/xml", "application/*+xml", "application/wasm", "image/svg+xml"]"#,
            ),
            "Media types; a star stands for any text.",
        ),
        Key::new(
            "min_size",
            size(0, 1 << 30),
            Default(r#""1KiB""#),
            "Answers known to be smaller go on as they are.",
        ),
        Key::new(
            "effort",
            Kind::Choice(&[Word::new("low"), Word::new("medium"), Word::new("high")]),
            Default(r#""medium""#),
            "Smaller answers for more time on the worker.",
        ),
    ],
);
