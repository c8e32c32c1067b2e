//! What a rule matches, as conditions of a route, and in which order matches are asked.

use std::cmp::Reverse;

use super::super::super::pattern::{escape, fault};
use super::super::super::region::{Part, PathTest, Region, ValueTest};
use super::super::super::report::{Place, Report};
use super::super::super::tree::Node;

/// A match of a rule.
#[derive(Debug, Clone)]
pub(super) struct Match {
    pub(super) region: Region,
    /// The path of a prefix, `""` for `/`; nothing where it is none.
    pub(super) prefix: Option<String>,
    /// Of two that both match, the smaller is asked first.
    pub(super) rank: Rank,
    pub(super) at: Place,
}

/// Exact paths, regular expressions and prefixes by length; methods; numbers of fields and of parameters.
pub(super) type Rank = (u8, Reverse<usize>, bool, Reverse<usize>, Reverse<usize>);

/// The matches of a rule; nothing of those that cannot be.
pub(super) fn of_rule(rule: &Node, grpc: bool, report: &mut Report) -> Vec<Match> {
    let matches = rule.get("matches").map_or(&[][..], Node::items);
    if matches.is_empty() {
        let at = rule
            .entry("name")
            .or_else(|| rule.entry("backendRefs"))
            .or_else(|| rule.entry("filters"))
            .map_or(rule.at, |(key, _)| key.at);
        let rank = (2, Reverse(usize::from(!grpc)), true, Reverse(0), Reverse(0));
        return vec![Match { region: Region::default(), prefix: Some(String::new()), rank, at }];
    }
    let mut reader = Reader { report, grpc };
    matches.iter().filter_map(|node| reader.one(node)).collect()
}

struct Reader<'r> {
    report: &'r mut Report,
    grpc: bool,
}

