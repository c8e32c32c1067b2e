//! Texts with samples in them, HAProxy's log-format, as texts with variables.

use super::acl::top_level;

/// Where a text is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// A field of a request.
    Request,
    /// A field of an answer.
    Response,
    /// A URL, or a part of one.
    Url,
    /// The body of an answer.
    Body,
}

/// Aliases of samples in a log-format (configuration manual, section 8.2.6).
const ALIASES: [(&str, &str); 14] = [
    ("ci", "src"),
    ("cp", "src_port"),
    ("HU", "capture.req.uri"),
    ("HP", "capture.req.path"),
    ("HM", "method"),
    ("ID", "unique-id"),
    ("ST", "status"),
    ("sslv", "ssl_fc_protocol"),
    ("sslc", "ssl_fc_cipher"),
    ("ft", "fe_name"),
    ("f", "fe_name"),
    ("b", "be_name"),
    ("s", "srv_name"),
    ("HPO", "capture.req.path"),
];

/// Samples without arguments, and the variables that they are.
const PLAIN: [(&str, &str); 20] = [
    ("src", "client"),
    ("src_port", "client_port"),
    ("path", "path"),
    ("query", "query"),
    ("url", "uri"),
    ("pathq", "uri"),
    ("capture.req.uri", "original_uri"),
    ("capture.req.path", "original_path"),
    ("method", "method"),
    ("capture.req.method", "method"),
    ("unique-id", "request_id"),
    ("uuid", "request_id"),
    ("ssl_fc_protocol", "tls_version"),
    ("ssl_fc_cipher", "tls_cipher"),
    ("ssl_fc_sni", "sni"),
    ("fe_name", "listener"),
    ("be_name", "pool"),
    ("srv_name", "endpoint"),
    ("status", "status"),
    ("uuid()", "request_id"),
];

/// The text with variables that `text` is. What HAProxy keeps as the request came, whatever rules change of it, is a
/// variable that begins with `original_` until `seen` makes what it is of it.
///
/// # Errors
/// What of it has no counterpart.
pub(super) fn text(text: &str, place: Where) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        plain(before, place, &mut out)?;
        if let Some(behind) = behind.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let (sample, after) = sample_of(behind)?;
        put(&sample, place, &mut out)?;
        rest = after;
    }
    plain(rest, place, &mut out)?;
    Ok(out)
}

/// Text that is to stay what it is.
fn plain(text: &str, place: Where, out: &mut String) -> Result<(), String> {
    if !text.contains(['{', '}']) {
        out.push_str(text);
        return Ok(());
    }
    if place == Where::Url {
        return Err("a URL has no braces: percent-encode them".to_owned());
    }
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        if behind.starts_with('{') || before.contains("}}") {
            return Err("two braces in a row cannot be written".to_owned());
        }
        match behind.split_once('}') {
            Some((name, after)) if is_name(name) => {
                out.push_str("{{");
                out.push_str(name);
                out.push_str("}}");
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
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\''))
}

/// The sample that begins behind a percent sign, and what is behind it.
pub(super) fn sample_of(text: &str) -> Result<(String, &str), String> {
    if let Some(inside) = text.strip_prefix('[') {
        let mut depth = 0_usize;
        for (at, c) in inside.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                ']' if depth == 0 => {
                    let (sample, after) = inside.split_at(at);
                    return Ok((sample.to_owned(), after.get(1..).unwrap_or_default()));
                }
                _ => {}
            }
        }
        return Err("a bracket is not closed".to_owned());
    }
    let alias = |(alias, sample): &(&str, &str)| {
        let after = text.strip_prefix(alias)?;
        (!after.starts_with(|c: char| c.is_ascii_alphanumeric())).then(|| ((*sample).to_owned(), after))
    };
    ALIASES.iter().find_map(alias).ok_or_else(|| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
        format!("%{} has no counterpart", text.get(..end).unwrap_or_default())
    })
}

fn put(sample: &str, place: Where, out: &mut String) -> Result<(), String> {
    let unknown =
        || format!("%[{sample}] has no counterpart: a text has what {{...}} of request_headers can be");
    let mut parts = top_level(sample).into_iter();
    let fetch = parts.next().unwrap_or("").trim();
    let converters: Vec<&str> = parts.map(str::trim).collect();
    let (name, argument) = match fetch.split_once('(') {
        Some((name, inside)) => (name, inside.strip_suffix(')').unwrap_or(inside).trim()),
        None => (fetch, ""),
    };
    if name == "str" && converters.is_empty() {
        return plain(argument, place, out);
    }
    let variable = variable(name, argument, &converters).ok_or_else(unknown)?;
    let answered = ["endpoint", "status"].contains(&variable.as_str());
    let sent = answered || variable == "pool";
    if answered && place != Where::Response || sent && matches!(place, Where::Url | Where::Body) {
        return Err(unknown());
    }
    if out.ends_with('$') {
        return Err("a dollar sign before a variable cannot be written".to_owned());
    }
    out.push('{');
    out.push_str(&variable);
    out.push('}');
    Ok(())
}

