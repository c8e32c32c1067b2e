//! What outlives the process, in one directory: the last good configuration with copies of the certificates and keys that it
//! names, what the operator changed at run time, where names led and what files of endpoints listed, and keys that were
//! generated.
//!
//! `form` has what the files look like, `disk` how they are written: whole or not at all. `recorder` writes on a thread of its
//! own, so that a slow disk holds nobody up. Nothing here stops the proxy: what cannot be kept or read is said, and that is all.

mod disk;
pub mod findings;
mod form;
pub mod recorder;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::overrides::Overrides;
use crate::config::{Config, Diagnostics, Origin};
use crate::runtime::sticky::{SECRET, Secret};
use findings::Findings;
use form::{Kept, Stored};

/// The last good configuration.
const LAST_GOOD: &str = "last-good.json";

/// Copies of certificates and keys.
const COPIES: &str = "last-good.d";

/// What the operator changed.
const OVERRIDES: &str = "overrides.json";

/// Where names have led and what files of endpoints have listed.
const FINDINGS: &str = "findings.json";

/// Keys that were generated.
const KEYS: &str = "keys";

/// What signs cookies of sticky pools without a file of keys.
const STICKY: &str = "sticky";

/// A certificate or key larger than this is not copied.
const COPY_MAX: u64 = 1 << 20;

/// Largest file that is read back: a configuration of 1000 files stays far below.
const STATE_MAX: u64 = 256 << 20;

/// The directory where it is when nobody says; systemd's `StateDirectory=plimsoll`.
const DEFAULT: &str = "/var/lib/plimsoll";

/// The variable in which systemd says where the state directory is.
const SYSTEMD: &str = "STATE_DIRECTORY";

/// Why something kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not what this program writes.
    #[error("{path} is damaged or from another version: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It is a configuration that is wrong now.
    #[error("the last good configuration cannot be used any more:\n{0}")]
    Config(Diagnostics),
}

/// A state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

/// A configuration that was good.
#[derive(Debug)]
pub struct LastGood {
    /// The configuration.
    pub config: Config,
    /// When it was kept.
    pub at: SystemTime,
}

impl StateDir {
    /// The directory at `path`, whether it is there or not.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directories in which a last good configuration may be, when the configuration itself cannot say: the one that was
    /// asked for, systemd's, what a line of the broken file still says, the usual one.
    #[must_use]
    pub fn candidates(asked: Option<&Path>, broken: &Path) -> Vec<Self> {
        // Several are separated by colons (systemd.exec(5)).
        let systemd = std::env::var_os(SYSTEMD).unwrap_or_default();
        let systemd: Vec<PathBuf> =
            std::env::split_paths(&systemd).filter(|path| path.is_absolute()).collect();
        let said = crate::config::state_dir_of(broken);
        let all = asked.map(Path::to_owned).into_iter().chain(systemd).chain(said);
        all.chain([PathBuf::from(DEFAULT)]).map(Self).collect()
    }

    /// Makes the directories, readable for nobody else.
    ///
    /// # Errors
    /// The directory can neither be made nor written.
    pub fn prepare(&self) -> io::Result<()> {
        disk::make(&self.0)?;
        disk::make(&self.0.join(COPIES))?;
        disk::make(&self.keys())
    }

