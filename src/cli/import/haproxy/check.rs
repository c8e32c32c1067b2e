//! Health checks: `option httpchk` and its kin, `http-check`, `tcp-check`, and the probe that they come to.

use regex::RegexBuilder;

use super::super::document::{Table, Value};
use super::super::pattern::escape;
use super::super::report::Place;
use super::proxy::Reading;
use super::said::{Said, approximated, ignored, not_possible, translated, wrong};
use super::section::Statement;

/// What is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// A connect.
    #[default]
    Connect,
    Http,
    /// A connect, and what `tcp-check` says.
    Script,
    Tls,
    Postgres,
    Mysql,
    Redis,
    Exec,
}

/// The checks of a backend.
#[derive(Debug, Clone, Default)]
pub(super) struct Check {
    /// What is asked.
    pub(super) kind: Kind,
    /// The line that says so.
    pub(super) at: Option<Place>,
    method: Option<(String, Place)>,
    path: Option<(String, Place)>,
    host: Option<(String, Place)>,
    headers: Vec<(String, String, Place)>,
    statuses: Option<(Vec<String>, Place)>,
    body: Option<(String, Place)>,
    /// Connects of a check, and whether they are those of the defaults.
    connects: (bool, usize),
    /// A port that `http-check connect` or `tcp-check connect` names.
    pub(super) port: Option<(i64, Place)>,
    /// TLS that they ask for.
    pub(super) tls: Option<Place>,
    /// The name that they ask TLS for.
    pub(super) sni: Option<String>,
    sends: Vec<(String, Place)>,
    expects: Vec<(Value, Place)>,
    user: Option<(String, Place)>,
    command: Option<(String, Place)>,
    /// The line that says what is asked is of the section itself, not of its defaults.
    own: bool,
    /// `http-check` lines of the section itself.
    of_http: Vec<Place>,
}

impl Check {
    /// Writes the keys of `[pool.NAME.health]` that say what is asked.
    pub(super) fn write(&self, table: &mut Table) {
        let text = |table: &mut Table, key: &str, value: &Option<(String, Place)>| {
            if let Some((value, at)) = value {
                table.set(&format!("health.{key}"), Value::text(value), Some(*at));
            }
        };
        let word = match self.kind {
            Kind::Connect | Kind::Script => "tcp",
            Kind::Http => "http",
            Kind::Tls => "tls",
            Kind::Postgres => "postgres",
            Kind::Mysql => "mysql",
            Kind::Redis => "redis",
            Kind::Exec => "exec",
        };
        table.set("health.check", Value::text(word), self.at);
        text(table, "user", &self.user);
        if let Some((command, at)) = &self.command {
            table.set("health.command", Value::texts([command]), Some(*at));
        }
        match self.kind {
            Kind::Http => self.write_http(table),
            Kind::Script => self.write_script(table),
            _ => {}
        }
        if let Some((port, at)) = self.port {
            table.set("health.port", Value::Integer(port), Some(at));
        }
    }

    fn write_http(&self, table: &mut Table) {
        let options = ("OPTIONS".to_owned(), self.at.unwrap_or(Place { file: 0, line: 1 }));
        let (method, at) = self.method.as_ref().unwrap_or(&options);
        if method != "GET" {
            table.set("health.method", Value::text(method), Some(*at));
        }
        if let Some((path, at)) = self.path.as_ref().filter(|(path, _)| path != "/") {
            table.set("health.path", Value::text(path), Some(*at));
        }
        if let Some((host, at)) = &self.host {
            table.set("health.host", Value::text(host), Some(*at));
        }
        if let Some((_, _, at)) = self.headers.first() {
            let pairs = self.headers.iter().map(|(name, value, _)| (name.clone(), Value::text(value)));
            table.set("health.headers", Value::inline(pairs), Some(*at));
        }
        match &self.statuses {
            Some((statuses, at)) => {
                table.set("health.expect_status", Value::texts(statuses.clone()), Some(*at))
            }
            // A rule about the body takes the place of the one about the status.
            None if self.body.is_some() => table.set("health.expect_status", Value::texts(["100-599"]), None),
            None => table.set("health.expect_status", Value::texts(["200-399"]), self.at),
        }
        if let Some((body, at)) = &self.body {
            table.set("health.expect_body", Value::text(body), Some(*at));
        }
    }

