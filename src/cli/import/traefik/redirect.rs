//! `redirectScheme` and `redirectRegex`: answers of routes, to all of their requests or to some.

use super::super::pattern::matches;
use super::super::region::{Part, PathTest, ValueTest};
use super::super::report::Place;
use super::fields::Fields;
use super::matcher::Test;
use super::middleware::{Around, expression, known};
use super::path::{expand, groups};
use super::regexp;
use super::service::Lost;
use super::treatment::{Answer, Branch, Treatment, plain, redirect_status};

pub(super) fn scheme(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let at = fields.at;
    let scheme = fields.text("scheme", around.report).filter(|(scheme, _)| !scheme.is_empty());
    let port = fields.text("port", around.report);
    let permanent = fields.flag("permanent", around.report);
    let forced = fields.flag("forcePermanentRedirect", around.report);
    known(fields, around.report)?;
    let Some((scheme, of_scheme)) = scheme else {
        return Err(Lost::Refused("it names no scheme".to_owned()));
    };
    for place in [port.as_ref().map(|p| p.1), permanent.map(|p| p.1), forced.map(|p| p.1), Some(of_scheme)] {
        place.into_iter().for_each(|place| around.report.translated(place));
    }
    let permanent = permanent.is_some_and(|(yes, _)| yes);
    let status =
        if forced.is_some_and(|(yes, _)| yes) { 308 } else { redirect_status(permanent, at, around.report) };
    let port = port.map_or_else(String::new, |(port, _)| port);
    to_scheme(&scheme, &port, status, at, around, to)
}

/// Redirects what does not come by a scheme and port to them.
pub(super) fn to_scheme(
    scheme: &str,
    port: &str,
    status: i64,
    at: Place,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let plain_port = port.is_empty() || matches!((scheme, port), ("http", "80") | ("https", "443"));
    if !port.bytes().all(|b| b.is_ascii_digit()) || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(Lost::Unsaid("scheme and port of a redirect are plain words".to_owned()));
    }
    let own = if around.door.tls { "https" } else { "http" };
    if scheme == own {
        if plain_port {
            around.report.ignored(at, format!("clients come by {own} here, and go on"));
            return Ok(());
        }
        return Err(Lost::Unsaid("where only the port of a request is another one it would be redirected again and again: write the redirect of the route".to_owned()));
    }
    let colon = if plain_port { String::new() } else { format!(":{port}") };
    let location = format!("{scheme}://{{hostname}}{colon}{{uri}}");
    let answer = Answer::Redirect { to: location, status, at };
    if !around.door.believes {
        to.end = Some(answer);
        return Ok(());
    }
    // Who came to a proxy before us by that scheme goes on.
    around.report.approximated(
        at,
        "requests with X-Forwarded-Proto go on as they say, also of peers that are not trusted",
    );
    let said = |value: &str| {
        vec![Test::Value(Part::Header, "x-forwarded-proto".to_owned(), ValueTest::Regex(value.to_owned()))]
    };
    let stays = if scheme == "https" { "(?i)^(?:https|wss)$" } else { "(?i)^(?:http|ws)$" };
    to.passes.push((said(stays), answer));
    Ok(())
}