    /// Where generated keys are.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.0.join(KEYS)
    }

    /// The secret of sticky pools, where one is kept.
    #[must_use]
    pub fn kept_secret(&self) -> Option<Secret> {
        let bytes = disk::read(&self.keys().join(STICKY), SECRET as u64).ok()?;
        <[u8; SECRET]>::try_from(bytes.as_slice()).ok().map(Secret::from)
    }

    /// The secret of sticky pools, which is made when it is asked for the first time.
    ///
    /// # Errors
    /// It can neither be read nor kept. One that is damaged is no secret, and is not overwritten either.
    pub fn secret(&self) -> io::Result<Secret> {
        let path = self.keys().join(STICKY);
        match disk::read(&path, SECRET as u64) {
            Ok(bytes) => {
                let bytes: [u8; SECRET] = bytes.as_slice().try_into().map_err(|_| {
                    io::Error::other(format!("{} does not have {SECRET} bytes", path.display()))
                })?;
                Ok(bytes.into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.prepare()?;
                let secret = Secret::random();
                disk::write(&path, secret.bytes())?;
                Ok(secret)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps a configuration as the last good one, with copies of the certificates and keys that it names.
    ///
    /// # Errors
    /// The directory cannot be written; what was kept before is still there then.
    pub fn keep(&self, origin: &Origin, hash: u64, at: SystemTime) -> io::Result<()> {
        self.prepare()?;
        let mut copies = BTreeMap::new();
        for named in &origin.named {
            // One that cannot be read now was good a moment ago: the configuration is kept without it.
            let Ok(bytes) = disk::read(named, COPY_MAX) else { continue };
            let name = format!("{:016x}.pem", digest(&bytes));
            let path = self.0.join(COPIES).join(&name);
            if !path.exists() {
                disk::write(&path, &bytes)?;
            }
            copies.insert(named.clone(), name);
        }
        let stored = Kept { origin: origin.clone(), main: absolute(origin.path()), copies, hash, at };
        disk::write(&self.0.join(LAST_GOOD), &form::kept_text(&stored))?;
        let used: Vec<&String> = stored.copies.values().collect();
        disk::sweep(&self.0.join(COPIES), |name| used.iter().any(|used| *used == name));
        Ok(())
    }

    /// The last good configuration of the file `main`; nothing where none was kept, or that of another file.
    ///
    /// # Errors
    /// [`StateError`]: there is something, and it cannot be used.
    pub fn last_good(&self, main: &Path) -> Result<Option<LastGood>, StateError> {
        let Some(kept) = self.read(LAST_GOOD, form::kept)? else { return Ok(None) };
        if kept.main != absolute(main) {
            return Ok(None);
        }
        let copy = |name: &String| self.0.join(COPIES).join(name);
        let copies = kept.copies.iter().map(|(path, name)| (path.clone(), copy(name))).collect();
        let config = kept.origin.load(&copies).map_err(StateError::Config)?;
        Ok(Some(LastGood { config, at: kept.at }))
    }

    /// Keeps what the operator has changed.
    ///
    /// # Errors
    /// The directory cannot be written; what was kept before is still there then.
    pub fn keep_overrides(&self, overrides: &Overrides) -> io::Result<()> {
        self.prepare()?;
        disk::write(&self.0.join(OVERRIDES), &form::overrides_text(overrides))
    }

    /// What the operator had changed; nothing where nothing was kept.
    ///
    /// # Errors
    /// [`StateError`]: there is something, and it cannot be used.
    pub fn overrides(&self) -> Result<Overrides, StateError> {
        Ok(self.read(OVERRIDES, form::overrides)?.unwrap_or_default())
    }

    /// Keeps what names have led to and files of endpoints have listed.
    ///
    /// # Errors
    /// The directory cannot be written; what was kept before is still there then.
    pub fn keep_findings(&self, findings: &Findings) -> io::Result<()> {
        self.prepare()?;
        disk::write(&self.0.join(FINDINGS), &findings.text())
    }

    /// What names had led to and files of endpoints had listed; nothing where nothing was kept.
    ///
    /// # Errors
    /// [`StateError`]: there is something, and it cannot be used.
    pub fn findings(&self) -> Result<Findings, StateError> {
        Ok(self.read(FINDINGS, Findings::read)?.unwrap_or_default())
    }

    fn read<T>(&self, name: &str, parse: fn(&[u8]) -> Stored<T>) -> Result<Option<T>, StateError> {
        let path = self.0.join(name);
        match disk::read(&path, STATE_MAX) {
            Ok(bytes) => parse(&bytes).map(Some).map_err(|why| StateError::Form { path, why }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::Read { path, error }),
        }
    }
}

/// What the operator has changed, as it is kept.
pub(super) fn overrides_text(overrides: &Overrides) -> Vec<u8> {
    form::overrides_text(overrides)
}

/// What the operator has changed, from the text of it; in words where it cannot be read.
pub(super) fn overrides_of(text: &[u8]) -> Result<Overrides, String> {
    form::overrides(text)
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// A path by which a file is known whatever the working directory is; links are not followed, since a file that is gone has
/// to be recognised too.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