    /// A probe has one thing to send and one to expect: all is sent at once, and what comes last is waited for.
    fn write_script(&self, table: &mut Table) {
        if self.sends.is_empty() && self.expects.is_empty() {
            return;
        }
        if let Some((_, at)) = self.sends.first() {
            let all: String = self.sends.iter().map(|(text, _)| text.as_str()).collect();
            table.set("health.send", Value::text(all), Some(*at));
        }
        if let Some((expected, at)) = self.expected() {
            table.set("health.expect", expected.clone(), Some(*at));
        }
    }

    /// The expectation that says most: the last but for the farewell that answers a QUIT.
    fn expected(&self) -> Option<&(Value, Place)> {
        let farewell = self.expects.len() > 1
            && self.sends.last().is_some_and(|(text, _)| text.trim().eq_ignore_ascii_case("quit"));
        self.expects.iter().rev().nth(usize::from(farewell))
    }

    /// What is to be said of a script of several steps.
    pub(super) fn conclude(&self, reading: &mut Reading<'_, '_>) {
        for at in self.of_http.iter().filter(|_| self.kind != Kind::Http) {
            reading.report.ignored(*at, "the checks of this section are not those of `option httpchk`");
        }
        if self.kind != Kind::Script || self.expects.len() < 2 {
            return;
        }
        let kept = self.expected().map(|(_, at)| *at);
        for (_, at) in &self.expects {
            if Some(*at) != kept {
                let how =
                    "a probe sends all at once and waits for one text: this one is not asked for by itself";
                reading.report.approximated(*at, how);
            }
        }
    }
}

/// `option httpchk` and the other kinds; says whether it is one.
pub(super) fn option(reading: &mut Reading<'_, '_>, statement: &Statement) -> Option<Said> {
    let at = statement.at;
    let check = &mut reading.proxy.check;
    let kind = match statement.word(1) {
        "httpchk" => Kind::Http,
        "tcp-check" => Kind::Script,
        "ssl-hello-chk" => Kind::Tls,
        "pgsql-check" => Kind::Postgres,
        "mysql-check" => Kind::Mysql,
        "redis-check" => Kind::Redis,
        "external-check" => Kind::Exec,
        "smtpchk" | "ldap-check" | "spop-check" => {
            return Some(not_possible(
                "there is no such probe: it is a connect; `check = \"exec\"` runs a program that knows the protocol",
            ));
        }
        _ => return None,
    };
    if let Some(before) = check.at.filter(|_| check.own && check.kind != kind) {
        let what = format!(
            "line {} takes its place: HAProxy makes one kind of check, the last that is written",
            at.line
        );
        reading.report.wrong(before, what);
    }
    (check.kind, check.at, check.own) = (kind, Some(at), !reading.inherited);
    Some(match kind {
        Kind::Http => httpchk(check, statement),
        Kind::Postgres | Kind::Mysql => {
            if let ("user", name) = (statement.word(2), statement.word(3)) {
                check.user = Some((name.to_owned(), at));
            } else if kind == Kind::Postgres {
                return Some(wrong("pgsql-check needs `user NAME`"));
            }
            translated()
        }
        Kind::Exec => approximated(
            "the program is told by PLIMSOLL_POOL, PLIMSOLL_ENDPOINT and their like whom to ask, not by arguments",
        ),
        Kind::Tls => approximated(
            "a whole TLS handshake, not the hello of SSL 3; the certificate is not verified, as there",
        ),
        _ => translated(),
    })
}

