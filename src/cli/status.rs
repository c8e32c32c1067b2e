//! `plimsoll status`: the live process as a page for a terminal.

use serde::Deserialize;

use super::Failure;
use super::client::Client;

/// What is shown of a process.
#[derive(Debug, Deserialize)]
struct Process {
    version: String,
    generation: u64,
    started: String,
    draining: bool,
    provenance: String,
    confirm_until: Option<String>,
    #[serde(default)]
    old_processes: Vec<OldProcess>,
    listeners: Vec<Listener>,
    pools: Vec<Pool>,
    /// An older process does not tell.
    overload: Option<Overload>,
}

#[derive(Debug, Deserialize)]
struct Overload {
    stage: String,
    because: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OldProcess {
    pid: u32,
    connections: usize,
    since: String,
}

#[derive(Debug, Deserialize)]
struct Listener {
    name: String,
    protocol: String,
    addresses: Vec<String>,
    connections: u64,
}

#[derive(Debug, Deserialize)]
struct Pool {
    name: String,
    queue: u64,
    /// Classes that wait for too long.
    #[serde(default)]
    queue_stands: Vec<String>,
    usable: usize,
    serving_tier: Option<u8>,
    fails_open: bool,
    failover: Option<String>,
    breaker: Option<Breaker>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Deserialize)]
struct Breaker {
    state: String,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    name: String,
    tier: u8,
    effective_weight: u16,
    usable: bool,
    reason: Option<String>,
    admin_state: String,
    probe: Probe,
    leader: bool,
    in_flight: u64,
}

#[derive(Debug, Deserialize)]
struct Probe {
    state: String,
    last: Option<LastProbe>,
}

#[derive(Debug, Deserialize)]
struct LastProbe {
    took_ms: f64,
    text: String,
}

/// Asks for the status and lays it out.
pub(super) async fn status(client: &Client) -> Result<String, Failure> {
    Ok(page(&client.get("/v1/status").await?))
}

fn page(process: &Process) -> String {
    let mut page = format!(
        "plimsoll {}, generation {}, since {}{}\n\n",
        process.version,
        process.generation,
        process.started,
        if process.draining { ", draining" } else { "" }
    );
    if process.provenance == "last good" {
        page.push_str("the file is broken, and the last good configuration serves: see /v1/config\n\n");
    }
    if let Some(until) = &process.confirm_until {
        page.push_str(&format!("on trial: it goes back at {until} unless plimsoll confirm is called\n\n"));
    }
    if let Some(Overload { stage, because: Some(because) }) = &process.overload {
        page.push_str(&format!("overloaded ({stage}): {because} runs short\n\n"));
    }
    for OldProcess { pid, connections, since } in &process.old_processes {
        page.push_str(&format!(
            "process {pid}, replaced by an upgrade since {since}, still has {connections} connections\n\n"
        ));
    }
    let head = ["LISTENER", "PROTOCOL", "CONNECTIONS", "ADDRESSES"].map(str::to_owned);
    let rows = process.listeners.iter().map(|listener| {
        let bound =
            if listener.addresses.is_empty() { "not bound".to_owned() } else { listener.addresses.join(" ") };
        [listener.name.clone(), listener.protocol.clone(), listener.connections.to_string(), bound]
    });
    lay_out(&mut page, &std::iter::once(head).chain(rows).collect::<Vec<_>>());
    for pool in &process.pools {
        page.push_str(&format!("\n{}\n", heading(pool)));
        let head =
            ["ENDPOINT", "TIER", "WEIGHT", "STATE", "REASON", "IN FLIGHT", "LAST PROBE"].map(str::to_owned);
        let rows = pool.endpoints.iter().map(row);
        lay_out(&mut page, &std::iter::once(head).chain(rows).collect::<Vec<_>>());
    }
    page
}

