//! Locations: which one nginx takes for a path, and the same as an order in which routes are asked.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::rc::Rc;

use regex::bytes::{Regex, RegexBuilder};

use super::super::pattern::{escape, fault};
use super::super::region::PathTest;
use super::super::report::Place;
use super::ask::inside;
use super::catalogue::LOCATION;
use super::notes::Notes;
use super::scope::{Level, Scope};
use super::switch::names_of;
use super::tree::Directive;

/// What a location is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `=`.
    Exact,
    /// A start of the path.
    Prefix,
    /// `^~`: a start behind which no expression is asked.
    Strong,
    /// `~` and `~*`.
    Regex,
    /// `@name`.
    Named,
}

/// A location.
#[derive(Debug)]
pub(super) struct Location<'t> {
    pub(super) of: &'t Directive,
    pub(super) kind: Kind,
    /// The path, or the expression.
    pub(super) path: String,
    pub(super) scope: Scope<'t>,
    pub(super) level: Rc<Level<'t>>,
    /// Names of groups.
    pub(super) groups: Vec<String>,
    /// Whom it takes cannot be said, and it keeps clients out.
    pub(super) shut: bool,
    regex: Option<Regex>,
    children: Vec<usize>,
}

/// The locations of a server.
#[derive(Debug, Default)]
pub(super) struct Locations<'t> {
    pub(super) all: Vec<Location<'t>>,
    roots: Vec<usize>,
}

/// Where a request goes that has this path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// Nothing is any path.
    pub(super) path: Option<PathTest>,
    pub(super) to: Goal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// A location.
    At(usize),
    /// To the same path with a slash at its end, as this location and maybe others ask for.
    Slash(usize),
    /// No location takes it.
    Nowhere,
    /// Nobody is let in, as this line says who may and cannot be said.
    Shut(Place),
}

