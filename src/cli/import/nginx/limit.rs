//! `limit_req`, `limit_conn` and `limit_rate`.

use std::collections::HashMap;

use super::super::document::Value;
use super::draft::{Action, Draft};
use super::notes::Notes;
use super::scope::Level;
use super::tree::Directive;
use super::units::size;
use super::variable::{Piece, pieces, put_in};
use super::walk::{Walker, Way};

/// A zone that limits count in.
#[derive(Debug)]
pub(super) struct Zone<'t> {
    pub(super) of: &'t Directive,
    /// Its size in bytes.
    size: Option<u64>,
    /// As Plimsoll writes it, of `limit_req_zone`.
    rate: Option<String>,
}

/// Zones of requests, and of connections, by name.
#[derive(Debug, Default)]
pub(super) struct Zones<'t> {
    pub(super) requests: HashMap<String, Zone<'t>>,
    pub(super) connections: HashMap<String, Zone<'t>>,
}

impl<'t> Zones<'t> {
    /// Takes in the zones of a block. They may stand in a server by mistake.
    pub(super) fn read(&mut self, level: &Level<'t>, notes: &mut Notes<'_>) {
        for (name, requests) in [("limit_req_zone", true), ("limit_conn_zone", false)] {
            for of in level.all(name) {
                let option =
                    |name: &str| of.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
                let Some(zone) = option("zone") else {
                    notes.wrong(of, "it has no zone: nginx rejects it");
                    continue;
                };
                let (zone, room) = zone.split_once(':').unwrap_or((zone, ""));
                let rate = option("rate").and_then(rate);
                if requests && rate.is_none() || size(room).is_none() {
                    notes.wrong(
                        of,
                        "it has a zone with a size, and a rate such as 10r/s or 30r/m: nginx rejects it",
                    );
                    continue;
                }
                let map = if requests { &mut self.requests } else { &mut self.connections };
                map.insert(zone.to_owned(), Zone { of, size: size(room), rate });
            }
        }
    }
}

/// `100r/s` as `100/s`.
fn rate(text: &str) -> Option<String> {
    let (count, unit) = text.split_once("r/").filter(|(_, unit)| ["s", "m"].contains(unit))?;
    let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
    Some(format!("{count}/{unit}"))
}

/// The parts of a key; nothing where it cannot be said, and none where it is the same for all.
fn key(text: &str) -> Option<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    for piece in pieces(text) {
        let Piece::Variable(name) = piece else { continue };
        let part = match name.as_str() {
            "binary_remote_addr" | "remote_addr" | "proxy_protocol_addr" => "source".to_owned(),
            "server_name" | "host" | "http_host" => "host".to_owned(),
            "uri" | "document_uri" | "request_uri" => "path".to_owned(),
            "server_port" | "server_addr" => "listener".to_owned(),
            name => {
                let kinds = [("http_", "header"), ("cookie_", "cookie"), ("arg_", "query")];
                let (start, kind) = kinds.iter().find(|(start, _)| name.starts_with(start))?;
                let which = name.strip_prefix(start).filter(|which| !which.is_empty())?;
                if *kind == "header" {
                    format!("header:{}", which.replace('_', "-"))
                } else {
                    format!("{kind}:{which}")
                }
            }
        };
        if !out.contains(&part) {
            out.push(part);
        }
    }
    Some(out)
}

/// Bytes that nginx needs for one key (module documentation, on 64 bits).
const STATE: u64 = 128;

impl<'t> Walker<'_, 't, '_> {
    /// A variable of a limit's key whose value is not known yet.
    pub(super) fn limit_variable(&self, way: &Way<'t>) -> Option<(String, &'t Directive)> {
        for (name, zones) in
            [("limit_req", &self.ground.zones.requests), ("limit_conn", &self.ground.zones.connections)]
        {
            for of in way.scope.all(name) {
                let Some(zone) = zones.get(zone_of(of)) else { continue };
                if let Some(variable) = self.open(zone.of.word(0), way, false) {
                    return Some((variable, of));
                }
            }
        }
        None
    }

