//! The condition behind `if` and `unless`: names of ACLs and ACLs in braces, and, or and not, as alternatives of which
//! each asks for some tests and against others.

use std::collections::HashMap;

use ipnet::IpNet;

use super::super::report::{Place, Report};
use super::super::surroundings::Surroundings;
use super::acl::{self, Acl};
use super::said::{Said, not_possible, wrong};
use super::section::Statement;
use super::test::{Test, merge};

/// One way for a condition to hold: all of these do, and none of those.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Term {
    /// All must hold.
    pub(super) all: Vec<Test>,
    /// None may hold.
    pub(super) none: Vec<Test>,
}

/// Conditions with more alternatives are refused.
const TERMS_MAX: usize = 128;

/// The part of a line that is its condition.
#[must_use]
pub(super) fn split(words: &[String]) -> (&[String], Option<(bool, &[String])>) {
    match words.iter().position(|word| word == "if" || word == "unless") {
        Some(at) => {
            let (before, condition) = words.split_at(at);
            let unless = condition.first().is_some_and(|word| word == "unless");
            (before, Some((unless, condition.get(1..).unwrap_or_default())))
        }
        None => (words, None),
    }
}

/// Reads conditions with the ACLs of one section.
pub(super) struct Clauses<'a> {
    /// The ACLs by name.
    pub(super) acls: &'a HashMap<String, Vec<Statement>>,
    /// What may be looked at.
    pub(super) around: Surroundings<'a>,
    /// The last condition asked something in part.
    pub(super) partial: bool,
    /// Those that have been read.
    read: HashMap<String, Result<Acl, Said>>,
}

/// A part of a condition: an ACL, or what it is not. One of no test may hold or not.
type Literal = (bool, Vec<Test>);

impl<'a> Clauses<'a> {
    /// Reads nothing yet.
    #[must_use]
    pub(super) fn new(acls: &'a HashMap<String, Vec<Statement>>, around: Surroundings<'a>) -> Self {
        Self { acls, around, partial: false, read: HashMap::new() }
    }

    /// The alternatives of a condition; one that always holds where there is none.
    ///
    /// # Errors
    /// What is to be said of a condition that no route can have.
    pub(super) fn terms(
        &mut self,
        condition: Option<(bool, &[String])>,
        at: Place,
        report: &mut Report,
    ) -> Result<Vec<Term>, Said> {
        self.terms_of(condition, false, at, report)
    }

    /// Alternatives that take at least the requests of a condition that no route can have: what of it cannot be asked may
    /// hold. Nothing where that would be everything because a client is counted.
    pub(super) fn at_least(&mut self, condition: Option<(bool, &[String])>, at: Place) -> Option<Vec<Term>> {
        self.terms_of(condition, true, at, &mut Report::default()).ok()
    }

    fn terms_of(
        &mut self,
        condition: Option<(bool, &[String])>,
        at_least: bool,
        at: Place,
        report: &mut Report,
    ) -> Result<Vec<Term>, Said> {
        self.partial = false;
        let Some((unless, words)) = condition else { return Ok(vec![Term::default()]) };
        let or_unknown = |asked: Result<Vec<Test>, Said>, fetches: &[&str]| match asked {
            // What is known of the client's past is a limit, not a right.
            Err(_) if at_least && !fetches.iter().any(|fetch| counts(fetch)) => Ok(Vec::new()),
            asked => asked,
        };
        let mut alternatives: Vec<Vec<Literal>> = vec![Vec::new()];
        let mut negated = false;
        let mut rest = words;
        while let [word, behind @ ..] = rest {
            rest = behind;
            let literal = match word.as_str() {
                "or" | "||" => {
                    alternatives.push(Vec::new());
                    continue;
                }
                "and" | "&&" => continue,
                "!" => {
                    negated = !negated;
                    continue;
                }
                "{" | "!{" => {
                    let end = behind
                        .iter()
                        .position(|word| word == "}")
                        .ok_or_else(|| wrong("a brace is not closed"))?;
                    let inside = behind.get(..end).unwrap_or_default();
                    rest = behind.get(end + 1..).unwrap_or_default();
                    let acl = acl::read(inside, self.around);
                    acl.iter().for_each(|acl| remark(acl, at, report));
                    let fetch = inside.first().map_or("", String::as_str);
                    let partial = acl.as_ref().is_ok_and(|acl| acl.partial);
                    self.partial |= partial;
                    let any = acl.map(|acl| if at_least && partial { Vec::new() } else { acl.any });
                    (word == "!{", or_unknown(any, &[fetch])?)
                }
                name => {
                    let bare = name.strip_prefix('!');
                    let named = bare.unwrap_or(name);
                    let any = self.named(named, at, report);
                    let partial =
                        self.read.get(named).is_some_and(|acl| acl.as_ref().is_ok_and(|acl| acl.partial));
                    self.partial |= partial;
                    let any = any.map(|any| if at_least && partial { Vec::new() } else { any });
                    let lines = self.acls.get(named).into_iter().flatten();
                    let fetches: Vec<&str> = lines.map(|line| line.word(2)).collect();
                    (bare.is_some(), or_unknown(any, &fetches)?)
                }
            };
            let (not, any) = literal;
            let not = not != std::mem::take(&mut negated);
            if let Some(last) = alternatives.last_mut() {
                last.push((not, any));
            }
        }
        let alternatives = if unless { negate(&alternatives)? } else { alternatives };
        expand(&alternatives)
    }

