//! ACLs: what a sample fetch with its patterns asks of a request (configuration manual, section 7), as tests.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::super::pattern::{Method, fault, regex};
use super::super::region::{Part, PathTest, ValueTest};
use super::super::surroundings::Surroundings;
use super::said::{Said, not_possible, wrong};
use super::test::{Test, merge};

/// An ACL, read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Acl {
    /// It holds when one of these does.
    pub(super) any: Vec<Test>,
    /// How these differ from what HAProxy asks.
    pub(super) caveat: Option<&'static str>,
    /// HAProxy also asks of what no route looks at: for a refusal this is too little.
    pub(super) partial: bool,
}

impl From<Test> for Acl {
    fn from(test: Test) -> Self {
        Self { any: vec![test], caveat: None, partial: false }
    }
}

/// More patterns of one ACL are refused: a file of them is a list for a firewall.
const PATTERNS_MAX: usize = 20_000;

/// What stands behind the name of an ACL.
struct Question<'a> {
    fetch: &'a str,
    argument: &'a str,
    converters: Vec<&'a str>,
    method: Option<Method>,
    found: bool,
    /// Patterns are numbers, addresses or truths.
    typed: bool,
    any_case: bool,
    texts: Vec<String>,
}

/// The tests that HAProxy knows by name (section 7.4).
#[must_use]
pub(super) fn predefined(name: &str) -> Option<Acl> {
    let methods = |list: &[&str]| Test::Methods(list.iter().map(|&method| method.to_owned()).collect());
    Some(Acl::from(match name {
        "TRUE" | "WAIT_END" | "HTTP" | "REQ_CONTENT" => Test::Always,
        "FALSE" => Test::Never,
        "LOCALHOST" => Test::Source(networks(&["127.0.0.0/8".to_owned(), "::1".to_owned()]).ok()?),
        "METH_CONNECT" => methods(&["CONNECT"]),
        "METH_DELETE" => methods(&["DELETE"]),
        "METH_GET" => methods(&["GET", "HEAD"]),
        "METH_HEAD" => methods(&["HEAD"]),
        "METH_OPTIONS" => methods(&["OPTIONS"]),
        "METH_POST" => methods(&["POST"]),
        "METH_PUT" => methods(&["PUT"]),
        "METH_TRACE" => methods(&["TRACE"]),
        "HTTP_URL_SLASH" => Test::Path(PathTest::Regex("^/".to_owned())),
        "HTTP_URL_STAR" => Test::Path(PathTest::Regex(r"^\*$".to_owned())),
        _ => return None,
    }))
}

/// Reads a fetch with its flags and patterns.
///
/// # Errors
/// What is to be said of one that no route can ask.
pub(super) fn read(words: &[String], around: Surroundings<'_>) -> Result<Acl, Said> {
    let mut question = split(words, around)?;
    keys_of_map(&mut question, around)?;
    if question.texts.len() > PATTERNS_MAX {
        return Err(not_possible(format!(
            "more than {PATTERNS_MAX} patterns are for a firewall, or an endpoint, to look at"
        )));
    }
    let mut acl = ask(&question)?;
    acl.any = merge(acl.any);
    for test in &acl.any {
        let (Test::Path(PathTest::Regex(regex)) | Test::Value(_, _, ValueTest::Regex(regex))) = test else {
            continue;
        };
        if let Some(why) = fault(regex) {
            return Err(not_possible(format!(
                "the regular expression is not one that Plimsoll reads ({why}): write it in other words"
            )));
        }
    }
    Ok(acl)
}