/// A `redirectRegex` asks about the whole URL; a route about its host and path.
pub(super) fn regex(
    mut fields: Fields<'_>,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    let regex = fields.text("regex", around.report);
    let replacement = fields.text("replacement", around.report);
    let permanent = fields.flag("permanent", around.report);
    let status = fields.number("statusCode", around.report);
    known(fields, around.report)?;
    for place in [replacement.as_ref().map(|r| r.1), permanent.map(|p| p.1), status.map(|s| s.1)] {
        place.into_iter().for_each(|place| around.report.translated(place));
    }
    let Some((regex, at)) = regex else { return Ok(()) };
    let (replacement, of_replacement) = replacement.unwrap_or((String::new(), at));
    let regex = expression(&regex)?;
    [at, of_replacement].into_iter().for_each(|place| around.report.translated(place));
    let status = match status {
        Some((status, _)) if (300..400).contains(&status) => status,
        Some((_, at)) => {
            around.report.not_possible(at, "a redirect has a status of 300 to 399: 307 is written");
            307
        }
        None => redirect_status(permanent.is_some_and(|(yes, _)| yes), at, around.report),
    };
    if to.target.is_some() {
        return Err(Lost::Unsaid(
            "a redirect behind a path that has been changed goes by the path as it came here".to_owned(),
        ));
    }
    if ["", "^", ".*", "^.*", "^.*$", ".+", "^.+", "^.+$", "^(.*)$", "(.*)"].contains(&regex.as_str())
        && !replacement.contains('$')
    {
        if !replacement.chars().all(|c| c.is_ascii_graphic()) || replacement.is_empty() {
            return Err(Lost::Unsaid("a URL has no spaces and nothing beyond ASCII".to_owned()));
        }
        to.end = Some(Answer::Redirect { to: plain(&replacement), status, at });
        return Ok(());
    }
    match take_apart(&regex) {
        Some(parts) => branches(&parts, &replacement, status, at, around, to),
        None => {
            around.report.not_possible(at, format!("this is no scheme, host and path one after the other: write routes with `redirect`, for what goes to {replacement}"));
            Ok(())
        }
    }
}

/// A regular expression of a URL in its parts.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// Whether it is of requests by TLS; both where it may be either.
    tls: Option<bool>,
    /// Groups of the scheme: none or one.
    scheme_groups: usize,
    /// The expression of the host with its port.
    host: String,
    /// That of the path, and of the query where it goes that far.
    path: String,
    /// Scheme and host are one group.
    joined: bool,
    /// The path is in that group as well.
    whole: bool,
}

/// Beginnings of an expression: what they say of TLS, and their groups.
const SCHEMES: [(&str, Option<bool>, usize); 10] = [
    ("https?://", None, 0),
    ("(https?)://", None, 1),
    ("(http|https)://", None, 1),
    ("(https|http)://", None, 1),
    ("(?:https?)://", None, 0),
    ("http(?:s)?://", None, 0),
    ("(.*)://", None, 1),
    ("(.+)://", None, 1),
    ("http://", Some(false), 0),
    ("https://", Some(true), 0),
];

