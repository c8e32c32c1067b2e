//! TLS of what control connects to, probes above all: handshakes over any stream, each in full. What a client trusts and
//! shows is `runtime::tls`'s to read from files.

use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::model::address::Address;
use crate::runtime::tls::client::{Client, Settings, endpoint_name, parse_name};
use crate::runtime::tls::files::TlsError;

/// A TLS client, ready for any number of connections. Equal when it was made from the same settings and the same
/// contents of the files, so that what compares clients sees a renewed certificate.
#[derive(Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    client: Arc<Client>,
}

impl TlsClient {
    /// Reads the files of `settings` for a client that asks for `server_name`, or for the host or IP address that it
    /// connects to. Every connection makes a full handshake (no resumption), so that each proves the certificate anew.
    ///
    /// # Errors
    /// [`TlsError`] says which file or setting is wrong.
    pub fn new(settings: Settings, server_name: Option<&str>) -> Result<Self, TlsError> {
        Self::of(&Arc::new(Client::new(settings)?), server_name)
    }

    /// The same, where the files have been read.
    ///
    /// # Errors
    /// [`TlsError::ServerName`].
    pub fn of(client: &Arc<Client>, server_name: Option<&str>) -> Result<Self, TlsError> {
        let server_name = server_name.map(parse_name).transpose()?;
        Ok(Self { config: client.alone(), server_name, client: Arc::clone(client) })
    }

    /// The settings that it was made from.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        self.client.settings()
    }

    /// Makes the handshake over a connection to `address`, which is that of `host` where it has a name, offering the
    /// protocols `alpn` (none: no ALPN at all). An IP address is verified as a name is but, as RFC 6066 section 3 wants it,
    /// not sent.
    ///
    /// # Errors
    /// Those of the connection; `InvalidData` with the TLS fault inside when the handshake fails, such as a
    /// certificate that does not verify.
    pub async fn connect<S>(
        &self,
        stream: S,
        (host, address): (Option<&str>, Address),
        alpn: &[&[u8]],
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<S>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let name = self.server_name.clone().unwrap_or_else(|| endpoint_name(host, &address));
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::clone(&self.config)).with_alpn(alpn).connect(name, stream).await
    }
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        self.client == other.client && self.server_name == other.server_name
    }
}

impl Eq for TlsClient {}

impl Hash for TlsClient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.client.digest().hash(state);
        self.client.settings().hash(state);
        self.server_name.hash(state);
    }
}

/// Whether an error of a connection is a fault of TLS itself, such as an alert, rather than one of the socket.
#[must_use]
pub fn is_tls_fault(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
