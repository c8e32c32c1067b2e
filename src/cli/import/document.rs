//! The configuration that an import writes: tables whose keys remember the lines that they come from, printed as a
//! person would write them. What goes into them is decided by the folder of each product.

use std::fmt::Write as _;

use super::report::{Place, Report, Verdict};

/// A value as it will stand in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// A yes or no.
    Bool(bool),
    /// A list in one line.
    List(Vec<Self>),
    /// A list with one element a line, each with the line that it comes from.
    Lines(Vec<(Self, Option<Place>)>),
    /// A table in one line.
    Inline(Vec<(String, Self)>),
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A list of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// A text, or a list of several, as `host` takes it.
    pub(super) fn one_or_list(texts: &[String]) -> Self {
        match texts {
            [one] => Self::text(one),
            many => Self::texts(many.to_vec()),
        }
    }

    /// A table in one line.
    pub fn inline<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Inline(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => write_text(text, out),
            // Writing to a string cannot fail.
            Self::Integer(number) => drop(write!(out, "{number}")),
            Self::Real(number) => drop(write!(out, "{number:?}")),
            Self::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Self::List(values) => write_between(out, ("[", "]"), values, |value, out| value.write(out)),
            Self::Lines(values) => {
                write_between(out, ("[", "]"), values, |(value, _), out| value.write(out));
            }
            Self::Inline(pairs) if pairs.is_empty() => out.push_str("{}"),
            Self::Inline(pairs) => write_between(out, ("{ ", " }"), pairs, |(key, value), out| {
                write_key(key, out);
                out.push_str(" = ");
                value.write(out);
            }),
        }
    }
}

fn write_between<T>(
    out: &mut String,
    (open, close): (&str, &str),
    items: &[T],
    write: impl Fn(&T, &mut String),
) {
    out.push_str(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(item, out);
    }
    out.push_str(close);
}

/// In single quotes where that spares escapes. A `${` would be the environment's.
fn write_text(text: &str, out: &mut String) {
    let text = text.replace("${", "$${");
    if text.contains(['\\', '"']) && !text.contains('\'') && !text.chars().any(char::is_control) {
        out.push('\'');
        out.push_str(&text);
        out.push('\'');
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A key as it stands in a file.
pub(super) fn write_key(key: &str, out: &mut String) {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if bare { out.push_str(key) } else { write_text(key, out) }
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name; dots lead into tables below: `timeouts.connect`.
    pub path: String,
    /// Its value.
    pub value: Value,
    /// The line that it comes from.
    pub from: Option<Place>,
}

/// Keys in the order in which they were set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// The keys.
    pub entries: Vec<Entry>,
}

impl Table {
    /// Sets a key; what it was is gone.
    pub fn set(&mut self, path: &str, value: Value, from: Option<Place>) {
        match self.entries.iter_mut().find(|entry| entry.path == path) {
            Some(entry) => (entry.value, entry.from) = (value, from),
            None => self.entries.push(Entry { path: path.to_owned(), value, from }),
        }
    }

    /// What a key is.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| entry.path == path).map(|entry| &entry.value)
    }

    /// Whether there is a key in the table `name` below.
    #[must_use]
    pub fn has_below(&self, name: &str) -> bool {
        self.entries.iter().any(|e| e.path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }
}

/// A table with what stands above it.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// Its name, of listeners and pools.
    pub name: String,
    /// What stands above it, each a line.
    pub comments: Vec<String>,
    /// Its keys.
    pub table: Table,
}

/// A whole configuration.
#[derive(Debug, Default)]
pub struct Document {
    /// What stands at the top.
    pub head: Vec<String>,
    /// Single tables by name, such as `process`.
    pub singles: Vec<Block>,
    /// `[defaults.listener]` and `[defaults.pool]`.
    pub defaults: Vec<Block>,
    /// Listeners.
    pub listeners: Vec<Block>,
    /// Routes.
    pub routes: Vec<Block>,
    /// Pools.
    pub pools: Vec<Block>,
}

/// The top names no more lines than this that are not carried over: the report has them all.
const MISSING_MAX: usize = 40;

impl Document {
    /// The table `name` at the root, made when it is not there.
    pub fn single(&mut self, name: &str) -> &mut Table {
        let at = self.singles.iter().position(|block| block.name == name).unwrap_or_else(|| {
            self.singles.push(Block { name: name.to_owned(), ..Block::default() });
            self.singles.len() - 1
        });
        // There is one at `at`: it was found or has just been put there.
        &mut self.singles[at].table
    }

    /// Says at the top where it comes from, and what is not carried over. `product` is the word behind `plimsoll import`.
    pub(super) fn introduce(&mut self, product: &str, report: &Report) {
        let names: Vec<&str> = report.names().collect();
        self.head.push(format!(
            "From {}, by `plimsoll import {product}`. The report with it has a verdict on every line;",
            names.join(", ")
        ));
        self.head.push(
            "lines named here are lines there. `plimsoll check --show` prints this with every default filled in."
                .to_owned(),
        );
        let missing: Vec<String> = report
            .verdicts()
            .filter(|(_, verdict)| *verdict == Verdict::NotPossible)
            .map(|(at, _)| format!("  {}: {}", place(at, report), report.source(at)))
            .take(MISSING_MAX)
            .collect();
        if !missing.is_empty() {
            self.head.push(String::new());
            self.head.push("Not, or not all, of this is carried over:".to_owned());
            self.head.extend(missing);
        }
    }

