//! What the matchers of a rule ask, as conditions of routes: alternatives of what must hold and what must not.

use ipnet::IpNet;

use super::super::pattern::escape;
use super::super::region::{Part, PathTest, Region, ValueTest, meet, meet_hosts, meet_networks, narrow_path};
use super::gorilla;
use super::regexp::{self, Fault};
use super::rule::{Rule, parse};
use crate::model::field::FieldName;
use crate::model::host::HostPattern;

/// One question about a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Always,
    Never,
    /// The host is one of these.
    Hosts(Vec<String>),
    /// The host matches a regular expression, and so begins or ends like this.
    HostLike(Option<String>, String),
    Path(PathTest),
    Methods(Vec<String>),
    Value(Part, String, ValueTest),
    Source(Vec<IpNet>),
    /// No condition of a route says it, for this reason.
    Unsaid(String),
}

/// What must hold, and what must not.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Term {
    pub(super) all: Vec<Test>,
    pub(super) none: Vec<Test>,
}

/// A rule as alternatives.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Asked {
    pub(super) terms: Vec<Term>,
    /// How conditions differ from what is asked.
    pub(super) remarks: Vec<String>,
    /// What was surely meant otherwise.
    pub(super) mistakes: Vec<String>,
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

/// A rule with more alternatives is not written out.
const TERMS_MAX: usize = 64;

/// Reads a rule in the syntax of version 2 or 3.
///
/// # Errors
/// What Traefik does not understand of it.
pub(super) fn read(text: &str, old: bool) -> Result<Asked, String> {
    let mut remarks = Vec::new();
    let rule = parse(text)?;
    let logic = logic(&rule, old, &mut remarks)?;
    let terms = logic.terms(true).map(|terms| terms.into_iter().map(Term::joined).collect());
    let terms = terms.unwrap_or_else(|| {
        let why = format!("it comes to more than {TERMS_MAX} alternatives");
        vec![Term { all: vec![Test::Unsaid(why)], none: Vec::new() }]
    });
    let mut mistakes = Vec::new();
    if !old && has_variables(&rule) {
        mistakes.push("variables in braces are of version 2 of rules: here they are plain text".to_owned());
    }
    Ok(Asked { terms, remarks, mistakes })
}

/// Whether a text of a rule has `{name}` or `{name:regex}` in it.
fn has_variables(rule: &Rule) -> bool {
    let named = |text: &String| {
        text.split('{').skip(1).any(|rest| {
            let name = rest.split([':', '}']).next().unwrap_or("");
            rest.contains('}') && name.starts_with(|c: char| c.is_ascii_alphabetic())
        })
    };
    match rule {
        Rule::Call(name, values) => {
            let of_url = ["host", "path"].iter().any(|start| name.to_ascii_lowercase().starts_with(start));
            of_url && values.iter().any(named)
        }
        Rule::All(rules) | Rule::Any(rules) => rules.iter().any(has_variables),
        Rule::Not(rule) => has_variables(rule),
    }
}