fn heading(pool: &Pool) -> String {
    let Pool { name, usable, queue, endpoints, .. } = pool;
    let mut heading = format!("pool {name}: {usable} of {} usable, {queue} waiting", endpoints.len());
    if !pool.queue_stands.is_empty() {
        heading.push_str(&format!(" (sheds {})", pool.queue_stands.join(" and ")));
    }
    match (&pool.failover, pool.serving_tier) {
        _ if pool.fails_open => heading.push_str("; nothing is usable and it fails open"),
        (Some(other), _) => heading.push_str(&format!("; traffic goes to pool {other}")),
        (None, Some(tier)) => heading.push_str(&format!("; tier {tier} serves")),
        (None, None) => heading.push_str("; nothing serves"),
    }
    if let Some(breaker) = pool.breaker.as_ref().filter(|breaker| breaker.state != "closed") {
        heading.push_str(&format!("; breaker {}", breaker.state));
    }
    heading
}

fn row(endpoint: &Endpoint) -> [String; 7] {
    let state = match endpoint {
        Endpoint { admin_state, .. } if admin_state != "ready" => admin_state.as_str(),
        Endpoint { leader: true, .. } => "leader",
        Endpoint { usable: true, .. } => "usable",
        _ => "not usable",
    };
    let probe = match &endpoint.probe {
        Probe { state, last: Some(last) } => {
            format!("{state}: {} ({:.1} ms)", printable(&last.text), last.took_ms)
        }
        Probe { state, last: None } => state.clone(),
    };
    [
        endpoint.name.clone(),
        endpoint.tier.to_string(),
        endpoint.effective_weight.to_string(),
        state.to_owned(),
        endpoint.reason.clone().unwrap_or_else(|| "-".to_owned()),
        endpoint.in_flight.to_string(),
        probe,
    ]
}

/// An endpoint's answer may be quoted here: its control characters are not for the operator's terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Columns as wide as their widest cell, two spaces between them, none after the last.
fn lay_out<const N: usize>(page: &mut String, rows: &[[String; N]]) {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        page.push_str(&format!("  {}\n", line.trim_end()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_a_line_with_its_state_and_the_one_reason() -> Result<(), serde_json::Error> {
        let endpoint = |name: &str, usable: bool, admin: &str, reason: Option<&str>| {
            serde_json::json!({
                "name": name, "tier": 0, "effective_weight": 1, "usable": usable, "reason": reason,
                "admin_state": admin, "leader": false, "in_flight": 2,
                "probe": { "state": "up", "last": { "at": "x", "took_ms": 1.25, "text": "200\u{1b}[2J" } },
            })
        };
        let process = serde_json::from_value(serde_json::json!({
            "version": "1", "generation": 3, "started": "2026-11-21T08:00:00Z", "draining": false, "provenance": "file", "confirm_until": null,
            "listeners": [
                { "name": "web", "protocol": "http", "addresses": [], "connections": 7 },
            ],
            "overload": { "stage": "shedding", "because": "memory" },
            "pools": [{
                "name": "api", "queue": 3, "queue_stands": ["low"], "usable": 1, "serving_tier": 0, "fails_open": false, "failover": null,
                "breaker": { "state": "open" },
                "endpoints": [
                    endpoint("a:80", true, "ready", None),
                    endpoint("long-name:80", false, "ready", Some("ejected")),
                    endpoint("c:80", false, "drain", Some("drain")),
                ],
            }],
        }))?;
        let want = "\
plimsoll 1, generation 3, since 2026-11-21T08:00:00Z

overloaded (shedding): memory runs short

  LISTENER  PROTOCOL  CONNECTIONS  ADDRESSES
  web       http      7            not bound

pool api: 1 of 3 usable, 3 waiting (sheds low); tier 0 serves; breaker open
  ENDPOINT      TIER  WEIGHT  STATE       REASON   IN FLIGHT  LAST PROBE
  a:80          0     1       usable      -        2          up: 200\u{fffd}[2J (1.2 ms)
  long-name:80  0     1       not usable  ejected  2          up: 200\u{fffd}[2J (1.2 ms)
  c:80          0     1       drain       drain    2          up: 200\u{fffd}[2J (1.2 ms)
";
        assert_eq!(page(&process), want);
        Ok(())
    }
}
