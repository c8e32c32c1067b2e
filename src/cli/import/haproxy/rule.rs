//! What a rule does: `http-request`, `http-response`, `redirect`, `use_backend` and their kin, its condition taken off.

use super::super::document::Value;
use super::super::report::Verdict;
use super::super::surroundings::Surroundings;
use super::answer::{Reply, deny, redirect, respond, status};
use super::edit::{Target, delete, header, replace_header, replace_target, set_target};
use super::proxy::{Rule, Stage};
use super::said::{Said, approximated, ignored, not_possible, translated, wrong};
use super::shown::Shown;

/// The client is whom a PROXY header names.
pub(super) const PROXY_HEADER: &str = "PROXY";

/// A change to a head.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edit {
    /// Of the request's head, not of the answer's.
    pub(super) request: bool,
    /// Of answers that no endpoint gives too.
    pub(super) own_too: bool,
    /// What is done.
    pub(super) change: Change,
}

/// What is done to a head.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Set(String, String),
    Add(String, String),
    Remove(String),
    /// Another path, or another query.
    Target(Target),
    /// Requests that come too fast, or too many at once, go no further.
    Limit(super::limit::Limit),
    /// Another key of the route.
    Key(&'static str, Value),
    /// Nothing that a route does.
    Shown(Shown),
}

/// What a request gets without an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Respond(Reply),
    Redirect {
        to: String,
        status: u16,
        fields: Vec<(String, String)>,
    },
    /// The health of a pool.
    Health(String),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    Edit(Edit),
    /// Users have to say who they are; the realm.
    Auth(String),
    /// The client is whom this field names, where it comes from networks that the condition names.
    Trust(&'static str),
    Answer(Answer),
    /// To this backend.
    Go(String),
    /// To where requests go that no rule sends anywhere, whatever else is written: the name that was put together for them
    /// is none of a backend.
    Rest,
    /// No further rule of `http-request` is asked.
    Allow,
    /// Nothing that a route does.
    Nothing,
}

/// What a rule does, and what is to be said of it. `words` is the rule without its condition.
pub(super) fn effect(rule: &Rule, words: &[String], around: Surroundings<'_>) -> (Effect, Said) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    match rule.stage {
        Stage::Switch => (Effect::Go(word(1).to_owned()), translated()),
        Stage::Redirect => redirect(words.get(1..).unwrap_or_default()),
        Stage::Monitor => monitor(words),
        Stage::Connection => connection(words),
        Stage::Request if word(0) == "block" => deny(&[], around),
        Stage::Request => request(words, around),
        Stage::Response => response(words),
    }
}

pub(super) fn nothing(said: Said) -> (Effect, Said) {
    (Effect::Nothing, said)
}

fn monitor(words: &[String]) -> (Effect, Said) {
    match words {
        [word, _] if word == "monitor-uri" => (
            status(200),
            approximated(
                "it is answered with a query too, where HAProxy compares path and query, and says `usable` or another short text",
            ),
        ),
        // `monitor fail if`: it stands before `monitor-uri`, see `route`.
        [word, fail, ..] if word == "monitor" && fail == "fail" => (status(503), translated()),
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
        (_, "accept") => (Effect::Allow, translated()),
        (_, "reject") => (status(403), translated()),
        (_, "silent-drop") => (status(403), approximated("the connection is closed, not forgotten")),
        (_, "expect-proxy") => (Effect::Trust(PROXY_HEADER), translated()),
        (_, track) if track.starts_with("track-sc") => nothing(tracked()),
        (_, "capture") => nothing(ignored("the access log has fields of its own")),
        (_, action) => {
            nothing(not_possible(format!("`{action}` has no counterpart before a request is there")))
        }
    }
}

fn tracked() -> Said {
    Said(Verdict::Translated, "a client is counted where a rule asks for the count".to_owned())
}

fn request(words: &[String], around: Surroundings<'_>) -> (Effect, Said) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let rest = words.get(2..).unwrap_or_default();
    let action = word(1).split('(').next().unwrap_or("");
    match action {
        "deny" | "reject" => deny(rest, around),
        "tarpit" => (deny(rest, around).0, approximated("it is refused at once, not after `timeout tarpit`")),
        "silent-drop" => {
            let how = "it is answered with 403; HAProxy says nothing and forgets the connection";
            (status(403), approximated(how))
        }
        "allow" => (Effect::Allow, translated()),
        "auth" => {
            let realm = rest.iter().position(|word| word == "realm").and_then(|at| rest.get(at + 1));
            let realm = realm.map_or("restricted", String::as_str).replace(['"', '\\'], "");
            (Effect::Auth(realm.chars().filter(|c| !c.is_control()).collect()), translated())
        }
        "redirect" => redirect(rest),
        "return" => respond(rest, around),
        "set-header" => header(true, rest, Change::Set),
        "add-header" => header(true, rest, Change::Add),
        "del-header" => delete(true, rest),
        "set-path" | "set-query" | "set-pathq" | "set-uri" => set_target(action, word(2)),
        "replace-path" | "replace-pathq" | "replace-uri" => replace_target(action, rest),
        "replace-header" | "replace-value" => replace_header(true, rest),
        "set-src" => trust(word(2)),
        "wait-for-body" => (
            key("buffer_request", Value::text("16KiB")),
            approximated(
                "buffer_request: so much of the body is taken in first, for as long as the client's times allow",
            ),
        ),
        "set-timeout" => set_timeout(word(2), word(3)),
        "set-priority-class" => priority(word(2)),
        "use-service" if word(2) == "prometheus-exporter" => nothing(approximated(
            "metrics are at /metrics of the admin API, 127.0.0.1:9900 unless [admin] says otherwise",
        )),
        "set-var" | "set-var-fmt" => nothing(not_possible(VARIABLES)),
        track if track.starts_with("track-sc") => nothing(tracked()),
        sc if sc.starts_with("sc-") => {
            nothing(not_possible("counters of clients are not written by rules: rate_limit counts by itself"))
        }
        lua if lua.starts_with("lua.") => {
            nothing(not_possible("Lua is not embedded: do it in an endpoint, or with routes"))
        }
        _ => nothing(without_effect(action)),
    }
}

