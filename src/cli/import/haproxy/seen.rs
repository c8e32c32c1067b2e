//! What a rule sees of a request that rules before it have changed. HAProxy asks of the request as it then is, a route of
//! the request as it came: questions and texts are turned back to that.

use super::super::pattern::{Method, ends, literal, matches, regex, starts};
use super::super::region::{Part, PathTest, ValueTest, below, narrower_host};
use super::super::report::Place;
use super::answer::Reply;
use super::edit::Target;
use super::rule::{Answer, Change, Edit, Effect};
use super::shown::{self, Shown, Subject};
use super::test::Test;

/// Why what a rule sees cannot be told from the request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// The path has changed where this matches, and it is not known whether it does.
    Perhaps(String),
    /// It has changed in a way that cannot be looked through.
    Hidden(&'static str),
}

const PATH: Lost = Lost::Hidden(
    "a rule before it changes the path, and a route sees the path as it came: write the route for that path",
);
const FIELD: Lost = Lost::Hidden(
    "a rule before it changes what this asks for, and a route sees requests as they came: ask for what the rule before asks",
);
const TEXT: Lost = Lost::Hidden(
    "a rule before it changes what is put in here, and variables are of the request as it came: write what comes out",
);

/// What is known of the last change of the path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// Its regular expression may match or not.
    #[default]
    Nothing,
    /// It matches.
    Matches,
    /// Requests that it matches cannot be told from others.
    Never,
}

/// A change of an answer, of which rules have changed nothing.
pub(super) fn of_answer(edit: &mut Edit) {
    if let Change::Set(_, text) | Change::Add(_, text) = &mut edit.change
        && let Ok(made) = (Seen { edits: &[], known: Known::Nothing }).text(text)
    {
        *text = made;
    }
}

/// A request as the rules so far have left it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// What has been done to it.
    pub(super) edits: &'a [(Edit, Place)],
    /// What is known of the last change of its path.
    pub(super) known: Known,
}

