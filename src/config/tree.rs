//! TOML text as a tree of values, each with its place, environment put in. Leaves what keys mean to `walk`.

use std::borrow::Cow;
use std::collections::HashSet;

use toml::de::{DeTable, DeValue};

use super::diagnostic::Report;
use super::source::Span;

/// Looks up a variable of the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A value as written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) tree: Tree,
    pub(super) span: Span,
}

/// What was written.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Text(String),
    /// Nothing when it does not fit.
    Integer(Option<i64>),
    Float(String),
    Bool(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
    /// Something that was reported already.
    Broken,
}

/// A table as written, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) node: Node,
}

impl Table {
    /// Takes a key out.
    pub(super) fn take(&mut self, key: &str) -> Option<Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }
}

impl Node {
    /// What it is, for "must be a number, not ...".
    pub(super) fn describe(&self) -> String {
        match &self.tree {
            Tree::Text(text) => format!("the text {}", quoted(text)),
            Tree::Integer(Some(number)) => format!("the number {number}"),
            Tree::Integer(None) => "a number beyond 64 bits".to_owned(),
            Tree::Float(text) => format!("the fraction {text}"),
            Tree::Bool(value) => format!("{value}"),
            Tree::Datetime => "a date or time".to_owned(),
            Tree::List(_) => "a list".to_owned(),
            Tree::Table(_) => "a table".to_owned(),
            Tree::Broken => "something unreadable".to_owned(),
        }
    }
}

/// A text in quotes as a message shows it, cut when long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(SHOWN).collect();
    format!("{start:?}...")
}

/// Syntax errors of one file that are looked at: each costs a walk over the text, and nobody reads more.
const ERRORS_MAX: usize = 500;

/// Reads one value, such as the default of a key; nothing when it is no TOML.
pub(super) fn parse_value(text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    let mut report = Report::default();
    Some(Reader { file: 0, environment: &|_| None, report: &mut report }.node(&value))
}

/// Reads a file's text; every syntax error is reported, and then there is no tree.
pub(super) fn parse(
    file: usize,
    text: &str,
    environment: Environment<'_>,
    report: &mut Report,
) -> Option<Table> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(Reader { file, environment, report }.table(document.get_ref()));
    }
    report.incomplete = true;
    let mut lines = HashSet::new();
    let mut repeated_section = None;
    for error in errors.into_iter().take(ERRORS_MAX) {
        let range = error.span().unwrap_or(0..0);
        let before = text.get(..range.start).unwrap_or("");
        // One mistake often makes the rest of its line senseless too: only the first of a line is of use.
        if !lines.insert(before.matches('\n').count()) {
            continue;
        }
        let span = Span { file, start: range.start, end: range.end };
        if error.message().contains("duplicate key") {
            // All keys of a section that is there twice are there twice.
            let same_section =
                |end| text.get(end..range.start).is_some_and(|between| !between.contains("\n["));
            if repeated_section.is_some_and(same_section) {
                continue;
            }
            if is_header(line_of(before)) {
                repeated_section = Some(range.end);
            }
            duplicate(text, span, report);
        } else {
            let message = format!("this is not TOML: {}", error.message());
            report.error(span, message, "write key = value, with text in \"quotes\"");
        }
    }
    None
}

/// The last line of a text.
fn line_of(text: &str) -> &str {
    text.rsplit('\n').next().unwrap_or("")
}

/// Whether a line begins a section.
fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
}

fn duplicate(text: &str, span: Span, report: &mut Report) {
    let key = text.get(span.start..span.end).unwrap_or("");
    let message = format!("`{key}` is written twice");
    let help = "keep one of the two, or give one another name";
    match first_of(text, span) {
        Some(first) => report.error_beside(span, message, ("it is first written at", first), help),
        None => report.error(span, message, help),
    }
}

