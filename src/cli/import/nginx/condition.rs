//! What an `if` asks.

use super::super::pattern::fault;
use super::super::region::Door;
use super::ask::{Ask, Compare, about, of_tls};
use super::location::widened;
use super::scope::Scope;
use super::tree::Directive;
use super::variable::{Facts, Piece, Where, alone, is_plain, pieces, put_in, render};
use super::walk::Way;

/// What an `if` asks.
pub(super) enum Condition {
    /// A question, and whether it is to be answered no.
    Ask(Ask, bool),
    /// Whether a file is there, or is not.
    File(bool),
    Cannot(String),
    /// A question that more requests answer with yes, and why it is not the one that is asked.
    Wider(Ask, String),
    /// nginx would reject it.
    Wrong(&'static str),
}

/// The words of a condition without the brackets around it.
pub(super) fn words(of: &Directive) -> Vec<String> {
    let mut words = of.words.clone();
    if let Some(first) = words.first_mut()
        && let Some(rest) = first.strip_prefix('(')
    {
        *first = rest.to_owned();
    }
    if let Some(last) = words.last_mut()
        && let Some(rest) = last.strip_suffix(')')
    {
        *last = rest.to_owned();
    }
    if words.len() > 1 && words.first().is_some_and(String::is_empty) {
        words.remove(0);
    }
    // An empty word in quotes is one; what only the bracket was, is none.
    let operator =
        words.get(1).is_some_and(|word| ["=", "!=", "~", "!~", "~*", "!~*"].contains(&word.as_str()));
    let full = if operator {
        3
    } else if words.first().is_some_and(|word| is_file(word).is_some()) {
        2
    } else {
        1
    };
    while words.len() > full && words.last().is_some_and(String::is_empty) {
        words.pop();
    }
    words
}

fn is_file(word: &str) -> Option<bool> {
    match word {
        "-f" | "-d" | "-e" | "-x" => Some(true),
        "!-f" | "!-d" | "!-e" | "!-x" => Some(false),
        _ => None,
    }
}

const UNREADABLE: &str =
    "a condition is a variable, a comparison of one, or -f and its like: nginx rejects it";

/// Reads the condition of an `if`.
pub(super) fn read(of: &Directive, way: &Way<'_>, doors: &[Door], facts: &Facts) -> Condition {
    let brackets = of.word(0).starts_with('(') && of.words.last().is_some_and(|word| word.ends_with(')'));
    if !brackets {
        return Condition::Wrong(UNREADABLE);
    }
    let words = words(of);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [variable] if variable.starts_with('$') => {
            compared(variable, Compare::True, false, way, doors, facts)
        }
        [test, _] if is_file(test).is_some() => Condition::File(is_file(test) == Some(true)),
        [variable, sign, value] if variable.starts_with('$') => {
            let negated = sign.starts_with('!');
            let compare = match sign.trim_start_matches('!') {
                "=" => match text(value, way, facts) {
                    Ok(text) => Compare::Is(text, false),
                    Err(why) => return Condition::Cannot(why),
                },
                sign @ ("~" | "~*") => {
                    let case = if sign == "~*" { "(?i)" } else { "" };
                    let regex = format!("{case}{value}");
                    if let Some(why) = fault(&regex) {
                        let why = format!("the regular expression cannot be read here ({why})");
                        let wide = widened(value).map(|wide| format!("{case}{wide}"));
                        let wide = wide.filter(|wide| !negated && fault(wide).is_none());
                        let Some(wide) = wide else { return Condition::Cannot(why) };
                        return match compared(variable, Compare::Matches(wide), false, way, doors, facts) {
                            Condition::Ask(ask, _) => Condition::Wider(ask, why),
                            other => other,
                        };
                    }
                    Compare::Matches(regex)
                }
                _ => return Condition::Wrong(UNREADABLE),
            };
            compared(variable, compare, negated, way, doors, facts)
        }
        _ => Condition::Wrong(UNREADABLE),
    }
}

