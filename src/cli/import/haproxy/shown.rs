//! What rules behind a rule see of a request that no route does: fields that every endpoint is told anyway, and what
//! could not be carried over. Nothing of it is written; questions that ask for it get the right answer, or none.

use super::super::region::Part;
use super::super::report::Verdict;
use super::answer::Reply;
use super::edit::Target;
use super::proxy::Stage;
use super::rule::{Answer, Change, Edit, Effect};
use super::said::Said;
use super::step::{AllSteps, Step};
use super::template::{self, Where};
use super::test::Test;

/// What rules see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// A field has this value, or has gone.
    Field(String, Option<String>),
    /// What this is cannot be told any more.
    Hidden(Subject),
}

/// A part of a request that questions are asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Field(String),
    /// Fields whose names are not known.
    Fields,
    Path,
    Query,
    Method,
    Client,
}

/// What later rules see of a rule of `http-request` of which nothing is written; `words` is it without its condition.
pub(super) fn of(words: &[String], said: &Said) -> Option<Effect> {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    if word(0) != "http-request" || said.0 == Verdict::WrongInSource {
        return None;
    }
    let name = word(2).to_ascii_lowercase();
    let shown = match word(1) {
        "set-header" => match template::text(word(3), Where::Request) {
            Ok(value) => Shown::Field(name, Some(value)),
            Err(_) => Shown::Hidden(Subject::Field(name)),
        },
        "add-header" | "replace-header" | "replace-value" => Shown::Hidden(Subject::Field(name)),
        "del-header" if words.get(3).is_none_or(|flag| flag != "-m") || word(4) == "str" => {
            Shown::Field(name, None)
        }
        "del-header" => Shown::Hidden(Subject::Fields),
        "set-path" | "set-pathq" | "set-uri" | "replace-path" | "replace-pathq" | "replace-uri" => {
            Shown::Hidden(Subject::Path)
        }
        "set-query" => Shown::Hidden(Subject::Query),
        "set-method" => Shown::Hidden(Subject::Method),
        "set-src" => Shown::Hidden(Subject::Client),
        _ => return None,
    };
    Some(show(shown))
}

fn show(shown: Shown) -> Effect {
    Effect::Edit(Edit { request: true, own_too: false, change: Change::Shown(shown) })
}

/// Nobody knows who clients are.
pub(super) fn of_client() -> Effect {
    show(Shown::Hidden(Subject::Client))
}

/// What is seen of a change of which it is not known which requests it is done to.
pub(super) fn instead(effect: &Effect) -> Option<Effect> {
    let Effect::Edit(Edit { request: true, change, .. }) = effect else { return None };
    let subject = match change {
        Change::Set(name, _) | Change::Add(name, _) | Change::Remove(name) => Subject::Field(name.clone()),
        Change::Shown(Shown::Field(name, _)) => Subject::Field(name.clone()),
        Change::Shown(Shown::Hidden(subject)) => subject.clone(),
        Change::Target(Target { path: Some(_), .. }) => Subject::Path,
        Change::Target(_) => Subject::Query,
        Change::Limit(_) | Change::Key(..) => return None,
    };
    Some(show(Shown::Hidden(subject)))
}

/// Takes out what no rule behind it asks for.
pub(super) fn forget(steps: &mut AllSteps) {
    let any = steps.values().flat_map(|of| &of.steps).any(|step| shown(step).is_some());
    if !any {
        return;
    }
    let behind = steps.iter().filter(|((back, _), _)| *back).flat_map(|(_, of)| &of.steps);
    let behind: Asked = behind.collect();
    for ((back, _), of) in steps.iter_mut() {
        let mut asked = if *back { Asked::default() } else { behind.clone() };
        let mut kept: Vec<Step> = Vec::with_capacity(of.steps.len());
        for step in std::mem::take(&mut of.steps).into_iter().rev() {
            if shown(&step).is_none_or(|shown| asked.about(shown)) {
                asked.extend([&step]);
                kept.push(step);
            }
        }
        kept.reverse();
        of.steps = kept;
    }
}

