//! What an importer may look at beside its source: it has no other way to the machine that it runs on.

use std::path::{Path, PathBuf};

/// What an import may look at beside its source.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The contents of a file that the source names; nothing where there is none.
    pub read: &'a dyn Fn(&Path) -> Option<String>,
    /// The files in a folder that the source names, sorted; nothing where there is none.
    pub list: &'a dyn Fn(&Path) -> Option<Vec<PathBuf>>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Surroundings")
    }
}