fn take_apart(regex: &str) -> Option<Parts> {
    let regex = regex.replace("\\/", "/");
    let rest = regex.strip_prefix('^').unwrap_or(&regex);
    if regexp::divided(rest) {
        return None;
    }
    if let Some((begin, tls)) = JOINED.iter().find(|(begin, _)| rest.starts_with(begin)) {
        let path = rest.get(begin.len()..)?.to_owned();
        return Some(Parts {
            tls: *tls,
            scheme_groups: 0,
            host: "([^/]+)".to_owned(),
            path,
            joined: true,
            whole: false,
        });
    }
    if let Some((tls, path)) = whole(rest) {
        return Some(Parts {
            tls,
            scheme_groups: 0,
            host: "([^/]+)".to_owned(),
            path,
            joined: true,
            whole: true,
        });
    }
    let (begin, tls, scheme_groups) = SCHEMES.iter().find(|(begin, ..)| rest.starts_with(begin))?;
    let rest = rest.get(begin.len()..)?;
    let (mut depth, mut class, mut escaped) = (0_usize, false, false);
    let mut end = rest.len();
    for (at, c) in rest.char_indices() {
        let group_of_path = depth == 0
            && c == '('
            && ["(/", "(?:/"].iter().any(|start| rest.get(at..).is_some_and(|r| r.starts_with(start)));
        if !escaped && !class && depth == 0 && (c == '/' || group_of_path) {
            end = at;
            break;
        }
        match c {
            '[' if !escaped => class = true,
            ']' if !escaped => class = false,
            '(' if !escaped && !class => depth += 1,
            ')' if !escaped && !class => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    let (mut host, path) = rest.split_at(end);
    if path.is_empty() && host.ends_with('$') {
        // There is a path behind every host: only what takes that too comes to the end of a URL.
        host = host.strip_suffix('$').filter(|host| spans_to_end(host))?;
    }
    Some(Parts {
        tls: *tls,
        scheme_groups: *scheme_groups,
        host: host.to_owned(),
        path: path.to_owned(),
        joined: false,
        whole: false,
    })
}

/// The path in an expression that is all one group, up to the end of the URL.
fn whole(regex: &str) -> Option<(Option<bool>, String)> {
    let inside = regex.strip_suffix(")$")?;
    let (begin, tls) = JOINED.iter().find_map(|(begin, tls)| {
        begin.strip_suffix(')').filter(|begin| inside.starts_with(begin)).map(|begin| (begin, tls))
    })?;
    let path = inside.get(begin.len()..).filter(|path| path.starts_with('/') && !path.contains('('))?;
    Some((*tls, format!("{path}$")))
}

/// Whether what is taken for the host may go on into the path.
fn spans(host: &str) -> bool {
    host.contains(".*") || host.contains(".+")
}

/// Whether it takes all of the URL.
fn spans_to_end(host: &str) -> bool {
    [".*", ".+", ".*)", ".+)"].iter().any(|end| host.ends_with(end)) && !host.ends_with("\\.+")
}

/// Scheme and host in one group.
const JOINED: [(&str, Option<bool>); 5] = [
    ("(https?://[^/]+)", None),
    ("(https?://[^/]*)", None),
    ("(http(?:s)?://[^/]+)", None),
    ("(http://[^/]+)", Some(false)),
    ("(https://[^/]+)", Some(true)),
];

fn branches(
    parts: &Parts,
    replacement: &str,
    status: i64,
    at: Place,
    around: &mut Around<'_, '_>,
    to: &mut Treatment,
) -> Result<(), Lost> {
    if parts.tls.is_some_and(|tls| tls != around.door.tls) {
        around.report.translated(at);
        return Ok(());
    }
    let own = if around.door.tls { "https" } else { "http" };
    let whole =
        ["(.*)", "(.+)", "([^/]+)", "([^/]*)", ".*", ".+", "[^/]+", "[^/]*"].contains(&parts.host.as_str());
    let simple = simple_tail(parts);
    // A host that is all of a URL's beginning takes in what is before the path that is asked for.
    let before = simple.is_none() && whole && spans(&parts.host);
    let of_before = if before { "{group:before_it}" } else { "" };
    let Some(hosts) = hosts_of(parts, whole, (own, of_before), at, around) else { return Ok(()) };
    for (mut tests, of_host) in hosts {
        let path = match &simple {
            Some(tail) => tail.clone(),
            None => path_of(parts, before, &mut tests, at, around),
        };
        let offset = parts.scheme_groups + of_host.len();
        let location = location(replacement, own, &of_host, (offset, before), &path, parts, at, around);
        let goes_on = spans(&parts.host) && !before && !spans_to_end_alone(parts);
        if goes_on && !of_host.last().is_some_and(|host| location.contains(&format!("{host}{{uri}}"))) {
            around.report.approximated(
                at,
                "what is taken for the host ends with it; in Traefik it may go on into the path",
            );
        }
        if is_own(&location, own, around) {
            around.report.ignored(at, "it leads to where the request is already, which Traefik does not do");
            continue;
        }
        if location.is_empty() || !location.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Lost::Unsaid("a URL has no spaces and nothing beyond ASCII".to_owned()));
        }
        let answer = Answer::Redirect { to: location, status, at };
        if tests.is_empty() {
            to.end = Some(answer);
            return Ok(());
        }
        let treatment = to.answered(answer);
        to.branches.push(Branch { tests, treatment });
    }
    Ok(())
}

/// The hosts that are meant, each with what is asked for it and what its groups are; nothing where it is said what becomes of it.
fn hosts_of(
    parts: &Parts,
    whole: bool,
    (own, of_before): (&str, &str),
    at: Place,
    around: &mut Around<'_, '_>,
) -> Option<Vec<(Vec<Test>, Vec<String>)>> {
    // Groups of the host are known where the hosts are; else they are all of it.
    Some(if whole {
        let of = match (parts.host.starts_with('('), parts.joined) {
            (true, true) => vec![format!("{own}://{{host}}{}", if parts.whole { "{path}" } else { "" })],
            (true, false) => vec![format!("{{host}}{of_before}")],
            _ => Vec::new(),
        };
        vec![(Vec::new(), of)]
    } else if groups(&parts.host) == 0 {
        let Some(test) = host_test(&parts.host, around) else {
            around.report.translated(at);
            return None;
        };
        vec![(test, Vec::new())]
    } else {
        let Some(hosts) = around.hosts.clone().filter(|hosts| hosts.len() <= 8) else {
            around.report.not_possible(at, "what is taken of the host is known for routers of plain hosts only: write routes with `redirect`");
            return None;
        };
        hosts.into_iter().filter_map(|host| captures(&parts.host, &host)).collect()
    })
}

