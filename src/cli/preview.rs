//! `plimsoll plan` and `plimsoll confirm`: what a reload would change in the live process, and that what is on trial may stay.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde::{Deserialize, Serialize};

use super::live::AdminAddress;
use super::{Failure, print, run};
use crate::config;

/// How long a plan may take: ten thousand endpoints are compared in a fraction of it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminAddress,
}

#[derive(Debug, Args)]
pub(super) struct ConfirmArgs {
    #[command(flatten)]
    admin: AdminAddress,
}

/// What is read of `/v1/config`.
#[derive(Debug, Deserialize)]
struct Running {
    files: Vec<PathBuf>,
}

/// What a reload would change, as the process tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    config_hash: String,
    summary: String,
    refused: Vec<String>,
    #[serde(default)]
    unasked: Vec<String>,
    changes: Vec<Change>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    what: String,
    name: String,
    change: String,
    in_flight: u64,
    details: Vec<String>,
}

/// What is read when something was confirmed.
#[derive(Debug, Deserialize)]
struct Confirmed {
    generation: u64,
}

/// Prints what a reload of the file would change. Status 1 when it would be refused.
pub(super) fn plan(arguments: &PlanArgs, out: &mut impl Write) -> Result<(), Failure> {
    // From where this is called, and as a whole: what is wrong is told with its place before anybody is asked.
    let path = std::path::absolute(&arguments.file).unwrap_or_else(|_| arguments.file.clone());
    let config = config::load(&path).map_err(|diagnostics| Failure::Input(diagnostics.to_string()))?;
    let client = arguments.admin.client()?;
    let plan: Plan = run::runtime()?.block_on(async {
        let running: Running = client.get("/v1/config").await?;
        if running.files.first().is_some_and(|file| is_same(file, &path)) {
            return client.order(Method::POST, "/v1/plan", PATIENCE).await;
        }
        let plan = client.post_text("/v1/plan", config::show(&config), PATIENCE).await;
        // Status 1 says that a reload would be refused; that one may not ask is a wrong call.
        plan.map_err(|failure| Failure::Input(failure.to_string()))
    })?;
    let text = if arguments.json { json(&plan) } else { text(&plan) };
    print(out, &text)?;
    if plan.refused.is_empty() {
        return Ok(());
    }
    Err(Failure::Running(format!("the reload would be refused:\n{}", plan.refused.join("\n"))))
}

/// Lets what is on trial stay.
pub(super) fn confirm(arguments: &ConfirmArgs, out: &mut impl Write) -> Result<(), Failure> {
    let client = arguments.admin.client()?;
    let Confirmed { generation } =
        run::runtime()?.block_on(client.order(Method::POST, "/v1/reload/confirm", PATIENCE))?;
    print(out, &format!("generation {generation} stays\n"))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

fn json(plan: &Plan) -> String {
    // It was read from JSON, so it can be written.
    serde_json::to_string_pretty(plan).map(|text| text + "\n").unwrap_or_default()
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for Change { what, name, change, in_flight, details } in &plan.changes {
        let space = if name.is_empty() { "" } else { " " };
        let busy = if *in_flight > 0 { format!(" ({in_flight} in flight)") } else { String::new() };
        // Writing to a String cannot fail.
        writeln!(text, "{what}{space}{name}: {change}{busy}").ok();
        for detail in details {
            writeln!(text, "  {detail}").ok();
        }
    }
    for name in &plan.unasked {
        writeln!(text, "name {name}: not asked yet; a reload waits for its answer").ok();
    }
    if plan.changes.iter().any(|change| change.what == "endpoint" && change.change == "added") {
        writeln!(
            text,
            "new endpoints have not been probed; a reload does, and is refused where too few are well"
        )
        .ok();
    }
    writeln!(text, "{}", plan.summary).ok();
    text
}
