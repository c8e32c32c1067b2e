//! `[listener.NAME.tls]`: the certificates that a listener shows, what it asks of clients, and who can resume sessions.
//! Whatever the files say is held against each other here, so that a reload that would fail is refused with its place.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::certificate::Facts;
use super::staple::Staple;
use super::{Files, Identity, PEM, certificates, private_key};
use crate::config::diagnostic::Report;
use crate::config::secrets;
use crate::config::source::Span;
use crate::config::value::Fields;

/// What an http listener can speak behind TLS, by ALPN (RFC 7301), most wanted first; also what it offers by itself.
pub const SPOKEN: &[&str] = &["h2", "http/1.1"];

/// The longest name of a protocol in ALPN (RFC 7301 section 3.1).
const PROTOCOL_MAX: usize = 255;

/// Names that a certificate does not share with one that asks clients for something else are told, up to so many.
const NAMES_TOLD: usize = 3;

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the first is for clients that name none of the others' names.
    pub certificates: Vec<Certificate>,
    /// The least version.
    pub min_version: Version,
    /// Protocols that are offered, most wanted first; empty: no ALPN at all.
    pub alpn: Vec<String>,
    /// Whether endpoints are told of clients' certificates.
    pub client_headers: bool,
    /// A file of secrets for tickets that other nodes have too.
    pub ticket_keys: Option<PathBuf>,
}

/// A certificate that a listener shows, and what it asks of clients who want its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate and its key.
    pub identity: Identity,
    /// An OCSP answer about it, in DER.
    pub ocsp: Option<PathBuf>,
    /// The certificate that clients are asked for.
    pub client: Option<ClientAuth>,
}

/// A certificate that clients are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// Who must have signed it, PEM.
    pub ca: PathBuf,
    /// Whether nobody gets on without one.
    pub required: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// TLS 1.2 (RFC 5246), with forward secrecy and authenticated ciphers only.
    V12,
    /// TLS 1.3 (RFC 8446).
    V13,
}

impl Version {
    /// Its word in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }
}

/// A certificate with the place where it is written and what stands in its file.
struct Read {
    certificate: Certificate,
    span: Span,
    facts: Option<Facts>,
}

impl ListenerTls {
    /// Reads the table `tls` of a listener that speaks HTTP or not.
    pub(in crate::config) fn read(
        name: &str,
        fields: &Fields,
        is_http: bool,
        files: Files<'_>,
        report: &mut Report,
    ) -> Option<Self> {
        fields.require(&format!("[listener.{name}.tls]"), report);
        let client = client_auth(fields, None, files, report);
        let all: Vec<Option<Read>> = fields
            .list::<Fields>("certificates")
            .into_iter()
            .map(|(certificate, _)| Certificate::read(&certificate, client.as_ref(), files, report))
            .collect();
        let all: Vec<Read> = all.into_iter().collect::<Option<_>>()?;
        one_rule_for_a_name(&all, report);
        let client_headers: bool = fields.get("client_headers")?;
        if let Some(field) = fields.own("client_headers").filter(|_| client_headers) {
            if !is_http {
                let message =
                    format!("`client_headers` has no use: the listener `{name}` does not speak HTTP");
                report.error(field.key_span, message, "remove it, or write protocol = \"http\"");
            } else if all.iter().all(|read| read.certificate.client.is_none()) {
                let message = "`client_headers` has no use: no client is asked for a certificate";
                report.error(field.key_span, message, "add client_ca = \"clients.pem\"");
            }
        }
        Some(Self {
            certificates: all.into_iter().map(|read| read.certificate).collect(),
            min_version: if fields.is_word("min_version", "1.3") { Version::V13 } else { Version::V12 },
            alpn: alpn(fields, is_http, report),
            client_headers,
            ticket_keys: files.named(fields, "ticket_keys", "a file of keys", secrets::check, report),
        })
    }
}

impl Certificate {
    fn read(
        fields: &Fields,
        outer: Option<&ClientAuth>,
        files: Files<'_>,
        report: &mut Report,
    ) -> Option<Read> {
        fields.require("a certificate", report);
        let cert = files.named(fields, "cert", PEM, certificates, report);
        let key = files.named(fields, "key", PEM, private_key, report);
        let ocsp = files.named(fields, "ocsp", "an OCSP answer in DER", is_staple, report);
        let client = client_auth(fields, outer, files, report);
        let identity = files.pair(fields, Identity { cert: cert?, key: key? }, report);
        let certificate = Self { identity, ocsp, client };
        let facts = if files.looks() { certificate.check(fields, report) } else { None };
        Some(Read { certificate, span: fields.span_of("cert"), facts })
    }

    /// What the certificate says, where its file can be read.
    #[must_use]
    pub fn facts(&self) -> Option<Facts> {
        Facts::of(&CertificateDer::from_pem_file(&self.identity.cert).ok()?).ok()
    }

