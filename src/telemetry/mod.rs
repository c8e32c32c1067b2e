//! What an operator sees of a running process: the access log, the metrics table with its two sinks, the event log.
//!
//! This floor names things and writes them; it counts nothing itself but its own losses. Counters live in `runtime`,
//! who is asked for them in `control`, and the page that shows them in `admin`.
//!
//! Nothing here blocks the thread that logs: [`backlog`] takes lines up to a bound and a thread of its own writes them.

pub mod access_log;
pub mod backlog;
mod escape;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod prometheus;
pub mod recorder;
pub mod spans;
pub mod timestamp;
pub mod usage;
