//! What one seed runs with: pools of every policy in small numbers and with short times, as the text of a configuration,
//! so that what is written, read and compiled is part of what is shown.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use plimsoll::config::{self, Config};

/// Pool 0 takes requests, pool 1 is where it fails over to, pool 2 has one leader and takes tcp sessions, pool 3 takes tcp
/// sessions too, which are moved and ended by rates.
pub(crate) const WEB: usize = 0;
/// The failover pool.
pub(crate) const DR: usize = 1;
/// The exclusive pool.
pub(crate) const DB: usize = 2;

/// The pool of many tcp sessions.
pub(crate) const LB: usize = 3;

/// Connections of each endpoint of that pool.
pub(crate) const LB_CONNECTIONS: u32 = 8;

/// What leads to a removed endpoint gets in all pools.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// The route whose requests are split between pools 0 and 1.
pub(crate) const SPLIT: usize = 2;

/// Longest time to an answer of a node that answers its probes.
pub(crate) const PROBE_ANSWER_MS: u64 = 150;

/// Longest time to the response head of a request.
pub(crate) const RESPONSE_HEADER: Duration = Duration::from_millis(1500);

/// Longest time to connect to an endpoint.
pub(crate) const CONNECT: Duration = Duration::from_millis(500);

/// The configuration of a seed.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// As it stands in a file.
    pub(crate) text: String,
    /// As it is meant.
    pub(crate) config: Config,
    /// Nodes behind all pools together.
    pub(crate) nodes: usize,
}

impl Scenario {
    /// Draws one.
    ///
    /// # Panics
    /// When the text is no valid configuration: the generator is wrong then.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut text = String::from(
            "[listener.web]\nbind = [\"127.0.0.1:8080\"]\n\
             [listener.db]\nbind = [\"127.0.0.1:5432\"]\nprotocol = \"tcp\"\npool = \"p2\"\n\
             [listener.lb]\nbind = [\"127.0.0.1:6443\"]\nprotocol = \"tcp\"\npool = \"p3\"\n\
             [[route]]\npath_prefix = \"/a\"\npool = \"p0\"\n[[route]]\npath_prefix = \"/b\"\npool = \"p1\"\n\
             [[route]]\npath_prefix = \"/c\"\n\
             split = [{ pool = \"p0\", weight = 3 }, { pool = \"p1\", weight = 1 }]\n",
        );
        if rng.u8(..3) == 0 {
            text.push_str("[process]\nzone = \"a\"\n");
        }
        let counts = [rng.usize(1..6), rng.usize(1..4), rng.usize(1..4), rng.usize(1..4)];
        let mut first = 0;
        for (pool, count) in counts.into_iter().enumerate() {
            section(&mut text, rng, pool, first..first + count);
            first += count;
        }
        let config = match config::load_text(&text, Path::new("seed.toml"), &|_| None) {
            Ok(config) => config,
            Err(diagnostics) => panic!("no valid configuration:\n{diagnostics}\n{text}"),
        };
        Self { text, config, nodes: first }
    }
}

fn one_in(rng: &mut Rng, n: u32) -> bool {
    rng.u32(..n) == 0
}

fn pick<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.usize(..words.len())]
}

/// Writes the sections of a pool.
fn section(text: &mut String, rng: &mut Rng, pool: usize, nodes: std::ops::Range<usize>) {
    writeln!(text, "[pool.p{pool}]").expect("text grows");
    endpoints(text, rng, pool, nodes);
    let mut key = |name: &str, value: &str| {
        writeln!(text, "{name} = {value}").expect("text grows");
    };
    key("drain_timeout", "\"5s\"");
    key("slow_start", pick(rng, &["\"0s\"", "\"0s\"", "\"2s\""]));
    if pool == DB {
        key("exclusive", "true");
        key("stale_for", pick(rng, &["\"3s\"", "\"10s\""]));
        if one_in(rng, 2) {
            key("exclusive_rank", "{ json = \"timeline\" }");
        }
        key("limits", "{ max_connections = 6 }");
        key("timeouts", "{ connect = \"500ms\" }");
    } else if pool == LB {
        key("balance", pick(rng, &["\"least_requests\"", "\"round_robin\"", "\"random\""]));
        key("limits", &format!("{{ max_connections = {LB_CONNECTIONS} }}"));
        key("timeouts", "{ connect = \"500ms\" }");
        key("fail_open", "false");
        outlier(text, rng, pool);
    } else {
        key("balance", &format!("\"{}\"", balance(rng)));
        if pool == WEB && one_in(rng, 2) {
            key("failover", "[\"p1\"]");
        }
        key("spill", pick(rng, &["\"off\"", "\"off\"", "1.4"]));
        let failback =
            ["{ after = \"500ms\", ramp = \"1s\" }", "{ after = \"1s\", ramp = \"0s\" }", "\"manual\""];
        key("failback", pick(rng, &failback));
        key("fail_open", pick(rng, &["true", "false"]));
        key("panic_threshold", pick(rng, &["0.0", "0.0", "0.0", "0.4"]));
        key("min_available", pick(rng, &["0", "1", "2", "\"50%\""]));
        let max = rng.u32(1..12);
        key(
            "limits",
            &format!(
                "{{ max_requests = {max}, queue = {}, queue_timeout = \"2s\"{} }}",
                rng.u32(..8),
                admission(rng)
            ),
        );
        key("timeouts", "{ connect = \"500ms\", response_header = \"1500ms\" }");
        retry(text, rng, pool);
        outlier(text, rng, pool);
        breaker(text, rng, pool);
    }
    health(text, rng, pool);
}

