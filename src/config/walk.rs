//! Walks a tree along the tables of keys: unknown keys, wrong types and values out of range end here.

use std::collections::HashMap;

use super::diagnostic::Report;
use super::form::{Form, regex};
use super::key::{Key, Kind, Section, Word};
use super::source::Span;
use super::suggest::nearest;
use super::tree::{Entry, Node, Table, Tree, parse_value, quoted};
use super::value::{Field, Fields, Item, Value, keys_ignore_case};
use crate::model::units::{Amount, ByteSize, format_duration, parse_duration};
use crate::route::ValuePattern;

/// Reads the whole tree of a configuration.
pub(super) fn read_root(table: &Table, section: &'static Section, report: &mut Report) -> Fields {
    Walk { report }.section(table, Span::default(), section, "", false)
}

/// Reads the keys of one section that stands alone; nothing when one is wrong.
pub(super) fn read_part(table: &Table, section: &'static Section) -> Option<Fields> {
    let mut report = Report::default();
    let fields = Walk { report: &mut report }.section(table, Span::default(), section, "", false);
    report.is_empty().then_some(fields)
}

/// Reads a value of a key from TOML text; nothing when it is wrong.
pub(super) fn read_text(text: &str, key: &'static Key) -> Option<Item> {
    let node = parse_value(text)?;
    let mut report = Report::default();
    let value =
        Walk { report: &mut report }.value(&node, &key.kind, &Slot { key, path: key.name, name: key.name });
    report.is_empty().then_some(Item { value, span: Span::default() })
}

/// Reads a value of a key that stands in a file of its own.
pub(super) fn read_node(node: &Node, key: &'static Key, report: &mut Report) -> Value {
    Walk { report }.value(node, &key.kind, &Slot { key, path: key.name, name: key.name })
}

struct Walk<'a> {
    report: &'a mut Report,
}

/// The key that a value stands for, and where that is.
#[derive(Clone, Copy)]
struct Slot<'a> {
    key: &'static Key,
    /// Dotted names from the root, as in `pool.api.limits`.
    path: &'a str,
    /// What messages call it: the key, or the key and a name that the operator chose.
    name: &'a str,
}