/// As much memory as the configuration allows a compiled expression.
const REGEX_MAX: usize = 1 << 20;
/// One expression is of no more paths than this.
const SLASHES_MAX: usize = 200;
/// Directives that answer by asking others, which is when nginx adds a slash.
const ASKING: [&str; 6] =
    ["proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "memcached_pass"];

impl<'t> Locations<'t> {
    pub(super) fn read(level: &Rc<Level<'t>>, scope: &Scope<'t>, notes: &mut Notes<'_>) -> Self {
        let mut out = Self::default();
        out.roots = out.level(level, scope, notes);
        out
    }

    fn level(&mut self, level: &Rc<Level<'t>>, scope: &Scope<'t>, notes: &mut Notes<'_>) -> Vec<usize> {
        let mut seen: HashSet<(bool, String)> = HashSet::new();
        let mut out = Vec::new();
        for of in level.all("location") {
            let Some((kind, path, shut)) = head(of, notes) else { continue };
            if kind == Kind::Named && level.kind == LOCATION {
                notes.wrong(of, "a named location stands in a server alone: nginx rejects it");
            }
            let same = (
                matches!(kind, Kind::Exact),
                format!("{}{path}", if kind == Kind::Regex { "~" } else { "" }),
            );
            if kind != Kind::Regex && !seen.insert(same) {
                notes.wrong(of, "there is another location like it: nginx rejects the file");
                of.inside().iter().for_each(|inner| {
                    notes.all(inner, super::super::report::Verdict::Ignored, "its location is there twice")
                });
                continue;
            }
            let inner = Rc::new(Level::new(LOCATION, of.inside()));
            let scope = scope.with(Rc::clone(&inner));
            let regex = (kind == Kind::Regex)
                .then(|| RegexBuilder::new(&path).size_limit(REGEX_MAX).build().ok())
                .flatten();
            let groups = if kind == Kind::Regex { names_of(&path) } else { Vec::new() };
            let children = self.level(&inner, &scope, notes);
            self.all.push(Location { of, kind, path, scope, level: inner, groups, shut, regex, children });
            out.push(self.all.len() - 1);
        }
        out
    }

    fn get(&self, at: usize) -> Option<&Location<'t>> {
        self.all.get(at)
    }

    /// The location that nginx takes for a path.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        self.search(&self.roots, path).0
    }

    /// A named location.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|location| location.kind == Kind::Named && location.path == name)
    }

    /// The location, and whether no expression further out is asked.
    fn search(&self, list: &[usize], path: &str) -> (Option<usize>, bool) {
        let of = |kind: &[Kind]| {
            let kind = kind.to_vec();
            list.iter().copied().filter(move |at| self.get(*at).is_some_and(|one| kind.contains(&one.kind)))
        };
        if let Some(exact) = of(&[Kind::Exact]).find(|at| self.get(*at).is_some_and(|one| one.path == path)) {
            return (Some(exact), true);
        }
        let prefixes = of(&[Kind::Prefix, Kind::Strong])
            .filter(|at| self.get(*at).is_some_and(|one| path.starts_with(&one.path)));
        let longest = prefixes.max_by_key(|at| self.get(*at).map_or(0, |one| one.path.len()));
        let mut best = longest;
        let mut strong = false;
        if let Some(one) = longest.and_then(|at| self.get(at)) {
            strong = one.kind == Kind::Strong;
            let (inner, last) = self.search(&one.children, path);
            if last {
                return (inner, true);
            }
            best = inner.or(longest);
        }
        if !strong {
            let takes = |at: &usize| {
                let regex = self.get(*at).and_then(|one| one.regex.as_ref());
                regex.is_some_and(|regex| regex.is_match(path.as_bytes()))
            };
            if let Some(at) = of(&[Kind::Regex]).find(takes) {
                let inner = self.get(at).and_then(|one| self.search(&one.children, path).0);
                return (Some(inner.unwrap_or(at)), true);
            }
        }
        (best, false)
    }

    /// Tells locations that are not what they look like.
    fn traps(&self, notes: &mut Notes<'_>) {
        let regexes: Vec<&Location<'_>> =
            self.roots.iter().filter_map(|at| self.get(*at)).filter(|one| one.kind == Kind::Regex).collect();
        for one in self.roots.iter().filter_map(|at| self.get(*at)) {
            if one.kind == Kind::Regex && loose_dot(&one.path) {
                notes.wrong(
                    one.of,
                    "a dot between letters or digits is any character in a regular expression: \\. is a dot",
                );
            }
            if one.kind != Kind::Prefix || !keeps_out(&one.level) {
                continue;
            }
            let open = |other: &&&Location<'_>| {
                !keeps_out(&other.level) && inside(&other.path, &one.path) != Some(None)
            };
            if let Some(other) = regexes.iter().find(open) {
                notes.wrong(one.of, format!("regular expressions are asked first: what is below {} and matches {} goes there, and is not kept out; ^~ would keep it here", one.path, other.path));
            }
        }
    }

    /// All of it in the order in which it is asked.
    pub(super) fn entries(&self, notes: &mut Notes<'_>) -> Vec<Entry> {
        self.traps(notes);
        let (mut first, last) = self.order(&self.roots, notes);
        let bare = self.bare(notes);
        first.splice(0..0, bare);
        first.extend(last);
        first
    }

    /// Those that are asked before expressions further out, and those that are asked behind them.
    fn order(&self, list: &[usize], notes: &mut Notes<'_>) -> (Vec<Entry>, Vec<Entry>) {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let of = |kinds: &[Kind]| -> Vec<(usize, &Location<'t>)> {
            list.iter()
                .filter_map(|at| Some((*at, self.get(*at)?)))
                .filter(|(_, one)| kinds.contains(&one.kind))
                .collect()
        };
        for (at, one) in of(&[Kind::Exact]) {
            first.push(Entry { path: Some(PathTest::Exact(written(&one.path))), to: Goal::At(at) });
        }
        let mut prefixes = of(&[Kind::Prefix, Kind::Strong]);
        prefixes.sort_by_key(|(_, one)| Reverse(one.path.len()));
        let regexes = of(&[Kind::Regex]);
        let strong: Vec<&str> = prefixes
            .iter()
            .filter(|(_, one)| one.kind == Kind::Strong)
            .map(|(_, one)| one.path.as_str())
            .collect();
        for (at, one) in prefixes.iter().copied() {
            let (before, behind) = self.order(&one.children, notes);
            let own = Entry { path: prefix_test(&one.path), to: Goal::At(at) };
            let below = self.restrict(before, &one.path, notes);
            first.extend(below);
            let under =
                strong.iter().any(|start| one.path.starts_with(start) && one.path.len() > start.len());
            if one.kind == Kind::Strong || under {
                if one.kind != Kind::Strong && !regexes.is_empty() {
                    notes.near(one.of, "the location above it has ^~: here regular expressions are not asked below this one either");
                }
                first.extend(behind);
                first.push(own);
            } else {
                last.extend(behind);
                last.push(own);
            }
        }
        for (at, one) in regexes {
            let (before, behind) = self.order(&one.children, notes);
            for entry in before.into_iter().chain(behind) {
                first.extend(self.under_regex(entry, one, notes));
            }
            first.push(Entry { path: Some(PathTest::Regex(one.path.clone())), to: Goal::At(at) });
        }
        (first, last)
    }

    /// What is inside a location that is a start of the path, where expressions are asked of paths below it alone.
    fn restrict(&self, entries: Vec<Entry>, start: &str, notes: &mut Notes<'_>) -> Vec<Entry> {
        let mut out = Vec::new();
        for entry in entries {
            let Some(PathTest::Regex(regex)) = &entry.path else {
                out.push(entry);
                continue;
            };
            let at = match entry.to {
                Goal::At(at) => at,
                Goal::Shut(_) => {
                    out.push(Entry { path: prefix_test(start), to: entry.to });
                    continue;
                }
                Goal::Slash(_) | Goal::Nowhere => continue,
            };
            let Some(one) = self.get(at) else { continue };
            match if start == "/" { Some(Some(PathTest::Regex(regex.clone()))) } else { inside(regex, start) }
            {
                Some(Some(path)) => out.push(Entry { path: Some(path), to: entry.to }),
                Some(None) => notes.skip(one.of, format!("no path below {start} matches it")),
                None if refuses(&one.level) => {
                    notes.near(
                        one.of,
                        format!(
                            "it is asked of all paths here, not only of those below {start}: it refuses more"
                        ),
                    );
                    out.push(entry);
                }
                None => {
                    let keeps = keeps_out(&one.level);
                    let more =
                        if keeps { ": as it keeps clients out, nobody is let in below that" } else { "" };
                    notes.cannot(one.of, format!("begin the regular expression with ^{start}, so that it is of paths below that alone{more}"));
                    if keeps {
                        out.push(Entry { path: prefix_test(start), to: Goal::Shut(one.of.at) });
                    }
                }
            }
        }
        out
    }

    fn under_regex(&self, entry: Entry, outer: &Location<'t>, notes: &mut Notes<'_>) -> Option<Entry> {
        let shut = |at: Place| Entry { path: Some(PathTest::Regex(outer.path.clone())), to: Goal::Shut(at) };
        let at = match entry.to {
            Goal::At(at) => at,
            Goal::Shut(at) => return Some(shut(at)),
            Goal::Slash(_) | Goal::Nowhere => return None,
        };
        let one = self.get(at)?;
        let fits = match &entry.path {
            Some(PathTest::Exact(path)) => outer.regex.as_ref()?.is_match(path.as_bytes()),
            Some(PathTest::Regex(regex)) => {
                let tail = outer.path.trim_start_matches("(?i)");
                !tail.starts_with('^') && !tail.contains('|') && regex.ends_with(tail)
            }
            _ => false,
        };
        if fits {
            return Some(entry);
        }
        if refuses(&one.level) {
            notes.near(one.of, "it is asked of all paths here, not only of those that the location around it takes: it refuses more");
            return Some(entry);
        }
        let keeps = keeps_out(&one.level);
        let more = if keeps { ": as it keeps clients out, nobody is let in there" } else { "" };
        notes.cannot(
            one.of,
            format!("put both regular expressions into one, and the location beside the one around it{more}"),
        );
        keeps.then(|| shut(one.of.at))
    }

    /// Paths that a prefix with a slash at its end does not take, and an element by element comparison would.
    fn bare(&self, notes: &mut Notes<'_>) -> Vec<Entry> {
        let mut taken: HashSet<&str> = HashSet::new();
        for one in &self.all {
            if one.kind != Kind::Regex && one.kind != Kind::Named {
                taken.insert(&one.path);
            }
        }
        let mut out = Vec::new();
        let mut slashes: Vec<(String, usize)> = Vec::new();
        for (at, one) in self.all.iter().enumerate() {
            let slashed = matches!(one.kind, Kind::Prefix | Kind::Strong) && one.path.len() > 1;
            let Some(path) = one.path.strip_suffix('/').filter(|path| slashed && !taken.contains(path))
            else {
                continue;
            };
            let asks = ASKING.iter().any(|name| one.level.first(name).is_some());
            let to = if asks { Goal::Slash(at) } else { self.find(path).map_or(Goal::Nowhere, Goal::At) };
            if to == Goal::At(at) || path.ends_with('/') {
                continue;
            }
            if path.is_empty() {
                notes.near(one.of, "paths are compared in normal form, where // is /");
                continue;
            }
            match to {
                Goal::Slash(at) => slashes.push((written(path), at)),
                _ => out.push(Entry { path: Some(PathTest::Exact(written(path))), to }),
            }
        }
        for some in slashes.chunks(SLASHES_MAX) {
            let path = match some {
                [(path, _)] => PathTest::Exact(path.clone()),
                _ => {
                    let paths: Vec<String> = some.iter().map(|(path, _)| escape(path)).collect();
                    PathTest::Regex(format!("^(?:{})$", paths.join("|")))
                }
            };
            out.extend(some.first().map(|(_, at)| Entry { path: Some(path), to: Goal::Slash(*at) }));
        }
        out
    }
}

