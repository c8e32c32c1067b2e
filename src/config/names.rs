//! Names that stand for other parts of a configuration: what is defined where, and looking it up.

use std::collections::HashMap;

use super::diagnostic::Report;
use super::source::Span;
use super::suggest::nearest;

/// The things of one sort that have names.
pub(super) struct Names {
    /// "pool", "listener", "route", "endpoint".
    sort: &'static str,
    defined: HashMap<String, (usize, Span)>,
}

impl Names {
    pub(super) fn new(sort: &'static str) -> Self {
        Self { sort, defined: HashMap::new() }
    }

    /// Notes a definition, which must be the first of its name.
    pub(super) fn define(&mut self, name: &str, span: Span, report: &mut Report) {
        if let Some((_, first)) = self.defined.get(name) {
            let message = format!("there is another {} of the name `{name}`", self.sort);
            report.error_beside(span, message, ("the first is at", *first), "give one of them another name");
            return;
        }
        self.defined.insert(name.to_owned(), (self.defined.len(), span));
    }

    /// Whether there is one of this name; reports it where there is none.
    pub(super) fn check(&self, name: &str, span: Span, report: &mut Report) -> bool {
        if self.defined.contains_key(name) {
            return true;
        }
        let help = match nearest(name, self.in_order().into_iter()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if self.defined.is_empty() => format!("add a section [{}.{name}]", self.sort),
            None => format!("write one of {}, or add a section [{}.{name}]", self.some(), self.sort),
        };
        report.error(span, format!("there is no {} `{name}`", self.sort), help);
        false
    }

    /// The names in the order of their definition.
    fn in_order(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.defined.iter().map(|(name, (at, _))| (*at, name.as_str())).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }

    fn some(&self) -> String {
        const SHOWN: usize = 8;
        let names = self.in_order();
        let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| format!("\"{name}\"")).collect();
        if names.len() > SHOWN {
            text.push("...".to_owned());
        }
        text.join(", ")
    }
}