/// What is to be asked of the host; nothing where no host of the router is meant.
fn host_test(host: &str, around: &Around<'_, '_>) -> Option<Vec<Test>> {
    let regex = format!("(?i)^(?:{})(?::[0-9]+)?$", host.trim_end_matches('$'));
    let plain = host.replace('\\', "");
    if let Some(hosts) = &around.hosts {
        let fitting: Vec<String> = hosts.iter().filter(|own| matches(&regex, own)).cloned().collect();
        return match fitting.len() {
            0 => None,
            count if count == hosts.len() => Some(Vec::new()),
            _ => Some(vec![Test::Hosts(fitting)]),
        };
    }
    if super::matcher::literal(&plain) == host && crate::model::host::HostPattern::parse(&plain).is_ok() {
        return Some(vec![Test::Hosts(vec![plain.to_lowercase()])]);
    }
    Some(vec![Test::HostLike(None, regex)])
}

/// The host alone, where an expression matches it, with what its groups are.
fn captures(regex: &str, host: &str) -> Option<(Vec<Test>, Vec<String>)> {
    let regex = regex::Regex::new(&format!("(?i)^(?:{})", regex.trim_end_matches('$'))).ok()?;
    let found = regex.captures(host)?;
    let open = found.get(0).is_some_and(|all| all.end() < host.len());
    if open {
        return None;
    }
    let of = found.iter().skip(1).map(|group| group.map_or(String::new(), |group| plain(group.as_str())));
    Some((vec![Test::Hosts(vec![host.to_owned()])], of.collect()))
}

/// Whether there is nothing behind a host that takes all.
fn spans_to_end_alone(parts: &Parts) -> bool {
    parts.path.is_empty() && spans_to_end(&parts.host)
}

/// What the path is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tail {
    /// Path and query are one group, with or without the slash that they begin with.
    Uri { slash: bool },
    /// Path and query go with the group of the host.
    OfHost,
    /// Groups are of the path; the last one may go on into the query.
    Groups { query: bool },
    /// All of the path is behind what is replaced.
    Behind,
    /// The path from its second character on is.
    BehindSlash,
    /// What is behind the expression of the path stays.
    Rest,
}

/// What a path comes to of which nothing is asked.
fn simple_tail(parts: &Parts) -> Option<Tail> {
    let closed = parts.path.ends_with('$');
    match parts.path.trim_end_matches('$') {
        "" if !parts.joined && spans_to_end_alone(parts) => {
            Some(if parts.host.ends_with(')') { Tail::OfHost } else { Tail::Groups { query: false } })
        }
        "/(.*)" | "/(.+)" | "/?(.*)" => Some(Tail::Uri { slash: false }),
        "(/.*)" | "(/.*)?" | "(/?.*)" | "(.*)" | "(/.+)" => Some(Tail::Uri { slash: true }),
        "/.*" | "/?.*" | ".*" => Some(Tail::Groups { query: false }),
        "" if !closed => Some(Tail::Behind),
        "/" if !closed => Some(Tail::BehindSlash),
        _ => None,
    }
}

fn path_of(
    parts: &Parts,
    before: bool,
    tests: &mut Vec<Test>,
    at: Place,
    around: &mut Around<'_, '_>,
) -> Tail {
    let closed = parts.path.ends_with('$');
    let path = parts.path.trim_end_matches('$');
    let open = [".*)", ".+)", ".*", ".*)?"].iter().any(|end| path.ends_with(end));
    if !open && closed {
        around.report.approximated(at, "the query of a request is not looked at");
    }
    let plain = path.replace('\\', "");
    let start = if before { "^(?P<before_it>.*)" } else { "^" };
    let test = match (open, closed) {
        (true, _) => PathTest::Regex(format!("{start}{}", parts.path)),
        (false, false) => PathTest::Regex(format!("{start}{path}(?P<rest_of_it>.*)$")),
        _ if !before && super::matcher::literal(&plain) == path && plain.starts_with('/') => {
            PathTest::Exact(plain)
        }
        _ => PathTest::Regex(format!("{start}{}", parts.path)),
    };
    tests.push(Test::Path(test));
    if !open && !closed { Tail::Rest } else { Tail::Groups { query: !path.ends_with(".*") } }
}

