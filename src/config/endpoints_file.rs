//! A file of endpoints that other programs write: an address a line, or a JSON list. What is in it is held against the
//! same tables as the configuration; when it is read, and what becomes of an old one, is control's.

use std::path::Path;

use serde_json::{Deserializer, Value as Json, json};

use super::diagnostic::{Diagnostics, Report};
use super::include;
use super::pool::Endpoint;
use super::source::{Sources, Span};
use super::tables::POOL;
use super::tree::{Entry, Node, Table, Tree};
use super::value::{Fields, Value};
use super::walk;
use crate::model::name::PoolName;

/// Endpoints of one file.
pub const ENDPOINTS_MAX: usize = 10_000;

/// Levels of a JSON value; an endpoint has two.
const DEPTH_MAX: usize = 8;

/// Reads the file at `path` of the pool `pool`. An empty file is no endpoint.
///
/// # Errors
/// Everything that is wrong with it, each with its line; also a file that cannot be read, or is larger than 16 MiB.
pub fn load(path: &Path, pool: &PoolName) -> Result<Vec<Endpoint>, Diagnostics> {
    let bytes =
        include::read(path).map_err(|error| broken(path, format!("the file cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| broken(path, "the file is not UTF-8 text"))?;
    parse(text, path, pool)
}

/// Reads `text` as if it stood in the file `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(text: String, path: &Path, pool: &PoolName) -> Result<Vec<Endpoint>, Diagnostics> {
    let mut sources = Sources::default();
    let mut report = Report::default();
    let file = sources.add(path, text);
    let text = sources.text(file);
    let nodes = if is_json(text) { json(file, text, &mut report) } else { Ok(lines(file, text)) };
    let endpoints = match nodes {
        Ok(nodes) if nodes.len() > ENDPOINTS_MAX => {
            let message =
                format!("a file has at most {ENDPOINTS_MAX} endpoints, and this one has {}", nodes.len());
            let span = nodes.get(ENDPOINTS_MAX).map_or_else(Span::default, |node| node.span);
            report.error(span, message, "write several pools, each with its own");
            Vec::new()
        }
        Ok(nodes) => read(nodes, pool, &mut report),
        Err(Reported) => Vec::new(),
    };
    if report.is_empty() { Ok(endpoints) } else { Err(report.finish(&sources)) }
}

/// These endpoints as a list that such a file could hold.
#[must_use]
pub fn listed(endpoints: &[Endpoint]) -> Json {
    let one = |endpoint: &Endpoint| {
        // A file lists addresses, none of which is resolved from a name.
        let Endpoint { name, address, weight, tier, max_requests, zone, health, host: _, capacity } =
            endpoint;
        let mut object = json!({
            "name": name.as_str(), "address": address.to_string(), "weight": weight.get(), "tier": tier, "zone": zone,
        });
        if let Some(max) = max_requests {
            object["max_requests"] = json!(max);
        }
        if let Some(capacity) = capacity {
            object["capacity"] = json!(capacity.to_string());
        }
        let mut probed = serde_json::Map::new();
        probed.extend(health.address.map(|address| ("address".to_owned(), json!(address))));
        probed.extend(health.port.map(|port| ("port".to_owned(), json!(port))));
        if !probed.is_empty() {
            object["health"] = Json::Object(probed);
        }
        object
    };
    Json::Array(endpoints.iter().map(one).collect())
}

/// What is wrong has been reported.
struct Reported;

fn broken(path: &Path, message: impl Into<String>) -> Diagnostics {
    let (mut sources, mut report) = (Sources::default(), Report::default());
    let file = sources.add(path, String::new());
    report.error(
        Span { file, start: 0, end: 0 },
        message,
        "check its path, its permissions and what writes it",
    );
    report.finish(&sources)
}

fn read(nodes: Vec<Node>, pool: &PoolName, report: &mut Report) -> Vec<Endpoint> {
    let Some(key) = POOL.key("endpoints") else { return Vec::new() };
    if nodes.is_empty() {
        return Vec::new();
    }
    let list = Node { span: Span::default(), tree: Tree::List(nodes) };
    let Value::List(items) = walk::read_node(&list, key, report) else { return Vec::new() };
    let fields: Vec<(Fields, Span)> = items
        .into_iter()
        .filter_map(|item| match item.value {
            Value::Table(fields) => Some((fields, item.span)),
            _ => None,
        })
        .collect();
    Endpoint::read_all(pool.as_str(), &fields, report)
}

/// Whether a text is a JSON list; an IPv6 address in brackets begins like one.
fn is_json(text: &str) -> bool {
    let rest = text.trim_start().strip_prefix('[').map(str::trim_start);
    rest.is_some_and(|rest| rest.starts_with(['"', '{', ']'])) || text.trim_start().starts_with(['{', '"'])
}

/// An address a line; `#` begins a comment.
fn lines(file: usize, text: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let written = line.split('#').next().unwrap_or("");
        let address = written.trim();
        if !address.is_empty() {
            let at = start + (written.len() - written.trim_start().len());
            let span = Span { file, start: at, end: at + address.len() };
            nodes.push(Node { tree: Tree::Text(address.to_owned()), span });
        }
        start += line.len();
    }
    nodes
}

/// The members of a JSON list, each with its place.
fn json(file: usize, text: &str, report: &mut Report) -> Result<Vec<Node>, Reported> {
    let mut at = text.len() - text.trim_start().len();
    let mut nodes = Vec::new();
    let mut fail = |at: usize, message: &str| {
        let help =
            "write a JSON list, such as [\"10.0.0.1:80\", {\"address\": \"10.0.0.2:80\", \"weight\": 2}]";
        report.error(Span { file, start: at, end: at + 1 }, message.to_owned(), help);
        Reported
    };
    let rest = |at: usize| text.get(at..).unwrap_or("");
    let skip = |at: usize| at + (rest(at).len() - rest(at).trim_start().len());
    if !rest(at).starts_with('[') {
        return Err(fail(at, "the file holds JSON, but no list"));
    }
    at = skip(at + 1);
    while !rest(at).starts_with(']') {
        let mut values = Deserializer::from_str(rest(at)).into_iter::<Json>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                let place = at + offset(rest(at), error.line(), error.column());
                return Err(fail(place.min(text.len()), &format!("the JSON ends here: {error}")));
            }
            None => return Err(fail(at, "the list has no end")),
        };
        let span = Span { file, start: at, end: at + values.byte_offset() };
        nodes.push(node(value, span, DEPTH_MAX));
        at = skip(span.end);
        match rest(at).chars().next() {
            Some(',') => {
                at = skip(at + 1);
                if rest(at).starts_with(']') {
                    return Err(fail(at, "a comma stands before the end of the list"));
                }
            }
            Some(']') => {}
            _ => return Err(fail(at, "a comma or the end of the list is missing")),
        }
    }
    let end = skip(at + 1);
    if rest(end).is_empty() { Ok(nodes) } else { Err(fail(end, "something stands behind the list")) }
}