fn split<'a>(words: &'a [String], around: Surroundings<'_>) -> Result<Question<'a>, Said> {
    let Some((first, mut rest)) = words.split_first() else { return Err(wrong("the condition is empty")) };
    let mut parts = top_level(first).into_iter();
    let head = parts.next().unwrap_or("");
    let (name, argument) = match head.split_once('(') {
        Some((name, inside)) => (name, inside.strip_suffix(')').unwrap_or(inside)),
        None => (head, ""),
    };
    let (fetch, method) = of_suffix(name);
    let mut question = Question {
        fetch,
        argument: argument.trim(),
        converters: parts.collect(),
        method,
        found: false,
        typed: false,
        any_case: false,
        texts: Vec::new(),
    };
    while let [flag, behind @ ..] = rest {
        match flag.as_str() {
            "-i" => question.any_case = true,
            "-n" | "-u" => {}
            "-m" | "-f" | "-M" => {
                let value = behind.first().map_or("", String::as_str);
                rest = behind.get(1..).unwrap_or_default();
                match flag.as_str() {
                    "-m" => matched_by(&mut question, value)?,
                    "-f" => question.texts.extend(from_file(value, around)?),
                    _ => return Err(not_possible("maps are not read: write the patterns")),
                }
                continue;
            }
            "--" => {
                rest = behind;
                break;
            }
            _ => break,
        }
        rest = behind;
    }
    question.texts.extend(rest.iter().cloned());
    Ok(question)
}

