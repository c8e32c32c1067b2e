//! Annotations about the way to endpoints: times, sizes, and what is tried again.

use std::time::Duration;

use super::super::super::document::{Table, Value};
use super::super::super::report::{Place, Report};
use super::super::value::{bytes, duration};
use super::{Read, Set, Word, as_number, as_seconds, as_size, as_truth};

/// What they say, or what the controller's ConfigMap says for all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in super::super) struct Proxy {
    pub(in super::super) connect: Set<Duration>,
    pub(in super::super) send: Set<Duration>,
    pub(in super::super) read: Set<Duration>,
    pub(in super::super) body: Set<u64>,
    /// Causes in nginx's words.
    pub(in super::super) causes: Set<Vec<String>>,
    pub(in super::super) tries: Set<u32>,
    pub(in super::super) within: Set<Duration>,
    /// `retry-non-idempotent` of the ConfigMap.
    pub(in super::super) all_methods: Option<Place>,
    /// `proxy-buffer-size`, which a head of an answer has to fit in.
    head: Set<u64>,
}

/// nginx streams at its own pace; Plimsoll does so always.
const STREAMS: &str = "answers go on as they come, at the pace of the client: there are no such buffers";

pub(super) const TABLE: &[(&str, Read)] = &[
    ("proxy-connect-timeout", |s, w, r| s.proxy.connect = as_seconds(w, r)),
    ("proxy-send-timeout", |s, w, r| s.proxy.send = as_seconds(w, r)),
    ("proxy-read-timeout", |s, w, r| s.proxy.read = as_seconds(w, r)),
    ("proxy-body-size", |s, w, r| s.proxy.body = as_size(w, r)),
    ("client-body-buffer-size", |_, w, r| {
        let _size = as_size(w, r);
        r.ignored(w.at, "request bodies go on as they come: buffer_request of a route takes them in first");
    }),
    ("proxy-next-upstream", |s, w, r| s.proxy.causes(w, r)),
    ("proxy-next-upstream-tries", |s, w, r| s.proxy.tries = as_number(w, r)),
    ("proxy-next-upstream-timeout", |s, w, r| s.proxy.within = as_seconds(w, r)),
    ("proxy-request-buffering", |_, w, r| {
        on_off(
            w,
            "off",
            r,
            "request bodies are not taken in before they go on: buffer_request of a route does so, which slow uploads may want",
        )
    }),
    ("proxy-buffering", |_, w, r| {
        on_off(
            w,
            "off",
            r,
            "answers are not taken off endpoints ahead of slow clients: buffer_response of a route does so",
        )
    }),
    ("proxy-buffers-number", |_, w, r| r.ignored(w.at, STREAMS)),
    ("proxy-buffer-size", |s, w, r| s.proxy.head(w, r)),
    ("proxy-busy-buffers-size", |_, w, r| r.ignored(w.at, STREAMS)),
    ("proxy-max-temp-file-size", |_, w, r| r.ignored(w.at, "nothing is put into files on the way")),
    ("proxy-http-version", |_, w, r| {
        if w.value != "1.1" {
            r.approximated(
                w.at,
                "endpoints are spoken to in HTTP/1.1; one that knows 1.0 alone answers in that",
            );
        }
    }),
    ("connection-proxy-header", |_, w, r| match w.value {
        "keep-alive" => r.ignored(w.at, "connections to endpoints are kept anyway"),
        "close" => r.approximated(
            w.at,
            "connections to endpoints are kept: limits.idle_connections = 0 in the pool keeps none",
        ),
        _ => r.wrong(w.at, "it is close or keep-alive: the controller leaves it out"),
    }),
    ("proxy-cookie-domain", |_, w, r| cookies(w, r)),
    ("proxy-cookie-path", |_, w, r| cookies(w, r)),
    ("proxy-redirect-from", |_, w, r| locations(w, r)),
    ("proxy-redirect-to", |_, w, r| locations(w, r)),
    ("http2-push-preload", |_, w, r| {
        if as_truth(w, r) == Some(true) {
            r.ignored(w.at, "no browser takes pushes any more: the Link fields go to clients as they are");
        }
    }),
];