/// `option httpchk [METHOD] [URI] [VERSION]`, or the URI alone.
fn httpchk(check: &mut Check, statement: &Statement) -> Said {
    let at = statement.at;
    let (method, path, version) = match statement.from(2) {
        [] => return translated(),
        [path] => ("OPTIONS", path.as_str(), ""),
        [method, path] => (method.as_str(), path.as_str(), ""),
        [method, path, version @ ..] => {
            read_version(check, &version.join(" "), at);
            (method.as_str(), path.as_str(), version.first().map_or("", String::as_str))
        }
    };
    check.method = Some((method.to_owned(), at));
    check.path = Some((path.to_owned(), at));
    if version.contains("\r\n") {
        approximated("the fields in the version are those of the probe")
    } else {
        translated()
    }
}

/// The old way to add fields: `HTTP/1.1\r\nHost:\ www`.
fn read_version(check: &mut Check, version: &str, at: Place) {
    for line in version.split("\r\n").skip(1) {
        if let Some((name, value)) = line.split_once(':') {
            header(check, name, value.trim(), at);
        }
    }
}

fn header(check: &mut Check, name: &str, value: &str, at: Place) {
    if name.eq_ignore_ascii_case("host") {
        check.host = Some((value.to_owned(), at));
    } else if !["connection", "content-length"].contains(&name.to_ascii_lowercase().as_str()) {
        check.headers.push((name.to_ascii_lowercase(), value.to_owned(), at));
    }
}

/// `http-check ...`.
pub(super) fn http_check(reading: &mut Reading<'_, '_>, statement: &Statement) -> Said {
    let check = &mut reading.proxy.check;
    if !reading.inherited {
        check.of_http.push(statement.at);
    }
    if check.is_next(reading.inherited, statement) {
        return not_possible(ONCE);
    }
    match statement.word(1) {
        "send" => send(check, statement),
        "expect" => expect(check, statement),
        "connect" => connect(check, statement),
        "disable-on-404" => {
            not_possible("a 404 is a bad answer like others: `plimsoll drain` lets an endpoint run empty")
        }
        "send-state" => ignored("endpoints are not told what is thought of them"),
        "comment" => ignored("a comment"),
        "set-var" | "set-var-fmt" | "unset-var" => not_possible("probes have no variables"),
        other => wrong(format!("there is no `http-check {other}`")),
    }
}

fn send(check: &mut Check, statement: &Statement) -> Said {
    let mut rest = statement.from(2);
    let mut said = translated();
    loop {
        rest = match rest {
            [] => return said,
            [word, method, rest @ ..] if word == "meth" => {
                check.method = Some((method.clone(), statement.at));
                rest
            }
            [word, path, rest @ ..] if word == "uri" => {
                check.path = Some((path.clone(), statement.at));
                rest
            }
            [word, _, rest @ ..] if word == "ver" => rest,
            [word, name, value, rest @ ..] if word == "hdr" => {
                if value.contains("%[") {
                    said = not_possible("a field of a probe is a fixed text: write it in health.headers");
                } else {
                    header(check, name, value, statement.at);
                }
                rest
            }
            [word, _, rest @ ..] if ["body", "body-lf", "uri-lf"].contains(&word.as_str()) => {
                said = not_possible("a probe has no body and a fixed path");
                rest
            }
            [word, ..] => return wrong(format!("`{word}` is no part of a request")),
        };
    }
}

