//! What is written loads: whatever of a document the configuration does not take is taken out again, with a remark on
//! the line that it comes from. A translation should not need it; sources that no product would take do.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::document::{Block, Document, Value, place, write_key};
use super::report::{Place, Report, Verdict};
use crate::config;

/// Errors are mended in so many rounds; a round mends as many as are reported at once.
const ROUNDS_MAX: usize = 64;

/// Keys of a route that say which requests it takes: without one of them it would take others.
const CONDITIONS: [&str; 11] = [
    "listeners",
    "host",
    "path",
    "path_prefix",
    "path_regex",
    "methods",
    "headers",
    "query",
    "cookies",
    "source",
    "sni",
];
/// Keys of a route that may be left out without anybody being let in.
const HARMLESS: [&str; 12] = [
    "name",
    "priority",
    "request_headers",
    "response_headers",
    "rewrite",
    "error_pages",
    "compress",
    "buffer_request",
    "timeouts",
    "priority_class",
    "retry",
    "mirror",
];
/// Keys without which a listener or a pool would be something else.
const VITAL: [&str; 7] = ["bind", "tls", "allow", "deny", "trusted_proxies", "endpoints", "protocol"];

/// A kind of block, in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Single,
    Default,
    Listener,
    Route,
    Pool,
}

/// A place of a document: a block, the key of it, and the line of a list.
type Spot = (Kind, usize, Option<String>, Option<usize>);

/// Takes out of the document what does not load.
pub(super) fn settle(document: &mut Document, report: &mut Report) {
    for _ in 0..ROUNDS_MAX {
        if document.listeners.is_empty() {
            return;
        }
        let text = document.print(report);
        let Err(errors) = config::load_text(&text, Path::new("plimsoll.toml"), &|_| None) else { return };
        let spots = spots(document, &text);
        let mut wrong: BTreeMap<Spot, String> = BTreeMap::new();
        for error in errors.list() {
            if let Some(Some(spot)) = spots.get(error.line.wrapping_sub(1)) {
                wrong.entry(spot.clone()).or_insert_with(|| error.message.clone());
            }
        }
        if wrong.is_empty() {
            return;
        }
        // From the end, so that places before stay what they are.
        for (spot, message) in wrong.iter().rev() {
            take_out(document, spot, message, report);
        }
    }
}

fn blocks(document: &mut Document, kind: Kind) -> &mut Vec<Block> {
    match kind {
        Kind::Single => &mut document.singles,
        Kind::Default => &mut document.defaults,
        Kind::Listener => &mut document.listeners,
        Kind::Route => &mut document.routes,
        Kind::Pool => &mut document.pools,
    }
}

/// What each printed line is of.
fn spots(document: &Document, text: &str) -> Vec<Option<Spot>> {
    let mut known: HashMap<String, (Kind, usize)> = HashMap::new();
    let kinds = [
        (Kind::Single, "", &document.singles),
        (Kind::Default, "defaults.", &document.defaults),
        (Kind::Listener, "listener.", &document.listeners),
        (Kind::Pool, "pool.", &document.pools),
    ];
    for (kind, start, list) in kinds {
        for (at, block) in list.iter().enumerate() {
            let mut path = start.to_owned();
            write_key(&block.name, &mut path);
            known.entry(path).or_insert((kind, at));
        }
    }
    let (mut routes, mut here, mut prefix): (usize, Option<(Kind, usize)>, String) = (0, None, String::new());
    let mut list: Option<(String, usize)> = None;
    let mut out = Vec::new();
    for line in text.lines() {
        let spot = if line == "[[route]]" {
            (here, prefix, routes) = (Some((Kind::Route, routes)), String::new(), routes + 1);
            here.map(|(kind, at)| (kind, at, None, None))
        } else if let Some(path) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            (here, prefix) = of_header(path, &known, here);
            here.map(|(kind, at)| {
                (kind, at, Some(prefix.trim_end_matches('.').to_owned()).filter(|p| !p.is_empty()), None)
            })
        } else if let (Some((key, count)), true) = (&mut list, line.starts_with("  ")) {
            *count += 1;
            here.map(|(kind, at)| (kind, at, Some(key.clone()), Some(*count - 1)))
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            let key = format!("{prefix}{}", key.trim_matches('"'));
            list = line.ends_with(" = [").then(|| (key.clone(), 0));
            here.map(|(kind, at)| (kind, at, Some(key), None))
        } else {
            None
        };
        out.push(spot);
    }
    out
}

