//! Questions about requests, and the part of all requests to which the answer is yes.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::host::HostPattern;

use super::super::pattern::{escape, matches};
use super::super::region::{
    Door, Part, PathTest, Region, ValueTest, meet, meet_hosts, meet_networks, narrow_path,
};

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ask {
    Always,
    Never,
    Hosts(Vec<String>),
    Path(PathTest),
    Methods(Vec<String>),
    Value(Part, String, ValueTest),
    Source(Vec<IpNet>),
    Tls(bool),
    Ports(Vec<u16>),
    /// No condition of a route says it: what to do.
    Cannot(String),
}

/// What a region comes to with one more question.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Narrowed {
    To(Region),
    /// No request is left.
    Empty,
    /// The conditions of one route cannot say it.
    Impossible(String),
}

use Narrowed::{Empty, Impossible, To};

/// How the value of a variable is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Compare {
    /// It is this; a map does not look at case.
    Is(String, bool),
    /// It matches.
    Matches(String),
    /// It is something.
    Something,
    /// It is something that is not `0`.
    True,
}

impl Compare {
    /// The answer for a value that is known.
    pub(super) fn holds(&self, value: &str) -> bool {
        match self {
            Self::Is(text, true) => text.eq_ignore_ascii_case(value),
            Self::Is(text, false) => text == value,
            Self::Matches(regex) => matches(regex, value),
            Self::Something => !value.is_empty(),
            Self::True => !value.is_empty() && value != "0",
        }
    }

    fn value(&self) -> ValueTest {
        let letters = |text: &str| text.contains(|c: char| c.is_ascii_alphabetic());
        match self {
            Self::Is(text, true) if letters(text) => ValueTest::Regex(format!("(?i)^{}$", escape(text))),
            Self::Is(text, _) => ValueTest::Exact(text.clone()),
            Self::Matches(regex) => ValueTest::Regex(regex.clone()),
            Self::Something => ValueTest::Regex(".".to_owned()),
            Self::True => ValueTest::Regex("^(?:[^0]|0.)".to_owned()),
        }
    }
}

/// Methods that are told apart where a regular expression is about them.
const METHODS: [&str; 16] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
];

/// The question whether a variable of a request compares like that.
pub(super) fn about(name: &str, compare: &Compare, doors: &[Door]) -> Ask {
    if let Some(which) = name.strip_prefix("http_").filter(|which| *which != "host" && !which.is_empty()) {
        return of_value(Part::Header, &which.replace('_', "-"), compare);
    }
    for (start, part) in [("cookie_", Part::Cookie), ("arg_", Part::Query)] {
        if let Some(which) = name.strip_prefix(start).filter(|which| !which.is_empty()) {
            return of_value(part, which, compare);
        }
    }
    match name {
        "content_type" | "content_length" => of_value(Part::Header, &name.replace('_', "-"), compare),
        "host" | "http_host" => of_host(compare),
        "scheme" => of_tls(compare.holds("https"), compare.holds("http")),
        "https" => of_tls(compare.holds("on"), compare.holds("")),
        "request_method" => {
            if let Compare::Is(method, false) = compare {
                return Ask::Methods(vec![method.clone()]);
            }
            if compare.holds("x-any") && METHODS.iter().all(|method| compare.holds(method)) {
                return Ask::Always;
            }
            match METHODS.iter().filter(|method| compare.holds(method)).map(|&method| method.to_owned()).collect::<Vec<_>>() {
                none if none.is_empty() => Ask::Never,
                some => Ask::Methods(some),
            }
        }
        "uri" | "document_uri" | "request_uri" => of_path(name, compare),
        "remote_addr" | "binary_remote_addr" | "proxy_protocol_addr" => of_source(compare),
        "server_port" => {
            let mut ports: Vec<u16> = doors.iter().flat_map(|door| door.ports.iter().copied()).collect();
            ports.retain(|port| compare.holds(&port.to_string()));
            if ports.is_empty() { Ask::Never } else { Ask::Ports(ports) }
        }
        "args" | "query_string" | "is_args" => {
            Ask::Cannot("a route asks for parameters by name (query = { name = \"...\" }), not for the whole query".to_owned())
        }
        "ssl_client_verify" => Ask::Cannot(
            "a route does not ask for the client's certificate: client_auth of a listener, or of a certificate, does".to_owned(),
        ),
        "request_filename" => Ask::Cannot(super::catalogue::NO_FILES.to_owned()),
        _ => Ask::Cannot(format!("no condition of a route asks for ${name}")),
    }
}