fn expect(check: &mut Check, statement: &Statement) -> Said {
    let at = statement.at;
    let mut rest = statement.from(2);
    let mut negated = false;
    while let [word, behind @ ..] = rest {
        match word.as_str() {
            "!" => negated = true,
            // `min-recv N`, `ok-status L7OK`, `comment X` and the like.
            "min-recv" | "ok-status" | "error-status" | "tout-status" | "on-success" | "on-error"
            | "status-code" | "comment" => {
                rest = behind.get(1..).unwrap_or_default();
                continue;
            }
            _ => break,
        }
        rest = behind;
    }
    let [what, value, more @ ..] = rest else { return wrong("what is expected is missing") };
    if let ("string" | "rstring" | "status" | "rstatus", Some(word)) = (what.as_str(), more.first()) {
        return wrong(format!(
            "`{word}` is one word too many, and HAProxy rejects the file: a text with spaces stands in quotes"
        ));
    }
    match what.as_str() {
        "status" if negated => {
            let Some(ranges) = complement(value) else { return wrong("it is no list of statuses") };
            check.statuses = Some((ranges, at));
            translated()
        }
        "status" => match ranges(value) {
            Some(list) => {
                check.statuses = Some((list.iter().map(|(a, b)| range(*a, *b)).collect(), at));
                translated()
            }
            None => wrong("it is no list of statuses"),
        },
        "rstatus" => match matching(value, negated) {
            Some(statuses) => {
                check.statuses = Some((statuses, at));
                translated()
            }
            None => not_possible("write the statuses in health.expect_status: they are numbers and ranges"),
        },
        "string" if !negated => {
            check.body = Some((escape(value), at));
            translated()
        }
        "rstring" if !negated => {
            check.body = Some((value.clone(), at));
            translated()
        }
        "hdr" | "fhdr" => not_possible("a probe looks at the status and the body"),
        "string" | "rstring" => not_possible("a probe says what must be there, not what must not"),
        other => wrong(format!("`{other}` cannot be expected")),
    }
}

fn range(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn ranges(text: &str) -> Option<Vec<(u16, u16)>> {
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    let one = |part: &str| match part.split_once('-') {
        Some((first, last)) => status(first).zip(status(last)).filter(|(first, last)| first <= last),
        None => status(part).map(|status| (status, status)),
    };
    text.split(',').map(one).collect()
}

/// The statuses that a regular expression matches, or all others; nothing where these are none.
fn matching(regex: &str, negated: bool) -> Option<Vec<String>> {
    let regex = RegexBuilder::new(regex).size_limit(1 << 16).build().ok()?;
    let fits = |status: &u16| regex.is_match(&status.to_string()) != negated;
    let mut out: Vec<(u16, u16)> = Vec::new();
    for status in (100..=599).filter(fits) {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == status => *last = status,
            _ => out.push((status, status)),
        }
    }
    (!out.is_empty()).then(|| out.into_iter().map(|(first, last)| range(first, last)).collect())
}

/// The statuses that are not in a list.
fn complement(text: &str) -> Option<Vec<String>> {
    let mut listed = ranges(text)?;
    listed.sort_unstable();
    let mut next = 100;
    let mut out = Vec::new();
    for (first, last) in listed {
        if first > next {
            out.push(range(next, first - 1));
        }
        next = next.max(last + 1);
    }
    if next <= 599 {
        out.push(range(next, 599));
    }
    (!out.is_empty()).then_some(out)
}

const ONCE: &str = "a probe connects once: give each port a pool of its own, or a program (check = \"exec\")";

impl Check {
    /// Whether its requests name a host.
    pub(super) fn has_host(&self) -> bool {
        self.kind == Kind::Http && self.host.is_some()
    }

    /// Whether this is of a second connection of the same check.
    fn is_next(&mut self, inherited: bool, statement: &Statement) -> bool {
        if self.connects.0 != inherited {
            self.connects = (inherited, 0);
        }
        self.connects.1 += usize::from(statement.word(1) == "connect");
        self.connects.1 > 1 && statement.word(1) != "comment"
    }
}

fn connect(check: &mut Check, statement: &Statement) -> Said {
    let mut rest = statement.from(2);
    let mut said = translated();
    while let [word, behind @ ..] = rest {
        rest = behind;
        let value = || behind.first().map_or("", String::as_str);
        match word.as_str() {
            "default" | "linger" | "send-proxy" | "via-socks4" => {}
            "ssl" => check.tls = Some(statement.at),
            "port" => {
                match value().parse() {
                    Ok(port) => check.port = Some((port, statement.at)),
                    Err(_) => said = not_possible("the port of a probe is a number"),
                }
                rest = behind.get(1..).unwrap_or_default();
            }
            "sni" => {
                check.sni = Some(value().to_owned());
                rest = behind.get(1..).unwrap_or_default();
            }
            "alpn" | "proto" | "comment" => rest = behind.get(1..).unwrap_or_default(),
            "addr" => {
                said = not_possible("the address of a probe is the endpoint's: set its health.address");
                rest = behind.get(1..).unwrap_or_default();
            }
            other => return wrong(format!("`{other}` is no part of a connect")),
        }
    }
    said
}