fn shown(step: &Step) -> Option<&Shown> {
    match &step.effect {
        Effect::Edit(Edit { change: Change::Shown(shown), .. }) => Some(shown),
        _ => None,
    }
}

/// What steps ask for: in their conditions, and in the texts that they put together.
#[derive(Debug, Clone, Default)]
struct Asked {
    subjects: std::collections::HashSet<Subject>,
    texts: std::collections::HashSet<String>,
}

impl<'s> FromIterator<&'s Step> for Asked {
    fn from_iter<I: IntoIterator<Item = &'s Step>>(steps: I) -> Self {
        let mut out = Self::default();
        out.extend(steps);
        out
    }
}

impl Asked {
    fn extend<'s>(&mut self, steps: impl IntoIterator<Item = &'s Step>) {
        for step in steps {
            for test in step.terms.iter().flat_map(|term| term.all.iter().chain(&term.none)) {
                self.subjects.extend(subject(test));
            }
            self.text_of(&step.effect);
            if step.stage == Stage::Response {
                continue;
            }
            // What has been put in before is asked for with it.
            if let Effect::Edit(Edit { change: Change::Shown(Shown::Field(_, Some(text))), .. }) =
                &step.effect
            {
                self.texts.insert(text.clone());
            }
        }
    }

    fn text_of(&mut self, effect: &Effect) {
        match effect {
            Effect::Answer(Answer::Redirect { to, fields, .. }) => {
                self.texts.insert(to.clone());
                self.texts.extend(fields.iter().map(|(_, text)| text.clone()));
            }
            Effect::Answer(Answer::Respond(Reply { body, fields, .. })) => {
                self.texts.insert(body.clone());
                self.texts.extend(fields.iter().map(|(_, text)| text.clone()));
            }
            Effect::Edit(Edit {
                request: true, change: Change::Set(_, text) | Change::Add(_, text), ..
            }) => {
                self.texts.insert(text.clone());
            }
            Effect::Edit(Edit { change: Change::Target(target), .. }) => {
                self.texts.extend(target.path.clone());
                self.texts.extend(target.query.clone());
            }
            _ => {}
        }
    }

    fn about(&self, shown: &Shown) -> bool {
        let named =
            |parts: &[&str]| self.texts.iter().any(|text| parts.iter().any(|part| text.contains(part)));
        let has = |subject: &Subject| self.subjects.contains(subject);
        match shown {
            Shown::Field(name, _) | Shown::Hidden(Subject::Field(name)) => {
                let subject = Subject::Field(name.clone());
                let text = format!("{{header:{name}}}");
                has(&subject)
                    || named(&[&text])
                    || name == "host" && named(&["{host"])
                    || name == "cookie" && named(&["{cookie:"])
            }
            Shown::Hidden(Subject::Fields) => {
                self.subjects.iter().any(|subject| matches!(subject, Subject::Field(_)))
                    || named(&["{header:", "{cookie:"])
            }
            Shown::Hidden(Subject::Path) => {
                has(&Subject::Path) || has(&Subject::Query) || named(&["{path}", "{uri}", "{query"])
            }
            Shown::Hidden(Subject::Query) => has(&Subject::Query) || named(&["{uri}", "{query"]),
            Shown::Hidden(Subject::Method) => has(&Subject::Method) || named(&["{method}"]),
            Shown::Hidden(Subject::Client) => has(&Subject::Client) || named(&["{client}"]),
        }
    }
}

/// What a question is about; nothing where no rule changes it.
pub(super) fn subject(test: &Test) -> Option<Subject> {
    match test {
        Test::Path(_) => Some(Subject::Path),
        Test::Hosts(_) => Some(Subject::Field("host".to_owned())),
        Test::Value(Part::Header, name, _) => Some(Subject::Field(name.clone())),
        Test::Value(Part::Cookie, ..) => Some(Subject::Field("cookie".to_owned())),
        Test::Value(Part::Query, ..) => Some(Subject::Query),
        Test::Methods(_) => Some(Subject::Method),
        Test::Source(_) => Some(Subject::Client),
        _ => None,
    }
}
