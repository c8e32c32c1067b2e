//! Why a handshake with an endpoint fails, in the words of events, logs and metrics. What TLS itself says is made into these
//! where the handshake is made.

use crate::runtime::counters::Counter;

/// Why a handshake with an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// Its certificate has expired.
    Expired,
    /// Its certificate is not valid yet.
    NotYetValid,
    /// Its certificate is for other names.
    WrongName,
    /// Nobody who is trusted has signed its certificate.
    UnknownAuthority,
    /// Its certificate is not good for another reason.
    BadCertificate,
    /// It has refused us: an alert, such as for want of our certificate.
    Refused,
    /// It said nothing more before the connect timeout was over.
    Timeout,
    /// It ended the connection.
    Closed,
    /// It speaks no TLS, or none that we speak.
    Protocol,
}

impl TlsFault {
    /// Every one, as metrics list them.
    pub const ALL: [Self; 9] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongName,
        Self::UnknownAuthority,
        Self::BadCertificate,
        Self::Refused,
        Self::Timeout,
        Self::Closed,
        Self::Protocol,
    ];

    /// Its word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongName => "wrong_name",
            Self::UnknownAuthority => "unknown_authority",
            Self::BadCertificate => "bad_certificate",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }

    /// What it is, for a person.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::WrongName => "the certificate is for another name",
            Self::UnknownAuthority => "the certificate is signed by nobody who is trusted",
            Self::BadCertificate => "the certificate is not good",
            Self::Refused => "the endpoint refused",
            Self::Timeout => "not done within the connect timeout",
            Self::Closed => "the endpoint ended the connection",
            Self::Protocol => "the endpoint speaks no TLS that is spoken here",
        }
    }

    /// Whether it may be about the name that was asked for, and not about the endpoint: an endpoint chooses its
    /// certificate, or to refuse, by that.
    #[must_use]
    pub const fn depends_on_name(self) -> bool {
        match self {
            Self::Expired
            | Self::NotYetValid
            | Self::WrongName
            | Self::UnknownAuthority
            | Self::BadCertificate
            | Self::Refused => true,
            Self::Timeout | Self::Closed | Self::Protocol => false,
        }
    }
}

/// Failed handshakes, by why.
#[derive(Debug, Default)]
pub struct TlsFaults([Counter; TlsFault::ALL.len()]);

impl TlsFaults {
    /// The counter of one.
    #[must_use]
    pub fn counter(&self, fault: TlsFault) -> &Counter {
        let [expired, not_yet_valid, wrong_name, unknown, bad, refused, timeout, closed, protocol] = &self.0;
        match fault {
            TlsFault::Expired => expired,
            TlsFault::NotYetValid => not_yet_valid,
            TlsFault::WrongName => wrong_name,
            TlsFault::UnknownAuthority => unknown,
            TlsFault::BadCertificate => bad,
            TlsFault::Refused => refused,
            TlsFault::Timeout => timeout,
            TlsFault::Closed => closed,
            TlsFault::Protocol => protocol,
        }
    }
}
