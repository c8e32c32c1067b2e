//! YAML as a tree: several documents in a file, anchors and merges put in, within bounds.
//!
//! The file is cut at its `---` before it is parsed, so that a mistake costs one document and not those behind it.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::{Content, DEPTH_MAX, Document, Key, Node, Twice, Unreadable};
use crate::cli::import::report::Place;

/// Aliases and merges of a file may add so many nodes.
const COPIES_MAX: usize = 100_000;

/// The documents of a file. There is none for a stretch of comments.
#[must_use]
pub(in crate::cli::import) fn read(file: usize, text: &str) -> Vec<Document> {
    // A line break is what ends a line of a report.
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', " ");
    let mut copies = COPIES_MAX;
    cut(&text).into_iter().filter(|part| part.says).map(|part| read_one(&part, file, &mut copies)).collect()
}

/// A stretch of a file.
struct Part<'t> {
    text: &'t str,
    /// Lines before it.
    before: usize,
    /// Its lines.
    lines: usize,
    /// Whether anything stands in it but comments and marks.
    says: bool,
}

/// The stretches between lines that begin with `---`. Directives belong to the one behind them.
fn cut(text: &str) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let (mut start, mut before, mut at, mut lines) = (0, 0, 0, 0);
    // Whether there has been anything, and anything but directives.
    let (mut says, mut marked) = (false, false);
    for line in text.split_inclusive('\n') {
        let plain = line.trim();
        let mark = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n']));
        if mark {
            if says || marked {
                parts.push(Part { text: text.get(start..at).unwrap_or(""), before, lines, says });
                (start, before, lines, says) = (at, before + lines, 0, false);
            }
            marked = true;
        }
        let rest = if mark { plain.trim_start_matches('-').trim() } else { plain };
        let directive = !marked && line.starts_with('%');
        says |= !rest.is_empty() && !rest.starts_with('#') && rest != "..." && !directive;
        at += line.len();
        lines += 1;
    }
    parts.push(Part { text: text.get(start..).unwrap_or(""), before, lines, says });
    parts
}

fn read_one(part: &Part<'_>, file: usize, copies: &mut usize) -> Document {
    let mut builder = Builder {
        file,
        before: part.before,
        length: part.text.chars().count(),
        open: Vec::new(),
        anchors: HashMap::new(),
        copies,
        twice: Vec::new(),
        root: None,
    };
    let at = Place { file, line: part.before + 1 };
    let last = part.before + part.lines;
    let read = builder.read(part.text);
    let (twice, root) = (std::mem::take(&mut builder.twice), builder.root.take());
    let document =
        Document { at, last, root: root.unwrap_or_else(|| Node::null(at)), twice, unreadable: None };
    match read {
        Ok(()) => document,
        Err((line, what)) => {
            // What is missing at the end is missing on the last line that says something.
            let says = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
            let mut lines = part.text.lines().enumerate().filter(|(_, line)| says(line)).peekable();
            let first = lines.peek().map_or(0, |(number, _)| *number);
            let before = lines.take_while(|(number, _)| part.before + number < line);
            let found = part.before + before.last().map_or(first, |(number, _)| number) + 1;
            let unreadable = Unreadable { at: Place { file, line: found }, what };
            Document { root: Node::null(at), twice: Vec::new(), unreadable: Some(unreadable), ..document }
        }
    }
}

/// A line and what is wrong there.
type Wrong = (usize, String);

/// A list or table that has not ended yet.
enum Open {
    List { at: Place, anchor: usize, items: Vec<Node> },
    Map { at: Place, anchor: usize, table: Table },
}

/// A table that has not ended yet.
#[derive(Default)]
struct Table {
    pairs: Vec<(Key, Node)>,
    /// Where each name stands in the text, and among the pairs.
    places: HashMap<String, (Place, usize)>,
    /// The name whose value is next.
    key: Option<Key>,
    /// What `<<` names.
    merged: Vec<Node>,
}

struct Builder<'b> {
    file: usize,
    before: usize,
    /// The characters of its text.
    length: usize,
    open: Vec<Open>,
    /// What has an anchor, with its depth.
    anchors: HashMap<usize, Node>,
    copies: &'b mut usize,
    twice: Vec<Twice>,
    root: Option<Node>,
}

