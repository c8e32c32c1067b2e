//! The new process as the old one sees it: started from the path of the running program, given the handover, heard, and
//! killed when it does not get ready.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::handover::{FromNew, FromOld, Handover, HandoverError, VERSION, hear, send, tell};
use super::{MARKER, STEP_TIMEOUT};
use crate::control::systemd::VARIABLES;

/// What a process that has closed its end gets to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A new process that is not ready yet; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Successor {
    child: Child,
    stream: UnixStream,
    ready: bool,
}

/// The program to start and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program that stands now where the running one was started from, with the same arguments.
    ///
    /// # Errors
    /// In words, when there is none.
    pub(super) fn of_this_process() -> Result<Self, String> {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_default();
        let running = std::fs::read_link("/proc/self/exe").ok();
        let folders = env::var_os("PATH").unwrap_or_default();
        let path = find(&name, &folders, running.as_deref(), &|path| path.is_file());
        let path = path.ok_or_else(|| format!("no program is at {}", Path::new(&name).display()))?;
        Ok(Self { path, arguments: arguments.collect() })
    }
}

/// Where the program is: at its name where that is a path, else in the first folder that has it, else where the running
/// one was, which the kernel calls deleted when another file has taken its place.
fn find(
    name: &OsStr,
    folders: &OsStr,
    running: Option<&Path>,
    exists: &dyn Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let by_name = if name.as_bytes().contains(&b'/') {
        Some(PathBuf::from(name)).filter(|path| exists(path))
    } else {
        let paths = env::split_paths(folders).map(|folder| folder.join(name));
        paths.filter(|_| !name.is_empty()).find(|path| exists(path))
    };
    by_name.or_else(|| {
        let running = running?.as_os_str().as_bytes();
        let path = running.strip_suffix(b" (deleted)").unwrap_or(running);
        Some(PathBuf::from(OsString::from_vec(path.to_vec()))).filter(|path| exists(path))
    })
}

impl Successor {
    /// Starts it; it has one end of a socket pair as its standard input, and the rest of what we have.
    ///
    /// # Errors
    /// In words.
    pub(super) fn start(program: &Program) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{} cannot be started: {error}", program.path.display());
        let (stream, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).stdin(OwnedFd::from(theirs));
        // Its sockets come by the handover, and the pings of its watchdog are its own.
        for variable in VARIABLES.iter().filter(|name| !["NOTIFY_SOCKET", "WATCHDOG_USEC"].contains(name)) {
            command.env_remove(variable);
        }
        command.env(MARKER, VERSION.to_string());
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, stream, ready: false })
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives it everything, and waits until it accepts: the places of the sockets that it has taken. `limit` is what it
    /// gets to be warm.
    ///
    /// # Errors
    /// In words; it is killed when it is dropped.
    pub(super) async fn take_over(
        &mut self,
        handover: &Handover,
        descriptors: &[OwnedFd],
        limit: Duration,
    ) -> Result<Vec<usize>, String> {
        let deadline = Instant::now() + limit;
        let given = self
            .stream
            .set_write_timeout(Some(limit.max(Duration::from_millis(1))))
            .map_err(HandoverError::from)
            .and_then(|()| send(&self.stream, handover, descriptors));
        if let Err(error) = given {
            return Err(self.why(error, limit).await);
        }
        self.expect_until(deadline, limit, &FromNew::Warm).await?;
        if let Err(error) = tell(&self.stream, &FromOld::Accept) {
            return Err(self.why(error, limit).await);
        }
        match self.hear(Instant::now() + STEP_TIMEOUT, STEP_TIMEOUT).await? {
            FromNew::Ready { taken } => {
                self.ready = true;
                Ok(taken)
            }
            FromNew::Failed { why } => Err(why),
            FromNew::Warm => Err("the new process says twice that it is warm".to_owned()),
        }
    }

    async fn expect_until(
        &mut self,
        deadline: Instant,
        limit: Duration,
        word: &FromNew,
    ) -> Result<(), String> {
        match self.hear(deadline, limit).await? {
            FromNew::Failed { why } => Err(why),
            said if said == *word => Ok(()),
            said => Err(format!("the new process says {said:?} where {word:?} was to come")),
        }
    }

    async fn hear(&mut self, deadline: Instant, limit: Duration) -> Result<FromNew, String> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let heard = self.stream.set_read_timeout(Some(left)).map_err(HandoverError::from);
        match heard.and_then(|()| hear(&self.stream)) {
            Ok(Some(word)) => Ok(word),
            Ok(None) => Err(self.ended().await),
            Err(error) => Err(self.why(error, limit).await),
        }
    }

    /// An error of the socket in the words of what it means.
    async fn why(&mut self, error: HandoverError, limit: Duration) -> String {
        match error {
            HandoverError::Io(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("the new process was not ready within {limit:?} and was killed")
                }
                _ => self.ended().await,
            },
            other => other.to_string(),
        }
    }

    /// How it has ended, now that its end of the socket is closed.
    async fn ended(&mut self) -> String {
        let deadline = Instant::now() + EXIT_TIMEOUT;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return format!("the new process ended before it was ready: {status}"),
                Ok(None) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
                Ok(None) | Err(_) => return "the new process does not want the handover".to_owned(),
            }
        }
    }

    /// Tells it how many connections are left, or whoever has taken over from it meanwhile; false when nobody listens.
    pub(super) fn report(&mut self, connections: usize) -> bool {
        // Should it end before us, nobody else would wait for it.
        if let Err(error) = self.child.try_wait() {
            tracing::debug!(%error, "the new process cannot be waited for");
        }
        tell(&self.stream, &FromOld::Left(connections)).is_ok()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if self.ready {
            return;
        }
        // Both fail only where it has ended and been waited for already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_looked_for_where_it_was_started_from() {
        let there =
            |paths: &'static [&'static str]| move |path: &Path| paths.iter().any(|p| Path::new(p) == path);
        let found = |name: &str, running: &str, exists: &dyn Fn(&Path) -> bool| {
            find(OsStr::new(name), OsStr::new("/a:/b"), Some(Path::new(running)), exists)
        };
        let at = |path: &str| Some(PathBuf::from(path));
        let both = there(&["/a/p", "/b/p", "./p", "/opt/p", "/c/p"]);
        assert_eq!(found("/opt/p", "/c/p", &both), at("/opt/p"));
        assert_eq!(found("./p", "/c/p", &both), at("./p"));
        assert_eq!(found("p", "/c/p", &both), at("/a/p"));
        assert_eq!(found("p", "/c/p", &there(&["/b/p", "/c/p"])), at("/b/p"));
        assert_eq!(found("p", "/c/p (deleted)", &there(&["/c/p"])), at("/c/p"));
        assert_eq!(found("/gone/p", "/c/p (deleted)", &there(&["/c/p"])), at("/c/p"));
        assert_eq!(found("", "/c/p", &there(&["/a/", "/c/p"])), at("/c/p"));
        assert_eq!(found("p", "/c/p (deleted)", &there(&[])), None);
    }
}