/// The byte at a line and a column, both counted from 1 as serde_json does.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    before + column.saturating_sub(1)
}

/// A JSON value as a tree, all of it at one place.
fn node(value: Json, span: Span, depth: usize) -> Node {
    let tree = match value {
        _ if depth == 0 => Tree::Broken,
        Json::String(text) => Tree::Text(text),
        Json::Bool(value) => Tree::Bool(value),
        Json::Number(number) if number.is_f64() => Tree::Float(number.to_string()),
        Json::Number(number) => Tree::Integer(number.as_i64()),
        // TOML knows no null; a text that no key takes says where it stands.
        Json::Null => Tree::Text("null".to_owned()),
        Json::Array(members) => {
            Tree::List(members.into_iter().map(|member| node(member, span, depth - 1)).collect())
        }
        Json::Object(members) => Tree::Table(Table {
            entries: members
                .into_iter()
                .map(|(key, value)| Entry { key, key_span: span, node: node(value, span, depth - 1) })
                .collect(),
        }),
    };
    Node { tree, span }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::NameError;

    fn endpoints(text: &str) -> Result<Vec<String>, String> {
        let pool = PoolName::new("api").map_err(|e: NameError| e.to_string())?;
        let read = parse(text.to_owned(), Path::new("api.endpoints"), &pool);
        let shown = |e: &Endpoint| format!("{} {} {}", e.name, e.weight.get(), e.tier);
        read.map(|all| all.iter().map(shown).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn lines_and_json_say_the_same() {
        let want = Ok(vec!["10.0.0.1:80 1 0".to_owned(), "[::1]:80 1 0".to_owned()]);
        for text in [
            "10.0.0.1:80\n[::1]:80",
            "# all of them\n\n  10.0.0.1:80 # the first\r\n[::1]:80\r\n",
            r#"["10.0.0.1:80","[::1]:80"]"#,
            "\n[ {\"address\": \"10.0.0.1:80\", \"weight\": 1},\n \"[::1]:80\" ]\n",
        ] {
            assert_eq!(endpoints(text), want, "{text}");
        }
        let first = "[::1]:80\n";
        assert_eq!(endpoints(first), Ok(vec!["[::1]:80 1 0".to_owned()]), "brackets are no JSON");
        for empty in ["", "\n# nothing\n", "[]", " [ ]\n"] {
            assert_eq!(endpoints(empty), Ok(Vec::new()), "{empty:?}");
        }
    }

    #[test]
    fn tables_have_the_keys_of_an_endpoint() {
        let text = r#"[{"name":"c","address":"app.internal:80","tier":1,"weight":5,"health":{"port":9}}]"#;
        assert_eq!(endpoints(text), Ok(vec!["c 5 1".to_owned()]));
    }

    #[test]
    fn what_was_read_can_be_listed_and_read_again() {
        let pool = PoolName::new("api").expect("a name");
        let read = |text: String| parse(text, Path::new("api.endpoints"), &pool).expect("endpoints");
        let text = r#"["[::1]:80", "app.internal:80", {"address":"srv:_http._tcp.a","name":"s","weight":0,"zone":"b"},
            {"name":"c","address":"10.0.0.1:80","tier":1,"max_requests":7,"health":{"port":9,"address":"10.0.0.2"}}]"#;
        let once = read(text.to_owned());
        assert_eq!(once.len(), 4);
        assert_eq!(read(listed(&once).to_string()), once);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, place, what) in [
            ("10.0.0.1:80\n10.0.0.2\n", "api.endpoints:2:1", "needs a port"),
            ("10.0.0.1:80\n 10.0.0.1:80\n", "api.endpoints:2:2", "twice"),
            ("[\"10.0.0.1:80\",\n \"x y:1\"]", "api.endpoints:2:2", "neither"),
            ("[\"10.0.0.1:80\",\n {\"adress\": \"a:1\"}]", "api.endpoints:2:2", "adress"),
            ("[\"10.0.0.1:80\",\n {\"address\": null}]", "api.endpoints:2:2", "null"),
            ("[\"10.0.0.1:80\",\n", "api.endpoints:2:1", "no end"),
            ("[\"10.0.0.1:80\"\n \"10.0.0.2:80\"]", "api.endpoints:2:2", "comma"),
            ("[\"10.0.0.1:80\"] x", "api.endpoints:1:17", "behind"),
            ("{\"a\": 1}", "api.endpoints:1:1", "no list"),
            ("[[\"10.0.0.1:80\"]]", "api.endpoints:1:1", ""),
        ] {
            let error = endpoints(text).expect_err(text);
            assert!(error.contains(place) && error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_has_a_bound() {
        let line = |i: usize| format!("10.{}.{}.{}:80\n", i >> 16, i >> 8 & 255, i & 255);
        let text: String = (0..=ENDPOINTS_MAX).map(line).collect();
        assert!(endpoints(&text).expect_err("too many").contains("at most 10000"));
        let text: String = (0..ENDPOINTS_MAX).map(line).collect();
        assert_eq!(endpoints(&text).map(|all| all.len()), Ok(ENDPOINTS_MAX));
    }
}
