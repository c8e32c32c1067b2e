//! The part of all requests that one route can be made for, and what two such parts have in common.

use ipnet::IpNet;

use super::document::{Table, Value};
use super::pattern::{escape, matches};

/// What a path must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PathTest {
    /// Exactly this.
    Exact(String),
    /// This and what lies below it, element by element; without the slash at its end.
    Prefix(String),
    /// Whatever begins with this text, also in the middle of an element.
    Start(String),
    /// A regular expression.
    Regex(String),
}

impl PathTest {
    /// The regular expression that says the same.
    pub(super) fn regex(&self) -> String {
        match self {
            Self::Exact(path) => format!("^{}$", escape(path)),
            Self::Prefix(path) => format!("^{}(?:/|$)", escape(path)),
            Self::Start(text) => format!("^{}", escape(text)),
            Self::Regex(regex) => regex.clone(),
        }
    }
}

/// Whether `path` is `prefix` or lies below it.
pub(super) fn below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ValueTest {
    /// Exactly this.
    Exact(String),
    /// A regular expression.
    Regex(String),
}

/// Where a named value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Header,
    Query,
    Cookie,
}

/// A listener that a frontend comes to, as far as conditions ask for it.
#[derive(Debug, Clone)]
pub(super) struct Door {
    /// The name of the listener.
    pub(super) listener: String,
    /// It has TLS.
    pub(super) tls: bool,
    /// Its ports.
    pub(super) ports: Vec<u16>,
}

/// Requests that a route can be made for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Region {
    pub(super) hosts: Option<Vec<String>>,
    pub(super) path: Option<PathTest>,
    pub(super) methods: Option<Vec<String>>,
    pub(super) values: Vec<(Part, String, ValueTest)>,
    pub(super) source: Option<Vec<IpNet>>,
    /// Which of the frontend's listeners.
    pub(super) doors: Option<Vec<usize>>,
}

impl Region {
    /// How many conditions there are beside host and path, as Plimsoll counts them.
    #[must_use]
    pub(super) fn conditions(&self) -> usize {
        usize::from(self.methods.is_some()) + self.values.len() + usize::from(self.source.is_some())
    }

    /// Writes the conditions of a route. `all` names its listeners also where they are all of `doors`, because there are
    /// other ones.
    pub(super) fn write(&self, doors: &[Door], all: bool, table: &mut Table) {
        if all || self.doors.is_some() {
            let served = self.doors.clone().unwrap_or_else(|| (0..doors.len()).collect());
            let names = served.iter().filter_map(|door| doors.get(*door)).map(|door| door.listener.clone());
            table.set("listeners", Value::texts(names), None);
        }
        if let Some(hosts) = &self.hosts {
            table.set("host", Value::one_or_list(hosts), None);
        }
        match &self.path {
            Some(PathTest::Exact(path)) => table.set("path", Value::text(path), None),
            Some(PathTest::Prefix(path)) => table.set("path_prefix", Value::text(path), None),
            Some(test @ (PathTest::Start(_) | PathTest::Regex(_))) => {
                table.set("path_regex", Value::text(test.regex()), None);
            }
            None => {}
        }
        if let Some(methods) = &self.methods {
            table.set("methods", Value::texts(methods.clone()), None);
        }
        for (part, key) in [(Part::Header, "headers"), (Part::Query, "query"), (Part::Cookie, "cookies")] {
            let of = self.values.iter().filter(|(own, ..)| *own == part);
            let pairs: Vec<(String, Value)> =
                of.map(|(_, name, value)| (name.clone(), value.pattern())).collect();
            if !pairs.is_empty() {
                table.set(key, Value::Inline(pairs), None);
            }
        }
        if let Some(source) = &self.source {
            table.set("source", Value::texts(source.iter().map(ToString::to_string)), None);
        }
    }
}

impl ValueTest {
    fn pattern(&self) -> Value {
        match self {
            Self::Exact(text) => Value::text(text),
            Self::Regex(regex) => Value::inline([("regex", Value::text(regex))]),
        }
    }
}

