//! The figures as a person or a program reads them: medians over rounds, ratios to ours, targets reached or missed.

use std::io::Write;

use serde_json::{Value, json};

use crate::lines::{Line, Work};
use crate::peers::{Kind, Peer};

/// What one proxy did in one round of one line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// CPU microseconds per answer, or bytes of memory per idle connection.
    pub(crate) cost: f64,
    /// Answers per second.
    pub(crate) rate: f64,
    /// Microseconds that half of the answers took at most.
    pub(crate) p50: f64,
    /// Microseconds that 99 % of the answers took at most.
    pub(crate) p99: f64,
    /// MiB, the most that was ever resident.
    pub(crate) peak: f64,
    /// Share of its CPU that the proxy was busy.
    pub(crate) busy: f64,
}

/// The rounds of one proxy on one line.
pub(crate) struct Entry {
    pub(crate) peer: Peer,
    pub(crate) rounds: Vec<Sample>,
    /// Why there are no figures, when there are none.
    pub(crate) failure: Option<String>,
}

impl Entry {
    fn median(&self) -> Option<Sample> {
        let of = |figure: fn(&Sample) -> f64| {
            let mut figures: Vec<f64> = self.rounds.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            let middle = figures.len() / 2;
            if figures.len() % 2 == 1 {
                figures[middle]
            } else {
                (figures[middle - 1] + figures[middle]) / 2.0
            }
        };
        (!self.rounds.is_empty()).then(|| Sample {
            cost: of(|sample| sample.cost),
            rate: of(|sample| sample.rate),
            p50: of(|sample| sample.p50),
            p99: of(|sample| sample.p99),
            peak: of(|sample| sample.peak),
            busy: of(|sample| sample.busy),
        })
    }
}

/// Prints one line of work: a row for each proxy.
pub(crate) fn print(out: &mut impl Write, line: &Line, entries: &[Entry]) -> std::io::Result<()> {
    let ours = ours(entries);
    let cost = match line.work {
        Work::Exchanges(clients) => {
            writeln!(out, "\n{} ({}, {clients} clients)", line.title, line.name)?;
            "CPU us/req"
        }
        Work::Idle(clients) => {
            writeln!(out, "\n{} ({}, {clients} connections)", line.title, line.name)?;
            "bytes/conn"
        }
    };
    writeln!(
        out,
        "  {:<18} {cost:>17} {:>17} {:>15} {:>15} {:>15} {:>5}  target",
        "proxy", "req/s", "p50 us", "p99 us", "peak MiB", "busy"
    )?;
    for entry in entries {
        let Some(median) = entry.median() else {
            let why = entry.failure.as_deref().unwrap_or("no figures");
            writeln!(out, "  {:<18} {why}", entry.peer.to_string())?;
            continue;
        };
        let ours = ours.filter(|_| entry.peer.kind != Kind::Plimsoll);
        let cell = |figure: fn(&Sample) -> f64, digits| {
            with_ratio(figure(&median), ours.as_ref().map(figure), digits)
        };
        writeln!(
            out,
            "  {:<18} {:>17} {:>17} {:>15} {:>15} {:>15} {:>4.0}%  {}",
            entry.peer.to_string(),
            cell(|sample| sample.cost, 1),
            cell(|sample| sample.rate, 0),
            cell(|sample| sample.p50, 0),
            cell(|sample| sample.p99, 0),
            cell(|sample| sample.peak, 1),
            median.busy * 100.0,
            verdict(line, &entry.peer, median, ours).map_or_else(String::new, |(text, _)| text),
        )?;
    }
    out.flush()
}

/// The same as one JSON value.
pub(crate) fn json(line: &Line, access_log: bool, entries: &[Entry]) -> Value {
    let ours = ours(entries);
    let rows = entries.iter().map(|entry| {
        let rounds: Vec<f64> = entry.rounds.iter().map(|sample| sample.cost).collect();
        let Some(median) = entry.median() else {
            return json!({ "proxy": entry.peer.to_string(), "failure": entry.failure });
        };
        let pass = verdict(line, &entry.peer, median, ours).and_then(|(_, pass)| pass);
        json!({
            "proxy": entry.peer.to_string(), "cost": median.cost, "cost_of_rounds": rounds,
            "ours_to_its_cost": ours.map(|ours| ours.cost / median.cost), "requests_per_second": median.rate,
            "p50_us": median.p50, "p99_us": median.p99, "peak_mib": median.peak, "busy": median.busy, "pass": pass,
        })
    });
    let unit = match line.work {
        Work::Exchanges(_) => "cpu_us_per_request",
        Work::Idle(_) => "bytes_per_connection",
    };
    json!({ "line": line.name, "access_log": access_log, "unit": unit, "rows": rows.collect::<Vec<_>>() })
}

fn ours(entries: &[Entry]) -> Option<Sample> {
    entries.iter().find(|entry| entry.peer.kind == Kind::Plimsoll)?.median()
}

fn with_ratio(figure: f64, ours: Option<f64>, digits: usize) -> String {
    match ours.filter(|ours| *ours > 0.0 && figure > 0.0) {
        Some(ours) => format!("{figure:.digits$} ({:.2}x)", figure / ours),
        None if figure == 0.0 => "-".to_owned(),
        None => format!("{figure:.digits$}"),
    }
}

/// The target that stands in this row, what was reached, and whether that is enough, if ours was measured.
fn verdict(line: &Line, peer: &Peer, median: Sample, ours: Option<Sample>) -> Option<(String, Option<bool>)> {
    let word = |pass| if pass { "pass" } else { "MISS" };
    if let Some(bytes) = line.bytes_target(peer) {
        let pass = median.cost <= bytes;
        return Some((format!("<= {bytes:.0} bytes: {}", word(pass)), Some(pass)));
    }
    if let (Some(micros), Some(ours)) = (line.beyond_target(peer), ours) {
        let beyond = ours.cost - median.cost;
        let pass = beyond <= micros;
        return Some((format!("ours {beyond:.1} us more <= {micros:.1} us: {}", word(pass)), Some(pass)));
    }
    let share = line.ratio_target(peer)?;
    let Some(ours) = ours else { return Some((format!("ours <= {share:.2}x: not measured"), None)) };
    let reached = ours.cost / median.cost;
    let pass = reached <= share;
    Some((format!("ours {reached:.2}x <= {share:.2}x: {}", word(pass)), Some(pass)))
}
