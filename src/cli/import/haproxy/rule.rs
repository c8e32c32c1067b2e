//! What a rule does: `http-request`, `http-response`, `redirect`, `use_backend` and their kin, its condition taken off.

use super::proxy::{Rule, Stage};
use super::said::{Said, approximated, ignored, not_possible, translated, wrong};
use super::template;

/// A change to a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    /// Of the request's head, not of the answer's.
    pub(super) request: bool,
    /// What is done.
    pub(super) change: Change,
}

/// What is done to a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set(String, String),
    Add(String, String),
    Remove(String),
    /// The whole path becomes this.
    Path(String),
    /// Requests that come too fast go no further.
    Limit(super::limit::Limit),
}

/// What a request gets without an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Respond {
        status: u16,
        body: String,
    },
    Redirect {
        to: String,
        status: u16,
    },
    /// The health of a pool.
    Health(String),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Edit(Edit),
    Answer(Answer),
    /// To this backend.
    Go(String),
    /// No further rule of `http-request` is asked.
    Allow,
    /// Nothing that a route does.
    Nothing,
}

/// What a rule does, and what is to be said of it. `words` is the rule without its condition.
pub(super) fn effect(rule: &Rule, words: &[String]) -> (Effect, Said) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match rule.stage {
        Stage::Switch => {
            if word(1).contains("%[") {
                return (
                    Effect::Nothing,
                    not_possible("a route names its pool: write one for each name that can come out"),
                );
            }
            (Effect::Go(word(1).to_owned()), translated())
        }
        Stage::Redirect => redirect(words.get(1..).unwrap_or_default()),
        Stage::Monitor => monitor(words),
        Stage::Connection => connection(words),
        Stage::Request if word(0) == "block" => deny(&[]),
        Stage::Request => request(words),
        Stage::Response => response(words),
    }
}

fn nothing(said: Said) -> (Effect, Said) {
    (Effect::Nothing, said)
}

fn monitor(words: &[String]) -> (Effect, Said) {
    match words {
        [word, _] if word == "monitor-uri" => {
            (Effect::Answer(Answer::Respond { status: 200, body: String::new() }), translated())
        }
        // `monitor fail if`: it stands before `monitor-uri`, see `route`.
        [word, fail, ..] if word == "monitor" && fail == "fail" => {
            (Effect::Answer(Answer::Respond { status: 503, body: String::new() }), translated())
        }
        _ => nothing(wrong("HAProxy cannot read it")),
    }
}

/// `tcp-request` and `tcp-response`.
fn connection(words: &[String]) -> (Effect, Said) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match (word(1), word(2)) {
        ("inspect-delay", _) => nothing(ignored(
            "a ClientHello has timeouts.tls_handshake of the listener, and nothing else is waited for",
        )),
        (_, "accept") => nothing(translated()),
        (_, "reject") => (Effect::Answer(Answer::Respond { status: 403, body: String::new() }), translated()),
        (_, "silent-drop") => (
            Effect::Answer(Answer::Respond { status: 403, body: String::new() }),
            approximated("the connection is closed, not forgotten"),
        ),
        (_, "expect-proxy") => {
            nothing(not_possible("write accept_proxy_protocol and trusted_proxies in the listener"))
        }
        (_, track) if track.starts_with("track-sc") => nothing(tracked()),
        (_, "capture") => nothing(ignored("the access log has fields of its own")),
        (_, action) => {
            nothing(not_possible(format!("`{action}` has no counterpart before a request is there")))
        }
    }
}

fn tracked() -> Said {
    ignored("a client is counted where a rule asks for the count")
}

