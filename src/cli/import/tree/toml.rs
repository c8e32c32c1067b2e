//! TOML as a tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Content, DEPTH_MAX, Document, Key, Node, Unreadable};
use crate::cli::import::report::Place;

/// The one document of a file.
#[must_use]
pub(in crate::cli::import) fn read(file: usize, text: &str) -> Document {
    let lines = Lines { file, starts: starts(text) };
    let at = Place { file, line: 1 };
    let last = text.lines().count().max(1);
    let document = Document { at, last, root: Node::null(at), twice: Vec::new(), unreadable: None };
    let wrong = |at: Place, what: &str| Unreadable { at, what: what.trim().replace('\n', ", ") };
    match DeTable::parse(text) {
        Ok(table) => match lines.table(table.get_ref(), at, 0) {
            Ok(root) => Document { root, ..document },
            Err(line) => {
                let what = format!("it is nested more than {DEPTH_MAX} deep");
                Document { unreadable: Some(wrong(line, &what)), ..document }
            }
        },
        Err(error) => {
            let found = error.span().map_or(at, |span| lines.place(span.start));
            // What is missing at the end is missing on the last line that says something.
            let says = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
            let line = text.lines().enumerate().take(found.line).filter(|(_, line)| says(line)).last();
            let line = line.map_or(1, |(number, _)| number + 1);
            Document { unreadable: Some(wrong(Place { file, line }, error.message())), ..document }
        }
    }
}

/// Where each line begins.
fn starts(text: &str) -> Vec<usize> {
    let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(breaks).collect()
}

struct Lines {
    file: usize,
    starts: Vec<usize>,
}

impl Lines {
    fn place(&self, offset: usize) -> Place {
        Place { file: self.file, line: self.starts.partition_point(|start| *start <= offset).max(1) }
    }

    /// A table in the order of its text. What is too deep is an error on its line.
    fn table(&self, table: &DeTable<'_>, at: Place, depth: usize) -> Result<Node, Place> {
        let mut pairs: Vec<_> = table.iter().collect();
        pairs.sort_by_key(|(key, _)| key.span().start);
        let mut out = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let at = self.place(key.span().start);
            let node = self.value(value, at, depth + 1)?;
            out.push((Key { text: key.get_ref().clone().into_owned(), at }, node));
        }
        Ok(Node { at, last: at.line, content: Content::Map(out) })
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, name: Place, depth: usize) -> Result<Node, Place> {
        if depth > DEPTH_MAX {
            return Err(name);
        }
        let span = value.span();
        let at = self.place(span.start);
        let scalar = |text: &str, quoted| {
            let last = self.place(span.end.saturating_sub(1).max(span.start)).line;
            Ok(Node { at, last, content: Content::Scalar { text: text.to_owned(), quoted } })
        };
        match value.get_ref() {
            DeValue::String(text) => scalar(text, true),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(plain) => scalar(&plain.to_string(), false),
                Err(_) => scalar(number.as_str(), false),
            },
            DeValue::Float(number) => scalar(number.as_str(), false),
            DeValue::Boolean(yes) => scalar(if *yes { "true" } else { "false" }, false),
            DeValue::Datetime(when) => scalar(&when.to_string(), false),
            DeValue::Array(items) => {
                let items: Result<Vec<Node>, Place> =
                    items.iter().map(|item| self.value(item, at, depth + 1)).collect();
                Ok(Node { at, last: at.line, content: Content::List(items?) })
            }
            DeValue::Table(table) => self.table(table, at, depth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_lines() {
        let text = "# c\n[http.routers.a]\nrule = \"x\"\nlist = [\n  1,\n  2\n]\n\n[[b]]\nc = \"\"\"\nx\ny\"\"\"\n[[b]]\n";
        let document = read(0, text);
        assert_eq!(document.unreadable, None);
        let tree = &document.root;
        let rule = tree.below(&["http", "routers", "a", "rule"]).expect("a rule");
        assert_eq!((rule.at.line, rule.is_quoted()), (3, true));
        let lines: Vec<usize> = tree
            .below(&["http", "routers", "a", "list"])
            .expect("a list")
            .items()
            .iter()
            .map(|n| n.at.line)
            .collect();
        assert_eq!(lines, [5, 6]);
        let tables = tree.get("b").expect("tables").items();
        assert_eq!(tables.iter().map(|table| table.at.line).collect::<Vec<_>>(), [9, 13]);
        assert_eq!(tables[0].get("c").map(|node| (node.at.line, node.last)), Some((10, 12)));
    }

    #[test]
    fn what_is_wrong_is_told_on_its_line() {
        let line = |text: &str| read(0, text).unreadable.map(|wrong| wrong.at.line);
        assert_eq!(line("a = 1\nb = \n"), Some(2));
        assert_eq!(line("a = 1\na = 2\n"), Some(2));
        assert_eq!(line("a = [1,\n\n# c\n"), Some(1));
        assert!(line(&format!("a = {}", "[".repeat(100_000))).is_some());
    }
}
