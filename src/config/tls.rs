//! TLS of connections that we make: whom we trust, as whom we appear, and which files say so. What listeners show is
//! `served`'s; `certificate` and `staple` read what stands in the files.

pub mod certificate;
pub mod served;
pub mod staple;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::diagnostic::Report;
use super::source::{Sources, Span};
use super::value::Fields;

/// TLS to somebody else; verified unless `verify_off` gives a reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientTls {
    /// The name that is asked for and that the certificate must have.
    pub server_name: Naming,
    /// A PEM file of certificates that are trusted; nothing is the system's.
    pub ca: Option<PathBuf>,
    /// As whom we appear.
    pub identity: Option<Identity>,
    /// Why the other side is not verified, where it is not.
    pub verify_off: Option<String>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
}

/// TLS of a pool's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolTls {
    /// Whom it trusts and as whom it appears.
    pub client: ClientTls,
    /// Sessions per endpoint that can be resumed; 0 is none.
    pub sessions: usize,
}

/// Which name is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Naming {
    /// The endpoint's: its host as written, or else its IP address.
    #[default]
    Endpoint,
    /// This one.
    Fixed(String),
    /// The request's host; only where there are requests.
    Host,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MinVersion {
    /// TLS 1.2 (RFC 5246), and what is newer.
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl MinVersion {
    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// What stands for the request's host as a `server_name`.
pub(super) const HOST: &str = "{host}";

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
    /// Reads a table of the keys `server_name`, `ca`, `cert`, `key`, `verify` and `min_version`.
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
        let server_name = match fields.get("server_name") {
            Some(name) => Naming::Fixed(name),
            None if fields.is_word("server_name", HOST) => Naming::Host,
            None => Naming::Endpoint,
        };
        let verify_off = verify.and_then(|verify| verify.get("off"));
        let is_13 = fields.is_word("min_version", MinVersion::Tls13.word());
        let min_version = if is_13 { MinVersion::Tls13 } else { MinVersion::Tls12 };
        Some(Self { server_name, ca, identity, verify_off, min_version })
    }

    /// What a table says of TLS over what the pool's own says: key by key, but that whoever trusts or appears
    /// otherwise does so altogether.
    pub(super) fn over(own: Fields, pool: &Fields) -> Fields {
        const TOGETHER: [&[&str]; 2] = [&["ca", "verify"], &["cert", "key"]];
        let mut base = pool.clone();
        for keys in TOGETHER.iter().filter(|keys| keys.iter().any(|key| own.has(key))) {
            base.written.retain(|field| !keys.contains(&field.name));
        }
        own.over(&base)
    }
}

impl PoolTls {
    /// Reads the key `tls` of a pool. `requests` says that there are some, whose host may be asked for.
    pub(super) fn read(pool: &Fields, requests: bool, files: Files<'_>, report: &mut Report) -> Option<Self> {
        let fields = pool.table("tls")?;
        let client = ClientTls::read(&fields, files, report)?;
        if client.server_name == Naming::Host && !requests {
            let message =
                "`server_name = \"{host}\"` has no meaning here: tcp sessions have no request with a host";
            report.error(fields.span_of("server_name"), message, "write the name that the certificate has");
        }
        Some(Self { client, sessions: fields.get("sessions")? })
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
    pub(super) fn looks(&self) -> bool {
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
    CertifiedKey::from_der(chain, key, &provider::default_provider()).is_ok()
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
