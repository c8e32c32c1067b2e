//! Clients that the controller turns away by what they say of themselves: `block-user-agents` and `block-referers`.

use super::super::pattern::{escape, fault};
use super::super::region::{Part, Region, ValueTest};
use super::super::report::{Place, Report};
use super::draft::{Draft, respond};
use super::value::list;

/// What is turned away of one field, as regular expressions.
#[derive(Debug)]
pub(super) struct Block {
    field: &'static str,
    patterns: Vec<String>,
    at: Place,
}

/// A route has expressions of about so many bytes.
const LENGTH_MAX: usize = 2000;

/// Reads a list of values; nothing where one of them cannot be said, so that nobody may be let in.
pub(super) fn read(field: &'static str, text: &str, at: Place, report: &mut Report) -> Option<Block> {
    let mut patterns = Vec::new();
    for entry in list(text) {
        match pattern(&entry) {
            Ok(pattern) => patterns.push(pattern),
            Err(why) => {
                report.not_possible(at, format!("`{entry}` {why}. Until that is a route with headers = {{ {field} = ... }} and respond = {{ status = 403 }}, nobody is let in"));
                return None;
            }
        }
    }
    Some(Block { field, patterns, at })
}

/// One parameter of nginx's `map`: text of any case, or an expression behind `~` or `~*`.
fn pattern(entry: &str) -> Result<String, String> {
    let unquoted = |quote: char| entry.strip_prefix(quote)?.strip_suffix(quote);
    let entry = unquoted('"').or_else(|| unquoted('\'')).unwrap_or(entry);
    let pattern = match (entry.strip_prefix("~*"), entry.strip_prefix('~')) {
        (Some(any_case), _) => format!("(?i:{any_case})"),
        (None, Some(exact)) => format!("(?:{exact})"),
        (None, None) if entry.is_empty() => {
            return Err("is a request without the field, which is no condition".to_owned());
        }
        (None, None) => format!("(?i:^{}$)", escape(entry.strip_prefix('\\').unwrap_or(entry))),
    };
    match fault(&pattern) {
        Some(why) => Err(format!("is no regular expression that Plimsoll reads ({why})")),
        None => Ok(pattern),
    }
}

/// The routes that turn them away, before all others.
pub(super) fn drafts(blocks: &[Block]) -> Vec<Draft> {
    let mut out = Vec::new();
    for block in blocks {
        out.extend(join(&block.patterns).into_iter().map(|regex| Draft {
            name: format!("blocked-{}", block.field),
            comment: None,
            at: Some(block.at),
            region: Region {
                values: vec![(Part::Header, block.field.to_owned(), ValueTest::Regex(regex))],
                ..Region::default()
            },
            table: respond(403, Some(block.at)),
        }));
    }
    out
}

/// Several expressions as one, as far as that is not too large.
fn join(patterns: &[String]) -> Vec<String> {
    let mut parts: Vec<(usize, Vec<&str>)> = Vec::new();
    for pattern in patterns {
        match parts.last_mut().filter(|(length, _)| length + pattern.len() < LENGTH_MAX) {
            Some((length, part)) => {
                *length += pattern.len() + 1;
                part.push(pattern);
            }
            None => parts.push((pattern.len(), vec![pattern])),
        }
    }
    let mut out = Vec::new();
    for (_, part) in parts {
        let joined = part.join("|");
        if fault(&joined).is_none() {
            out.push(joined);
        } else {
            out.extend(part.into_iter().map(str::to_owned));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Place = Place { file: 0, line: 1 };

    #[test]
    fn a_list_is_one_expression() {
        let mut report = Report::default();
        let block = read("user-agent", "curl/7.1, ~*scanner,~Bot", AT, &mut report).expect("it is read");
        assert!(!report.is_incomplete());
        let drafts = drafts(&[block]);
        let regexes: Vec<&ValueTest> = drafts.iter().map(|draft| &draft.region.values[0].2).collect();
        let regex = "(?i:^curl/7\\.1$)|(?i:scanner)|(?:Bot)".to_owned();
        assert_eq!(regexes, [&ValueTest::Regex(regex)]);
    }

    #[test]
    fn what_cannot_be_said_lets_nobody_in() {
        for text in ["~(", "a,\"\""] {
            let mut report = Report::default();
            assert!(read("referer", text, AT, &mut report).is_none(), "{text}");
            assert!(report.is_incomplete());
        }
    }

    #[test]
    fn long_lists_are_several_routes() {
        let text: Vec<String> = (0..1000).map(|number| format!("agent-{number}")).collect();
        let block = read("user-agent", &text.join(","), AT, &mut Report::default()).expect("it is read");
        let drafts = drafts(&[block]);
        assert!((2..20).contains(&drafts.len()), "{}", drafts.len());
    }
}