/// `tcp-check ...`.
pub(super) fn tcp_check(reading: &mut Reading<'_, '_>, statement: &Statement) -> Said {
    let at = statement.at;
    let check = &mut reading.proxy.check;
    if check.is_next(reading.inherited, statement) {
        return not_possible(ONCE);
    }
    match (statement.word(1), statement.word(2)) {
        ("connect", _) => connect(check, statement),
        ("send", text) => {
            check.sends.push((text.to_owned(), at));
            translated()
        }
        ("send-binary", digits) => match hexadecimal(digits) {
            Some(text) => {
                check.sends.push((text, at));
                translated()
            }
            None => not_possible(
                "bytes above 7f cannot be written in health.send: a program (check = \"exec\") can send them",
            ),
        },
        ("expect", "!") => not_possible("a probe says what must be there, not what must not"),
        ("expect", "string") => {
            check.expects.push((Value::text(statement.word(3)), at));
            translated()
        }
        ("expect", "rstring") => {
            check.expects.push((Value::inline([("regex", Value::text(statement.word(3)))]), at));
            translated()
        }
        ("expect", "binary" | "rbinary") => match hexadecimal_pattern(statement.word(3)) {
            Some(pattern) if statement.word(2) == "binary" => {
                check.expects.push((Value::inline([("regex", Value::text(pattern))]), at));
                translated()
            }
            _ => not_possible("write the bytes as a regular expression in health.expect"),
        },
        ("comment", _) => ignored("a comment"),
        ("send-lf" | "send-binary-lf" | "set-var" | "set-var-fmt" | "unset-var", _) => {
            not_possible("probes have no variables: what is sent is a fixed text")
        }
        ("expect", other) => {
            not_possible(format!("`{other}` cannot be expected here: a text or a regular expression can"))
        }
        (other, _) => wrong(format!("there is no `tcp-check {other}`")),
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let pair = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..digits.len()).step_by(2).map(pair).collect()
}

fn hexadecimal(digits: &str) -> Option<String> {
    String::from_utf8(bytes(digits)?).ok().filter(|text| text.is_ascii())
}

fn hexadecimal_pattern(digits: &str) -> Option<String> {
    let escaped: String = bytes(digits)?.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    Some(format!("(?-u){escaped}"))
}

/// `external-check command PATH` and `external-check path`.
pub(super) fn external(reading: &mut Reading<'_, '_>, statement: &Statement) -> Said {
    match statement.word(1) {
        "command" => {
            reading.proxy.check.command = Some((statement.word(2).to_owned(), statement.at));
            translated()
        }
        "path" => not_possible("a program finds what it calls by the PATH of the proxy, or by full names"),
        other => wrong(format!("there is no `external-check {other}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_are_not_to_be_leave_the_others() {
        assert_eq!(complement("500-599"), Some(vec!["100-499".to_owned()]));
        assert_eq!(
            complement("404,200-299"),
            Some(vec!["100-199".to_owned(), "300-403".to_owned(), "405-599".to_owned()])
        );
        assert_eq!(complement("100-599"), None);
        assert_eq!(complement("abc"), None);
    }

    #[test]
    fn bytes_are_read_from_their_digits() {
        assert_eq!(hexadecimal("50494e470d0a").as_deref(), Some("PING\r\n"));
        assert_eq!(hexadecimal("ff"), None);
        assert_eq!(hexadecimal_pattern("00ff").as_deref(), Some(r"(?-u)\x00\xff"));
        assert_eq!(bytes("abc"), None);
    }
}
