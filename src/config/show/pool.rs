//! A pool of a [`Config`](super::super::Config) as TOML, every default written out.

use super::sticky::sticky;
use super::{Page, Subject, braces, join, quote, quote_key};
use crate::config::health::{Check, Closing, Expected, Health, HttpCheck};
use crate::config::pool::{Endpoint, Pool, PoolLimits};
use crate::config::retry::{NonIdempotent, Retry};
use crate::config::tls::{ClientTls, Naming};
use crate::model::grpc;
use crate::model::proxy_protocol::Version;
use crate::model::units::format_duration;
use crate::policy::admission::gradient;
use crate::policy::breaker::{self, Scope};
use crate::policy::failover::Failback;
use crate::policy::failure::Counted;
use crate::policy::{health, hedge, outlier};

/// Prints a pool with all its sections.
pub(super) fn pool(page: &mut Page, pool: &Pool) {
    let name = quote_key(pool.name.as_str());
    page.begin(Subject::Pool, pool.name.as_str(), &format!("pool.{name}"));
    page.section(format_args!("[pool.{name}]"));
    page.text("balance", pool.balance.word());
    page.text("protocol", pool.protocol.word());
    if pool.balance.hashes() {
        page.text("hash_key", &pool.hash_key);
        page.key("load_factor", or_off(pool.load_factor.map(|factor| factor.to_string())));
    }
    if !pool.endpoints.is_empty() {
        page.line("endpoints = [");
        for one in &pool.endpoints {
            endpoint(page, one);
        }
        page.line("]");
    }
    if let Some(path) = &pool.endpoints_file {
        page.text("endpoints_file", path.display());
    }
    order(page, pool);
    page.section(format_args!("[pool.{name}.limits]"));
    show_limits(page, &pool.limits);
    page.section(format_args!("[pool.{name}.timeouts]"));
    let timeouts = &pool.timeouts;
    page.time("connect", timeouts.connect);
    page.time("response_header", timeouts.response_header);
    page.time("idle", timeouts.idle);
    page.time("keep_alive", timeouts.keep_alive);
    page.time("tunnel", timeouts.tunnel);
    page.time("tcp_user_timeout", timeouts.tcp_user_timeout);
    page.time("tcp_keepalive", timeouts.tcp_keepalive);
    page.time("http2_ping", timeouts.http2_ping);
    page.section(format_args!("[pool.{name}.retry]"));
    for (key, value) in retry(&pool.retry) {
        page.key(key, value);
    }
    if let Some(tls) = &pool.tls {
        page.section(format_args!("[pool.{name}.tls]"));
        for (key, value) in tls_keys(&tls.client) {
            page.key(key, value);
        }
        page.key("sessions", tls.sessions);
    }
    if let Some(probes) = &pool.health {
        page.section(format_args!("[pool.{name}.health]"));
        show_health(page, probes);
    }
    if let Some(settings) = &pool.outlier {
        page.section(format_args!("[pool.{name}.outlier]"));
        show_outlier(page, settings);
    }
    if let Some(settings) = &pool.breaker {
        page.section(format_args!("[pool.{name}.breaker]"));
        show_breaker(page, settings);
    }
    if let Some(settings) = &pool.sticky {
        sticky(page, pool.name.as_str(), settings);
    }
}

fn show_limits(page: &mut Page, limits: &PoolLimits) {
    page.key("max_requests", limits.max_requests);
    page.key("max_connections", limits.max_connections);
    if let Some(rising) = limits.rising {
        page.key("min_requests", rising.min);
        page.key("full_load", rising.full_load);
    }
    page.key("adaptive", or_off(limits.adaptive.map(|adaptive| shown_adaptive(&adaptive))));
    page.key("queue", limits.queue);
    page.time("queue_timeout", limits.queue_timeout);
    admission(page, limits);
    page.text("answer_head", limits.answer_head);
    page.key("answer_fields", limits.answer_fields);
    page.key("interim_answers", limits.interim_answers);
    page.text("answer_chunk_extensions", limits.answer_chunk_extensions);
    page.key("idle_connections", limits.idle_connections);
    page.key("http2_connections", limits.http2_connections);
    page.key("http2_streams", limits.http2_streams);
    page.text("http2_window", limits.http2_window);
    page.key("http2_frames", limits.http2_frames);
}