/// The block of a header, and what stands before the keys below it.
fn of_header(
    path: &str,
    known: &HashMap<String, (Kind, usize)>,
    here: Option<(Kind, usize)>,
) -> (Option<(Kind, usize)>, String) {
    if let Some(rest) = path.strip_prefix("route.") {
        return (here, format!("{rest}."));
    }
    let mut start = path;
    loop {
        if let Some(found) = known.get(start) {
            let rest = path.get(start.len()..).unwrap_or("").trim_start_matches('.');
            let prefix = if rest.is_empty() { String::new() } else { format!("{rest}.") };
            return (Some(*found), prefix);
        }
        match start.rsplit_once('.') {
            Some((before, _)) => start = before,
            None => return (None, String::new()),
        }
    }
}

fn take_out(document: &mut Document, (kind, at, key, item): &Spot, message: &str, report: &mut Report) {
    let list = blocks(document, *kind);
    let Some(block) = list.get_mut(*at) else { return };
    let below = |path: &str, key: &str| {
        path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut from = block.table.entries.iter().find_map(|entry| entry.from);
    let root = key.as_deref().and_then(|key| key.split('.').next()).unwrap_or("").to_owned();
    if let Some(key) = key {
        from = block
            .table
            .entries
            .iter()
            .find(|entry| below(&entry.path, key))
            .and_then(|entry| entry.from)
            .or(from);
    }
    let mut gone = false;
    if let (Some(key), Some(item)) = (key, item) {
        let own = block.table.entries.iter_mut().find(|entry| entry.path == *key);
        if let Some(Value::Lines(lines)) = own.map(|entry| &mut entry.value)
            && *item < lines.len()
        {
            from = lines.remove(*item).1.or(from);
            gone = !lines.is_empty();
        }
    }
    if !gone {
        let whole = key.is_none()
            || matches!(kind, Kind::Route) && CONDITIONS.contains(&root.as_str())
            || matches!(kind, Kind::Listener | Kind::Pool) && VITAL.contains(&root.as_str());
        let widened = *kind == Kind::Route && root != "listeners" && refuses(block);
        match key {
            Some(key) if !whole || widened => {
                block.table.entries.retain(|entry| !below(&entry.path, key));
                if *kind == Kind::Route && !HARMLESS.contains(&root.as_str()) {
                    closed(block);
                }
            }
            _ => with_it(&list.remove(*at), *kind, from, report),
        }
    }
    tell(from, message, report);
}

/// Says of the other lines of a listener or a pool that nothing is left of it.
fn with_it(block: &Block, kind: Kind, from: Option<Place>, report: &mut Report) {
    let what = match kind {
        Kind::Listener => "listener",
        Kind::Pool => "pool",
        Kind::Single | Kind::Default | Kind::Route => return,
    };
    let why = from.map(|at| format!(", see {}", place(at, report))).unwrap_or_default();
    let mut lines: Vec<Place> = Vec::new();
    for entry in block.table.entries.iter().filter(|entry| VITAL.contains(&entry.path.as_str())) {
        match &entry.value {
            Value::Lines(items) => lines.extend(items.iter().filter_map(|(_, at)| *at)),
            _ => lines.extend(entry.from),
        }
    }
    for at in lines.into_iter().filter(|at| Some(*at) != from) {
        report.not_possible(at, format!("the {what} {} is not written{why}", block.name));
    }
}

/// Whether a route keeps requests out, all or some. Where it is not known which, more are kept out: taken out as a whole it
/// would leave them to routes behind it.
fn refuses(block: &Block) -> bool {
    let roots = block.table.entries.iter().filter_map(|entry| entry.path.split('.').next());
    let leads = |root: &str| matches!(root, "pool" | "split" | "split_by");
    let roots: Vec<&str> = roots.collect();
    !roots.iter().any(|root| leads(root))
        || roots.iter().any(|root| !leads(root) && !CONDITIONS.contains(root) && !HARMLESS.contains(root))
}

/// Nobody is let in where it is not known who may.
fn closed(block: &mut Block) {
    for key in ["pool", "split", "redirect", "respond", "health"] {
        block.table.entries.retain(|entry| entry.path != key);
    }
    block.table.set("respond", Value::inline([("status", Value::Integer(503))]), None);
}

fn tell(from: Option<Place>, message: &str, report: &mut Report) {
    let what = format!("it cannot be written, and what it would be is left out: {message}");
    match from {
        Some(at) => report.note(at, Verdict::NotPossible, what),
        None => report.general(what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Table;
    use super::*;

    fn block(name: &str, keys: &[(&str, Value)]) -> Block {
        let mut table = Table::default();
        for (key, value) in keys {
            table.set(key, value.clone(), None);
        }
        Block { name: name.to_owned(), comments: Vec::new(), table }
    }

    #[test]
    fn a_route_that_refuses_what_cannot_be_said_refuses_more() {
        let listener = |name: &str| block(name, &[("bind", Value::texts(["127.0.0.1:80"]))]);
        let bad = ("path_regex", Value::text("("));
        let routes = vec![
            block("", &[bad.clone(), ("host", Value::text("a.test")), ("pool", Value::text("app"))]),
            block(
                "",
                &[
                    bad.clone(),
                    ("host", Value::text("b.test")),
                    ("pool", Value::text("app")),
                    ("allow", Value::texts(["10.0.0.0/8"])),
                ],
            ),
            block("", &[bad, ("respond", Value::inline([("status", Value::Integer(403))]))]),
            block(
                "",
                &[
                    ("listeners", Value::texts(["lost"])),
                    ("respond", Value::inline([("status", Value::Integer(403))])),
                ],
            ),
        ];
        let endpoints = Value::Lines(vec![(Value::text("10.0.0.1:80"), None)]);
        let pools = vec![block("app", &[("endpoints", endpoints)])];
        let mut document =
            Document { listeners: vec![listener("web")], routes, pools, ..Document::default() };
        let mut report = Report::default();
        settle(&mut document, &mut report);
        let text = document.print(&report);
        assert!(config::load_text(&text, Path::new("x.toml"), &|_| None).is_ok(), "{text}");
        assert_eq!(document.routes.len(), 2, "{text}");
        assert!(text.contains("host = \"b.test\"") && !text.contains("a.test"), "{text}");
        assert_eq!(text.matches("respond = { status = 503 }").count(), 2, "{text}");
    }

    #[test]
    fn what_does_not_load_is_left_out_and_lets_nobody_in() {
        let mut document = Document {
            listeners: vec![
                block("web", &[("bind", Value::texts(["127.0.0.1:80"])), ("unix_mode", Value::text("rwx"))]),
                block("no", &[("bind", Value::texts(["nowhere"]))]),
            ],
            routes: vec![
                block("", &[("path", Value::text("no path")), ("pool", Value::text("app"))]),
                block(
                    "",
                    &[("pool", Value::text("app")), ("rewrite", Value::inline([("path", Value::text("x"))]))],
                ),
                block("", &[("path", Value::text("/")), ("pool", Value::text("lost"))]),
            ],
            pools: vec![
                block(
                    "app",
                    &[(
                        "endpoints",
                        Value::Lines(vec![(Value::text("10.0.0.1:80"), None), (Value::text(")"), None)]),
                    )],
                ),
                block("lost", &[("endpoints", Value::Lines(vec![(Value::text("\u{0}"), None)]))]),
            ],
            ..Document::default()
        };
        let mut report = Report::default();
        settle(&mut document, &mut report);
        let text = document.print(&report);
        assert!(config::load_text(&text, Path::new("x.toml"), &|_| None).is_ok(), "{text}");
        assert_eq!(
            (document.listeners.len(), document.routes.len(), document.pools.len()),
            (1, 2, 1),
            "{text}"
        );
        assert!(text.contains("respond = { status = 503 }"), "{text}");
    }
}