    /// Writes the limits of a route that sends requests on.
    pub(super) fn limits(&mut self, way: &Way<'t>, draft: &mut Draft) {
        self.rates(way, draft);
        self.connections(way, draft);
        if draft.keys.iter().any(|(name, ..)| name == "\u{0}closed") {
            draft.keys.clear();
            draft.action = Action::Respond { status: 503, body: String::new(), kind: None };
            draft.why = Some("how its limit counts cannot be said: see the report".to_owned());
        }
    }

    fn rates(&mut self, way: &Way<'t>, draft: &mut Draft) {
        let mut all: Vec<(Value, &'t Directive)> = Vec::new();
        let dry = way.scope.find("limit_req_dry_run");
        let status = way.scope.find("limit_req_status");
        for of in way.scope.all("limit_req") {
            let name = zone_of(of);
            let Some(zone) = self.ground.zones.requests.get(name) else {
                self.notes.wrong(of, format!("there is no limit_req_zone {name}: nginx rejects the file"));
                continue;
            };
            let text = put_in(zone.of.word(0), &way.bound);
            self.notes.ok(zone.of);
            let doubt = super::walk::doubt(zone.of.word(0), way);
            if text.is_empty() && doubt.is_none() {
                // An empty key is not limited.
                self.notes.ok(of);
                continue;
            }
            let Some(parts) = key(&text).filter(|_| doubt.is_none()) else {
                self.notes.cannot(of, "what is counted by is no part of a request that a limit knows (rate_limit.key): nobody is let in until you choose one");
                draft.keys.push(("\u{0}closed".to_owned(), Value::Bool(true), None));
                continue;
            };
            if parts.contains(&"header:x-forwarded-for".to_owned()) {
                self.notes.wrong(zone.of, "clients write X-Forwarded-For themselves: who changes it is never limited. key = \"source\" with trusted_proxies in the listener is what was meant");
            }
            let mut pairs = vec![("name", Value::text(format!("req-{name}"))), ("key", key_value(&parts))];
            if parts.contains(&"source".to_owned()) {
                pairs.push(("prefix_v6", Value::Integer(128)));
            }
            if let Some(rate) = &zone.rate {
                pairs.push(("rate", Value::text(rate)));
            }
            self.burst(of, &mut pairs);
            pairs.extend(self.refusal(dry, status));
            if let Some(room) = zone.size {
                let count = i64::try_from((room / STATE).clamp(1, 10_000_000)).unwrap_or(10_000_000);
                pairs.push(("size", Value::Integer(count)));
            }
            all.push((Value::inline(pairs), of));
            self.notes.ok(of);
        }
        put("rate_limit", all, draft);
    }

    fn burst(&mut self, of: &'t Directive, pairs: &mut Vec<(&'static str, Value)>) {
        let option = |name: &str| of.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number =
            |text: Option<&str>| text.map_or(Some(0), |text| text.parse::<i64>().ok().filter(|n| *n >= 0));
        let Some(burst) = number(option("burst")) else {
            return self.notes.wrong(of, "burst is a number: nginx rejects it");
        };
        if burst > 0 {
            pairs.push(("burst", Value::Integer(burst)));
        }
        let nodelay = of.words.iter().any(|word| word == "nodelay");
        match (nodelay, option("delay"), number(option("delay"))) {
            (true, ..) => {}
            (_, Some(_), Some(delay)) => pairs.push(("delay", Value::Integer(delay.min(burst)))),
            (_, Some(_), None) => self.notes.wrong(of, "delay is a number: nginx rejects it"),
            (_, None, _) if burst > 0 => pairs.push(("delay", Value::Integer(0))),
            _ => {}
        }
    }