    fn named(&mut self, name: &str, at: Place, report: &mut Report) -> Result<Vec<Test>, Said> {
        if !self.read.contains_key(name) {
            let acl = self.define(name, report);
            self.read.insert(name.to_owned(), acl);
        }
        match self.read.get(name) {
            Some(Ok(acl)) => {
                remark(acl, at, report);
                Ok(acl.any.clone())
            }
            Some(Err(said)) => Err(said.clone()),
            None => Err(wrong(format!("there is no ACL {name}: HAProxy rejects the file"))),
        }
    }

    /// All lines of that name: one of them must hold.
    fn define(&self, name: &str, report: &mut Report) -> Result<Acl, Said> {
        let Some(lines) = self.acls.get(name) else {
            return acl::predefined(name)
                .ok_or_else(|| wrong(format!("there is no ACL {name}: HAProxy rejects the file")));
        };
        let mut all = Acl { any: Vec::new(), caveat: None, partial: false };
        let mut failed = None;
        for line in lines {
            match acl::read(line.from(2), self.around) {
                Ok(acl) => {
                    if let Some(caveat) = acl.caveat {
                        report.approximated(line.at, caveat);
                    } else {
                        report.translated(line.at);
                    }
                    all.caveat = all.caveat.or(acl.caveat);
                    all.partial |= acl.partial;
                    all.any.extend(acl.any);
                }
                Err(said) => {
                    said.clone().about("", line.at, report);
                    failed = Some(said);
                }
            }
        }
        all.any = merge(all.any);
        match failed {
            Some(Said(verdict, _)) => {
                Err(Said(verdict, format!("the ACL {name} cannot be asked, see there")))
            }
            None => Ok(all),
        }
    }

    /// Gives a verdict to the ACLs that no rule asks.
    pub(super) fn finish(&mut self, report: &mut Report) {
        let unused = self.acls.iter().filter(|(name, _)| !self.read.contains_key(name.as_str()));
        for line in unused.flat_map(|(_, lines)| lines) {
            match acl::read(line.from(2), self.around) {
                Err(said @ Said(super::super::report::Verdict::WrongInSource, _)) => {
                    said.about("", line.at, report)
                }
                _ => report.ignored(line.at, "no rule that is carried over asks it"),
            }
        }
    }
}

/// Whether a fetch is a counter of a client.
fn counts(fetch: &str) -> bool {
    let name = fetch.split(['(', ',']).next().unwrap_or(fetch);
    name.starts_with("src_") && name != "src_port"
        || name.starts_with("sc") && name.contains('_') && !name.starts_with("scook")
}

fn remark(acl: &Acl, at: Place, report: &mut Report) {
    if let Some(caveat) = acl.caveat {
        report.approximated(at, caveat);
    }
}

/// Not (a and b, or c) is (not a and not c, or not b and not c).
fn negate(alternatives: &[Vec<Literal>]) -> Result<Vec<Vec<Literal>>, Said> {
    let mut out: Vec<Vec<Literal>> = vec![Vec::new()];
    for alternative in alternatives {
        let mut next = Vec::new();
        for made in &out {
            for (not, any) in alternative {
                let mut more = made.clone();
                more.push((!not, any.clone()));
                next.push(more);
            }
        }
        if next.len() > TERMS_MAX {
            return Err(too_many());
        }
        out = next;
    }
    Ok(out)
}

fn too_many() -> Said {
    not_possible(format!("the condition has more than {TERMS_MAX} alternatives: write it in simpler parts"))
}

