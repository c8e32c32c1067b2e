//! TLS towards endpoints: whom a pool trusts, as whom it appears, which name it asks for, and the sessions that its
//! endpoints may resume. The only place that builds rustls client configurations; handshakes are made elsewhere, by
//! workers and by probes.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::files::{Reader, TlsError};
use super::provider::Order;
use super::self_signed::OrTrustedItself;
use crate::config::tls::{ClientTls, MinVersion};
use crate::model::address::Address;
use crate::runtime::endpoint::Work;

/// Where Debian, and what is derived from it, keeps the certificate authorities that the machine trusts.
pub const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What a client needs to know before it knows whom it talks to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Settings {
    /// Certificate authorities that are trusted, PEM; without it those in [`SYSTEM_ROOTS`].
    pub ca: Option<PathBuf>,
    /// What we show when the endpoint asks who we are.
    pub certificate: Option<Certificate>,
    /// Whether the endpoint's certificate is verified.
    pub verify: Verify,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
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

impl From<&ClientTls> for Settings {
    fn from(written: &ClientTls) -> Self {
        let certificate = |own: &crate::config::tls::Identity| Certificate {
            chain: own.cert.clone(),
            key: own.key.clone(),
        };
        Self {
            ca: written.ca.clone(),
            certificate: written.identity.as_ref().map(certificate),
            verify: match &written.verify_off {
                None => Verify::On,
                Some(reason) => Verify::Off { reason: reason.clone() },
            },
            min_version: written.min_version,
        }
    }
}

/// A client for settings, as it stands when their files have been read. Equal to another when settings and contents are.
pub struct Client {
    settings: Settings,
    digest: u64,
    config: ClientConfig,
}

impl Client {
    /// Reads the files and prepares the client, which makes a full handshake every time and offers no protocol by ALPN.
    ///
    /// # Errors
    /// [`TlsError`] says which file or setting is wrong.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let mut reader = Reader::default();
        let provider = Order::Aes.provider();
        let verifier: Arc<dyn ServerCertVerifier> = match settings.verify {
            Verify::Off { .. } => Arc::new(AnyCertificate(Arc::clone(&provider))),
            Verify::On => {
                let (roots, trusted) = match &settings.ca {
                    Some(path) => own_roots(path, &mut reader)?,
                    None => (system_roots(&mut reader)?, Vec::new()),
                };
                let usual =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                        .build()
                        .map_err(|error| TlsError::Refused(error.to_string()))?;
                if trusted.is_empty() { usual } else { Arc::new(OrTrustedItself { usual, trusted }) }
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(settings.min_version))
            .map_err(|error| refused(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let chain = reader.certificates(&certificate.chain)?;
                let key = reader.private_key(&certificate.key)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| refused(&error))?
            }
        };
        config.resumption = Resumption::disabled();
        Ok(Self { settings, digest: reader.digest(), config })
    }

    /// The settings that it was made from.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The digest of the files that it was made from.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// The client for connections that stand alone: each proves the certificate anew.
    #[must_use]
    pub fn alone(&self) -> Arc<ClientConfig> {
        Arc::new(self.config.clone())
    }

    fn resuming(&self, resumption: &Resumption, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.resumption = resumption.clone();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.settings == other.settings
    }
}

impl Eq for Client {}

/// Clients by their settings, so that the files of many pools are read once.
#[derive(Debug, Default)]
pub struct Clients(HashMap<Settings, Arc<Client>>);

impl Clients {
    /// The client of these settings.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn of(&mut self, settings: &Settings) -> Result<Arc<Client>, TlsError> {
        if let Some(client) = self.0.get(settings) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(Client::new(settings.clone())?);
        self.0.insert(settings.clone(), Arc::clone(&client));
        Ok(client)
    }
}

/// Which name a pool asks for, and the certificate must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// The endpoint's: the host that is written, or else its IP address.
    Endpoint,
    /// This one.
    Fixed(ServerName<'static>),
    /// The request's host.
    Host,
}

impl Naming {
    /// The name of an endpoint that is written as `host`, or only by its address, where no request has another.
    fn of(&self, host: Option<&str>, address: &Address) -> ServerName<'static> {
        match self {
            Self::Fixed(name) => name.clone(),
            Self::Endpoint | Self::Host => endpoint_name(host, address),
        }
    }
}

/// TLS of a pool.
#[derive(Debug)]
pub struct PoolTls {
    number: u64,
    client: Arc<Client>,
    naming: Naming,
    /// What requests offer by ALPN.
    alpn: &'static [&'static [u8]],
    sessions: usize,
}