impl Walk<'_> {
    fn section(
        &mut self,
        table: &Table,
        span: Span,
        section: &'static Section,
        path: &str,
        base: bool,
    ) -> Fields {
        let mut fields = Fields::empty(section, span);
        for entry in &table.entries {
            let Some(key) = section.key(&entry.key) else {
                self.unknown(entry, section, path);
                continue;
            };
            if base && key.own {
                let message = format!("`{}` cannot be shared by all in {}", key.name, title(path));
                let owner = if path.ends_with("pool") { "[pool.NAME]" } else { "[listener.NAME]" };
                self.report.error(entry.key_span, message, format!("write it in each {owner}"));
                continue;
            }
            let below = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            let mut value = self.value(&entry.node, &key.kind, &Slot { key, path: &below, name: key.name });
            if let Value::Table(fields) = &mut value {
                fields.span = entry.key_span;
            }
            let item = Item { value, span: entry.node.span };
            fields.written.push(Field { name: key.name, key_span: entry.key_span, item, inherited: false });
        }
        fields
    }

    fn unknown(&mut self, entry: &Entry, section: &'static Section, path: &str) {
        let name = &shown(&entry.key);
        let message = match path {
            "" => format!("there is no section `{name}`"),
            _ => format!("unknown key `{name}` in {}", title(path)),
        };
        let keys = section.keys.iter().map(|key| key.name);
        let help = if let Some(near) = nearest(&entry.key, keys) {
            format!("did you mean `{near}`?")
        } else if let Some(inside) = section.keys.iter().find(|key| holds(key, &entry.key)) {
            format!("write it in `{}`: {} = {{ {name} = ... }}", inside.name, inside.name)
        } else {
            let keys: Vec<_> = section.keys.iter().map(|key| format!("`{}`", key.name)).collect();
            format!("possible are {}", keys.join(", "))
        };
        self.report.error(entry.key_span, message, help);
    }

    fn value(&mut self, node: &Node, kind: &'static Kind, slot: &Slot<'_>) -> Value {
        match (kind, &node.tree) {
            (_, Tree::Broken) => Value::Invalid,
            (Kind::Bool, Tree::Bool(value)) => Value::Bool(*value),
            (Kind::Integer { min, max }, Tree::Integer(Some(n))) if (min..=max).contains(&n) => {
                Value::Integer(*n)
            }
            (Kind::Real { min, max }, Tree::Integer(Some(_)) | Tree::Float(_)) => {
                match real(&node.tree).filter(|n| (min..=max).contains(&n)) {
                    Some(number) => Value::Real(number),
                    None => self.mismatch(node, kind, slot),
                }
            }
            (Kind::Amount { min }, _) => match amount(&node.tree, *min) {
                Some(amount) => Value::Amount(amount),
                None => self.mismatch(node, kind, slot),
            },
            (Kind::Percent, Tree::Text(text)) => match Amount::parse_percent(text) {
                Ok(amount) => Value::Amount(amount),
                Err(_) => self.mismatch(node, kind, slot),
            },
            (Kind::OneOf(numbers), Tree::Integer(Some(n))) if numbers.contains(n) => Value::Integer(*n),
            (Kind::Duration { .. } | Kind::Size { .. }, Tree::Text(text)) => {
                self.quantity(node, text, kind, slot)
            }
            (Kind::Choice(words), Tree::Text(text)) => self.choice(node, text, words, slot),
            (Kind::Text(form), Tree::Text(text)) => self.text(node.span, text, *form, slot),
            (Kind::Pattern, Tree::Text(text)) => Value::Pattern(ValuePattern::Exact(text.clone())),
            (Kind::Pattern, Tree::Table(table)) => self.pattern(node, table, slot),
            (Kind::Or(..), Tree::Text(text)) => match word_or_kind(kind, text) {
                Ok(word) => Value::Word(word),
                Err(inner) if inner.is_text() => self.value(node, inner, slot),
                Err(_) => self.mismatch(node, kind, slot),
            },
            (Kind::Or(..), Tree::Table(_)) => self.value(node, behind_words(kind), slot),
            (Kind::Or(..), _) if kind.is_table() => self.mismatch(node, kind, slot),
            (Kind::Or(..), _) => self.value(node, behind_words(kind), slot),
            (Kind::List { of, min }, Tree::List(nodes)) => self.list(node, nodes, of, *min, slot),
            (Kind::OneOrList(of), Tree::List(nodes)) => self.list(node, nodes, of, 1, slot),
            (Kind::OneOrList(of), _) => {
                Value::List(vec![Item { value: self.value(node, of, slot), span: node.span }])
            }
            (Kind::Map { key, of }, Tree::Table(table)) => self.map(table, *key, of, kind, slot),
            (Kind::Switch(section), Tree::Bool(true)) => Value::Table(Fields::empty(section, node.span)),
            (Kind::Switch(_), Tree::Bool(false)) => Value::Bool(false),
            (Kind::Table(section) | Kind::Short(section, _) | Kind::Switch(section), Tree::Table(table)) => {
                Value::Table(self.section(table, node.span, section, slot.path, false))
            }
            (Kind::Base(section), Tree::Table(table)) => {
                Value::Table(self.section(table, node.span, section, slot.path, true))
            }
            (Kind::Short(section, name), Tree::Text(_)) => self.short(node, section, name, slot),
            _ => self.mismatch(node, kind, slot),
        }
    }

    fn mismatch(&mut self, node: &Node, kind: &Kind, slot: &Slot<'_>) -> Value {
        let message = format!("`{}` must be {}, not {}", slot.name, kind.describe(), node.describe());
        self.report.error(node.span, message, remedy(kind, slot));
        Value::Invalid
    }

    fn quantity(&mut self, node: &Node, text: &str, kind: &Kind, slot: &Slot<'_>) -> Value {
        let (read, low, high) = match kind {
            Kind::Size { min, max } => {
                let read =
                    ByteSize::parse(text).map(|size| ((*min..=*max).contains(&size.0), Value::Size(size)));
                (read, ByteSize(*min).to_string(), ByteSize(*max).to_string())
            }
            Kind::Duration { min, max } => {
                let read =
                    parse_duration(text).map(|time| ((*min..=*max).contains(&time), Value::Duration(time)));
                (read, format_duration(*min), format_duration(*max))
            }
            _ => return self.mismatch(node, kind, slot),
        };
        match read {
            Ok((true, value)) => value,
            Ok((false, _)) => {
                let message =
                    format!("`{}` must be from \"{low}\" to \"{high}\", not {}", slot.key.name, quoted(text));
                self.report.error(node.span, message, remedy(kind, slot));
                Value::Invalid
            }
            Err(error) => {
                let message = format!("`{}` cannot be {}: {error}", slot.key.name, quoted(text));
                self.report.error(node.span, message, format!("write {}", kind.describe()));
                Value::Invalid
            }
        }
    }

    fn choice(&mut self, node: &Node, text: &str, words: &'static [Word], slot: &Slot<'_>) -> Value {
        let name = slot.name;
        let possible = Kind::Choice(words).describe();
        match words.iter().find(|word| word.name == text) {
            Some(word) => return Value::Word(word.name),
            None => {
                let help = match nearest(text, words.iter().map(|w| w.name)) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("write {possible}"),
                };
                self.report.error(
                    node.span,
                    format!("`{name}` must be {possible}, not {}", quoted(text)),
                    help,
                );
            }
        }
        Value::Invalid
    }

    fn text(&mut self, span: Span, text: &str, form: Form, slot: &Slot<'_>) -> Value {
        form.read(text).unwrap_or_else(|fault| {
            // A field's value and a webhook may have a secret in them that came from the environment.
            let secret =
                matches!(form, Form::FieldValue | Form::RequestValue | Form::ResponseValue | Form::Webhook);
            let value = if secret { "this value".to_owned() } else { quoted(text) };
            let message = format!("`{}` cannot be {value}: {}", slot.name, fault.what);
            self.report.error(span, message, fault.write);
            Value::Invalid
        })
    }

    fn pattern(&mut self, node: &Node, table: &Table, slot: &Slot<'_>) -> Value {
        let [Entry { key, node: Node { tree: Tree::Text(text), span }, .. }] = table.entries.as_slice()
        else {
            return self.mismatch(node, &Kind::Pattern, slot);
        };
        if key != "regex" {
            return self.mismatch(node, &Kind::Pattern, slot);
        }
        match regex(text) {
            Ok(regex) => Value::Pattern(ValuePattern::Regex(regex)),
            Err(fault) => {
                let message = format!("`regex` cannot be {}: {}", quoted(text), fault.what);
                self.report.error(*span, message, fault.write);
                Value::Invalid
            }
        }
    }

    fn list(&mut self, node: &Node, nodes: &[Node], of: &'static Kind, min: usize, slot: &Slot<'_>) -> Value {
        if nodes.len() < min {
            let message = format!("`{}` must not be empty", slot.key.name);
            self.report.error(node.span, message, remedy(&slot.key.kind, slot));
            return Value::Invalid;
        }
        let read = |node| Item { value: self.value(node, of, slot), span: node.span };
        Value::List(nodes.iter().map(read).collect())
    }

    fn map(&mut self, table: &Table, form: Form, of: &'static Kind, kind: &Kind, slot: &Slot<'_>) -> Value {
        let mut entries: Vec<(Item, Item)> = Vec::with_capacity(table.entries.len());
        let mut first: HashMap<String, Span> = HashMap::new();
        for entry in &table.entries {
            if keys_ignore_case(kind) {
                let first = *first.entry(entry.key.to_ascii_lowercase()).or_insert(entry.key_span);
                if first != entry.key_span {
                    let message = format!("`{}` is written twice: field names have no case", entry.key);
                    self.report.error_beside(
                        entry.key_span,
                        message,
                        ("it is first written at", first),
                        "keep one of the two",
                    );
                }
            }
            let path = format!("{}.{}", slot.path, entry.key);
            let name = format!("{}.{}", slot.key.name, shown(&entry.key));
            let below = Slot { key: slot.key, path: &path, name: &name };
            let key = self.text(entry.key_span, &entry.key, form, slot);
            let mut value = self.value(&entry.node, of, &below);
            if let Value::Table(fields) = &mut value {
                fields.span = entry.key_span;
            }
            entries.push((Item { value: key, span: entry.key_span }, Item { value, span: entry.node.span }));
        }
        Value::Map(entries)
    }

    fn short(&mut self, node: &Node, section: &'static Section, name: &str, slot: &Slot<'_>) -> Value {
        let Some(key) = section.key(name) else { return self.mismatch(node, &slot.key.kind, slot) };
        let value = self.value(node, &key.kind, &Slot { key, path: slot.path, name: key.name });
        let item = Item { value, span: node.span };
        let field = Field { name: key.name, key_span: node.span, item, inherited: false };
        let mut fields = Fields::empty(section, node.span);
        fields.written.push(field);
        Value::Table(fields)
    }
}