fn of_value(part: Part, name: &str, compare: &Compare) -> Ask {
    match compare {
        // Nobody sends an empty value to be told from none.
        Compare::Is(text, _) if text.is_empty() => {
            Ask::Cannot("a route cannot ask for what is not there".to_owned())
        }
        compare => Ask::Value(part, name.to_ascii_lowercase(), compare.value()).with_case(part, name),
    }
}

impl Ask {
    /// Names of cookies and parameters have case.
    fn with_case(self, part: Part, name: &str) -> Self {
        match self {
            Self::Value(_, _, test) if part != Part::Header => Self::Value(part, name.to_owned(), test),
            other => other,
        }
    }
}

pub(super) fn of_tls(yes: bool, no: bool) -> Ask {
    match (yes, no) {
        (true, true) => Ask::Always,
        (false, false) => Ask::Never,
        (tls, _) => Ask::Tls(tls),
    }
}

fn of_host(compare: &Compare) -> Ask {
    match compare {
        // A host with a port, and what no host is, is never `$host`.
        Compare::Is(host, _) if HostPattern::parse(host).is_err() || host.starts_with('*') => Ask::Never,
        Compare::Is(host, _) => Ask::Hosts(vec![host.to_ascii_lowercase()]),
        Compare::Something | Compare::True => Ask::Always,
        Compare::Matches(regex) => {
            Ask::Value(Part::Header, "host".to_owned(), ValueTest::Regex(host_regex(regex)))
        }
    }
}

/// A regular expression about a host as one about the field, which may have a port.
pub(super) fn host_regex(regex: &str) -> String {
    let regex = regex.strip_prefix("(?i)").unwrap_or(regex);
    match regex.strip_suffix('$').filter(|rest| !rest.ends_with('\\') && !rest.contains('|')) {
        Some(rest) => format!("(?i){rest}(?::[0-9]+)?$"),
        None if regex.ends_with('$') => format!("(?i)^(?:[^:]*)$|{regex}"),
        None => format!("(?i){regex}"),
    }
}

fn of_path(name: &str, compare: &Compare) -> Ask {
    let whole = name == "request_uri";
    match compare {
        Compare::Is(path, _) if !path.starts_with('/') => Ask::Never,
        Compare::Is(path, _) if whole && path.contains('?') => {
            Ask::Cannot("a route asks for the path, and for parameters by name".to_owned())
        }
        Compare::Is(path, true) if path.contains(|c: char| c.is_ascii_alphabetic()) => {
            Ask::Path(PathTest::Regex(format!("(?i)^{}$", escape(path))))
        }
        Compare::Is(path, _) => Ask::Path(PathTest::Exact(path.clone())),
        Compare::Matches(regex) if whole && (regex.contains(r"\?") || regex.contains('&')) => {
            Ask::Cannot("a route asks for the path, and for parameters by name".to_owned())
        }
        Compare::Matches(regex) => Ask::Path(PathTest::Regex(regex.clone())),
        Compare::Something | Compare::True => Ask::Always,
    }
}

fn of_source(compare: &Compare) -> Ask {
    match compare {
        Compare::Is(address, _) => match address.parse::<IpAddr>() {
            Ok(address) => Ask::Source(vec![address.into()]),
            Err(_) => Ask::Never,
        },
        Compare::Something | Compare::True => Ask::Always,
        Compare::Matches(regex) => match network_of(regex) {
            Some(network) => Ask::Source(vec![network]),
            None => Ask::Cannot(
                "a route asks for networks (source), not for how addresses are written".to_owned(),
            ),
        },
    }
}

