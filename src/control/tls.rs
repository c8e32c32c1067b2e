//! TLS towards endpoints, as a client: trust, own certificate, server name. Built once from files, then shared by all
//! connections; nothing here decides what is probed or proxied.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::address::Address;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::net::{IpAddr, Ipv4Addr};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// Where Debian, and what is derived from it, keeps the certificate authorities that the machine trusts.
pub const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a `tls` table towards endpoints says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Settings {
    /// Name that is asked for (SNI) and that the certificate must have. Without one it is the endpoint's IP address,
    /// which is verified alike but, as RFC 6066 section 3 wants it, not sent.
    pub server_name: Option<String>,
    /// Certificate authorities that are trusted, PEM; without it those in [`SYSTEM_ROOTS`].
    pub ca: Option<PathBuf>,
    /// What we show when the endpoint asks who we are.
    pub certificate: Option<Certificate>,
    /// Whether the endpoint's certificate is verified.
    pub verify: Verify,
}

/// A certificate of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// PEM file with the certificate and what leads to its authority.
    pub chain: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
}

/// Whether certificates of endpoints are verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Verify {
    /// Chain, validity and name.
    #[default]
    On,
    /// Only that the endpoint has the key of whatever certificate it shows.
    Off {
        /// Why the operator wants it so; for the status page and the linter.
        reason: String,
    },
}

/// Why no TLS client can be made from settings.
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
    #[error("TLS client settings are refused: {0}")]
    Refused(String),
}

/// A TLS client, ready for any number of connections. Equal when it was made from the same settings and the same
/// contents of the files, so that what compares clients sees a renewed certificate.
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    settings: Settings,
    contents: u64,
}

impl TlsClient {
    /// Reads the files and prepares the client. Every connection makes a full handshake (no resumption), so that each
    /// proves the certificate anew.
    ///
    /// # Errors
    /// [`TlsError`] says which file or setting is wrong.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let mut contents = DefaultHasher::new();
        let server_name = settings.server_name.as_deref().map(parse_name).transpose()?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match settings.verify {
            Verify::Off { .. } => Arc::new(AnyCertificate(Arc::clone(&provider))),
            Verify::On => {
                let roots = match &settings.ca {
                    Some(path) => own_roots(path, &mut contents)?,
                    None => system_roots(&mut contents)?,
                };
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| TlsError::Refused(error.to_string()))?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let chain = certificates(&certificate.chain, &mut contents)?;
                let key = private_key(&certificate.key, &mut contents)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| refused(&error))?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name, settings, contents: contents.finish() })
    }

    /// The settings that it was made from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes the handshake over a connection to `address`, offering the protocols `alpn` (none: no ALPN at all).
    ///
    /// # Errors
    /// Those of the connection; `InvalidData` with the TLS fault inside when the handshake fails, such as a
    /// certificate that does not verify.
    pub async fn connect<S>(
        &self,
        stream: S,
        address: Address,
        alpn: &[&[u8]],
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<S>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let name = self.server_name.clone().unwrap_or_else(|| match address {
            Address::Ip(address) => ServerName::from(address.ip()),
            Address::Unix(_) => ServerName::from(IpAddr::from(Ipv4Addr::LOCALHOST)),
        });
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::clone(&self.config)).with_alpn(alpn).connect(name, stream).await
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TlsClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        self.contents == other.contents && self.settings == other.settings
    }
}

impl Eq for TlsClient {}

impl Hash for TlsClient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.contents.hash(state);
        self.settings.hash(state);
    }
}

/// Whether an error of a connection is a fault of TLS itself, such as an alert, rather than one of the socket.
#[must_use]
pub fn is_tls_fault(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

fn refused(error: &rustls::Error) -> TlsError {
    TlsError::Refused(error.to_string())
}

fn parse_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}

fn read(path: &Path, contents: &mut DefaultHasher) -> Result<Vec<u8>, TlsError> {
    let bytes = std::fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })?;
    bytes.hash(contents);
    Ok(bytes)
}

fn content(path: &Path, wanted: &'static str, why: impl fmt::Display) -> TlsError {
    TlsError::Content { path: path.to_owned(), wanted, why: why.to_string() }
}

fn certificates(path: &Path, contents: &mut DefaultHasher) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const WANTED: &str = "a PEM file of certificates";
    let pem = read(path, contents)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(content(path, WANTED, "it holds none")),
        Ok(found) => Ok(found),
        Err(error) => Err(content(path, WANTED, error)),
    }
}

fn private_key(path: &Path, contents: &mut DefaultHasher) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = read(path, contents)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| content(path, "a PEM file with a private key", error))
}

/// Every certificate that the operator lists must be good: one that is dropped would be missed at night.
fn own_roots(path: &Path, contents: &mut DefaultHasher) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, contents)? {
        roots.add(certificate).map_err(|error| content(path, "a file of certificate authorities", error))?;
    }
    Ok(roots)
}

/// Of the system's bundle, which nobody here wrote, what cannot be read is left out.
fn system_roots(contents: &mut DefaultHasher) -> Result<RootCertStore, TlsError> {
    let path = Path::new(SYSTEM_ROOTS);
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path, contents)?);
    if added == 0 {
        return Err(content(path, "a file of certificate authorities", "none of them can be read"));
    }
    Ok(roots)
}

/// Takes any certificate, as `verify = { off = "..." }` asks; the endpoint must still have its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    fn authority(name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate")
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let good = authority("a.test");
        let ca = write(folder.path(), "ca.pem", &good.cert.pem());
        let text = write(folder.path(), "text.pem", "hello");
        let key = write(folder.path(), "key.pem", &authority("b.test").signing_key.serialize_pem());
        let message = |settings| TlsClient::new(settings).expect_err("refused").to_string();
        let with_ca = |ca: &Path| Settings { ca: Some(ca.to_owned()), ..Settings::default() };
        let with_pair = |chain: &Path, key: &Path| Settings {
            certificate: Some(Certificate { chain: chain.to_owned(), key: key.to_owned() }),
            ..with_ca(&ca)
        };
        assert!(message(with_ca(&folder.path().join("none.pem"))).contains("none.pem cannot be read"));
        assert!(
            message(with_ca(&text)).contains("text.pem is not a PEM file of certificates: it holds none")
        );
        assert!(message(with_pair(&ca, &text)).contains("text.pem is not a PEM file with a private key"));
        assert!(message(with_pair(&ca, &key)).starts_with("TLS client settings are refused"));
        let named = Settings { server_name: Some("a b".to_owned()), ..with_ca(&ca) };
        assert_eq!(message(named), "\"a b\" is no server name");
    }

    #[test]
    fn a_client_is_another_one_once_its_files_have_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = write(folder.path(), "ca.pem", &authority("a.test").cert.pem());
        let settings = Settings { ca: Some(ca), ..Settings::default() };
        let client = || TlsClient::new(settings.clone()).expect("a client");
        let first = client();
        assert_eq!(first, client());
        write(folder.path(), "ca.pem", &authority("a.test").cert.pem());
        assert_ne!(first, client());
    }
}