fn shown_adaptive(adaptive: &gradient::Settings) -> String {
    let every = quote(&format_duration(adaptive.baseline_every));
    let (min, headroom) = (adaptive.min, adaptive.headroom);
    format!("{{ min = {min}, baseline_every = {every}, headroom = {headroom} }}")
}

/// What says who is let in when not all can be.
fn admission(page: &mut Page, limits: &PoolLimits) {
    match &limits.shedding {
        Some(shedding) => {
            page.time("queue_target", shedding.target);
            page.time("queue_interval", shedding.interval);
            page.key("queue_newest_first", shedding.newest_first);
        }
        None => page.text("queue_target", "off"),
    }
}

fn endpoint(page: &mut Page, endpoint: &Endpoint) {
    // What it was resolved from is nothing that can be written.
    let Endpoint { name, address, weight, tier, max_requests, zone, health, host: _, capacity } = endpoint;
    let mut keys = vec![
        format!("name = {}", quote(name.as_str())),
        format!("address = {}", quote(&address.to_string())),
        format!("weight = {}", weight.get()),
        format!("tier = {tier}"),
    ];
    keys.extend(max_requests.map(|ceiling| format!("max_requests = {ceiling}")));
    if !zone.is_empty() {
        keys.push(format!("zone = {}", quote(zone)));
    }
    keys.extend(capacity.map(|rate| format!("capacity = {}", quote(&rate.to_string()))));
    let address = health.address.map(|address| format!("address = {}", quote(&address.to_string())));
    let port = health.port.map(|port| format!("port = {port}"));
    if address.is_some() || port.is_some() {
        keys.push(format!("health = {}", braces(address.into_iter().chain(port))));
    }
    page.line(format_args!("  {{ {} }},", keys.join(", ")));
}

/// What says which endpoints and pools come first, and how one comes back.
fn order(page: &mut Page, pool: &Pool) {
    page.key("required", pool.required);
    page.key("exclusive", pool.exclusive.is_some());
    if let Some(exclusive) = &pool.exclusive {
        if let Some(rank) = &exclusive.rank {
            page.key("exclusive_rank", format_args!("{{ json = {} }}", quote(rank)));
        }
        page.time("stale_for", exclusive.stale_for);
    }
    page.list("failover", &pool.failover_pools);
    page.key("spill", or_off(pool.failover.spill.map(|factor| factor.to_string())));
    match pool.failover.failback {
        Failback::Manual => page.text("failback", "manual"),
        Failback::After { after, ramp } => {
            let (after, ramp) = (quote(&format_duration(after)), quote(&format_duration(ramp)));
            page.key("failback", format_args!("{{ after = {after}, ramp = {ramp} }}"));
        }
    }
    page.key("fail_open", pool.fail_open);
    page.key("panic_threshold", pool.failover.panic_threshold);
    page.amount("min_available", pool.failover.min_available);
    page.text("send_proxy", pool.send_proxy.map_or("off", Version::word));
    page.text("source_address", pool.source);
    if let Some(load) = pool.load {
        page.text("load", load);
    }
    page.time("slow_start", pool.slow_start);
    page.time("drain_timeout", pool.drain_timeout);
    page.time("max_connection_age", pool.max_connection_age.unwrap_or_default());
    if pool.tls.is_none() {
        page.text("tls", "off");
    }
    if pool.health.is_none() {
        page.text("health", "off");
    }
    if pool.outlier.is_none() && pool.exclusive.is_none() {
        page.text("outlier", "off");
    }
    if pool.breaker.is_none() {
        page.text("breaker", "off");
    }
    if pool.sticky.is_none() {
        page.text("sticky", "off");
    }
}