/// A switch of which `ours` is how it is here anyway.
fn on_off(word: Word<'_>, ours: &str, report: &mut Report, otherwise: &str) {
    match word.value {
        value if value == ours => {}
        "on" | "off" => report.approximated(word.at, otherwise),
        _ => report.wrong(word.at, "it is on or off: the controller takes the default"),
    }
}

fn cookies(word: Word<'_>, report: &mut Report) {
    if word.value != "off" {
        report.not_possible(
            word.at,
            "Set-Cookie of endpoints is not rewritten: let the application set the domain and path that clients see",
        );
    }
}

fn locations(word: Word<'_>, report: &mut Report) {
    if word.value != "off" && word.value != "default" {
        report.not_possible(
            word.at,
            "Location of endpoints is not rewritten: endpoints are told X-Forwarded-Proto and -Host, by which applications make it right",
        );
    }
}

/// What the controller takes where nothing is said.
const CONNECT: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);
const BODY: u64 = 1 << 20;
const TRIES: u32 = 3;
/// What a head of an answer may have anyway, and at most.
const HEAD: u64 = 64 << 10;
const HEAD_MAX: u64 = 1 << 20;

impl Proxy {
    pub(in super::super) fn causes(&mut self, word: Word<'_>, report: &mut Report) {
        let causes: Vec<String> = word.value.split_whitespace().map(str::to_owned).collect();
        let known = |cause: &String| {
            [
                "error",
                "timeout",
                "invalid_header",
                "non_idempotent",
                "off",
                "http_403",
                "http_404",
                "http_429",
            ]
            .contains(&cause.as_str())
                || ["http_500", "http_502", "http_503", "http_504"].contains(&cause.as_str())
        };
        if causes.is_empty() || !causes.iter().all(known) {
            return report.wrong(
                word.at,
                "it is made of error, timeout, invalid_header, http_500, 502, 503, 504, 403, 404, 429, non_idempotent and off: the controller takes the default",
            );
        }
        self.causes = Some((causes, word.at));
    }

    pub(super) fn settle(&self, report: &mut Report) {
        let off = self.causes.as_ref().is_some_and(|(causes, _)| causes.iter().any(|cause| cause == "off"));
        for at in [self.tries.map(|(_, at)| at), self.within.map(|(_, at)| at)]
            .into_iter()
            .flatten()
            .filter(|_| off)
        {
            report.ignored(at, "nothing is tried again");
        }
    }

    /// Heads of answers are no longer than this there.
    pub(in super::super) fn head(&mut self, word: Word<'_>, report: &mut Report) {
        self.head = as_size(word, report).filter(|(size, _)| *size > 0);
        if self.head.is_some_and(|(size, _)| size <= HEAD) {
            report.ignored(word.at, "a head of an answer may have 64KiB (limits.answer_head of the pool): there is no buffer to set");
        }
    }

    /// `limits.answer_head` of a pool, where it is more than there is anyway.
    pub(in super::super) fn write_head(&self, table: &mut Table) {
        if let Some((size, at)) = self.head.filter(|(size, _)| *size > HEAD) {
            table.set("limits.answer_head", bytes(size.min(HEAD_MAX)), Some(at));
        }
    }

    /// What is said here, and else there.
    pub(in super::super) fn or(&self, all: &Self) -> Self {
        Self {
            connect: self.connect.or(all.connect),
            send: self.send.or(all.send),
            read: self.read.or(all.read),
            body: self.body.or(all.body),
            causes: self.causes.clone().or_else(|| all.causes.clone()),
            tries: self.tries.or(all.tries),
            within: self.within.or(all.within),
            all_methods: self.all_methods.or(all.all_methods),
            head: self.head.or(all.head),
        }
    }