/// What is in both lists; all of the second where there is no first. Nothing when that is empty.
pub(super) fn meet<T: Clone + PartialEq>(
    own: Option<&[T]>,
    other: &[T],
    both: impl Fn(&T, &T) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(own) = own else { return Some(other.to_vec()) };
    let mut out: Vec<T> = Vec::new();
    for found in own.iter().flat_map(|a| other.iter().filter_map(|b| both(a, b))) {
        if !out.contains(&found) {
            out.push(found);
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The host that both patterns take.
pub(super) fn narrower_host(a: &str, b: &str) -> Option<String> {
    let takes = |wide: &str, narrow: &str| {
        wide == narrow
            || wide.strip_prefix('*').is_some_and(|end| narrow.trim_start_matches('*').ends_with(end))
    };
    if takes(a, b) {
        Some(b.to_owned())
    } else if takes(b, a) {
        Some(a.to_owned())
    } else {
        None
    }
}

pub(super) fn narrower_network(a: &IpNet, b: &IpNet) -> Option<IpNet> {
    if a.contains(b) {
        Some(*b)
    } else if b.contains(a) {
        Some(*a)
    } else {
        None
    }
}

/// The path that both take; nothing when none does.
pub(super) fn narrow_path(
    own: Option<&PathTest>,
    other: &PathTest,
) -> Result<Option<PathTest>, &'static str> {
    use PathTest::{Exact, Prefix, Regex, Start};
    let Some(own) = own else { return Ok(Some(other.clone())) };
    Ok(match (own, other) {
        (a, b) if a == b => Some(a.clone()),
        (Exact(_), Exact(_)) => None,
        (Exact(path), Prefix(prefix)) | (Prefix(prefix), Exact(path)) => {
            below(prefix, path).then(|| Exact(path.clone()))
        }
        (Exact(path), Regex(regex)) | (Regex(regex), Exact(path)) => {
            matches(regex, path).then(|| Exact(path.clone()))
        }
        (Prefix(a), Prefix(b)) if below(a, b) => Some(Prefix(b.clone())),
        (Prefix(a), Prefix(b)) => below(b, a).then(|| Prefix(a.clone())),
        (Start(text), Exact(path)) | (Exact(path), Start(text)) => {
            path.starts_with(text).then(|| Exact(path.clone()))
        }
        (Start(a), Start(b)) if b.starts_with(a) => Some(Start(b.clone())),
        (Start(a), Start(b)) => a.starts_with(b).then(|| Start(a.clone())),
        (Start(text), Prefix(prefix)) | (Prefix(prefix), Start(text)) if prefix.starts_with(text) => {
            Some(Prefix(prefix.clone()))
        }
        (Start(text), Prefix(prefix)) | (Prefix(prefix), Start(text)) => {
            below(prefix, text).then(|| Start(text.clone()))
        }
        (Start(text), Regex(regex)) | (Regex(regex), Start(text))
            if any_case_start(text, regex).is_some() =>
        {
            any_case_start(text, regex).map(Regex)
        }
        (Start(text), Regex(regex)) | (Regex(regex), Start(text))
            if literal_start(regex).is_some_and(|start| start.starts_with(text)) =>
        {
            Some(Regex(regex.clone()))
        }
        (Start(text), Regex(regex)) | (Regex(regex), Start(text))
            if literal_start(regex).is_some_and(|start| !text.starts_with(&start)) =>
        {
            None
        }
        // A regular expression that is a start, and a prefix below it.
        (Prefix(prefix), Regex(regex)) | (Regex(regex), Prefix(prefix))
            if is_start(regex) && matches(regex, prefix) =>
        {
            Some(Prefix(prefix.clone()))
        }
        _ => return Err("a route has one condition on the path, and these two cannot be made one"),
    })
}

/// `^/text`, without anything behind that looks further.
pub(super) fn is_start(regex: &str) -> bool {
    regex.starts_with('^') && !regex.contains(['$', '*', '+', '?', '[', '{', '|', '('])
}

/// The text that every path begins with that a regular expression matches; nothing where that is not plain to see.
pub(super) fn literal_start(regex: &str) -> Option<String> {
    let rest = regex.strip_prefix('^')?;
    if rest.contains('|') {
        return None;
    }
    let mut out = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        let literal = match c {
            '\\' => match chars.next() {
                Some(c) if c.is_ascii_punctuation() => c,
                _ => break,
            },
            c if ".+*?()[]{}^$".contains(c) => break,
            c => c,
        };
        // What may be left out, or comes several times, is not for certain.
        if chars.peek().is_some_and(|next| "*?{".contains(*next)) {
            break;
        }
        out.push(literal);
    }
    Some(out)
}

/// `^text` and `(?i)^TEXT..` as one: the start in its own case, what is behind it in any.
fn any_case_start(text: &str, regex: &str) -> Option<String> {
    let mut rest = regex.strip_prefix("(?i)^")?;
    let literal = literal_start(&format!("^{rest}"))?;
    if !literal.is_char_boundary(text.len()) || !literal.get(..text.len())?.eq_ignore_ascii_case(text) {
        return None;
    }
    for c in text.chars() {
        rest = rest.strip_prefix('\\').unwrap_or(rest);
        rest = rest.get(c.len_utf8()..)?;
    }
    Some(format!("^{}(?i:{rest})", escape(text)))
}

impl Region {
    /// The requests of this region with that value; nothing where there is none.
    pub(super) fn narrow_value(
        mut self,
        part: Part,
        name: &str,
        value: &ValueTest,
    ) -> Result<Option<Self>, &'static str> {
        let own = self.values.iter_mut().find(|(p, n, _)| (*p, n.as_str()) == (part, name));
        match own {
            None => self.values.push((part, name.to_owned(), value.clone())),
            Some((.., own)) if own == value => {}
            Some((.., own)) => match (&*own, value) {
                (ValueTest::Exact(text), ValueTest::Regex(regex)) if matches(regex, text) => {}
                (ValueTest::Regex(regex), ValueTest::Exact(text)) if matches(regex, text) => {
                    *own = value.clone();
                }
                (ValueTest::Exact(_), ValueTest::Exact(_)) => return Ok(None),
                _ => return Err("a route has one pattern for each field, cookie and parameter"),
            },
        }
        Ok(Some(self))
    }
}

