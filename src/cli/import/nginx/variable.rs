//! Texts with variables as nginx has them, as texts with variables of ours.

use std::collections::HashMap;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Variable(String),
}

/// The parts of a text.
#[must_use]
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        plain.push_str(before);
        let (name, after) = name_of(behind);
        rest = after;
        if name.is_empty() {
            plain.push('$');
            continue;
        }
        if !plain.is_empty() {
            out.push(Piece::Text(std::mem::take(&mut plain)));
        }
        out.push(Piece::Variable(name.to_owned()));
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        out.push(Piece::Text(plain));
    }
    out
}

/// The name at the start of what stands behind a dollar sign, and what is behind that.
fn name_of(text: &str) -> (&str, &str) {
    if let Some((name, after)) = text.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
        return (name, after);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.split_at(1);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

/// The name, where a text is one variable and nothing else.
#[must_use]
pub(super) fn alone(text: &str) -> Option<String> {
    match pieces(text).as_slice() {
        [Piece::Variable(name)] => Some(name.clone()),
        _ => None,
    }
}

/// Whether a text has no variables.
#[must_use]
pub(super) fn is_plain(text: &str) -> bool {
    pieces(text).iter().all(|piece| matches!(piece, Piece::Text(_)))
}

/// Variables whose value is known on a way, by name; their values have none that are known.
pub(super) type Bound = HashMap<String, String>;

/// The text with what is known put in.
#[must_use]
pub(super) fn put_in(text: &str, bound: &Bound) -> String {
    let mut out = once(text, bound);
    // A value may have variables that have become known since.
    for _ in 0..8 {
        let more = once(&out, bound);
        if more == out {
            break;
        }
        out = more;
    }
    out
}

fn once(text: &str, bound: &Bound) -> String {
    let mut out = String::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(&text),
            Piece::Variable(name) => match bound.get(&name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("${");
                    out.push_str(&name);
                    out.push('}');
                }
            },
        }
        if out.len() > TEXT_MAX {
            break;
        }
    }
    out
}

/// Texts do not grow beyond this.
const TEXT_MAX: usize = 16 << 10;

/// Where a text is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// A field of a request.
    Request,
    /// A field of an answer.
    Response,
    /// Where a redirect leads.
    Url,
    /// A path that takes the place of another.
    Path,
    /// A query, likewise.
    Query,
    /// The body of an answer.
    Body,
}

/// What is known where a text is put together.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The first name of the server.
    pub(super) server_name: String,
    /// The port of the server, where it has one.
    pub(super) port: Option<u16>,
    /// `$proxy_host`.
    pub(super) proxy_host: Option<String>,
    /// Names of groups of the regular expression that the route, or its rewriting, has; nothing where there is none.
    pub(super) groups: Option<Vec<String>>,
}

/// Variables that are one of ours.
const SAME: [(&str, &str); 34] = [
    ("host", "{hostname}"),
    ("http_host", "{host}"),
    ("uri", "{path}"),
    ("document_uri", "{path}"),
    ("request_uri", "{uri}"),
    ("args", "{query}"),
    ("query_string", "{query}"),
    ("scheme", "{scheme}"),
    ("remote_addr", "{client}"),
    ("remote_port", "{client_port}"),
    ("realip_remote_addr", "{peer}"),
    ("proxy_protocol_addr", "{client}"),
    ("proxy_protocol_port", "{client_port}"),
    ("request_method", "{method}"),
    ("request_id", "{request_id}"),
    ("ssl_protocol", "{tls_version}"),
    ("ssl_cipher", "{tls_cipher}"),
    ("ssl_server_name", "{sni}"),
    ("content_type", "{header:content-type}"),
    ("content_length", "{header:content-length}"),
    ("upstream_addr", "{endpoint}"),
    ("upstream_status", "{status}"),
    ("status", "{status}"),
    ("http_x_forwarded_for", "{header:x-forwarded-for}"),
    ("proxy_add_x_forwarded_for", "{header:x-forwarded-for}, {client}"),
    ("http_cookie", "{header:cookie}"),
    ("http_referer", "{header:referer}"),
    ("http_user_agent", "{header:user-agent}"),
    ("http_origin", "{header:origin}"),
    ("http_authorization", "{header:authorization}"),
    ("upstream_cache_status", ""),
    ("proxy_internal_host", "{host}"),
    ("limit_req_status", ""),
    ("limit_conn_status", ""),
];

