//! Answers of our own, and the only place where an error becomes a status.

use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use super::error::{Error, Refusal};

/// Seconds that a client is asked to wait when nothing can take its request now and nobody knows for how long.
const RETRY_AFTER: u64 = 1;

/// Methods that are passed on, for `Allow`.
const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// An answer of our own.
#[derive(Debug)]
pub struct Own {
    /// Its status.
    pub status: u16,
    /// Its fields but for those that frame it.
    pub fields: Vec<(&'static str, Vec<u8>)>,
    /// Its body.
    pub body: Body,
    /// Of an answer to a gRPC call, its status there.
    pub grpc_code: Option<u16>,
    /// Fields of somebody else's answer, where that is passed on.
    pub passed: Vec<(Box<str>, Vec<u8>)>,
}

/// The body of an answer of our own.
#[derive(Debug)]
pub enum Body {
    /// Made for this answer.
    Made(Vec<u8>),
    /// The same for many.
    Kept(Arc<[u8]>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Made(Vec::new())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Made(text.into_bytes())
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Made(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }
}

impl Own {
    fn new(status: u16) -> Self {
        Self {
            status,
            fields: vec![("Date", date())],
            body: Body::default(),
            grpc_code: None,
            passed: Vec::new(),
        }
    }

    /// The reason phrase of its status.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        reason(self.status)
    }

    /// All of its fields but for those that frame it.
    pub fn all_fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let passed = self.passed.iter();
        let own = self.fields.iter().map(|(name, value)| (*name, value.as_slice()));
        own.chain(passed.map(|(name, value)| (&**name, value.as_slice())))
    }

    /// An answer that somebody else has given, as it is.
    #[must_use]
    pub fn passed_on(status: u16, fields: Vec<(Box<str>, Vec<u8>)>, body: Vec<u8>) -> Self {
        let mut own = Self::new(status);
        if fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("date")) {
            own.fields.clear();
        }
        own.passed = fields;
        own.body = Body::Made(body);
        own
    }

    /// What is asked of a client that has not said who it is (RFC 9110 section 11.6.1).
    #[must_use]
    pub fn unauthorized(challenge: &str) -> Self {
        let mut own = Self::fixed(401, "401 Unauthorized: say who you are\n");
        own.fields.push(("WWW-Authenticate", challenge.as_bytes().to_vec()));
        own
    }

    /// What cannot be decided now, and perhaps a little later.
    #[must_use]
    pub fn busy(what: &str) -> Self {
        let mut own = Self::fixed(503, &format!("503 Service Unavailable: {what}\n"));
        own.fields.push(("Retry-After", RETRY_AFTER.to_string().into_bytes()));
        own
    }

    /// A fixed response of a route.
    #[must_use]
    pub fn fixed(status: u16, body: &str) -> Self {
        let mut own = Self::new(status);
        if !body.is_empty() {
            own.fields.push(("Content-Type", b"text/plain; charset=utf-8".to_vec()));
        }
        own.body = Body::Made(body.as_bytes().to_vec());
        own
    }

    /// A response with a body that has been made, or is kept, elsewhere.
    #[must_use]
    pub fn with_body(status: u16, body: Body, content_type: &[u8]) -> Self {
        let mut own = Self::new(status);
        if !body.is_empty() {
            own.fields.push(("Content-Type", content_type.to_vec()));
        }
        own.body = body;
        own
    }

    /// A redirect of a route.
    #[must_use]
    pub fn redirect(status: u16, location: Vec<u8>) -> Self {
        let mut own = Self::new(status);
        own.fields.push(("Location", location));
        own
    }

    /// The answer to OPTIONS whose `Max-Forwards` is used up (RFC 9110 section 7.6.2).
    #[must_use]
    pub fn options() -> Self {
        let mut own = Self::new(200);
        own.fields.push(("Allow", ALLOW.to_vec()));
        own
    }

    /// What the client of a gRPC call is told of an error: only trailers, which with HTTP are 200.
    #[must_use]
    pub fn of_failed_call(error: &Error) -> Option<Self> {
        let (status, text) = status_of(error)?;
        let mut own = Self::new(200);
        let code = grpc_code(status);
        own.fields.push(("Content-Type", b"application/grpc".to_vec()));
        own.fields.push(("grpc-status", code.to_string().into_bytes()));
        // Printable ASCII without a percent sign, so that nothing must be encoded.
        own.fields.push(("grpc-message", text.into_bytes()));
        own.grpc_code = Some(code);
        Some(own)
    }

    /// What a client is told of an error; nothing when it can be told nothing. `json` is whether it asked for JSON.
    #[must_use]
    pub fn of_error(error: &Error, json: bool) -> Option<Self> {
        let (status, text) = status_of(error)?;
        let mut own = Self::new(status);
        match status {
            _ if matches!(error, Error::Limited(_)) => own.fields.push(retry_after(error)),
            503 => own.fields.push(retry_after(error)),
            405 => own.fields.push(("Allow", ALLOW.to_vec())),
            _ => {}
        }
        let kind: &[u8] = if json { b"application/json" } else { b"text/plain; charset=utf-8" };
        own.fields.push(("Content-Type", kind.to_vec()));
        own.body = if json {
            // Both texts are our own and have nothing that would need escaping but quotes.
            format!("{{\"status\":{status},\"error\":\"{}\"}}\n", text.replace('"', "\\\""))
        } else {
            format!("{status} {}: {text}\n", reason(status))
        }
        .into();
        Some(own)
    }
}

/// The gRPC status for a status of ours: that of the gRPC project's mapping of HTTP statuses, but where ours says more.
const fn grpc_code(status: u16) -> u16 {
    match status {
        400 | 405 | 414 | 417 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        413 | 431 => 8,
        408 | 504 => 4,
        429 | 502 | 503 => 14,
        _ => 2,
    }
}