    /// The text of the configuration, with the lines of `report` named where keys come from them.
    #[must_use]
    pub fn print(&self, report: &Report) -> String {
        let mut out = String::new();
        for line in &self.head {
            print_comment(line, &mut out);
        }
        let mut print = |blocks: &[Block], header: &dyn Fn(&str) -> Header| {
            for block in blocks {
                out.push('\n');
                print_block(block, &header(&block.name), report, &mut out);
            }
        };
        print(&self.singles, &|name| Header::named(&[name]));
        print(&self.defaults, &|name| Header::named(&["defaults", name]));
        print(&self.listeners, &|name| Header::named(&["listener", name]));
        print(&self.routes, &|_| Header { open: "[[", path: "route".to_owned(), close: "]]" });
        print(&self.pools, &|name| Header::named(&["pool", name]));
        out
    }
}

/// What stands in brackets above a table.
struct Header {
    open: &'static str,
    path: String,
    close: &'static str,
}

impl Header {
    fn named(parts: &[&str]) -> Self {
        let mut path = String::new();
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                path.push('.');
            }
            write_key(part, &mut path);
        }
        Self { open: "[", path, close: "]" }
    }
}

/// A table of so few keys, all of one line of the source, stands in one line of the one above it.
const INLINE_MAX: usize = 2;
/// Lines are not made longer than this where there is a choice.
const WIDTH_MAX: usize = 110;
/// Comments behind values stand in one column, from here on.
const COMMENT_COLUMN: usize = 44;

fn print_block(block: &Block, header: &Header, report: &Report, out: &mut String) {
    for comment in &block.comments {
        print_comment(comment, out);
    }
    let start = out.len();
    out.push_str(header.open);
    out.push_str(&header.path);
    out.push_str(header.close);
    out.push('\n');
    let inside = out.len();
    print_keys(&block.table, "", header, report, out);
    // What has only tables in it is there by theirs; a route is not.
    if header.open == "[" && out[inside..].starts_with("\n[") {
        out.replace_range(start..=inside, "");
    }
}

fn print_comment(comment: &str, out: &mut String) {
    // TOML has no control characters in comments but tabs.
    let shown = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    let comment: String = comment.chars().map(shown).collect();
    out.push_str(format!("# {comment}").trim_end());
    out.push('\n');
}

/// The keys of `table` right below `prefix`, small tables in one line, then the larger tables.
fn print_keys(table: &Table, prefix: &str, header: &Header, report: &Report, out: &mut String) {
    let mut seen: Vec<&str> = Vec::new();
    let mut large: Vec<String> = Vec::new();
    for entry in &table.entries {
        let Some(rest) = entry.path.strip_prefix(prefix) else { continue };
        let Some((name, _)) = rest.split_once('.') else {
            print_entry(rest, &entry.value, entry.from, report, out);
            continue;
        };
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let inner = format!("{prefix}{name}.");
        match small(table, &inner) {
            Some(value) => print_entry(name, &value, entry.from, report, out),
            None => large.push(inner),
        }
    }
    for inner in large {
        out.push('\n');
        // Below a route too: it is the last one's.
        out.push('[');
        out.push_str(&header.path);
        out.push('.');
        out.push_str(&prefix_path(&inner));
        out.push(']');
        out.push('\n');
        print_keys(table, &inner, header, report, out);
    }
}

/// The table below `inner` in one line, when its keys are few, plain and of one line of the source.
fn small(table: &Table, inner: &str) -> Option<Value> {
    let of = table.entries.iter().filter_map(|entry| Some((entry.path.strip_prefix(inner)?, entry)));
    let of: Vec<(&str, &Entry)> = of.collect();
    let plain = of.iter().all(|(name, entry)| !name.contains('.') && !matches!(entry.value, Value::Lines(_)));
    let same = of.iter().all(|(_, entry)| of.first().is_some_and(|(_, first)| first.from == entry.from));
    (plain && same && of.len() <= INLINE_MAX)
        .then(|| Value::inline(of.into_iter().map(|(name, entry)| (name, entry.value.clone()))))
}

fn prefix_path(inner: &str) -> String {
    let mut path = String::new();
    for (index, part) in inner.trim_end_matches('.').split('.').enumerate() {
        if index > 0 {
            path.push('.');
        }
        write_key(part, &mut path);
    }
    path
}

fn print_entry(key: &str, value: &Value, from: Option<Place>, report: &Report, out: &mut String) {
    let start = out.len();
    write_key(key, out);
    out.push_str(" = ");
    if let Value::Lines(items) = value {
        out.push_str("[\n");
        for (item, from) in items {
            let start = out.len();
            out.push_str("  ");
            item.write(out);
            out.push(',');
            print_place(start, *from, report, out);
        }
        out.push_str("]\n");
        return;
    }
    value.write(out);
    print_place(start, from, report, out);
}

/// Ends the line that began at `start`, with where it comes from.
fn print_place(start: usize, from: Option<Place>, report: &Report, out: &mut String) {
    if let Some(at) = from {
        let width = out.get(start..).map_or(0, |line| line.chars().count());
        let place = place(at, report);
        let padding =
            if width + 2 + place.len() > WIDTH_MAX { 1 } else { COMMENT_COLUMN.saturating_sub(width).max(2) };
        out.extend(std::iter::repeat_n(' ', padding));
        out.push_str("# ");
        out.push_str(&place);
    }
    out.push('\n');
}

/// A place in words: `line 12`, or `b.cfg:12` where there are several files.
#[must_use]
pub fn place(at: Place, report: &Report) -> String {
    if report.has_many_files() {
        format!("{}:{}", report.name(at.file), at.line)
    } else {
        format!("line {}", at.line)
    }
}
