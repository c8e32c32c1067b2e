//! `plimsoll upgrade`: has the live process replaced by a new one, and says what came of it; or tries a program before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::Failure;
use super::client::Client;
use super::live::AdminAddress;
use crate::control::upgrade::handover::VERSION;

/// How long the result is waited for: `process.upgrade_timeout` decides, and may be long.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How long nobody needs to answer while the two change places.
const SILENCE: Duration = Duration::from_secs(20);

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long a program that is tried may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct UpgradeArgs {
    /// Only say whether this program could take over: it understands the handover and the configuration
    #[arg(long, value_name = "BINARY")]
    check: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminAddress,
}

/// What is read of the status.
#[derive(Debug, Deserialize)]
struct Process {
    pid: u32,
    version: String,
}

/// What is read of `/v1/config`.
#[derive(Debug, Deserialize)]
struct Running {
    /// The main one first.
    files: Vec<PathBuf>,
}

/// What is read of an event.
#[derive(Debug, Deserialize)]
struct Event {
    id: u64,
    kind: String,
    to: String,
    because: String,
}

/// Carries it out; the text is for standard output.
pub(super) async fn upgrade(arguments: &UpgradeArgs) -> Result<String, Failure> {
    let client = arguments.admin.client()?;
    let before: Process = client.get("/v1/status").await?;
    if let Some(program) = &arguments.check {
        let running: Running = client.get("/v1/config").await?;
        let file = running
            .files
            .first()
            .ok_or_else(|| Failure::Running("the live process was started without a file".to_owned()))?;
        return check(program, &beside(before.pid, file)).await;
    }
    let events: Vec<Event> = client.get("/v1/events?after=0").await?;
    let seen = events.iter().map(|event| event.id).max().unwrap_or(0);
    let pid = i32::try_from(before.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::Running("the process has no number".to_owned()))?;
    kill_process(pid, Signal::USR2).map_err(|error| {
        Failure::Running(format!("process {} cannot be told to upgrade: {error}", before.pid))
    })?;
    wait(&client, &before, seen).await
}

/// Waits until another process answers, or an event says why none will.
async fn wait(client: &Client, before: &Process, seen: u64) -> Result<String, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut answered = Instant::now();
    loop {
        sleep(LOOK).await;
        let looked = async {
            let now: Process = client.get("/v1/status").await?;
            let path = format!("/v1/events?after={seen}");
            let events = if now.pid == before.pid { client.get(&path).await? } else { Vec::new() };
            Ok::<(Process, Vec<Event>), Failure>((now, events))
        };
        match looked.await {
            Ok((now, _)) if now.pid != before.pid => {
                let (from, to) = (before, now);
                return Ok(format!(
                    "process {} (version {}) has taken over from {} (version {})\n",
                    to.pid, to.version, from.pid, from.version
                ));
            }
            Ok((_, events)) => {
                answered = Instant::now();
                let failed = |event: &&Event| event.kind == "process" && event.to == "upgrade failed";
                if let Some(event) = events.iter().find(failed) {
                    return Err(Failure::Running(event.because.clone()));
                }
            }
            Err(failure) if answered.elapsed() > SILENCE => return Err(failure),
            // While the two change places a connection may break.
            Err(_) => {}
        }
        if Instant::now() > deadline {
            return Err(Failure::Running(format!("no new process has taken over within {PATIENCE:?}")));
        }
    }
}

/// A file as the process at `pid` means it.
fn beside(pid: u32, file: &Path) -> PathBuf {
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    folder.join(file)
}

/// Asks a program whether it understands our handover and the configuration that runs.
async fn check(program: &Path, file: &Path) -> Result<String, Failure> {
    let version = run(Command::new(program).arg("handover-version"), program).await;
    let theirs = version.as_ref().ok().and_then(|text| text.trim().parse::<u32>().ok());
    match theirs {
        Some(VERSION) => {}
        Some(theirs) => {
            return Err(Failure::Running(format!(
                "{} understands a handover of version {theirs}, and the live process writes {VERSION}: restart it",
                program.display()
            )));
        }
        None => {
            let why = version.err().map_or_else(String::new, |failure| format!(": {failure}"));
            return Err(Failure::Running(format!("{} understands no handover{why}", program.display())));
        }
    }
    let summary = run(Command::new(program).arg("check").arg("--config").arg(file), program).await?;
    Ok(format!("{} can take over with {}\n\n{summary}", program.display(), file.display()))
}

/// What a program prints, or why it failed.
async fn run(command: &mut Command, program: &Path) -> Result<String, Failure> {
    let command = command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let cannot =
        |error: std::io::Error| Failure::Input(format!("{} cannot be run: {error}", program.display()));
    let output = timeout(TRY_TIMEOUT, command.output()).await.map_err(|_elapsed| {
        Failure::Running(format!("{} did not end within {TRY_TIMEOUT:?}", program.display()))
    })?;
    let output = output.map_err(cannot)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(match output.status.code() {
        Some(2) => Failure::Input(errors),
        _ => Failure::Running(format!("{}: {}", output.status, errors.trim_end())),
    })
}
