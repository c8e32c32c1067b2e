//! Text to [`Config`]: read, walked by tables, validated, with every error at once.
//!
//! Three stages: what was written (a spanned tree), what is meant ([`Config`]), what runs (`runtime::Snapshot`).
//! `proxy` never names this floor.

pub mod listener;
pub mod pool;
pub mod process;
pub mod route;

use listener::Listener;
use pool::Pool;
use process::{Admin, Log, Process};
use route::Route;

/// A whole valid configuration: what is meant, with every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The process itself.
    pub process: Process,
    /// The admin API.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
    /// Listeners in the order of the file; at least one.
    pub listeners: Vec<Listener>,
    /// Routes in the order of the file.
    pub routes: Vec<Route>,
    /// Pools in the order of the file; every pool that is named exists.
    pub pools: Vec<Pool>,
    /// A hash of all text that was read, for `status` and metrics.
    pub hash: u64,
}
