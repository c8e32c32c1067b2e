//! Changes to heads: fields that are set, added or taken away, and the target that endpoints are asked for.

use super::super::field::FRAMES;
use super::super::report::Verdict;
use super::rule::{Change, Edit, Effect, nothing};
use super::said::{Said, approximated, ignored, not_possible, translated, wrong};
use super::template::{self, Where};
use crate::model::field::is_framing;

/// Another target for a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// It changes only where this matches the path.
    pub(super) regex: Option<String>,
    /// Another path.
    pub(super) path: Option<String>,
    /// Another query.
    pub(super) query: Option<String>,
}

/// Fields that every endpoint is told, with the samples that HAProxy's users write for them.
const TOLD: [(&str, &[&str]); 5] = [
    ("x-forwarded-for", &["{client}"]),
    ("x-forwarded-proto", &["{scheme}", "https", "http"]),
    ("x-forwarded-host", &["{host}", "{hostname}"]),
    ("x-real-ip", &["{client}"]),
    ("x-request-id", &["{request_id}"]),
];
/// `set-header` and `add-header`.
pub(super) fn header(
    request: bool,
    words: &[String],
    make: impl Fn(String, String) -> Change,
) -> (Effect, Said) {
    let [name, value, ..] = words else { return nothing(wrong("a field has a name and a value")) };
    let name = name.to_ascii_lowercase();
    if is_framing(&name) {
        return nothing(ignored(FRAMES));
    }
    if crate::model::field::FieldName::new(&name).is_err() {
        return nothing(wrong(format!("`{name}` is no name of a field")));
    }
    let place = match (request, name.as_str()) {
        (true, "host") => Where::Url,
        (true, _) => Where::Request,
        (false, _) => Where::Response,
    };
    let read = template::text(value, place);
    if request && let Some((_, usual)) = TOLD.iter().find(|(told, _)| *told == name) {
        return nothing(told(&name, usual, read.as_deref().unwrap_or("")));
    }
    let value = match read {
        Ok(value) if !value.chars().any(char::is_control) => value,
        Ok(_) => return nothing(wrong("the value of a field has no line breaks and the like")),
        Err(why) => return nothing(not_possible(why)),
    };
    if name == "host"
        && (value.is_empty() || value.chars().any(|c| !c.is_ascii_graphic() || "/?#@".contains(c)))
    {
        return nothing(wrong("that is no host"));
    }
    let said = if template::may_be_empty(&value) {
        approximated("where its value comes out empty the field is left out; HAProxy sends it empty")
    } else if value.contains("{tls_cipher}") {
        approximated("the two agree on a cipher by an order of preference of Plimsoll's own")
    } else {
        translated()
    };
    match make(name, value) {
        Change::Add(name, _) if name == "host" => nothing(wrong("a request has one Host")),
        Change::Set(name, _) if name == "host" && !request => nothing(wrong("an answer has no Host")),
        change => (Effect::Edit(Edit { request, own_too: false, change }), said),
    }
}

/// A field that is always sent.
fn told(name: &str, usual: &[&str], value: &str) -> Said {
    let always = format!("{name} is always sent, as the connection has it, or as a trusted proxy said");
    if ["http", "https"].contains(&value) && usual.contains(&value) {
        return approximated(
            "x-forwarded-proto is always sent: https where TLS ends here, else http, or as a trusted proxy said",
        );
    }
    if usual.contains(&value) {
        return Said(Verdict::Translated, always);
    }
    match value.strip_prefix("{header:").and_then(|rest| rest.strip_suffix('}')) {
        Some(field) => not_possible(format!(
            "{name} is what a trusted proxy says: write client_address = \"{field}\" and the networks of these proxies as trusted_proxies in the listener, where that field is x-forwarded-for, x-real-ip, cf-connecting-ip or forwarded"
        )),
        None => not_possible(format!("{always}: it has no other value; give yours another name")),
    }
}

/// `del-header NAME [-m METHOD]`.
pub(super) fn delete(request: bool, words: &[String]) -> (Effect, Said) {
    let [name, flags @ ..] = words else { return nothing(wrong("the name of the field is missing")) };
    let name = name.to_ascii_lowercase();
    if flags.first().is_some_and(|flag| flag == "-m") && flags.get(1).is_none_or(|method| method != "str") {
        return nothing(not_possible("fields are removed by their full names: write one line for each"));
    }
    if is_framing(&name) || name == "host" {
        return nothing(ignored(FRAMES));
    }
    if request && TOLD.iter().any(|(told, _)| *told == name) {
        return nothing(Said(
            Verdict::Translated,
            format!("{name} of a client that is in no trusted_proxies goes no further"),
        ));
    }
    if crate::model::field::FieldName::new(&name).is_err() {
        return nothing(wrong(format!("`{name}` is no name of a field")));
    }
    (Effect::Edit(Edit { request, own_too: false, change: Change::Remove(name) }), translated())
}

fn target(target: Target, said: Said) -> (Effect, Said) {
    (Effect::Edit(Edit { request: true, own_too: false, change: Change::Target(target) }), said)
}

fn part(text: &str) -> Result<String, String> {
    let made = template::text(text, Where::Url)?;
    let fits = made.chars().all(|c| c.is_ascii_graphic() && c != '#');
    if fits {
        Ok(made)
    } else {
        Err("a URL has no spaces and nothing beyond ASCII: percent-encode it".to_owned())
    }
}

