//! The event log of the process: the subscriber that the binary installs. The library itself installs none.
//!
//! Events go to standard error through a [`Backlog`], so that a terminal or a journal that stands still stops no worker.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, reload};

use super::access_log::Format;
use super::backlog::{Backlog, Target};

/// Set once by [`install`]; the log is the process's, so this is too.
static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// The log of the process.
struct Installed {
    backlog: Backlog,
    /// Sets the level of the lines of one format: text, then JSON.
    levels: [SetLevel; 2],
}

type SetLevel = Box<dyn Fn(LevelFilter) -> bool + Send + Sync>;

/// Why no log could be installed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Standard error or the writer thread is not to be had.
    #[error("the log cannot be started: {0}")]
    Start(#[from] io::Error),
    /// A subscriber is installed already.
    #[error("the process has a log already")]
    Twice,
}

/// Sends the events of the whole process, from `level` up, to standard error; once per process.
///
/// # Errors
/// The writer cannot be started, or the process has a subscriber already.
pub fn install(level: LevelFilter, format: Format) -> Result<(), LogError> {
    let backlog = Backlog::start("plimsoll-log", Target::Stderr)?;
    let [text, json] = levels(level, format);
    let (text, set_text) = reload::Layer::new(text);
    let (json, set_json) = reload::Layer::new(json);
    let plain = fmt::layer().with_writer(Lines(backlog.clone()));
    let plain = plain.with_ansi(io::stderr().is_terminal()).with_target(false).with_filter(text);
    let objects = fmt::layer().with_writer(Lines(backlog.clone())).json().flatten_event(true);
    let subscriber = tracing_subscriber::registry().with(plain).with(objects.with_filter(json));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    let levels: [SetLevel; 2] = [
        Box::new(move |level| set_text.modify(|filter| *filter = level).is_ok()),
        Box::new(move |level| set_json.modify(|filter| *filter = level).is_ok()),
    ];
    INSTALLED.set(Installed { backlog, levels }).map_err(|_| LogError::Twice)
}

/// What either format writes: one of them nothing.
const fn levels(level: LevelFilter, format: Format) -> [LevelFilter; 2] {
    match format {
        Format::Text => [level, LevelFilter::OFF],
        Format::Json => [LevelFilter::OFF, level],
    }
}

/// Writes events from this level up and in this format from now on; whether this process has a log of ours.
pub fn set(level: LevelFilter, format: Format) -> bool {
    let set = |log: &Installed| {
        let wanted = log.levels.iter().zip(levels(level, format));
        wanted.fold(true, |done, (set, level)| set(level) && done)
    };
    INSTALLED.get().is_some_and(set)
}

/// Writes what is on its way, up to `timeout`; events after this are lost. Says whether all was written.
#[must_use]
pub fn close(timeout: Duration) -> bool {
    INSTALLED.get().is_none_or(|log| log.backlog.close(timeout))
}

/// Log lines lost so far.
#[must_use]
pub fn dropped() -> u64 {
    INSTALLED.get().map_or(0, |log| log.backlog.dropped())
}

/// Makes a writer for each event.
struct Lines(Backlog);

/// One event, which is handed over whole however many pieces it is written in.
struct Line<'a> {
    backlog: &'a Backlog,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { backlog: &self.0, bytes: self.0.spare() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.backlog.recycle(self.backlog.push(std::mem::take(&mut self.bytes), 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_in_the_target() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("log");
        let backlog = Backlog::start("test-log", Target::File(path.clone()))?;
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::INFO)
            .with_writer(Lines(backlog.clone()))
            .json();
        tracing::subscriber::with_default(subscriber.finish(), || {
            tracing::info!(pool = "api", "it works");
            tracing::debug!("too fine");
        });
        assert!(backlog.close(Duration::from_secs(60)));
        let text = std::fs::read_to_string(path)?;
        let event: serde_json::Value = serde_json::from_str(&text)?;
        assert_eq!(event["fields"]["message"], "it works");
        Ok(())
    }
}
