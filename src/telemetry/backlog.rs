//! Lines on their way from the threads that log to the one thread that writes them: bounded, recycled, never awaited.
//!
//! Handing lines over takes one short lock and no system call but a wake-up. When the writer cannot keep up (a full disk, a
//! stopped reader of a pipe), lines beyond [`BACKLOG_BYTES_MAX`] are dropped and counted: losing log lines is the lesser harm
//! beside stopping traffic. Where every line must survive, log to a file.

use std::collections::VecDeque;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that wait or are being written at most; further ones are dropped and counted.
pub const BACKLOG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Spare buffers kept for the next batch.
const SPARES_MAX: usize = 64;
/// A buffer that grew beyond this is freed and not kept.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Where lines end up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file that is appended to, made when it is not there.
    File(PathBuf),
}

/// Opens the target, at the start and again on every [`Backlog::reopen`].
pub type Opener = Box<dyn FnMut() -> io::Result<Box<dyn Write + Send>> + Send>;

/// The sending side; clones share one queue and one writer thread.
#[derive(Debug, Clone)]
pub struct Backlog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The writer waits here for work, `close` for the writer's end.
    changed: Condvar,
    /// Lines that found the backlog full or closed.
    dropped: AtomicU64,
    /// Writes, flushes and reopenings that failed.
    errors: AtomicU64,
}

/// Where lines go, opened once already.
pub struct Way {
    opener: Opener,
    out: Box<dyn Write + Send>,
}

impl Way {
    /// Opens `target`; lines for none are thrown away.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn to(target: Option<Target>) -> io::Result<Self> {
        Self::by(match target {
            Some(target) => Box::new(move || open(&target)),
            None => Box::new(|| Ok(Box::new(io::sink()))),
        })
    }

    fn by(mut opener: Opener) -> io::Result<Self> {
        Ok(Self { out: opener()?, opener })
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Way").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Work>,
    /// Bytes in `queue` and in the writer's hands.
    bytes: usize,
    /// Empty buffers for the next batches.
    spares: Vec<Vec<u8>>,
    reopen: bool,
    closing: bool,
    /// The writer has written what there was and left.
    ended: bool,
}

impl State {
    fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spares.len() < SPARES_MAX && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            self.spares.push(buffer);
        }
    }
}

/// What the writer does, in its order.
#[derive(Debug)]
enum Work {
    /// Writes so many lines.
    Lines { bytes: Vec<u8>, lines: u64 },
    /// Sends what comes after this another way.
    Turn(Way),
}

impl Backlog {
    /// Opens `target` and starts its writer thread, called `thread`.
    ///
    /// # Errors
    /// The target cannot be opened, or the thread not started.
    pub fn start(thread: &str, target: Target) -> io::Result<Self> {
        Self::start_on(thread, Way::to(Some(target))?)
    }

    /// As [`Backlog::start`] with a target of the caller's own.
    ///
    /// # Errors
    /// What `opener` says, or that the thread could not be started.
    pub fn start_with(thread: &str, opener: Opener) -> io::Result<Self> {
        Self::start_on(thread, Way::by(opener)?)
    }

