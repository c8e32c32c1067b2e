//! Certificates that nobody but themselves has signed, as `openssl req -x509` makes them: with the mark of an authority, for
//! which RFC 5280 knows no server. Where exactly such a one is among those that a pool trusts, its owner has meant it, and
//! OpenSSL, and so HAProxy and nginx, take it; the alternative would be not to verify at all.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::CertificateError::{self, Expired, NotValidYet};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::config::tls::certificate::Facts;

/// Asks `usual`, and takes a certificate that `trusted` has, too, if it is valid now and for the name.
#[derive(Debug)]
pub struct OrTrustedItself {
    /// Who knows of authorities.
    pub usual: Arc<dyn ServerCertVerifier>,
    /// What stands in the file of the pool.
    pub trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OrTrustedItself {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let told = self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        // An authority where none may be has no error of its own; whatever else it was, what is asked here is enough.
        let is_odd = matches!(told, Err(Error::InvalidCertificate(CertificateError::Other(_))));
        if !is_odd || self.trusted.iter().all(|trusted| trusted != end_entity) {
            return told;
        }
        let facts = Facts::of(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if now < facts.begins {
            return Err(NotValidYet.into());
        }
        if facts.expires <= now {
            return Err(Expired.into());
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