/// Where the key of `span` was written first: the same header of a section, or the same key between the
/// header and it.
///
/// The parser does not say. Nothing where the two are spelt differently, as `a.b` and `[a] b`.
fn first_of(text: &str, span: Span) -> Option<Span> {
    let before = text.get(..span.start)?;
    let line_start = span.start - line_of(before).len();
    let line = text.get(line_start..)?.lines().next()?;
    let key = text.get(span.start..span.end)?;
    let header = is_header(line);
    let mut found = None;
    let mut start = 0;
    for earlier in text.get(..line_start)?.split_inclusive('\n') {
        let at = start;
        start += earlier.len();
        if header && earlier.trim() == line.trim() {
            return earlier.find(key).map(|column| Span {
                start: at + column,
                end: at + column + key.len(),
                ..span
            });
        }
        if !header && is_header(earlier) {
            found = None;
        }
        let behind = earlier.trim_start().strip_prefix(key).map(str::trim_start);
        if !header && found.is_none() && behind.is_some_and(|rest| rest.starts_with('=')) {
            let column = earlier.len() - earlier.trim_start().len();
            found = Some(Span { start: at + column, end: at + column + key.len(), ..span });
        }
    }
    found
}

struct Reader<'a> {
    file: usize,
    environment: Environment<'a>,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span { file: self.file, start: range.start, end: range.end }
    }

    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let mut entries: Vec<Entry> = Vec::with_capacity(table.len());
        for (key, value) in table {
            let key_span = self.span(key.span());
            entries.push(Entry { key: key.get_ref().to_string(), key_span, node: self.node(value) });
        }
        entries.sort_by_key(|entry| entry.key_span.start);
        Table { entries }
    }

    fn node(&mut self, value: &toml::Spanned<DeValue<'_>>) -> Node {
        let span = self.span(value.span());
        let tree = match value.get_ref() {
            DeValue::String(text) => self.text(text, span),
            DeValue::Integer(number) => {
                Tree::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Float(number) => Tree::Float(number.as_str().to_owned()),
            DeValue::Boolean(value) => Tree::Bool(*value),
            DeValue::Datetime(_) => Tree::Datetime,
            DeValue::Array(list) => Tree::List(list.iter().map(|value| self.node(value)).collect()),
            DeValue::Table(table) => Tree::Table(self.table(table)),
        };
        Node { tree, span }
    }

    fn text(&mut self, text: &str, span: Span) -> Tree {
        match expand(text, self.environment) {
            Ok(text) => Tree::Text(text.into_owned()),
            Err(fault) => {
                let help = match &fault {
                    ExpandError::Unset(name) => {
                        format!("set {name} where the process starts, or write the value itself")
                    }
                    ExpandError::Malformed => "write ${NAME}, or $${ for a plain \"${\"".to_owned(),
                };
                self.report.error(span, fault.to_string(), help);
                Tree::Broken
            }
        }
    }
}

/// Why the environment could not be put into a text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ExpandError {
    #[error("the environment has no variable {0}")]
    Unset(String),
    #[error("\"${{\" begins the name of an environment variable, which ends with \"}}\"")]
    Malformed,
}

/// Puts the environment's values in the place of `${NAME}`; `$${` stands for a plain `${`. Values are not
/// looked into again.
fn expand<'t>(text: &'t str, environment: Environment<'_>) -> Result<Cow<'t, str>, ExpandError> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(plain) = before.strip_suffix('$') {
            out.push_str(plain);
            out.push_str("${");
            rest = after;
            continue;
        }
        let (name, behind) = after.split_once('}').ok_or(ExpandError::Malformed)?;
        let first = name.bytes().next().unwrap_or(b'0');
        if first.is_ascii_digit() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(ExpandError::Malformed);
        }
        out.push_str(before);
        out.push_str(&environment(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_put_in_once() {
        let environment = |name: &str| match name {
            "HOST" => Some("10.0.0.1".to_owned()),
            "DEEP" => Some("${HOST}".to_owned()),
            _ => None,
        };
        let check = |text: &str| expand(text, &environment).map(Cow::into_owned);
        assert_eq!(check("${HOST}:80").as_deref(), Ok("10.0.0.1:80"));
        assert_eq!(check("a${HOST}b${HOST}").as_deref(), Ok("a10.0.0.1b10.0.0.1"));
        assert_eq!(check("${DEEP}").as_deref(), Ok("${HOST}"));
        assert_eq!(check("$${HOST} ^a$").as_deref(), Ok("${HOST} ^a$"));
        assert_eq!(check("${NONE}"), Err(ExpandError::Unset("NONE".to_owned())));
        for malformed in ["${", "${}", "${1A}", "${a b}", "x{2}${3}"] {
            assert_eq!(check(malformed), Err(ExpandError::Malformed), "{malformed}");
        }
    }
}
