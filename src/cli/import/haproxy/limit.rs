//! Rate limits as HAProxy's users build them, of a stick-table, a `track-sc` rule and a counter in a condition, as
//! `rate_limit` of routes.

use std::collections::HashMap;
use std::time::Duration;

use super::super::document::Value;
use super::super::report::Place;
use super::proxy::{Proxy, Set, Stage};
use super::said::{Said, not_possible, wrong};
use super::units::time;

/// A stick-table, as far as rates need it.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    /// Where it is defined.
    pub(super) at: Place,
    /// The window of `http_req_rate`.
    pub(super) window: Option<Duration>,
    /// The window of `conn_rate` or `sess_rate`.
    pub(super) of_connections: Option<Duration>,
    /// Whether it stores `conn_cur`.
    pub(super) open: bool,
    /// Whether it stores anything at all.
    pub(super) stores: bool,
    /// Whether a rule counts clients in it.
    pub(super) tracked: bool,
    /// How many keys it holds.
    pub(super) size: Option<i64>,
}

/// A limit on the rate of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// Those of one name count together.
    pub(super) name: String,
    /// What tells requests apart.
    pub(super) key: String,
    /// So many in a window are too many from the next one on.
    pub(super) requests: i64,
    /// The window; none of a limit on how many there are at once.
    pub(super) window: Option<Duration>,
    /// What becomes of the others.
    pub(super) on_limit: &'static str,
    /// The status that they get.
    pub(super) status: u16,
    /// How many keys are remembered.
    pub(super) size: Option<i64>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    /// Requests in a window.
    Requests,
    /// New connections in a window.
    Connections,
    /// Connections at once.
    Open,
}

impl Counter {
    /// How a limit differs from the rule that it is made of.
    pub(super) const fn difference(self) -> &'static str {
        match self {
            Self::Requests => {
                "a bucket in place of a window: the rate is the same, and what was refused does not count against the client; HAProxy counts it"
            }
            Self::Connections => "requests are counted, not connections: one connection may bring many",
            Self::Open => "requests under way are counted, not connections, idle or not",
        }
    }
}

/// A counter that a condition asks: of the client that a slot tracks, or of the source itself in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// What is counted.
    pub(super) what: Counter,
    /// The slot of `track-sc`; nothing for the source itself.
    pub(super) slot: Option<String>,
    /// The table, where it is named.
    pub(super) table: Option<String>,
    /// From more requests than this on.
    pub(super) more_than: i64,
}

/// Counters that limits are made of.
const COUNTERS: [(&str, Counter); 4] = [
    ("_http_req_rate", Counter::Requests),
    ("_conn_rate", Counter::Connections),
    ("_sess_rate", Counter::Connections),
    ("_conn_cur", Counter::Open),
];

/// Whether a fetch is such a counter.
#[must_use]
pub(super) fn counts(fetch: &str) -> bool {
    COUNTERS.iter().any(|(end, _)| fetch.ends_with(end))
}

/// `sc_http_req_rate(0) gt 100`, `sc0_http_req_rate gt 100` or `src_http_req_rate(table) gt 100`; nothing where it is a
/// counter of something else.
///
/// # Errors
/// What is to be said of one that no limit can be made of.
pub(super) fn asked(fetch: &str, argument: &str, texts: &[String]) -> Result<Option<Asked>, Said> {
    let number = |at: usize| texts.get(at).and_then(|text| text.parse::<i64>().ok());
    let more_than = match texts.first().map(String::as_str) {
        Some("gt") => number(1),
        Some("ge") => number(1).map(|number| number.saturating_sub(1)),
        _ => None,
    };
    let Some(more_than) = more_than.filter(|number| *number > 0) else {
        return Err(not_possible("a rate is asked for with `gt` or `ge` and a number"));
    };
    let known = COUNTERS.iter().find_map(|(end, what)| Some((fetch.strip_suffix(end)?, *what)));
    let Some((start, what)) = known else { return Ok(None) };
    let mut arguments = argument.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let slot = match start {
        "src" => None,
        "sc" => Some(arguments.next().ok_or_else(|| wrong("the number of the counter is missing"))?),
        sc if sc.starts_with("sc") => Some(sc.trim_start_matches("sc").to_owned()),
        _ => return Ok(None),
    };
    Ok(Some(Asked { what, slot, table: arguments.next(), more_than }))
}

/// Every stick-table, by the name of its section.
pub(super) fn tables(proxies: &[Proxy]) -> HashMap<String, Counters> {
    let tables = proxies.iter().filter_map(|proxy| {
        let (words, at) = proxy.stick_table.as_ref()?;
        Some((proxy.name.clone(), read(words, *at)))
    });
    let mut tables: HashMap<String, Counters> = tables.collect();
    for (proxy, rule) in proxies.iter().flat_map(|proxy| proxy.rules.iter().map(move |rule| (proxy, rule))) {
        if rule.words.iter().any(|word| word.starts_with("track-sc")) {
            let table = rule.words.iter().position(|word| word == "table");
            let name = table.and_then(|at| rule.words.get(at + 1)).unwrap_or(&proxy.name);
            if let Some(table) = tables.get_mut(name) {
                table.tracked = true;
            }
        }
    }
    tables
}