/// `^10\.1\.` as a network.
fn network_of(regex: &str) -> Option<IpNet> {
    let text = regex.strip_prefix("(?i)").unwrap_or(regex).strip_prefix('^')?;
    let text = text.strip_suffix(".*").unwrap_or(text);
    let ends = text.strip_suffix('$');
    let parts: Vec<&str> = ends.unwrap_or(text).split("\\.").collect();
    let (numbers, bits): (Vec<&str>, u8) = match (parts.as_slice(), ends) {
        ([all @ .., ""], None) if (1..=3).contains(&all.len()) => {
            (all.to_vec(), u8::try_from(all.len() * 8).ok()?)
        }
        (all, Some(_)) if all.len() == 4 => (all.to_vec(), 32),
        _ => return None,
    };
    let mut octets = [0_u8; 4];
    for (octet, number) in octets.iter_mut().zip(numbers) {
        *octet = number.parse().ok()?;
    }
    IpNet::new(IpAddr::from(octets), bits).ok()
}

/// The requests of a region to which the answer is yes.
pub(super) fn narrow(region: &Region, ask: &Ask, doors: &[Door]) -> Narrowed {
    let mut out = region.clone();
    match ask {
        Ask::Always => {}
        Ask::Never => return Empty,
        Ask::Cannot(why) => return Impossible(why.clone()),
        Ask::Hosts(hosts) => match meet_hosts(out.hosts.as_deref(), hosts) {
            Some(hosts) => out.hosts = Some(hosts),
            None => return Empty,
        },
        Ask::Methods(methods) => {
            match meet(out.methods.as_deref(), methods, |a, b| (a == b).then(|| a.clone())) {
                Some(methods) => out.methods = Some(methods),
                None => return Empty,
            }
        }
        Ask::Source(networks) => match meet_networks(out.source.as_deref(), networks) {
            Some(networks) => out.source = Some(networks),
            None => return Empty,
        },
        Ask::Path(path) => match meet_path(out.path.as_ref(), path) {
            Ok(Some(path)) => out.path = Some(path),
            Ok(None) => return Empty,
            Err(why) => return Impossible(why),
        },
        Ask::Value(part, name, test) => return narrow_value(out, *part, name, test),
        Ask::Tls(tls) => return through(out, |door| door.tls == *tls, doors),
        Ask::Ports(ports) => {
            return through(out, |door| door.ports.iter().any(|port| ports.contains(port)), doors);
        }
    }
    To(out)
}

fn narrow_value(mut region: Region, part: Part, name: &str, test: &ValueTest) -> Narrowed {
    if let (Part::Header, "host", ValueTest::Regex(regex), Some(hosts)) = (part, name, test, &region.hosts)
        && hosts.iter().all(|host| !host.starts_with('*'))
    {
        let fit: Vec<String> = hosts.iter().filter(|host| matches(regex, host)).cloned().collect();
        if fit.is_empty() {
            return Empty;
        }
        region.hosts = Some(fit);
        return To(region);
    }
    let own = region.values.iter_mut().find(|(p, n, _)| (*p, n.as_str()) == (part, name));
    match own {
        None => region.values.push((part, name.to_owned(), test.clone())),
        Some((.., own)) if own == test => {}
        Some((.., own)) => match (&*own, test) {
            (ValueTest::Exact(text), ValueTest::Regex(regex)) => {
                if !matches(regex, text) {
                    return Empty;
                }
            }
            (ValueTest::Regex(regex), ValueTest::Exact(text)) => {
                if !matches(regex, text) {
                    return Empty;
                }
                *own = test.clone();
            }
            (ValueTest::Exact(_), ValueTest::Exact(_)) => return Empty,
            // What matches anything but the empty value is said by any other.
            (ValueTest::Regex(any), _) if any == "." => *own = test.clone(),
            (_, ValueTest::Regex(any)) if any == "." => {}
            _ => {
                return Impossible("a route has one pattern for each field, cookie and parameter".to_owned());
            }
        },
    }
    To(region)
}

fn through(mut region: Region, fits: impl Fn(&Door) -> bool, doors: &[Door]) -> Narrowed {
    let before: Vec<usize> = region.doors.unwrap_or_else(|| (0..doors.len()).collect());
    let after: Vec<usize> = before.into_iter().filter(|at| doors.get(*at).is_some_and(&fits)).collect();
    if after.is_empty() {
        return Empty;
    }
    region.doors = Some(after).filter(|after| after.len() < doors.len());
    To(region)
}

