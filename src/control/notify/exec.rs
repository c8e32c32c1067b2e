//! One run of a program that is told of an event: started without a shell, given the JSON, killed when it takes too long.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::control::systemd::VARIABLES;

/// The longest that a run may take; a sink has one at a time, so that its events stay in order.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);

/// A program with its arguments.
#[derive(Debug)]
pub(super) struct Program {
    path: OsString,
    arguments: Vec<OsString>,
    limit: Duration,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("it cannot be run: {0}")]
    Start(#[from] io::Error),
    #[error("it ended with {0}")]
    Status(std::process::ExitStatus),
    #[error("it was killed after {0:?}")]
    TooLong(Duration),
}

impl Program {
    /// The first word is the program; nothing when there is none.
    pub(super) fn new(command: &[String]) -> Option<Self> {
        let (path, arguments) = command.split_first()?;
        let arguments = arguments.iter().map(OsString::from).collect();
        Some(Self { path: path.into(), arguments, limit: RUN_TIMEOUT })
    }

    /// Runs it with `input` on its standard input.
    pub(super) async fn run(&self, input: &str) -> Result<(), RunError> {
        let mut command = Command::new(&self.path);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        let mut child = command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // So that what it starts can be killed with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let ended = timeout(self.limit, async {
            if let Some(mut stdin) = child.stdin.take() {
                // A program that does not read what it is told closes the pipe, which is its right.
                drop(stdin.write_all(input.as_bytes()).await);
            }
            child.wait().await
        });
        match ended.await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(RunError::Status(status)),
            Ok(Err(error)) => Err(error.into()),
            Err(_elapsed) => {
                kill(&mut child).await;
                Err(RunError::TooLong(self.limit))
            }
        }
    }
}

async fn kill(child: &mut Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, Signal::KILL)
    {
        tracing::debug!(%error, "a program's group cannot be killed");
    }
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "a program of notify cannot be killed");
    }
}

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(words: &[&str]) -> Option<Program> {
        Program::new(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn the_input_arrives_and_arguments_meet_no_shell() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a b;$c");
        let target = path.to_string_lossy().into_owned();
        let run = program(&["tee", &target]).expect("a program").run("{\"id\":1}").await;
        assert!(run.is_ok(), "{run:?}");
        assert_eq!(std::fs::read_to_string(&path)?, "{\"id\":1}");
        Ok(())
    }

    #[tokio::test]
    async fn a_failure_is_told_and_what_takes_too_long_is_killed() {
        assert!(program(&[]).is_none());
        let failed = program(&["false"]).expect("a program").run("").await;
        assert!(matches!(failed, Err(RunError::Status(_))), "{failed:?}");
        let absent = program(&["/does/not/exist"]).expect("a program").run("").await;
        assert!(matches!(absent, Err(RunError::Start(_))), "{absent:?}");
        let mut slow = program(&["sh", "-c", "sleep 600 & wait"]).expect("a program");
        slow.limit = Duration::from_millis(50);
        assert!(matches!(slow.run("").await, Err(RunError::TooLong(_))));
    }
}