/// A rule over questions.
#[derive(Debug, Clone)]
enum Logic {
    Ask(Test),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

fn logic(rule: &Rule, old: bool, remarks: &mut Vec<String>) -> Result<Logic, String> {
    let many = |rules: &[Rule], remarks: &mut Vec<String>| -> Result<Vec<Logic>, String> {
        rules.iter().map(|rule| logic(rule, old, remarks)).collect()
    };
    Ok(match rule {
        Rule::All(rules) => Logic::All(many(rules, remarks)?),
        Rule::Any(rules) => Logic::Any(many(rules, remarks)?),
        Rule::Not(rule) => Logic::Not(Box::new(logic(rule, old, remarks)?)),
        Rule::Call(name, values) => call(name, values, old, remarks)?,
    })
}

impl Logic {
    /// Its alternatives, or those of its opposite; nothing where they are too many.
    fn terms(&self, holds: bool) -> Option<Vec<Term>> {
        Some(match (self, holds) {
            (Self::Ask(Test::Always), true) | (Self::Ask(Test::Never), false) => vec![Term::default()],
            (Self::Ask(Test::Always), false) | (Self::Ask(Test::Never), true) => Vec::new(),
            (Self::Ask(test), true) => vec![Term { all: vec![test.clone()], none: Vec::new() }],
            (Self::Ask(test), false) => vec![Term { all: Vec::new(), none: vec![test.clone()] }],
            (Self::Not(inside), holds) => inside.terms(!holds)?,
            (Self::All(parts), true) | (Self::Any(parts), false) => {
                let mut out = vec![Term::default()];
                for part in parts {
                    let more = part.terms(holds)?;
                    if out.len() * more.len() > TERMS_MAX {
                        return None;
                    }
                    let both = |a: &Term| more.iter().map(|b| a.with(b)).collect::<Vec<_>>();
                    out = out.iter().flat_map(both).collect();
                }
                out
            }
            (Self::Any(parts), true) | (Self::All(parts), false) => {
                let mut out = Vec::new();
                for part in parts {
                    out.extend(part.terms(holds)?);
                }
                let out = merge(out);
                if out.len() > TERMS_MAX {
                    return None;
                }
                out
            }
        })
    }
}

impl Term {
    fn with(&self, other: &Self) -> Self {
        let join = |a: &[Test], b: &[Test]| {
            let new = b.iter().filter(|test| !a.contains(test));
            a.iter().chain(new).cloned().collect()
        };
        Self { all: join(&self.all, &other.all), none: join(&self.none, &other.none) }
    }

    /// What must not hold, as few questions as say it: none of several is not one of them.
    fn joined(self) -> Self {
        let one = |test| Self { all: vec![test], none: Vec::new() };
        let none = merge(self.none.into_iter().map(one).collect());
        Self { all: self.all, none: none.into_iter().flat_map(|term| term.all).collect() }
    }
}

/// Makes one of alternatives that ask about the same thing.
fn merge(terms: Vec<Term>) -> Vec<Term> {
    let (mut hosts, mut methods, mut networks, mut paths, mut out) = (vec![], vec![], vec![], vec![], vec![]);
    for term in terms {
        match (term.all.as_slice(), term.none.as_slice()) {
            ([Test::Hosts(more)], []) => hosts.extend(more.iter().cloned()),
            ([Test::Methods(more)], []) => methods.extend(more.iter().cloned()),
            ([Test::Source(more)], []) => networks.extend(more.iter().copied()),
            ([Test::Path(path)], []) => paths.push(path.clone()),
            _ => out.push(term),
        }
    }
    let mut add = |test: Test| out.push(Term { all: vec![test], none: Vec::new() });
    if !hosts.is_empty() {
        add(Test::Hosts(once(hosts)));
    }
    if !methods.is_empty() {
        add(Test::Methods(once(methods)));
    }
    if !networks.is_empty() {
        add(Test::Source(once(networks)));
    }
    if !paths.is_empty() {
        add(Test::Path(one_path(once(paths))));
    }
    out
}

fn once<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut out: Vec<T> = Vec::new();
    for one in list {
        if out.len() < 10_000 && !out.contains(&one) {
            out.push(one);
        }
    }
    out
}

/// One condition for several paths: `/a` and what begins with `/a/` are a prefix.
fn one_path(mut paths: Vec<PathTest>) -> PathTest {
    let exact: Vec<String> = paths
        .iter()
        .filter_map(|path| match path {
            PathTest::Exact(path) => Some(format!("{path}/")),
            _ => None,
        })
        .collect();
    let starts: Vec<String> = paths
        .iter()
        .filter_map(|path| match path {
            PathTest::Start(text) if exact.contains(text) => Some(text.clone()),
            _ => None,
        })
        .collect();
    paths.retain(|path| !matches!(path, PathTest::Exact(path) if starts.contains(&format!("{path}/"))));
    for path in &mut paths {
        if let PathTest::Start(text) = path
            && starts.contains(text)
        {
            *path = PathTest::Prefix(text.trim_end_matches('/').to_owned());
        }
    }
    match paths.as_slice() {
        [one] => one.clone(),
        many => PathTest::Regex(many.iter().map(PathTest::regex).collect::<Vec<_>>().join("|")),
    }
}

