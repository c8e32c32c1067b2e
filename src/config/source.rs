//! The texts that were read and places in them. Leaves what is wrong at a place to `diagnostic`.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// A stretch of one source text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    /// Index of the file in [`Sources`].
    pub(super) file: usize,
    /// First byte.
    pub(super) start: usize,
    /// The byte behind the last one.
    pub(super) end: usize,
}

/// Every text that was read, the main file first.
#[derive(Debug, Default)]
pub(super) struct Sources {
    files: Vec<(PathBuf, String)>,
    /// Other files that they name.
    named: RefCell<Vec<PathBuf>>,
    /// The same, to find one among thousands of certificates.
    known: RefCell<HashSet<PathBuf>>,
}

/// A line and the part of it that a span covers, all counted in characters from 0.
pub(super) struct Place<'a> {
    pub(super) line: usize,
    pub(super) column: usize,
    /// Characters covered on this line; at least one.
    pub(super) width: usize,
    /// The line without its end.
    pub(super) text: &'a str,
}

impl Sources {
    /// Takes in a text and gives its index.
    pub(super) fn add(&mut self, name: &Path, text: String) -> usize {
        self.files.push((name.to_owned(), text));
        self.files.len() - 1
    }

    /// Notes another file that the texts name.
    pub(super) fn note(&self, named: &Path) {
        if self.known.borrow_mut().insert(named.to_owned()) {
            self.named.borrow_mut().push(named.to_owned());
        }
    }

    /// The texts with the names of their files, and the other files that they name.
    pub(super) fn into_parts(self) -> (Vec<(PathBuf, String)>, Vec<PathBuf>) {
        (self.files, self.named.into_inner())
    }

    /// The name of a file; empty when there is none of this index.
    pub(super) fn name(&self, file: usize) -> &Path {
        self.files.get(file).map_or_else(|| Path::new(""), |(name, _)| name)
    }

    /// The folder that a file is in, which relative paths in it start from.
    pub(super) fn directory(&self, file: usize) -> &Path {
        self.name(file).parent().unwrap_or_else(|| Path::new(""))
    }

    /// The text of a file; empty when there is none of this index.
    pub(super) fn text(&self, file: usize) -> &str {
        self.files.get(file).map_or("", |(_, text)| text)
    }

    /// A hash (FNV-1a, 64 bits) of all texts, the same on every machine and for every build.
    pub(super) fn hash(&self) -> u64 {
        let bytes = self.files.iter().flat_map(|(_, text)| text.bytes().chain([0xff]));
        bytes
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// Where a span begins, with the line that it begins on.
    pub(super) fn place(&self, span: Span) -> Place<'_> {
        let text = self.text(span.file);
        let start = boundary(text, span.start);
        let end = boundary(text, span.end.max(start));
        let before = text.get(..start).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = text.get(line_start..).unwrap_or("");
        let line = rest.split('\n').next().unwrap_or("");
        let covered = text.get(start..end.min(line_start + line.len()).max(start)).unwrap_or("");
        Place {
            line: before.matches('\n').count(),
            column: before.get(line_start..).unwrap_or("").chars().count(),
            width: covered.trim_end().chars().count().max(1),
            text: line.strip_suffix('\r').unwrap_or(line),
        }
    }

    /// `file:line:column` of the start of a span, counted from 1.
    pub(super) fn locate(&self, span: Span) -> String {
        let place = self.place(span);
        format!("{}:{}:{}", self.name(span.file).display(), place.line + 1, place.column + 1)
    }
}

/// The nearest character boundary at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let mut sources = Sources::default();
        let file = sources.add(Path::new("a"), "one\nzwö = 3\r\n".to_owned());
        let place = sources.place(Span { file, start: 11, end: 12 });
        assert_eq!((place.line, place.column, place.width, place.text), (1, 6, 1, "zwö = 3"));
        let inside_a_character = sources.place(Span { file, start: 7, end: 99 });
        assert_eq!((inside_a_character.line, inside_a_character.column), (1, 2));
        let past_the_end = sources.place(Span { file, start: 99, end: 99 });
        assert_eq!((past_the_end.line, past_the_end.column, past_the_end.width), (2, 0, 1));
        assert_eq!(sources.locate(Span { file: 9, start: 1, end: 2 }), ":1:1");
    }
}