fn endpoints(text: &mut String, rng: &mut Rng, pool: usize, nodes: std::ops::Range<usize>) {
    let tiered = pool == WEB && one_in(rng, 2);
    text.push_str("endpoints = [\n");
    for node in nodes {
        let tier = if tiered { node % 2 } else { 0 };
        let zone = pick(rng, &["a", "b"]);
        let weight = rng.u32(1..4);
        writeln!(
            text,
            "  {{ name = \"n{node}\", address = \"10.0.0.{}:80\", weight = {weight}, tier = {tier}, zone = \"{zone}\" }},",
            node + 1
        ).expect("text grows");
    }
    text.push_str("]\n");
}

fn balance(rng: &mut Rng) -> &'static str {
    // The table of maglev takes long to fill in a build without optimization: it is drawn now and then only.
    if one_in(rng, 60) {
        return "maglev";
    }
    pick(rng, &["round_robin", "least_requests", "random", "first", "peak_ewma", "ring_hash", "rendezvous"])
}

fn retry(text: &mut String, rng: &mut Rng, pool: usize) {
    writeln!(text, "[pool.p{pool}.retry]").expect("text grows");
    writeln!(text, "attempts = {}", rng.u32(1..5)).expect("text grows");
    let on = pick(
        rng,
        &["[\"connect\", \"reset\"]", "[\"connect\", \"reset\", \"timeout\", \"502-504\"]", "[\"connect\"]"],
    );
    writeln!(text, "on = {on}\nwithin = \"3s\"").expect("text grows");
    writeln!(text, "non_idempotent = {}", pick(rng, &["false", "\"with_idempotency_key\"", "true"]))
        .expect("text grows");
    let budget =
        ["{ ratio = 0.2, minimum_per_second = 0 }", "{ ratio = 0.1, minimum_per_second = 1 }", "\"off\""];
    writeln!(text, "budget = {}", pick(rng, &budget)).expect("text grows");
}

fn outlier(text: &mut String, rng: &mut Rng, pool: usize) {
    writeln!(text, "[pool.p{pool}.outlier]").expect("text grows");
    let count =
        ["[\"connect\", \"reset\", \"timeout\"]", "[\"connect\", \"reset\", \"timeout\", \"500-599\"]"];
    writeln!(text, "count = {}", pick(rng, &count)).expect("text grows");
    writeln!(text, "window = \"5s\"\nejection_time = \"1s\"\nmax_ejection_time = \"5s\"")
        .expect("text grows");
    writeln!(text, "max_ejected = {}", pick(rng, &["\"50%\"", "\"34%\"", "1", "\"100%\""]))
        .expect("text grows");
    if one_in(rng, 4) {
        writeln!(text, "max_fails = {}\nfail_timeout = \"2s\"", rng.u32(1..4)).expect("text grows");
    } else {
        writeln!(text, "consecutive_failures = {}\nminimum_requests = 5", rng.u32(1..5)).expect("text grows");
    }
    if one_in(rng, 3) {
        text.push_str("latency = { factor = 3.0, minimum_requests = 5 }\n");
    }
}

fn breaker(text: &mut String, rng: &mut Rng, pool: usize) {
    if one_in(rng, 2) {
        return;
    }
    writeln!(text, "[pool.p{pool}.breaker]\nwindow = \"5s\"\nopen_time = \"1s\"").expect("text grows");
    writeln!(text, "scope = {}", pick(rng, &["\"endpoint\"", "\"endpoint\"", "\"pool\""]))
        .expect("text grows");
    writeln!(text, "failure_threshold = {}", rng.u32(2..6)).expect("text grows");
    writeln!(text, "success_threshold = {}", rng.u32(1..3)).expect("text grows");
    writeln!(text, "half_open_requests = {}", rng.u32(1..3)).expect("text grows");
}

fn health(text: &mut String, rng: &mut Rng, pool: usize) {
    if pool < DB && one_in(rng, 4) {
        return;
    }
    writeln!(text, "[pool.p{pool}.health]\ncheck = \"http\"").expect("text grows");
    let interval = rng.u32(2..11) * 100;
    writeln!(text, "interval = \"{interval}ms\"").expect("text grows");
    writeln!(text, "timeout = \"{}ms\"", rng.u32(4..12) * 100).expect("text grows");
    writeln!(text, "rise = {}\nfall = {}", rng.u32(1..4), rng.u32(1..4)).expect("text grows");
    let damping = ["\"off\"", "\"off\"", "{ half_life = \"2s\", max_time = \"6s\" }"];
    if pool == LB {
        let on_demotion =
            ["\"off\"", "{ close_after = \"0s\", rate = \"4/s\" }", "{ close_after = \"500ms\" }"];
        writeln!(text, "on_demotion = {}", pick(rng, &on_demotion)).expect("text grows");
        writeln!(text, "shed = {}", pick(rng, &["\"off\"", "{ rate = \"3/s\" }", "{ rate = \"1/s\" }"]))
            .expect("text grows");
    }
    writeln!(text, "damping = {}", if pool == DB { "\"off\"" } else { pick(rng, &damping) })
        .expect("text grows");
}

/// Ceilings that move, and a queue that sheds, in some worlds.
fn admission(rng: &mut Rng) -> String {
    let ceilings = [
        "",
        ", min_requests = 1, full_load = 10",
        ", adaptive = { min = 1, baseline_every = \"5s\", headroom = 0.5 }",
    ];
    let shedding = [
        "",
        ", queue_target = \"50ms\"",
        ", queue_target = \"50ms\", queue_interval = \"20ms\", queue_newest_first = true",
    ];
    let ceilings = pick(rng, &ceilings).to_owned();
    ceilings + pick(rng, &shedding)
}
