//! A proxy between clients of both versions of HTTP and an endpoint of one, in the clear or under TLS on both sides; the
//! test speaks in the clear either way.

use std::net::SocketAddr;

use super::between::{lower, seal};
use super::proxy::{Proxy, Setup};
use super::secure::{Authority, Secure};
use super::tls;

/// How it is reached and what it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The endpoint speaks HTTP/2.
    pub(crate) http2: bool,
    /// Both sides are under TLS.
    pub(crate) tls: bool,
}

/// The four of them.
pub(crate) const PAIRS: [Pair; 4] = [
    Pair { http2: false, tls: false },
    Pair { http2: true, tls: false },
    Pair { http2: false, tls: true },
    Pair { http2: true, tls: true },
];

/// A running one.
pub(crate) struct Stand {
    /// Runs as long as this does.
    _proxy: Proxy,
    /// Where clients of HTTP/1 connect, in the clear.
    pub(crate) http1: SocketAddr,
    /// Where those of HTTP/2 do.
    pub(crate) http2: SocketAddr,
}

impl Pair {
    /// The key of a listener that takes HTTP/2 from clients.
    pub(crate) const fn takes_http2(self) -> &'static str {
        // Under TLS it is agreed on by ALPN.
        if self.tls { "" } else { "h2c = true" }
    }

    /// In front of an origin of HTTP/1 at `origin`, which an endpoint of HTTP/2 speaks for.
    pub(crate) fn before(self, origin: SocketAddr, change: impl Fn(Setup) -> Setup) -> Stand {
        let endpoint = if self.http2 { lower(origin) } else { origin };
        self.directly_before(endpoint, change)
    }

    /// In front of an endpoint that speaks its version itself.
    pub(crate) fn directly_before(self, endpoint: SocketAddr, change: impl Fn(Setup) -> Setup) -> Stand {
        let protocol = if self.http2 { "protocol = \"http2\"" } else { "" };
        if !self.tls {
            let setup = Setup::http(&[endpoint]).pool(protocol);
            let proxy = change(setup).start();
            let web = proxy.web;
            return Stand { _proxy: proxy, http1: web, http2: web };
        }
        let behind = Authority::new();
        let secure = Secure::named(endpoint, &behind, "api.test");
        let before = tls::Authority::new();
        before.sign("a", &["a.test"]);
        let setup = Setup::http(&[secure.address()])
            .listener(&format!("tls = {{ certificates = [{}] }}", before.listed("a", "")))
            .pool(protocol)
            .pool(&format!("tls = {{ server_name = \"api.test\", ca = \"{}\" }}", behind.ca().display()));
        let proxy = change(setup).start();
        let config = before.trusting().build().0;
        let sealed = |alpn: &[u8]| seal(proxy.web, "a.test", &config, alpn);
        let (http1, http2) = (sealed(b"http/1.1"), sealed(b"h2"));
        Stand { _proxy: proxy, http1, http2 }
    }
}