fn real(tree: &Tree) -> Option<f64> {
    match tree {
        // Digits go through text: every number that fits a key is exact there.
        Tree::Integer(Some(number)) => number.to_string().parse().ok(),
        Tree::Float(text) => text.replace('_', "").parse().ok(),
        _ => None,
    }
}

fn amount(tree: &Tree, min: i64) -> Option<Amount> {
    match tree {
        Tree::Integer(Some(number)) if *number >= min => u32::try_from(*number).ok().map(Amount::Count),
        Tree::Text(text) => Amount::parse_percent(text).ok(),
        _ => None,
    }
}

/// What a value must be that is none of the words of a choice.
fn behind_words(kind: &'static Kind) -> &'static Kind {
    if let Kind::Or(_, inner) = kind { behind_words(inner) } else { kind }
}

/// The word of a choice of words that a text is, or else what a text that is none of them must be.
fn word_or_kind(kind: &'static Kind, text: &str) -> Result<&'static str, &'static Kind> {
    match kind {
        Kind::Or(word, _) if text == *word => Ok(word),
        Kind::Or(_, inner) => word_or_kind(inner, text),
        _ => Err(kind),
    }
}

/// A section in a message: `[pool.api.limits]`, `[[route]]`.
fn title(path: &str) -> String {
    match path.strip_prefix("route") {
        Some("") => "[[route]]".to_owned(),
        Some(rest) if rest.starts_with('.') => format!("`{}` of [[route]]", rest.trim_start_matches('.')),
        _ => format!("[{path}]"),
    }
}

/// What to write for a key: its default or its example, and where these are empty, what would fill them.
fn remedy(kind: &Kind, slot: &Slot<'_>) -> String {
    let Slot { key, path, .. } = slot;
    match (&key.kind, kind, key.example()) {
        (_, Kind::Table(_) | Kind::Base(_), "{}" | "[]") => format!("write a section [{path}]"),
        (_, Kind::Or(word, Kind::Table(_)), "{}" | "\"off\"") => {
            format!("write \"{word}\" or a section [{path}]")
        }
        (_, Kind::Map { of: Kind::Table(_), .. }, _) => format!("write sections [{path}.NAME]"),
        (_, Kind::List { of: Kind::Table(_), .. }, "[]") => format!("write [[{path}]]"),
        (Kind::List { of, .. }, _, "[]") => {
            format!("write {} = [...], each of it {}", key.name, of.describe())
        }
        (_, _, example) => format!("write for example {} = {example}", key.name),
    }
}

/// A key that an operator wrote, as a message can show it.
fn shown(key: &str) -> String {
    const SHOWN: usize = 60;
    let start: String = key.chars().take(SHOWN).collect();
    format!("{}{}", start.escape_debug(), if key.chars().nth(SHOWN).is_some() { "..." } else { "" })
}

fn holds(key: &Key, name: &str) -> bool {
    matches!(key.kind, Kind::Table(_) | Kind::Or(..))
        && key.kind.section().is_some_and(|s| s.key(name).is_some())
}
