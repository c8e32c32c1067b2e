//! What endpoints are told of a client by a PROXY header: its address, where it connected to, and how that was secured.

use std::net::SocketAddr;
use std::rc::Rc;

use super::connection::Client;
use super::proxy_protocol::{Addresses, Facts, TlsFacts, write};
use super::stream::Stream;
use super::tls::Tls;
use crate::model::proxy_protocol::Version;

/// What a header can say of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presentation {
    /// Its connection; nothing where it has no addresses, as one over a unix socket.
    pub addresses: Option<Addresses>,
    /// Everything else.
    pub facts: Facts,
}

/// Somebody for whom connections to endpoints are made.
pub trait Presents {
    /// Whom the connection is from: the other end, or the client that its PROXY header names.
    fn source(&self) -> SocketAddr;

    /// What is known of the client; asked only where a pool sends PROXY headers.
    fn presentation(&self) -> Presentation;
}

impl Presentation {
    /// The header that begins a connection which is for this client alone.
    #[must_use]
    pub fn header(&self, version: Version) -> Rc<Vec<u8>> {
        Rc::new(write::of_client(version, self.addresses, &self.facts))
    }

    /// What is known of a connection from `peer`. What a trusted peer's own header has told goes on; TLS that ends here comes
    /// before TLS that ended there.
    #[must_use]
    pub fn of(
        stream: &Stream,
        peer: SocketAddr,
        told: Option<&super::proxy_protocol::Header>,
        server_name: Option<&str>,
    ) -> Self {
        let mut facts = told.map(|header| header.facts.clone()).unwrap_or_default();
        if let Some(name) = server_name {
            facts.authority = name.as_bytes().into();
        }
        if let Some(tls) = stream.tls() {
            facts.tls = Some(facts_of(tls));
            facts.alpn = tls.alpn().unwrap_or_default().into();
            if let Some(name) = tls.server_name() {
                facts.authority = name.into_bytes().into();
            }
        }
        let local = || Some(Addresses { source: peer, destination: stream.socket().local_address()? });
        Self { addresses: told.and_then(|header| header.addresses).or_else(local), facts }
    }
}

impl Presents for Client {
    fn source(&self) -> SocketAddr {
        Self::source(self)
    }

    fn presentation(&self) -> Presentation {
        let told = self.introduction.as_ref().and_then(|told| told.header.as_ref());
        Presentation::of(&self.stream, self.peer, told, self.server_name())
    }
}

fn facts_of(tls: &Tls) -> TlsFacts {
    let certificate = tls.secured().and_then(|secured| secured.client.as_ref());
    let common_name = certificate.and_then(|certificate| certificate.common_name.as_deref());
    let has_certificate = certificate.is_some();
    TlsFacts {
        version: tls.version_name().into_bytes().into(),
        cipher: tls.cipher_name().into_bytes().into(),
        common_name: common_name.unwrap_or_default().as_bytes().into(),
        secure: true,
        // A resumed session brings the certificate that was shown in its first handshake.
        certificate: has_certificate && !tls.is_resumed(),
        certificate_in_session: has_certificate,
        // Whoever shows one that cannot be verified does not get through the handshake.
        verified: has_certificate,
    }
}
