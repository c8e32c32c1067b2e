//! What is wrong in a configuration, where, and what to write instead. Leaves finding it to the other files.

use std::fmt;
use std::path::PathBuf;

use super::source::{Sources, Span};

/// More errors than this are counted, not shown: nobody reads them, and a broken file must not fill a log.
const SHOWN_MAX: usize = 200;
/// Columns of a source line that are shown.
const LINE_MAX: usize = 120;

/// Every error of a configuration, by file and position; `Display` prints all of them for a person.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    left_out: usize,
}

/// One error of a configuration.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// The file that it is in.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// Another place that matters, such as where a name was defined first.
    pub note: Option<String>,
    /// What to write instead.
    pub help: String,
    excerpt: Option<Excerpt>,
}

/// The source line, shortened, and the part of it that is underlined.
#[derive(Debug, Clone)]
struct Excerpt {
    text: String,
    before: usize,
    width: usize,
}

impl Diagnostics {
    /// The errors, by file and position.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// How many there are, those past the ones that are listed included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len() + self.left_out
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        if self.left_out > 0 {
            writeln!(f, "\nand {} more errors", self.left_out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.message)?;
        if let Some(Excerpt { text, before, width }) = &self.excerpt {
            let number = self.line.to_string();
            writeln!(f, " {number} | {text}")?;
            writeln!(f, " {:gutter$} | {:before$}{:^<width$}", "", "", "", gutter = number.len())?;
        }
        if let Some(note) = &self.note {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "help: {}", self.help)
    }
}

/// Collects what is wrong while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    /// Part of the text could not be read at all, so that whatever is found missing later may well be in it.
    pub(super) incomplete: bool,
}

#[derive(Debug)]
struct Problem {
    span: Span,
    message: String,
    other: Option<(String, Span)>,
    help: String,
}

impl Report {
    /// Notes that `message` is wrong at `span` and that `help` is the remedy.
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { span, message: message.into(), other: None, help: help.into() });
    }

    /// As [`Report::error`], with a second place, introduced by `label`.
    pub(super) fn error_beside(
        &mut self,
        span: Span,
        message: impl Into<String>,
        (label, other): (&str, Span),
        help: impl Into<String>,
    ) {
        let other = Some((label.to_owned(), other));
        self.problems.push(Problem { span, message: message.into(), other, help: help.into() });
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Sorts what was collected and joins it with the texts.
    pub(super) fn finish(mut self, sources: &Sources) -> Diagnostics {
        self.problems.sort_by_key(|p| (p.span.file, p.span.start));
        // A key of [defaults.pool] or of a pool that others are like is looked at more than once.
        self.problems.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        let left_out = self.problems.len().saturating_sub(SHOWN_MAX);
        let shown = self.problems.into_iter().take(SHOWN_MAX);
        Diagnostics { list: shown.map(|problem| problem.locate(sources)).collect(), left_out }
    }
}

impl Problem {
    fn locate(self, sources: &Sources) -> Diagnostic {
        let place = sources.place(self.span);
        Diagnostic {
            file: sources.name(self.span.file).to_owned(),
            line: place.line + 1,
            column: place.column + 1,
            message: self.message,
            note: self.other.map(|(label, span)| format!("{label} {}", sources.locate(span))),
            help: self.help,
            excerpt: Excerpt::cut(place.text, place.column, place.width),
        }
    }
}

impl Excerpt {
    /// Takes the part of a line around what is underlined; nothing when there is nothing to see.
    fn cut(line: &str, column: usize, width: usize) -> Option<Self> {
        if line.trim().is_empty() {
            return None;
        }
        let skipped = if column + width.min(20) > LINE_MAX { column.saturating_sub(40) } else { 0 };
        let shown = line.chars().skip(skipped).take(LINE_MAX);
        // What a terminal would act on does not reach it.
        let text: String = shown.map(|c| if c == '\t' { ' ' } else { c }).map(visible).collect();
        let before = column - skipped;
        Some(Self {
            text: text.trim_end().to_owned(),
            before,
            width: width.min(LINE_MAX.saturating_sub(before)).max(1),
        })
    }
}

fn visible(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_long_line_is_cut_around_the_mistake() {
        let mut sources = Sources::default();
        let text = format!("{}BAD{}", "x".repeat(300), "y".repeat(300));
        let file = sources.add(Path::new("long.toml"), text);
        let mut report = Report::default();
        report.error(Span { file, start: 300, end: 303 }, "wrong", "right");
        let printed = report.finish(&sources).to_string();
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines.first(), Some(&"long.toml:1:301: wrong"));
        let (source, marker) = (lines.get(1).copied().unwrap_or(""), lines.get(2).copied().unwrap_or(""));
        assert_eq!(source.find("BAD"), marker.find("^^^"));
        assert!(source.len() < 140, "{source}");
    }

    #[test]
    fn too_many_errors_are_counted() {
        let sources = Sources::default();
        let mut report = Report::default();
        for start in 0..SHOWN_MAX + 5 {
            report.error(Span { file: 0, start, end: start }, format!("wrong {start}"), "right");
        }
        let diagnostics = report.finish(&sources);
        assert_eq!((diagnostics.list().len(), diagnostics.count()), (SHOWN_MAX, SHOWN_MAX + 5));
        assert!(diagnostics.to_string().ends_with("and 5 more errors\n"));
    }
}