fn request(words: &[String]) -> (Effect, Said) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let rest = words.get(2..).unwrap_or_default();
    let action = word(1).split('(').next().unwrap_or("");
    match action {
        "deny" | "reject" => deny(rest),
        "tarpit" => (deny(rest).0, approximated("it is refused at once, not after `timeout tarpit`")),
        "silent-drop" => {
            let how = "it is answered with 403; HAProxy says nothing and forgets the connection";
            (deny(&[]).0, approximated(how))
        }
        "allow" => (Effect::Allow, translated()),
        "redirect" => redirect(rest),
        "return" => respond(rest),
        "set-header" => header(true, rest, Change::Set),
        "add-header" => header(true, rest, Change::Add),
        "del-header" => delete(true, rest),
        "set-path" => match template::literal(word(2)) {
            Some(path) if path.starts_with('/') => {
                (Effect::Edit(Edit { request: true, change: Change::Path(path) }), translated())
            }
            _ => nothing(not_possible(REWRITES)),
        },
        "use-service" if word(2) == "prometheus-exporter" => nothing(approximated(
            "metrics are at /metrics of the admin API, 127.0.0.1:9900 unless [admin] says otherwise",
        )),
        track if track.starts_with("track-sc") => nothing(tracked()),
        sc if sc.starts_with("sc-") => nothing(not_possible("counters of clients are not written by rules")),
        lua if lua.starts_with("lua.") => {
            nothing(not_possible("Lua is not embedded: do it in an endpoint, or with routes"))
        }
        _ => nothing(without_effect(action)),
    }
}

const SENT: &str = "it concerns how bytes are sent, not what or where";
const RECORD: &str = "the access log has fields of its own";
const SAFE: &str = "early data is not taken, and what may have been acted on is not sent again";

const IGNORED: [(&str, &str); 14] = [
    ("capture", RECORD),
    ("set-log-level", RECORD),
    ("wait-for-handshake", SAFE),
    ("disable-l7-retry", SAFE),
    ("set-nice", SENT),
    ("set-tos", SENT),
    ("set-fc-tos", SENT),
    ("set-bc-tos", SENT),
    ("set-mark", SENT),
    ("set-fc-mark", SENT),
    ("set-bc-mark", SENT),
    ("pause", SENT),
    ("early-hint", SENT),
    ("strict-mode", SENT),
];

const VARIABLES: &str = "requests carry no variables: write what is put in where it is used";
const CHANGED: &str = "a field is set, added or removed: it is not changed by an expression";
const WAITING: &str = "requests wait first come first served";
const CLIENT: &str = "the client's address comes from the field that client_address of the listener names, of trusted_proxies only";
const COUNTERPART: &str = "it has no counterpart";

const NOT_POSSIBLE: [(&str, &str); 33] = [
    ("set-uri", REWRITES),
    ("set-pathq", REWRITES),
    ("set-query", REWRITES),
    ("replace-path", REWRITES),
    ("replace-pathq", REWRITES),
    ("replace-uri", REWRITES),
    ("set-method", "the method is the client's"),
    ("normalize-uri", "routes compare paths in normal form; endpoints get them as they were sent"),
    ("replace-header", CHANGED),
    ("replace-value", CHANGED),
    ("auth", "users are asked for by no route yet"),
    ("use-service", "there are no services of that kind"),
    ("set-var", VARIABLES),
    ("set-var-fmt", VARIABLES),
    ("unset-var", VARIABLES),
    ("set-priority-class", WAITING),
    ("set-priority-offset", WAITING),
    ("set-src", CLIENT),
    ("set-dst", CLIENT),
    ("set-src-port", CLIENT),
    ("set-dst-port", CLIENT),
    ("set-timeout", "write timeouts in the route"),
    ("wait-for-body", "request bodies go on as they come"),
    ("cache-use", "answers are not cached"),
    ("set-bandwidth-limit", COUNTERPART),
    ("send-spoe-group", COUNTERPART),
    ("do-resolve", COUNTERPART),
    ("set-map", COUNTERPART),
    ("del-map", COUNTERPART),
    ("add-acl", COUNTERPART),
    ("del-acl", COUNTERPART),
    ("set-retries", "write retry in the route"),
    ("send-http3-goaway", COUNTERPART),
];

