//! The part of all requests that one route can be made for, and what two such parts have in common.

use std::collections::HashSet;
use std::hash::Hash;

use ipnet::IpNet;

use super::document::{Table, Value};
use super::pattern::{escape, matches, starts};

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

/// The hosts that both lists take, found without comparing each with each; nothing when there are none.
pub(super) fn meet_hosts(own: Option<&[String]>, other: &[String]) -> Option<Vec<String>> {
    let Some(own) = own else { return Some(other.to_vec()) };
    let starred = |host: &str| {
        let name = host.trim_start_matches('*');
        name.match_indices('.')
            .filter_map(|(at, _)| Some(format!("*{}", name.get(at..)?)))
            .collect::<Vec<_>>()
    };
    both(own, other, |host| std::iter::once(host.clone()).chain(starred(host)).collect())
}

/// The networks that both lists take, likewise.
pub(super) fn meet_networks(own: Option<&[IpNet]>, other: &[IpNet]) -> Option<Vec<IpNet>> {
    let Some(own) = own else { return Some(other.to_vec()) };
    let wider = |net: &IpNet| {
        let lengths = 0..=net.prefix_len();
        lengths.filter_map(|length| Some(IpNet::new(net.addr(), length).ok()?.trunc())).collect::<Vec<_>>()
    };
    both(own, other, wider)
}

/// What of each list the other one takes: `wider` has all patterns that take one of them.
fn both<T: Clone + Eq + Hash>(own: &[T], other: &[T], wider: impl Fn(&T) -> Vec<T>) -> Option<Vec<T>> {
    let (in_own, in_other): (HashSet<&T>, HashSet<&T>) = (own.iter().collect(), other.iter().collect());
    let mut seen = HashSet::new();
    let within = |one: &&T, list: &HashSet<&T>| wider(one).iter().any(|wide| list.contains(wide));
    let of_own = own.iter().filter(|one| within(one, &in_other));
    let of_other = other.iter().filter(|one| within(one, &in_own));
    let found: Vec<T> = of_own.chain(of_other).filter(|one| seen.insert(*one)).cloned().collect();
    (!found.is_empty()).then_some(found)
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
        (Prefix(prefix), Regex(regex)) | (Regex(regex), Prefix(prefix)) => match starts(regex) {
            Some(list) => return narrow_prefix(prefix, regex, &list),
            None => return Err(ONE_PATH),
        },
        (Regex(a), Regex(b)) => match (starts(a), starts(b)) {
            (Some(a), Some(b)) => return narrow_starts((own, &a), (other, &b)),
            _ => return Err(ONE_PATH),
        },
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
        (Start(_), Regex(_)) | (Regex(_), Start(_)) => return Err(ONE_PATH),
    })
}

const ONE_PATH: &str = "a route has one condition on the path, and these two cannot be made one";

/// A prefix, and a regular expression that asks for one of several starts.
fn narrow_prefix(prefix: &str, regex: &str, list: &[String]) -> Result<Option<PathTest>, &'static str> {
    if list.iter().any(|start| prefix.starts_with(start.as_str())) {
        Ok(Some(PathTest::Prefix(prefix.to_owned())))
    } else if list.iter().all(|start| start != prefix && below(prefix, start)) {
        Ok(Some(PathTest::Regex(regex.to_owned())))
    } else if list.iter().all(|start| !start.starts_with(prefix)) {
        Ok(None)
    } else {
        Err(ONE_PATH)
    }
}

/// Of two conditions that each ask for one of several starts, the one that takes less.
fn narrow_starts(
    (a, of_a): (&PathTest, &[String]),
    (b, of_b): (&PathTest, &[String]),
) -> Result<Option<PathTest>, &'static str> {
    let within = |inner: &[String], outer: &[String]| {
        inner.iter().all(|inner| outer.iter().any(|outer| inner.starts_with(outer.as_str())))
    };
    let apart = |a: &String| of_b.iter().all(|b| !a.starts_with(b.as_str()) && !b.starts_with(a.as_str()));
    if within(of_a, of_b) {
        Ok(Some(a.clone()))
    } else if within(of_b, of_a) {
        Ok(Some(b.clone()))
    } else if of_a.iter().all(apart) {
        Ok(None)
    } else {
        Err(ONE_PATH)
    }
}

/// `^/text`, without anything behind that looks further.
pub(super) fn is_start(regex: &str) -> bool {
    regex.starts_with('^') && !regex.contains(['$', '*', '+', '?', '[', '{', '|', '('])
}

/// Whether every request of `inner` is one of `outer` too, as far as that is plain to see.
pub(super) fn within(inner: &Region, outer: &Region) -> bool {
    fn each<T>(inner: Option<&Vec<T>>, outer: Option<&Vec<T>>, takes: impl Fn(&T, &T) -> bool) -> bool {
        match (inner, outer) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(inner), Some(outer)) => {
                inner.iter().all(|inner| outer.iter().any(|outer| takes(outer, inner)))
            }
        }
    }
    let path = match (&inner.path, &outer.path) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) => {
            narrow_path(Some(inner), outer).is_ok_and(|both| both.as_ref() == Some(inner))
        }
    };
    path && each(inner.hosts.as_ref(), outer.hosts.as_ref(), |outer, inner| {
        narrower_host(outer, inner).as_ref() == Some(inner)
    }) && each(inner.methods.as_ref(), outer.methods.as_ref(), |outer, inner| outer == inner)
        && each(inner.doors.as_ref(), outer.doors.as_ref(), |outer, inner| outer == inner)
        && each(inner.source.as_ref(), outer.source.as_ref(), |outer, inner| outer.contains(inner))
        && outer.values.iter().all(|value| inner.values.contains(value))
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
    fn lists_meet_in_what_both_take() {
        let hosts = |list: &[&str]| list.iter().map(|&host| host.to_owned()).collect::<Vec<_>>();
        let own = hosts(&["a.test", "*.b.test", "x.c.test", "d.test"]);
        let other = hosts(&["d.test", "*.c.test", "y.b.test", "*.z.b.test", "test"]);
        let want = hosts(&["x.c.test", "d.test", "y.b.test", "*.z.b.test"]);
        assert_eq!(meet_hosts(Some(&own), &other), Some(want));
        assert_eq!(meet_hosts(Some(&own), &hosts(&["b.test"])), None);
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        let own = nets(&["10.0.0.0/8", "192.168.1.0/24", "::/0"]);
        let other = nets(&["10.1.0.0/16", "192.168.0.0/16", "2001:db8::/32"]);
        let want = nets(&["192.168.1.0/24", "10.1.0.0/16", "2001:db8::/32"]);
        assert_eq!(meet_networks(Some(&own), &other), Some(want));
    }

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
        check(regex("^/a/b"), prefix("/a"), Ok(Some(regex("^/a/b"))));
        check(regex("^/b"), prefix("/a"), Ok(None));
        check(regex("^/ab"), prefix("/a"), Err(()));
        check(regex("^/a(.*)$"), regex("^(?:/ab|/ac)"), Ok(Some(regex("^(?:/ab|/ac)"))));
        check(regex("^/a"), regex("^/b"), Ok(None));
        check(regex("^(?:/a|/b)"), regex("^(?:/ab|/c)"), Err(()));
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