/// Where a redirect leads, with variables.
#[expect(clippy::too_many_arguments, reason = "each is another part of one URL")]
fn location(
    replacement: &str,
    own: &str,
    of_host: &[String],
    (offset, before): (usize, bool),
    tail: &Tail,
    parts: &Parts,
    at: Place,
    around: &mut Around<'_, '_>,
) -> String {
    let count = offset + groups(&parts.path);
    let all = "(.)".repeat(count.min(64));
    let mut text = expand(replacement, 1000, &all);
    for number in (1..=count.min(64)).rev() {
        let variable = format!("{{{}}}", number + 1000);
        let value = if number <= parts.scheme_groups {
            own.to_owned()
        } else if let Some(host) = of_host.get(number - parts.scheme_groups - 1) {
            if *tail == Tail::OfHost && number == offset { format!("{host}{{uri}}") } else { host.clone() }
        } else {
            match tail {
                Tail::Uri { slash: true } => "{uri}".to_owned(),
                Tail::Uri { slash: false } => {
                    text = text.replace(&format!("/{variable}"), "{uri}");
                    "{uri}".to_owned()
                }
                _ => format!("{{{}}}", number - offset + usize::from(before)),
            }
        };
        text = text.replace(&variable, &value);
    }
    let last = format!("{{{}}}", (count + usize::from(before)).saturating_sub(offset));
    let queried = match tail {
        Tail::Behind => {
            text.push_str("{uri}");
            false
        }
        Tail::BehindSlash if text.ends_with('/') => {
            text.pop();
            text.push_str("{uri}");
            false
        }
        Tail::BehindSlash => {
            text.push_str("{uri}");
            around.report.approximated(at, "there is a slash before what stays of the URL");
            false
        }
        Tail::Rest => {
            text.push_str("{group:rest_of_it}");
            true
        }
        Tail::Groups { query } => *query && text.ends_with(&last),
        Tail::Uri { .. } | Tail::OfHost => false,
    };
    if queried {
        text.push_str("{?query}");
    }
    text
}