/// The text with variables of ours.
///
/// # Errors
/// What of it has no counterpart.
pub(super) fn render(text: &str, place: Where, facts: &Facts) -> Result<String, String> {
    let mut out = String::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => plain(&text, place, &mut out)?,
            Piece::Variable(name) => out.push_str(&variable(&name, place, facts)?),
        }
    }
    Ok(out)
}

fn variable(name: &str, place: Where, facts: &Facts) -> Result<String, String> {
    let groups = facts.groups.as_ref();
    if let Ok(number) = name.parse::<u8>() {
        return match groups {
            _ if matches!(place, Where::Request | Where::Response) => Err(format!(
                "${name} is a group of a regular expression, which only URLs and bodies have here"
            )),
            Some(_) => Ok(format!("{{{number}}}")),
            None => Err(format!("${name} is a group of no regular expression of the route's path")),
        };
    }
    if groups.is_some_and(|names| names.iter().any(|own| own == name)) {
        return match place {
            Where::Request | Where::Response => Err(format!(
                "${name} is a group of a regular expression, which only URLs and bodies have here"
            )),
            _ => Ok(format!("{{group:{name}}}")),
        };
    }
    if let Some((_, ours)) = SAME.iter().find(|(theirs, _)| *theirs == name) {
        let of_answer = ["{endpoint}", "{status}"].contains(ours);
        let has_query = ["{uri}", "{query}"].contains(ours);
        return if of_answer && place != Where::Response {
            Err(format!("${name} is known only once an endpoint has answered"))
        } else if has_query && place == Where::Path {
            Err(format!("${name} has a query in it, and this is a path"))
        } else {
            Ok((*ours).to_owned())
        };
    }
    for (start, kind, dashes) in
        [("http_", "header", true), ("cookie_", "cookie", false), ("arg_", "query", false)]
    {
        if let Some(which) = name.strip_prefix(start).filter(|which| !which.is_empty()) {
            let which = if dashes { which.replace('_', "-") } else { which.to_owned() };
            return Ok(format!("{{{kind}:{which}}}"));
        }
    }
    match name {
        "server_name" => Ok(facts.server_name.clone()),
        "server_port" | "proxy_port" => facts
            .port
            .map(|port| port.to_string())
            .ok_or_else(|| format!("${name} differs between the listeners")),
        "proxy_host" => facts.proxy_host.clone().ok_or_else(|| "there is no $proxy_host here".to_owned()),
        _ => Err(format!("${name} has no counterpart here")),
    }
}

/// Text that is to stay what it is.
fn plain(text: &str, place: Where, out: &mut String) -> Result<(), String> {
    if matches!(place, Where::Url | Where::Path | Where::Query) {
        for c in text.chars() {
            if c.is_ascii_graphic() && !matches!(c, '{' | '}') {
                out.push(c);
            } else {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    out.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        return Ok(());
    }
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        if behind.starts_with('{') || before.contains("}}") {
            return Err("two braces in a row cannot be written".to_owned());
        }
        match behind.split_once('}') {
            Some((name, after)) if is_name(name) => {
                out.push_str(&format!("{{{{{name}}}}}"));
                rest = after;
            }
            _ => {
                out.push('{');
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    Ok(())
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '"' | '\'');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_put_together_of_our_variables() {
        let facts = Facts {
            server_name: "a.test".to_owned(),
            groups: Some(vec!["id".to_owned()]),
            ..Facts::default()
        };
        for (text, place, want) in [
            ("https://$host$request_uri", Where::Url, "https://{hostname}{uri}"),
            ("/u/$1/${id}x", Where::Path, "/u/{1}/{group:id}x"),
            ("${http_x_a}-$cookie_b-$arg_c", Where::Request, "{header:x-a}-{cookie:b}-{query:c}"),
            ("$server_name", Where::Request, "a.test"),
            ("{\"a\": {b}}", Where::Body, "{\"a\": {{b}}}"),
            ("a b$", Where::Url, "a%20b$"),
        ] {
            assert_eq!(render(text, place, &facts).as_deref(), Ok(want), "{text}");
        }
        for (text, place) in [
            ("$id", Where::Request),
            ("$time_local", Where::Body),
            ("$args", Where::Path),
            ("{{", Where::Body),
        ] {
            assert!(render(text, place, &facts).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_known_is_put_in() {
        let bound: Bound = [("a".to_owned(), "1".to_owned())].into_iter().collect();
        assert_eq!(put_in("$a-${b}$", &bound), "1-${b}$");
        assert_eq!(alone("${a}"), Some("a".to_owned()));
        assert!(is_plain("a$") && !is_plain("$a"));
    }
}