impl Region {
    /// The requests of this region to which the answer is yes.
    pub(super) fn asked(&self, test: &Test) -> Narrowed {
        // Most questions are of requests that this region has none of: nothing is copied for these.
        let narrowed = match test {
            Test::Always => Ok(Some(self.clone())),
            Test::Never => Ok(None),
            Test::Unsaid(why) => return Narrowed::Impossible(why.clone()),
            Test::Hosts(hosts) => Ok(meet_hosts(self.hosts.as_deref(), hosts)
                .map(|hosts| Self { hosts: Some(hosts), ..self.clone() })),
            Test::HostLike(hosts, regex) => {
                let narrowed = match hosts {
                    Some(hosts) => self.asked(&Test::Hosts(vec![hosts.clone()])),
                    None => Narrowed::To(self.clone()),
                };
                match narrowed {
                    Narrowed::To(out) => {
                        out.narrow_value(Part::Header, "host", &ValueTest::Regex(regex.clone()))
                    }
                    other => return other,
                }
            }
            Test::Methods(methods) => {
                Ok(meet(self.methods.as_deref(), methods, |a, b| (a == b).then(|| a.clone()))
                    .map(|methods| Self { methods: Some(methods), ..self.clone() }))
            }
            Test::Source(networks) => Ok(meet_networks(self.source.as_deref(), networks)
                .map(|source| Self { source: Some(source), ..self.clone() })),
            Test::Path(path) => narrow_path(self.path.as_ref(), path)
                .map(|path| path.map(|path| Self { path: Some(path), ..self.clone() })),
            Test::Value(part, name, value) => self.clone().narrow_value(*part, name, value),
        };
        match narrowed {
            Ok(Some(region)) => Narrowed::To(region),
            Ok(None) => Narrowed::Empty,
            Err(why) => Narrowed::Impossible(why.to_owned()),
        }
    }
}

/// A matcher with its values.
type Call = fn(&[String], &mut Vec<String>) -> Result<Logic, String>;

/// Matchers of version 3, with how many values they take.
const NEW: [(&str, usize, usize, Call); 11] = [
    ("ClientIP", 1, 1, client),
    ("Method", 1, 1, methods),
    ("Host", 1, 1, host),
    ("HostRegexp", 1, 1, host_regexp),
    ("Path", 1, 1, |values, _| path(values, PathTest::Exact)),
    ("PathPrefix", 1, 1, |values, _| path(values, PathTest::Start)),
    ("PathRegexp", 1, 1, path_regexp),
    ("Header", 2, 2, |values, _| field(values, false)),
    ("HeaderRegexp", 2, 2, |values, _| field(values, true)),
    ("Query", 1, 2, |values, remarks| query(values, false, remarks)),
    ("QueryRegexp", 1, 2, |values, remarks| query(values, true, remarks)),
];

/// Matchers of version 2.
const OLD: [(&str, usize, usize, Call); 10] = [
    ("ClientIP", 1, usize::MAX, client),
    ("Method", 1, usize::MAX, methods),
    ("Host", 1, usize::MAX, old_host),
    ("HostHeader", 1, usize::MAX, old_host),
    ("HostRegexp", 1, usize::MAX, old_host_regexp),
    ("Path", 1, usize::MAX, |values, _| old_path(values, false)),
    ("PathPrefix", 1, usize::MAX, |values, _| old_path(values, true)),
    ("Headers", 2, usize::MAX, |values, _| old_fields(values, false)),
    ("HeadersRegexp", 2, usize::MAX, |values, _| old_fields(values, true)),
    ("Query", 1, usize::MAX, old_query),
];

fn call(name: &str, values: &[String], old: bool, remarks: &mut Vec<String>) -> Result<Logic, String> {
    let known: &[(&str, usize, usize, Call)] = if old { &OLD } else { &NEW };
    let title = |known: &str| {
        let mut chars = known.chars();
        let first: String = chars.by_ref().take(1).collect();
        first + &chars.as_str().to_lowercase()
    };
    let named = |known: &str| {
        name == known || name == known.to_lowercase() || name == known.to_uppercase() || name == title(known)
    };
    let Some((_, least, most, make)) = known.iter().find(|(known, ..)| named(known)) else {
        return Err(format!("there is no matcher `{name}` in version {} of rules", if old { 2 } else { 3 }));
    };
    if values.len() < *least || values.len() > *most {
        let wanted = if least == most { least.to_string() } else { format!("{least} or more") };
        return Err(format!("`{name}` takes {wanted} of values, not {}", values.len()));
    }
    if values.iter().any(String::is_empty) {
        return Err(format!("`{name}` is asked for an empty text"));
    }
    make(values, remarks)
}

