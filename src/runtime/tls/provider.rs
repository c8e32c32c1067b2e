//! Which cryptography TLS is made of, for both sides, and in which order a listener takes ciphers.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The abilities of every handshake: aws-lc-rs, since it costs less than ring in all that matters here. CPU of the server's
/// side, medians of nine rounds of 150 ms each on one core of an AMD EPYC with AVX-512, X25519 and AES-128-GCM, through rustls
/// 0.23.46 in memory, 2026-11-21 (aws-lc-rs 1.17 against ring 0.17.14): a full handshake of TLS 1.3 with P-256 57 against
/// 81 us, of TLS 1.2 48 against 75, of TLS 1.3 with RSA-2048 282 against 555; a record of 16 KiB sent 1.7 against 2.5 us,
/// received 2.4 against 3.2.
#[must_use]
pub fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// Whose order of ciphers is followed. Ours: every client can do with AES-128, which costs least here (Mozilla's profiles have it
/// first, too). But one that puts ChaCha20 in front of all has no instructions for AES, and would pay for it dearly: that
/// is how OpenSSL reads it, too (`SSL_OP_PRIORITIZE_CHACHA`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// AES-128, AES-256, ChaCha20.
    Aes,
    /// ChaCha20 in front.
    ChaCha,
}

impl Order {
    /// The one for a client that offers these.
    #[must_use]
    pub fn of(offered: &[CipherSuite]) -> Self {
        // Values without a meaning (GREASE, RFC 8701) stand in front of everything.
        let is_grease = |suite: &CipherSuite| u16::from(*suite) & 0x0f0f == 0x0a0a;
        let first = offered.iter().find(|suite| !is_grease(suite));
        if first.is_some_and(|suite| is_chacha(*suite)) { Self::ChaCha } else { Self::Aes }
    }

    /// The abilities in this order.
    #[must_use]
    pub fn provider(self) -> Arc<CryptoProvider> {
        let mut provider = provider();
        provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
            suite if is_chacha(suite) => {
                if self == Self::ChaCha {
                    0
                } else {
                    3
                }
            }
            suite if format!("{suite:?}").contains("_AES_128_") => 1,
            _ => 2,
        });
        Arc::new(provider)
    }
}

const fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chacha_is_first_for_who_wants_it_first() {
        use CipherSuite::*;
        let grease = CipherSuite::from(0x3a3a);
        for (offered, want) in [
            (vec![TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256], Order::Aes),
            (vec![grease, TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256], Order::ChaCha),
            (vec![TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256], Order::ChaCha),
            // Not even known here: but it is not ChaCha20 that is wanted most.
            (vec![CipherSuite::from(0x1305), TLS13_CHACHA20_POLY1305_SHA256], Order::Aes),
            (vec![], Order::Aes),
        ] {
            assert_eq!(Order::of(&offered), want, "{offered:?}");
        }
        let names = |order: Order| {
            let provider = order.provider();
            provider.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect::<Vec<_>>()
        };
        assert_eq!(names(Order::Aes)[0], "TLS13_AES_128_GCM_SHA256");
        assert_eq!(names(Order::ChaCha)[0], "TLS13_CHACHA20_POLY1305_SHA256");
        assert_eq!(names(Order::Aes).len(), names(Order::ChaCha).len());
    }
}