/// The keys of retry rules.
pub(super) fn retry(retry: &Retry) -> [(&'static str, String); 8] {
    let non_idempotent = match retry.non_idempotent {
        NonIdempotent::Never => "false".to_owned(),
        NonIdempotent::Always => "true".to_owned(),
        NonIdempotent::WithIdempotencyKey => quote("with_idempotency_key"),
    };
    let budget = retry.budget.map(|budget| {
        format!("{{ ratio = {}, minimum_per_second = {} }}", budget.ratio, budget.minimum_per_second)
    });
    [
        ("attempts", retry.attempts.to_string()),
        ("on", causes(&retry.on)),
        ("per_try_timeout", or_off(retry.per_try_timeout.map(|time| quote(&format_duration(time))))),
        ("within", quote(&format_duration(retry.within))),
        ("non_idempotent", non_idempotent),
        ("max_body", quote(&retry.max_body.to_string())),
        ("hedge", or_off(retry.hedge.map(|hedge| shown_hedge(&hedge)))),
        ("budget", or_off(budget)),
    ]
}

fn shown_hedge(hedge: &hedge::Settings) -> String {
    let (min, max) =
        (quote(&format_duration(hedge.min_delay)), hedge.max_delay.map(|max| quote(&format_duration(max))));
    format!("{{ after = {}, min_delay = {min}, max_delay = {} }}", hedge.after, or_off(max))
}

fn or_off(value: Option<String>) -> String {
    value.unwrap_or_else(|| quote("off"))
}

fn causes(counted: &Counted) -> String {
    let words = [("connect", counted.connect), ("reset", counted.reset), ("timeout", counted.timeout)];
    let words = words.into_iter().filter(|(_, on)| *on).map(|(word, _)| quote(word));
    format!("[{}]", join(words.chain(statuses(&counted.statuses))))
}

fn statuses(ranges: &[(u16, u16)]) -> impl Iterator<Item = String> {
    ranges.iter().flat_map(|(first, last)| {
        // Those of gRPC have no ranges.
        let words: Vec<String> = (*first..=*last).filter_map(grpc::word).collect();
        match (first == last, words.is_empty()) {
            (_, false) => words.iter().map(|word| quote(word)).collect(),
            (true, true) => vec![quote(&first.to_string())],
            (false, true) => vec![quote(&format!("{first}-{last}"))],
        }
    })
}

fn show_health(page: &mut Page, probes: &Health) {
    page.text("check", probes.check.word());
    show_check(page, &probes.check);
    if let Some(port) = probes.port {
        page.key("port", port);
    }
    if let Some(sends) = probes.send_proxy {
        page.key("send_proxy", sends);
    }
    show_schedule(page, &probes.settings);
    page.key("on_demotion", or_off(probes.on_demotion.map(closing)));
    page.key("on_unreachable", or_off(probes.on_unreachable.map(closing)));
    page.key("shed", or_off(probes.shed.map(|rate| format!("{{ rate = {} }}", quote(&rate.to_string())))));
}

fn show_expect(page: &mut Page, expect: Option<&Expected>) {
    match expect {
        Some(Expected::Text(text)) => page.text("expect", text),
        Some(Expected::Regex(regex)) => {
            page.key("expect", format_args!("{{ regex = {} }}", quote(regex.as_str())));
        }
        None => {}
    }
}

fn show_check(page: &mut Page, check: &Check) {
    match check {
        Check::Http(http) => show_http(page, http),
        Check::Tcp { send, expect, tls } => {
            show_send(page, send);
            show_expect(page, expect.as_ref());
            show_tls(page, tls.as_ref());
        }
        Check::Udp { send, expect } => {
            show_send(page, send);
            show_expect(page, expect.as_ref());
        }
        Check::Tls(tls) => show_tls(page, Some(tls)),
        Check::Grpc { service, host, tls } => {
            page.text("service", service);
            page.optional("host", host.as_ref());
            show_tls(page, tls.as_ref());
        }
        Check::Postgres { user, tls } => {
            page.text("user", user);
            show_tls(page, tls.as_ref());
        }
        Check::Mysql { user, tls } => {
            page.optional("user", user.as_ref());
            show_tls(page, tls.as_ref());
        }
        Check::Redis { primary, tls } => {
            page.text("role", if *primary { "primary" } else { "any" });
            show_tls(page, tls.as_ref());
        }
        Check::Agent { send } => show_send(page, send),
        Check::Exec { command } => page.list("command", command),
    }
}

fn show_send(page: &mut Page, send: &[u8]) {
    if !send.is_empty() {
        page.text("send", String::from_utf8_lossy(send));
    }
}

fn show_http(page: &mut Page, http: &HttpCheck) {
    page.text("path", &http.path);
    page.text("method", &http.method);
    page.optional("host", http.host.as_ref());
    let field = |(name, value): &(crate::model::field::FieldName, crate::model::field::FieldValue)| {
        format!("{} = {}", quote_key(name.as_str()), quote(value.as_str()))
    };
    page.key("headers", braces(http.headers.iter().map(field)));
    page.key("expect_status", format_args!("[{}]", join(statuses(&http.expect_status))));
    page.optional("expect_body", http.expect_body.as_ref());
    show_tls(page, http.tls.as_ref());
}

fn show_tls(page: &mut Page, tls: Option<&ClientTls>) {
    let Some(tls) = tls else { return page.text("tls", "off") };
    let keys = tls_keys(tls).into_iter().map(|(key, value)| format!("{key} = {value}"));
    page.key("tls", braces(keys));
}

fn tls_keys(tls: &ClientTls) -> Vec<(&'static str, String)> {
    let path = |path: &std::path::PathBuf| quote(&path.display().to_string());
    let identity = tls.identity.as_ref();
    let verify = tls.verify_off.as_ref().map(|reason| format!("{{ off = {} }}", quote(reason)));
    let server_name = match &tls.server_name {
        Naming::Endpoint => None,
        Naming::Fixed(name) => Some(quote(name)),
        Naming::Host => Some(quote("{host}")),
    };
    let keys = [
        ("server_name", server_name),
        ("ca", tls.ca.as_ref().map(path)),
        ("cert", identity.map(|identity| path(&identity.cert))),
        ("key", identity.map(|identity| path(&identity.key))),
        ("verify", verify),
        ("min_version", Some(quote(tls.min_version.word()))),
    ];
    keys.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn show_schedule(page: &mut Page, settings: &health::Settings) {
    page.time("interval", settings.interval);
    page.time("timeout", settings.timeout);
    page.key("rise", settings.rise);
    page.key("fall", settings.fall);
    page.time("fast_interval", settings.fast_interval);
    page.time("down_interval", settings.down_interval);
    page.key("jitter", settings.jitter);
    let damping = settings.damping.as_ref().map(|damping| {
        let (half_life, max_time) = (format_duration(damping.half_life), format_duration(damping.max_time));
        let (suppress, reuse) = (damping.suppress, damping.reuse);
        format!(
            "{{ half_life = {}, suppress = {suppress}, reuse = {reuse}, max_time = {} }}",
            quote(&half_life),
            quote(&max_time)
        )
    });
    page.key("damping", or_off(damping));
}

fn closing(closing: Closing) -> String {
    let after = quote(&format_duration(closing.after));
    match closing.rate {
        Some(rate) => format!("{{ close_after = {after}, rate = {} }}", quote(&rate.to_string())),
        None => format!("{{ close_after = {after} }}"),
    }
}

fn show_outlier(page: &mut Page, settings: &outlier::Settings) {
    page.key("count", causes(&settings.count));
    match settings.max_fails {
        Some(nginx) => {
            page.key("max_fails", nginx.max_fails);
            page.time("fail_timeout", nginx.fail_timeout);
        }
        None => {
            page.key("consecutive_failures", settings.consecutive_failures);
            page.key("failure_ratio", or_off(settings.failure_ratio.map(|ratio| ratio.to_string())));
        }
    }
    page.key("minimum_requests", settings.minimum_requests);
    page.time("window", settings.window);
    page.time("ejection_time", settings.ejection_time);
    page.time("max_ejection_time", settings.max_ejection_time);
    page.amount("max_ejected", settings.max_ejected);
    let latency = settings.latency.as_ref().map(|latency| {
        let (factor, requests, floor) = (latency.factor, latency.minimum_requests, latency.floor);
        let floor = quote(&format_duration(floor));
        format!("{{ factor = {factor}, minimum_requests = {requests}, floor = {floor} }}")
    });
    page.key("latency", or_off(latency));
}

fn show_breaker(page: &mut Page, settings: &breaker::Settings) {
    page.text("scope", if settings.scope == Scope::Pool { "pool" } else { "endpoint" });
    page.key("count", causes(&settings.count));
    page.key("failure_threshold", settings.failure_threshold);
    page.key("failure_ratio", or_off(settings.failure_ratio.map(|ratio| ratio.to_string())));
    page.key("minimum_requests", settings.minimum_requests);
    page.key("success_threshold", settings.success_threshold);
    page.time("window", settings.window);
    page.time("open_time", settings.open_time);
    page.key("half_open_requests", settings.half_open_requests);
}
