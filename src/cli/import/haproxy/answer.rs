//! What a request gets without an endpoint: refusals, fixed answers and redirects.

use super::super::report::Verdict;
use super::super::surroundings::Surroundings;
use super::rule::{Answer, Effect, nothing};
use super::said::{Said, approximated, not_possible, translated, wrong};
use super::template::{self, Where};

/// The largest body that is written into a configuration.
const BODY_MAX: usize = 16 << 10;

/// A fixed answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// Its status.
    pub(super) status: u16,
    /// Its body, with variables.
    pub(super) body: String,
    /// What the body is, where it is not plain text.
    pub(super) content_type: Option<String>,
    /// Its fields.
    pub(super) fields: Vec<(String, String)>,
}

/// Nothing but a status.
pub(super) fn status(status: u16) -> Effect {
    Effect::Answer(Answer::Respond(Reply { status, ..Reply::default() }))
}

/// `deny [deny_status N] [content-type T] [string S] ...`, with HAProxy's default of 403.
pub(super) fn deny(words: &[String], around: Surroundings<'_>) -> (Effect, Said) {
    reply(words, 403, around)
}

/// `return [status N] [content-type T] [string S] ...`.
pub(super) fn respond(words: &[String], around: Surroundings<'_>) -> (Effect, Said) {
    reply(words, 200, around)
}

/// What HAProxy would not read of a refusal leaves it one.
fn reply(words: &[String], default: u16, around: Surroundings<'_>) -> (Effect, Said) {
    let refusal = default >= 400
        || words.windows(2).any(|pair| match pair {
            [word, status] => word == "status" && status.starts_with(['4', '5']),
            _ => false,
        });
    match read_reply(words, default, around) {
        (Effect::Nothing, said) if refusal => (status(403), said),
        read => read,
    }
}

fn read_reply(words: &[String], default: u16, around: Surroundings<'_>) -> (Effect, Said) {
    let mut made = Reply { status: default, ..Reply::default() };
    let mut said = translated();
    let mut rest = words;
    while let [word, behind @ ..] = rest {
        let value = behind.first().map_or("", String::as_str);
        rest = behind.get(1..).unwrap_or_default();
        match word.as_str() {
            "status" | "deny_status" => {
                match value.parse::<u16>().ok().filter(|status| (200..=599).contains(status)) {
                    Some(read) => made.status = read,
                    None => return nothing(wrong("HAProxy cannot read the status")),
                }
            }
            "string" | "lf-string" => match text(value, word == "lf-string") {
                Ok(text) => made.body = text,
                Err(why) => said = not_possible(why),
            },
            "file" | "lf-file" => match file(value, word == "lf-file", around) {
                Ok(text) => made.body = text,
                Err(why) => said = not_possible(why),
            },
            "content-type" => made.content_type = Some(value.to_owned()),
            "errorfile" | "errorfiles" => {
                said = approximated("the page is that of error_pages for its status, where there is one");
            }
            "hdr" => {
                let field = behind.get(1).map_or("", String::as_str);
                rest = behind.get(2..).unwrap_or_default();
                match template::text(field, Where::Response) {
                    _ if !super::super::field::is_editable(value) => {
                        said = not_possible(format!("`{value}` is no field that an answer can be given"));
                    }
                    Ok(text) if text.chars().any(char::is_control) => {
                        return nothing(wrong("the value of a field has no line breaks and the like"));
                    }
                    Ok(text) => made.fields.push((value.to_ascii_lowercase(), text)),
                    Err(why) => said = not_possible(why),
                }
            }
            "default-errorfiles" => rest = behind,
            other => return nothing(wrong(format!("`{other}` is no part of an answer"))),
        }
    }
    if made.content_type.as_deref().is_some_and(|kind| crate::model::field::FieldValue::new(kind).is_err()) {
        return nothing(wrong("that is no content type"));
    }
    if matches!(made.status, 204 | 205 | 304) {
        made.body.clear();
    }
    if made.body.is_empty() {
        made.content_type = None;
    } else if made.content_type.is_none() {
        said = wrong("a body has a content-type: HAProxy rejects the file without one");
    }
    (Effect::Answer(Answer::Respond(made)), said)
}

fn text(value: &str, format: bool) -> Result<String, String> {
    // `string` is taken as it is.
    let format = if format { value.to_owned() } else { value.replace('%', "%%") };
    template::text(&format, Where::Body)
}