/// `set-path`, `set-query`, `set-pathq` and `set-uri`.
pub(super) fn set_target(action: &str, text: &str) -> (Effect, Said) {
    let made = match part(text) {
        Ok(made) => made,
        Err(why) => return nothing(not_possible(why)),
    };
    let (path, query) = match (action, made.split_once('?')) {
        ("set-query", _) => (None, Some(made)),
        ("set-path", Some(_)) => return nothing(wrong("a path has no question mark")),
        ("set-path", None) => (Some(made), None),
        (_, Some((path, query))) => (Some(path.to_owned()), Some(query.to_owned())),
        (_, None) => (Some(made), Some(String::new())),
    };
    if let Some(path) = &path {
        if !path.starts_with('/') && !path.starts_with("{path}") {
            return nothing(not_possible("a path begins with a slash: write rewrite.path in the route"));
        }
        if path.contains("{query") || path.contains("{uri}") {
            return nothing(not_possible(
                "the path and the query are rewritten apart: write rewrite.path and rewrite.query",
            ));
        }
    }
    target(Target { regex: None, path, query }, translated())
}

/// `replace-path`, `replace-pathq` and `replace-uri`.
pub(super) fn replace_target(action: &str, words: &[String]) -> (Effect, Said) {
    let [regex, format, ..] = words else { return nothing(wrong("it has a regular expression and a text")) };
    if let Some(why) = super::super::pattern::fault(regex) {
        return nothing(not_possible(format!(
            "the regular expression is not one that Plimsoll reads ({why})"
        )));
    }
    let made = match groups(format).and_then(|text| part(&text.replace('\u{1}', "")).map(|_| text)) {
        Ok(text) => text,
        Err(why) => return nothing(not_possible(why)),
    };
    let with_groups = with_groups(&made);
    let (path, query) = match with_groups.split_once('?') {
        Some((path, query)) if action != "replace-path" => (path.to_owned(), Some(query.to_owned())),
        _ => (with_groups, None),
    };
    if !path.starts_with('/') || regex.contains(r"\?") {
        return nothing(not_possible(
            "a regular expression sees the path alone, and makes a path that begins with a slash: write rewrite in the route",
        ));
    }
    let said = if action == "replace-path" {
        translated()
    } else {
        approximated("the regular expression sees the path without its query, which stays as it is")
    };
    target(Target { regex: Some(regex.clone()), path: Some(path), query }, said)
}

/// Groups are marked with a control character until samples have been put in.
fn groups(format: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => out.extend(['\u{1}', digit]),
                _ => return Err("a backslash stands before the number of a group".to_owned()),
            },
            c if c.is_control() => return Err("a URL has no control characters".to_owned()),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn with_groups(text: &str) -> String {
    let mut out = String::new();
    let mut pieces = text.split('\u{1}');
    let put = |piece: &str| template::text(piece, Where::Url).unwrap_or_default();
    out.push_str(&put(pieces.next().unwrap_or("")));
    for piece in pieces {
        let (digit, rest) = piece.split_at_checked(1).unwrap_or(("0", ""));
        out.push_str(&format!("{{{digit}}}"));
        out.push_str(&put(rest));
    }
    out
}

/// `replace-header` and `replace-value`, where they say what a variable can.
pub(super) fn replace_header(request: bool, words: &[String]) -> (Effect, Said) {
    let [name, regex, format, ..] = words else {
        return nothing(wrong("it has a name, a regular expression and a text"));
    };
    let name = name.to_ascii_lowercase();
    let whole = ["^.*$", ".*", "^(.*)$", "(.*)"].contains(&regex.as_str());
    let kept = whole && request && name != "host" && regex.contains('(') && format.contains("\\1");
    if whole && !format.contains('\\') {
        let (effect, said) = header(request, &[name, format.clone()], Change::Set);
        let there = "it is set whether the field was there or not";
        return (effect, if said.0 == Verdict::Translated { approximated(there) } else { said });
    }
    if kept && !format.contains("\\0") && !format.contains("\\2") {
        let text = format.replace("\\1", &format!("%[req.hdr({name})]"));
        let (effect, said) = header(request, &[name, text], Change::Set);
        let there = "it is set whether the field was there or not, from its first value";
        return (effect, if said.0 == Verdict::Translated { approximated(there) } else { said });
    }
    nothing(not_possible(
        "a field is set, added, renamed or removed: it is not changed by a regular expression. Endpoints that are told X-Forwarded-Proto and -Host write such fields right themselves",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn made((effect, _): (Effect, Said)) -> Option<Target> {
        match effect {
            Effect::Edit(Edit { change: Change::Target(target), .. }) => Some(target),
            _ => None,
        }
    }

    #[test]
    fn targets_are_rewritten_by_texts_and_expressions() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(made(set_target("set-path", "/v2%[path]")).and_then(|t| t.path), text("/v2{path}"));
        let both = made(set_target("set-uri", "/a?b=%[query]"));
        assert_eq!(both.map(|t| (t.path, t.query)), Some((text("/a"), text("b={query}"))));
        let replaced = made(replace_target("replace-path", &words(r"^/api/(.*) /\1%[src]")));
        assert_eq!(
            replaced,
            Some(Target { regex: text("^/api/(.*)"), path: text("/{1}{client}"), query: None })
        );
        assert_eq!(made(replace_target("replace-path", &words(r"(?=a) /"))), None);
        assert_eq!(made(set_target("set-path", "no")), None);
    }

    #[test]
    fn a_field_that_is_always_sent_has_no_other_value() {
        let said = |value: &str| header(true, &words(&format!("X-Real-IP {value}")), Change::Set).1.0;
        assert_eq!(said("%[src]"), Verdict::Translated);
        assert_eq!(said("%[req.hdr(CF-Connecting-IP)]"), Verdict::NotPossible);
    }
}
