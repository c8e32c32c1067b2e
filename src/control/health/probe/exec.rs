//! A program of the operator as a probe: exit status 0 is good, any other a "no".
//!
//! It gets the words of the configuration as its arguments, without a shell, and of our environment only `PATH`: secrets
//! that the configuration takes from it are none of its business.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Asked;
use super::outcome::Reading;
use super::wire::Notes;
use crate::model::address::Address;

/// Bytes of output that are read at a time. All is read, so that a program never waits for us; only its start is kept.
const OUTPUT_CHUNK: usize = 4 * 1024;

/// How long the output of a program that has ended is waited for: a child that it left behind may hold it open.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// Where programs are found when we have no `PATH` ourselves.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program and whom it is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Exec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `PLIMSOLL_POOL`.
    pub pool: String,
    /// `PLIMSOLL_ENDPOINT`.
    pub endpoint: String,
}

pub(super) async fn ask(exec: &Exec, address: Address, notes: &Notes) -> Asked<Reading> {
    notes.program_begins();
    let mut running = Running::start(exec, address)
        .map_err(|error| Reading::void(format!("the program cannot be run: {error}")))?;
    let (out, err) = (running.child.stdout.take(), running.child.stderr.take());
    let mut output = pin!(async { tokio::join!(collect(out, notes), collect(err, notes)) });
    let ended = tokio::select! {
        biased;
        _ = &mut output => running.child.wait().await,
        ended = running.child.wait() => {
            drop(timeout(OUTPUT_GRACE, &mut output).await);
            ended
        }
    };
    match ended {
        Ok(status) => Ok(read(status)),
        Err(error) => Err(Reading::void(format!("the program's end is unknown: {error}"))),
    }
}

/// What an exit status means. A program that was killed has not answered.
fn read(status: ExitStatus) -> Reading {
    match (status.code(), status.signal()) {
        (Some(0), _) => Reading::good("exit status 0"),
        (Some(code), _) => Reading::no(format!("exit status {code}")),
        (None, signal) => {
            Reading::broken(format!("the program was killed by signal {}", signal.unwrap_or_default()))
        }
    }
}

/// Reads one output to its end and notes it.
async fn collect(output: Option<impl AsyncRead + Unpin>, notes: &Notes) {
    let Some(mut output) = output else { return };
    let mut bytes = vec![0; OUTPUT_CHUNK];
    while let Ok(count @ 1..) = output.read(&mut bytes).await {
        notes.arrived(bytes.get(..count).unwrap_or_default());
    }
}

/// A program that runs; dropped, it is killed with every process of its group.
struct Running {
    child: Child,
}

impl Running {
    fn start(exec: &Exec, address: Address) -> io::Result<Self> {
        let (program, arguments) = exec
            .command
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an empty command"))?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()))
            .env("PLIMSOLL_POOL", &exec.pool)
            .env("PLIMSOLL_ENDPOINT", &exec.endpoint)
            .env(
                "PLIMSOLL_ADDRESS",
                address.ip().map_or_else(|| address.to_string(), |ip| ip.ip().to_string()),
            )
            .env("PLIMSOLL_PORT", address.ip().map_or_else(String::new, |ip| ip.port().to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No id any more: it has ended and was waited for, and its number may be another's by now.
        let group = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            // A group that is gone already is what is wanted.
            kill_process_group(group, Signal::KILL).unwrap_or_default();
        }
    }
}
