//! TLS to endpoints: which name is asked for, and in which words it is told what went wrong. Bytes under TLS are
//! `proxy::tls`'s, deadlines `dial`'s, and what is trusted was decided when the snapshot was compiled.

use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};

use crate::model::host::split_authority;
use crate::proxy::stream::{Socket, Stream};
use crate::proxy::tls::{HandshakeError, Tls};
use crate::runtime::endpoint::{Endpoint, Work};
use crate::runtime::tls::fault::TlsFault;

/// A handshake that is to be made.
#[derive(Debug, Clone)]
pub struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Handshake {
    /// The handshake with `endpoint`, where its pool wants one; `host` is the request's.
    ///
    /// # Errors
    /// [`Failure`] where the request's host is to be asked for, and is no name that a certificate could have.
    pub fn with(endpoint: &Endpoint, work: Work, host: Option<&str>) -> io::Result<Option<Box<Self>>> {
        let Some(tls) = endpoint.tls.as_deref() else { return Ok(None) };
        let name = match host.filter(|_| tls.pool().follows_host()) {
            None => tls.name().clone(),
            Some(host) => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                ServerName::try_from(bare.to_owned())
                    .map_err(|_| failed(TlsFault::WrongName, format!("no certificate is for \"{host}\"")))?
            }
        };
        Ok(Some(Box::new(Self { config: Arc::clone(tls.client(work)), name })))
    }

    /// The same, with HTTP/1.1 for all that is offered.
    #[must_use]
    pub fn for_http1(mut self) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = vec![b"http/1.1".to_vec()];
        self
    }

    /// Makes it. No time limit of its own.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn make(self, socket: Socket) -> io::Result<Stream> {
        match Tls::connect(socket, self.config, self.name).await {
            Ok(tls) => Ok(tls.into()),
            Err(HandshakeError::Refused(error)) => Err(failed(fault(&error), error)),
            Err(HandshakeError::Socket(error)) => Err(failed(TlsFault::Closed, error)),
        }
    }
}

/// The host of a request as pools whose `server_name` it is ask for it and keep connections apart by it: in lower case and
/// without a port. Nothing where a request names none.
#[must_use]
pub fn host(authority: &[u8]) -> Option<Rc<str>> {
    let (host, _) = split_authority(authority).filter(|(host, _)| !host.is_empty())?;
    Some(std::str::from_utf8(host).ok()?.to_ascii_lowercase().into())
}

/// A failed handshake, inside an [`io::Error`].
#[derive(Debug, Clone)]
pub struct Failure {
    fault: TlsFault,
    detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the TLS handshake failed, {}", self.fault.describe())?;
        if self.detail.is_empty() { Ok(()) } else { write!(out, ": {}", self.detail) }
    }
}

impl std::error::Error for Failure {}

/// Why the handshake failed, if it was one that did.
#[must_use]
pub fn fault_of(error: &io::Error) -> Option<TlsFault> {
    let failure = error.get_ref()?.downcast_ref::<Failure>()?;
    Some(failure.fault)
}

/// The error of a connection for everyone who waited for it: what failed, in the same words.
#[must_use]
pub fn copy_of(error: &io::Error) -> io::Error {
    let failure = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
    match (failure, error.raw_os_error()) {
        (Some(failure), _) => io::Error::new(error.kind(), failure.clone()),
        (None, Some(code)) => io::Error::from_raw_os_error(code),
        (None, None) => io::Error::new(error.kind(), error.to_string()),
    }
}

/// A handshake that was not done in time.
#[must_use]
pub fn timed_out() -> io::Error {
    failed(TlsFault::Timeout, "")
}

/// What an endpoint that broke off before it answered meant, where it has refused our handshake: with TLS 1.3 it only
/// says so when that is over for us, and has read nothing of what came with it (RFC 8446 section 4.4.2.4).
#[must_use]
pub fn late_refusal(error: &io::Error) -> Option<io::Error> {
    use AlertDescription as Alert;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::AlertReceived(alert) = error else { return None };
    let refuses = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::HandshakeFailure
    );
    refuses.then(|| failed(TlsFault::Refused, error))
}

fn failed(fault: TlsFault, detail: impl fmt::Display) -> io::Error {
    let kind = match fault {
        TlsFault::Timeout => ErrorKind::TimedOut,
        TlsFault::Closed => ErrorKind::ConnectionAborted,
        _ => ErrorKind::InvalidData,
    };
    io::Error::new(kind, Failure { fault, detail: detail.to_string() })
}

fn fault(error: &rustls::Error) -> TlsFault {
    use rustls::Error;
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFault::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::WrongName
            }
            // The second: an authority of the name of one that is trusted, with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownAuthority,
            _ => TlsFault::BadCertificate,
        },
        Error::NoCertificatesPresented => TlsFault::BadCertificate,
        Error::AlertReceived(_) => TlsFault::Refused,
        _ => TlsFault::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_same_however_it_is_written() {
        assert_eq!(host(b"Shop.Example.com:8443").as_deref(), Some("shop.example.com"));
        assert_eq!(host(b"[2001:DB8::1]:443").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(host(b""), None);
    }

    #[test]
    fn what_went_wrong_is_told_in_words_and_for_counters() {
        let error = failed(TlsFault::Expired, "10 seconds ago");
        assert_eq!(
            error.to_string(),
            "the TLS handshake failed, the certificate has expired: 10 seconds ago"
        );
        assert_eq!(fault_of(&error), Some(TlsFault::Expired));
        assert_eq!(fault_of(&io::Error::from(ErrorKind::ConnectionRefused)), None);
    }

    #[test]
    fn only_a_refused_certificate_means_that_nothing_was_read() {
        let alert = |alert| io::Error::new(ErrorKind::InvalidData, rustls::Error::AlertReceived(alert));
        let refused = late_refusal(&alert(AlertDescription::CertificateRequired));
        assert_eq!(refused.as_ref().and_then(fault_of), Some(TlsFault::Refused));
        assert!(late_refusal(&alert(AlertDescription::InternalError)).is_none());
        assert!(late_refusal(&io::Error::from(ErrorKind::ConnectionReset)).is_none());
    }
}
