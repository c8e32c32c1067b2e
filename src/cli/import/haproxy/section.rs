//! A haproxy.cfg as sections of statements: lines are read, `.if` is followed, the environment is put in. What
//! statements mean is not asked here.

use std::collections::HashMap;

use super::super::report::{Place, Report};
use super::super::surroundings::Surroundings;
use super::condition::{Answer, VERSION, evaluate};
use super::lexer::{Line, read_line};

/// One line that says something.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    /// Where it stands.
    pub(super) at: Place,
    /// Its words, at least one.
    pub(super) words: Vec<String>,
}

impl Statement {
    /// The word at `index`, or nothing.
    #[must_use]
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// The words from `index` on.
    #[must_use]
    pub(super) fn from(&self, index: usize) -> &[String] {
        self.words.get(index..).unwrap_or_default()
    }
}

/// A section.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is: `global`, `defaults`, `frontend` and so on.
    pub(super) kind: String,
    /// Its name; empty where it has none.
    pub(super) name: String,
    /// The defaults that it names.
    pub(super) from: Option<String>,
    /// Where it opens.
    pub(super) at: Place,
    /// Its lines.
    pub(super) statements: Vec<Statement>,
}

const KINDS: [&str; 20] = [
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
    "healthcheck",
];

/// A whole configuration, read.
#[derive(Debug)]
pub(super) struct Source {
    /// Its sections, in order.
    pub(super) sections: Vec<Section>,
    /// What `setenv` and `presetenv` set.
    pub(super) variables: HashMap<String, Option<String>>,
}

/// Reads files as HAProxy does: one after the other, as if they were one.
pub(super) fn read(files: &[(&str, &str)], around: Surroundings<'_>, report: &mut Report) -> Source {
    let mut reader = Reader {
        around,
        report,
        source: Source { sections: Vec::new(), variables: HashMap::new() },
        conditions: Vec::new(),
    };
    for (name, text) in files {
        let file = reader.report.file(name, text);
        for (index, line) in text.lines().enumerate() {
            reader.line(Place { file, line: index + 1 }, line);
        }
        for open in std::mem::take(&mut reader.conditions) {
            reader.report.wrong(open.at, "it has no `.endif`");
        }
    }
    reader.source
}

/// An `.if` that is open.
#[derive(Debug, Clone, Copy)]
struct Condition {
    /// Where it opens.
    at: Place,
    /// Lines are taken now.
    active: bool,
    /// A branch was taken already, or none may be.
    done: bool,
}

struct Reader<'a, 'r> {
    around: Surroundings<'a>,
    report: &'r mut Report,
    source: Source,
    conditions: Vec<Condition>,
}

impl Reader<'_, '_> {
    fn line(&mut self, at: Place, text: &str) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return;
        }
        self.report.expect(at);
        if text.starts_with('.') {
            return self.directive(at, text);
        }
        if !self.is_active() {
            return self.report.ignored(at, "the `.if` around it does not hold");
        }
        let Some(line) = self.words(at, text) else { return };
        if line.words.is_empty() {
            return;
        }
        for name in &line.unset {
            let what = format!(
                "${name} is not set here, and HAProxy takes it for empty: set it for the import, as it is where HAProxy runs"
            );
            self.report.wrong(at, what);
        }
        self.take(at, line.words);
    }

    fn is_active(&self) -> bool {
        self.conditions.iter().all(|condition| condition.active)
    }

    fn words(&mut self, at: Place, text: &str) -> Option<Line> {
        let variables = &self.source.variables;
        let environment = |name: &str| match variables.get(name) {
            Some(value) => value.clone(),
            None => (self.around.environment)(name),
        };
        match read_line(text, &environment) {
            Ok(line) => Some(line),
            Err(error) => {
                self.report.wrong(at, format!("HAProxy cannot read it: {error}"));
                None
            }
        }
    }

    fn take(&mut self, at: Place, words: Vec<String>) {
        let statement = Statement { at, words };
        let first = statement.word(0);
        if KINDS.contains(&first) {
            let from = statement.words.iter().position(|word| word == "from");
            let name = if from == Some(1) { "" } else { statement.word(1) };
            self.source.sections.push(Section {
                kind: first.to_owned(),
                name: name.to_owned(),
                from: from.map(|at| statement.word(at + 1).to_owned()),
                at,
                statements: Vec::new(),
            });
            return;
        }
        let Some(section) = self.source.sections.last_mut() else {
            return self.report.wrong(at, "it stands outside of any section: HAProxy rejects the file");
        };
        if section.kind == "global" {
            let old = self.source.variables.contains_key(statement.word(1));
            match first {
                "setenv" => drop(set(&mut self.source.variables, &statement)),
                "presetenv" if !old && (self.around.environment)(statement.word(1)).is_none() => {
                    set(&mut self.source.variables, &statement);
                }
                "unsetenv" => {
                    let names = statement.from(1).iter().map(|name| (name.clone(), None));
                    self.source.variables.extend(names);
                }
                _ => {}
            }
        }
        section.statements.push(statement);
    }

    fn directive(&mut self, at: Place, text: &str) {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match word {
            ".if" => {
                let holds = self.is_active() && self.holds(at, rest);
                // Inside of what does not hold no branch may be taken.
                let done = holds || !self.is_active();
                self.conditions.push(Condition { at, active: holds, done });
            }
            ".elif" | ".else" => {
                let Some(open) = self.conditions.pop() else {
                    return self.report.wrong(at, format!("there is no `.if` that this `{word}` belongs to"));
                };
                let active = !open.done && (word == ".else" || self.holds(at, rest));
                self.conditions.push(Condition { at: open.at, active, done: open.done || active });
            }
            ".endif" => {
                if self.conditions.pop().is_none() {
                    return self.report.wrong(at, "there is no `.if` that this `.endif` belongs to");
                }
            }
            ".notice" | ".warning" | ".diag" => {
                return self.report.ignored(at, "it only prints when HAProxy starts");
            }
            ".alert" if self.is_active() => {
                return self.report.wrong(at, "HAProxy stops here with this message");
            }
            ".alert" => return self.report.ignored(at, "the `.if` around it does not hold"),
            _ => return self.report.wrong(at, format!("there is no directive `{word}`")),
        }
        self.report.translated(at);
    }

    fn holds(&mut self, at: Place, text: &str) -> bool {
        let Some(line) = self.words(at, text) else { return false };
        let variables = &self.source.variables;
        let environment = |name: &str| match variables.get(name) {
            Some(value) => value.clone(),
            None => (self.around.environment)(name),
        };
        match evaluate(&line.words.join(" "), &environment) {
            Answer::Known(holds) => {
                let word = if holds { "it holds" } else { "it does not hold" };
                self.report.note(
                    at,
                    super::super::report::Verdict::Translated,
                    format!("{word} in this environment"),
                );
                holds
            }
            Answer::Assumed(holds) => {
                let [major, minor, _] = VERSION;
                let word = if holds { "holds" } else { "does not hold" };
                let how =
                    format!("it {word} for HAProxy {major}.{minor} with OpenSSL, which is what is assumed");
                self.report.approximated(at, how);
                holds
            }
            Answer::Unreadable(why) => {
                self.report
                    .wrong(at, format!("the condition cannot be read: {why}; it is taken not to hold"));
                false
            }
        }
    }
}

fn set(variables: &mut HashMap<String, Option<String>>, statement: &Statement) -> Option<Option<String>> {
    variables.insert(statement.word(1).to_owned(), Some(statement.word(2).to_owned()))
}
