//! The files of a configuration: which part of them is static and which dynamic, and the elements of the latter by name.

use std::collections::{HashMap, HashSet};

use super::super::report::{Place, Report, Verdict};
use super::super::surroundings::Surroundings;
use super::super::tree::{Content, Document, Lines, Node, read_toml, read_yaml};
use super::template;

/// Parts of a static configuration.
const STATIC: [&str; 18] = [
    "global",
    "serverstransport",
    "tcpserverstransport",
    "entrypoints",
    "providers",
    "api",
    "metrics",
    "ping",
    "log",
    "accesslog",
    "tracing",
    "hostresolver",
    "certificatesresolvers",
    "experimental",
    "core",
    "spiffe",
    "ocsp",
    "rest",
];

/// Parts of a dynamic one, and what is in each.
const DYNAMIC: [(&str, &[&str]); 4] = [
    ("http", &["routers", "services", "middlewares", "serverstransports"]),
    ("tcp", &["routers", "services", "middlewares", "serverstransports"]),
    ("udp", &["routers", "services"]),
    ("tls", &["options", "stores", "certificates"]),
];

/// What has been read.
#[derive(Debug)]
pub(super) struct Source {
    files: Vec<(Lines, Vec<Document>)>,
    /// Lines that a template makes anew, each time in a way that is not known here.
    unknown: HashSet<Place>,
}

/// Something with a name: a router, a service, a middleware.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'s> {
    pub(super) name: &'s str,
    pub(super) at: Place,
    pub(super) node: &'s Node,
    /// A template makes some of it, in a way that is not known here.
    pub(super) unknown: bool,
}

/// Elements of one kind.
#[derive(Debug, Default)]
pub(super) struct Elements<'s> {
    pub(super) all: Vec<Element<'s>>,
    by_name: HashMap<&'s str, usize>,
}

impl<'s> Elements<'s> {
    /// The element of that name.
    pub(super) fn get(&self, name: &str) -> Option<Element<'s>> {
        self.by_name.get(name).and_then(|at| self.all.get(*at)).copied()
    }
}

/// Everything by kind.
#[derive(Debug, Default)]
pub(super) struct Parts<'s> {
    /// Parts of static configurations: names in lower case.
    pub(super) statics: Vec<(String, Place, &'s Node)>,
    named: HashMap<(&'static str, &'static str), Elements<'s>>,
    /// Certificates, each a table.
    pub(super) certificates: Vec<&'s Node>,
}

/// What is asked for where there is nothing.
static NONE: std::sync::LazyLock<Elements<'static>> = std::sync::LazyLock::new(Elements::default);

impl<'s> Parts<'s> {
    /// The elements of a kind, such as `("http", "routers")`.
    pub(super) fn of(&self, part: &'static str, kind: &'static str) -> &Elements<'s> {
        self.named.get(&(part, kind)).unwrap_or(&NONE)
    }

    /// A part of the static configuration.
    pub(super) fn statics(&self, name: &str) -> Option<(Place, &'s Node)> {
        self.statics.iter().find(|(own, ..)| own == name).map(|(_, at, node)| (*at, *node))
    }
}

/// Reads all files.
pub(super) fn read(files: &[(&str, &str)], around: Surroundings<'_>, report: &mut Report) -> Source {
    let mut source = Source { files: Vec::new(), unknown: HashSet::new() };
    for (name, text) in files {
        let file = report.file(name, text);
        let lines = Lines::expect(file, text, report);
        let filled = if text.contains("{{") && is_dynamic(text) {
            template::fill(text, file, around, &mut source.unknown, report)
        } else {
            (*text).to_owned()
        };
        let documents =
            if is_toml(name, text) { vec![read_toml(file, &filled)] } else { read_yaml(file, &filled) };
        for (at, document) in documents.iter().enumerate() {
            if document.tell(report) && at > 0 {
                document.root.tell(
                    Verdict::WrongInSource,
                    "Traefik reads the first document of a file only",
                    report,
                );
            }
            for twice in &document.twice {
                let what = format!(
                    "`{}` is there already, on line {}: Traefik refuses the file",
                    twice.name, twice.first.line
                );
                report.wrong(twice.again, what);
            }
        }
        source.files.push((lines, documents));
    }
    source
}

/// By the end of its name, else by how it begins.
fn is_toml(name: &str, text: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if let Some((_, end)) = name.rsplit_once('.')
        && ["toml", "yml", "yaml"].contains(&end)
    {
        return end == "toml";
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| {
        let equals = line.find('=').unwrap_or(usize::MAX);
        line.starts_with('[') || equals < line.find(':').unwrap_or(usize::MAX)
    })
}

