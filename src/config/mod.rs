//! Text to [`Config`]: read, walked by tables, validated, with every error at once.
//!
//! Three stages: what was written (a spanned tree), what is meant ([`Config`]), what runs
//! (`runtime::Snapshot`). `proxy` never names this floor.
//!
//! The way of a text: `include` reads files, `tree` makes them one spanned tree, `walk` holds it against
//! the `tables` of keys (`key` says what those are, `form` what texts may be) and leaves typed `value`s,
//! and `assemble` joins these to a [`Config`], each section by its own file, once `layers` has put what is written over
//! its `preset`, the one it is like and the defaults. `secrets` reads files of keys. `origin` keeps what a configuration was made from. `names` finds what others name; `diagnostic` prints what is wrong. `schema` and `reference` are the tables in other clothes;
//! `show` prints a [`Config`] as a file that says the same. `lints` are what is valid and perhaps not meant.

mod admission;
mod assemble;
mod diagnostic;
mod edits;
pub mod endpoints_file;
mod form;
pub mod gate;
pub mod health;
mod include;
mod key;
mod layers;
pub mod lints;
pub mod listener;
mod names;
pub mod notify;
mod origin;
mod passive;
pub mod pool;
mod preset;
pub mod process;
pub mod rate_limit;
mod reference;
pub mod retry;
pub mod route;
mod schema;
pub mod secrets;
mod show;
pub mod sni;
mod source;
pub mod sticky;
mod suggest;
mod tables;
pub mod tls;
pub mod tokens;
pub mod traces;
pub mod treatment;
mod tree;
mod value;
mod walk;

use std::path::Path;
use std::sync::Arc;

pub use diagnostic::{Diagnostic, Diagnostics};
use include::Loader;
pub use include::files_of;
use listener::Listener;
use notify::Notify;
pub use origin::{Origin, state_dir_of};
use pool::Pool;
use process::{Admin, CheckRules, HealthApi, Log, Process};
pub use reference::reference;
use route::Route;
pub use schema::schema;
pub use show::{Setting, Subject, differing_settings, show};
use sni::SniRoute;
use tls::Look;
use traces::Tracing;
use tree::Table;

/// Reads the configuration file at `path`, with all that it includes and the environment of this process, and looks into
/// the certificates and keys that it names.
///
/// # Errors
/// Every error of it, with its place and a remedy.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    assemble::load(&|loader| loader.file(path), &|name| std::env::var(name).ok(), Look::AtNamed)
}

/// Reads a configuration from `text` as if it stood in the file `name`, which need not exist.
///
/// `environment` gives the value of `${NAME}`. No file is read unless the text includes one: certificates and keys are
/// not looked into.
///
/// # Errors
/// Every error of it, with its place and a remedy.
pub fn load_text(
    text: &str,
    name: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Diagnostics> {
    assemble::load(&|loader| loader.text(name, text.to_owned()), environment, Look::Nowhere)
}

/// As [`load`], with `text` in the place of the main file: what is asked for in the body of a request.
///
/// # Errors
/// Every error of it, with its place and a remedy.
pub fn load_as(text: &str, path: &Path) -> Result<Config, Diagnostics> {
    let read: &dyn Fn(&mut Loader<'_>) -> Table = &|loader| loader.text(path, text.to_owned());
    assemble::load(read, &|name| std::env::var(name).ok(), Look::AtNamed)
}

/// A whole valid configuration: what is meant, with every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The process itself.
    pub process: Process,
    /// The admin API.
    pub admin: Admin,
    /// The open health listener.
    pub health: HealthApi,
    /// Logging.
    pub log: Log,
    /// Which traces requests belong to; nothing where nobody asks.
    pub tracing: Option<Tracing>,
    /// What `plimsoll check` holds this to.
    pub check: CheckRules,
    /// Where events are sent beside the log.
    pub notify: Vec<Notify>,
    /// Listeners in the order of the file; at least one.
    pub listeners: Vec<Listener>,
    /// Routes in the order of the file.
    pub routes: Vec<Route>,
    /// Routes of tcp listeners by the name that TLS clients ask for, in the order of the file.
    pub sni_routes: Vec<SniRoute>,
    /// Pools in the order of the file; every pool that is named exists.
    pub pools: Vec<Pool>,
    /// A hash of all text that was read, for `status` and metrics.
    pub hash: u64,
    /// What it was made from.
    pub origin: Arc<Origin>,
}

impl Config {
    /// Every page that takes the place of errors, as it was read.
    pub fn pages(&self) -> impl Iterator<Item = &gate::PageFile> {
        let of_routes = self.routes.iter().flat_map(|route| {
            let out_of_service =
                route.gate.maintenance.as_ref().and_then(|maintenance| maintenance.page.as_ref());
            route.gate.error_pages.iter().map(|one| &one.page).chain(out_of_service)
        });
        let of_listeners = self.listeners.iter().flat_map(|listener| &listener.error_pages);
        of_listeners.map(|one| &one.page).chain(of_routes)
    }
}
