//! Routers of HTTP: which requests they take, and what they do with them.

use std::collections::HashMap;

use super::super::report::{Place, Report, Verdict};
use super::entry::{Entry, RouterTls, router_tls};
use super::fields::Fields;
use super::matcher::{self, Asked, Term, Test};
use super::said::refused;
use super::source::{Element, Parts};
use super::tls::Tls;

/// A router.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) name: String,
    /// The line of its name.
    pub(super) at: Place,
    /// The line of its rule, where it has one.
    pub(super) rule_at: Place,
    /// The rule in one line, as far as it is short.
    pub(super) text: String,
    /// The entry points that it names.
    pub(super) entries: Option<Vec<String>>,
    pub(super) asked: Asked,
    pub(super) priority: i64,
    pub(super) middlewares: Vec<(String, Place)>,
    pub(super) tls: Option<RouterTls>,
    pub(super) work: Work,
    /// Why it cannot be said.
    pub(super) unsaid: Option<String>,
}

/// What is done with requests.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    Service(String, Place),
    /// Traefik says that it is there.
    Ping,
    /// Nobody may ask that.
    Refuse,
    /// All of an entry point is redirected.
    Redirect {
        scheme: String,
        port: String,
        permanent: bool,
        at: Place,
    },
}

/// Priorities above are Traefik's own.
pub(super) const HIGHEST: i64 = i64::MAX - 1000;

/// Reads all routers that Traefik makes.
pub(super) fn read(
    parts: &Parts<'_>,
    entries: &[Entry],
    tls: &Tls,
    old: bool,
    report: &mut Report,
) -> Vec<Router> {
    let mut out: Vec<Router> = Vec::new();
    let mut rules: HashMap<(i64, bool, String), Vec<usize>> = HashMap::new();
    let every = defaults(entries);
    for element in &parts.of("http", "routers").all {
        match one(element, entries, tls, old, report) {
            Ok((router, rule)) => {
                report.translated(router.at);
                let twins = rules.entry((router.priority, router.tls.is_some(), rule)).or_default();
                let own = router.entries.as_ref().unwrap_or(&every);
                let meets = |other: &&Router| {
                    other.entries.as_ref().unwrap_or(&every).iter().any(|name| own.contains(name))
                };
                if let Some(twin) = twins.iter().take(16).filter_map(|at| out.get(*at)).find(meets) {
                    let what = format!(
                        "{} has the same rule and priority: which of the two is asked first changes from start to start of Traefik",
                        twin.name
                    );
                    report.wrong(router.at, what);
                }
                twins.push(out.len());
                out.push(router);
            }
            Err(why) => {
                refused(element.at, element.node, &format!("Traefik does not make it: {why}"), report)
            }
        }
    }
    out
}

fn one(
    element: &Element<'_>,
    entries: &[Entry],
    tls: &Tls,
    old: bool,
    report: &mut Report,
) -> Result<(Router, String), String> {
    let mut fields = Fields::of(element.at, element.node, report);
    let named = fields.texts("entryPoints", report);
    let rule = fields.text("rule", report);
    let priority = fields.number("priority", report);
    let service = fields.text("service", report).filter(|(service, _)| !service.is_empty());
    let middlewares = fields.texts("middlewares", report);
    let syntax = fields.text("ruleSyntax", report);
    let secure = fields.table("tls", report).map(|below| router_tls(below, report));
    let parents = fields.texts("parentRefs", report);
    let text =
        "records, metrics and traces (traceparent) are of all routes: [log] access, [admin] and [tracing]";
    fields.each(Verdict::Approximated, &["observability"], text, report);
    if !fields.finish(report) && !element.unknown {
        return Err("it has options that Traefik does not know, or values that it cannot read".to_owned());
    }
    for place in [priority.map(|p| p.1), syntax.as_ref().map(|s| s.1)].into_iter().flatten() {
        report.translated(place);
    }
    let mut unsaid = element.unknown.then(|| "a template makes some of it".to_owned());
    if let Some((list, at)) = parents.filter(|(list, _)| !list.is_empty()) {
        let remedy = "routers below routers are written as one: join the rules and middlewares of both";
        report.not_possible(at, remedy);
        list.iter().for_each(|(_, at)| report.not_possible(*at, remedy));
        unsaid = Some(remedy.to_owned());
    }
    let Some((service, of_service)) = service else { return Err("it has no service".to_owned()) };
    let (text, rule_at) = rule.ok_or("it has no rule")?;
    let old = syntax.map_or(old, |(word, _)| word.eq_ignore_ascii_case("v2"));
    let asked = rules(&text, rule_at, old, report)?;
    if let Some(secure) = &secure {
        tls.known(secure)?;
    }
    let known = entry_points(named, entries, report)?;
    report.translated(rule_at);
    let priority = match priority {
        None | Some((0, _)) => i64::try_from(text.len()).unwrap_or(i64::MAX),
        Some((number, _)) if number > HIGHEST => {
            return Err(format!("its priority is higher than {HIGHEST}"));
        }
        Some((number, _)) => number,
    };
    let middlewares = middlewares.map(|(list, at)| {
        report.translated(at);
        list
    });
    let router = Router {
        name: element.name.to_owned(),
        at: element.at,
        rule_at,
        text: shortened(&text),
        entries: known,
        asked,
        priority,
        middlewares: middlewares.unwrap_or_default(),
        tls: secure,
        work: Work::Service(service, of_service),
        unsaid,
    };
    Ok((router, text))
}

