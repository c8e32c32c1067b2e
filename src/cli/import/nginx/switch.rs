//! Variables whose value is looked up: `map`, `geo`, `split_clients` and `valid_referers`, as cases of which the first decides.

use std::cmp::Reverse;
use std::collections::HashMap;

use ipnet::IpNet;

use super::super::pattern::{escape, fault};
use super::super::region::{Door, Part, PathTest, ValueTest};
use super::ask::{Ask, Compare, about};
use super::notes::Notes;
use super::scope::Level;
use super::tree::Directive;
use super::variable::{Bound, alone, is_plain, put_in};
use crate::model::host::HostPattern;

/// A table that a variable is looked up in.
#[derive(Debug)]
pub(super) struct Switch<'t> {
    pub(super) of: &'t Directive,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Map,
    Geo,
    Split,
}

/// What a variable can be.
#[derive(Debug)]
pub(super) enum Values<'t> {
    /// One value.
    One(String),
    /// The first case whose question is answered yes, else the last value.
    Cases(Vec<Case<'t>>, String),
    /// By chance, or by who the client is: parts of all with a value each; whether it is by the client.
    Parts(Vec<(i64, String, &'t Directive)>, bool),
    /// It cannot be said: why.
    Unknown(String),
}

/// One line of a table, or several that say the same.
#[derive(Debug)]
pub(super) struct Case<'t> {
    pub(super) ask: Ask,
    pub(super) value: String,
    pub(super) of: &'t Directive,
    /// Names of groups, where it is a regular expression about the path.
    pub(super) groups: Option<Vec<String>>,
}

/// The tables of a block, by the variables that they give a value.
pub(super) fn read<'t>(level: &Level<'t>, notes: &mut Notes<'_>) -> HashMap<String, Switch<'t>> {
    let mut out = HashMap::new();
    for (name, kind) in [("map", Kind::Map), ("geo", Kind::Geo), ("split_clients", Kind::Split)] {
        for of in level.all(name) {
            let variable = of.words.last().and_then(|word| word.strip_prefix('$'));
            let words = if kind == Kind::Geo { 1..=2 } else { 2..=2 };
            match variable.filter(|_| words.contains(&of.words.len()) && of.block.is_some()) {
                Some(variable) => drop(out.insert(variable.to_owned(), Switch { of, kind })),
                None => notes.wrong(
                    of,
                    "it names what is looked up and a variable, and has a block: nginx rejects it",
                ),
            }
        }
    }
    out
}

/// Rows beyond this many are not told apart.
const ROWS_MAX: usize = 20_000;
/// So many lines of one value are asked about at once: an expression has a bound.
const JOINED_MAX: usize = 200;
/// So many paths are asked about without a look at case, which takes an expression for each.
const PATHS_MAX: usize = 200;

/// Variables that are a path.
const IS_PATH: [&str; 3] = ["uri", "document_uri", "request_uri"];

impl<'t> Switch<'t> {
    /// What the variable can be, where `bound` is known. Lines are remarked on as they are read.
    pub(super) fn values(&self, bound: &Bound, doors: &[Door], notes: &mut Notes<'_>) -> Values<'t> {
        if self.of.inside().len() > ROWS_MAX {
            return Values::Unknown(format!(
                "a table of more than {ROWS_MAX} lines is not made routes of: let the application look it up"
            ));
        }
        match self.kind {
            Kind::Map => self.map(bound, doors, notes),
            Kind::Geo => self.geo(bound, notes),
            Kind::Split => self.split(bound, notes),
        }
    }

    /// The variable that has to be known first.
    pub(super) fn source(&self) -> &'t str {
        match self.kind {
            Kind::Geo if self.of.words.len() < 2 => "$remote_addr",
            _ => self.of.word(0),
        }
    }

    fn map(&self, bound: &Bound, doors: &[Door], notes: &mut Notes<'_>) -> Values<'t> {
        let source = put_in(self.source(), bound);
        let hostnames = self.of.inside().iter().any(|row| row.name == "hostnames" && row.words.is_empty());
        let rows = Rows::read(self.of, hostnames, notes);
        notes.ok(self.of);
        if is_plain(&source) {
            return rows.look_up(&source, notes);
        }
        let Some(variable) = alone(&source) else {
            return Values::Unknown(format!(
                "what is looked up is one variable: {} has several",
                self.source()
            ));
        };
        if variable == "request_uri" {
            notes.near(self.of, super::walk::PATH_ALONE);
        }
        if rows.exact.len() > PATHS_MAX && IS_PATH.contains(&variable.as_str()) {
            notes.near(
                self.of,
                "of so many paths each is asked for as it is written; a map does not look at case",
            );
        }
        rows.cases(&variable, doors, notes)
    }

    fn geo(&self, bound: &Bound, notes: &mut Notes<'_>) -> Values<'t> {
        let source = put_in(self.source(), bound);
        let mut default = String::new();
        let mut rows: Vec<(IpNet, &'t str, &'t Directive)> = Vec::new();
        let mut lost = false;
        for row in self.of.inside() {
            let value = row.word(0);
            match row.name.as_str() {
                "default" => default = value.to_owned(),
                "include" | "volatile" => continue,
                "ranges" => {
                    notes.cannot(row, "write networks (10.0.0.0/8) in the place of ranges, and import again");
                    lost = true;
                    continue;
                }
                "proxy" | "proxy_recursive" => {
                    notes.near(
                        row,
                        "whose X-Forwarded-For is believed is said once, in trusted_proxies of the listener",
                    );
                    continue;
                }
                "delete" => {
                    rows.retain(|(network, ..)| parse_network(value) != Some(*network));
                }
                network => match parse_network(network) {
                    Some(network) => rows.push((network, value, row)),
                    None => {
                        notes.wrong(row, "it is no network: nginx rejects it");
                        continue;
                    }
                },
            }
            notes.ok(row);
        }
        notes.ok(self.of);
        if lost {
            return Values::Unknown("ranges of addresses are not read".to_owned());
        }
        if !["remote_addr", "realip_remote_addr"].iter().any(|name| alone(&source).as_deref() == Some(*name))
        {
            return Values::Unknown("networks are looked up for the client's address".to_owned());
        }
        // The longest network that has the address decides.
        rows.sort_by_key(|(network, ..)| Reverse(network.prefix_len()));
        let overlapping =
            rows.windows(2).any(|pair| matches!(pair, [a, b] if a.0.prefix_len() != b.0.prefix_len()));
        let mut cases: Vec<Case<'t>> = Vec::new();
        for (network, value, of) in rows {
            let same = if overlapping {
                cases.last_mut().filter(|case| case.value == value)
            } else {
                cases.iter_mut().find(|case| case.value == value)
            };
            match same.map(|case| &mut case.ask) {
                Some(Ask::Source(networks)) => networks.push(network),
                _ => cases.push(Case {
                    ask: Ask::Source(vec![network]),
                    value: value.to_owned(),
                    of,
                    groups: None,
                }),
            }
        }
        if !overlapping {
            cases.retain(|case| case.value != default);
        }
        Values::Cases(cases, default)
    }

    fn split(&self, bound: &Bound, notes: &mut Notes<'_>) -> Values<'t> {
        let key = put_in(self.source(), bound);
        let by_client = key.contains("{remote_addr}") || key.contains("{binary_remote_addr}");
        let how = "the share is the same, and which clients are in it is not: the hash is another";
        if by_client {
            notes.near(self.of, how);
        } else if key.contains("{request_id}") || key.contains("{msec}") || key.contains("{connection}") {
            notes.ok(self.of);
        } else {
            notes.near(self.of, "a split goes by the client's address, by chance or by a sticky cookie (split_by): here by the address");
        }
        let (mut parts, mut left) = (Vec::new(), 10_000_i64);
        for row in self.of.inside().iter().filter(|row| row.name != "include") {
            let share = match row.name.as_str() {
                "*" => Some(left),
                percent => hundredths(percent).filter(|share| *share <= left),
            };
            match share {
                Some(share) => {
                    left -= share;
                    notes.ok(row);
                    parts.push((share, row.word(0).to_owned(), row));
                }
                None => notes.wrong(
                    row,
                    "it is a share such as 2.5%, all together at most 100%, or *: nginx rejects it",
                ),
            }
        }
        let random = key.contains("{request_id}") || key.contains("{msec}") || key.contains("{connection}");
        Values::Parts(small(parts), !random)
    }
}

/// Weights of at most 1000 in the same proportions.
fn small(mut parts: Vec<(i64, String, &Directive)>) -> Vec<(i64, String, &Directive)> {
    let common = parts.iter().fold(0, |all, (share, ..)| gcd(all, *share)).max(1);
    let most = parts.iter().map(|(share, ..)| share / common).max().unwrap_or(1);
    let divisor = if most > 1000 { (most + 999) / 1000 } else { 1 };
    for (share, ..) in &mut parts {
        *share = (*share / common + divisor / 2) / divisor;
    }
    parts
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn hundredths(percent: &str) -> Option<i64> {
    let number = percent.strip_suffix('%')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = format!("{fraction:0<2}");
    let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (all(whole) && fraction.len() == 2 && all(&fraction)).then_some(())?;
    let (whole, fraction): (i64, i64) = (whole.parse().ok()?, fraction.parse().ok()?);
    whole.checked_mul(100)?.checked_add(fraction)
}

/// A network, or an address alone.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Ok(network) => Some(network.trunc()),
        Err(_) => text.parse::<std::net::IpAddr>().ok().map(IpNet::from),
    }
}

/// The lines of a map.
struct Rows<'t> {
    exact: Vec<(&'t str, &'t Directive)>,
    /// Names with a star, longest first: those in front, then those behind.
    stars: Vec<(String, &'t Directive)>,
    regexes: Vec<(String, &'t Directive)>,
    /// Those whose expression cannot be read, and why.
    lost: Vec<(String, &'t Directive)>,
    default: String,
    hostnames: bool,
}

impl<'t> Rows<'t> {
    fn read(of: &'t Directive, hostnames: bool, notes: &mut Notes<'_>) -> Self {
        let (exact, stars, regexes, lost) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut rows = Self { exact, stars, regexes, lost, default: String::new(), hostnames };
        for row in of.inside() {
            let name = row.name.as_str();
            match name {
                "default" if row.words.len() == 1 => {
                    rows.default = row.word(0).to_owned();
                    notes.ok(row);
                }
                "hostnames" | "volatile" if row.words.is_empty() => notes.ok(row),
                "include" => {}
                _ if row.words.len() != 1 => notes.wrong(row, "it has a key and a value: nginx rejects it"),
                _ => rows.row(name, row),
            }
        }
        rows.stars.sort_by_key(|(name, _)| (name.ends_with('*'), Reverse(name.len())));
        rows
    }

    fn row(&mut self, name: &'t str, row: &'t Directive) {
        if let Some(regex) = name.strip_prefix('~') {
            let (case, regex) = regex.strip_prefix('*').map_or(("", regex), |regex| ("(?i)", regex));
            let regex = format!("{case}{regex}");
            match fault(&regex) {
                None => self.regexes.push((regex, row)),
                Some(why) => {
                    self.lost.push((format!("the regular expression cannot be read here: {why}"), row))
                }
            }
            return;
        }
        let key = name.strip_prefix('\\').filter(|rest| {
            ["default", "hostnames", "volatile", "include"].contains(rest) || rest.starts_with('~')
        });
        let key = key.unwrap_or(name);
        match key.strip_prefix('.') {
            Some(host) if self.hostnames => {
                self.exact.push((host, row));
                self.stars.push((format!("*.{host}"), row));
            }
            _ if self.hostnames && (key.starts_with("*.") || key.ends_with(".*")) => {
                self.stars.push((key.to_ascii_lowercase(), row));
            }
            _ => self.exact.push((key, row)),
        }
    }

    /// The value for what is known.
    fn look_up(&self, value: &str, notes: &mut Notes<'_>) -> Values<'t> {
        let exact = self.exact.iter().find(|(key, _)| key.eq_ignore_ascii_case(value)).map(|(_, row)| *row);
        let star = || self.stars.iter().find(|(name, _)| star_takes(name, value)).map(|(_, row)| *row);
        let regex = || {
            let fits = |(regex, _): &&(String, &Directive)| super::super::pattern::matches(regex, value);
            self.regexes.iter().find(fits).map(|(_, row)| *row)
        };
        let all = self
            .exact
            .iter()
            .map(|(_, row)| row)
            .chain(self.stars.iter().chain(&self.regexes).map(|(_, row)| row));
        all.for_each(|row| notes.ok(row));
        let found = exact.or_else(star).or_else(regex);
        for (why, row) in &self.lost {
            notes.cannot(row, why);
        }
        if let (None, Some((why, _))) = (found, self.lost.first()) {
            return Values::Unknown(why.clone());
        }
        Values::One(found.map_or_else(|| self.default.clone(), |row| row.word(0).to_owned()))
    }

    /// The cases for a variable of the request.
    fn cases(&self, variable: &str, doors: &[Door], notes: &mut Notes<'_>) -> Values<'t> {
        let mut cases: Vec<Case<'t>> = Vec::new();
        let mut empty: Option<&'t Directive> = None;
        let mut by_value: HashMap<&str, (usize, usize)> = HashMap::new();
        let nocase =
            variable != "request_method" && (self.exact.len() <= PATHS_MAX || !IS_PATH.contains(&variable));
        for (key, row) in &self.exact {
            notes.ok(row);
            if key.is_empty() {
                empty = Some(row);
                continue;
            }
            let value = row.word(0);
            let ask = about(variable, &Compare::Is((*key).to_owned(), nocase), doors);
            if let Some((at, count)) = by_value.get_mut(value)
                && *count < JOINED_MAX
                && cases.get_mut(*at).is_some_and(|case| join(&mut case.ask, &ask))
            {
                *count += 1;
                continue;
            }
            by_value.insert(value, (cases.len(), 1));
            cases.push(Case { ask, value: value.to_owned(), of: row, groups: None });
        }
        for (name, row) in &self.stars {
            notes.ok(row);
            let ask = match name.strip_suffix(".*") {
                None if variable == "host" || variable == "http_host" => match HostPattern::parse(name) {
                    Ok(_) => Ask::Hosts(vec![name.clone()]),
                    Err(_) => Ask::Never,
                },
                None => about(
                    variable,
                    &Compare::Matches(format!("(?i){}$", escape(name.trim_start_matches('*')))),
                    doors,
                ),
                Some(start) => {
                    about(variable, &Compare::Matches(format!("(?i)^{}\\.", escape(start))), doors)
                }
            };
            cases.push(Case { ask, value: row.word(0).to_owned(), of: row, groups: None });
        }
        for (regex, row) in &self.regexes {
            notes.ok(row);
            let ask = about(variable, &Compare::Matches(regex.clone()), doors);
            let groups = matches!(ask, Ask::Path(PathTest::Regex(_))).then(|| names_of(regex));
            cases.push(Case { ask, value: row.word(0).to_owned(), of: row, groups });
        }
        for (why, row) in &self.lost {
            cases.push(Case {
                ask: Ask::Cannot(why.clone()),
                value: row.word(0).to_owned(),
                of: row,
                groups: None,
            });
        }
        // Alone, what has the same value as all else need not be asked for.
        if self.regexes.is_empty() && self.stars.is_empty() {
            cases.retain(|case| case.value != self.default);
        }
        let Some(row) = empty else { return Values::Cases(cases, self.default.clone()) };
        if row.word(0) != self.default {
            let ask = about(variable, &Compare::Something, doors);
            cases.push(Case { ask, value: self.default.clone(), of: row, groups: None });
        }
        Values::Cases(cases, row.word(0).to_owned())
    }
}

fn star_takes(name: &str, value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match name.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => value.ends_with(name.trim_start_matches('*')),
    }
}

/// Makes two questions one, of which either may be answered yes.
fn join(own: &mut Ask, other: &Ask) -> bool {
    match (own, other) {
        (Ask::Hosts(own), Ask::Hosts(other)) => own.extend(other.iter().cloned()),
        (Ask::Methods(own), Ask::Methods(other)) => own.extend(other.iter().cloned()),
        (Ask::Source(own), Ask::Source(other)) => own.extend(other.iter().copied()),
        (Ask::Ports(own), Ask::Ports(other)) => own.extend(other.iter().copied()),
        (Ask::Value(part, name, own), Ask::Value(other_part, other_name, other))
            if part == other_part && name == other_name =>
        {
            let whole = |test: &ValueTest| match test {
                ValueTest::Exact(text) => format!("^{}$", escape(text)),
                ValueTest::Regex(regex) => regex.clone(),
            };
            *own = ValueTest::Regex(either(whole(own), &whole(other)));
        }
        (Ask::Path(own), Ask::Path(other)) => {
            let whole = |test: &PathTest| match test {
                PathTest::Exact(path) => Some(format!("^{}$", escape(path))),
                PathTest::Regex(regex) => Some(regex.clone()),
                _ => None,
            };
            let (Some(text), Some(more)) = (whole(own), whole(other)) else { return false };
            *own = PathTest::Regex(either(text, &more));
        }
        _ => return false,
    }
    true
}

/// One expression of two that are about the whole of a text, such as `(?i)^a$`.
fn either(mut own: String, other: &str) -> String {
    fn inner(whole: &str) -> &str {
        let text = whole.strip_prefix("(?i)").unwrap_or(whole);
        let text = text.strip_prefix('^').unwrap_or(text);
        text.strip_suffix('$').unwrap_or(text)
    }
    if own.starts_with("(?i)^(?:") && own.ends_with(")$") {
        own.truncate(own.len() - 2);
        own.push('|');
        own.push_str(inner(other));
        own.push_str(")$");
        return own;
    }
    format!("(?i)^(?:{}|{})$", inner(&own), inner(other))
}

/// The names of the groups of an expression.
pub(super) fn names_of(regex: &str) -> Vec<String> {
    let mut out = Vec::new();
    for part in regex.split("(?").skip(1) {
        let part = part.strip_prefix('P').unwrap_or(part);
        if let Some((name, _)) = part.strip_prefix('<').and_then(|rest| rest.split_once('>'))
            && !name.starts_with(['=', '!'])
        {
            out.push(name.to_owned());
        }
    }
    out
}

/// `$invalid_referer`, as `valid_referers` says it: empty where the referer is one of these.
pub(super) fn referers<'t>(of: &'t Directive, server_names: &[String], notes: &mut Notes<'_>) -> Values<'t> {
    let (mut none, mut any, mut hosts) = (false, false, Vec::new());
    let mut regexes = Vec::new();
    for word in &of.words {
        match word.as_str() {
            "none" => none = true,
            "blocked" => any = true,
            "server_names" => hosts.extend(server_names.iter().cloned()),
            word => match word.strip_prefix('~') {
                Some(regex) => regexes.push(format!(
                    "^https?://[^/]*{}",
                    regex.trim_start_matches('*').trim_start_matches('^')
                )),
                None => hosts.push(word.to_owned()),
            },
        }
    }
    for host in hosts {
        let (host, path) = host.split_once('/').map_or((host.as_str(), ""), |(host, path)| (host, path));
        let name = match (host.strip_prefix("*."), host.strip_suffix(".*")) {
            (Some(end), _) => format!("(?:[^/:]+\\.){}", escape(end)),
            (_, Some(start)) => format!("{}\\.[^/:]+", escape(start)),
            _ => escape(host),
        };
        let path = if path.is_empty() { String::new() } else { format!("/{}", escape(path)) };
        regexes.push(format!("^https?://{name}(?::[0-9]+)?(?:[/?#]|$){path}"));
    }
    if any {
        regexes.push("^(?:[^h]|h[^t]|ht[^t]|htt[^p])".to_owned());
    }
    let regex = format!("(?i){}", regexes.join("|"));
    if fault(&regex).is_some() {
        return Values::Unknown("a regular expression of valid_referers cannot be read here".to_owned());
    }
    notes.ok(of);
    let field =
        |regex: &str| Ask::Value(Part::Header, "referer".to_owned(), ValueTest::Regex(regex.to_owned()));
    let case = |ask: Ask, value: &str| Case { ask, value: value.to_owned(), of, groups: None };
    let mut cases = Vec::new();
    if !regexes.is_empty() {
        cases.push(case(field(&regex), ""));
    }
    if none {
        cases.push(case(field("."), "1"));
        return Values::Cases(cases, String::new());
    }
    Values::Cases(cases, "1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_weights() {
        assert_eq!(hundredths("20.5%"), Some(2050));
        assert_eq!(hundredths("5%"), Some(500));
        for wrong in ["5", "%", "1.234%", "-1%", "a%"] {
            assert_eq!(hundredths(wrong), None, "{wrong}");
        }
        assert_eq!((gcd(500, 2050), gcd(0, 5)), (50, 5));
    }

    #[test]
    fn expressions_about_a_whole_text_are_joined() {
        let two = either("^a\\$$".to_owned(), "(?i)^b$");
        assert_eq!(two, "(?i)^(?:a\\$|b)$");
        assert_eq!(either(two, "^c$"), "(?i)^(?:a\\$|b|c)$");
    }

    #[test]
    fn names_of_groups_are_found() {
        assert_eq!(names_of("^/(?<a>x)/(?P<b>y)(?:z)"), ["a", "b"]);
    }
}