    /// Holds the certificate against what clients want of one, and the staple against it.
    fn check(&self, fields: &Fields, report: &mut Report) -> Option<Facts> {
        let first = CertificateDer::from_pem_file(&self.identity.cert).ok()?;
        let (path, span) = (self.identity.cert.display(), fields.span_of("cert"));
        let facts = match Facts::of(&first) {
            Ok(facts) => facts,
            Err(what) => {
                let message = format!("{path} has no certificate that can be read: {what}");
                report.error(span, message, "write the path of an X.509 certificate");
                return None;
            }
        };
        if facts.names.is_empty() && !facts.has_address {
            let message =
                format!("{path} names nobody: it has no subject alternative name, so clients refuse it");
            report.error(span, message, "have it made with subjectAltName = DNS:app.example.com");
        }
        if let Some(ocsp) = &self.ocsp
            && let Ok(staple) =
                std::fs::read(ocsp).map_err(|_| ()).and_then(|der| Staple::of(&der).map_err(|_| ()))
            && !staple.serials.contains(&facts.serial)
        {
            let message = format!("{} is about another certificate than {path}", ocsp.display());
            report.error(
                fields.span_of("ocsp"),
                message,
                "write the answer that was fetched for this certificate",
            );
        }
        Some(facts)
    }
}

/// What a table asks of clients; what it says goes before what the table around it says.
fn client_auth(
    fields: &Fields,
    outer: Option<&ClientAuth>,
    files: Files<'_>,
    report: &mut Report,
) -> Option<ClientAuth> {
    let own = files.named(fields, "client_ca", PEM, authorities, report);
    let words: [(&str, Option<bool>); 3] =
        [("require", Some(true)), ("request", Some(false)), ("none", None)];
    let word = words.into_iter().find(|(word, _)| fields.is_word("client_auth", word));
    let ca = own.or_else(|| outer.map(|outer| outer.ca.clone()));
    match (ca, word) {
        (None, Some((word, Some(_)))) => {
            if !fields.has("client_ca") {
                let message = format!("`client_auth = \"{word}\"` needs `client_ca`");
                report.error(fields.span_of("client_auth"), message, "add client_ca = \"clients.pem\"");
            }
            None
        }
        (None, _) | (Some(_), Some((_, None))) => None,
        (Some(ca), Some((_, Some(required)))) => Some(ClientAuth { ca, required }),
        (Some(ca), None) => Some(ClientAuth { ca, required: outer.is_none_or(|outer| outer.required) }),
    }
}

fn alpn(fields: &Fields, is_http: bool, report: &mut Report) -> Vec<String> {
    if !fields.has("alpn") {
        let spoken = SPOKEN.iter().filter(|_| is_http);
        return spoken.map(|&protocol| protocol.to_owned()).collect();
    }
    let written = fields.list::<String>("alpn");
    for (protocol, span) in &written {
        if is_http && !SPOKEN.contains(&protocol.as_str()) {
            let message = format!("an http listener does not speak \"{protocol}\"");
            let help = format!("write one of {}", SPOKEN.join(", "));
            report.error(*span, message, help);
        } else if protocol.len() > PROTOCOL_MAX {
            let message = format!("the name of a protocol has at most {PROTOCOL_MAX} bytes");
            report.error(*span, message, "write a name of the registry for ALPN, such as \"imap\"");
        }
    }
    written.into_iter().map(|(protocol, _)| protocol).collect()
}

/// Whichever certificate of a name a client gets, it is asked for the same: else it could choose by its ciphers.
fn one_rule_for_a_name(all: &[Read], report: &mut Report) {
    let mut first: HashMap<&str, &Read> = HashMap::new();
    for read in all {
        let names = read.facts.iter().flat_map(|facts| &facts.names);
        let mut others: Vec<(&str, &Read)> = Vec::new();
        for name in names {
            let known = *first.entry(name).or_insert(read);
            if known.certificate.client != read.certificate.client {
                others.push((name, known));
            }
        }
        let Some((_, other)) = others.first() else { continue };
        let told: Vec<&str> = others.iter().take(NAMES_TOLD).map(|(name, _)| *name).collect();
        report.error_beside(
            read.span,
            format!("two certificates for {} ask clients for different ones", told.join(", ")),
            ("the other one is at", other.span),
            "write the same client_ca and client_auth for both",
        );
    }
}

fn is_staple(path: &Path) -> Result<(), String> {
    let der = std::fs::read(path).map_err(|error| error.to_string())?;
    let staple = Staple::of(&der)?;
    match staple.next_update {
        Some(next) if next < SystemTime::now() => Err("it counts no more: fetch another one".to_owned()),
        _ => Ok(()),
    }
}

/// Every authority that the operator lists must be good: one that is dropped would be missed at night.
fn authorities(path: &Path) -> Result<(), String> {
    certificates(path)?;
    let mut roots = RootCertStore::empty();
    let all = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in all {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots
            .add(certificate)
            .map_err(|error| format!("it has an authority that cannot be used: {error}"))?;
    }
    Ok(())
}
