//! Regular expressions made of HAProxy's match methods, in the dialect that Plimsoll reads.

use regex::bytes::RegexBuilder;

/// How a text is compared (configuration manual, section 7.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Exactly.
    Exact,
    /// `_beg`.
    Start,
    /// `_end`.
    End,
    /// `_sub`.
    Inside,
    /// `_dir`: a whole element of a path.
    Directory,
    /// `_dom`: whole labels of a name.
    Domain,
    /// `_reg`.
    Regex,
}

/// As much memory as the configuration allows a compiled one.
const BYTES_MAX: usize = 1 << 20;

/// What is special in a regular expression.
const SPECIAL: &str = r"\.+*?()|[]{}^$";

/// `text` with everything special in a regular expression escaped, and no more than that.
#[must_use]
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if SPECIAL.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The regular expression that one of `texts` is matched by.
#[must_use]
pub(super) fn regex(method: Method, texts: &[String], any_case: bool) -> String {
    let case = if any_case { "(?i)" } else { "" };
    if method == Method::Regex {
        return match texts {
            [one] => format!("{case}{one}"),
            many => {
                let groups: Vec<String> = many.iter().map(|one| format!("(?:{one})")).collect();
                format!("{case}{}", groups.join("|"))
            }
        };
    }
    let escaped: Vec<String> = texts.iter().map(|text| escape(trim(method, text))).collect();
    let (any, alone) = (escaped.join("|"), escaped.len() == 1);
    let group = if alone { any } else { format!("(?:{any})") };
    match method {
        Method::Exact => format!("{case}^{group}$"),
        Method::Start => format!("{case}^{group}"),
        Method::End => format!("{case}{group}$"),
        Method::Inside | Method::Regex => format!("{case}{group}"),
        Method::Directory => format!("{case}(?:^|/){group}(?:/|$)"),
        Method::Domain => format!("{case}(?:^|[./:?]){group}(?:[./:?]|$)"),
    }
}

/// Delimiters at the ends of what `_dir` and `_dom` look for do not count.
fn trim(method: Method, text: &str) -> &str {
    match method {
        Method::Directory => text.trim_matches('/'),
        Method::Domain => text.trim_matches(['.', '/', ':', '?']),
        _ => text,
    }
}

/// The text that a regular expression of no special characters is; nothing where it has some.
#[must_use]
pub(super) fn literal(regex: &str) -> Option<String> {
    let mut out = String::with_capacity(regex.len());
    let mut chars = regex.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(char::is_ascii_punctuation)?),
            c if SPECIAL.contains(c) => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// The texts of which one begins everything that matches, where nothing more is asked: of `^a` and `^(?:a|b)`, also with
/// a `(.*)` behind.
#[must_use]
pub(super) fn starts(regex: &str) -> Option<Vec<String>> {
    let rest = regex.strip_prefix('^')?;
    let rest = rest.strip_suffix("(.*)$").or_else(|| rest.strip_suffix("(.*)")).unwrap_or(rest);
    literals(rest)
}

/// The texts of which one ends everything that matches, where nothing more is asked.
#[must_use]
pub(super) fn ends(regex: &str) -> Option<Vec<String>> {
    literals(regex.strip_suffix('$')?)
}

fn literals(regex: &str) -> Option<Vec<String>> {
    match regex.strip_prefix("(?:").and_then(|rest| rest.strip_suffix(')')) {
        // No text that is escaped has a bar of its own.
        Some(inside) if !inside.contains("\\|") => inside.split('|').map(literal).collect(),
        Some(_) => None,
        None => Some(vec![literal(regex)?]),
    }
}

/// Why Plimsoll would not take a regular expression; nothing when it does.
#[must_use]
pub(super) fn fault(regex: &str) -> Option<String> {
    let error = RegexBuilder::new(regex).size_limit(BYTES_MAX).build().err()?.to_string();
    Some(error.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&error).to_owned())
}

/// Whether `text` matches; nothing where the expression cannot be compiled.
#[must_use]
pub(super) fn matches(regex: &str, text: &str) -> bool {
    RegexBuilder::new(regex).size_limit(BYTES_MAX).build().is_ok_and(|regex| regex.is_match(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, texts: &[&str], yes: &[&str], no: &[&str]) {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let regex = regex(method, &texts, false);
        yes.iter().for_each(|text| assert!(matches(&regex, text), "{regex} {text}"));
        no.iter().for_each(|text| assert!(!matches(&regex, text), "{regex} {text}"));
    }

    #[test]
    fn methods_match_as_haproxy_has_them() {
        check(Method::Exact, &["/a", "/b.c"], &["/a", "/b.c"], &["/ab", "/bxc"]);
        check(Method::Start, &["/a"], &["/a", "/abc"], &["/b/a"]);
        check(Method::End, &[".jpg", ".png"], &["/a.jpg"], &["/a.jpg/b", "ajpg"]);
        check(Method::Inside, &["x+y"], &["/ax+yb"], &["/axxy"]);
        check(Method::Directory, &["/img/"], &["/a/img/b", "/img", "img/"], &["/images", "/aimg/"]);
        check(
            Method::Domain,
            &["example.com"],
            &["example.com", "a.example.com:80"],
            &["myexample.com", "example.community"],
        );
        check(Method::Regex, &["^/a", "b$"], &["/a1", "/xb"], &["/c"]);
        assert!(fault("(?=a)").is_some_and(|why| why.contains("look-around")));
        assert_eq!(fault("^/a$"), None);
    }
}