/// `a(b,c),d` is `a(b,c)` and `d`.
pub(super) fn top_level(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (0usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                out.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    out.extend(text.get(start..));
    out
}

/// `path_beg` is `path`, compared at its start.
fn of_suffix(name: &str) -> (&str, Option<Method>) {
    const SUFFIXES: [(&str, Method); 7] = [
        ("_beg", Method::Start),
        ("_end", Method::End),
        ("_sub", Method::Inside),
        ("_dir", Method::Directory),
        ("_dom", Method::Domain),
        ("_reg", Method::Regex),
        ("_str", Method::Exact),
    ];
    for (suffix, method) in SUFFIXES {
        if let Some(fetch) = name.strip_suffix(suffix) {
            return (fetch, Some(method));
        }
    }
    (name, None)
}

fn matched_by(question: &mut Question<'_>, word: &str) -> Result<(), Said> {
    question.method = Some(match word {
        "str" => Method::Exact,
        "beg" => Method::Start,
        "end" => Method::End,
        "sub" => Method::Inside,
        "dir" => Method::Directory,
        "dom" => Method::Domain,
        "reg" => Method::Regex,
        "found" => {
            question.found = true;
            return Ok(());
        }
        "ip" | "int" | "bool" => {
            question.typed = true;
            return Ok(());
        }
        "len" | "bin" => {
            return Err(not_possible("a route compares texts: exactly, or with a regular expression"));
        }
        _ => return Err(wrong(format!("there is no match method `{word}`"))),
    });
    Ok(())
}

fn from_file(path: &str, around: Surroundings<'_>) -> Result<Vec<String>, Said> {
    let Some(text) = (around.read)(Path::new(path)) else {
        return Err(not_possible(format!(
            "the file {path} is not here: import where it is, or write its patterns"
        )));
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// `path,map(FILE) -m found` asks for every key of the map, `path,map(FILE) a` for those of the value a.
fn keys_of_map(question: &mut Question<'_>, around: Surroundings<'_>) -> Result<(), Said> {
    let Some(at) = question.converters.iter().position(|converter| converter.trim().starts_with("map"))
    else {
        return Ok(());
    };
    if question.converters.len() > at + 1 {
        return Err(not_possible("what comes out of a map is compared as it is"));
    }
    let map = super::map::Map::read(question.converters.get(at).map_or("", |converter| converter.trim()))?;
    let exact = question.method.is_none_or(|method| method == Method::Exact);
    if !exact && !question.found {
        return Err(not_possible("what comes out of a map is compared as a whole"));
    }
    let entries = map.entries(around)?.into_iter();
    let values = std::mem::take(&mut question.texts);
    let wanted = |value: &String| question.found || values.contains(value);
    question.texts = entries.filter(|(_, value)| wanted(value)).map(|(key, _)| key).collect();
    question.converters.truncate(at);
    question.found = false;
    question.method = None;
    match map.method {
        "ip" => Ok(()),
        method => matched_by(question, method),
    }
}

fn ask(question: &Question<'_>) -> Result<Acl, Said> {
    let texts = &question.texts;
    let (mut any_case, mut host_only) = (question.any_case, false);
    for converter in &question.converters {
        match *converter {
            "lower" | "upper" => any_case = true,
            "host_only" | "field(1,:)" => host_only = true,
            "url_dec" | "url_dec()" => {}
            other => {
                return Err(not_possible(format!("the converter {other} has no counterpart in conditions")));
            }
        }
    }
    let question = &Question { any_case, converters: Vec::new(), texts: texts.clone(), ..*question };
    let is_host =
        question.argument.split(',').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("host"));
    if host_only && !is_host {
        return Err(not_possible(
            "a route compares a whole value: write it with -m beg, or as an expression",
        ));
    }
    let of_text = ["hdr", "req.hdr", "req.fhdr", "req_hdr", "cook", "req.cook", "urlp", "url_param", "path"];
    if question.typed && of_text.contains(&question.fetch) {
        return Err(not_possible(
            "a route compares texts: numbers and addresses in fields are not read; who the client is says client_address of the listener",
        ));
    }
    match question.fetch {
        "path" | "url" | "pathq" => path(question),
        "hdr" | "req.hdr" | "req.fhdr" | "req_hdr" if is_host => host(question, host_only),
        "hdr" | "req.hdr" | "req.fhdr" | "req_hdr" => value(question, Part::Header),
        "hdr_cnt" | "req.hdr_cnt" | "req.fhdr_cnt" => count(question, Part::Header),
        "cook" | "req.cook" | "req.cook_cnt" | "cook_cnt" => value(question, Part::Cookie),
        "urlp" | "url_param" => value(question, Part::Query),
        "method" if question.method.is_some_and(|method| method != Method::Exact) || question.found => {
            Err(not_possible("methods are written by their names: one line may have many"))
        }
        "method" => Ok(Test::Methods(texts.iter().map(|text| text.to_ascii_uppercase()).collect()).into()),
        "src" => networks(texts).map(|list| Test::Source(list).into()),
        "ssl_fc_sni" | "req.ssl_sni" | "req_ssl_sni" if question.found => {
            Err(not_possible("a client without a name is one that no name of a route takes: write the names"))
        }
        "ssl_fc_sni" => server_names(question, Test::TlsHosts).map(|acl| Acl {
            caveat: Some(
                "it goes by the request's host: a name in a ClientHello that is another one is not seen",
            ),
            ..acl
        }),
        "req.ssl_sni" | "req_ssl_sni" => server_names(question, Test::Sni),
        "req.ssl_hello_type" | "req_ssl_hello_type" | "req.ssl_ver" => Ok(Test::Always.into()),
        "ssl_fc" => Ok(Test::Tls(truth(texts)).into()),
        "dst_port" => ports(texts),
        "nbsrv" => servers(question),
        "always_true" => Ok(if truth(texts) { Test::Always } else { Test::Never }.into()),
        "always_false" => Ok(if truth(texts) { Test::Never } else { Test::Always }.into()),
        "http_auth" => Ok(Test::Auth(question.argument.to_owned(), None).into()),
        "http_auth_group" if texts.len() == 1 => {
            Ok(Test::Auth(question.argument.to_owned(), texts.first().cloned()).into())
        }
        name if super::limit::counts(name) => super::limit::asked(name, question.argument, texts)?
            .map(|asked| Test::Faster(asked).into())
            .ok_or_else(|| unknown(name)),
        "req.proto_http" | "req_proto_http" => Ok(Test::Always.into()),
        _ => Err(unknown(question.fetch)),
    }
}

/// Fetches that HAProxy does not have, though the names look as if it did.
const NEVER_THERE: [&str; 2] = ["_conn_fail", "_marked_remove"];

fn unknown(fetch: &str) -> Said {
    if fetch.starts_with("sc") && NEVER_THERE.iter().any(|end| fetch.ends_with(end)) {
        return wrong(format!(
            "there is no fetch `{fetch}`, so HAProxy rejects the file. Counters of a tracked client are conn_cnt, conn_cur, conn_rate, http_req_rate, http_err_rate, gpc0 and the like; they tell of the client, never of a server: `observe` does, and [pool.NAME.outlier] here"
        ));
    }
    match fetch {
        "http_auth_group" => not_possible("one group is asked for in a line"),
        "base" => not_possible("write the host and the path as two conditions"),
        "query" => not_possible("a route looks at single parameters: write urlp(NAME)"),
        "status" | "res.hdr" | "res.cook" | "res.len" => not_possible(
            "what is done with an answer does not depend on the answer: error_pages with intercept_errors look at its status",
        ),
        "rand" => not_possible("a share of the traffic is a route with `split`"),
        "var" | "txn" => {
            not_possible("requests carry no variables: write what was put into it as the condition")
        }
        name if name.starts_with("sc") || name.starts_with("src_") => {
            not_possible("counters of clients are not asked by routes: rates have limits of their own")
        }
        name if name.starts_with("ssl_c") => {
            not_possible("client certificates are verified, or not: set tls.client_ca of the listener")
        }
        name if name.starts_with("lua.") => not_possible("Lua is not embedded"),
        name => not_possible(format!(
            "a route does not look at `{name}`: it has host, path, method, fields, query, cookies and the client's network"
        )),
    }
}

/// Booleans are compared with 1 unless something else is written.
fn truth(texts: &[String]) -> bool {
    !texts.iter().any(|text| text == "0" || text == "false" || text == "off")
}

fn path(question: &Question<'_>) -> Result<Acl, Said> {
    let method = question.method.unwrap_or(Method::Exact);
    let of_url = question.fetch != "path";
    let caveat = of_url.then_some("the path is compared, without its query");
    // What begins a URL or is all of it is not in a query.
    let in_query = question.texts.iter().any(|text| text.contains('?'));
    let partial = of_url && (in_query || !matches!(method, Method::Exact | Method::Start));
    if question.found {
        return Ok(Test::Always.into());
    }
    if question.texts.is_empty() {
        return Err(wrong("there is no pattern"));
    }
    let any = match method {
        Method::Exact if !question.any_case => {
            question.texts.iter().map(|text| Test::Path(PathTest::Exact(text.clone()))).collect()
        }
        Method::Start if question.texts.iter().any(|text| text == "/") => vec![Test::Always],
        Method::Start if !question.any_case => {
            let one =
                |text: &String| Test::Path(PathTest::Regex(regex(method, std::slice::from_ref(text), false)));
            match question.texts.as_slice() {
                [_] => question.texts.iter().map(one).collect(),
                many if many.iter().all(|text| text.ends_with('/')) => many.iter().map(one).collect(),
                many => vec![Test::Path(PathTest::Regex(regex(method, many, false)))],
            }
        }
        _ => vec![Test::Path(PathTest::Regex(regex(method, &question.texts, question.any_case)))],
    };
    // What begins with anything but a slash is no path, and no route can say it.
    let paths = any.iter().all(|test| !matches!(test, Test::Path(PathTest::Exact(path)) if !is_path(path)));
    if !paths {
        let list = vec![Test::Path(PathTest::Regex(regex(Method::Exact, &question.texts, false)))];
        return Ok(Acl { any: list, caveat, partial });
    }
    Ok(Acl { any, caveat, partial })
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic() && c != '?' && c != '#')
}

const WITHOUT_PORT: &str = "a route looks at the host without its port, in any case of letters";

fn host(question: &Question<'_>, host_only: bool) -> Result<Acl, Said> {
    let field = |method| {
        let regex = regex(method, &question.texts, question.any_case);
        Acl::from(Test::Value(Part::Header, "host".to_owned(), ValueTest::Regex(regex)))
    };
    if question.found {
        return Ok(Test::Always.into());
    }
    let name = |text: &str| {
        let name = text.split(':').next().unwrap_or(text).to_ascii_lowercase();
        crate::model::host::HostPattern::parse(&name).is_ok().then_some(name)
    };
    let ported = question.texts.iter().any(|text| text.contains(':'));
    let caveat = (ported || !question.any_case && !host_only).then_some(WITHOUT_PORT);
    let hosts = |list: Option<Vec<String>>, caveat| match list {
        Some(list) if !list.is_empty() => Ok(Acl { any: vec![Test::Hosts(list)], caveat, partial: false }),
        _ => Ok(field(question.method.unwrap_or(Method::Exact))),
    };
    match question.method.unwrap_or(Method::Exact) {
        Method::Exact => hosts(question.texts.iter().map(|text| name(text)).collect(), caveat),
        Method::End => {
            let below = question
                .texts
                .iter()
                .map(|text| name(text.strip_prefix('.')?).map(|name| format!("*.{name}")));
            hosts(below.collect(), None)
        }
        Method::Domain => {
            let both = question.texts.iter().map(|text| {
                name(text.trim_matches('.'))
                    .filter(|n| n.contains('.'))
                    .map(|n| [n.clone(), format!("*.{n}")])
            });
            let list = both.collect::<Option<Vec<_>>>().map(|list| list.into_iter().flatten().collect());
            hosts(
                list,
                Some("the name and all below it; HAProxy also takes names in which it stands further left"),
            )
        }
        method => Ok(field(method)),
    }
}

fn server_names(question: &Question<'_>, make: impl Fn(Vec<String>) -> Test) -> Result<Acl, Said> {
    let ended = |text: &str| text.strip_prefix('.').map(|name| format!("*.{}", name.to_ascii_lowercase()));
    let list: Option<Vec<String>> = match question.method.unwrap_or(Method::Exact) {
        Method::Exact => Some(question.texts.iter().map(|text| text.to_ascii_lowercase()).collect()),
        Method::End => question.texts.iter().map(|text| ended(text)).collect(),
        _ => None,
    };
    let valid = |list: &Vec<String>| {
        !list.is_empty() && list.iter().all(|name| crate::model::host::HostPattern::parse(name).is_ok())
    };
    match list.filter(valid) {
        Some(list) => Ok(make(list).into()),
        None => Err(not_possible("a name is written in full, or as `*.` and what it ends with")),
    }
}

fn value(question: &Question<'_>, part: Part) -> Result<Acl, Said> {
    let mut name = question.argument.split(',').next().unwrap_or("").trim().to_owned();
    if name.is_empty() {
        return Err(wrong("a name in parentheses is missing"));
    }
    if part == Part::Header {
        name.make_ascii_lowercase();
    }
    let counted = question.fetch.ends_with("_cnt");
    if question.found || question.texts.is_empty() || counted {
        return Ok(Test::Value(part, name, ValueTest::Regex(String::new())).into());
    }
    let method = question.method.unwrap_or(Method::Exact);
    let listed = name == "connection" && question.fetch != "req.fhdr" && method == Method::Exact;
    let value = match question.texts.as_slice() {
        [one] if method == Method::Exact && !question.any_case && !listed => ValueTest::Exact(one.clone()),
        texts if listed => {
            let any: Vec<String> = texts.iter().map(|text| super::super::pattern::escape(text)).collect();
            ValueTest::Regex(format!(r"(?i)(?:^|,)\s*(?:{})\s*(?:,|$)", any.join("|")))
        }
        texts => ValueTest::Regex(regex(method, texts, question.any_case)),
    };
    Ok(Test::Value(part, name, value).into())
}

/// `hdr_cnt(NAME) gt 0`: it is there.
fn count(question: &Question<'_>, part: Part) -> Result<Acl, Said> {
    let texts: Vec<&str> = question.texts.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["gt", "0"] | ["ge", "1"] | [] => value(question, part),
        _ => Err(not_possible("a route asks whether a field is there, not how often")),
    }
}

