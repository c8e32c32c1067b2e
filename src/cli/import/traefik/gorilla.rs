//! The variables of rules of version 2, `{name:regex}`, as regular expressions: those of the gorilla router.

use super::super::pattern::{escape, fault};

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Path,
    Prefix,
    Query,
}

/// The regular expression that a template stands for.
///
/// # Errors
/// What is wrong with it.
pub(super) fn regex(template: &str, kind: Kind) -> Result<String, String> {
    let default = match kind {
        Kind::Host => "[^.]+",
        Kind::Path | Kind::Prefix => "[^/]+",
        Kind::Query => ".*",
    };
    let mut out = String::from("^");
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(&escape(before));
        let end = closing(behind).ok_or_else(|| format!("`{template}` has a brace that is not closed"))?;
        let (inside, after) = behind.split_at(end);
        let (name, pattern) = inside.split_once(':').unwrap_or((inside, default));
        if name.is_empty() || pattern.is_empty() {
            return Err(format!("`{template}` has a variable without a name or pattern"));
        }
        out.push_str(&format!("(?:{})", super::regexp::go(pattern)));
        rest = after.get(1..).unwrap_or("");
    }
    if rest.contains('}') {
        return Err(format!("`{template}` has a brace too many"));
    }
    out.push_str(&escape(rest));
    if kind != Kind::Prefix {
        out.push('$');
    }
    match fault(&out) {
        None => Ok(out),
        Some(why) => Err(format!("`{template}` has no regular expression: {why}")),
    }
}

/// Where the brace closes that has been opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_groups() {
        assert_eq!(
            regex("{shop:[a-z]+}.example.com", Kind::Host).as_deref(),
            Ok("^(?:[a-z]+)\\.example\\.com$")
        );
        assert_eq!(regex("/a/{id}/", Kind::Prefix).as_deref(), Ok("^/a/(?:[^/]+)/"));
        assert_eq!(regex("/{id:[0-9]{2}}", Kind::Path).as_deref(), Ok("^/(?:[0-9]{2})$"));
        for text in ["{", "{a", "a}", "{:x}", "{a:}", "{a:(}"] {
            assert!(regex(text, Kind::Path).is_err(), "{text}");
        }
    }
}