/// The path that both take; nothing when none does.
pub(super) fn meet_path(own: Option<&PathTest>, other: &PathTest) -> Result<Option<PathTest>, String> {
    use PathTest::{Prefix, Regex};
    match (own, other) {
        (Some(Prefix(prefix)), Regex(regex)) | (Some(Regex(regex)), Prefix(prefix)) => {
            let below = format!("{}/", prefix.trim_end_matches('/'));
            if let Some(met) = inside(regex, &below) {
                return Ok(met);
            }
        }
        (Some(Regex(a)), Regex(b)) if a != b => {
            for (start, other) in [(a, b), (b, a)] {
                if let Some(text) = literal(start)
                    && let Some(met) = inside(other, &text)
                {
                    return Ok(met);
                }
            }
        }
        _ => {}
    }
    narrow_path(own, other).map_err(str::to_owned)
}

/// The text of `^/text`, where that is all.
fn literal(regex: &str) -> Option<String> {
    let (text, rest) = start_of(regex)?;
    rest.is_empty().then_some(text)
}

/// The text that everything begins with that an anchored expression matches, and what stands behind it.
pub(super) fn start_of(regex: &str) -> Option<(String, &str)> {
    let rest = regex.strip_prefix('^')?;
    let mut text = String::new();
    let mut left = rest;
    loop {
        let mut chars = left.chars();
        let (c, behind) = match chars.next() {
            None => break,
            Some('\\') => match chars.next() {
                Some(c) if !c.is_ascii_alphanumeric() => (c, chars.as_str()),
                _ => break,
            },
            Some(c) if r".+*?()|[]{}^$".contains(c) => break,
            Some(c) => (c, chars.as_str()),
        };
        // A sign that counts is about the last one.
        if behind.starts_with(['*', '?', '{', '+']) {
            break;
        }
        text.push(c);
        left = behind;
    }
    (!left.contains('|') || left.starts_with('('))
        .then_some((text, left))
        .filter(|(_, left)| !top_level_bar(left))
}

/// The text at the start of a group that an anchored expression begins with.
fn start_of_group(regex: &str) -> Option<String> {
    let inner = regex.strip_prefix("^(").filter(|inner| !inner.starts_with('?') && !inner.contains('|'))?;
    let (mut depth, mut class, mut skip) = (1_usize, false, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            ']' => class = false,
            _ if class => {}
            '[' => class = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let behind = inner.get(at + 1..).unwrap_or("");
            let text = inner.get(..at).unwrap_or("");
            let counted = behind.starts_with(['?', '*', '{']);
            return start_of(&format!("^{text}")).filter(|_| !counted).map(|(start, _)| start);
        }
    }
    None
}

/// The part of a start that an expression begins with.
fn text_of(start: &str, low: &str) -> String {
    start.get(..low.len()).unwrap_or(start).to_owned()
}