impl Builder<'_> {
    fn read(&mut self, text: &str) -> Result<(), Wrong> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|e| (self.before + e.marker().line(), e.info().to_owned()))?;
            self.event(event, span)?;
        }
        Ok(())
    }

    const fn place(&self, line: usize) -> Place {
        Place { file: self.file, line: self.before + line }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Wrong> {
        let at = self.place(span.start.line());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let content = scalar(&text, style, tag.as_deref());
                let (at, last) = self.lines_of(style, at, span.end);
                self.take(Node { at, last, content }, anchor, style == ScalarStyle::Plain)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List { at, anchor, items: Vec::new() }, at),
            Event::MappingStart(anchor, _) => {
                self.begin(Open::Map { at, anchor, table: Table::default() }, at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
            Event::Alias(anchor) => {
                let Some(found) = self.anchors.get(&anchor) else {
                    return Err((at.line, "an alias stands inside of what it names".to_owned()));
                };
                let (size, height) = measure(found);
                if size > *self.copies || self.open.len() + height > DEPTH_MAX {
                    return Err((at.line, "its aliases come to too much".to_owned()));
                }
                *self.copies -= size;
                let node = Node { at, last: at.line, ..found.clone() };
                self.take(node, 0, false)
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                Err((at.line, "another document begins without `---`".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// The first and last line of a scalar.
    fn lines_of(&self, style: ScalarStyle, at: Place, end: Marker) -> (Place, usize) {
        let end_line = self.place(end.line()).line;
        if !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            return (at, end_line.max(at.line));
        }
        // It is said to begin behind its `|`, and to end where what is next begins.
        let first = match self.open.last() {
            Some(Open::Map { table: Table { key: Some(key), .. }, .. }) => key.at,
            _ => Place { line: at.line.saturating_sub(1).max(self.before + 1), ..at },
        };
        let whole = end.index() >= self.length && end.col() > 0;
        let last = if whole { end_line } else { end_line.saturating_sub(1) };
        (first, last.max(first.line))
    }

    fn begin(&mut self, open: Open, at: Place) -> Result<(), Wrong> {
        if self.open.len() >= DEPTH_MAX {
            return Err((at.line, format!("it is nested more than {DEPTH_MAX} deep")));
        }
        if let Some(Open::Map { table: Table { key: None, .. }, .. }) = self.open.last() {
            return Err((at.line, "a name is a text, not a list or table".to_owned()));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, at: Place) -> Result<(), Wrong> {
        match self.open.pop() {
            Some(Open::List { at, anchor, items }) => {
                self.take(Node { at, last: at.line, content: Content::List(items) }, anchor, false)
            }
            Some(Open::Map { at, anchor, table }) => {
                let pairs = self.merge(table, at)?;
                self.take(Node { at, last: at.line, content: Content::Map(pairs) }, anchor, false)
            }
            None => Err((at.line, "something ends that has not begun".to_owned())),
        }
    }

    /// Puts a value, or a name, where it belongs.
    fn take(&mut self, node: Node, anchor: usize, plain: bool) -> Result<(), Wrong> {
        if anchor != 0 {
            let (size, _) = measure(&node);
            if size > *self.copies {
                return Err((node.at.line, "its anchors come to too much".to_owned()));
            }
            *self.copies -= size;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { table, .. }) => match table.key.take() {
                None => {
                    let text = match node.content {
                        Content::Scalar { text, .. } => text,
                        Content::Null => String::new(),
                        _ => return Err((node.at.line, "a name is a text, not a list or table".to_owned())),
                    };
                    // Only unquoted does it mean a merge.
                    let text = if text == "<<" && plain { MERGE.to_owned() } else { text };
                    table.key = Some(Key { text, at: node.at });
                }
                Some(key) if key.text == MERGE => table.merged.push(node),
                Some(key) => match table.places.get_mut(&key.text) {
                    Some((place, number)) => {
                        let (name, first, again) = (key.text.clone(), *place, key.at);
                        *place = again;
                        let Some(known) = table.pairs.get_mut(*number) else { return Ok(()) };
                        let (_, lost) = std::mem::replace(known, (key, node));
                        self.twice.push(Twice { name, first, again, lost: places(&lost) });
                    }
                    None => {
                        table.places.insert(key.text.clone(), (key.at, table.pairs.len()));
                        table.pairs.push((key, node));
                    }
                },
            },
        }
        Ok(())
    }

    /// A table with what it merges: its own names first, then those of earlier ones.
    fn merge(&self, table: Table, at: Place) -> Result<Vec<(Key, Node)>, Wrong> {
        let Table { mut pairs, places, merged, .. } = table;
        let mut names: HashSet<String> = places.into_keys().collect();
        for node in merged {
            let all = match node.content {
                Content::List(items) => items,
                _ => vec![node],
            };
            for one in all {
                let Content::Map(others) = one.content else {
                    return Err((at.line, "`<<` merges tables, and this is none".to_owned()));
                };
                pairs.extend(others.into_iter().filter(|(key, _)| names.insert(key.text.clone())));
            }
        }
        Ok(pairs)
    }
}

/// No name can be this: it has a control character.
const MERGE: &str = "\u{0}<<";

/// The lines of a value that is not kept.
fn places(node: &Node) -> Vec<Place> {
    let mut out = Vec::new();
    node.each_place(&mut |at, last| out.extend((at.line..=last).map(|line| Place { line, ..at })));
    out
}

/// How many nodes there are, and how deep they are nested.
fn measure(node: &Node) -> (usize, usize) {
    let of = |nodes: &mut dyn Iterator<Item = &Node>| {
        let mut all = (1, 1);
        for (size, height) in nodes.map(measure) {
            all = (all.0 + size, all.1.max(height + 1));
        }
        all
    };
    match &node.content {
        Content::Null | Content::Scalar { .. } => (1, 0),
        Content::List(items) => of(&mut items.iter()),
        Content::Map(pairs) => of(&mut pairs.iter().map(|(_, value)| value)),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Content {
    let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    let quoted = match core {
        Some("str" | "binary") => true,
        Some(_) => false,
        None => style != ScalarStyle::Plain,
    };
    if !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Content::Null;
    }
    Content::Scalar { text: text.to_owned(), quoted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Node {
        let mut all = read(0, text);
        assert_eq!(all.len(), 1, "{text}");
        let document = all.remove(0);
        assert_eq!(document.unreadable, None, "{text}");
        document.root
    }

    fn wrong(text: &str) -> (usize, String) {
        let all = read(0, text);
        let found = all.into_iter().find_map(|document| document.unreadable).expect("it is wrong");
        (found.at.line, found.what)
    }

    #[test]
    fn nodes_know_their_lines() {
        let tree = root("# c\na:\n  b: [1, \"2\"]\n  c: |\n    x\n    y\n  d: plain\n    goes on\n\ne: ~\n");
        let lines = |names: &[&str]| tree.below(names).map(|node| (node.at.line, node.last));
        assert_eq!(lines(&["a", "c"]), Some((4, 6)));
        assert_eq!(lines(&["a", "d"]), Some((7, 8)));
        assert_eq!(tree.below(&["a", "c"]).and_then(Node::text), Some("x\ny\n"));
        assert_eq!(tree.below(&["a", "d"]).and_then(Node::text), Some("plain goes on"));
        let list = tree.below(&["a", "b"]).expect("a list").items();
        assert_eq!(
            list.iter().map(|n| (n.as_i64(), n.is_quoted())).collect::<Vec<_>>(),
            [(Some(1), false), (Some(2), true)]
        );
        assert_eq!(tree.entry("e").map(|(key, value)| (key.at.line, value.is_empty())), Some((10, true)));
    }

    #[test]
    fn documents_are_cut_at_their_marks() {
        let all = read(0, "%YAML 1.2\n---\na: 1\n---\n# nothing\n---\nb: [\n---\nc: 3\n...\n");
        let lines: Vec<(usize, usize)> =
            all.iter().map(|document| (document.at.line, document.last)).collect();
        assert_eq!(lines, [(1, 3), (6, 7), (8, 10)]);
        assert_eq!(all[1].unreadable.as_ref().map(|wrong| wrong.at.line), Some(7));
        assert_eq!(all[2].root.get("c").map(|node| node.at.line), Some(9));
    }

    #[test]
    fn anchors_and_merges_are_put_in() {
        let tree = root("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nsame: *b\n");
        let use_ = tree.get("use").expect("a table");
        assert_eq!(use_.get("x").and_then(Node::as_i64), Some(1));
        assert_eq!(use_.get("y").and_then(Node::as_i64), Some(3));
        assert_eq!(tree.get("same").map(|node| (node.at.line, node.pairs().len())), Some((5, 2)));
    }

    #[test]
    fn names_may_be_there_once() {
        let all = read(0, "a: 1\nb: 2\na: 3\n");
        assert_eq!(all[0].twice.iter().map(|t| (t.first.line, t.again.line)).collect::<Vec<_>>(), [(1, 3)]);
        assert_eq!(all[0].root.get("a").and_then(Node::as_i64), Some(3));
        assert_eq!(all[0].twice[0].lost, [Place { file: 0, line: 1 }]);
    }

    #[test]
    fn what_would_grow_without_bound_is_refused() {
        let mut laughs = "a0: &a0 [x, x]\n".to_owned();
        for at in 1..40 {
            laughs.push_str(&format!("a{at}: &a{at} [*a{}, *a{}]\n", at - 1, at - 1));
        }
        assert!(wrong(&laughs).1.contains("too much"));
        assert_eq!(wrong(&"[".repeat(100_000)).0, 1);
        assert!(wrong(&"- ".repeat(100_000)).1.contains("deep"));
        assert!(wrong("a: &a [*a]\n").1.contains("inside"));
        assert_eq!(wrong("a: 1\nb: *none\n").0, 2);
        assert_eq!(wrong("a: 1\nb: ]\n").0, 2);
        assert_eq!(wrong("? [a]\n: 1\n").0, 1);
    }
}