    /// As [`Backlog::start`] with a target that is open already.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start_on(thread: &str, way: Way) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            dropped: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        let writer = Writer { shared: Arc::clone(&shared), way, torn: false, failing: false };
        std::thread::Builder::new().name(thread.to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared })
    }

    /// Hands over a buffer of `lines` whole lines and gives an empty one back; never waits for the writer.
    #[must_use]
    pub fn push(&self, mut bytes: Vec<u8>, lines: u64) -> Vec<u8> {
        let mut state = self.shared.lock();
        if state.closing || state.bytes + bytes.len() > BACKLOG_BYTES_MAX {
            drop(state);
            self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
            bytes.clear();
            return bytes;
        }
        state.bytes += bytes.len();
        state.queue.push_back(Work::Lines { bytes, lines });
        let spare = state.spares.pop().unwrap_or_default();
        drop(state);
        self.shared.changed.notify_all();
        spare
    }

    /// An empty buffer, recycled where there is one.
    #[must_use]
    pub fn spare(&self) -> Vec<u8> {
        self.shared.lock().spares.pop().unwrap_or_default()
    }

    /// Takes an empty buffer back that is not needed any more.
    pub fn recycle(&self, buffer: Vec<u8>) {
        self.shared.lock().recycle(buffer);
    }

    /// Lines lost so far: the backlog was full or closed, or they could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Failed writes and reopenings so far.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.shared.errors.load(Ordering::Relaxed)
    }

    /// Asks the writer to open its target again: the old file may have been moved away. Does not wait.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.changed.notify_all();
    }

    /// Sends what comes from now on another way; what waits goes the one that it was meant for.
    pub fn turn(&self, way: Way) {
        let mut state = self.shared.lock();
        if matches!(state.queue.back(), Some(Work::Turn(_))) {
            state.queue.pop_back();
        }
        state.queue.push_back(Work::Turn(way));
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Lets the writer write what waits, then stops it; lines that come later are dropped. Blocks up to `timeout`.
    ///
    /// Returns whether all was written in time; a writer that is stuck is left behind for the process's end.
    #[must_use]
    pub fn close(&self, timeout: Duration) -> bool {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(state, timeout, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }
}

impl Shared {
    /// A panic while the lock was held left nothing half done that matters for log lines.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's own half.
struct Writer {
    shared: Arc<Shared>,
    way: Way,
    /// The last write ended inside a line.
    torn: bool,
    /// Failing since an error that was reported.
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        let mut all = VecDeque::new();
        while self.next(&mut all) {
            for work in all.drain(..) {
                match work {
                    Work::Lines { bytes, lines } => self.write_batch(bytes, lines),
                    Work::Turn(way) => {
                        let flushed = self.way.out.flush();
                        self.report(flushed, 0);
                        (self.way, self.torn, self.failing) = (way, false, false);
                    }
                }
            }
            let flushed = self.way.out.flush();
            self.report(flushed, 0);
        }
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }

    fn write_batch(&mut self, mut bytes: Vec<u8>, lines: u64) {
        let length = bytes.len();
        let written = self.write(&bytes);
        self.report(written, lines);
        bytes.clear();
        let mut state = self.shared.lock();
        state.bytes -= length;
        state.recycle(bytes);
    }

    /// Waits for work and takes all of it; false when the backlog is closed and empty.
    fn next(&mut self, all: &mut VecDeque<Work>) -> bool {
        let idle = |state: &mut State| state.queue.is_empty() && !state.reopen && !state.closing;
        let waited = self.shared.changed.wait_while(self.shared.lock(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.queue, all);
        let reopen = std::mem::take(&mut state.reopen);
        let go_on = !(state.closing && all.is_empty());
        drop(state);
        if reopen {
            self.reopen(all);
        }
        go_on
    }

    /// Opens the target again, also where lines are about to be sent another way.
    fn reopen(&mut self, all: &mut VecDeque<Work>) {
        let turns = all.iter_mut().filter_map(|work| match work {
            Work::Turn(way) => Some(way),
            Work::Lines { .. } => None,
        });
        let mut failed = None;
        for way in turns.chain([&mut self.way]) {
            match (way.opener)() {
                Ok(out) => way.out = out,
                // The old file stays in use: lines in a renamed file are better than none.
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => self.report(Err(error), 0),
            None => self.torn = false,
        }
    }

    /// Writes whole lines; after a write that broke off inside a line the next one starts on a line of its own.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.way.out.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.way.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let (done, left) = rest.split_at(count.min(rest.len()));
                    self.torn = done.last() != Some(&b'\n');
                    rest = left;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Counts a failure, and tells of it once until something succeeds again.
    fn report(&mut self, result: io::Result<()>, lines: u64) {
        let Err(error) = result else {
            // A flush (no lines) that succeeds proves nothing: for files it does nothing.
            self.failing &= lines == 0;
            return;
        };
        self.shared.errors.fetch_add(1, Ordering::Relaxed);
        self.shared.dropped.fetch_add(lines, Ordering::Relaxed);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "log lines cannot be written and are lost");
        }
    }
}

fn open(target: &Target) -> io::Result<Box<dyn Write + Send>> {
    Ok(match target {
        // `Stdout` keeps a line buffer of its own, which `flush` after each turn empties.
        Target::Stdout => Box::new(io::stdout()),
        Target::Stderr => Box::new(io::stderr()),
        Target::File(path) => Box::new(OpenOptions::new().append(true).create(true).open(path)?),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A target whose every write waits for a permit and is then told to the test, or fails when it is told to.
    struct Gate {
        permits: mpsc::Receiver<io::Result<usize>>,
        written: mpsc::SyncSender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.permits.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            self.written.send(bytes[..count].to_vec()).map_err(io::Error::other)?;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Gated = (Backlog, mpsc::SyncSender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>);

    fn gated() -> io::Result<Gated> {
        let (permit, permits) = mpsc::sync_channel(1 << 16);
        let (written, writes) = mpsc::sync_channel(1 << 16);
        let mut gate = Some(Gate { permits, written });
        let opener: Opener = Box::new(move || match gate.take() {
            Some(gate) => Ok(Box::new(gate)),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        Ok((Backlog::start_with("test-log", opener)?, permit, writes))
    }

    const FOREVER: Duration = Duration::from_secs(60);

    #[test]
    fn a_stuck_target_never_blocks_and_its_losses_are_counted() -> io::Result<()> {
        let (backlog, permit, writes) = gated()?;
        let line = vec![b'\n'; 1024];
        let offered = 2 * BACKLOG_BYTES_MAX / line.len();
        // Not one permit has been given: every write of the thread is stuck while this loop goes through.
        for _ in 0..offered {
            let _recycled = backlog.push(line.clone(), 1);
        }
        let kept = BACKLOG_BYTES_MAX / line.len();
        assert_eq!(backlog.dropped(), (offered - kept) as u64);
        assert!(!backlog.close(Duration::ZERO), "a stuck writer is not waited for");
        drop(permit);
        assert!(backlog.close(FOREVER));
        assert_eq!(writes.iter().map(|bytes| bytes.len()).sum::<usize>(), kept * line.len());
        Ok(())
    }

    #[test]
    fn what_was_handed_over_survives_closing_and_what_comes_later_is_counted() -> io::Result<()> {
        let (backlog, permit, writes) = gated()?;
        for line in [b"one\n", b"two\n"] {
            let _recycled = backlog.push(line.to_vec(), 1);
        }
        drop(permit);
        assert!(backlog.close(FOREVER));
        let _recycled = backlog.push(b"late\n".to_vec(), 1);
        assert_eq!(backlog.dropped(), 1);
        drop(backlog);
        assert_eq!(writes.iter().flatten().collect::<Vec<_>>(), b"one\ntwo\n");
        Ok(())
    }

    #[test]
    fn a_failed_write_is_counted_and_does_not_tear_the_next_line() -> io::Result<()> {
        let (backlog, permit, writes) = gated()?;
        // Two bytes of the first line get out, then the disk is full; later there is room again.
        for outcome in [Ok(2), Err(io::ErrorKind::StorageFull.into()), Ok(1), Ok(usize::MAX)] {
            permit.send(outcome).map_err(io::Error::other)?;
        }
        let _recycled = backlog.push(b"first\n".to_vec(), 1);
        let _recycled = backlog.push(b"second\n".to_vec(), 1);
        assert!(backlog.close(FOREVER));
        assert_eq!((backlog.errors(), backlog.dropped()), (1, 1));
        assert_eq!(writes.try_iter().flatten().collect::<Vec<_>>(), b"fi\nsecond\n");
        Ok(())
    }

    #[test]
    fn a_failed_reopening_keeps_the_old_target() -> io::Result<()> {
        let (backlog, permit, writes) = gated()?;
        drop(permit);
        backlog.reopen();
        let _recycled = backlog.push(b"kept\n".to_vec(), 1);
        assert!(backlog.close(FOREVER));
        assert_eq!((backlog.errors(), backlog.dropped()), (1, 0));
        assert_eq!(writes.try_iter().flatten().collect::<Vec<_>>(), b"kept\n");
        Ok(())
    }

    #[test]
    fn written_buffers_come_back() -> io::Result<()> {
        let (backlog, permit, writes) = gated()?;
        drop(permit);
        let mut buffer = Vec::with_capacity(1000);
        buffer.push(b'\n');
        let _none_yet = backlog.push(buffer, 1);
        let _seen = writes.recv().map_err(io::Error::other)?;
        assert!(backlog.close(FOREVER));
        assert_eq!(backlog.spare().capacity(), 1000);
        Ok(())
    }
}