fn read(words: &[String], at: Place) -> Counters {
    let behind = |name: &str| {
        let place = words.iter().position(|word| word == name)?;
        words.get(place + 1).map(String::as_str)
    };
    let store = behind("store").unwrap_or("");
    let window = |name: &str| {
        let text = store.split(name).nth(1)?.strip_prefix('(')?.split(')').next()?;
        time(text).filter(|time| !time.is_zero())
    };
    Counters {
        at,
        window: window("http_req_rate"),
        of_connections: window("conn_rate").or_else(|| window("sess_rate")),
        open: store.contains("conn_cur"),
        stores: !store.is_empty(),
        tracked: false,
        size: behind("size").and_then(size),
    }
}

/// A number of entries; k, m and g are powers of 1024.
pub(super) fn size(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor).map(|size| size.clamp(1, 100_000_000))
}

/// The key of a `track-sc` rule, and the table that it names.
fn tracked<'a>(proxy: &'a Proxy, slot: &str) -> Option<(&'a str, Option<&'a str>, Place)> {
    let name = format!("track-sc{slot}");
    proxy
        .rules
        .iter()
        .filter(|rule| rule.stage == Stage::Request || rule.stage == Stage::Connection)
        .find_map(|rule| {
            let at = rule.words.iter().position(|word| *word == name)?;
            let key = rule.words.get(at + 1)?;
            let table =
                rule.words.iter().position(|word| word == "table").and_then(|at| rule.words.get(at + 1));
            Some((key.as_str(), table.map(String::as_str), rule.at))
        })
}

/// What tells requests apart, as `rate_limit` has it.
fn key(fetch: &str) -> Option<String> {
    let inside = |start: &str| fetch.strip_prefix(start).and_then(|rest| rest.strip_suffix(')'));
    match fetch {
        "src" | "req.hdr_ip(x-forwarded-for,-1)" | "hdr_ip(x-forwarded-for,-1)" => Some("source".to_owned()),
        "path" | "url" | "pathq" => Some("path".to_owned()),
        "hdr(host)" | "req.hdr(host)" | "hdr(Host)" | "req.hdr(Host)" => Some("host".to_owned()),
        _ => {
            let header = inside("req.hdr(")
                .or_else(|| inside("hdr("))
                .map(|name| format!("header:{}", name.to_ascii_lowercase()));
            let cookie =
                || inside("req.cook(").or_else(|| inside("cook(")).map(|name| format!("cookie:{name}"));
            header.or_else(cookie).filter(|key| !key.contains(','))
        }
    }
}

