//! A document of YAML or TOML as a tree in which every key, scalar and element knows the line that it stands on, and
//! the lines of its text, none of which goes without a verdict.
//!
//! `yaml` and `toml` read one. A product's folder says what becomes of the nodes that it knows; [`Lines::settle`] then
//! judges what only holds others: lines that open a table, close a list, or go on with a text.

mod toml;
mod yaml;

use std::collections::HashSet;

use super::report::{Place, Report, Verdict};

pub(in crate::cli::import) use toml::read as read_toml;
pub(in crate::cli::import) use yaml::read as read_yaml;

/// What is nested deeper is refused.
const DEPTH_MAX: usize = 100;

/// A value with where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli::import) struct Node {
    /// Its first line.
    pub(in crate::cli::import) at: Place,
    /// The last line of a scalar; of all else the first.
    pub(in crate::cli::import) last: usize,
    /// What it is.
    pub(in crate::cli::import) content: Content,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli::import) enum Content {
    /// Nothing, or `null`.
    Null,
    /// Text, a number, a yes or no.
    Scalar {
        /// As it stands there, escapes taken.
        text: String,
        /// Whether it can be nothing but text.
        quoted: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A table in the order of its text.
    Map(Vec<(Key, Node)>),
}

/// The name of a value in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::import) struct Key {
    /// The name.
    pub(in crate::cli::import) text: String,
    /// Its line.
    pub(in crate::cli::import) at: Place,
}

/// A name that is in a table twice: the last is kept, as most readers do that take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::import) struct Twice {
    /// The name.
    pub(in crate::cli::import) name: String,
    /// Where it was first.
    pub(in crate::cli::import) first: Place,
    /// Where it is again.
    pub(in crate::cli::import) again: Place,
    /// The lines of the value that is not kept.
    pub(in crate::cli::import) lost: Vec<Place>,
}

/// What is wrong with a document, on its line. Nothing of that document is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli::import) struct Unreadable {
    /// The line.
    pub(in crate::cli::import) at: Place,
    /// What is wrong there.
    pub(in crate::cli::import) what: String,
}

/// One document of a file.
#[derive(Debug)]
pub(in crate::cli::import) struct Document {
    /// Its first line.
    pub(in crate::cli::import) at: Place,
    /// Its last line.
    pub(in crate::cli::import) last: usize,
    /// What it says; `Null` where it cannot be read or says nothing.
    pub(in crate::cli::import) root: Node,
    /// Names that are in a table twice.
    pub(in crate::cli::import) twice: Vec<Twice>,
    /// Why it cannot be read.
    pub(in crate::cli::import) unreadable: Option<Unreadable>,
}

impl Document {
    /// Tells what is wrong with it. Returns whether it can be read.
    pub(in crate::cli::import) fn tell(&self, report: &mut Report) -> bool {
        let Some(Unreadable { at, what }) = &self.unreadable else { return true };
        // A mistake on a blank line is told on the one before, or behind.
        let lines = (self.at.line..=at.line).rev().chain(at.line..=self.last);
        let here = lines.map(|line| Place { line, ..*at }).find(|here| report.says(*here));
        let Some(at) = here else { return false };
        report.wrong(at, format!("it cannot be read: {what}"));
        let why = format!("line {} makes the whole document unreadable", at.line);
        for line in self.at.line..=self.last {
            let here = Place { line, ..self.at };
            if line != at.line && report.says(here) && report.source(here) != "---" {
                report.ignored(here, why.clone());
            }
        }
        false
    }
}

impl Node {
    const fn null(at: Place) -> Self {
        Self { at, last: at.line, content: Content::Null }
    }