impl Reader<'_> {
    fn one(&mut self, node: &Node) -> Option<Match> {
        let at = first_line(node);
        let (path, prefix, mut rank, method) = if self.grpc { self.call(node)? } else { self.path(node)? };
        let mut values = Vec::new();
        for (key, part) in [("headers", Part::Header), ("queryParams", Part::Query)] {
            let count = self.values(node.get(key), part, &mut values)?;
            if part == Part::Header {
                rank.3 = Reverse(count);
            } else {
                rank.4 = Reverse(count);
            }
        }
        rank.2 = method.is_none();
        let region = Region { path, methods: method.map(|method| vec![method]), values, ..Region::default() };
        Some(Match { region, prefix, rank, at })
    }

    fn refuse<T>(&mut self, at: Place, why: &str) -> Option<T> {
        self.report.wrong(at, format!("{why}: Kubernetes refuses it. The match is left out"));
        None
    }

    #[expect(clippy::type_complexity, reason = "the parts of a match")]
    fn path(&mut self, node: &Node) -> Option<(Option<PathTest>, Option<String>, Rank, Option<String>)> {
        let path = node.get("path");
        let value = path.and_then(|path| path.get("value"));
        let at = value.map_or(node.at, |value| value.at);
        let text = value.and_then(Node::text).unwrap_or("/");
        let kind = path.and_then(|path| path.get("type")).and_then(Node::text).unwrap_or("PathPrefix");
        let method = match node.get("method") {
            Some(method) => {
                let text = method.text().unwrap_or("");
                let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
                if !known.contains(&text) {
                    return self.refuse(method.at, "a method is in capitals, and one of nine");
                }
                if text == "CONNECT" {
                    self.report.not_possible(method.at, "CONNECT is not passed on");
                    return None;
                }
                Some(text.to_owned())
            }
            None => None,
        };
        let rank = |class: u8, length: usize| (class, Reverse(length), true, Reverse(0), Reverse(0));
        if kind == "RegularExpression" {
            if let Some(why) = fault(text) {
                return self.refuse(at, &format!("the regular expression cannot be read ({why})"));
            }
            let start = if text.starts_with('^') { "" } else { "^" };
            let end = if text.ends_with('$') { "" } else { "$" };
            self.report.approximated(at, "how a regular expression is read and when it is asked is each implementation's own: here it is of the whole path, and asked before prefixes");
            let regex = if start.is_empty() && end.is_empty() {
                text.to_owned()
            } else {
                format!("{start}(?:{text}){end}")
            };
            return Some((Some(PathTest::Regex(regex)), None, rank(1, text.len()), method));
        }
        let odd = ["//", "/./", "/../", "%2f", "%2F", "#", "?"].iter().any(|part| text.contains(part));
        if !text.starts_with('/')
            || odd
            || text.ends_with("/.")
            || text.ends_with("/..")
            || text.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return self.refuse(at, "a path begins with a slash, and has no empty elements, no dots as elements and no escaped slashes");
        }
        match kind {
            "Exact" => Some((Some(PathTest::Exact(text.to_owned())), None, rank(0, text.len()), method)),
            "PathPrefix" => {
                let trimmed = text.trim_end_matches('/');
                let test = (!trimmed.is_empty()).then(|| PathTest::Prefix(trimmed.to_owned()));
                Some((test, Some(trimmed.to_owned()), rank(2, trimmed.len().max(1)), method))
            }
            _ => self.refuse(at, "a path is Exact, PathPrefix or RegularExpression"),
        }
    }

    /// What a call of gRPC asks for: `/SERVICE/METHOD`.
    #[expect(clippy::type_complexity, reason = "the parts of a match")]
    fn call(&mut self, node: &Node) -> Option<(Option<PathTest>, Option<String>, Rank, Option<String>)> {
        let rank = |class: u8, length: usize| (class, Reverse(length), true, Reverse(0), Reverse(0));
        let Some(call) = node.get("method") else {
            return Some((None, Some(String::new()), rank(2, 0), None));
        };
        let of = |name: &str| call.get(name).and_then(Node::text).filter(|text| !text.is_empty());
        let (service, method) = (of("service"), of("method"));
        let at = first_line(call);
        let regex = match call.get("type").and_then(Node::text).unwrap_or("Exact") {
            "Exact" => false,
            "RegularExpression" => true,
            _ => return self.refuse(at, "a method is Exact or RegularExpression"),
        };
        if service.is_none() && method.is_none() {
            return self.refuse(at, "a method names a service, a method or both");
        }
        let length = service.map_or(0, str::len) * 1000 + method.map_or(0, str::len);
        if !regex {
            let plain = |text: Option<&str>| {
                text.is_none_or(|text| {
                    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
                })
            };
            if !plain(service) || !plain(method) {
                return self
                    .refuse(at, "names of services and methods are letters, digits, dots and underscores");
            }
            return Some(match (service, method) {
                (Some(service), Some(method)) => {
                    (Some(PathTest::Exact(format!("/{service}/{method}"))), None, rank(0, length), None)
                }
                (Some(service), None) => {
                    (Some(PathTest::Prefix(format!("/{service}"))), None, rank(1, length), None)
                }
                (None, method) => {
                    let regex = format!("^/[^/]+/{}$", escape(method.unwrap_or("")));
                    (Some(PathTest::Regex(regex)), None, rank(1, length), None)
                }
            });
        }
        let part = |text: Option<&str>| text.map_or_else(|| "[^/]+".to_owned(), |text| format!("(?:{text})"));
        let whole = format!("^/{}/{}$", part(service), part(method));
        if let Some(why) = fault(&whole) {
            return self.refuse(at, &format!("the regular expression cannot be read ({why})"));
        }
        self.report.approximated(
            at,
            "when a regular expression is asked is each implementation's own: here it goes by its length",
        );
        Some((Some(PathTest::Regex(whole)), None, rank(1, length), None))
    }

    /// Fields or parameters; how many there are.
    fn values(
        &mut self,
        list: Option<&Node>,
        part: Part,
        out: &mut Vec<(Part, String, ValueTest)>,
    ) -> Option<usize> {
        let mut count = 0;
        for node in list.map_or(&[][..], Node::items) {
            let at = first_line(node);
            let own = node.get("name").and_then(Node::text).unwrap_or("");
            let name = if part == Part::Header { own.to_ascii_lowercase() } else { own.to_owned() };
            let text = node.get("value").and_then(Node::text).unwrap_or("");
            let valid = !name.is_empty()
                && (part != Part::Header || crate::model::field::FieldName::new(&name).is_ok());
            if !valid || text.is_empty() {
                return self.refuse(at, "it has a name and a value");
            }
            if out.iter().any(|(known, other, _)| *known == part && *other == name) {
                self.report.wrong(at, "the name is there already, and the first one counts");
                continue;
            }
            let test = match node.get("type").and_then(Node::text).unwrap_or("Exact") {
                "Exact" => ValueTest::Exact(text.to_owned()),
                "RegularExpression" => {
                    if let Some(why) = fault(text) {
                        return self.refuse(at, &format!("the regular expression cannot be read ({why})"));
                    }
                    if !text.starts_with('^') && !text.starts_with('(')
                        || !text.ends_with('$') && !text.ends_with(')')
                    {
                        self.report.approximated(at, "whether a regular expression is of the whole value is each implementation's own: here it is of a part of it, unless it says otherwise");
                    }
                    ValueTest::Regex(text.to_owned())
                }
                _ => return self.refuse(at, "it is Exact or RegularExpression"),
            };
            out.push((part, name, test));
            count += 1;
        }
        Some(count)
    }
}

/// Where the first name of a table stands.
pub(super) fn first_line(node: &Node) -> Place {
    node.pairs().first().map_or(node.at, |(key, _)| key.at)
}