/// Whether one request may fit both, as far as that is plain to see.
pub(super) fn overlap(a: &Region, b: &Region) -> bool {
    fn common<T>(a: Option<&Vec<T>>, b: Option<&Vec<T>>, meet: impl Fn(&T, &T) -> bool) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => a.iter().any(|a| b.iter().any(|b| meet(a, b))),
            _ => true,
        }
    }
    common(a.hosts.as_ref(), b.hosts.as_ref(), |a, b| narrower_host(a, b).is_some())
        && common(a.methods.as_ref(), b.methods.as_ref(), |a, b| a == b)
        && common(a.doors.as_ref(), b.doors.as_ref(), |a, b| a == b)
        && common(a.source.as_ref(), b.source.as_ref(), |a, b| a.contains(b) || b.contains(a))
        && paths_overlap(a.path.as_ref(), b.path.as_ref())
}

fn paths_overlap(a: Option<&PathTest>, b: Option<&PathTest>) -> bool {
    use PathTest::{Exact, Prefix, Start};
    let below = |prefix: &str, path: &str| {
        path.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    };
    match (a, b) {
        (Some(Exact(a)), Some(Exact(b))) => a == b,
        (Some(Exact(path)), Some(Prefix(prefix))) | (Some(Prefix(prefix)), Some(Exact(path))) => {
            below(prefix, path)
        }
        (Some(Prefix(a)), Some(Prefix(b))) => below(a, b) || below(b, a),
        (Some(Start(text)), Some(Exact(path))) | (Some(Exact(path)), Some(Start(text))) => {
            path.starts_with(text)
        }
        (Some(Start(a)), Some(Start(b))) => a.starts_with(b) || b.starts_with(a),
        (Some(Start(text)), Some(Prefix(prefix))) | (Some(Prefix(prefix)), Some(Start(text))) => {
            prefix.starts_with(text) || below(prefix, text)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_narrow_or_cannot_be_said() {
        let exact = |path: &str| PathTest::Exact(path.to_owned());
        let prefix = |path: &str| PathTest::Prefix(path.to_owned());
        let regex = |path: &str| PathTest::Regex(path.to_owned());
        let check = |a: PathTest, b: PathTest, want: Result<Option<PathTest>, ()>| {
            assert_eq!(narrow_path(Some(&a), &b).map_err(|_| ()), want, "{a:?} {b:?}");
            assert_eq!(narrow_path(Some(&b), &a).map_err(|_| ()), want, "{b:?} {a:?}");
        };
        check(exact("/a/b"), prefix("/a"), Ok(Some(exact("/a/b"))));
        check(exact("/ab"), prefix("/a"), Ok(None));
        check(prefix("/a"), prefix("/a/b"), Ok(Some(prefix("/a/b"))));
        check(prefix("/a"), prefix("/b"), Ok(None));
        check(exact("/a.jpg"), regex("jpg$"), Ok(Some(exact("/a.jpg"))));
        check(regex("^/a"), prefix("/a/b"), Ok(Some(prefix("/a/b"))));
        check(regex("a"), regex("b"), Err(()));
        let start = |text: &str| PathTest::Start(text.to_owned());
        check(start("/a"), start("/ab"), Ok(Some(start("/ab"))));
        check(start("/a"), exact("/ab"), Ok(Some(exact("/ab"))));
        check(start("/a"), prefix("/ab"), Ok(Some(prefix("/ab"))));
        check(start("/a/b"), prefix("/a"), Ok(Some(start("/a/b"))));
        check(start("/ab"), prefix("/a"), Ok(None));
        check(start("/a"), regex("^/a/[0-9]+$"), Ok(Some(regex("^/a/[0-9]+$"))));
        check(start("/a"), regex("^/b/[0-9]+$"), Ok(None));
        check(start("/ab"), regex("^/a[0-9]+$"), Err(()));
        check(start("/ab"), regex("^/ab?c"), Err(()));
        check(start("/v.2/"), regex("(?i)^/V\\.2/a.*"), Ok(Some(regex("^/v\\.2/(?i:a.*)"))));
    }
}