/// Numbers of [`PoolTls`]; 0 is a pool without TLS.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl PoolTls {
    /// TLS of a pool that has none so far, or whose settings or files are others now. For at most `sessions` of each
    /// endpoint it is remembered how to resume them.
    #[must_use]
    pub fn new(
        client: Arc<Client>,
        naming: Naming,
        alpn: &'static [&'static [u8]],
        sessions: usize,
    ) -> Arc<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { number, client, naming, alpn, sessions })
    }

    /// Whether connections by the other are as good as by this one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.naming, self.alpn, self.sessions) == (&other.naming, other.alpn, other.sessions)
            && self.client == other.client
    }

    /// Tells it apart from all others of this process. What is the same after a reload keeps its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether the request's host decides which name is asked for.
    #[must_use]
    pub fn follows_host(&self) -> bool {
        self.naming == Naming::Host
    }

    /// Why endpoints are not verified, where they are not.
    #[must_use]
    pub fn verify_off(&self) -> Option<&str> {
        match &self.client.settings().verify {
            Verify::On => None,
            Verify::Off { reason } => Some(reason),
        }
    }
}

/// TLS of one endpoint: the name that it must prove, and the sessions that can be resumed with it alone. Endpoints do not
/// know each other's tickets, so those of a pool are kept apart.
#[derive(Debug)]
pub struct EndpointTls {
    pool: Arc<PoolTls>,
    name: ServerName<'static>,
    /// Made with the first connection: most endpoints of a large pool have none on most nodes.
    resumption: OnceLock<Resumption>,
    requests: OnceLock<Arc<ClientConfig>>,
    connections: OnceLock<Arc<ClientConfig>>,
}

impl EndpointTls {
    /// TLS of an endpoint of `pool` that is written as `host`, or only by its address.
    #[must_use]
    pub fn new(pool: &Arc<PoolTls>, host: Option<&str>, address: &Address) -> Self {
        Self {
            pool: Arc::clone(pool),
            name: pool.naming.of(host, address),
            resumption: OnceLock::new(),
            requests: OnceLock::new(),
            connections: OnceLock::new(),
        }
    }

    /// Whether this is what [`EndpointTls::new`] would make.
    #[must_use]
    pub fn is_of(&self, pool: &Arc<PoolTls>, host: Option<&str>, address: &Address) -> bool {
        Arc::ptr_eq(&self.pool, pool) && self.name == pool.naming.of(host, address)
    }

    /// TLS of its pool.
    #[must_use]
    pub fn pool(&self) -> &PoolTls {
        &self.pool
    }

    /// The name that it must prove, unless that is the request's host.
    #[must_use]
    pub const fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// The client for this kind of work. Only requests offer protocols: what a tcp session will speak is not known here.
    #[must_use]
    pub fn client(&self, work: Work) -> &Arc<ClientConfig> {
        let (place, alpn): (_, &[&[u8]]) = match work {
            Work::Request => (&self.requests, self.pool.alpn),
            Work::Connection => (&self.connections, &[]),
        };
        place.get_or_init(|| {
            let resumption = self.resumption.get_or_init(|| match self.pool.sessions {
                0 => Resumption::disabled(),
                sessions => Resumption::in_memory_sessions(sessions),
            });
            self.pool.client.resuming(resumption, alpn)
        })
    }
}

/// What an endpoint is called that is written as `host`, or only by its address: behind a unix socket is this machine.
#[must_use]
pub fn endpoint_name(host: Option<&str>, address: &Address) -> ServerName<'static> {
    // A host name with a last dot is absolute for DNS, and the same name without it for a certificate.
    let host = host.map(|host| host.strip_suffix('.').unwrap_or(host));
    let host = match address {
        Address::Ip(_) => host,
        Address::Unix(_) => Some("localhost"),
    };
    let ip = address.ip().map_or_else(|| Ipv4Addr::LOCALHOST.into(), |address| address.ip());
    host.and_then(|host| parse_name(host).ok()).unwrap_or_else(|| ServerName::from(ip))
}

/// Reads a name that is asked for: a DNS name or an IP address.
///
/// # Errors
/// [`TlsError::ServerName`].
pub fn parse_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}

fn versions(min: MinVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        MinVersion::Tls12 => rustls::DEFAULT_VERSIONS,
        MinVersion::Tls13 => TLS_13,
    }
}

static TLS_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn refused(error: &rustls::Error) -> TlsError {
    TlsError::Refused(error.to_string())
}

/// Every certificate that the operator lists must be good: one that is dropped would be missed at night.
fn own_roots(
    path: &Path,
    reader: &mut Reader,
) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let mut roots = RootCertStore::empty();
    let certificates = reader.certificates(path)?;
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| TlsError::content(path, "a file of certificate authorities", error))?;
    }
    Ok((roots, certificates))
}

/// Of the system's bundle, which nobody here wrote, what cannot be read is left out.
fn system_roots(reader: &mut Reader) -> Result<RootCertStore, TlsError> {
    let path = Path::new(SYSTEM_ROOTS);
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(reader.certificates(path)?);
    if added == 0 {
        return Err(TlsError::content(path, "a file of certificate authorities", "none of them can be read"));
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
#[path = "client/tests.rs"]
mod tests;