/// Another key of the routes that these requests take.
pub(super) fn key(name: &'static str, value: Value) -> Effect {
    Effect::Edit(Edit { request: true, own_too: false, change: Change::Key(name, value) })
}

/// `set-src EXPRESSION`: whom a proxy before this one names.
fn trust(expression: &str) -> (Effect, Said) {
    let text = expression.to_ascii_lowercase();
    let inside = text.split_once('(').and_then(|(_, rest)| rest.split(&[',', ')'][..]).next()).unwrap_or("");
    let fields = ["x-forwarded-for", "x-real-ip", "cf-connecting-ip", "forwarded"];
    let taken = text.starts_with("hdr") || text.starts_with("req.hdr") || text.starts_with("req.fhdr");
    match fields.into_iter().find(|field| taken && *field == inside.trim()) {
        Some(field) => (
            Effect::Trust(field),
            approximated(
                "of a list the address furthest to the right that is in no trusted_proxies is the client",
            ),
        ),
        None => nothing(not_possible(CLIENT)),
    }
}

fn set_timeout(which: &str, text: &str) -> (Effect, Said) {
    let Some(time) = super::units::time(text).filter(|time| !time.is_zero()) else {
        return nothing(not_possible("a time is written: timeouts of the route"));
    };
    let value = super::pool::duration(time);
    match which {
        "server" => (
            key("timeouts.response_header", value),
            approximated("it is the time to the response head: timeouts.idle of the pool holds for the body"),
        ),
        "tunnel" => (key("timeouts.tunnel", value), translated()),
        _ => nothing(not_possible("timeouts of a client are the listener's")),
    }
}

/// `set-priority-class N`: the smallest number goes first.
fn priority(text: &str) -> (Effect, Said) {
    let number = text.trim_start_matches("int(").trim_end_matches(')').parse::<i64>();
    let class = match number {
        Ok(..=-1) => "high",
        Ok(0) => "normal",
        Ok(_) => "low",
        Err(_) => return nothing(not_possible("a number is written: priority_class of the route")),
    };
    (
        key("priority_class", Value::text(class)),
        approximated("there are three classes: below 0 is high, above it low"),
    )
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

const VARIABLES: &str = "requests carry no variables, and this one is set under a condition, more than once, or of what another rule changes: write what is put in where it is used";
const WAITING: &str = "requests wait by the priority_class of their route, then first come first served";
const CLIENT: &str = "the client's address comes from the field that client_address of the listener names, of trusted_proxies only";
const COUNTERPART: &str = "it has no counterpart";

const NOT_POSSIBLE: [(&str, &str); 18] = [
    ("set-method", "the method is the client's"),
    ("normalize-uri", "routes compare paths in normal form; endpoints get them as they were sent"),
    ("use-service", "there are no services of that kind"),
    ("unset-var", VARIABLES),
    ("set-priority-offset", WAITING),
    ("set-dst", CLIENT),
    ("set-src-port", CLIENT),
    ("set-dst-port", CLIENT),
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

fn response(words: &[String]) -> (Effect, Said) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let rest = words.get(2..).unwrap_or_default();
    let (effect, said) = match word(1).split('(').next().unwrap_or("") {
        "set-header" => header(false, rest, Change::Set),
        "add-header" => header(false, rest, Change::Add),
        "del-header" => delete(false, rest),
        "replace-header" | "replace-value" => replace_header(false, rest),
        "allow" => (Effect::Nothing, translated()),
        "inspect-delay" => nothing(ignored("an answer has timeouts.response_header of the pool")),
        "accept" if word(0) == "tcp-response" => nothing(translated()),
        "capture" | "set-log-level" => nothing(ignored(RECORD)),
        "cache-store" => nothing(not_possible("answers are not cached")),
        "set-status" => nothing(not_possible("the status is the endpoint's")),
        "deny" | "return" | "redirect" => nothing(not_possible(
            "an answer of an endpoint is passed on: error_pages with intercept_errors put a page in the place of an error",
        )),
        "set-var" | "set-var-fmt" | "unset-var" => nothing(not_possible(VARIABLES)),
        track if track.starts_with("sc-") || track.starts_with("track-sc") => {
            nothing(not_possible("counters of clients are not written by rules: rate_limit counts by itself"))
        }
        other => nothing(not_possible(format!("`{other}` has no counterpart for answers"))),
    };
    match effect {
        Effect::Edit(edit) => {
            (Effect::Edit(Edit { own_too: word(0) == "http-after-response", ..edit }), said)
        }
        effect => (effect, said),
    }
}