fn client(values: &[String], _: &mut Vec<String>) -> Result<Logic, String> {
    let networks = values.iter().map(|text| network(text).ok_or_else(|| format!("`{text}` is no network")));
    Ok(Logic::Ask(Test::Source(networks.collect::<Result<_, _>>()?)))
}

/// A network, or an address alone.
#[must_use]
pub(super) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let net: Option<IpNet> =
        text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    net.map(|net| net.trunc())
}

fn methods(values: &[String], _: &mut Vec<String>) -> Result<Logic, String> {
    Ok(Logic::Ask(Test::Methods(values.iter().map(|method| method.to_uppercase()).collect())))
}

fn host(values: &[String], remarks: &mut Vec<String>) -> Result<Logic, String> {
    let text = values.first().map_or("", String::as_str);
    if text == "*" {
        return Ok(Logic::Ask(Test::Always));
    }
    if !text.is_ascii() {
        return Err(format!("`{text}` has letters that no host has"));
    }
    let host = text.trim_end_matches('.').to_lowercase();
    if host.starts_with("*.") {
        remarks.push(format!("{host} takes names of several labels in the place of the star as well"));
    }
    Ok(match HostPattern::parse(&host) {
        Ok(_) => Logic::Ask(Test::Hosts(vec![host])),
        // No request can have it.
        Err(_) => Logic::Ask(Test::Never),
    })
}

fn old_host(values: &[String], remarks: &mut Vec<String>) -> Result<Logic, String> {
    let all: Result<Vec<Logic>, String> =
        values.iter().map(|value| host(std::slice::from_ref(value), remarks)).collect();
    Ok(Logic::Any(all?))
}

fn host_regexp(values: &[String], _: &mut Vec<String>) -> Result<Logic, String> {
    let text = values.first().map_or("", String::as_str);
    if !text.is_ascii() {
        return Err(format!("`{text}` has letters that no host has"));
    }
    host_like(text)
}

/// The host matches a regular expression. The field also has the port.
fn host_like(regex: &str) -> Result<Logic, String> {
    let regex = match regexp::read(regex) {
        Ok(regex) => regex,
        Err(Fault::Wrong(why)) => return Err(why),
        Err(Fault::Unsaid(why)) => return Ok(Logic::Ask(Test::Unsaid(why))),
    };
    // Whatever has a character.
    if ["^.+$", ".+", "^.*$", ".*"].contains(&regex.as_str()) {
        return Ok(Logic::Ask(Test::Always));
    }
    let with_port = format!("(?i){}", before_port(&regex));
    Ok(Logic::Ask(Test::HostLike(suffix(&regex), with_port)))
}

/// The same expression for a text with a port behind the host: every `$` is before that.
fn before_port(regex: &str) -> String {
    let mut out = String::with_capacity(regex.len() + 16);
    let (mut escaped, mut class) = (false, false);
    for c in regex.chars() {
        match c {
            '$' if !escaped && !class => out.push_str("\\.?(?::[0-9]+)?$"),
            c => out.push(c),
        }
        class = match c {
            '[' if !escaped => true,
            ']' if !escaped => false,
            _ => class,
        };
        escaped = c == '\\' && !escaped;
    }
    out
}

/// `*.example.com` where the expression ends with `\.example\.com$`.
#[must_use]
pub(super) fn suffix(regex: &str) -> Option<String> {
    let rest = regex.strip_suffix('$')?;
    if regexp::divided(rest) || rest.replace("(?:", "").contains("(?") {
        return None;
    }
    let mut labels: Vec<&str> = Vec::new();
    let mut left = rest;
    while let Some((before, label)) = left.rsplit_once("\\.") {
        let plain = !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain {
            break;
        }
        labels.push(label);
        left = before;
    }
    labels.reverse();
    let host = format!("*.{}", labels.join(".").to_lowercase());
    (!labels.is_empty() && HostPattern::parse(&host).is_ok()).then_some(host)
}