/// Whether there is a choice outside of brackets.
fn top_level_bar(regex: &str) -> bool {
    let (mut depth, mut class, mut skip) = (0_usize, false, false);
    for c in regex.chars() {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            ']' => class = false,
            _ if class => {}
            '[' => class = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// What of an expression lies below a start such as `/app/`; nothing where no expression says it, and nothing inside that
/// where there is none.
#[expect(clippy::option_option, reason = "that it cannot be said, and that there is none, are two answers")]
pub(super) fn inside(regex: &str, start: &str) -> Option<Option<PathTest>> {
    let plain = regex.strip_prefix("(?i)").unwrap_or(regex);
    let case = if plain.len() < regex.len() { "(?i)" } else { "" };
    if let Some(text) = start_of_group(plain)
        && text.starts_with(start)
        && case.is_empty()
    {
        return Some(Some(PathTest::Regex(regex.to_owned())));
    }
    if let Some((text, rest)) = start_of(plain) {
        let (low, low_start) = if case.is_empty() {
            (text, start.to_owned())
        } else {
            (text.to_ascii_lowercase(), start.to_ascii_lowercase())
        };
        if low.starts_with(&low_start) && case.is_empty() {
            return Some(Some(PathTest::Regex(regex.to_owned())));
        }
        if !low_start.starts_with(&low) && !low.starts_with(&low_start) {
            return Some(None);
        }
        let more = low_start.strip_prefix(&low).filter(|_| case.is_empty())?;
        let met = match rest {
            "" | ".*" | ".*$" => format!("^{}", escape(start)),
            // The group begins where it began.
            "(.*)" | "(.*)$" => format!("^{}({}.*)$", escape(&text_of(start, &low)), escape(more)),
            _ => return None,
        };
        return Some(Some(PathTest::Regex(met)));
    }
    if plain.starts_with('^') || top_level_bar(plain) || plain.starts_with("(^") {
        return None;
    }
    // It is looked for anywhere: behind the start, when it cannot begin inside it.
    let mut chars = plain.chars();
    let first = match chars.next()? {
        '\\' => chars.next().filter(|c| !c.is_ascii_alphanumeric())?,
        c if r".+*?()|[]{}^$".contains(c) => return None,
        c => c,
    };
    if chars.as_str().starts_with(['*', '?', '{']) {
        return None;
    }
    let lower = start.to_ascii_lowercase();
    let inner = lower.strip_suffix('/').unwrap_or(&lower);
    if first == '/' && inner.is_empty() {
        return Some(Some(PathTest::Regex(regex.to_owned())));
    }
    if first == '/' && inner.strip_prefix('/').is_some_and(|rest| !rest.contains('/')) && start.ends_with('/')
    {
        // The slash at its end may be the first one of what is looked for, and the one at its start, if all of it matched.
        let from_root = matches(plain, start);
        return (!from_root).then(|| {
            Some(PathTest::Regex(format!("{case}^{}(?:/.*)?{plain}", escape(start.trim_end_matches('/')))))
        });
    }
    (!lower.contains(first.to_ascii_lowercase()))
        .then(|| Some(PathTest::Regex(format!("{case}^{}.*{plain}", escape(start)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_narrow_to_what_lies_below_a_start() {
        let regex = |text: &str| Some(Some(PathTest::Regex(text.to_owned())));
        for (text, start, want) in [
            (r"\.php$", "/app/", regex(r"^/app/.*\.php$")),
            (r"(?i)\.php$", "/app/", regex(r"(?i)^/app/.*\.php$")),
            (r"^/app/x/(.*)$", "/app/", regex(r"^/app/x/(.*)$")),
            (r"^/other", "/app/", Some(None)),
            (r"^/", "/app/", regex("^/app/")),
            (r"/\.ht", "/app/", regex(r"^/app(?:/.*)?/\.ht")),
            (r"/\.ht", "/", regex(r"/\.ht")),
            (r"\.php$", "/a.b/", None),
            (r"^/(.*)$", "/app/", regex("^/(app/.*)$")),
            (r"a|b", "/app/", None),
        ] {
            assert_eq!(inside(text, start), want, "{text} {start}");
        }
    }

    #[test]
    fn comparisons_are_questions_about_requests() {
        let is = |text: &str| Compare::Is(text.to_owned(), false);
        assert_eq!(about("scheme", &is("http"), &[]), Ask::Tls(false));
        assert_eq!(
            about("request_method", &Compare::Matches("^(GET|HEAD)$".to_owned()), &[]),
            Ask::Methods(vec!["GET".to_owned(), "HEAD".to_owned()])
        );
        assert_eq!(
            about("remote_addr", &Compare::Matches(r"^10\.1\.".to_owned()), &[]),
            Ask::Source(vec!["10.1.0.0/16".parse().expect("a network")])
        );
        assert!(matches!(about("args", &is("a"), &[]), Ask::Cannot(_)));
        let value = Ask::Value(Part::Cookie, "Ab".to_owned(), ValueTest::Regex("(?i)^x$".to_owned()));
        assert_eq!(about("cookie_Ab", &Compare::Is("x".to_owned(), true), &[]), value);
    }
}