/// Whether a text has a dynamic part at its top, in YAML or TOML.
fn is_dynamic(text: &str) -> bool {
    text.lines().any(|line| {
        // Tables of TOML may be indented, names at the top of YAML are not.
        let table = line.trim_start();
        let line = if table.starts_with('[') { table.trim_start_matches(['[', ' ']) } else { line };
        let line = line.trim_start_matches('"');
        DYNAMIC.iter().any(|(part, _)| {
            let begins = line.get(..part.len()).is_some_and(|start| start.eq_ignore_ascii_case(part));
            let rest = line.get(part.len()..).unwrap_or("");
            begins && rest.trim_start_matches('"').trim_start().starts_with([':', '.', ']'])
        })
    })
}

/// Sorts what has been read by its kind.
pub(super) fn parts<'s>(source: &'s Source, report: &mut Report) -> Parts<'s> {
    let mut parts = Parts::default();
    let mut first = Vec::new();
    for (_, documents) in &source.files {
        first.extend(documents.first());
    }
    for document in first {
        if let Content::List(_) | Content::Scalar { .. } = document.root.content {
            document.root.tell(Verdict::WrongInSource, "a file is a table: Traefik refuses it", report);
        }
        for (key, node) in document.root.pairs() {
            let name = key.text.to_ascii_lowercase();
            if STATIC.contains(&name.as_str()) {
                if parts.statics.iter().any(|(own, ..)| *own == name) {
                    report.wrong(key.at, "another file has this as well: Traefik reads one static file");
                }
                parts.statics.push((name, key.at, node));
            } else if let Some((part, kinds)) = DYNAMIC.iter().find(|(part, _)| *part == name) {
                gather(part, kinds, (key.at, node), source, &mut parts, report);
            } else {
                report.wrong(
                    key.at,
                    format!("Traefik knows no part `{}`, and refuses the whole file", key.text),
                );
                super::said::each_silent(
                    node,
                    Verdict::Ignored,
                    "it is below a part that Traefik does not know",
                    report,
                );
            }
        }
    }
    parts
}

fn gather<'s>(
    part: &'static str,
    kinds: &'static [&'static str],
    (at, node): (Place, &'s Node),
    source: &'s Source,
    parts: &mut Parts<'s>,
    report: &mut Report,
) {
    if node.is_empty() {
        report.ignored(at, "nothing is in it");
    }
    for (key, below) in node.pairs() {
        let Some(kind) = kinds.iter().find(|kind| key.text.eq_ignore_ascii_case(kind)) else {
            report.wrong(key.at, format!("Traefik knows no `{}` here, and refuses the whole file", key.text));
            super::said::each_silent(
                below,
                Verdict::Ignored,
                "it is below something that Traefik does not know",
                report,
            );
            continue;
        };
        if below.is_empty() {
            report.ignored(key.at, "nothing is in it");
        }
        if *kind == "certificates" {
            parts.certificates.extend(below.items());
            continue;
        }
        let elements = parts.named.entry((part, kind)).or_default();
        for (name, node) in below.pairs() {
            let mut unknown = false;
            node.each_place(&mut |at, _| unknown |= source.unknown.contains(&at));
            let element = Element { name: &name.text, at: name.at, node, unknown };
            if let Some(first) = elements.by_name.get(name.text.as_str()).and_then(|at| elements.all.get(*at))
            {
                let what = format!(
                    "{} is there already, in {}: Traefik keeps that one",
                    name.text,
                    super::super::document::place(first.at, report)
                );
                report.wrong(name.at, what);
                node.tell(Verdict::Ignored, "its name is taken", report);
                continue;
            }
            elements.by_name.insert(&name.text, elements.all.len());
            elements.all.push(element);
        }
        if !matches!(below.content, Content::Map(_) | Content::Null) {
            report.wrong(key.at, "this is a table with names: Traefik refuses the file");
            below.tell(Verdict::Ignored, "it stands where a table belongs", report);
        }
    }
    if !matches!(node.content, Content::Map(_) | Content::Null) {
        report.wrong(at, "this is a table: Traefik refuses the file");
        node.tell(Verdict::Ignored, "it stands where a table belongs", report);
    }
}

impl Source {
    /// Judges the lines that only hold others.
    pub(super) fn settle(&self, report: &mut Report) {
        for (lines, documents) in &self.files {
            lines.settle(documents, report);
        }
    }
}

/// A name without the provider that it is said to be of: that of files, or none.
///
/// # Errors
/// The other provider.
pub(super) fn own_name(name: &str) -> Result<&str, &str> {
    match name.rsplit_once('@') {
        None => Ok(name),
        Some((own, "file")) => Ok(own),
        Some((_, provider)) => Err(provider),
    }
}
