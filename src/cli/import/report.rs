//! What became of every line of a source: the honest part of an import. Which verdict a line gets is decided by the
//! folder of its product; here is only that none goes without.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What became of a line, the least worrying first: a line with several remarks has the worst of their verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The output does the same.
    Translated,
    /// Nothing stands for it, and nothing has to: the remark says why.
    Ignored,
    /// The output does nearly the same: the remark says how it differs.
    Approximated,
    /// The product that the source is for would reject or misread it: the remark says how.
    WrongInSource,
    /// The output does not do it: the remark says what to do.
    NotPossible,
}

impl Verdict {
    /// All, as a summary lists them.
    const ALL: [Self; 5] =
        [Self::Translated, Self::Approximated, Self::Ignored, Self::WrongInSource, Self::NotPossible];

    /// Its words in a report.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::Ignored => "ignored",
            Self::Approximated => "approximated",
            Self::WrongInSource => "wrong in the source",
            Self::NotPossible => "not possible",
        }
    }
}

/// A line of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which of the files, from 0.
    pub file: usize,
    /// Its line, from 1.
    pub line: usize,
}

/// One thing said about a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What became of what it is about.
    pub verdict: Verdict,
    /// How, why or what to do; empty where a translation needs no word.
    pub text: String,
}

/// Everything said about the lines of a source.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<(String, Vec<String>)>,
    /// Lines that say something, each with what is said about it.
    lines: BTreeMap<Place, Vec<Remark>>,
    /// What differs without any line that stands for it.
    general: Vec<String>,
    /// Lines that are not quoted beyond a name.
    secret: BTreeSet<Place>,
}

/// A line is quoted up to so many characters.
const QUOTED_MAX: usize = 100;

impl Report {
    /// Takes in a file, whose lines can be remarked on from now on; returns its number.
    pub fn file(&mut self, name: &str, text: &str) -> usize {
        self.files.push((name.to_owned(), text.lines().map(str::to_owned).collect()));
        self.files.len() - 1
    }

    /// Notes that the line says something and so must get a verdict.
    pub fn expect(&mut self, at: Place) {
        self.lines.entry(at).or_default();
    }

    /// Whether the line says something.
    #[must_use]
    pub fn says(&self, at: Place) -> bool {
        self.lines.contains_key(&at)
    }

    /// Remarks on a line; the same remark twice is one.
    pub fn note(&mut self, at: Place, verdict: Verdict, text: impl Into<String>) {
        let remark = Remark { verdict, text: text.into() };
        let remarks = self.lines.entry(at).or_default();
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }

    /// The output does what the line says.
    pub fn translated(&mut self, at: Place) {
        self.note(at, Verdict::Translated, "");
    }

    /// The output does nearly what the line says.
    pub fn approximated(&mut self, at: Place, how: impl Into<String>) {
        self.note(at, Verdict::Approximated, how);
    }

    /// Nothing stands for the line.
    pub fn ignored(&mut self, at: Place, why: impl Into<String>) {
        self.note(at, Verdict::Ignored, why);
    }

    /// The output does not do what the line says.
    pub fn not_possible(&mut self, at: Place, remedy: impl Into<String>) {
        self.note(at, Verdict::NotPossible, remedy);
    }

    /// The product itself would reject or misread the line.
    pub fn wrong(&mut self, at: Place, what: impl Into<String>) {
        self.note(at, Verdict::WrongInSource, what);
    }

    /// Notes what differs without a line that stands for it.
    pub fn general(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.general.contains(&text) {
            self.general.push(text);
        }
    }

    /// Keeps to itself what stands on a line, but for the name that it begins with.
    pub fn keep_secret(&mut self, at: Place) {
        self.secret.insert(at);
    }

    /// Gives every line that has no remark yet the verdict that `fallback` has for it.
    pub fn finish(&mut self, fallback: impl Fn(Place) -> Remark) {
        for (at, remarks) in &mut self.lines {
            if remarks.is_empty() {
                remarks.push(fallback(*at));
            }
        }
    }