fn file(path: &str, format: bool, around: Surroundings<'_>) -> Result<String, String> {
    let Some(read) = (around.read)(std::path::Path::new(path)) else {
        return Err(format!(
            "the file {path} is not here: import where it is, or write it as the body of the route's `respond`"
        ));
    };
    if read.len() > BODY_MAX {
        return Err(format!("{path} is a page, not a body of a route: let an endpoint serve it"));
    }
    text(&read, format)
}

/// `redirect location|prefix|scheme X [code N] [drop-query] ...`.
pub(super) fn redirect(words: &[String]) -> (Effect, Said) {
    let mut status = 302;
    let (mut said, mut fields) = (translated(), Vec::new());
    let (mut made, mut flags) = (None, Flags::default());
    let mut rest = words;
    while let [word, behind @ ..] = rest {
        let value = behind.first().map_or("", String::as_str);
        rest = behind;
        match word.as_str() {
            "scheme" | "location" | "prefix" => {
                made = match template::text(value, Where::Url) {
                    Ok(value) => Some((word.as_str(), value)),
                    Err(why) => return nothing(not_possible(why)),
                };
                rest = behind.get(1..).unwrap_or_default();
            }
            "code" => {
                match value.parse() {
                    Ok(code @ (301 | 302 | 303 | 307 | 308)) => status = code,
                    _ => return nothing(wrong("the code is 301, 302, 303, 307 or 308")),
                }
                rest = behind.get(1..).unwrap_or_default();
            }
            "drop-query" => flags.drop_query = true,
            "append-slash" => flags.slash = true,
            "keep-query" => flags.keep_query = true,
            "ignore-empty" => {}
            "set-cookie" | "set-cookie-fmt" | "clear-cookie" => {
                match cookie(word, value) {
                    Ok(cookie) => fields.push(("set-cookie".to_owned(), cookie)),
                    Err(why) => said = not_possible(why),
                }
                rest = behind.get(1..).unwrap_or_default();
            }
            other => return nothing(wrong(format!("`{other}` is no part of a redirect"))),
        }
    }
    let Some((kind, value)) = made else { return nothing(wrong("it does not say where to")) };
    let (to, differs) = flags.location(kind, &value);
    if to.is_empty() || to.chars().any(|c| !c.is_ascii_graphic()) {
        return nothing(not_possible("a URL has no spaces and nothing beyond ASCII: percent-encode it"));
    }
    if let (Some(how), Verdict::Translated) = (differs, said.0) {
        said = approximated(how);
    }
    (Effect::Answer(Answer::Redirect { to, status, fields }), said)
}

/// What a redirect does with the path and the query.
#[derive(Debug, Default)]
struct Flags {
    drop_query: bool,
    keep_query: bool,
    slash: bool,
}

impl Flags {
    /// The URL, and how it differs from HAProxy's.
    fn location(&self, kind: &str, value: &str) -> (String, Option<&'static str>) {
        let rest = if self.drop_query { "{path}" } else { "{uri}" };
        match kind {
            "scheme" => (format!("{value}://{{host}}{rest}"), None),
            "prefix" => {
                // `prefix /` leaves the path as it is.
                let start = if value == "/" { "" } else { value };
                let slash = if self.slash { "/" } else { "" };
                let how = "the slash is put behind what ends with one too: let the condition leave that out";
                (format!("{start}{rest}{slash}"), self.slash.then_some(how))
            }
            _ if self.keep_query && value.contains('?') => {
                let how = "of a URL without a query comes one that ends with an &";
                (format!("{value}&{{query}}"), Some(how))
            }
            _ if self.keep_query => (format!("{value}{{?query}}"), None),
            _ => (value.to_owned(), None),
        }
    }
}

/// A cookie as HAProxy sends it with a redirect.
fn cookie(word: &str, value: &str) -> Result<String, String> {
    if value.chars().any(char::is_control) {
        return Err("a cookie has no control characters".to_owned());
    }
    let pair = if word == "set-cookie-fmt" { value.to_owned() } else { value.replace('%', "%%") };
    let end = if word == "clear-cookie" { "; path=/; Max-Age=0" } else { "; path=/" };
    let equals = if value.contains('=') { "" } else { "=" };
    Ok(format!("{}{equals}{end}", template::text(&pair, Where::Response)?))
}