/// What a start of the path is: element by element where it ends with a slash.
fn prefix_test(path: &str) -> Option<PathTest> {
    match path.strip_suffix('/') {
        _ if path.is_empty() || path == "/" => None,
        Some(elements) if !elements.is_empty() => Some(PathTest::Prefix(written(elements))),
        _ => Some(PathTest::Regex(format!("^{}", escape(&written(path))))),
    }
}

/// A path that nginx compares decoded, as it is sent.
fn written(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether a location asks who comes, or refuses.
pub(super) fn keeps_out(level: &Level<'_>) -> bool {
    let asks = |name: &str| level.first(name).is_some_and(|one| one.word(0) != "off");
    let strange = level.list.iter().any(|one| super::guard::is_strange(&one.name) && one.word(0) != "off");
    strange || refuses(level) || level.first("deny").is_some() || asks("auth_basic") || asks("auth_request")
}

/// Whether an unescaped dot stands between letters or digits.
fn loose_dot(regex: &str) -> bool {
    let bytes = regex.as_bytes();
    let plain = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let escaped = |at: usize| at >= 2 && bytes.get(at - 2) == Some(&b'\\');
    bytes
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'.' && plain(at.checked_sub(1)) && plain(Some(at + 1)) && !escaped(at))
}

/// Whether a location is there to keep clients out.
pub(super) fn refuses(level: &Level<'_>) -> bool {
    let denies = level.all("deny").iter().any(|one| one.word(0) == "all") && level.all("allow").is_empty();
    let returns = level.first("return").is_some_and(|one| one.word(0).starts_with('4'));
    denies || returns || level.first("internal").is_some()
}