    /// Whether anything of the source is not in the output.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.lines.values().flatten().any(|remark| remark.verdict == Verdict::NotPossible)
    }

    /// The verdict of each line that says something.
    pub fn verdicts(&self) -> impl Iterator<Item = (Place, Verdict)> {
        self.lines.iter().filter_map(|(at, remarks)| Some((*at, worst(remarks)?)))
    }

    /// The remarks on a line.
    #[must_use]
    pub fn remarks(&self, at: Place) -> &[Remark] {
        self.lines.get(&at).map_or(&[], Vec::as_slice)
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(name, _)| name.as_str())
    }

    /// The name of a file.
    #[must_use]
    pub fn name(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |(name, _)| name)
    }

    /// Whether there is more than one file, so that places need their names.
    #[must_use]
    pub const fn has_many_files(&self) -> bool {
        self.files.len() > 1
    }

    /// The line as it stands in its file, without the white space around it; of a secret only its name.
    #[must_use]
    pub fn source(&self, at: Place) -> &str {
        let line = self.files.get(at.file).and_then(|(_, lines)| lines.get(at.line.wrapping_sub(1)));
        let line = line.map_or("", |line| line.trim());
        if self.secret.contains(&at) { line.split_once(':').map_or("", |(name, _)| name) } else { line }
    }
}

fn worst(remarks: &[Remark]) -> Option<Verdict> {
    remarks.iter().map(|remark| remark.verdict).max()
}

/// A summary, then every line with its verdict and remarks.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        writeln!(out, "{}: {} lines that say something", names.join(", "), self.lines.len())?;
        for verdict in Verdict::ALL {
            let count = self.verdicts().filter(|(_, of_line)| *of_line == verdict).count();
            if count > 0 {
                writeln!(out, "  {count:>5} {}", verdict.words())?;
            }
        }
        for (number, (name, _)) in self.files.iter().enumerate() {
            writeln!(out, "\n{name}")?;
            for (at, remarks) in self.lines.iter().filter(|(at, _)| at.file == number) {
                let verdict = worst(remarks).unwrap_or(Verdict::Translated);
                let source: String = self.source(*at).chars().take(QUOTED_MAX).collect();
                writeln!(out, "{:>5}  {:<20} {source}", at.line, verdict.words())?;
                for remark in remarks.iter().filter(|remark| !remark.text.is_empty()) {
                    let label = if remark.verdict == verdict { "" } else { remark.verdict.words() };
                    let colon = if label.is_empty() { "" } else { ": " };
                    writeln!(out, "       {:<20} - {label}{colon}{}", "", remark.text)?;
                }
            }
        }
        if !self.general.is_empty() {
            writeln!(out, "\nWhat differs without a line that stands for it")?;
            for text in &self.general {
                writeln!(out, "  - {text}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn line(line: usize) -> Place {
        Place { file: 0, line }
    }

    #[test]
    fn a_line_has_the_worst_of_its_verdicts_and_none_goes_without() {
        let mut report = Report::default();
        report.file("a.cfg", "one\n\n  two\nthree");
        for number in [1, 3, 4] {
            report.expect(line(number));
        }
        report.translated(line(1));
        report.ignored(line(1), "no use");
        report.approximated(line(3), "nearly");
        report.approximated(line(3), "nearly");
        assert!(!report.is_incomplete());
        report.finish(|_| Remark { verdict: Verdict::NotPossible, text: "unknown".to_owned() });
        assert!(report.is_incomplete());
        let verdicts: Vec<Verdict> = report.verdicts().map(|(_, verdict)| verdict).collect();
        assert_eq!(verdicts, [Verdict::Ignored, Verdict::Approximated, Verdict::NotPossible]);
        report.general("all else");
        let printed = report.to_string();
        assert_eq!(printed.matches("nearly").count(), 1, "{printed}");
        assert!(printed.contains("    3  approximated         two\n"), "{printed}");
        assert!(printed.ends_with("stands for it\n  - all else\n"), "{printed}");
    }
}
