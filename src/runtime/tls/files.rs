//! Certificates and keys in PEM files, read on the control side and never by a worker. Keeps a digest of all that was
//! read, by which a renewed file is noticed.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why TLS cannot be set up from settings and files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not what it should be.
    #[error("{} is not {wanted}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should have been.
        wanted: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The server name is neither a DNS name nor an IP address.
    #[error("\"{0}\" is no server name")]
    ServerName(String),
    /// Certificate, key or trust were refused, such as a key of another certificate.
    #[error("TLS settings are refused: {0}")]
    Refused(String),
}

impl TlsError {
    /// A file that can be read and is not what it should be.
    pub fn content(path: &Path, wanted: &'static str, why: impl fmt::Display) -> Self {
        Self::Content { path: path.to_owned(), wanted, why: why.to_string() }
    }
}

/// Reads files, and remembers what stood in them.
#[derive(Debug, Default)]
pub struct Reader(DefaultHasher);

impl Reader {
    /// The certificates of a PEM file; at least one.
    ///
    /// # Errors
    /// [`TlsError::Read`] and [`TlsError::Content`].
    pub fn certificates(&mut self, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        const WANTED: &str = "a PEM file of certificates";
        let pem = self.read(path)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let found = found.map_err(|error| TlsError::content(path, WANTED, error))?;
        if found.is_empty() {
            return Err(TlsError::content(path, WANTED, "it holds none"));
        }
        Ok(found)
    }

    /// The private key of a PEM file.
    ///
    /// # Errors
    /// [`TlsError::Read`] and [`TlsError::Content`].
    pub fn private_key(&mut self, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
        let pem = self.read(path)?;
        PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|error| TlsError::content(path, "a PEM file with a private key", error))
    }

    /// The digest of everything that was read so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.0.finish()
    }

    /// All of a file.
    ///
    /// # Errors
    /// [`TlsError::Read`].
    pub fn bytes(&mut self, path: &Path) -> Result<Vec<u8>, TlsError> {
        self.read(path)
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, TlsError> {
        let bytes = std::fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })?;
        bytes.hash(&mut self.0);
        Ok(bytes)
    }
}
