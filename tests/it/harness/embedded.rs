//! A proxy within the test's own process, for what a spawned one does not show: results as they come, and moments between.

use std::future::Future;
use std::ops::Deref;
use std::path::Path;
use std::thread::JoinHandle;

use plimsoll::control::reload::Reloaded;
use plimsoll::{Config, Handle, Proxy, ReloadError, config};

/// It ends with the test.
#[derive(Debug)]
pub(crate) struct Embedded(Handle);

impl Deref for Embedded {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

/// Runs a future to its end.
pub(crate) fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

/// A configuration with two workers and no access log, from the text of its other tables.
pub(crate) fn load(tables: &str) -> Config {
    let process = if tables.contains("[process]") { "" } else { "[process]\nworkers = 2\n" };
    let text = format!("{process}[log]\naccess = \"off\"\n{tables}");
    config::load_text(&text, Path::new("embedded.toml"), &|_| None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

impl Embedded {
    pub(crate) fn start(tables: &str) -> Self {
        Self(Proxy::start(&load(tables)).expect("it starts"))
    }

    /// Reloads and waits for what comes of it.
    pub(crate) fn try_reload(&self, tables: &str) -> Result<Reloaded, ReloadError> {
        now(self.0.reload(load(tables)))
    }

    /// The same, where nothing may go wrong.
    pub(crate) fn reload(&self, tables: &str) -> Reloaded {
        self.try_reload(tables).expect("it reloads")
    }

    /// A reload that somebody else waits for.
    pub(crate) fn reloading(&self, tables: &str) -> JoinHandle<Result<Reloaded, ReloadError>> {
        let (handle, config) = (self.0.clone(), load(tables));
        std::thread::spawn(move || now(handle.reload(config)))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.0.status().generation
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        now(self.0.shutdown(true));
    }
}
