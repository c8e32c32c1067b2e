//! Texts with nginx's variables, as annotations have them, in Plimsoll's words.

/// Variables that have a name here.
const NAMED: &[(&str, &str)] = &[
    ("host", "{hostname}"),
    ("http_host", "{host}"),
    ("best_http_host", "{host}"),
    ("hostname", "{hostname}"),
    ("request_uri", "{uri}"),
    ("uri", "{path}"),
    ("document_uri", "{path}"),
    ("args", "{query}"),
    ("query_string", "{query}"),
    ("scheme", "{scheme}"),
    ("pass_access_scheme", "{scheme}"),
    ("remote_addr", "{client}"),
    ("the_real_ip", "{client}"),
    ("remote_port", "{client_port}"),
    ("request_method", "{method}"),
    ("request_id", "{request_id}"),
    ("req_id", "{request_id}"),
    ("ssl_protocol", "{tls_version}"),
    ("ssl_cipher", "{tls_cipher}"),
    ("ssl_server_name", "{sni}"),
];

/// The text with `{host}` and the like in the place of `$host`; the name of the variable that has no counterpart.
pub(super) fn template(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['$', '{', '}']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let behind = from.get(1..).unwrap_or("");
        if !from.starts_with('$') {
            let brace = if from.starts_with('{') { "{{" } else { "}}" };
            out.push_str(brace);
            rest = behind;
            continue;
        }
        let (name, next) = name(behind);
        if name.is_empty() {
            return Err("$".to_owned());
        }
        out.push_str(&word(name).ok_or_else(|| name.to_owned())?);
        rest = next;
    }
    out.push_str(rest);
    Ok(out)
}

/// The name behind a dollar, and what follows it.
fn name(text: &str) -> (&str, &str) {
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        return (name, rest);
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.split_at(1);
    }
    text.split_at(text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len()))
}

fn word(name: &str) -> Option<String> {
    if let [digit @ b'1'..=b'9'] = name.as_bytes() {
        return Some(format!("{{{}}}", char::from(*digit)));
    }
    if let Some((_, word)) = NAMED.iter().find(|(own, _)| *own == name) {
        return Some((*word).to_owned());
    }
    let valid = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let of = |start: &str| name.strip_prefix(start).filter(|part| valid(part));
    if let Some(field) = of("http_") {
        return Some(format!("{{header:{}}}", field.replace('_', "-")));
    }
    if let Some(parameter) = of("arg_") {
        return Some(format!("{{query:{parameter}}}"));
    }
    of("cookie_").map(|cookie| format!("{{cookie:{cookie}}}"))
}

/// What `upstream-hash-by` names, as a `hash_key`; nothing where there is no such key.
#[must_use]
pub(super) fn hash_key(text: &str) -> Option<String> {
    let name = text.strip_prefix('$')?;
    let name = name.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(name);
    let valid =
        |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match name {
        "remote_addr" | "binary_remote_addr" | "the_real_ip" => Some("source".to_owned()),
        "request_uri" | "uri" | "document_uri" => Some("path".to_owned()),
        "host" | "http_host" => Some("sni".to_owned()),
        _ => {
            let of = |start: &str| name.strip_prefix(start).filter(valid);
            let header = of("http_").map(|field| format!("header:{}", field.replace('_', "-")));
            let query = || of("arg_").map(|parameter| format!("query:{parameter}"));
            header.or_else(query).or_else(|| of("cookie_").map(|cookie| format!("cookie:{cookie}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_other_words() {
        for (text, want) in [
            ("https://$host$request_uri", Ok("https://{hostname}{uri}")),
            ("/v2/$2/by/$1", Ok("/v2/{2}/by/{1}")),
            ("${scheme}://x/$http_x_forwarded_for", Ok("{scheme}://x/{header:x-forwarded-for}")),
            ("{a}", Ok("{{a}}")),
            ("$escaped_request_uri", Err("escaped_request_uri")),
            ("5$", Err("$")),
        ] {
            assert_eq!(template(text), want.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_is_hashed_is_one_thing() {
        assert_eq!(hash_key("$remote_addr").as_deref(), Some("source"));
        assert_eq!(hash_key("${http_x_user}").as_deref(), Some("header:x-user"));
        assert_eq!(hash_key("$cookie_id").as_deref(), Some("cookie:id"));
        assert_eq!(hash_key("$host$arg_region-tiles"), None);
    }
}
