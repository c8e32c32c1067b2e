//! Handshakes of a listener: how many go on at once, and what became of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::runtime::counters::Counter;

/// Why there was no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It was not done in time.
    Timeout,
    /// The client left in between.
    Closed,
    /// What came is no TLS, or not what TLS wants there.
    Malformed,
    /// The two have no version, cipher suite, group or signature scheme in common.
    Incompatible,
    /// They have no protocol in common (ALPN).
    Alpn,
    /// The client has shown no certificate and must, or one that is not accepted.
    ClientCertificate,
    /// The client refused, most often our certificate.
    Alert,
    /// A fault of ours.
    Internal,
}

impl HandshakeFailure {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Timeout,
        Self::Closed,
        Self::Malformed,
        Self::Incompatible,
        Self::Alpn,
        Self::ClientCertificate,
        Self::Alert,
        Self::Internal,
    ];

    /// Its word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Malformed => "malformed",
            Self::Incompatible => "incompatible",
            Self::Alpn => "alpn",
            Self::ClientCertificate => "client_certificate",
            Self::Alert => "alert",
            Self::Internal => "internal",
        }
    }
}

/// What a client may do to a connection under TLS only so often, beside its data. How often is no setting but a constant of
/// rustls: nobody has a use for more. The connection ends then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// Asks for another handshake (TLS 1.2), a second time: the first is answered by `no_renegotiation`.
    Renegotiations,
    /// Asks for new keys (TLS 1.3), more than 32 times without data in between.
    KeyUpdates,
    /// Records without anything in them, more than 32 in a row.
    EmptyRecords,
    /// Alerts that are only warnings, more than four in all.
    Alerts,
}

impl Excess {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Renegotiations, Self::KeyUpdates, Self::EmptyRecords, Self::Alerts];

    /// The name of its limit in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Renegotiations => "tls.renegotiations",
            Self::KeyUpdates => "tls.key_updates",
            Self::EmptyRecords => "tls.empty_records",
            Self::Alerts => "tls.alerts",
        }
    }

    /// Whether an error is one of them.
    #[must_use]
    pub const fn of(error: &rustls::Error) -> Option<Self> {
        use rustls::PeerMisbehaved as P;
        let rustls::Error::PeerMisbehaved(what) = error else { return None };
        Some(match what {
            P::TooManyRenegotiationRequests => Self::Renegotiations,
            P::TooManyKeyUpdateRequests => Self::KeyUpdates,
            P::TooManyEmptyFragments => Self::EmptyRecords,
            P::TooManyWarningAlertsReceived => Self::Alerts,
            _ => return None,
        })
    }
}

/// What is counted of handshakes, and of connections after them.
#[derive(Debug, Default)]
pub struct HandshakeCounters {
    /// Done in full.
    pub full: Counter,
    /// Done by resuming an earlier session.
    pub resumed: Counter,
    /// Failed, by [`HandshakeFailure::ALL`].
    pub failed: [Counter; HandshakeFailure::ALL.len()],
    /// Connections that ended by an [`Excess`], by [`Excess::ALL`].
    pub excess: [Counter; Excess::ALL.len()],
    /// Connections that had to wait for a place among the handshakes.
    pub waited: Counter,
    /// Requests for a name whose certificate asks clients for another certificate than their connection showed (421).
    pub misdirected: Counter,
}

/// The handshakes that go on.
#[derive(Debug, Default)]
pub struct Handshakes {
    now: AtomicUsize,
    room: Notify,
}

/// A handshake's place; whoever waits longest gets it when this is dropped.
#[derive(Debug)]
pub struct HandshakePlace<'a>(&'a Handshakes);

impl Handshakes {
    /// How many go on.
    #[must_use]
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Takes one of `limit` places, if one is free.
    #[must_use]
    pub fn try_enter(&self, limit: usize) -> Option<HandshakePlace<'_>> {
        let free = |now| (now < limit).then_some(now + 1);
        let taken = self.now.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free);
        taken.ok().map(|_| HandshakePlace(self))
    }

    /// Waits for one of `limit` places.
    pub async fn enter(&self, limit: usize) -> HandshakePlace<'_> {
        loop {
            // A release before the wait leaves a permit, so none is missed; two leave one, so it is passed on.
            if let Some(place) = self.try_enter(limit) {
                if self.now() < limit {
                    self.room.notify_one();
                }
                return place;
            }
            self.room.notified().await;
        }
    }
}

impl Drop for HandshakePlace<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_gets_the_place_that_becomes_free() {
        let handshakes = Arc::<Handshakes>::default();
        let first = handshakes.try_enter(1).expect("a place");
        assert!(handshakes.try_enter(1).is_none());
        let waits = || {
            let handshakes = Arc::clone(&handshakes);
            tokio::spawn(async move { drop(handshakes.enter(1).await) })
        };
        let (one, gives_up, other) = (waits(), waits(), waits());
        tokio::task::yield_now().await;
        gives_up.abort();
        drop(first);
        assert!(one.await.is_ok() && other.await.is_ok());
        assert_eq!(handshakes.now(), 0);
    }
}