/// What is said of an action that no route has.
fn without_effect(action: &str) -> Said {
    let find =
        |list: &[(&str, &'static str)]| list.iter().find(|(name, _)| *name == action).map(|(_, text)| *text);
    match (find(&IGNORED), find(&NOT_POSSIBLE)) {
        (Some(why), _) => ignored(why),
        (_, Some(remedy)) => not_possible(remedy),
        _ => wrong(format!("there is no action `{action}`")),
    }
}

const REWRITES: &str =
    "a route rewrites its path_prefix, or sets the whole path: write `rewrite` in the route";

/// `deny [deny_status N]`, with HAProxy's default of 403.
fn deny(words: &[String]) -> (Effect, Said) {
    let at = words.iter().position(|word| word == "deny_status" || word == "status");
    let status = at.and_then(|at| words.get(at + 1)).map_or(Some(403), |text| text.parse().ok());
    let Some(status) = status.filter(|status| (200..=599).contains(status)) else {
        return nothing(wrong("HAProxy cannot read the status"));
    };
    (Effect::Answer(Answer::Respond { status, body: String::new() }), translated())
}

/// `return [status N] [content-type T] [string S]`.
fn respond(words: &[String]) -> (Effect, Said) {
    let (mut status, mut body, mut said) = (200, String::new(), translated());
    let mut rest = words;
    while let [word, value, behind @ ..] = rest {
        rest = behind;
        match word.as_str() {
            "status" => match value.parse::<u16>().ok().filter(|status| (200..=599).contains(status)) {
                Some(read) => status = read,
                None => return nothing(wrong("HAProxy cannot read the status")),
            },
            "string" => body.clone_from(value),
            "lf-string" => match template::literal(value) {
                Some(text) => body = text,
                None => said = not_possible("the body of an answer is a fixed text"),
            },
            "content-type" if value.starts_with("text/plain") => {}
            "content-type" => said = approximated("the body goes out as plain text"),
            "file" | "lf-file" | "errorfile" | "errorfiles" => {
                said = not_possible("write what is in the file as the body of the route's `respond`");
            }
            "hdr" => {
                said = approximated("a field of one's own answer is in response_headers of the route");
                rest = behind.get(1..).unwrap_or_default();
            }
            "default-errorfiles" => {}
            other => return nothing(wrong(format!("`{other}` is no part of an answer"))),
        }
    }
    if matches!(status, 204 | 205 | 304) {
        body.clear();
    }
    (Effect::Answer(Answer::Respond { status, body }), said)
}

/// `redirect location|prefix|scheme X [code N] [drop-query] ...`.
fn redirect(words: &[String]) -> (Effect, Said) {
    let (mut to, mut status, mut drop_query, mut prefix) = (None, 302, false, false);
    let mut said = translated();
    let mut rest = words;
    while let [word, behind @ ..] = rest {
        let value = behind.first().map_or("", String::as_str);
        rest = behind;
        match word.as_str() {
            "scheme" | "location" | "prefix" => {
                prefix = word == "prefix";
                to = template::location(value).map(|value| match word.as_str() {
                    "scheme" => format!("{value}://{{host}}{{uri}}"),
                    _ => value,
                });
                if to.is_none() {
                    return nothing(not_possible(
                        "where a redirect leads has {host}, {path}, {query} and {uri} put in: write it with these",
                    ));
                }
                rest = behind.get(1..).unwrap_or_default();
            }
            "code" => {
                match value.parse() {
                    Ok(code @ (301 | 302 | 303 | 307 | 308)) => status = code,
                    _ => return nothing(wrong("the code is 301, 302, 303, 307 or 308")),
                }
                rest = behind.get(1..).unwrap_or_default();
            }
            "drop-query" => drop_query = true,
            "append-slash" => said = not_possible("write the slash in a route of its own"),
            "keep-query" | "ignore-empty" => {}
            "set-cookie" | "set-cookie-fmt" | "clear-cookie" => {
                said = not_possible("set-cookie is a field: write it in response_headers of the route");
                rest = behind.get(1..).unwrap_or_default();
            }
            other => return nothing(wrong(format!("`{other}` is no part of a redirect"))),
        }
    }
    let Some(mut to) = to else { return nothing(wrong("it does not say where to")) };
    if prefix {
        // `prefix /` leaves the path as it is.
        to = format!("{}{}", to.trim_end_matches('/'), if drop_query { "{path}" } else { "{uri}" });
    }
    if to.is_empty() || to.chars().any(|c| !c.is_ascii_graphic()) {
        return nothing(not_possible("a URL has no spaces and nothing beyond ASCII: percent-encode it"));
    }
    (Effect::Answer(Answer::Redirect { to, status }), said)
}

/// Fields that every endpoint is told, with what HAProxy's users write for them.
const TOLD: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "x-request-id"];
/// Fields that frame a message or belong to one connection.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header(request: bool, words: &[String], make: impl Fn(String, String) -> Change) -> (Effect, Said) {
    let [name, value, ..] = words else { return nothing(wrong("a field has a name and a value")) };
    let name = name.to_ascii_lowercase();
    if request && TOLD.contains(&name.as_str()) {
        return nothing(Said(
            super::super::report::Verdict::Translated,
            format!("{name} is always sent, as the connection has it, or as a trusted proxy said"),
        ));
    }
    if FRAMING.contains(&name.as_str()) {
        return nothing(ignored("it frames the message or belongs to one connection, and is the proxy's"));
    }
    if crate::model::field::FieldName::new(&name).is_err() {
        return nothing(wrong(format!("`{name}` is no name of a field")));
    }
    let Some(value) = template::literal(value).filter(|value| !value.chars().any(char::is_control)) else {
        return nothing(not_possible(format!(
            "the value of {name} is put together for each request: a fixed text can be set"
        )));
    };
    match make(name, value) {
        Change::Add(name, _) if name == "host" => nothing(wrong("a request has one Host")),
        Change::Set(name, _) if name == "host" && !request => nothing(wrong("an answer has no Host")),
        change => (Effect::Edit(Edit { request, change }), translated()),
    }
}

