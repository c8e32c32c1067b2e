//! The judgement of one case: plays it, looks at both sides, and names every finding. The rules are those of the
//! corpus's own runner, so that a finding here is a finding there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use super::backend::{Arrived, Backend, Events};
use super::{RequestCase, ResponseCase};
use crate::harness::clock::{Moment, pause};
use crate::harness::wire::latin1;

/// What came back until the proxy closed or was quiet for so long.
struct Heard {
    bytes: Vec<u8>,
    closed: bool,
}

/// A parsed run of responses: statuses, and bodies of the same places.
#[derive(Default)]
struct Responses {
    statuses: Vec<u16>,
    bodies: Vec<Vec<u8>>,
}

fn pattern(text: &str, ignore_case: bool) -> Regex {
    let escaped: String = text
        .chars()
        .map(|c| if c.is_ascii() { c.to_string() } else { format!("\\x{:02X}", u32::from(c)) })
        .collect();
    RegexBuilder::new(&escaped)
        .unicode(false)
        .case_insensitive(ignore_case)
        .dot_matches_new_line(true)
        .build()
        .expect("a pattern of the corpus")
}

fn finds(text: &str, subject: &[u8]) -> bool {
    pattern(text, true).is_match(subject)
}

fn talk(to: SocketAddr, data: &[u8], fin: bool, quiet: Duration) -> Heard {
    let mut heard = Heard { bytes: Vec::new(), closed: false };
    let mut stream = TcpStream::connect(to).expect("the proxy accepts");
    let mut sender = stream.try_clone().expect("a descriptor");
    let data = data.to_vec();
    let sending = thread::spawn(move || {
        // The proxy may refuse to read on.
        if sender.write_all(&data).is_ok() && fin {
            drop(sender.shutdown(Shutdown::Write));
        }
    });
    stream.set_read_timeout(Some(quiet)).expect("a timeout");
    let start = Moment::now();
    let mut part = [0; 65536];
    while !heard.closed && start.elapsed() < Duration::from_secs(8) {
        match stream.read(&mut part) {
            Ok(0) => heard.closed = true,
            Ok(count) => heard.bytes.extend_from_slice(&part[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(_) => heard.closed = true,
        }
    }
    drop(stream.shutdown(Shutdown::Both));
    sending.join().expect("the sender ends");
    heard
}

fn split_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = pattern(r"\r?\n\r?\n", false).find(bytes);
    end.map_or((bytes, &[][..]), |m| (&bytes[..m.start()], &bytes[m.end()..]))
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let line = pattern(r"^([0-9a-fA-F]+)[^\r\n]*\r\n", false);
    let mut body = Vec::new();
    while let Some(found) = line.captures(rest) {
        let size = usize::from_str_radix(&latin1(&found[1]), 16).unwrap_or(usize::MAX);
        let data = &rest[found[0].len()..];
        if size == 0 {
            return (body, &data[data.len().min(2)..]);
        }
        body.extend_from_slice(&data[..size.min(data.len())]);
        rest = &data[size.saturating_add(2).min(data.len())..];
    }
    (body, rest)
}

fn length_of(head: &[u8]) -> Option<usize> {
    let found = pattern(r"\ncontent-length: *(\d+)", true).captures(head)?;
    latin1(&found[1]).parse().ok()
}

fn responses(mut rest: &[u8], to_head: bool) -> Responses {
    let first = pattern(r"^HTTP/1\.[01] (\d{3})[^\n]*\r?\n", false);
    let mut all = Responses::default();
    while let Some(found) = first.captures(rest) {
        let status: u16 = latin1(&found[1]).parse().expect("three digits");
        let (head, after) = split_head(rest);
        let (body, after) = if status < 200 || to_head || status == 204 || status == 304 {
            (Vec::new(), after)
        } else if finds(r"\ntransfer-encoding: *chunked", head) {
            unchunk(after)
        } else if let Some(length) = length_of(head) {
            let length = length.min(after.len());
            (after[..length].to_vec(), &after[length..])
        } else {
            (after.to_vec(), &[][..])
        };
        all.statuses.push(status);
        all.bodies.push(body);
        rest = after;
    }
    all
}

fn finals(all: &Responses) -> Option<u16> {
    all.statuses.iter().copied().find(|&s| s >= 200)
}

fn canary(proxy: SocketAddr, id: &str) -> Option<String> {
    let path = format!("/canary-{id}");
    let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let heard = talk(proxy, ask.as_bytes(), false, Duration::from_secs(4));
    let text = latin1(&heard.bytes);
    let alive = text.starts_with("HTTP/1.1 200") && text.contains(&path);
    (!alive).then(|| "CANARY LOST (desync or crash)".to_owned())
}

fn check(rule: &str, subject: &[u8], body: &[u8], closed: bool, arrived: &[Arrived]) -> Option<String> {
    let (kind, argument) = rule.split_once(':').unwrap_or((rule, ""));
    match kind {
        "close" => return (!closed).then(|| "not closed".to_owned()),
        "fin" => return (!arrived.is_empty()).then(|| "backend saw a complete request".to_owned()),
        "body" => return (latin1(body) != argument).then(|| format!("body {:?}", latin1(body))),
        _ => {}
    }
    let text = if kind.starts_with("head-") { split_head(subject).0 } else { subject };
    let hit = pattern(argument, !argument.starts_with('^')).find(text);
    match (kind.ends_with("absent"), hit) {
        (true, Some(hit)) => Some(format!("has {:?}", latin1(hit.as_bytes()))),
        (false, None) => Some(format!("missing {argument:?}")),
        _ => None,
    }
}

fn has_bare_line_end(head: &[u8]) -> bool {
    (0..head.len()).any(|at| match head[at] {
        0 => true,
        b'\r' => head.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || head[at - 1] != b'\r',
        _ => false,
    })
}

fn report(id: &str, statuses: &[u16], closed: bool, findings: Vec<String>) -> Vec<String> {
    let end = if closed { "closed" } else { "open" };
    findings.into_iter().map(|finding| format!("{id}: {finding} (statuses {statuses:?}, {end})")).collect()
}

/// Plays a request case.
pub(crate) fn request(backend: &Backend, proxy: SocketAddr, case: &RequestCase) -> Vec<String> {
    backend.take_events();
    let fin = case.checks.iter().any(|c| c == "fin");
    let heard = talk(proxy, &case.raw.bytes(), fin, Duration::from_millis(700));
    pause(Duration::from_millis(50));
    let events = backend.take_events();
    let all = responses(&heard.bytes, false);
    let mut findings = judge_request(case, &events, &heard, finals(&all), fin);
    findings.extend(canary(proxy, &case.id));
    report(&case.id, &all.statuses, heard.closed, findings)
}

fn judge_request(
    case: &RequestCase,
    events: &Events,
    heard: &Heard,
    last: Option<u16>,
    fin: bool,
) -> Vec<String> {
    let forwarded: Vec<u8> = events.bytes.values().flatten().copied().collect();
    let arrived = &events.requests;
    let rejected = arrived.is_empty() && last.is_none_or(|status| status >= 400);
    let mut findings = Vec::new();
    if case.expect == "reject" {
        match last {
            _ if !rejected => findings.push("NOT REJECTED".to_owned()),
            _ if !forwarded.is_empty() && !case.id.starts_with("chunk-") => {
                findings.push("head went to the backend".to_owned());
            }
            Some(status) if !case.status.contains(&status) => findings.push(format!("status {status}")),
            _ => {}
        }
        if rejected && !heard.closed {
            findings.push("connection left open".to_owned());
        }
    } else if case.expect == "forward" || !rejected {
        if arrived.len() != case.backend && !fin {
            findings.push(format!("backend saw {} requests", arrived.len()));
        }
        let body = arrived.first().map_or(&[][..], |a| &a.body);
        findings.extend(case.checks.iter().filter_map(|c| check(c, &forwarded, body, heard.closed, arrived)));
        if case.expect == "forward" && last != Some(200) {
            findings.push(format!("status {last:?}"));
        }
    }
    if arrived.iter().any(|a| a.framing_fields > 1) {
        findings.push("two framing fields forwarded".to_owned());
    }
    if arrived.iter().any(|a| has_bare_line_end(&a.head)) {
        findings.push("NUL/CR/LF forwarded".to_owned());
    }
    // An aborted upload is the right end of a late rejection.
    let malformed = events.malformed.iter().find(|(_, what)| !(rejected && what.starts_with("eof")));
    if let (Some((_, what)), false) = (malformed, fin) {
        findings.push(format!("backend got malformed: {what}"));
    }
    findings
}

/// Plays a response case.
pub(crate) fn response(backend: &Backend, proxy: SocketAddr, case: &ResponseCase) -> Vec<String> {
    backend.take_events();
    backend.can(Some((case.raw.bytes(), case.backend_end == "close")));
    let ask = format!("{} /{} HTTP/1.1\r\nHost: a\r\n\r\n", case.method, case.id);
    let heard = talk(proxy, ask.as_bytes(), false, Duration::from_millis(1500));
    pause(Duration::from_millis(50));
    backend.can(None);
    let all = responses(&heard.bytes, case.method == "HEAD");
    let mut findings = judge_response(case, &heard, &all);
    findings.extend(canary(proxy, &case.id));
    report(&case.id, &all.statuses, heard.closed, findings)
}

fn judge_response(case: &ResponseCase, heard: &Heard, all: &Responses) -> Vec<String> {
    let last = finals(all);
    let first = match last {
        Some(status) => status.to_string(),
        None if heard.closed || heard.bytes.is_empty() => "abort".to_owned(),
        None => "hang".to_owned(),
    };
    let body = all.bodies.last().map_or(&[][..], Vec::as_slice);
    let promised = pattern(r"content-length: *(\d+)", true)
        .captures(&heard.bytes)
        .and_then(|found| latin1(&found[1]).parse::<usize>().ok());
    let truncated = last.is_some() && heard.closed && promised.is_some_and(|length| body.len() < length);
    let unterminated = finds("chunked", &heard.bytes) && !heard.bytes.ends_with(b"0\r\n\r\n");
    let want: Vec<&str> = case.expect.split('|').collect();
    let broken = truncated || unterminated || last.is_none();
    let mut findings = Vec::new();
    let safe = want.contains(&first.as_str()) || want.contains(&"abort") && broken;
    if !safe {
        findings.push(format!("status {first}"));
    }
    if first != "502" {
        findings.extend(case.checks.iter().filter_map(|c| check(c, &heard.bytes, body, heard.closed, &[])));
    }
    findings
}
