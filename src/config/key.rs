//! What a section, a key and a kind of value are, as data. Leaves the data itself to `tables`, reading by
//! it to `walk`.

use std::sync::OnceLock;
use std::time::Duration;

use super::form::Form;
use super::value::Fields;

/// A table of keys.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is about; a paragraph of the reference.
    pub(super) doc: &'static str,
    /// Its keys, in the order of the reference.
    pub(super) keys: &'static [Key],
    /// The keys that have a default, read once.
    pub(super) defaults: OnceLock<Fields>,
}

/// One key: everything that parsing, diagnostics, schema and reference need to know of it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) given: Given,
    pub(super) doc: &'static str,
    /// Whether each listener or pool has its own, so that `[defaults]` cannot have it.
    pub(super) own: bool,
    /// Of a required key: another one that may be written instead.
    pub(super) or: Option<&'static str>,
}

/// What holds where a key is not written; the text is TOML.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given {
    /// This value.
    Default(&'static str),
    /// An error, which shows this example.
    Required(&'static str),
    /// Nothing; with an example of a value.
    Optional(&'static str),
}

/// What a value must be.
#[derive(Debug)]
pub(super) enum Kind {
    Bool,
    /// A whole number in a range.
    Integer {
        min: i64,
        max: i64,
    },
    /// A number with a fraction, in a range.
    Real {
        min: f64,
        max: f64,
    },
    /// A count from `min` on, or a share such as "50%".
    Amount {
        min: i64,
    },
    /// A share such as "50%".
    Percent,
    /// One of some numbers.
    OneOf(&'static [i64]),
    /// Text with a unit, in a range.
    Duration {
        min: Duration,
        max: Duration,
    },
    /// Text with a unit, in a range of bytes.
    Size {
        min: u64,
        max: u64,
    },
    /// One of some words.
    Choice(&'static [Word]),
    /// Text of some form.
    Text(Form),
    /// Text to compare with, or `{ regex = ".." }`.
    Pattern,
    /// This word, or else that kind.
    Or(&'static str, &'static Self),
    /// A list of at least `min`.
    List {
        of: &'static Self,
        min: usize,
    },
    /// A list of at least one, or one value as it is.
    OneOrList(&'static Self),
    /// Keys that the operator chooses.
    Map {
        key: Form,
        of: &'static Self,
    },
    /// A section, or whether it holds with all its defaults.
    Switch(&'static Section),
    /// A section.
    Table(&'static Section),
    /// A section that may be written as the text of one of its keys.
    Short(&'static Section, &'static str),
    /// The part of a section that several of its kind can share.
    Base(&'static Section),
}

/// A word of a [`Kind::Choice`].
#[derive(Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
}

impl Section {
    pub(super) const fn new(doc: &'static str, keys: &'static [Key]) -> Self {
        Self { doc, keys, defaults: OnceLock::new() }
    }

    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Key {
    /// A key that works.
    pub(super) const fn new(name: &'static str, kind: Kind, given: Given, doc: &'static str) -> Self {
        Self { name, kind, given, doc, own: false, or: None }
    }

    /// Marks what each listener or pool has for itself.
    pub(super) const fn own(self) -> Self {
        Self { own: true, ..self }
    }

    /// Names a key that may be written in the place of this required one.
    pub(super) const fn or(self, other: &'static str) -> Self {
        Self { or: Some(other), ..self }
    }

    /// A value to show, as TOML.
    pub(super) fn example(&self) -> &'static str {
        match self.given {
            Given::Default(text) | Given::Required(text) | Given::Optional(text) => text,
        }
    }
}

impl Word {
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name }
    }
}

impl Kind {
    /// What a value must be, for "must be ...".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Real { min, max } => format!("a number from {min} to {max}"),
            Self::Amount { min } => format!("a count from {min} on, or a share such as \"50%\""),
            Self::Percent => "a share such as \"50%\"".to_owned(),
            Self::OneOf(numbers) => format!("one of {}", join(numbers.iter().map(i64::to_string))),
            Self::Duration { .. } => "a duration such as \"250ms\", \"2s\" or \"5m\"".to_owned(),
            Self::Size { .. } => "a size such as \"512B\", \"64KiB\" or \"1MiB\"".to_owned(),
            Self::Choice(words) => {
                format!("one of {}", join(words.iter().map(|word| format!("\"{}\"", word.name))))
            }
            Self::Text(form) => form.describe().to_owned(),
            Self::Pattern => "text, or { regex = \"...\" }".to_owned(),
            Self::Or(word, kind) => format!("\"{word}\" or {}", kind.describe()),
            Self::List { of, .. } => format!("a list, each of it {}", of.describe()),
            Self::OneOrList(of) => format!("{}, or a list of such", of.describe()),
            Self::Map { .. } | Self::Table(_) | Self::Base(_) => "a table".to_owned(),
            Self::Short(_, key) => format!("text (the {key}) or a table"),
            Self::Switch(_) => "true, false or a table".to_owned(),
        }
    }

    /// Whether a text can be such a value.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Duration { .. } | Self::Size { .. } | Self::Text(_))
    }

    /// Whether, below any words, there is a section.
    pub(super) fn is_table(&self) -> bool {
        match self {
            Self::Or(_, kind) => kind.is_table(),
            kind => matches!(kind, Self::Table(_)),
        }
    }

    /// The section that lies below, whatever is around it.
    pub(super) fn section(&self) -> Option<&'static Section> {
        match self {
            Self::Table(section) | Self::Switch(section) | Self::Short(section, _) | Self::Base(section) => {
                Some(section)
            }
            Self::Or(_, kind)
            | Self::List { of: kind, .. }
            | Self::OneOrList(kind)
            | Self::Map { of: kind, .. } => kind.section(),
            _ => None,
        }
    }
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