/// Each alternative of each ACL as a term of its own.
fn expand(alternatives: &[Vec<Literal>]) -> Result<Vec<Term>, Said> {
    let mut out = Vec::new();
    for alternative in alternatives {
        let mut terms = vec![Term::default()];
        for (not, any) in alternative.iter().filter(|(_, any)| !any.is_empty()) {
            if *not {
                terms.iter_mut().for_each(|term| term.none.extend(any.iter().cloned()));
                continue;
            }
            let with = |term: &Term, test: &Test| {
                let mut more = term.clone();
                more.all.push(test.clone());
                more
            };
            terms = terms.iter().flat_map(|term| any.iter().map(move |test| with(term, test))).collect();
            if terms.len() > TERMS_MAX {
                return Err(too_many());
            }
        }
        out.extend(terms);
        if out.len() > TERMS_MAX {
            return Err(too_many());
        }
    }
    for term in &mut out {
        settle(term);
    }
    Ok(out)
}

/// What has an opposite is asked for, not against.
fn settle(term: &mut Term) {
    for test in std::mem::take(&mut term.none) {
        match test {
            Test::Tls(tls) => term.all.push(Test::Tls(!tls)),
            Test::Always => term.all.push(Test::Never),
            Test::Never => {}
            other => term.none.push(other),
        }
    }
    term.all.retain(|test| *test != Test::Always);
}

/// The pool that a condition of `nbsrv` alone asks about.
pub(super) fn only_short(terms: &[Term]) -> Option<(&str, i64)> {
    match terms {
        [Term { all, none }] => match (all.as_slice(), none.as_slice()) {
            ([Test::Short(pool, fewer)], []) => Some((pool, *fewer)),
            _ => None,
        },
        _ => None,
    }
}

/// The networks of clients, where conditions ask for nothing else.
pub(super) fn sources(terms: &[Term]) -> Option<Vec<IpNet>> {
    let networks = |term: &Term| match (term.all.as_slice(), term.none.as_slice()) {
        ([Test::Source(list)], []) => Some(list.clone()),
        _ => None,
    };
    let lists: Option<Vec<Vec<IpNet>>> = terms.iter().map(networks).collect();
    Some(lists?.into_iter().flatten().collect())
}

/// The list of users that a term asks against, and the group of it.
pub(super) fn list_of(term: &Term) -> Option<(String, Option<String>)> {
    term.none.iter().find_map(|test| match test {
        Test::Auth(list, group) => Some((list.clone(), group.clone())),
        _ => None,
    })
}

/// The rate that a term asks for.
pub(super) fn asked(tests: &[Test]) -> Option<&super::limit::Asked> {
    tests.iter().find_map(|test| match test {
        Test::Faster(asked) => Some(asked),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::region::PathTest;

    fn terms(condition: &str) -> Result<Vec<Term>, Said> {
        let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let line = |text: &str| Statement { at: Place { file: 0, line: 1 }, words: words(text) };
        let mut acls: HashMap<String, Vec<Statement>> = HashMap::new();
        acls.insert("a".to_owned(), vec![line("acl a path /a")]);
        acls.insert("two".to_owned(), vec![line("acl two method GET"), line("acl two path /b")]);
        acls.insert("lua".to_owned(), vec![line("acl lua lua.x 1")]);
        let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
        let mut clauses = Clauses::new(&acls, around);
        let words = words(condition);
        let (_, condition) = split(&words);
        clauses.terms(condition, Place { file: 0, line: 1 }, &mut Report::default())
    }

    fn path(text: &str) -> Test {
        Test::Path(PathTest::Exact(text.to_owned()))
    }

    fn get() -> Test {
        Test::Methods(vec!["GET".to_owned()])
    }

    #[test]
    fn and_or_and_not_become_alternatives() {
        let term = |all: Vec<Test>, none: Vec<Test>| Term { all, none };
        assert_eq!(terms("x"), Ok(vec![Term::default()]));
        assert_eq!(terms("if a { method GET }"), Ok(vec![term(vec![path("/a"), get()], vec![])]));
        assert_eq!(
            terms("if a or !two"),
            Ok(vec![term(vec![path("/a")], vec![]), term(vec![], vec![get(), path("/b")]),])
        );
        assert_eq!(terms("if two"), Ok(vec![term(vec![get()], vec![]), term(vec![path("/b")], vec![])]));
        assert_eq!(terms("unless { ssl_fc }"), Ok(vec![term(vec![Test::Tls(false)], vec![])]));
        assert_eq!(terms("unless a || ! { path /c }"), Ok(vec![term(vec![path("/c")], vec![path("/a")])]));
        assert_eq!(terms("if TRUE"), Ok(vec![Term::default()]));
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        for not in ["if nobody", "if lua", "if { path /a", "if { lua.x 1 }"] {
            assert!(terms(not).is_err(), "{not}");
        }
        let many = format!("unless {}", ["a two"; 10].join(" or "));
        assert!(terms(&many).is_err());
    }
}
