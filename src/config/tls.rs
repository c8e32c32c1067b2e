//! TLS of connections that we make: whom we trust, as whom we appear, and which files say so. What listeners show is
//! `served`'s; `certificate`, `staple` and `ticket_keys` read what stands in the files.

pub mod certificate;
pub mod served;
pub mod staple;
pub mod ticket_keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::diagnostic::Report;
use super::source::{Sources, Span};
use super::value::Fields;

/// TLS to somebody else; verified unless `verify_off` gives a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// The name that is asked for and that the certificate must have; nothing is the address.
    pub server_name: Option<String>,
    /// A PEM file of certificates that are trusted; nothing is the system's.
    pub ca: Option<PathBuf>,
    /// As whom we appear.
    pub identity: Option<Identity>,
    /// Why the other side is not verified, where it is not.
    pub verify_off: Option<String>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A PEM file of certificates, ours first.
    pub cert: PathBuf,
    /// A PEM file with its key.
    pub key: PathBuf,
}

/// Where files that a configuration names are, and whether to look into them.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    /// Whose directories relative paths are relative to.
    pub(super) sources: &'a Sources,
    /// Files are looked into only where the configuration itself was a file.
    pub(super) look: Look<'a>,
}

/// What is looked into.
#[derive(Clone, Copy)]
pub(super) enum Look<'a> {
    /// Nothing: there may be no such files here.
    Nowhere,
    /// The files that are named.
    AtNamed,
    /// These, and where one cannot be used the copy of it at this path.
    OrCopies(&'a BTreeMap<PathBuf, PathBuf>),
}

impl ClientTls {
    /// Reads a table of the keys `server_name`, `ca`, `cert`, `key` and `verify`.
    pub(super) fn read(fields: &Fields, files: Files<'_>, report: &mut Report) -> Option<Self> {
        let ca = files.named(fields, "ca", PEM, certificates, report);
        let cert = files.named(fields, "cert", PEM, certificates, report);
        let key = files.named(fields, "key", PEM, private_key, report);
        let verify = fields.table("verify");
        if let Some(verify) = &verify {
            verify.require("`verify`", report);
            if let Some(field) = fields.own("ca") {
                let message = "`ca` has no use where `verify` is off";
                report.error(field.key_span, message, "remove one of the two");
            }
        }
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some(files.pair(fields, Identity { cert, key }, report)),
            (None, None) => None,
            (cert, _) => {
                let (there, missing) = if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
                let help =
                    format!("add {missing} = \"client.{}\"", if cert.is_some() { "key" } else { "crt" });
                report.error(fields.span_of(there), format!("`{there}` needs `{missing}`"), help);
                return None;
            }
        };
        let verify_off = verify.and_then(|verify| verify.get("off"));
        Some(Self { server_name: fields.get("server_name"), ca, identity, verify_off })
    }
}

const PEM: &str = "a PEM file";

impl Files<'_> {
    /// The path of a file that a key names, whether it is there or not.
    pub(super) fn path(&self, fields: &Fields, name: &str) -> Option<PathBuf> {
        let written: String = fields.get(name)?;
        Some(self.sources.directory(fields.span_of(name).file).join(written))
    }

    /// The file that a key names, looked into by `check`; a remedy calls it `kind`.
    pub(super) fn named(
        &self,
        fields: &Fields,
        name: &str,
        kind: &str,
        check: fn(&Path) -> Result<(), String>,
        report: &mut Report,
    ) -> Option<PathBuf> {
        let written: String = fields.get(name)?;
        let span: Span = fields.span_of(name);
        let path = self.sources.directory(span.file).join(written);
        self.sources.note(&path);
        let copy = self.copy(&path).filter(|copy| check(copy).is_ok());
        if !matches!(self.look, Look::Nowhere)
            && let Err(what) = check(&path)
        {
            if let Some(copy) = copy {
                return Some(copy.clone());
            }
            let message = format!("`{name}` cannot be {}: {what}", path.display());
            report.error(span, message, format!("write the path of {kind} that this user can read"));
        }
        Some(path)
    }
}

impl<'a> Files<'a> {
    fn copy(&self, path: &Path) -> Option<&'a PathBuf> {
        match self.look {
            Look::OrCopies(copies) => copies.get(path),
            Look::Nowhere | Look::AtNamed => None,
        }
    }

    /// Whether files are looked into.
    fn looks(&self) -> bool {
        !matches!(self.look, Look::Nowhere)
    }

    /// Holds a key against its certificate.
    fn pair(&self, fields: &Fields, written: Identity, report: &mut Report) -> Identity {
        let Identity { cert, key } = &written;
        // What cannot be read at all has been reported.
        let readable = certificates(cert).is_ok() && private_key(key).is_ok();
        if matches!(self.look, Look::Nowhere) || !readable || is_pair(cert, key) {
            return written;
        }
        if let (Some(cert), Some(key)) = (self.copy(cert), self.copy(key))
            && is_pair(cert, key)
        {
            return Identity { cert: cert.clone(), key: key.clone() };
        }
        let message = format!("{} is not the key of {}", key.display(), cert.display());
        report.error(fields.span_of("key"), message, "write the key that the certificate was made for");
        written
    }
}

/// Whether a key is that of a certificate.
fn is_pair(cert: &Path, key: &Path) -> bool {
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let (Ok(chain), Ok(key)) = (chain, PrivateKeyDer::from_pem_file(key)) else { return false };
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).is_ok()
}

fn certificates(path: &Path) -> Result<(), String> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found.as_deref() {
        Ok([]) => Err("it has no certificate".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(explain(error)),
    }
}

fn private_key(path: &Path) -> Result<(), String> {
    PrivateKeyDer::from_pem_file(path).map(drop).map_err(|error| explain(&error))
}

fn explain(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "it has no private key".to_owned(),
        other => format!("it is no PEM file: {other}"),
    }
}
