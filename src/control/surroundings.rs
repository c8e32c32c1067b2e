//! What belongs to the process around the proxy and changes with its configuration: sockets that others own, and its logs.
//! Each is made ready before anything is published, and carried out after.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use tracing::level_filters::LevelFilter;

use super::reload::ReloadError;
use super::{Handle, Inner};
use crate::config::Config;
use crate::config::process::{AccessLog as AccessTarget, Log, LogFormat, LogLevel};
use crate::telemetry::access_log::{Format, Turn};
use crate::telemetry::backlog::Target;
use crate::telemetry::logging;

/// What carries a change out; it cannot fail.
pub type Carry = Box<dyn FnOnce() + Send>;

/// Somebody whose own things follow the configuration, such as the admin API.
pub trait Surroundings: fmt::Debug + Send + Sync {
    /// Makes ready what `next` wants. Nothing has changed until what comes back is called, or after it was dropped.
    ///
    /// # Errors
    /// Why it cannot be, in words.
    fn prepare(&self, next: &Config) -> Result<Carry, String>;
}

/// The place of the one who follows.
pub(super) type Around = OnceLock<Arc<dyn Surroundings>>;

/// Changes that are ready.
pub(super) struct Ready {
    around: Option<Carry>,
    access_log: Turn,
    log: Option<(LevelFilter, Format)>,
}

impl Handle {
    /// Lets `surroundings` follow the configuration from now on; the first who comes.
    pub fn surround(&self, surroundings: Arc<dyn Surroundings>) {
        drop(self.0.around.set(surroundings));
    }
}

impl Inner {
    /// Makes ready what another configuration changes around the proxy.
    pub(super) fn prepare_around(&self, runs: &Config, next: &Config) -> Result<Ready, ReloadError> {
        let around = self.around.get().map(|around| around.prepare(next)).transpose();
        let around = around.map_err(ReloadError::Around)?;
        let access_log = self.access_log.prepare(target(&next.log), format(next.log.format));
        let access_log = access_log.map_err(|error| ReloadError::AccessLog(Arc::new(error)))?;
        let differs = (runs.log.level, runs.log.format) != (next.log.level, next.log.format);
        let log = differs.then(|| (level(next.log.level), format(next.log.format)));
        Ok(Ready { around, access_log, log })
    }

    /// Carries it out; what the operator should know comes back.
    pub(super) fn change_around(&self, ready: Ready) -> Option<String> {
        self.access_log.turn(ready.access_log);
        if let Some(carry) = ready.around {
            carry();
        }
        let (level, format) = ready.log?;
        let foreign = "log.level or log.format has changed, but the log of this process is not ours";
        (!logging::set(level, format)).then(|| foreign.to_owned())
    }
}

/// Where records of accesses go.
pub(super) fn target(log: &Log) -> Option<Target> {
    match &log.access {
        AccessTarget::Off => None,
        AccessTarget::Stdout => Some(Target::Stdout),
        AccessTarget::Stderr => Some(Target::Stderr),
        AccessTarget::File(path) => Some(Target::File(path.clone())),
    }
}

/// A format of the configuration as the log knows it.
#[must_use]
pub const fn format(format: LogFormat) -> Format {
    match format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}

/// A level of the configuration as the log knows it.
#[must_use]
pub const fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Opens the log of accesses.
pub(super) fn open_access_log(log: &Log) -> io::Result<crate::telemetry::access_log::AccessLog> {
    crate::telemetry::access_log::AccessLog::start(target(log), format(log.format))
}
