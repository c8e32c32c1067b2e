//! Reading files and what they include, and joining them into one tree. Leaves syntax to `tree`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use super::diagnostic::Report;
use super::origin::Origin;
use super::source::{Sources, Span};
use super::tree::{self, Environment, Table, Tree, quoted};

/// Largest configuration file: far above any that a person keeps, far below what would hurt.
pub(super) const FILE_MAX: u64 = 16 << 20;
/// Most files of one configuration.
const FILES_MAX: usize = 1000;

/// Reads a file and all that it includes.
pub(super) struct Loader<'a> {
    pub(super) sources: &'a mut Sources,
    pub(super) report: &'a mut Report,
    pub(super) environment: Environment<'a>,
    /// Where files come from: the disk, or what was read from it once.
    kept: Option<&'a Origin>,
    /// Files that were read, by their real path: each is read once, so that cycles end.
    seen: Vec<PathBuf>,
    /// Patterns, whether anything matches or not.
    pub(super) patterns: Vec<PathBuf>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        sources: &'a mut Sources,
        report: &'a mut Report,
        environment: Environment<'a>,
        kept: Option<&'a Origin>,
    ) -> Self {
        Self { sources, report, environment, kept, seen: Vec::new(), patterns: Vec::new() }
    }

    /// Reads the main file.
    pub(super) fn file(&mut self, path: &Path) -> Table {
        match read(path) {
            Ok(bytes) => self.bytes(path, bytes),
            Err(error) => {
                let file = self.sources.add(path, String::new());
                self.report.incomplete = true;
                let span = Span { file, start: 0, end: 0 };
                self.report.error(
                    span,
                    format!("the file cannot be read: {error}"),
                    "check its path and its permissions",
                );
                Table::default()
            }
        }
    }

    fn bytes(&mut self, path: &Path, bytes: Vec<u8>) -> Table {
        match String::from_utf8(bytes) {
            Ok(text) => self.text(path, text),
            Err(error) => {
                let start = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let file = self.sources.add(path, text);
                self.report.incomplete = true;
                self.report.error(
                    Span { file, start, end: start + 1 },
                    "the file is not UTF-8 text",
                    "save it as UTF-8",
                );
                Table::default()
            }
        }
    }

    /// Reads a text as if it were in the file `path`.
    pub(super) fn text(&mut self, path: &Path, text: String) -> Table {
        self.seen.extend(self.real(path));
        let file = self.sources.add(path, text);
        let Some(mut table) = tree::parse(file, self.sources.text(file), self.environment, self.report)
        else {
            return Table::default();
        };
        for (pattern, span) in self.patterns(&mut table) {
            for found in self.matches(path, &pattern, span) {
                let Some(more) = self.included(&found, span) else { continue };
                self.merge(&mut table, more, 2);
            }
        }
        table
    }

    /// The path under which a file is known to have been read.
    fn real(&self, path: &Path) -> Option<PathBuf> {
        if self.kept.is_some() { Some(path.to_owned()) } else { path.canonicalize().ok() }
    }

    /// Takes `include` out of a file's tree.
    fn patterns(&mut self, table: &mut Table) -> Vec<(String, Span)> {
        let Some(entry) = table.take("include") else { return Vec::new() };
        let mut patterns = Vec::new();
        let nodes = match entry.node.tree {
            Tree::List(nodes) => nodes,
            _ => vec![entry.node],
        };
        for node in nodes {
            match &node.tree {
                Tree::Text(text) if !text.is_empty() => patterns.push((text.clone(), node.span)),
                Tree::Broken => self.report.incomplete = true,
                _ => {
                    self.report.incomplete = true;
                    let message = format!(
                        "`include` must be a list of file names or patterns, not {}",
                        node.describe()
                    );
                    self.report.error(node.span, message, "write include = [\"conf.d/*.toml\"]");
                }
            }
        }
        patterns
    }

    /// The files of a pattern, sorted; a plain name must exist, a pattern may match nothing.
    fn matches(&mut self, from: &Path, pattern: &str, span: Span) -> Vec<PathBuf> {
        let base = from.parent().unwrap_or_else(|| Path::new(""));
        if !is_glob(pattern) {
            return vec![base.join(pattern)];
        }
        self.patterns.push(base.join(pattern));
        let found = match self.kept {
            Some(kept) => Ok(glob_kept(kept, base, pattern)),
            None => glob(base, pattern),
        };
        match found {
            Ok(found) => found,
            Err(error) => {
                self.report.incomplete = true;
                let message = format!("the files of {} cannot be listed: {error}", quoted(pattern));
                self.report.error(
                    span,
                    message,
                    "'*' and '?' stand for characters within one name, as in \"conf.d/*.toml\"",
                );
                Vec::new()
            }
        }
    }

    fn included(&mut self, path: &Path, span: Span) -> Option<Table> {
        if self.real(path).is_some_and(|real| self.seen.contains(&real)) {
            return None;
        }
        if let Some(kept) = self.kept {
            // What is not there was the same file by another path: everything else was read.
            let text = kept.text(path)?.to_owned();
            return Some(self.text(path, text));
        }
        let problem = if self.seen.len() >= FILES_MAX {
            format!("a configuration has at most {FILES_MAX} files")
        } else if path.exists() && !path.is_file() {
            format!("{} is no regular file", quoted(&path.to_string_lossy()))
        } else {
            match read(path) {
                Ok(bytes) => return Some(self.bytes(path, bytes)),
                Err(error) => format!("{} cannot be read: {error}", quoted(&path.to_string_lossy())),
            }
        };
        self.report.incomplete = true;
        self.report.error(span, problem, "paths are relative to the file that names them");
        None
    }

    /// Joins the tree of another file into this one: sections join key by key, named ones name by name,
    /// routes in order.
    fn merge(&mut self, into: &mut Table, from: Table, levels: usize) {
        for entry in from.entries {
            let Some(present) = into.entries.iter_mut().find(|present| present.key == entry.key) else {
                into.entries.push(entry);
                continue;
            };
            match (&mut present.node.tree, entry.node.tree) {
                (Tree::Table(into), Tree::Table(from)) if levels > 1 => {
                    // [defaults.pool.limits] lies two deeper than [pool.NAME], whose names must not join.
                    let below = if entry.key == "defaults" { 4 } else { levels - 1 };
                    self.merge(into, from, below);
                }
                (Tree::List(into), Tree::List(from)) if levels == 2 && entry.key == "route" => {
                    into.extend(from)
                }
                _ => self.report.error_beside(
                    entry.key_span,
                    format!("`{}` is defined twice", entry.key),
                    ("it is first defined at", present.key_span),
                    "keep one of the two, or give one another name",
                ),
            }
        }
    }
}

