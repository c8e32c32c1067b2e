//! `plimsoll reload`: has the live process read its file again, and says what came of it.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde::Deserialize;

use super::Failure;
use super::live::AdminAddress;
use crate::model::units::{format_duration, parse_duration};

/// How long the result is waited for: the longest warm-up, and those of some who came before.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// Wait until the new configuration runs, and fail with every error when it is refused
    #[arg(long)]
    wait: bool,
    /// Also where it leaves a pool too few of its usable endpoints
    #[arg(long)]
    force: bool,
    /// Go back to what runs now unless this is confirmed within so long, as in 60s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    confirm: Option<Duration>,
    #[command(flatten)]
    admin: AdminAddress,
}

/// What is read of the answer.
#[derive(Debug, Deserialize)]
struct Reloaded {
    generation: u64,
    #[serde(default)]
    warnings: Vec<String>,
}

/// What is read of the answer when nobody waits.
#[derive(Debug, Deserialize)]
struct Accepted {
    accepted: bool,
}

/// Carries it out; the text is for standard output.
pub(super) async fn reload(arguments: &ReloadArgs) -> Result<String, Failure> {
    let client = arguments.admin.client()?;
    let path = path(arguments);
    if arguments.wait {
        let Reloaded { generation, warnings } = client.order(Method::POST, &path, PATIENCE).await?;
        let warnings = warnings.iter().map(|warning| format!("warning: {warning}\n"));
        return Ok(format!("generation {generation} runs now\n{}", warnings.collect::<String>()));
    }
    let Accepted { accepted } = client.order(Method::POST, &path, PATIENCE).await?;
    if accepted {
        return Ok("the reload is asked for; its log says what comes of it, or --wait does\n".to_owned());
    }
    Err(Failure::Running("the reload was not accepted".to_owned()))
}

fn path(arguments: &ReloadArgs) -> String {
    let confirm = arguments.confirm.map(|confirm| format!("confirm={}", format_duration(confirm)));
    let wishes = [
        (!arguments.wait).then(|| "wait=false".to_owned()),
        arguments.force.then(|| "force".to_owned()),
        confirm,
    ];
    let wishes: Vec<String> = wishes.into_iter().flatten().collect();
    if wishes.is_empty() { "/v1/reload".to_owned() } else { format!("/v1/reload?{}", wishes.join("&")) }
}