/// What stands in front of a location's block, and whether nobody is let in because it cannot be read.
fn head(of: &Directive, notes: &mut Notes<'_>) -> Option<(Kind, String, bool)> {
    let (first, second) = (of.word(0), of.words.get(1).map(String::as_str));
    let (sign, path) = match (first, second) {
        ("=" | "^~" | "~" | "~*", Some(path)) if of.words.len() == 2 => (first, path),
        (path, None) if !path.is_empty() => {
            let signs = ["~*", "^~", "=", "~"];
            let sign = signs.into_iter().find(|sign| path.starts_with(sign) && path.len() > sign.len());
            sign.map_or(("", path), |sign| (sign, path.get(sign.len()..).unwrap_or("")))
        }
        ("", None) if of.words.len() == 1 => ("", ""),
        _ => {
            notes.wrong(of, "it has a path, with =, ^~, ~ or ~* before it: nginx rejects it");
            return None;
        }
    };
    let kind = match sign {
        "=" => Kind::Exact,
        "^~" => Kind::Strong,
        "~" | "~*" => Kind::Regex,
        _ if path.starts_with('@') => Kind::Named,
        _ => Kind::Prefix,
    };
    if kind != Kind::Regex {
        if kind != Kind::Named && !path.starts_with('/') && !path.is_empty() {
            notes.wrong(of, "no path begins like this: it takes no request");
            return None;
        }
        return Some((kind, path.to_owned(), false));
    }
    let case = if sign == "~*" { "(?i)" } else { "" };
    let regex = format!("{case}{path}");
    let Some(why) = fault(&regex) else { return Some((kind, regex, false)) };
    let level = Level::new(LOCATION, of.inside());
    let keeps = keeps_out(&level);
    if why.contains("look-around") || why.contains("backreference") {
        let wide = widened(path).map(|wide| format!("{case}{wide}")).filter(|wide| fault(wide).is_none());
        if let Some(wide) = wide.filter(|_| keeps) {
            notes.cannot(of, format!("regular expressions have no look-around and no backreferences here: without them it takes, and keeps out, more: {wide}"));
            return Some((kind, wide, false));
        }
        notes.cannot(of, format!("{why}: write the expression without, or several routes"));
    } else if why.contains("unclosed") || why.contains("unopened") || why.contains("missing") {
        notes.wrong(of, format!("the regular expression cannot be read ({why}): nginx rejects it"));
    } else {
        notes.cannot(of, format!("the regular expression cannot be read here: {why}"));
    }
    if keeps {
        notes.cannot(of, "as it keeps clients out, nobody is let in where it is asked: where no = and no ^~ takes the path");
    }
    keeps.then(|| (Kind::Regex, "^/".to_owned(), true))
}

