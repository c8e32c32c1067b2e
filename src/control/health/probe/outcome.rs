//! What a probe came to: the verdict, what else the answer said, and the evidence for whoever is woken by it.

use std::fmt;
use std::io;
use std::time::Duration;

use super::agent::Words;
use super::is_ours;
use crate::policy::health::Verdict;

/// Bytes of an answer that are kept as evidence.
pub const EVIDENCE_MAX: usize = 256;

/// Bytes of a peer's text that a sentence about it shows.
const SHOWN_MAX: usize = 160;

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What it means for the endpoint.
    pub verdict: Verdict,
    /// The number that an exclusive pool ranks by, where one was asked for and the answer has it.
    pub rank: Option<u64>,
    /// What an agent said.
    pub agent: Option<Words>,
    /// What it rests on.
    pub evidence: Evidence,
}

/// What a verdict rests on. Shown, it is one line, and no peer's byte in it is other than printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// In words, such as `status 503` or `connection refused`.
    pub what: String,
    /// How long each step took.
    pub phases: Phases,
    /// The first bytes of the answer, at most [`EVIDENCE_MAX`], as they came (after decryption).
    pub bytes: Vec<u8>,
    /// How late our own timer ran meanwhile.
    pub lateness: Duration,
    /// No connection could be made, and this host has no address left from which the endpoint could be reached: it is
    /// us, not them.
    pub own_address_gone: bool,
}

/// When each step was done, from the start of the probe; nothing for a step that was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// The connection stood.
    pub connect: Option<Duration>,
    /// The TLS handshake was done.
    pub tls: Option<Duration>,
    /// The first byte of the answer was there.
    pub first_byte: Option<Duration>,
    /// The probe had its result.
    pub total: Duration,
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (", self.what)?;
        let steps = [
            ("connect", self.phases.connect),
            ("tls", self.phases.tls),
            ("first byte", self.phases.first_byte),
            ("total", Some(self.phases.total)),
        ];
        let mut gap = "";
        for (name, at) in steps {
            if let Some(at) = at {
                write!(out, "{gap}{name} {:.1} ms", at.as_secs_f64() * 1000.0)?;
                gap = ", ";
            }
        }
        out.write_str(")")?;
        if !self.bytes.is_empty() {
            write!(out, " \"{}\"", self.bytes.escape_ascii())?;
        }
        Ok(())
    }
}

/// What an answer means, or that there was none; the outcome without its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What it means for the endpoint.
    pub verdict: Verdict,
    /// In words.
    pub what: String,
    /// As in [`Outcome::rank`].
    pub rank: Option<u64>,
    /// As in [`Outcome::agent`].
    pub agent: Option<Box<Words>>,
}

impl Reading {
    /// An answer as it should be.
    pub(super) fn good(what: impl Into<String>) -> Self {
        Self::of(Verdict::Good, what)
    }

    /// An answer, but not the one that is wanted.
    pub(super) fn no(what: impl Into<String>) -> Self {
        Self::of(Verdict::SaysNo, what)
    }

    /// No answer, or one that breaks its protocol.
    pub(super) fn broken(what: impl Into<String>) -> Self {
        Self::of(Verdict::CannotBeAsked, what)
    }

    /// Nothing that says anything about the endpoint.
    pub(super) fn void(what: impl Into<String>) -> Self {
        Self::of(Verdict::Void, what)
    }

    /// A fault of the connection while `doing` something; void when it is our own want of a resource.
    pub(super) fn fault(doing: &str, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
            io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
            _ => shown(error.to_string().as_bytes()),
        };
        let verdict = if is_ours(error) { Verdict::Void } else { Verdict::CannotBeAsked };
        Self::of(verdict, format!("{why} {doing}"))
    }

    fn of(verdict: Verdict, what: impl Into<String>) -> Self {
        Self { verdict, what: what.into(), rank: None, agent: None }
    }
}

/// Bytes of a peer as part of a sentence: what is not printable ASCII is escaped, what is too long is cut.
pub(super) fn shown(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for &byte in bytes.get(..SHOWN_MAX).unwrap_or(bytes) {
        match byte {
            b'"' | b'\'' => shown.push(char::from(byte)),
            _ => shown.extend(byte.escape_ascii().map(char::from)),
        }
    }
    if bytes.len() > SHOWN_MAX {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_one_line_that_no_peer_can_forge() {
        let evidence = Evidence {
            what: "status 503".to_owned(),
            phases: Phases {
                connect: Some(Duration::from_micros(400)),
                tls: None,
                first_byte: Some(Duration::from_millis(2)),
                total: Duration::from_micros(2100),
            },
            bytes: b"HTTP/1.1 503 \"no\"\r\n\x1b[31m\xff".to_vec(),
            lateness: Duration::ZERO,
            own_address_gone: false,
        };
        assert_eq!(
            evidence.to_string(),
            r#"status 503 (connect 0.4 ms, first byte 2.0 ms, total 2.1 ms) "HTTP/1.1 503 \"no\"\r\n\x1b[31m\xff""#
        );
    }

    #[test]
    fn our_own_want_is_no_evidence() {
        let verdict =
            |errno| Reading::fault("while connecting", &io::Error::from_raw_os_error(errno)).verdict;
        // EMFILE, ENOBUFS, EADDRNOTAVAIL; then ECONNREFUSED, EHOSTUNREACH.
        for ours in [24, 105, 99] {
            assert_eq!(verdict(ours), Verdict::Void, "{ours}");
        }
        for theirs in [111, 113] {
            assert_eq!(verdict(theirs), Verdict::CannotBeAsked, "{theirs}");
        }
    }
}