/// The limit that a condition comes to.
///
/// # Errors
/// Why it comes to none.
pub(super) fn limit(
    asked: &Asked,
    proxy: &Proxy,
    tables: &HashMap<String, Counters>,
    (on_limit, status): (&'static str, u16),
) -> Result<Limit, Said> {
    let (fetch, table) = match &asked.slot {
        None => ("src", None),
        Some(slot) => {
            let (fetch, table, _) = tracked(proxy, slot).ok_or_else(|| {
                wrong(format!("no rule of this section tracks sc{slot}: the counter is always 0"))
            })?;
            (fetch, table)
        }
    };
    let name = asked.table.as_deref().or(table).unwrap_or(&proxy.name);
    let counters = tables.get(name).ok_or_else(|| wrong(format!("there is no stick-table {name}")))?;
    if !counters.tracked {
        return Err(wrong(format!(
            "no rule tracks clients in the table of {name}, and to look there counts nothing: HAProxy refuses nobody. Write `http-request track-sc0 src table {name}`"
        )));
    }
    let (what, window) = match asked.what {
        Counter::Requests => ("http_req_rate", counters.window),
        Counter::Connections => ("conn_rate", counters.of_connections),
        Counter::Open => ("conn_cur", None),
    };
    if window.is_none() && !(asked.what == Counter::Open && counters.open) {
        return Err(wrong(format!("the stick-table {name} does not store {what}")));
    }
    let key = key(fetch).ok_or_else(|| {
        not_possible(format!(
            "requests are not told apart by {fetch}: write rate_limit with one of the keys that it has"
        ))
    })?;
    let requests = asked.more_than.clamp(1, 1_000_000);
    Ok(Limit { name: name.to_owned(), key, requests, window, on_limit, status, size: counters.size })
}

/// Limits of one name count together, so that those that differ have names of their own.
pub(super) fn name_apart(steps: &mut super::step::AllSteps) {
    let mut sections: Vec<_> = steps.iter_mut().collect();
    sections.sort_by(|a, b| a.0.cmp(b.0));
    let mut all: Vec<(Place, &mut Limit)> = Vec::new();
    for (_, of) in sections {
        all.extend(of.steps.iter_mut().filter_map(|step| match &mut step.effect {
            super::rule::Effect::Edit(super::rule::Edit {
                change: super::rule::Change::Limit(limit),
                ..
            }) => Some((step.at, limit)),
            _ => None,
        }));
    }
    all.sort_by_key(|(at, _)| *at);
    let mut taken: std::collections::HashSet<String> = std::collections::HashSet::new();
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut given: HashMap<(String, String), String> = HashMap::new();
    for (_, limit) in all {
        // What counts apart: everything that two of one name must have alike.
        let alike =
            format!("{}{}{:?}{}{:?}", limit.key(), limit.key, limit.window, limit.requests, limit.size);
        let wanted = limit.name.clone();
        let name = given.entry((wanted.clone(), alike)).or_insert_with(|| {
            let number = numbers.entry(wanted.clone()).or_insert(0_usize);
            loop {
                *number += 1;
                let name = if *number == 1 { wanted.clone() } else { format!("{wanted}-{number}") };
                if taken.insert(name.clone()) {
                    break name;
                }
            }
        });
        limit.name.clone_from(name);
    }
}

/// The lines that a limit is made of beside the one that asks: the rule that tracks, and the table.
pub(super) fn lines(asked: &Asked, proxy: &Proxy, tables: &HashMap<String, Counters>) -> Vec<Place> {
    let tracked = asked.slot.as_ref().and_then(|slot| tracked(proxy, slot));
    let name =
        asked.table.as_deref().or_else(|| tracked.and_then(|(_, table, _)| table)).unwrap_or(&proxy.name);
    tracked.map(|(.., at)| at).into_iter().chain(tables.get(name).map(|table| table.at)).collect()
}

/// The table that a `track-sc` rule without use counts in, when nothing is counted there.
pub(super) fn counts_nothing(
    words: &[String],
    proxy: &Proxy,
    tables: &HashMap<String, Counters>,
) -> Set<String> {
    let table = words.iter().position(|word| word == "table").and_then(|at| words.get(at + 1));
    let name = table.unwrap_or(&proxy.name);
    tables.get(name).filter(|table| !table.stores).map(|table| (name.clone(), table.at))
}

impl Limit {
    /// The key of a route that has it.
    #[must_use]
    pub(super) const fn key(&self) -> &'static str {
        if self.window.is_some() { "rate_limit" } else { "concurrency_limit" }
    }

    /// The limit as a route has it.
    pub(super) fn value(&self) -> Value {
        let Some(window) = self.window else {
            let mut pairs = vec![("name", Value::text(&self.name))];
            if self.key != "source" {
                pairs.push(("key", Value::text(&self.key)));
            }
            pairs.push(("max", Value::Integer(self.requests)));
            if self.status != 429 {
                pairs.push(("status", Value::Integer(i64::from(self.status))));
            }
            return Value::inline(pairs);
        };
        let mut pairs = vec![("name", Value::text(&self.name))];
        if self.key != "source" {
            pairs.push(("key", Value::text(&self.key)));
        }
        pairs.push(("rate", Value::text(self.rate(window))));
        // One more than the burst passes at once.
        pairs.push(("burst", Value::Integer(self.requests - 1)));
        if self.on_limit == "reject" {
            if self.status != 429 {
                pairs.push(("status", Value::Integer(i64::from(self.status))));
            }
        } else {
            pairs.push(("on_limit", Value::text(self.on_limit)));
        }
        if let Some(size) = self.size {
            pairs.push(("size", Value::Integer(size)));
        }
        Value::inline(pairs)
    }

    /// The rate in the smallest unit that holds it; at least one an hour.
    fn rate(&self, window: Duration) -> String {
        let millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX).max(1);
        for (unit, length) in [("s", 1_000), ("m", 60_000)] {
            let all = self.requests.saturating_mul(length);
            if all % millis == 0 {
                return format!("{}/{unit}", all / millis);
            }
        }
        format!("{}/h", (self.requests.saturating_mul(3_600_000) / millis).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_becomes_a_rate_in_the_smallest_unit_that_holds_it() {
        let rate = |requests, seconds| {
            let window = Duration::from_secs(seconds);
            let (name, key) = (String::new(), String::new());
            let limit = Limit {
                name,
                key,
                requests,
                window: Some(window),
                on_limit: "reject",
                status: 429,
                size: None,
            };
            limit.rate(window)
        };
        assert_eq!(rate(100, 10), "10/s");
        assert_eq!(rate(20, 30), "40/m");
        assert_eq!(rate(5, 3600), "5/h");
        assert_eq!(rate(1, 864_000), "1/h");
    }

    #[test]
    fn a_table_tells_its_window_and_size() {
        let words: Vec<String> = "type ip size 100k expire 30s store gpc0,http_req_rate(10s),conn_cur"
            .split(' ')
            .map(str::to_owned)
            .collect();
        let table = read(&words, Place { file: 0, line: 1 });
        assert_eq!((table.window, table.size), (Some(Duration::from_secs(10)), Some(102_400)));
        assert!(table.open && table.of_connections.is_none());
        assert!(table.stores);
    }
}
