//! Regular expressions of Go in the dialect that Plimsoll reads: nearly the same one.

use super::super::pattern::fault;

/// The same expression for Plimsoll. Go takes a brace for itself where no count stands in it, and a class for a plain
/// list of characters.
#[must_use]
pub(super) fn go(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut class = false;
    let mut before = '\0';
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        let behind = text.get(at + c.len_utf8()..).unwrap_or("");
        match c {
            '\\' => {
                out.push(c);
                if let Some((_, next)) = rest.next() {
                    out.push(next);
                }
                before = '\\';
                continue;
            }
            '{' if !class && !is_count(behind) => out.push_str("\\{"),
            '[' if !class => {
                class = true;
                out.push('[');
                // A bracket that comes first, also behind ^, is of the class.
                let negated = behind.strip_prefix('^');
                if negated.is_some() {
                    out.push('^');
                    rest.next();
                }
                if negated.unwrap_or(behind).starts_with(']') {
                    out.push_str("\\]");
                    rest.next();
                }
            }
            '[' if class && !behind.starts_with(':') => out.push_str("\\["),
            '[' if class => {
                // A class by name, as in [:alpha:].
                let end = behind.find(":]").map_or(0, |end| end + 2);
                out.push('[');
                out.push_str(behind.get(..end).unwrap_or(""));
                for _ in behind.get(..end).unwrap_or("").chars() {
                    rest.next();
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            '&' | '~' | '-' if class && before == c => out.extend(['\\', c]),
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// Whether what stands behind a brace is a count: `2}`, `2,}` or `2,5}`.
fn is_count(text: &str) -> bool {
    let Some((inside, _)) = text.split_once('}') else { return false };
    let (from, to) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    !from.is_empty() && digits(from) && digits(to)
}

/// Whether a bar stands outside of all groups, and so divides all of it.
#[must_use]
pub(super) fn divided(regex: &str) -> bool {
    let (mut depth, mut class, mut escaped) = (0_usize, false, false);
    for c in regex.chars() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth = depth.saturating_sub(1),
            '|' if !class && depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Go does not read it either.
    Wrong(String),
    /// It is not read here alone.
    Unsaid(String),
}

/// The expression for Plimsoll.
pub(super) fn read(text: &str) -> Result<String, Fault> {
    let regex = go(text);
    match fault(&regex) {
        None => Ok(regex),
        // What is of Unicode or too large may be fine for Traefik.
        Some(why) if why.contains("Unicode") || why.contains("size limit") => {
            Err(Fault::Unsaid(format!("the regular expression is not read here: {why}")))
        }
        Some(why) => Err(Fault::Wrong(format!("`{text}` is no regular expression: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_go_are_read() {
        for (text, want) in [
            ("^/a{2}/x{2,}$", "^/a{2}/x{2,}$"),
            ("{id:[0-9]+}", "\\{id:[0-9]+}"),
            ("[[]a[]]", "[\\[]a[\\]]"),
            ("[^]a-]", "[^\\]a-]"),
            ("[[:alpha:]_]", "[[:alpha:]_]"),
            ("[a&&b]", "[a&\\&b]"),
            ("\\{a\\[", "\\{a\\["),
        ] {
            assert_eq!(go(text), want, "{text}");
            assert!(read(text).is_ok(), "{text}");
        }
        assert!(matches!(read("(["), Err(Fault::Wrong(_))));
    }

    #[test]
    fn bars_are_looked_for_outside_of_groups() {
        assert!(divided("^a|b$"));
        for text in ["^(a|b)$", "[|]", "a\\|b"] {
            assert!(!divided(text), "{text}");
        }
    }
}
