//! What is done for a request on its way: times, other tries, sizes, buffers, compression and a mirror.

use std::time::Duration;

use super::super::document::Value;
use super::super::report::Place;
use super::destination::is_address;
use super::draft::Draft;
use super::scope::Scope;
use super::tree::Directive;
use super::units::{duration, time};
use super::upstream::{Upstream, body_size};
use super::walk::Walker;

/// What is tried again.
#[derive(Default)]
struct Cases {
    on: Vec<String>,
    statuses: Vec<String>,
    /// Requests such as POST too.
    any: bool,
    off: bool,
}

impl<'t> Walker<'_, 't, '_> {
    /// `proxy_*_timeout`: connecting, to the head, and while bytes move.
    pub(super) fn times(&mut self, scope: &Scope<'t>, grpc: bool, draft: &mut Draft) {
        let start = if grpc { "grpc" } else { "proxy" };
        let mut read = |name: &str| {
            let of = scope.find(&format!("{start}_{name}_timeout"));
            match of.map(|of| (of, time(of.word(0)))) {
                Some((of, Some(time))) => {
                    self.notes.ok(of);
                    (time, Some(of.at))
                }
                Some((of, None)) => {
                    self.notes.wrong(of, "it has a time: nginx rejects it");
                    (Duration::from_secs(60), None)
                }
                None => (Duration::from_secs(60), None),
            }
        };
        let (connect, answer, send) = (read("connect"), read("read"), read("send"));
        let longest = if send.0 > answer.0 { send } else { answer };
        let of = |name: &str, (time, at): (Duration, Option<Place>)| {
            (format!("timeouts.{name}"), duration(time), at)
        };
        draft.shared.extend([
            of("connect", connect),
            of("response_header", answer),
            of("idle", longest),
            of("tunnel", longest),
        ]);
    }

    /// What is tried again, as `proxy_next_upstream` says it.
    fn cases_of(&mut self, of: Option<&'t Directive>) -> Cases {
        let words: Vec<&str> = match of {
            Some(of) => of.words.iter().map(String::as_str).collect(),
            None => vec!["error", "timeout"],
        };
        let mut cases = Cases::default();
        for word in words {
            match word {
                "error" => cases.on.extend(["connect", "reset"].map(str::to_owned)),
                "timeout" => cases.on.push("timeout".to_owned()),
                "invalid_header" | "updating" | "denied" => {}
                "non_idempotent" => cases.any = true,
                "off" => cases.off = true,
                "http_500" | "http_502" | "http_503" | "http_504" | "http_403" | "http_404" | "http_429" => {
                    cases.statuses.push(word.trim_start_matches("http_").to_owned());
                }
                _ => {
                    if let Some(of) = of {
                        self.notes.wrong(of, format!("{word}: nginx knows no such case and rejects it"));
                    }
                }
            }
        }
        let Some(of) = of else { return cases };
        if !cases.off && cases.on.is_empty() {
            self.notes.wrong(of, "what is written takes the place of the default: error and timeout are missing, so a server that is gone is not passed over");
        }
        if cases.statuses.iter().any(|status| ["403", "404"].contains(&status.as_str())) {
            self.notes.how(of, "403 and 404 are no failures of an endpoint, here as in nginx");
        }
        self.notes.ok(of);
        cases
    }

    /// How many tries there are at most.
    fn tries(&mut self, scope: &Scope<'t>, start: &str, known: usize) -> usize {
        let Some(tries) = scope.find(&format!("{start}_tries")) else { return known };
        match tries.word(0).parse::<usize>() {
            Ok(number) => {
                self.notes.ok(tries);
                if number == 0 { known } else { known.min(number) }
            }
            Err(_) => {
                self.notes.wrong(tries, "it has a number: nginx rejects it");
                known
            }
        }
    }