/// The text that a variable is compared with.
fn text(value: &str, way: &Way<'_>, facts: &Facts) -> Result<String, String> {
    let value = put_in(value, &way.bound);
    if is_plain(&value) {
        return Ok(value);
    }
    match render(&value, Where::Request, facts) {
        Ok(text) if !text.contains('{') => Ok(text),
        _ => Err("a route compares with a fixed text, not with another part of the request".to_owned()),
    }
}

fn compared(
    variable: &str,
    compare: Compare,
    negated: bool,
    way: &Way<'_>,
    doors: &[Door],
    facts: &Facts,
) -> Condition {
    let left = put_in(variable, &way.bound);
    let known = if is_plain(&left) { Some(left.clone()) } else { constant(&left, facts) };
    if let Some(value) = known {
        let ask = if compare.holds(&value) { Ask::Always } else { Ask::Never };
        return Condition::Ask(ask, negated);
    }
    if matches!(compare, Compare::True | Compare::Something)
        && pieces(&left).iter().any(|piece| matches!(piece, Piece::Text(text) if text != "0"))
    {
        return Condition::Ask(Ask::Always, negated);
    }
    let Some(name) = alone(&left) else {
        return Condition::Cannot(
            "a route asks for one part of a request, not for several put together".to_owned(),
        );
    };
    if let Some(why) = way.unknown.get(&name) {
        return Condition::Cannot(why.clone());
    }
    if let ("ssl_client_verify", Some(text)) = (name.as_str(), verified(&way.scope)) {
        // Without TLS it is empty.
        return Condition::Ask(of_tls(compare.holds(text), compare.holds("")), negated);
    }
    if matches!(name.as_str(), "uri" | "document_uri") && way.target.is_some() {
        return match way.samples.as_slice() {
            [one] => Condition::Ask(if compare.holds(one) { Ask::Always } else { Ask::Never }, negated),
            _ => Condition::Cannot("the path has been rewritten by then".to_owned()),
        };
    }
    // That something is not there is asked the other way round.
    let (compare, negated) = match compare {
        Compare::Is(text, _) if text.is_empty() => (Compare::Something, !negated),
        other => (other, negated),
    };
    match about(&name, &compare, doors) {
        Ask::Cannot(why) => Condition::Cannot(why),
        ask => Condition::Ask(ask, negated),
    }
}

/// `$ssl_client_verify` of all requests that come by TLS, where it is known.
pub(super) fn verified(scope: &Scope<'_>) -> Option<&'static str> {
    match scope.find("ssl_verify_client").map(|of| of.word(0)) {
        Some("on") => Some("SUCCESS"),
        None | Some("off") => Some("NONE"),
        Some(_) => None,
    }
}

/// The value of a variable that is the same for all requests of a server.
fn constant(text: &str, facts: &Facts) -> Option<String> {
    match alone(text)?.as_str() {
        "server_name" => Some(facts.server_name.clone()),
        "server_port" => facts.port.map(|port| port.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::report::Place;
    use super::*;

    #[test]
    fn brackets_are_taken_off() {
        let check = |text: &[&str], want: &[&str]| {
            let of = Directive {
                id: 0,
                name: "if".to_owned(),
                words: text.iter().map(|&word| word.to_owned()).collect(),
                at: Place { file: 0, line: 1 },
                block: None,
            };
            assert_eq!(words(&of), want, "{text:?}");
        };
        check(&["($a)"], &["$a"]);
        check(&["($a", "=", "b)"], &["$a", "=", "b"]);
        check(&["($a", "=", ")"], &["$a", "=", ""]);
        check(&["(", "$a", "=", "b", ")"], &["$a", "=", "b"]);
        check(&["(-f", "$x)"], &["-f", "$x"]);
        check(&["($a", "~", "(b))"], &["$a", "~", "(b)"]);
    }
}
