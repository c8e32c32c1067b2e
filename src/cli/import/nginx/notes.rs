//! Verdicts on directives: which have one, so that none goes without although others share its line.

use std::collections::HashMap;

use super::super::report::{Place, Report, Verdict};
use super::tree::Directive;

/// Puts verdicts into the report, and knows which directives have one.
pub(super) struct Notes<'r> {
    pub(super) report: &'r mut Report,
    told: Vec<bool>,
    crowds: HashMap<Place, usize>,
}

impl<'r> Notes<'r> {
    pub(super) fn new(report: &'r mut Report, count: usize, crowds: HashMap<Place, usize>) -> Self {
        Self { report, told: vec![false; count], crowds }
    }

    /// Whether something was said of it.
    pub(super) fn is_told(&self, directive: &Directive) -> bool {
        self.told.get(directive.id).copied().unwrap_or(true)
    }

    /// Says something of it; where it shares its line, with its name.
    pub(super) fn say(&mut self, of: &Directive, verdict: Verdict, text: impl Into<String>) {
        if let Some(told) = self.told.get_mut(of.id) {
            *told = true;
        }
        let text = text.into();
        let shared = self.crowds.get(&of.at).is_some_and(|count| *count > 1);
        let text = if shared && !text.is_empty() { format!("{}: {text}", of.name) } else { text };
        self.report.note(of.at, verdict, text);
    }

    /// The output does what it says.
    pub(super) fn ok(&mut self, of: &Directive) {
        self.say(of, Verdict::Translated, "");
    }

    /// The same, with a word on how.
    pub(super) fn how(&mut self, of: &Directive, how: impl Into<String>) {
        self.say(of, Verdict::Translated, how);
    }

    /// The output does nearly what it says.
    pub(super) fn near(&mut self, of: &Directive, how: impl Into<String>) {
        self.say(of, Verdict::Approximated, how);
    }

    /// The same of a line of which only this directive is known.
    pub(super) fn near_at(&mut self, (at, name): (Place, &str), how: &str) {
        let shared = self.crowds.get(&at).is_some_and(|count| *count > 1);
        let text = if shared { format!("{name}: {how}") } else { how.to_owned() };
        self.report.note(at, Verdict::Approximated, text);
    }

    /// Nothing stands for it.
    pub(super) fn skip(&mut self, of: &Directive, why: impl Into<String>) {
        self.say(of, Verdict::Ignored, why);
    }

    /// The output does not do what it says.
    pub(super) fn cannot(&mut self, of: &Directive, remedy: impl Into<String>) {
        self.say(of, Verdict::NotPossible, remedy);
    }

    /// nginx itself would reject or misread it.
    pub(super) fn wrong(&mut self, of: &Directive, what: impl Into<String>) {
        self.say(of, Verdict::WrongInSource, what);
    }

    /// The same of a directive and all that is inside it, where that has no verdict yet.
    pub(super) fn all(&mut self, of: &Directive, verdict: Verdict, text: &str) {
        if !self.is_told(of) {
            self.say(of, verdict, text);
        }
        for inner in of.inside() {
            self.all(inner, verdict, text);
        }
    }
}