/// Reads a file, but no more than [`FILE_MAX`].
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("it is larger than {} MiB", FILE_MAX >> 20)));
    }
    Ok(bytes)
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// All regular files that match a pattern of [`super::Origin::patterns`], sorted.
///
/// # Errors
/// As the system, and where there are too many.
pub fn files_of(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    glob(Path::new(""), &pattern.to_string_lossy())
}

/// All regular files under `base` that match `pattern`, name by name, sorted; hidden files only where the
/// pattern has the dot.
fn glob(base: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![base.to_owned()];
    for component in Path::new(pattern).components() {
        let name = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !is_glob(&name) {
            for path in &mut found {
                path.push(component);
            }
            continue;
        }
        let mut next = Vec::new();
        for directory in &found {
            next.extend(entries(directory, &name)?);
            if next.len() > FILES_MAX {
                return Err(io::Error::other(format!("there are more than {FILES_MAX}")));
            }
        }
        found = next;
    }
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

fn entries(directory: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let listing = match listed.read_dir() {
        Ok(listing) => listing,
        // Nothing there is nothing matched.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(e),
    };
    let mut matching = Vec::new();
    for entry in listing {
        let file = entry?.file_name();
        let text = file.to_string_lossy();
        if (name.starts_with('.') || !text.starts_with('.')) && matches_name(name.as_bytes(), text.as_bytes())
        {
            matching.push(directory.join(&file));
        }
    }
    Ok(matching)
}

/// The kept files that match `pattern` under `base`, in the order in which they were read, which is the sorted one.
fn glob_kept(kept: &Origin, base: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = base.join(pattern);
    let matches = |path: &Path| {
        let (mut names, mut patterns) = (path.components(), pattern.components());
        loop {
            match (names.next(), patterns.next()) {
                (None, None) => return true,
                (Some(name), Some(pattern)) => {
                    let (name, pattern) =
                        (name.as_os_str().to_string_lossy(), pattern.as_os_str().to_string_lossy());
                    if !matches_name(pattern.as_bytes(), name.as_bytes()) {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    };
    kept.texts.iter().skip(1).map(|(path, _)| path).filter(|path| matches(path)).cloned().collect()
}

/// Whether a name fits a pattern of `*` and `?`; linear in practice, since only the last star is tried again.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || name.get(n) == Some(&byte) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                p = after;
                n = from + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&b| b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_within_one_name() {
        for (pattern, name, want) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches_name(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        }
    }
}