/// Seconds for `Retry-After` (RFC 9110 section 10.2.3), rounded up: whoever comes back then finds the breaker on trial.
fn retry_after(error: &Error) -> (&'static str, Vec<u8>) {
    let seconds = match error {
        Error::Limited(limited) => limited.retry_after,
        Error::NothingUsable { sure_for: Some(time) } => {
            (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(RETRY_AFTER)
        }
        _ => RETRY_AFTER,
    };
    ("Retry-After", seconds.to_string().into_bytes())
}

/// The status of an error and the text that the client sees, which is not the text of the log: it tells nothing of
/// what lies behind.
fn status_of(error: &Error) -> Option<(u16, String)> {
    let (status, text) = match error {
        Error::Refused(refusal) => {
            let status = match refusal {
                // "An appropriate 4xx" says RFC 9112 section 7.1.1 of the second.
                Refusal::Malformed(_) | Refusal::ExtensionsTooLarge => 400,
                Refusal::Version => 505,
                Refusal::BodyTooLarge => 413,
                Refusal::TargetTooLong => 414,
                Refusal::HeadTooLarge | Refusal::TooManyFields => 431,
                Refusal::Coding | Refusal::Connect | Refusal::Protocol => 501,
                Refusal::Method => 405,
                Refusal::Expectation => 417,
            };
            return Some((status, refusal.to_string()));
        }
        Error::Limited(limited) => (limited.status, limited.limit.text()),
        Error::HeadTimeout | Error::ClientTimeout => (408, "the request did not arrive in time"),
        Error::Misdirected => (421, "this connection is not for that name"),
        Error::Denied => (403, "you may not use this"),
        Error::Overloaded => (503, "this node is overloaded"),
        Error::NoRoute => (404, "nothing here takes this request"),
        Error::NothingUsable { .. }
        | Error::Connect(_)
        | Error::Exhausted(_)
        | Error::GivenBack(_)
        | Error::Outdated => (503, "no server can take this request now"),
        Error::QueueFull | Error::QueueShed | Error::QueueTimeout => (503, "all servers are busy"),
        Error::Reset | Error::StreamReset(_) | Error::NoTunnel | Error::Answer(_) => {
            (502, "the server's answer was not valid")
        }
        Error::Timeout | Error::Deadline => (504, "the server did not answer in time"),
        Error::Dropped
        | Error::ClientGone
        | Error::Truncated
        | Error::Stalled
        | Error::Idle
        | Error::Cut(_) => return None,
    };
    Some((status, text.to_owned()))
}

/// Whether `Accept` prefers JSON to plain text: it is named, and HTML or text is not named before it.
#[must_use]
pub fn prefers_json(accept: &[u8]) -> bool {
    let mut ranges =
        accept.split(|&b| b == b',').map(|r| r.split(|&b| b == b';').next().unwrap_or_default().trim_ascii());
    ranges.find_map(|range| match range {
        r if r.eq_ignore_ascii_case(b"application/json")
            || r.eq_ignore_ascii_case(b"application/problem+json") =>
        {
            Some(true)
        }
        r if r.len() >= 5 && r[..5].eq_ignore_ascii_case(b"text/") => Some(false),
        _ => None,
    }) == Some(true)
}

/// `Date` (RFC 9110 section 6.6.1).
fn date() -> Vec<u8> {
    httpdate::fmt_http_date(SystemTime::now()).into_bytes()
}

/// Reason phrases (RFC 9110 section 15, RFC 6585).
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn json_is_for_those_who_ask_for_it_first() {
        for (accept, json) in [
            ("application/json", true),
            ("application/problem+json, text/plain", true),
            ("text/html,application/json;q=0.9", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(prefers_json(accept.as_bytes()), json, "{accept}");
        }
    }

    #[test]
    fn an_open_breaker_says_when_to_come_back() {
        let after = |millis: Option<u64>| {
            let sure_for = millis.map(Duration::from_millis);
            let own = Own::of_error(&Error::NothingUsable { sure_for }, false).expect("it has an answer");
            let value = own.fields.iter().find(|(name, _)| *name == "Retry-After").expect("a 503 has it");
            String::from_utf8_lossy(&value.1).into_owned()
        };
        let said = [None, Some(0), Some(1000), Some(59_001)].map(after);
        assert_eq!(said, ["1", "1", "1", "60"]);
    }

    #[test]
    fn a_call_is_told_in_its_own_words() {
        let code = |error: &Error| Own::of_failed_call(error).and_then(|own| own.grpc_code);
        let told = [
            (Error::QueueFull, 14),
            (Error::Timeout, 4),
            (Error::Deadline, 4),
            (Error::NoRoute, 12),
            (Error::Refused(Refusal::HeadTooLarge), 8),
            (Error::Reset, 14),
        ];
        for (error, want) in told {
            assert_eq!(code(&error), Some(want), "{error}");
        }
        let own = Own::of_failed_call(&Error::NoRoute).expect("it has an answer");
        assert_eq!((own.status, own.body.len()), (200, 0));
    }

    #[test]
    fn busy_is_503_with_a_time_to_come_back() {
        let own = Own::of_error(&Error::QueueFull, true).expect("it has an answer");
        assert_eq!(own.status, 503);
        assert!(own.fields.iter().any(|(name, _)| *name == "Retry-After"));
        assert_eq!(*own.body, *b"{\"status\":503,\"error\":\"all servers are busy\"}\n");
        assert!(Own::of_error(&Error::ClientGone, true).is_none());
    }
}