/// What has become of the path.
#[derive(Debug, PartialEq, Eq)]
enum Moved<'a> {
    Not,
    /// It is this.
    To(&'a str),
    /// In the place of the one start it has the other.
    Start(String, &'a str),
}

/// What has become of a field.
enum Field<'a> {
    AsItCame,
    Gone,
    Set(&'a str),
    /// It has this beside what came.
    More,
    /// Nobody knows.
    Hidden,
}

impl Seen<'_> {
    /// The question that asks the same of the request as it came.
    pub(super) fn question(self, test: &Test) -> Result<Test, Lost> {
        if shown::subject(test).is_some_and(|subject| self.hides(&subject)) {
            return Err(if matches!(test, Test::Path(_)) { PATH } else { FIELD });
        }
        match test {
            Test::Path(path) => match self.moved()? {
                Moved::Not => Ok(test.clone()),
                Moved::To(now) => Ok(known(holds(path, now))),
                Moved::Start(from, to) => before(path, &from, to).ok_or(PATH),
            },
            Test::Hosts(hosts) => match self.field("host") {
                Field::Set(now) if now.contains('{') => Err(FIELD),
                Field::Set(now) => {
                    let name = now.split(':').next().unwrap_or(now).to_ascii_lowercase();
                    Ok(known(hosts.iter().any(|host| narrower_host(host, &name).as_ref() == Some(&name))))
                }
                Field::AsItCame => Ok(test.clone()),
                Field::Gone | Field::More | Field::Hidden => Err(FIELD),
            },
            Test::Value(Part::Header, name, value) => self.of_field(test, name, value),
            Test::Value(Part::Query, ..) => match self.query() {
                None => Ok(test.clone()),
                Some("") => Ok(Test::Never),
                Some(_) => Err(FIELD),
            },
            Test::Value(Part::Cookie, ..) if !matches!(self.field("cookie"), Field::AsItCame) => Err(FIELD),
            _ => Ok(test.clone()),
        }
    }

    fn of_field(self, test: &Test, name: &str, value: &ValueTest) -> Result<Test, Lost> {
        let there = *value == ValueTest::Regex(String::new());
        match self.field(name) {
            Field::AsItCame => Ok(test.clone()),
            Field::Gone => Ok(Test::Never),
            Field::More | Field::Set(_) if there => Ok(Test::Always),
            Field::Set(now) if !now.contains(['{', ',']) => Ok(known(match value {
                ValueTest::Exact(text) => text == now,
                ValueTest::Regex(regex) => matches(regex, now),
            })),
            Field::Set(now) => of_variable(now, value).ok_or(FIELD),
            Field::More | Field::Hidden => Err(FIELD),
        }
    }

    /// Whether it cannot be told any more what this is.
    fn hides(self, subject: &Subject) -> bool {
        self.edits.iter().any(|(edit, _)| match &edit.change {
            // With the path the query may be another one.
            Change::Shown(Shown::Hidden(own)) => {
                own == subject || (own, subject) == (&Subject::Path, &Subject::Query)
            }
            _ => false,
        })
    }

    /// The rule as it is for the request as it came.
    pub(super) fn effect(self, effect: &Effect) -> Result<Effect, Lost> {
        Ok(match effect {
            Effect::Answer(Answer::Redirect { to, status, fields }) => Effect::Answer(Answer::Redirect {
                to: self.text(to)?,
                status: *status,
                fields: self.texts(fields)?,
            }),
            Effect::Answer(Answer::Respond(reply)) => Effect::Answer(Answer::Respond(Reply {
                body: self.text(&reply.body)?,
                fields: self.texts(&reply.fields)?,
                ..reply.clone()
            })),
            Effect::Edit(edit) if edit.request => {
                Effect::Edit(Edit { change: self.change(&edit.change)?, ..edit.clone() })
            }
            other => other.clone(),
        })
    }

    fn texts(self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, Lost> {
        pairs.iter().map(|(name, text)| Ok((name.clone(), self.text(text)?))).collect()
    }

    fn change(self, change: &Change) -> Result<Change, Lost> {
        Ok(match change {
            Change::Shown(Shown::Field(name, Some(value))) => Change::Shown(self.text(value).map_or_else(
                |_| Shown::Hidden(Subject::Field(name.clone())),
                |value| Shown::Field(name.clone(), Some(value)),
            )),
            Change::Set(name, value) => Change::Set(name.clone(), self.text(value)?),
            Change::Add(name, value) => Change::Add(name.clone(), self.text(value)?),
            Change::Target(target) => Change::Target(Target {
                regex: target.regex.clone(),
                path: target.path.as_deref().map(|path| self.text(path)).transpose()?,
                query: target.query.as_deref().map(|query| self.text(query)).transpose()?,
            }),
            other => other.clone(),
        })
    }

    /// A text with variables of the request as it came.
    fn text(self, text: &str) -> Result<String, Lost> {
        let mut out = String::new();
        let mut rest = text;
        while let Some((start, behind)) = rest.split_once('{') {
            out.push_str(start);
            // Two braces in a row are one that begins no variable.
            if let Some(behind) = behind.strip_prefix('{') {
                out.push_str("{{");
                rest = behind;
                continue;
            }
            match behind.split_once('}') {
                Some((name, after)) => {
                    out.push_str(&self.variable(name)?);
                    rest = after;
                }
                None => {
                    out.push('{');
                    rest = behind;
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn variable(self, name: &str) -> Result<String, Lost> {
        let same = || Ok(format!("{{{name}}}"));
        let of = match name {
            "path" => Some(Subject::Path),
            "uri" | "query" | "?query" => Some(Subject::Query),
            "method" => Some(Subject::Method),
            "client" => Some(Subject::Client),
            _ => name.starts_with("query:").then_some(Subject::Query),
        };
        if of.is_some_and(|subject| self.hides(&subject)) {
            return Err(TEXT);
        }
        match name {
            "original_uri" => Ok("{uri}".to_owned()),
            "original_path" => Ok("{path}".to_owned()),
            "path" => Ok(self.path()?.map_or("{path}", |path| path).to_owned()),
            "query" => Ok(self.query().unwrap_or("{query}").to_owned()),
            "?query" => Ok(match self.query() {
                None => "{?query}".to_owned(),
                Some("") => String::new(),
                Some(query) => format!("?{query}"),
            }),
            "uri" => self.uri(),
            "host" | "hostname" => match self.field("host") {
                Field::AsItCame => same(),
                Field::Set(now) if name == "host" || !now.contains([':', '{']) => Ok(now.to_owned()),
                _ => Err(TEXT),
            },
            _ => match name.split_once(':') {
                Some(("header", field)) => match self.field(field) {
                    Field::AsItCame => same(),
                    Field::Gone => Ok(String::new()),
                    Field::Set(now) => Ok(now.to_owned()),
                    Field::More | Field::Hidden => Err(TEXT),
                },
                Some(("query", _)) if self.query().is_some() => Err(TEXT),
                Some(("cookie", _)) if !matches!(self.field("cookie"), Field::AsItCame) => Err(TEXT),
                _ => same(),
            },
        }
    }

    /// Path and query, whose question mark is there only with a query.
    fn uri(self) -> Result<String, Lost> {
        match (self.path()?, self.query()) {
            (None, None) => Ok("{uri}".to_owned()),
            (Some(path), None) => Ok(match path.strip_suffix("{path}") {
                Some(start) => format!("{start}{{uri}}"),
                None => format!("{path}{{?query}}"),
            }),
            (path, Some("")) => Ok(path.unwrap_or("{path}").to_owned()),
            (path, Some(query)) => Ok(format!("{}?{query}", path.unwrap_or("{path}"))),
        }
    }

    fn targets(&self) -> impl DoubleEndedIterator<Item = &Target> {
        self.edits.iter().filter_map(|(edit, _)| match &edit.change {
            Change::Target(target) => Some(target),
            _ => None,
        })
    }

    fn query(&self) -> Option<&str> {
        self.targets().rev().find_map(|target| target.query.as_deref())
    }

    /// The text that the path has become; nothing where it is as it came.
    fn path(&self) -> Result<Option<&str>, Lost> {
        let mut all = self.targets().filter_map(|target| Some((target, target.path.as_deref()?)));
        let Some((target, path)) = all.next() else { return Ok(None) };
        match &target.regex {
            _ if all.next().is_some() => Err(PATH),
            None => Ok(Some(path)),
            Some(_) if self.known == Known::Matches && !path.contains('{') => Ok(Some(path)),
            Some(regex) if self.known == Known::Nothing => Err(Lost::Perhaps(regex.clone())),
            Some(_) => Err(TEXT),
        }
    }

    fn moved(&self) -> Result<Moved<'_>, Lost> {
        let mut all = self.targets().filter_map(|target| Some((target, target.path.as_deref()?)));
        let Some((target, path)) = all.next() else { return Ok(Moved::Not) };
        if all.next().is_some() {
            return Err(PATH);
        }
        let from = match (&target.regex, self.known) {
            (None, _) => None,
            (Some(regex), Known::Nothing) => return Err(Lost::Perhaps(regex.clone())),
            (Some(regex), Known::Matches) => Some(regex),
            (Some(_), Known::Never) => return Err(PATH),
        };
        if !path.contains('{') {
            return Ok(Moved::To(path));
        }
        let Some(from) = from else {
            let to = path.strip_suffix("{path}").filter(|to| !to.contains('{')).ok_or(PATH)?;
            return Ok(Moved::Start(String::new(), to));
        };
        let to = path.strip_suffix("{1}").filter(|to| !to.contains('{')).ok_or(PATH)?;
        let start = from
            .strip_prefix('^')
            .and_then(|rest| rest.strip_suffix("(.*)$").or_else(|| rest.strip_suffix("(.*)")));
        Ok(Moved::Start(start.and_then(literal).ok_or(PATH)?, to))
    }

    fn field(&self, name: &str) -> Field<'_> {
        let mut now = Field::AsItCame;
        for (edit, _) in self.edits.iter().filter(|(edit, _)| edit.request) {
            match &edit.change {
                Change::Shown(shown) => match shown {
                    Shown::Field(own, Some(value)) if own == name => now = Field::Set(value),
                    Shown::Field(own, None) if own == name => now = Field::Gone,
                    Shown::Hidden(Subject::Fields) => now = Field::Hidden,
                    Shown::Hidden(Subject::Field(own)) if own == name => now = Field::Hidden,
                    _ => {}
                },
                Change::Set(own, value) if own == name => now = Field::Set(value),
                Change::Add(own, _) if own == name => now = Field::More,
                Change::Remove(own) if own == name => now = Field::Gone,
                _ => {}
            }
        }
        now
    }
}

/// The question to a field that is one variable, and has no other value; nothing where that is no question of a route.
fn of_variable(now: &str, value: &ValueTest) -> Option<Test> {
    let fits = |text: &str| match value {
        ValueTest::Exact(exact) => exact == text,
        ValueTest::Regex(regex) => matches(regex, text),
    };
    match now.strip_prefix('{')?.strip_suffix('}')? {
        "scheme" => Some(match (fits("https"), fits("http")) {
            (true, true) => Test::Always,
            (true, false) => Test::Tls(true),
            (false, true) => Test::Tls(false),
            (false, false) => Test::Never,
        }),
        name => {
            let name = name.strip_prefix("header:").filter(|name| !name.contains('{'))?;
            // Of a request without it comes an empty value, which only an expression can ask for.
            let plain = matches!(value, ValueTest::Exact(text) if !text.is_empty());
            (plain || !fits("")).then(|| Test::Value(Part::Header, name.to_owned(), value.clone()))
        }
    }
}

const fn known(holds: bool) -> Test {
    if holds { Test::Always } else { Test::Never }
}

/// Whether a path is as it must be.
fn holds(test: &PathTest, path: &str) -> bool {
    match test {
        PathTest::Exact(exact) => exact == path,
        PathTest::Prefix(prefix) => below(prefix, path),
        PathTest::Start(text) => path.starts_with(text.as_str()),
        PathTest::Regex(regex) => matches(regex, path),
    }
}

/// What a path that begins with `from` must be, so that it is as it must be with `to` in the place of that. Without a
/// `from` it is put before the path.
fn before(test: &PathTest, from: &str, to: &str) -> Option<Test> {
    let back = |rest: &str| {
        let path = format!("{from}{rest}");
        path.starts_with('/').then_some(path)
    };
    match test {
        PathTest::Exact(path) => {
            let exact = path.strip_prefix(to).and_then(back);
            Some(exact.map_or(Test::Never, |path| Test::Path(PathTest::Exact(path))))
        }
        PathTest::Prefix(prefix) if to == prefix => from.is_empty().then_some(Test::Always),
        PathTest::Prefix(prefix) if below(prefix, to) => Some(Test::Always),
        PathTest::Prefix(prefix) => {
            let path = prefix.strip_prefix(to).and_then(back);
            Some(path.map_or(Test::Never, |path| Test::Path(PathTest::Prefix(path))))
        }
        PathTest::Start(_) => before(&PathTest::Regex(test.regex()), from, to),
        PathTest::Regex(of) => match starts(of) {
            Some(list) if list.iter().any(|start| to.starts_with(start.as_str())) => Some(Test::Always),
            Some(list) => {
                let list: Vec<String> =
                    list.iter().filter_map(|start| start.strip_prefix(to)).filter_map(back).collect();
                let all = list.is_empty() || list.iter().any(|start| start == "/");
                Some(if all {
                    known(!list.is_empty())
                } else {
                    Test::Path(PathTest::Regex(regex(Method::Start, &list, false)))
                })
            }
            // An end without a slash lies behind the one that both starts end with.
            None if ends(of).is_some_and(|list| list.iter().all(|end| !end.contains('/'))) => {
                let kept = from.is_empty() || from.ends_with('/') && to.ends_with('/');
                kept.then(|| Test::Path(PathTest::Regex(of.clone())))
            }
            None => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::pattern::escape;
    use super::*;

    fn edit(change: Change) -> (Edit, Place) {
        (Edit { request: true, own_too: false, change }, Place { file: 0, line: 1 })
    }

    fn path(regex: Option<&str>, path: &str) -> (Edit, Place) {
        let regex = regex.map(str::to_owned);
        edit(Change::Target(Target { regex, path: Some(path.to_owned()), query: None }))
    }

    fn starts_with(text: &str) -> Test {
        Test::Path(PathTest::Regex(format!("^{}", escape(text))))
    }

    #[test]
    fn questions_are_asked_of_the_path_as_it_came() {
        let ask = |edit: (Edit, Place), known, text: &str| {
            Seen { edits: &[edit], known }.question(&starts_with(text))
        };
        let put = || path(None, "/jenkins{path}");
        assert_eq!(ask(put(), Known::Nothing, "/jenkins"), Ok(Test::Always));
        assert_eq!(ask(put(), Known::Nothing, "/other"), Ok(Test::Never));
        assert_eq!(ask(put(), Known::Nothing, "/jenkins/job/"), Ok(starts_with("/job/")));
        let cloud = || path(Some("^/cloud/(.*)$"), "/{1}");
        assert_eq!(ask(cloud(), Known::Nothing, "/data/"), Err(Lost::Perhaps("^/cloud/(.*)$".to_owned())));
        assert_eq!(ask(cloud(), Known::Matches, "/data/"), Ok(starts_with("/cloud/data/")));
        assert_eq!(ask(cloud(), Known::Never, "/data/"), Err(PATH));
        let odd = path(Some("^/(a|b)/(.*)$"), "/{2}");
        assert_eq!(ask(odd, Known::Matches, "/data/"), Err(PATH));
    }

    #[test]
    fn questions_are_asked_of_fields_as_they_came() {
        let edits = [
            edit(Change::Set("x-a".to_owned(), "1".to_owned())),
            edit(Change::Remove("x-b".to_owned())),
            edit(Change::Set("x-c".to_owned(), "{client}".to_owned())),
            edit(Change::Set("host".to_owned(), "a.test".to_owned())),
        ];
        let seen = Seen { edits: &edits, known: Known::Nothing };
        let ask = |name: &str, value: &str| {
            let value = ValueTest::Exact(value.to_owned());
            seen.question(&Test::Value(Part::Header, name.to_owned(), value))
        };
        assert_eq!(ask("x-a", "1"), Ok(Test::Always));
        assert_eq!(ask("x-a", "2"), Ok(Test::Never));
        assert_eq!(ask("x-b", "1"), Ok(Test::Never));
        assert_eq!(ask("x-c", "1"), Err(FIELD));
        assert_eq!(seen.question(&Test::Hosts(vec!["*.test".to_owned()])), Ok(Test::Always));
        assert_eq!(seen.question(&Test::Hosts(vec!["b.test".to_owned()])), Ok(Test::Never));
    }

    #[test]
    fn texts_are_of_the_request_as_it_came() {
        let edits = [path(None, "/jenkins{path}"), edit(Change::Set("x-a".to_owned(), "1{sni}".to_owned()))];
        let seen = Seen { edits: &edits, known: Known::Nothing };
        assert_eq!(seen.text("https://{host}{uri}").as_deref(), Ok("https://{host}/jenkins{uri}"));
        assert_eq!(
            seen.text("{path} {{path}} {header:x-a}").as_deref(),
            Ok("/jenkins{path} {{path}} 1{sni}")
        );
        let edits = [path(None, "/fixed")];
        assert_eq!(
            Seen { edits: &edits, known: Known::Nothing }.text("{uri}").as_deref(),
            Ok("/fixed{?query}")
        );
    }
}
