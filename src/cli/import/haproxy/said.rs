//! What became of a part of a line, as the functions of the tables of directives say it.

use super::super::report::{Place, Report, Verdict};

/// What became of a part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said(pub(super) Verdict, pub(super) String);

/// The output does the same.
pub(super) const fn translated() -> Said {
    Said(Verdict::Translated, String::new())
}

/// The output does nearly the same.
pub(super) fn approximated(how: impl Into<String>) -> Said {
    Said(Verdict::Approximated, how.into())
}

/// Nothing stands for it.
pub(super) fn ignored(why: impl Into<String>) -> Said {
    Said(Verdict::Ignored, why.into())
}

/// The output does not do it.
pub(super) fn not_possible(remedy: impl Into<String>) -> Said {
    Said(Verdict::NotPossible, remedy.into())
}

/// HAProxy itself would reject or misread it.
pub(super) fn wrong(what: impl Into<String>) -> Said {
    Said(Verdict::WrongInSource, what.into())
}

impl Said {
    /// Puts it into the report, with the words that it is about.
    pub(super) fn about(self, words: &str, at: Place, report: &mut Report) {
        let Self(verdict, text) = self;
        let text = match (text.is_empty(), words.is_empty()) {
            (false, false) => format!("{words}: {text}"),
            _ => text,
        };
        report.note(at, verdict, text);
    }
}
