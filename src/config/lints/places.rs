//! Where a finding stands: the texts that a configuration was made from, read once more as trees and asked for keys. What is
//! found at all is not said here.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::config::diagnostic::Report;
use crate::config::origin::Origin;
use crate::config::source::Span;
use crate::config::tree::{self, Entry, Node, Table, Tree};

/// Bases that a pool may have, one over the other: more than anybody writes, and an end to circles.
const LAYERS_MAX: usize = 32;

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// A section of the whole configuration, or one that names of sections lie in.
    Section(&'static str),
    /// A pool, by its name.
    Pool(String),
    /// A listener, by its name.
    Listener(String),
    /// A route, by its name.
    Route(String),
}

impl Owner {
    /// The key of something of it, from the root.
    pub(super) fn key(&self, keys: &[&str]) -> String {
        let own = match self {
            Self::Section(name) => (*name).to_owned(),
            Self::Pool(name) => format!("pool.{name}"),
            Self::Listener(name) => format!("listener.{name}"),
            Self::Route(name) => format!("route.{name}"),
        };
        std::iter::once(own.as_str()).chain(keys.iter().copied()).collect::<Vec<_>>().join(".")
    }
}

/// A place in a file, its line and column from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: usize,
    /// The column in characters.
    pub column: usize,
}

/// The texts as trees.
pub(super) struct Places<'a> {
    files: Vec<File<'a>>,
    /// Routes by their names, also those that have none of their own: file and place in it.
    routes: HashMap<String, (usize, usize)>,
    /// Pools and listeners, likewise.
    named: HashMap<(&'static str, String), (usize, usize)>,
}

struct File<'a> {
    path: &'a PathBuf,
    text: &'a str,
    table: Table,
    /// Where lines begin.
    lines: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(super) fn of(origin: &'a Origin) -> Self {
        let environment = |name: &str| origin.environment.get(name).cloned();
        let files = origin.texts.iter().enumerate().map(|(index, (path, text))| {
            // It has been read before, without a mistake.
            let table = tree::parse(index, text, &environment, &mut Report::default()).unwrap_or_default();
            let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
            File { path, text, table, lines }
        });
        let files: Vec<File<'a>> = files.collect();
        let all = files.iter().enumerate().flat_map(|(file, one)| {
            list_of(&one.table, "route").iter().enumerate().map(move |(at, node)| (file, at, node))
        });
        let named = all.enumerate().map(|(number, (file, at, node))| {
            let name = table_of(node).and_then(|table| text_of(table, "name"));
            (name.map_or_else(|| format!("route-{}", number + 1), str::to_owned), (file, at))
        });
        let routes = named.collect();
        let mut named = HashMap::new();
        for (file, one) in files.iter().enumerate() {
            for sort in ["pool", "listener"] {
                let Some(table) = entry(&one.table, sort).and_then(|entry| table_of(&entry.node)) else {
                    continue;
                };
                let entries = table.entries.iter().enumerate();
                named.extend(entries.map(|(at, entry)| ((sort, entry.key.clone()), (file, at))));
            }
        }
        Self { files, routes, named }
    }

    /// Where a key stands, or else what is nearest to it: the table that would have it, its owner, the file.
    pub(super) fn find(&self, owner: &Owner, keys: &[&str]) -> Option<Place> {
        let span = match owner {
            Owner::Section(name) => self.section(name, keys),
            Owner::Pool(name) => self.layered("pool", name, keys),
            Owner::Listener(name) => self.layered("listener", name, keys),
            Owner::Route(name) => self.route(name, keys),
        };
        self.place(span.unwrap_or_default())
    }

    fn section(&self, name: &str, keys: &[&str]) -> Option<Span> {
        let entries: Vec<&Entry> = self.files.iter().filter_map(|file| entry(&file.table, name)).collect();
        let exact = entries.iter().find_map(|entry| deepest(entry, keys).filter(|(_, left)| *left == 0));
        exact.map(|(span, _)| span).or_else(|| entries.first().map(|entry| entry.key_span))
    }

    /// A key of a named section, which it may have from another one or from `[defaults]`.
    fn layered(&self, sort: &'static str, name: &str, keys: &[&str]) -> Option<Span> {
        let own = self.named(sort, name)?;
        let (span, left) = deepest(own, keys)?;
        if left == 0 {
            return Some(span);
        }
        let mut like = table_of(&own.node).and_then(|table| text_of(table, "like"));
        for _ in 0..LAYERS_MAX {
            let Some(base) = like.and_then(|name| self.named(sort, name)) else { break };
            match deepest(base, keys) {
                Some((span, 0)) => return Some(span),
                _ => like = table_of(&base.node).and_then(|table| text_of(table, "like")),
            }
        }
        let defaults = self.files.iter().filter_map(|file| entry(&file.table, "defaults"));
        let below = std::iter::once(sort).chain(keys.iter().copied()).collect::<Vec<_>>();
        let mut exact = defaults.filter_map(|entry| deepest(entry, &below).filter(|(_, left)| *left == 0));
        Some(exact.next().map_or(span, |(span, _)| span))
    }

    fn named(&self, sort: &'static str, name: &str) -> Option<&Entry> {
        let (file, at) = self.named.get(&(sort, name.to_owned()))?;
        table_of(&entry(&self.files.get(*file)?.table, sort)?.node)?.entries.get(*at)
    }

    fn route(&self, name: &str, keys: &[&str]) -> Option<Span> {
        let (file, at) = self.routes.get(name)?;
        let node = list_of(&self.files.get(*file)?.table, "route").get(*at)?;
        let [first, rest @ ..] = keys else { return Some(node.span) };
        let found = table_of(node).and_then(|table| entry(table, first));
        Some(found.and_then(|entry| deepest(entry, rest)).map_or(node.span, |(span, _)| span))
    }

    fn place(&self, span: Span) -> Option<Place> {
        let File { path, text, lines, .. } = self.files.get(span.file)?;
        let line = lines.partition_point(|start| *start <= span.start).max(1);
        let start = lines.get(line - 1).copied().unwrap_or(0);
        let before = text.get(start..span.start).unwrap_or("");
        Some(Place { file: (*path).clone(), line, column: before.chars().count() + 1 })
    }
}

/// The key of `keys` below an entry that lies deepest, and how many are missing from there on.
fn deepest(from: &Entry, keys: &[&str]) -> Option<(Span, usize)> {
    let mut found = from;
    for (at, key) in keys.iter().enumerate() {
        match table_of(&found.node).and_then(|table| entry(table, key)) {
            Some(next) => found = next,
            None => return Some((found.key_span, keys.len() - at)),
        }
    }
    Some((found.key_span, 0))
}

fn entry<'t>(table: &'t Table, key: &str) -> Option<&'t Entry> {
    table.entries.iter().find(|entry| entry.key == key)
}

fn table_of(node: &Node) -> Option<&Table> {
    match &node.tree {
        Tree::Table(table) => Some(table),
        _ => None,
    }
}

fn list_of<'t>(table: &'t Table, key: &str) -> &'t [Node] {
    match entry(table, key).map(|entry| &entry.node.tree) {
        Some(Tree::List(nodes)) => nodes,
        _ => &[],
    }
}

fn text_of<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    match entry(table, key).map(|entry| &entry.node.tree) {
        Some(Tree::Text(text)) => Some(text),
        _ => None,
    }
}