    /// `proxy_next_upstream` with its bounds.
    pub(super) fn retries(
        &mut self,
        scope: &Scope<'t>,
        grpc: bool,
        upstream: Option<&Upstream<'t>>,
        draft: &mut Draft,
    ) {
        let start = if grpc { "grpc_next_upstream" } else { "proxy_next_upstream" };
        let of = scope.find(start);
        let Cases { mut on, statuses, any, off } = self.cases_of(of);
        let counts = |status: &&String| ["500", "502", "503", "504", "429"].contains(&status.as_str());
        draft.failures = (statuses.iter().filter(counts).cloned().collect(), of.map(|of| (of.at, start)));
        on.extend(statuses);
        let known = upstream.map_or(1, |upstream| upstream.peers.len());
        let named =
            upstream.is_some_and(|upstream| upstream.peers.iter().any(|peer| !is_address(&peer.address)));
        let most = self.tries(scope, start, if named { known.max(3) } else { known });
        let within = scope.find(&format!("{start}_timeout"));
        let time = within.and_then(|of| time(of.word(0))).filter(|time| !time.is_zero());
        if let Some(within) = within {
            self.notes.ok(within);
        }
        let at = of.map(|of| of.at);
        if off || on.is_empty() || most < 2 {
            let off = if off || on.is_empty() {
                Value::text("off")
            } else {
                Value::inline([("attempts", Value::Integer(1))])
            };
            draft.shared.push(("retry".to_owned(), off, at));
            return;
        }
        let mut pairs = vec![
            ("attempts", Value::Integer(i64::try_from(most).unwrap_or(100).min(100))),
            ("on", Value::texts(on)),
            ("within", duration(time.unwrap_or(Duration::from_secs(3600)))),
        ];
        if any {
            pairs.push(("non_idempotent", Value::Bool(true)));
        }
        draft.shared.push(("retry".to_owned(), Value::inline(pairs), at));
    }

    /// The body's size, buffers, compression and mirror.
    pub(super) fn treatment(&mut self, scope: &Scope<'t>, draft: &mut Draft) {
        let size = scope.find("client_max_body_size");
        let value = match size.map(|of| (of, body_size(of.word(0)))) {
            Some((of, Some(value))) => {
                self.notes.ok(of);
                value.map(|value| (value, Some(of.at)))
            }
            Some((of, None)) => {
                self.notes.wrong(of, "it has a size: nginx rejects it");
                Some((Value::text("1MiB"), None))
            }
            None => Some((Value::text("1MiB"), None)),
        };
        if let Some((value, at)) = value {
            draft.keys.push(("max_body".to_owned(), value, at));
        }
        if let Some(of) = scope.find("proxy_pass_request_body") {
            if of.word(0) == "off" {
                self.notes.cannot(of, "a request goes on with its body");
            } else {
                self.notes.ok(of);
            }
        }
        if let Some(of) = scope.find("proxy_pass_request_headers") {
            if of.word(0) == "off" {
                self.notes.cannot(of, "a request goes on with its fields: request_headers.remove takes away those that are named");
            } else {
                self.notes.ok(of);
            }
        }
        if let Some(of) = scope.find("proxy_request_buffering") {
            if of.word(0) == "on" {
                self.notes.near(
                    of,
                    "up to 1 MiB is taken in before an endpoint is asked, the rest of a larger body streams",
                );
                draft.keys.push(("buffer_request".to_owned(), Value::text("1MiB"), Some(of.at)));
            } else {
                self.notes.ok(of);
            }
        }
        if let Some(of) = scope.find("proxy_buffering") {
            if of.word(0) == "on" {
                self.notes.near(
                    of,
                    "up to 1 MiB of an answer is taken ahead of the client; nginx writes more to files",
                );
                draft.keys.push(("buffer_response".to_owned(), Value::text("1MiB"), Some(of.at)));
            } else {
                self.notes.ok(of);
            }
        }
        if let Some(of) = scope.find("proxy_redirect") {
            match of.word(0) {
                "off" => self.notes.ok(of),
                "default" => self.notes.near(of, "Location of an endpoint goes on as it is: endpoints should say the path or the name that clients know"),
                _ => self.notes.cannot(of, "Location of an endpoint goes on as it is: let the endpoint say https and the name that clients know (X-Forwarded-Proto and -Host tell it)"),
            }
        }
        super::compress::write(scope, draft, self.notes);
        self.mirrored(scope, draft);
    }

    fn mirrored(&mut self, scope: &Scope<'t>, draft: &mut Draft) {
        let all = scope.all("mirror");
        let Some(of) = all.first().filter(|of| of.word(0) != "off") else { return };
        for more in all.iter().skip(1) {
            self.notes.cannot(more, "a route has one mirror");
        }
        if let Some(body) = scope.find("mirror_request_body") {
            self.notes.ok(body);
        }
        match self.asked(of.word(0)) {
            Ok((pool, path)) => {
                let name = self.pools.name(pool);
                draft.keys.push((
                    "mirror".to_owned(),
                    Value::inline([("pool", Value::text(name))]),
                    Some(of.at),
                ));
                if path.is_some_and(|path| path != "{uri}") {
                    self.notes.near(of, "the copy is of the request as it goes to the endpoint, path and fields alike; one with a body above 64 KiB is left out");
                } else {
                    self.notes.near(of, "a copy with a body above 64 KiB is left out (mirror.max_body)");
                }
            }
            Err(why) => self.notes.cannot(of, why),
        }
    }
}
