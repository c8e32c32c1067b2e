//! The certificate that every proxy under test shows, and the clients' settings that make all of them negotiate the same:
//! TLS 1.3 with X25519 and AES-128-GCM, never resumed.

use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;

/// The name that clients ask for.
pub(crate) const HOST: &str = "bench.test";

/// A P-256 certificate for [`HOST`] in files that go with their owner.
pub(crate) struct Certificate {
    folder: TempDir,
}

impl Certificate {
    /// Makes a key and a certificate that it signed itself.
    pub(crate) fn make() -> std::io::Result<Self> {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).map_err(Error::other)?;
        let own = Self { folder: TempDir::new()? };
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        std::fs::write(own.chain(), &chain)?;
        std::fs::write(own.key(), &key)?;
        std::fs::write(own.both(), chain + &key)?;
        Ok(own)
    }

    /// PEM of the certificate.
    pub(crate) fn chain(&self) -> PathBuf {
        self.folder.path().join("bench.crt")
    }

    /// PEM of the key.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("bench.key")
    }

    /// PEM of both in one file, as HAProxy reads it.
    pub(crate) fn both(&self) -> PathBuf {
        self.folder.path().join("bench.pem")
    }
}

/// Settings of clients, one for each protocol that they may ask for.
#[derive(Debug, Clone)]
pub(crate) struct ClientTls {
    pub(crate) http1: Arc<ClientConfig>,
    pub(crate) http2: Arc<ClientConfig>,
}

impl ClientTls {
    pub(crate) fn new() -> std::io::Result<Self> {
        let offering = |protocol: &[u8]| {
            let provider = CryptoProvider {
                cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
                kx_groups: vec![aws_lc_rs::kx_group::X25519],
                ..aws_lc_rs::default_provider()
            };
            let builder = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(|error| Error::new(ErrorKind::InvalidInput, error))?;
            let verifier = Arc::new(Trusting);
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            let mut config = builder.with_no_client_auth();
            config.resumption = Resumption::disabled();
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok::<_, Error>(Arc::new(config))
        };
        Ok(Self { http1: offering(b"http/1.1")?, http2: offering(b"h2")? })
    }
}

/// Believes every certificate: what a client would spend on it says nothing about the proxy, and is taken from the CPU that the
/// load has.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