fn old_host_regexp(values: &[String], _: &mut Vec<String>) -> Result<Logic, String> {
    let all = values.iter().map(|text| host_like(&gorilla::regex(text, gorilla::Kind::Host)?));
    Ok(Logic::Any(all.collect::<Result<_, String>>()?))
}

fn path(values: &[String], make: fn(String) -> PathTest) -> Result<Logic, String> {
    let text = values.first().map_or("", String::as_str);
    if !text.starts_with('/') {
        return Err(format!("`{text}` does not begin with a slash"));
    }
    Ok(Logic::Ask(match make(text.to_owned()) {
        PathTest::Start(text) if text == "/" => Test::Always,
        test if is_plain(text) => Test::Path(test),
        PathTest::Start(text) => Test::Path(PathTest::Regex(format!("^{}", encoded(&text)))),
        _ => Test::Path(PathTest::Regex(format!("^{}$", encoded(text)))),
    }))
}

/// Whether a path may have these characters as they are: they have one spelling in a URL.
#[must_use]
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&b))
}

/// The expression for a path that Traefik compares decoded: what has to be encoded in a URL, or may be.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let mut bytes = [0; 4];
        let spelt: String = c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect();
        if is_plain(c.encode_utf8(&mut [0; 4])) {
            out.push_str(&escape(c.encode_utf8(&mut [0; 4])));
        } else if c.is_ascii_graphic() && !"?#".contains(c) {
            out.push_str(&format!("(?:{}|{spelt})", escape(c.encode_utf8(&mut [0; 4]))));
        } else {
            out.push_str(&spelt);
        }
    }
    out
}

fn path_regexp(values: &[String], _: &mut Vec<String>) -> Result<Logic, String> {
    let text = values.first().map_or("", String::as_str);
    if !text.is_ascii() || text.contains(' ') {
        return Ok(Logic::Ask(Test::Unsaid(
            "paths are compared as URLs have them: write what it asks for percent-encoded".to_owned(),
        )));
    }
    checked(text, |regex| Test::Path(PathTest::Regex(regex)))
}

/// The question, where the expression is one.
fn checked(regex: &str, test: impl FnOnce(String) -> Test) -> Result<Logic, String> {
    match regexp::read(regex) {
        Ok(regex) => Ok(Logic::Ask(test(regex))),
        Err(Fault::Wrong(why)) => Err(why),
        Err(Fault::Unsaid(why)) => Ok(Logic::Ask(Test::Unsaid(why))),
    }
}

fn old_path(values: &[String], prefix: bool) -> Result<Logic, String> {
    let one = |text: &String| -> Result<Logic, String> {
        if !text.contains('{') {
            let make = if prefix { PathTest::Start } else { PathTest::Exact };
            return path(std::slice::from_ref(text), make);
        }
        let kind = if prefix { gorilla::Kind::Prefix } else { gorilla::Kind::Path };
        path_regexp(&[gorilla::regex(text, kind)?], &mut Vec::new())
    };
    Ok(Logic::Any(values.iter().map(one).collect::<Result<_, _>>()?))
}

fn field(values: &[String], regex: bool) -> Result<Logic, String> {
    let [name, value, ..] = values else { return Err("a field has a name and a value".to_owned()) };
    let name = name.to_ascii_lowercase();
    if FieldName::new(&name).is_err() {
        return Ok(Logic::Ask(Test::Never));
    }
    // Go takes the host out of the fields.
    if name == "host" {
        return Ok(Logic::Ask(Test::Never));
    }
    if regex {
        checked(value, |regex| Test::Value(Part::Header, name, ValueTest::Regex(regex)))
    } else {
        Ok(Logic::Ask(Test::Value(Part::Header, name, ValueTest::Exact(value.clone()))))
    }
}

fn old_fields(values: &[String], regex: bool) -> Result<Logic, String> {
    if !values.len().is_multiple_of(2) {
        return Err("fields come in pairs of name and value".to_owned());
    }
    Ok(Logic::All(values.chunks(2).map(|pair| field(pair, regex)).collect::<Result<_, _>>()?))
}

