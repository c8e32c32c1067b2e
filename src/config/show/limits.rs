//! Limits of a route, as they are printed.

use super::{Page, join, quote};
use crate::config::listener::ListenerLimits;
use crate::config::rate_limit::{ConcurrencyLimit, Limits, OnLimit, RateLimit};
use crate::model::limit_key::{LimitKey, LimitPart};
use crate::model::units::format_duration;

pub(super) fn show_limits(page: &mut Page, limits: &Limits) {
    if !limits.rates.is_empty() {
        page.key("rate_limit", format_args!("[{}]", join(limits.rates.iter().map(rate_limit))));
    }
    if !limits.concurrency.is_empty() {
        let shown = join(limits.concurrency.iter().map(concurrency_limit));
        page.key("concurrency_limit", format_args!("[{shown}]"));
    }
}

pub(super) fn show_bandwidth(page: &mut Page, limits: &ListenerLimits) {
    for (key, rate) in [("bandwidth_in", limits.bandwidth_in), ("bandwidth_out", limits.bandwidth_out)] {
        page.text(key, rate.map_or_else(|| "off".to_owned(), |rate| rate.to_string()));
    }
}

fn rate_limit(limit: &RateLimit) -> String {
    let mut keys = vec![("name", quote(&limit.name))];
    keys.extend(key(&limit.key));
    keys.push(("rate", quote(&limit.rate.to_string())));
    keys.push(("burst", limit.burst.to_string()));
    keys.extend(limit.delay.map(|delay| ("delay", delay.to_string())));
    keys.push(("on_limit", quote(limit.on_limit.word())));
    if !matches!(limit.on_limit, OnLimit::Drop | OnLimit::Count) {
        keys.push(("status", limit.status.to_string()));
    }
    if let OnLimit::Tarpit { time, max } = limit.on_limit {
        keys.push(("tarpit", quote(&format_duration(time))));
        keys.push(("tarpit_max", max.to_string()));
    }
    keys.push(("headers", quote(limit.headers.word())));
    keys.push(("size", limit.size.to_string()));
    table(keys)
}

fn concurrency_limit(limit: &ConcurrencyLimit) -> String {
    let mut keys = vec![("name", quote(&limit.name))];
    keys.extend(key(&limit.key));
    keys.push(("max", limit.max.to_string()));
    keys.push(("status", limit.status.to_string()));
    table(keys)
}

fn key(key: &LimitKey) -> Vec<(&'static str, String)> {
    let parts = join(key.parts.iter().map(|part| quote(&part.to_string())));
    let mut keys = vec![("key", format!("[{parts}]"))];
    if key.parts.contains(&LimitPart::Source) {
        keys.push(("prefix_v4", key.prefix_v4.to_string()));
        keys.push(("prefix_v6", key.prefix_v6.to_string()));
    }
    keys
}

fn table(keys: Vec<(&'static str, String)>) -> String {
    format!("{{ {} }}", join(keys.into_iter().map(|(key, value)| format!("{key} = {value}"))))
}