    fn refusal(
        &mut self,
        dry: Option<&'t Directive>,
        status: Option<&'t Directive>,
    ) -> Option<(&'static str, Value)> {
        let code =
            status.map(|of| (of, of.word(0).parse::<i64>().ok().filter(|code| (400..=599).contains(code))));
        let code = match code {
            Some((of, Some(code))) => {
                self.notes.ok(of);
                code
            }
            Some((of, None)) => {
                self.notes.wrong(of, "it is a status from 400 to 599: nginx rejects it");
                503
            }
            None => 503,
        };
        if let Some(dry) = dry {
            self.notes.ok(dry);
            if dry.word(0) == "on" {
                return Some(("on_limit", Value::text("count")));
            }
        }
        (code != 429).then_some(("status", Value::Integer(code)))
    }

    fn connections(&mut self, way: &Way<'t>, draft: &mut Draft) {
        let mut all: Vec<(Value, &'t Directive)> = Vec::new();
        let (dry, status) = (way.scope.find("limit_conn_dry_run"), way.scope.find("limit_conn_status"));
        for of in way.scope.all("limit_conn") {
            let name = of.word(0);
            let most = of.word(1).parse::<i64>().ok().filter(|most| (1..=65_535).contains(most));
            let (Some(zone), Some(most)) = (self.ground.zones.connections.get(name), most) else {
                self.notes.wrong(of, "it names a limit_conn_zone and a number up to 65535: nginx rejects it");
                continue;
            };
            self.notes.ok(zone.of);
            let text = put_in(zone.of.word(0), &way.bound);
            let doubt = super::walk::doubt(zone.of.word(0), way);
            if text.is_empty() && doubt.is_none() {
                self.notes.ok(of);
                continue;
            }
            if dry.is_some_and(|dry| dry.word(0) == "on") {
                self.notes.skip(of, "it is only counted; /metrics has the requests under way");
                continue;
            }
            let Some(parts) = key(&text).filter(|_| doubt.is_none()) else {
                self.notes.cannot(of, "what is counted by is no part of a request that a limit knows (concurrency_limit.key): nobody is let in until you choose one");
                draft.keys.push(("\u{0}closed".to_owned(), Value::Bool(true), None));
                continue;
            };
            let mut pairs = vec![("name", Value::text(format!("conn-{name}"))), ("key", key_value(&parts))];
            if parts.contains(&"source".to_owned()) {
                pairs.push(("prefix_v6", Value::Integer(128)));
            }
            pairs.push(("max", Value::Integer(most)));
            pairs.extend(self.refusal(None, status));
            all.push((Value::inline(pairs), of));
            self.notes.ok(of);
        }
        if let Some(dry) = dry {
            self.notes.ok(dry);
        }
        put("concurrency_limit", all, draft);
    }
}

fn key_value(parts: &[String]) -> Value {
    match parts {
        [] => Value::text("global"),
        parts => Value::one_or_list(parts),
    }
}

fn put(name: &str, mut all: Vec<(Value, &Directive)>, draft: &mut Draft) {
    let at = all.first().map(|(_, of)| of.at);
    match all.len() {
        0 => {}
        1 => draft.keys.extend(all.pop().map(|(value, _)| (name.to_owned(), value, at))),
        _ => draft.keys.push((
            name.to_owned(),
            Value::List(all.into_iter().map(|(value, _)| value).collect()),
            at,
        )),
    }
}

fn zone_of(of: &Directive) -> &str {
    if of.name == "limit_conn" {
        return of.word(0);
    }
    of.words.iter().find_map(|word| word.strip_prefix("zone=")).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_keys_are_read() {
        assert_eq!(rate("100r/s").as_deref(), Some("100/s"));
        assert_eq!(rate("15r/m").as_deref(), Some("15/m"));
        assert_eq!(rate("0r/s"), None);
        assert_eq!(rate("5/s"), None);
        assert_eq!(
            key("$binary_remote_addr$http_x_key"),
            Some(vec!["source".to_owned(), "header:x-key".to_owned()])
        );
        assert_eq!(key("all"), Some(Vec::new()));
        assert_eq!(key("$pid"), None);
    }
}