    /// The value of a name in this table.
    pub(in crate::cli::import) fn get(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|(_, value)| value)
    }

    /// A name in this table with its value.
    pub(in crate::cli::import) fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        self.pairs().iter().find(|(key, _)| key.text == name).map(|(key, value)| (key, value))
    }

    /// The value behind several names, each in the table of the one before.
    pub(in crate::cli::import) fn below(&self, names: &[&str]) -> Option<&Self> {
        names.iter().try_fold(self, |node, name| node.get(name))
    }

    /// The names and values of a table; none of all else.
    pub(in crate::cli::import) fn pairs(&self) -> &[(Key, Self)] {
        match &self.content {
            Content::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// The elements of a list; none of all else.
    pub(in crate::cli::import) fn items(&self) -> &[Self] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar, whatever it is.
    pub(in crate::cli::import) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it is a text that could not be a number, a yes or a no.
    pub(in crate::cli::import) const fn is_quoted(&self) -> bool {
        matches!(&self.content, Content::Scalar { quoted: true, .. })
    }

    /// A yes or no, written in any case and also in quotes.
    pub(in crate::cli::import) fn as_bool(&self) -> Option<bool> {
        match self.text()? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// A whole number, also in quotes.
    pub(in crate::cli::import) fn as_i64(&self) -> Option<i64> {
        let text = self.text()?.replace('_', "");
        for (start, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            if let Some(digits) = text.strip_prefix(start) {
                return i64::from_str_radix(digits, radix).ok();
            }
        }
        text.parse().ok()
    }

    /// A number.
    pub(in crate::cli::import) fn as_f64(&self) -> Option<f64> {
        self.text()?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Whether there is nothing: no value, an empty list or an empty table.
    pub(in crate::cli::import) const fn is_empty(&self) -> bool {
        match &self.content {
            Content::Null => true,
            Content::Scalar { .. } => false,
            Content::List(items) => items.is_empty(),
            Content::Map(pairs) => pairs.is_empty(),
        }
    }

    /// What it is, in a word.
    pub(in crate::cli::import) const fn kind(&self) -> &'static str {
        match &self.content {
            Content::Null => "nothing",
            Content::Scalar { .. } => "a value",
            Content::List(_) => "a list",
            Content::Map(_) => "a table",
        }
    }

    /// Says the same of all its lines.
    pub(in crate::cli::import) fn tell(&self, verdict: Verdict, text: &str, report: &mut Report) {
        self.each_place(&mut |at, _| report.note(at, verdict, text));
    }

    /// Calls `with` for the line of each key, scalar and element, and the last line of that.
    pub(in crate::cli::import) fn each_place(&self, with: &mut impl FnMut(Place, usize)) {
        match &self.content {
            Content::Null => {}
            Content::Scalar { .. } => with(self.at, self.last),
            Content::List(items) => {
                for item in items {
                    with(item.at, item.at.line);
                    item.each_place(with);
                }
            }
            Content::Map(pairs) => {
                for (key, value) in pairs {
                    with(key.at, key.at.line);
                    value.each_place(with);
                }
            }
        }
    }

    /// Judges what holds others by what it holds. Returns whether anything has been said of it or below it.
    fn settle(&self, report: &mut Report) -> bool {
        let mut said = false;
        match &self.content {
            Content::Null => {}
            Content::Scalar { .. } => said = !report.remarks(self.at).is_empty(),
            Content::List(items) => items.iter().for_each(|item| said |= settle_at(item.at, item, report)),
            Content::Map(pairs) => {
                pairs.iter().for_each(|(key, value)| said |= settle_at(key.at, value, report));
            }
        }
        said
    }
}

fn settle_at(at: Place, value: &Node, report: &mut Report) -> bool {
    let below = value.settle(report);
    if below && report.remarks(at).is_empty() {
        report.translated(at);
    }
    below || !report.remarks(at).is_empty()
}

/// The lines of a file that are no nodes: what opens, closes and separates, and what goes on with a text.
#[derive(Debug)]
pub(in crate::cli::import) struct Lines {
    file: usize,
    says: Vec<usize>,
}

impl Lines {
    /// Expects a verdict on every line of `text` that is neither blank nor a comment.
    pub(in crate::cli::import) fn expect(file: usize, text: &str, report: &mut Report) -> Self {
        let says = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
        let says = text.lines().enumerate().filter(|(_, line)| says(line)).map(|(at, _)| at + 1);
        let says: Vec<usize> = says.collect();
        says.iter().for_each(|&line| report.expect(Place { file, line }));
        Self { file, says }
    }

    /// Gives the lines that say nothing by themselves the verdict of what they belong to. What a node stands on and
    /// nothing was said about is left for [`Report::finish`].
    pub(in crate::cli::import) fn settle(&self, documents: &[Document], report: &mut Report) {
        let mut known: HashSet<usize> = HashSet::new();
        for document in documents {
            document.root.settle(report);
            let mut texts: Vec<(Place, usize)> = Vec::new();
            document.root.each_place(&mut |at, last| {
                known.insert(at.line);
                if last > at.line {
                    texts.push((at, last));
                }
            });
            for (at, last) in texts {
                known.extend(at.line + 1..=last);
                go_on(at, last, report);
            }
        }
        for &line in &self.says {
            let at = Place { file: self.file, line };
            if !known.contains(&line) && report.remarks(at).is_empty() {
                report.translated(at);
            }
        }
    }
}

/// The lines of a text over several lines are judged as its first.
fn go_on(at: Place, last: usize, report: &mut Report) {
    let Some(verdict) = report.remarks(at).iter().map(|remark| remark.verdict).max() else { return };
    let why = if verdict == Verdict::Translated { String::new() } else { format!("as line {}", at.line) };
    for line in at.line + 1..=last {
        let here = Place { line, ..at };
        if report.says(here) && report.remarks(here).is_empty() {
            report.note(here, verdict, why.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Document>, Report) {
        let mut report = Report::default();
        let file = report.file("a.yml", text);
        let lines = Lines::expect(file, text, &mut report);
        let documents = read_yaml(file, text);
        for document in &documents {
            document.tell(&mut report);
            if let Some(name) = document.root.get("known") {
                name.tell(Verdict::Translated, "", &mut report);
            }
        }
        lines.settle(&documents, &mut report);
        (documents, report)
    }

    #[test]
    fn lines_that_hold_others_are_judged_by_them() {
        let (_, report) =
            read("# c\n---\nknown:\n  list: [\n    1,\n  ]\n  text: |\n    a\n\n    b\nother:\n  a: b\n");
        let told: Vec<usize> = report.verdicts().map(|(at, _)| at.line).collect();
        assert_eq!(told, [2, 3, 4, 5, 6, 7, 8, 10]);
        assert!(report.verdicts().all(|(_, verdict)| verdict == Verdict::Translated));
    }

    #[test]
    fn a_document_that_cannot_be_read_is_told_on_every_line() {
        let (documents, report) = read("known: 1\n---\na: [\nb: }\nc: 1\n---\nknown: 2\n");
        assert_eq!(documents.len(), 3);
        let verdicts: Vec<(usize, Verdict)> =
            report.verdicts().map(|(at, verdict)| (at.line, verdict)).collect();
        use Verdict::{Ignored, Translated, WrongInSource};
        assert_eq!(verdicts.first(), Some(&(1, Translated)));
        assert_eq!(verdicts.last(), Some(&(7, Translated)));
        assert_eq!(verdicts.iter().filter(|(_, verdict)| *verdict == WrongInSource).count(), 1);
        assert_eq!(verdicts.iter().filter(|(_, verdict)| *verdict == Ignored).count(), 2, "{verdicts:?}");
    }
}
