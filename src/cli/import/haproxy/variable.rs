//! Variables of `set-var`: requests carry none here, so what was put into one stands where it is used.

use std::collections::{HashMap, HashSet};

use super::super::report::{Report, Verdict};
use super::proxy::{Proxy, Rule};
use super::section::Statement;
use super::template::sample_of;

/// A word does not grow beyond this by what is put into it.
const WORD_MAX: usize = 4096;
/// Variables may be made of others so deeply.
const DEPTH_MAX: usize = 4;

/// Puts what variables are made of where they are used, of all that are set in one way only and always.
pub(super) fn put_in(proxies: &mut [Proxy], report: &mut Report) {
    let mut known: HashMap<String, Option<String>> = HashMap::new();
    for (name, made) in proxies.iter().flat_map(|proxy| &proxy.rules).filter_map(set) {
        let own = known.entry(name).or_insert_with(|| made.clone());
        if *own != made {
            *own = None;
        }
    }
    if known.is_empty() {
        return;
    }
    let changed = Changed::by(proxies.iter().flat_map(|proxy| &proxy.rules));
    for made in known.values_mut().filter(|made| made.as_ref().is_some_and(|made| changed.has(made))) {
        *made = None;
    }
    for proxy in proxies {
        proxy.rules.retain(|rule| {
            let gone = set(rule).is_some_and(|(name, _)| known.get(&name).is_some_and(Option::is_some));
            if gone {
                report.note(rule.at, Verdict::Translated, "what it is made of stands where it is used");
            }
            !gone
        });
        let of_rules = proxy.rules.iter_mut().map(|rule| &mut rule.words);
        let of_acls = proxy.acls.values_mut().flatten().map(|line: &mut Statement| &mut line.words);
        for words in of_rules.chain(of_acls) {
            for word in words.iter_mut().filter(|word| word.contains("var(")) {
                for _ in 0..DEPTH_MAX {
                    match replaced(word, &known) {
                        Some(new) if new.len() <= WORD_MAX => *word = new,
                        _ => break,
                    }
                }
            }
        }
    }
}

/// The variable that a rule sets and what it is made of; nothing of that where it is not plain.
fn set(rule: &Rule) -> Option<(String, Option<String>)> {
    let at = rule
        .words
        .iter()
        .position(|word| word.starts_with("set-var(") || word.starts_with("set-var-fmt("))?;
    let word = rule.words.get(at)?;
    let name = word.split_once('(')?.1.split([',', ')']).next()?.to_owned();
    let behind = rule.words.get(at + 1..).unwrap_or_default();
    let made = match behind {
        [made] if word.starts_with("set-var(") => Some(made.clone()),
        [format] => of_format(format),
        _ => None,
    };
    // What a rule for answers sets is not known when a request is routed.
    let made = made.filter(|_| rule.words.first().is_some_and(|word| !word.ends_with("response")));
    Some((name, made))
}

/// What rules change of requests: a sample of it is another one before such a rule and behind it.
#[derive(Default)]
struct Changed {
    target: bool,
    fields: HashSet<String>,
}

impl Changed {
    fn by<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut out = Self::default();
        for rule in rules.filter(|rule| rule.words.first().is_some_and(|word| word == "http-request")) {
            let word = |at: usize| rule.words.get(at).map_or("", String::as_str);
            match word(1) {
                "set-path" | "set-pathq" | "set-uri" | "set-query" | "replace-path" | "replace-pathq"
                | "replace-uri" => out.target = true,
                "set-header" | "add-header" | "del-header" | "replace-header" | "replace-value" => {
                    out.fields.insert(word(2).to_ascii_lowercase());
                }
                _ => {}
            }
        }
        out
    }

    fn has(&self, made: &str) -> bool {
        let made = made.to_ascii_lowercase();
        let of_target = ["path", "url", "query", "uri"].iter().any(|word| made.contains(word));
        let fields = made.split('(').skip(1).filter_map(|rest| rest.split([',', ')']).next());
        self.target && of_target || fields.map(str::trim).any(|name| self.fields.contains(name))
    }
}

fn of_format(format: &str) -> Option<String> {
    match format.strip_prefix('%').filter(|rest| rest.starts_with('[')) {
        Some(rest) => sample_of(rest).ok().filter(|(_, after)| after.is_empty()).map(|(sample, _)| sample),
        None => (!format.contains(['%', '(', ')', ','])).then(|| format!("str({format})")),
    }
}

fn replaced(word: &str, known: &HashMap<String, Option<String>>) -> Option<String> {
    let mut out = String::new();
    let (mut rest, mut changed) = (word, false);
    while let Some(at) = rest.find("var(") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let inside = from.strip_prefix("var(").and_then(|inside| inside.split_once(')'));
        let name = inside.map_or("", |(name, _)| name.split(',').next().unwrap_or(name).trim());
        let alone = !before.ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        match (known.get(name), inside) {
            (Some(Some(made)), Some((_, after))) if alone => {
                out.push_str(made);
                (rest, changed) = (after, true);
            }
            _ => {
                out.push_str("var(");
                rest = from.strip_prefix("var(").unwrap_or("");
            }
        }
    }
    out.push_str(rest);
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::super::super::report::Place;
    use super::super::proxy::Stage;
    use super::*;

    fn rule(text: &str) -> Rule {
        let words = text.split(' ').map(str::to_owned).collect();
        Rule { at: Place { file: 0, line: 1 }, stage: Stage::Request, words }
    }

    #[test]
    fn what_a_variable_is_made_of_stands_where_it_is_used() {
        let rules = vec![
            rule("http-request set-var(txn.host) req.hdr(host),lower"),
            rule("http-request set-var(txn.two) str(a) if x"),
            rule("use_backend %[var(txn.host),map(m)] if { var(txn.two) a }"),
        ];
        let mut proxies = vec![Proxy { rules, ..Proxy::default() }];
        put_in(&mut proxies, &mut Report::default());
        let words: Vec<String> = proxies[0].rules.iter().map(|rule| rule.words.join(" ")).collect();
        assert_eq!(
            words,
            [
                "http-request set-var(txn.two) str(a) if x",
                "use_backend %[req.hdr(host),lower,map(m)] if { var(txn.two) a }"
            ]
        );
    }

    #[test]
    fn what_changes_on_the_way_does_not_stand_elsewhere() {
        let rules = vec![
            rule("http-request set-var(txn.path) path"),
            rule("http-request set-path /new"),
            rule("http-request set-header x %[var(txn.path)]"),
        ];
        let mut proxies = vec![Proxy { rules, ..Proxy::default() }];
        put_in(&mut proxies, &mut Report::default());
        assert_eq!(proxies[0].rules.len(), 3);
    }

    #[test]
    fn variables_of_each_other_end() {
        let rules = vec![
            rule("http-request set-var(txn.a) var(txn.b),var(txn.b)"),
            rule("http-request set-var(txn.b) var(txn.a),var(txn.a)"),
            rule("http-request set-header x %[var(txn.a)]"),
        ];
        let mut proxies = vec![Proxy { rules, ..Proxy::default() }];
        put_in(&mut proxies, &mut Report::default());
        assert!(proxies[0].rules[0].words[3].len() <= WORD_MAX);
    }
}