fn delete(request: bool, words: &[String]) -> (Effect, Said) {
    let [name, flags @ ..] = words else { return nothing(wrong("the name of the field is missing")) };
    let name = name.to_ascii_lowercase();
    if flags.first().is_some_and(|flag| flag == "-m") && flags.get(1).is_none_or(|method| method != "str") {
        return nothing(not_possible("fields are removed by their full names"));
    }
    if FRAMING.contains(&name.as_str()) || name == "host" {
        return nothing(ignored("it frames the message or belongs to one connection, and is the proxy's"));
    }
    if request && TOLD.contains(&name.as_str()) {
        return nothing(Said(
            super::super::report::Verdict::Translated,
            format!("{name} of a client that is in no trusted_proxies goes no further"),
        ));
    }
    if crate::model::field::FieldName::new(&name).is_err() {
        return nothing(wrong(format!("`{name}` is no name of a field")));
    }
    (Effect::Edit(Edit { request, change: Change::Remove(name) }), translated())
}

fn response(words: &[String]) -> (Effect, Said) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let rest = words.get(2..).unwrap_or_default();
    match word(1).split('(').next().unwrap_or("") {
        "set-header" => header(false, rest, Change::Set),
        "add-header" => header(false, rest, Change::Add),
        "del-header" => delete(false, rest),
        "allow" => (Effect::Nothing, translated()),
        "inspect-delay" => nothing(ignored("an answer has timeouts.response_header of the pool")),
        "accept" if word(0) == "tcp-response" => nothing(translated()),
        "capture" | "set-log-level" => nothing(ignored("the access log has fields of its own")),
        "replace-header" | "replace-value" => {
            nothing(not_possible("a field is set, added or removed: it is not changed by an expression"))
        }
        "cache-store" => nothing(not_possible("answers are not cached")),
        "set-status" => nothing(not_possible("the status is the endpoint's")),
        "deny" | "return" | "redirect" => {
            nothing(not_possible("an answer of an endpoint is passed on, not replaced"))
        }
        other => nothing(not_possible(format!("`{other}` has no counterpart for answers"))),
    }
}
