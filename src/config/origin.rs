//! What a configuration was made from: every text that was read, what of the environment was put in, and which certificates
//! and keys it names. With that it can be made again when its files have become something else.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::diagnostic::Diagnostics;
use super::{Config, assemble, include};

/// What a configuration was made from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The texts with the paths of their files, in the order in which they were read: the main file first.
    pub texts: Vec<(PathBuf, String)>,
    /// The variables of the environment that stand in them.
    pub environment: BTreeMap<String, String>,
    /// Certificates, keys and authorities that it names.
    pub named: Vec<PathBuf>,
    /// Its patterns of included files, as paths.
    pub patterns: Vec<PathBuf>,
}

impl Origin {
    /// The main file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.texts.first().map_or_else(|| Path::new(""), |(path, _)| path)
    }

    /// Makes the configuration again, from what is kept here alone. A certificate or key is read where it is named while it
    /// can be used, else the copy of it that `copies` has the path of.
    ///
    /// # Errors
    /// What is wrong with it now, such as a certificate that is neither there nor among the copies.
    pub fn load(&self, copies: &BTreeMap<PathBuf, PathBuf>) -> Result<Config, Diagnostics> {
        assemble::recall(self, copies)
    }

    /// The text that was read from a file.
    pub(super) fn text(&self, path: &Path) -> Option<&str> {
        self.texts.iter().find(|(kept, _)| kept == path).map(|(_, text)| text.as_str())
    }
}

impl fmt::Debug for Origin {
    // Texts and variables may hold secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Origin").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The `state_dir` that a file still says although it is broken: the value of the first line that sets one. It may be all that
/// is left to find the last good configuration by.
#[must_use]
pub fn state_dir_of(broken: &Path) -> Option<PathBuf> {
    let bytes = include::read(broken).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let value = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("state_dir")?.trim_start().strip_prefix('='));
    let value = value?.trim_start();
    let quote = value.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let said = value.get(1..)?.split(quote).next().filter(|said| !said.is_empty())?;
    Some(broken.parent().unwrap_or_else(|| Path::new("")).join(said))
}