/// An expression without what looks ahead or behind, which matches at least as much.
pub(super) fn widened(regex: &str) -> Option<String> {
    let mut out = regex.to_owned();
    for _ in 0..16 {
        let Some(start) = ["(?=", "(?!", "(?<=", "(?<!"].iter().filter_map(|open| out.find(open)).min()
        else {
            return Some(out);
        };
        let (mut depth, mut end) = (0_usize, None);
        let mut skip = false;
        for (at, c) in out.char_indices().skip_while(|(at, _)| *at < start) {
            match c {
                _ if skip => skip = false,
                '\\' => skip = true,
                '(' => depth += 1,
                ')' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        end = Some(at);
                        break;
                    }
                }
                _ => {}
            }
        }
        out.replace_range(start..=end?, "");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::super::report::Report;
    use super::super::super::surroundings::Surroundings;
    use super::super::tree;
    use super::*;

    fn check(text: &str, test: impl Fn(&Locations<'_>, Vec<Entry>)) {
        let around = Surroundings { environment: &|_| None, read: &|_| None, list: &|_| None };
        let mut report = Report::default();
        let source = tree::read(&[("a", text)], around, &mut report);
        let level = Rc::new(Level::new(super::super::catalogue::SERVER, &source.root));
        let mut notes = Notes::new(&mut report, source.count, source.crowds.clone());
        let scope = Scope::default().with(Rc::clone(&level));
        let locations = Locations::read(&level, &scope, &mut notes);
        let entries = locations.entries(&mut notes);
        test(&locations, entries);
    }

    #[test]
    fn the_longest_start_and_the_first_expression_are_found() {
        let text = "location / {} location = / {} location /doc/ {} location ^~ /img/ {} location ~* \\.(gif|pdf)$ {} \
                    location /doc/1 { location ~ edit$ {} }";
        check(text, |locations, _| {
            for (path, want) in [
                ("/", "= /"),
                ("/x", "/"),
                ("/doc/x", "/doc/"),
                ("/img/x.gif", "^~ /img/"),
                ("/doc/x.PDF", "~* \\.(gif|pdf)$"),
                ("/doc/1/edit", "~ edit$"),
                ("/doc/12", "/doc/1"),
            ] {
                let found = locations.find(path).and_then(|at| locations.get(at));
                assert_eq!(found.map(|one| one.of.words.join(" ")).as_deref(), Some(want), "{path}");
            }
        });
    }

    #[test]
    fn expressions_stand_between_strong_and_other_starts() {
        let text = "location / {} location /a/ { proxy_pass http://b; } location ^~ /s/ {} location ~ x$ {} location = /e {}";
        check(text, |_, entries| {
            let shown: Vec<String> = entries
                .iter()
                .map(|entry| match &entry.path {
                    Some(PathTest::Exact(path)) => format!("={path}"),
                    Some(PathTest::Prefix(path)) => path.clone(),
                    Some(other) => format!("~{}", other.regex()),
                    None => "any".to_owned(),
                })
                .collect();
            assert_eq!(shown, ["=/s", "=/a", "=/e", "/s", "~x$", "/a", "any"]);
        });
    }

    #[test]
    fn what_looks_ahead_is_taken_out() {
        assert_eq!(widened("^/(?!api)(a(?=b)|c)$").as_deref(), Some("^/(a|c)$"));
    }
}