    /// `timeouts` and `retry` as they stand in a pool or a route.
    pub(in super::super) fn write(&self, table: &mut Table, report: &mut Report) {
        let value = |set: Set<Duration>, default: Duration| {
            set.map_or((default, None), |(time, at)| (time, Some(at)))
        };
        let (connect, at) = value(self.connect, CONNECT);
        table.set("timeouts.connect", duration(connect), at);
        let (read, at) = value(self.read, IDLE);
        let (send, send_at) = value(self.send, IDLE);
        table.set("timeouts.response_header", duration(read), at);
        let idle = read.max(send);
        table.set("timeouts.idle", duration(idle), if send > read { send_at } else { at });
        table.set("timeouts.tunnel", duration(read), at);
        if let (Some(at), true) = (send_at, send < read) {
            report.approximated(
                at,
                "there is one time for both ways, the longer one: that of proxy-read-timeout",
            );
        } else if let (Some((_, at)), true) = (self.read, read < send) {
            report.approximated(at, "there is one time for both ways, the longer one: that of proxy-send-timeout. A head of an answer still has to come within this");
        }
        self.retry(connect, read, table, report);
    }

    fn retry(&self, connect: Duration, read: Duration, table: &mut Table, report: &mut Report) {
        let default = (vec!["error".to_owned(), "timeout".to_owned()], None);
        let (causes, at) = self.causes.clone().map_or(default, |(causes, at)| (causes, Some(at)));
        if causes.iter().any(|cause| cause == "off") {
            return table.set("retry", Value::text("off"), at);
        }
        if let (true, Some(at)) = (causes.iter().any(|cause| cause == "invalid_header"), at) {
            report.approximated(at, "invalid_header is a connection that ends before the head of an answer (reset): a head that cannot be read is not tried again");
        }
        let (tries, tries_at) = self.tries.map_or((TRIES, None), |(tries, at)| (tries, Some(at)));
        if tries == 0
            && let Some(at) = tries_at
        {
            report.approximated(at, "0 is as many tries as there are endpoints: here ten at most");
        }
        let tries = if tries == 0 { 10 } else { tries.min(100) };
        if tries == 1 {
            return table.set("retry", Value::text("off"), tries_at);
        }
        let mut on: Vec<&str> = Vec::new();
        for cause in &causes {
            let words: &[&str] = match cause.as_str() {
                "error" => &["connect", "reset"],
                "invalid_header" => &["reset"],
                "timeout" => &["timeout"],
                "non_idempotent" => &[],
                other => &[other.trim_start_matches("http_")],
            };
            words.iter().for_each(|word| {
                if !on.contains(word) {
                    on.push(word)
                }
            });
        }
        if on.is_empty() {
            return table.set("retry", Value::text("off"), at);
        }
        table.set("retry.attempts", Value::Integer(i64::from(tries)), tries_at);
        table.set("retry.on", Value::texts(on.clone()), at);
        // Without an end of nginx's, long enough for every try to take its time.
        let each = if on.contains(&"timeout") { connect + read } else { connect };
        let (within, within_at) = match self.within.filter(|(time, _)| !time.is_zero()) {
            Some((time, at)) => (time, Some(at)),
            None => (each.saturating_mul(tries), None),
        };
        table.set("retry.within", duration(within), within_at);
        if causes.iter().any(|cause| cause == "non_idempotent") || self.all_methods.is_some() {
            table.set("retry.non_idempotent", Value::Bool(true), at.or(self.all_methods));
        }
    }

    /// `max_body` of a route.
    pub(in super::super) fn write_body(&self, table: &mut Table) {
        match self.body {
            Some((0, _)) => {}
            Some((size, at)) => table.set("max_body", bytes(size), Some(at)),
            None => table.set("max_body", bytes(BODY), None),
        }
    }
}