fn query(values: &[String], regex: bool, remarks: &mut Vec<String>) -> Result<Logic, String> {
    let name = values.first().cloned().unwrap_or_default();
    let value = values.get(1);
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    match value.filter(|_| regex) {
        Some(regex) => checked(regex, |regex| Test::Value(Part::Query, name, ValueTest::Regex(regex))),
        None => {
            let text = value.cloned().unwrap_or_default();
            if !plain(&name) || !plain(&text) {
                remarks.push(
                    "parameters are compared as they are sent: write the value as clients encode it"
                        .to_owned(),
                );
            }
            Ok(Logic::Ask(Test::Value(Part::Query, name, ValueTest::Exact(text))))
        }
    }
}

fn old_query(values: &[String], remarks: &mut Vec<String>) -> Result<Logic, String> {
    let one = |text: &String, remarks: &mut Vec<String>| -> Result<Logic, String> {
        let Some((name, value)) = text.split_once('=') else {
            return Err("a query is NAME=VALUE".to_owned());
        };
        if value.is_empty() {
            return Ok(Logic::Ask(Test::Value(
                Part::Query,
                name.to_owned(),
                ValueTest::Regex(String::new()),
            )));
        }
        if !value.contains('{') {
            return query(&[name.to_owned(), value.to_owned()], false, remarks);
        }
        let regex = gorilla::regex(value, gorilla::Kind::Query)?;
        query(&[name.to_owned(), regex], true, remarks)
    };
    Ok(Logic::All(values.iter().map(|text| one(text, remarks)).collect::<Result<_, _>>()?))
}

/// A text of a regular expression that is nothing else.
#[must_use]
pub(super) fn literal(text: &str) -> String {
    escape(text)
}

#[cfg(test)]
mod tests {
    use super::super::super::pattern::matches;
    use super::*;

    fn terms(rule: &str) -> Vec<Term> {
        read(rule, false).expect("it is a rule").terms
    }

    #[test]
    fn what_asks_about_one_thing_is_one_question() {
        let hosts = |names: &[&str]| Test::Hosts(names.iter().map(|&name| name.to_owned()).collect());
        let of = |all: Vec<Test>, none: Vec<Test>| Term { all, none };
        assert_eq!(
            terms("Host(`A.test`) || Host(`b.test.`)"),
            [of(vec![hosts(&["a.test", "b.test"])], vec![])]
        );
        assert_eq!(
            terms("Host(`a.test`) && !(Path(`/a`) || PathPrefix(`/a/`))"),
            [of(vec![hosts(&["a.test"])], vec![Test::Path(PathTest::Prefix("/a".to_owned()))])]
        );
        assert_eq!(terms("PathPrefix(`/`)"), [Term::default()]);
        assert_eq!(terms("!PathPrefix(`/`)"), []);
        let many =
            (0..200).map(|at| format!("(Host(`a{at}`) || Path(`/{at}`))")).collect::<Vec<_>>().join(" && ");
        assert!(
            matches!(terms(&many).as_slice(), [term] if matches!(term.all.as_slice(), [Test::Unsaid(_)]))
        );
    }

    #[test]
    fn paths_are_compared_as_urls_spell_them() {
        let regex = |rule: &str| match terms(rule).remove(0).all.remove(0) {
            Test::Path(PathTest::Regex(regex)) => regex,
            other => panic!("{other:?}"),
        };
        assert!(matches(&regex("PathPrefix(`/a b`)"), "/a%20b/c"));
        let braces = regex("Path(`/{a}`)");
        assert!(matches(&braces, "/{a}") && matches(&braces, "/%7Ba%7D") && !matches(&braces, "/{a}/"));
        assert!(matches(&regex("Path(`/\u{fc}`)"), "/%C3%BC"));
    }

    #[test]
    fn a_host_is_matched_with_its_port() {
        let asked = terms("HostRegexp(`^[a-z]+\\.s3\\.test$`)");
        let [Test::HostLike(Some(suffix), regex)] = asked[0].all.as_slice() else { panic!("{asked:?}") };
        assert_eq!(suffix, "*.s3.test");
        assert!(["a.s3.test", "A.s3.test:80", "a.s3.test."].iter().all(|host| matches(regex, host)));
        assert!(["a1.s3.test", "a.s3.test.org"].iter().all(|host| !matches(regex, host)));
    }
}