/// Whether a redirect leads to where requests are.
fn is_own(location: &str, own: &str, around: &Around<'_, '_>) -> bool {
    let Some(rest) = location.strip_prefix(&format!("{own}://")) else { return false };
    let Some(host) = rest.strip_suffix("{uri}") else { return false };
    host == "{host}" || around.hosts.as_ref().is_some_and(|hosts| hosts.iter().all(|own| own == host))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a redirect leads from a listener without TLS.
    fn leads(regex: &str, replacement: &str, hosts: Option<&[&str]>) -> Vec<(Vec<Test>, String)> {
        let import = Import::default();
        let mut report = super::super::super::report::Report::default();
        let mut around = Around {
            parts: &import.0,
            file: &|_| None,
            report: &mut report,
            pools: &mut Vec::new(),
            router: "r",
            middleware: "m",
            at: Place { file: 0, line: 1 },
            hosts: hosts.map(|hosts| hosts.iter().map(|&host| host.to_owned()).collect()),
            start: String::new(),
            door: &super::super::middleware::Inlet::default(),
        };
        let mut to = Treatment::default();
        let parts = take_apart(regex).expect("it is a URL");
        branches(&parts, replacement, 308, around.at, &mut around, &mut to).expect("it can be said");
        let where_to = |answer: &Option<Answer>| match answer {
            Some(Answer::Redirect { to, .. }) => to.clone(),
            _ => String::new(),
        };
        let mut out: Vec<(Vec<Test>, String)> = to
            .branches
            .iter()
            .map(|branch| (branch.tests.clone(), where_to(&branch.treatment.end)))
            .collect();
        if to.end.is_some() {
            out.push((Vec::new(), where_to(&to.end)));
        }
        out
    }

    /// A configuration without anything.
    #[derive(Default)]
    struct Import(super::super::source::Parts<'static>);

    #[test]
    fn what_is_not_matched_of_a_url_stays() {
        let always = |regex, replacement, hosts| match leads(regex, replacement, hosts).as_slice() {
            [(tests, to)] if tests.is_empty() => to.clone(),
            other => panic!("{regex}: {other:?}"),
        };
        assert_eq!(
            always("^http://old.test", "https://new.test", Some(&["old.test"])),
            "https://new.test{uri}"
        );
        assert_eq!(
            always("^http://old.test/", "https://new.test/", Some(&["old.test"])),
            "https://new.test{uri}"
        );
        assert_eq!(always("^http://(.*)", "https://$1", None), "https://{host}{uri}");
        assert_eq!(
            always("^https?://(?:www\\.)?a.test/(.*)", "https://a.test/$1", Some(&["a.test"])),
            "https://a.test{uri}"
        );
        let (tests, to) = leads("^http://www\\.(.+)", "http://$1", Some(&["www.a.test"])).pop().expect("one");
        assert_eq!(
            (tests, to.as_str()),
            (vec![Test::Hosts(vec!["www.a.test".to_owned()])], "http://a.test{uri}")
        );
        let one = |regex, replacement| leads(regex, replacement, None).pop().expect("it leads somewhere");
        let (tests, to) = one("^http://[^/]+/a", "https://x.test/b");
        assert_eq!(tests, [Test::Path(PathTest::Regex("^/a(?P<rest_of_it>.*)$".to_owned()))]);
        assert_eq!(to, "https://x.test/b{group:rest_of_it}{?query}");
        let (tests, to) = one("^(https?://[^/]+)/a$", "${1}/b");
        assert_eq!(
            (tests, to.as_str()),
            (vec![Test::Path(PathTest::Exact("/a".to_owned()))], "http://{host}/b")
        );
        let (tests, to) = one("^(https?://[^/]+/[a-z]+)$", "${1}/");
        assert_eq!(tests, [Test::Path(PathTest::Regex("^/[a-z]+$".to_owned()))]);
        assert_eq!(to, "http://{host}{path}/");
        // What goes for the host may be more than that.
        let (tests, to) = one("^http://(.*)/a/(.*)$", "https://${1}/b/$2");
        assert_eq!(tests, [Test::Path(PathTest::Regex("^(?P<before_it>.*)/a/(.*)$".to_owned()))]);
        assert_eq!(to, "https://{host}{group:before_it}/b/{2}{?query}");
        assert_eq!(always("^http://.*", "https://new.test", None), "https://new.test");
        assert_eq!(always("^http://(.+)$", "https://$1", None), "https://{host}{uri}");
        // Only by TLS, or where the request is already.
        assert_eq!(leads("^https://a.test/(.*)", "https://b.test/$1", None), []);
        assert_eq!(leads("^https?://a.test/(.*)", "http://a.test/$1", Some(&["a.test"])), []);
    }

    #[test]
    fn urls_are_taken_apart() {
        let parts = |regex: &str| take_apart(regex).map(|parts| (parts.tls, parts.host, parts.path));
        let of = |tls, host: &str, path: &str| Some((tls, host.to_owned(), path.to_owned()));
        assert_eq!(
            parts("^http://www\\.example\\.com/blog/(.*)$"),
            of(Some(false), "www\\.example\\.com", "/blog/(.*)$")
        );
        assert_eq!(parts("^(https?)://example\\.com(/.*)?$"), of(None, "example\\.com", "(/.*)?$"));
        assert_eq!(
            parts("https://(.*)/.well-known/(?:card|cal)dav"),
            of(Some(true), "(.*)", "/.well-known/(?:card|cal)dav")
        );
        assert_eq!(parts("^https?://(?:www\\.)?(.+)"), of(None, "(?:www\\.)?(.+)", ""));
        assert_eq!(parts("^/a"), None);
        assert_eq!(parts("^http://old\\.test$"), None);
        assert_eq!(parts("^http://a|https://b"), None);
    }
}