fn networks(texts: &[String]) -> Result<Vec<IpNet>, Said> {
    let one = |text: &String| match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().ok().map(|network| network.trunc()),
    };
    let list: Option<Vec<IpNet>> = texts.iter().map(one).collect();
    match list {
        Some(list) if !list.is_empty() => Ok(list),
        Some(_) => Err(wrong("there is no network")),
        None => Err(not_possible(
            "networks are written as addresses, with a prefix length: names and masks are not",
        )),
    }
}

fn ports(texts: &[String]) -> Result<Acl, Said> {
    let texts = if texts.first().is_some_and(|word| word == "eq") {
        texts.get(1..).unwrap_or_default()
    } else {
        texts
    };
    let list: Option<Vec<u16>> = texts.iter().map(|text| text.parse().ok()).collect();
    match list {
        Some(list) if !list.is_empty() => Ok(Test::Ports(list).into()),
        _ => Err(not_possible("ports are numbers here")),
    }
}

/// `nbsrv(NAME) lt 2`.
fn servers(question: &Question<'_>) -> Result<Acl, Said> {
    let texts: Vec<&str> = question.texts.iter().map(String::as_str).collect();
    let fewer = match texts.as_slice() {
        ["lt", number] => number.parse::<i64>().ok(),
        ["le", number] => number.parse::<i64>().ok().map(|number| number.saturating_add(1)),
        ["eq", "0"] | ["0"] => Some(1),
        _ => None,
    };
    match fewer {
        Some(fewer) => Ok(Test::Short(question.argument.to_owned(), fewer).into()),
        None => Err(not_possible("what is done when a pool has nothing usable is its `failover`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<Acl, Said> {
        let words: Vec<String> = text.split_ascii_whitespace().map(str::to_owned).collect();
        let around = Surroundings {
            environment: &|_| None,
            read: &|path| (path == Path::new("nets")).then(|| "# ours\n10.1.2.3/8\n\n::1\n".to_owned()),
            list: &|_| None,
        };
        read(&words, around)
    }

    fn check(text: &str, want: Test) {
        assert_eq!(ask(text).map(|acl| acl.any), Ok(vec![want]), "{text}");
    }

    fn path_regex(regex: &str) -> Test {
        Test::Path(PathTest::Regex(regex.to_owned()))
    }

    fn header(name: &str, value: ValueTest) -> Test {
        Test::Value(Part::Header, name.to_owned(), value)
    }

    #[test]
    fn paths_in_all_their_forms() {
        check("path /a", Test::Path(PathTest::Exact("/a".to_owned())));
        check("path_beg /api", path_regex("^/api"));
        check("path -m beg /api /v2", path_regex("^(?:/api|/v2)"));
        check("path_beg -i /api", path_regex("(?i)^/api"));
        check("path_beg /", Test::Always);
        check("path_end .jpg .png", path_regex(r"(?:\.jpg|\.png)$"));
        check("path_reg ^/u/[0-9]+$", path_regex("^/u/[0-9]+$"));
        check("path,lower /a", path_regex("(?i)^/a$"));
        check("path_dir img", path_regex("(?:^|/)img(?:/|$)"));
        assert!(ask("path_reg (?=a)").is_err());
    }

    #[test]
    fn hosts_in_all_their_forms() {
        let hosts = |list: &[&str]| Test::Hosts(list.iter().map(|&host| host.to_owned()).collect());
        check("hdr(host) -i A.test b.test:8080", hosts(&["a.test", "b.test"]));
        check("req.hdr(Host),field(1,:),lower a.test", hosts(&["a.test"]));
        check("hdr_end(host) -i .a.test", hosts(&["*.a.test"]));
        check("hdr_dom(host) -i a.test", hosts(&["a.test", "*.a.test"]));
        check("hdr_beg(host) -i www.", header("host", ValueTest::Regex(r"(?i)^www\.".to_owned())));
        check("ssl_fc_sni a.test", Test::TlsHosts(vec!["a.test".to_owned()]));
    }

    #[test]
    fn the_rest_of_the_forms_that_people_use() {
        check("method GET POST", Test::Methods(vec!["GET".to_owned(), "POST".to_owned()]));
        check(
            "src 10.0.0.1 192.168.0.0/16",
            Test::Source(vec!["10.0.0.1/32".parse().unwrap(), "192.168.0.0/16".parse().unwrap()]),
        );
        check("src -f nets", Test::Source(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]));
        check("hdr(X-Canary) 1", header("x-canary", ValueTest::Exact("1".to_owned())));
        check("hdr(Upgrade) -i WebSocket", header("upgrade", ValueTest::Regex("(?i)^WebSocket$".to_owned())));
        check("req.hdr(x) -m found", header("x", ValueTest::Regex(String::new())));
        check(
            "cook(beta) yes",
            Test::Value(Part::Cookie, "beta".to_owned(), ValueTest::Exact("yes".to_owned())),
        );
        check("ssl_fc", Test::Tls(true));
        check("dst_port eq 443", Test::Ports(vec![443]));
        check("nbsrv(app) lt 2", Test::Short("app".to_owned(), 2));
        check("req.ssl_sni -m end .a.test", Test::Sni(vec!["*.a.test".to_owned()]));
        for not in ["src -f nofile", "sc0_gpc0_rate gt 3", "var(txn.x) 1", "path,map(x) a", "nbsrv(a) gt 3"] {
            assert!(ask(not).is_err(), "{not}");
        }
        let Err(said) = ask("sc1_conn_fail gt 3") else { panic!("there is no such fetch") };
        assert_eq!(said.0, crate::cli::import::report::Verdict::WrongInSource);
    }
}