fn rules(text: &str, at: Place, old: bool, report: &mut Report) -> Result<Asked, String> {
    match matcher::read(text, old) {
        Ok(asked) => {
            for remark in &asked.remarks {
                report.approximated(at, remark.clone());
            }
            for mistake in &asked.mistakes {
                report.wrong(at, mistake.clone());
            }
            for term in &asked.terms {
                for test in term.all.iter().chain(&term.none) {
                    if let Test::Unsaid(why) = test {
                        report.not_possible(at, format!("{why}: what the rest of the rule takes gets 503"));
                    }
                }
            }
            let never =
                asked.terms.is_empty() || asked.terms.iter().all(|term| term.all.contains(&Test::Never));
            if never {
                report.wrong(at, "no request is like that");
            }
            Ok(asked)
        }
        Err(why) => {
            let other = if old { 3 } else { 2 };
            let hint = if matcher::read(text, !old).is_ok() {
                format!(" (it is a rule of version {other})")
            } else {
                String::new()
            };
            report.wrong(at, format!("{why}{hint}"));
            Err(format!("its rule is wrong{hint}"))
        }
    }
}

/// The entry points that a router names and that there are.
fn entry_points(
    named: Option<(Vec<(String, Place)>, Place)>,
    entries: &[Entry],
    report: &mut Report,
) -> Result<Option<Vec<String>>, String> {
    let Some((list, at)) = named.filter(|(list, _)| !list.is_empty()) else { return Ok(None) };
    report.translated(at);
    let mut known = Vec::new();
    for (name, at) in list {
        match entries.iter().find(|entry| entry.name == name) {
            Some(entry) if !entry.udp => {
                report.translated(at);
                known.push(name);
            }
            Some(_) => report.wrong(at, format!("{name} takes datagrams: Traefik leaves it out")),
            None => report.wrong(at, format!("there is no entry point {name}: Traefik leaves it out")),
        }
    }
    if known.is_empty() { Err("none of its entry points is there".to_owned()) } else { Ok(Some(known)) }
}

/// A rule in one line.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 140;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > WIDTH { line.chars().take(WIDTH).chain("...".chars()).collect() } else { line }
}

impl Router {
    /// The hosts that its rule names.
    pub(super) fn hosts(&self) -> Vec<String> {
        let tests = self.asked.terms.iter().flat_map(|term| &term.all);
        let of = tests.filter_map(|test| match test {
            Test::Hosts(hosts) => Some(hosts.clone()),
            _ => None,
        });
        of.flatten().collect()
    }
}

/// The router that redirects all of an entry point.
pub(super) fn redirection(entry: &Entry, entries: &[Entry], report: &mut Report) -> Option<Router> {
    let to = entry.redirect.as_ref()?;
    let port = match entries.iter().find(|other| other.name == to.to) {
        Some(other) => other.port.to_string(),
        None => match to.to.strip_prefix(':') {
            Some(port) if port.parse::<u16>().is_ok() => port.to_owned(),
            _ => {
                report.wrong(to.at, format!("there is no entry point {}: Traefik does not start", to.to));
                return None;
            }
        },
    };
    let work = Work::Redirect { scheme: to.scheme.clone(), port, permanent: to.permanent, at: to.at };
    let priority = to.priority.filter(|number| *number != 0).unwrap_or(i64::MAX - 1);
    Some(own(&format!("{}-to-{}", entry.name, plain(&to.to)), entry, priority, Term::default(), to.at, work))
}

fn plain(name: &str) -> &str {
    name.trim_start_matches(':')
}

/// The router that answers pings.
pub(super) fn ping(entry: &Entry, at: Place) -> Router {
    use super::super::region::PathTest;
    let path = Test::Path(PathTest::Start("/ping".to_owned()));
    own("ping", entry, i64::MAX, Term { all: vec![path], none: Vec::new() }, at, Work::Ping)
}

/// The router that refuses what may not be encoded in a path.
pub(super) fn refusal(entry: &Entry) -> Option<Router> {
    use super::super::region::PathTest;
    let at = entry.refused.first()?.1;
    let codes: Vec<&str> = entry.refused.iter().map(|(code, _)| *code).collect();
    let path = Test::Path(PathTest::Regex(format!("(?i)%(?:{})", codes.join("|"))));
    let term = Term { all: vec![path], none: Vec::new() };
    Some(own("encoded-characters", entry, i64::MAX, term, at, Work::Refuse))
}

fn own(name: &str, entry: &Entry, priority: i64, term: Term, at: Place, work: Work) -> Router {
    Router {
        name: name.to_owned(),
        at,
        rule_at: at,
        text: match &work {
            Work::Ping => "pings are answered".to_owned(),
            Work::Refuse => "what is encoded in a path".to_owned(),
            _ => "all is redirected".to_owned(),
        },
        entries: Some(vec![entry.name.clone()]),
        asked: Asked { terms: vec![term], ..Asked::default() },
        priority,
        middlewares: Vec::new(),
        tls: None,
        work,
        unsaid: None,
    }
}

/// The entry points that a router without any is on.
pub(super) fn defaults(entries: &[Entry]) -> Vec<String> {
    let plain = |entry: &&Entry| !entry.udp && entry.name != super::entry::INTERNAL;
    let chosen: Vec<String> = entries
        .iter()
        .filter(plain)
        .filter(|entry| entry.as_default)
        .map(|entry| entry.name.clone())
        .collect();
    if chosen.is_empty() {
        entries.iter().filter(plain).map(|entry| entry.name.clone()).collect()
    } else {
        chosen
    }
}