fn variable(name: &str, argument: &str, converters: &[&str]) -> Option<String> {
    let argument = argument.trim_matches(['"', '\'']);
    let named = |kind: &str| {
        let own = argument.split(',').next().unwrap_or("").trim();
        let first = matches!(argument.split(',').nth(1).map(str::trim), None | Some("1" | "-1"));
        (first && !own.is_empty()).then(|| format!("{kind}:{own}"))
    };
    let lower = |converters: &[&str]| converters.iter().all(|converter| *converter == "lower");
    let is_host = argument.split(',').next().is_some_and(|own| own.trim().eq_ignore_ascii_case("host"));
    match name {
        "hdr" | "req.hdr" | "req.fhdr" | "req_hdr" if is_host => {
            let port_off = |converter: &&&str| matches!(**converter, "host_only" | "field(1,:)");
            let rest: Vec<&str> =
                converters.iter().filter(|converter| !port_off(converter)).copied().collect();
            lower(&rest).then(|| if rest.len() < converters.len() { "hostname" } else { "host" }.to_owned())
        }
        "ssl_fc" => (converters == ["iif(https,http)"]).then(|| "scheme".to_owned()),
        "ssl_fc_sni" => lower(converters).then(|| "sni".to_owned()),
        _ if !converters.is_empty() => None,
        "hdr" | "req.hdr" | "req.fhdr" | "req_hdr" => named("header").map(|name| name.to_ascii_lowercase()),
        "cook" | "req.cook" => named("cookie"),
        "urlp" | "url_param" => named("query"),
        _ => {
            let known = PLAIN.iter().find(|(own, _)| *own == name).map(|(_, variable)| *variable)?;
            argument.is_empty().then(|| known.to_owned())
        }
    }
}

/// Whether a text with variables may come out empty, so that its field is left out.
#[must_use]
pub(super) fn may_be_empty(template: &str) -> bool {
    let empty = ["header:", "cookie:", "query:", "query}", "sni}", "tls_"];
    let mut parts = template.split('{');
    let first = parts.next().unwrap_or("");
    let mut parts = parts.peekable();
    let gone = |part: &str| part.ends_with('}') && empty.iter().any(|start| part.starts_with(start));
    first.is_empty() && parts.peek().is_some() && parts.all(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_variables_or_nothing() {
        let url = |own: &str| text(own, Where::Url).ok();
        assert_eq!(
            url("https://%[hdr(host)]%[capture.req.uri]").as_deref(),
            Some("https://{host}{original_uri}")
        );
        assert_eq!(url("https://a.test/x%%20y").as_deref(), Some("https://a.test/x%20y"));
        assert_eq!(url("https://%[req.hdr(host),regsub(a,b)]/"), None);
        assert_eq!(
            url("https://%[req.hdr(Host),field(1,:),lower]/%HP").as_deref(),
            Some("https://{hostname}/{original_path}")
        );
        assert_eq!(url("/{a}"), None);
    }

    #[test]
    fn a_text_is_empty_when_all_of_it_is() {
        for (text, empty) in [
            ("{header:a}", true),
            ("{sni}{query}", true),
            ("{tls_version}/{tls_cipher}", false),
            ("{header:a}-x", false),
            ("x", false),
            ("{client}", false),
        ] {
            assert_eq!(may_be_empty(text), empty, "{text}");
        }
    }

    #[test]
    fn fields_and_bodies_keep_their_braces() {
        let body = |own: &str| text(own, Where::Body).ok();
        assert_eq!(body(r#"{"client":"%[src]"}"#).as_deref(), Some(r#"{"client":"{client}"}"#));
        assert_eq!(body("{host} %%").as_deref(), Some("{{host}} %"));
        assert_eq!(body("%[status]"), None);
        let field = |own: &str| text(own, Where::Response).ok();
        assert_eq!(field("%s;%[ssl_fc,iif(https,http)]").as_deref(), Some("{endpoint};{scheme}"));
        assert_eq!(field("%[req.hdr(X-A)] %[urlp(b)]").as_deref(), Some("{header:x-a} {query:b}"));
        assert_eq!(field("%Tr"), None);
    }
}
