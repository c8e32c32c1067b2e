//! Text to [`Config`]: read, walked by tables, validated, with every error at once.
//!
//! Three stages: what was written (a spanned tree), what is meant ([`Config`]), what runs
//! (`runtime::Snapshot`). `proxy` never names this floor.
//!
//! The way of a text: `include` reads files, `tree` makes them one spanned tree, `walk` holds it against
//! the `tables` of keys (`key` says what those are, `form` what texts may be) and leaves typed `value`s,
//! and `assemble` joins these to a [`Config`], each section by its own file. `names` finds what others
//! name; `diagnostic` prints what is wrong. `schema` and `reference` are the tables in other clothes;
//! `show` prints a [`Config`] as a file that says the same.

mod assemble;
mod diagnostic;
mod form;
mod include;
mod key;
pub mod listener;
mod names;
pub mod pool;
pub mod process;
mod reference;
pub mod route;
mod schema;
mod show;
mod source;
mod suggest;
mod tables;
mod tree;
mod value;
mod walk;

use std::path::Path;

pub use diagnostic::{Diagnostic, Diagnostics};
use listener::Listener;
use pool::Pool;
use process::{Admin, Log, Process};
pub use reference::reference;
use route::Route;
pub use schema::schema;
pub use show::show;

/// Reads the configuration file at `path`, with all that it includes and the environment of this process.
///
/// # Errors
/// Every error of it, with its place and a remedy.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    assemble::load(&|loader| loader.file(path), &|name| std::env::var(name).ok())
}

/// Reads a configuration from `text` as if it stood in the file `name`, which need not exist.
///
/// `environment` gives the value of `${NAME}`. No file is read unless the text includes one.
///
/// # Errors
/// Every error of it, with its place and a remedy.
pub fn load_text(
    text: &str,
    name: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Diagnostics> {
    assemble::load(&|loader| loader.text(name, text.to_owned()), environment)
}

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
