//! TLS in front of a scripted origin, the authorities behind it, and a record of every handshake.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::own_ip;
use super::proxy::own_directory;

/// An authority with the files that it made.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, in files.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) cert: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new one, whose certificate is in [`Authority::ca`]. All have one name, as one has that gets a new key.
    pub(crate) fn new() -> Self {
        Self::named("an authority")
    }

    /// One of another name.
    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let authority = Self { folder: own_directory(), issuer: issuer.expect("an authority") };
        fs::write(authority.ca(), authority.pem()).expect("written");
        authority
    }

    /// The file of its own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `name`, changed by `change`.
    pub(crate) fn issue(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new([name.to_owned()]).expect("params");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |kind| self.folder.join(format!("{name}.{kind}"));
        fs::write(path("crt"), certificate.pem()).expect("written");
        fs::write(path("key"), key.serialize_pem()).expect("written");
        Pair { cert: path("crt"), key: path("key") }
    }
}

/// A certificate for `name` that has signed itself, with the mark of an authority, and is in no other way odd.
pub(crate) fn self_signed(name: &str, change: impl Fn(&mut CertificateParams)) -> Pair {
    let mut params = CertificateParams::new([name.to_owned()]).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    let folder = own_directory();
    let pair = Pair { cert: folder.join("self.crt"), key: folder.join("self.key") };
    fs::write(&pair.cert, certificate.pem()).expect("written");
    fs::write(&pair.key, key.serialize_pem()).expect("written");
    pair
}

/// What TLS there is before an origin.
#[derive(Default)]
pub(crate) struct Settings<'a> {
    /// Its certificates by name; the only one is shown to all.
    pub(crate) pairs: Vec<(&'a str, Pair)>,
    /// Who must have signed the certificates of clients, which must have one then.
    pub(crate) clients: Option<&'a Authority>,
    /// The one version that is spoken; all unless given.
    pub(crate) version: Option<&'static SupportedProtocolVersion>,
    /// Whether the connection ends without a word when the origin ends it: no close_notify.
    pub(crate) abrupt: bool,
}

/// What was seen of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The name that was asked for.
    pub(crate) server_name: Option<String>,
    /// Whether a session was resumed.
    pub(crate) resumed: bool,
    /// The protocol that was agreed on.
    pub(crate) alpn: Option<String>,
    /// Whether the client has shown a certificate.
    pub(crate) certified: bool,
}

/// TLS in front of an origin.
pub(crate) struct Secure {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    behind: SocketAddr,
    config: Mutex<Arc<ServerConfig>>,
    abrupt: bool,
    seen: Mutex<Vec<Handshake>>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Handshake>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secure {
    /// Stands before the origin at `behind`.
    pub(crate) fn start(behind: SocketAddr, settings: &Settings<'_>) -> Self {
        let listener = TcpListener::bind((own_ip(), 0)).expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            behind,
            config: Mutex::new(config(settings)),
            abrupt: settings.abrupt,
            seen: Mutex::default(),
        });
        let for_loop = Arc::clone(&shared);
        // Ends with the process: it waits for connections until then.
        thread::spawn(move || serve(listener, &for_loop));
        Self { address, shared }
    }

    /// With one certificate, for `name`.
    pub(crate) fn named(behind: SocketAddr, authority: &Authority, name: &str) -> Self {
        let pairs = vec![(name, authority.issue(name, |_| {}))];
        Self::start(behind, &Settings { pairs, ..Settings::default() })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every handshake so far that came to its end.
    pub(crate) fn seen(&self) -> Vec<Handshake> {
        self.shared.seen().clone()
    }

    /// Has other certificates from now on.
    pub(crate) fn renew(&self, settings: &Settings<'_>) {
        *self.shared.config.lock().unwrap_or_else(PoisonError::into_inner) = config(settings);
    }
}

fn config(settings: &Settings<'_>) -> Arc<ServerConfig> {
    let versions = settings.version.map_or_else(|| rustls::ALL_VERSIONS.to_vec(), |version| vec![version]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .expect("versions");
    let builder = match settings.clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let ca = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("an authority");
            roots.add(ca).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let chain = |pair: &Pair| vec![CertificateDer::from_pem_file(&pair.cert).expect("a certificate")];
    let key = |pair: &Pair| PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
    let mut config = match settings.pairs.as_slice() {
        [(_, only)] => builder.with_single_cert(chain(only), key(only)).expect("a pair"),
        pairs => {
            let mut by_name = ResolvesServerCertUsingSni::new();
            for (name, pair) in pairs {
                let key = any_supported_type(&key(pair)).expect("a key");
                by_name.add(name, CertifiedKey::new(chain(pair), key)).expect("a name");
            }
            builder.with_cert_resolver(Arc::new(by_name))
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

#[tokio::main(flavor = "current_thread")]
async fn serve(listener: TcpListener, shared: &Arc<Shared>) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, Arc::clone(shared)));
    }
}

/// Carries one connection's bytes to the origin and back.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let config = Arc::clone(&shared.config.lock().unwrap_or_else(PoisonError::into_inner));
    client.set_nodelay(true).expect("a socket");
    let Ok(client) = TlsAcceptor::from(config).accept(client).await else { return };
    let session = client.get_ref().1;
    let seen = Handshake {
        server_name: session.server_name().map(str::to_owned),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        certified: session.peer_certificates().is_some_and(|shown| !shown.is_empty()),
    };
    shared.seen().push(seen);
    let Ok(origin) = TcpStream::connect(shared.behind).await else { return };
    origin.set_nodelay(true).expect("a socket");
    let ((mut from_client, mut to_client), (mut from_origin, mut to_origin)) =
        (tokio::io::split(client), origin.into_split());
    let forth = async {
        // However the client ends, the origin sees an end.
        drop(tokio::io::copy(&mut from_client, &mut to_origin).await);
        drop(to_origin.shutdown().await);
        Ok(())
    };
    let back = async {
        let ended = tokio::io::copy(&mut from_origin, &mut to_client).await;
        if shared.abrupt {
            return Err(ErrorKind::ConnectionAborted);
        }
        ended.map_err(|error| error.kind())?;
        to_client.shutdown().await.map_err(|error| error.kind())
    };
    // An error in one direction drops both: the client sees an end that nobody has announced.
    tokio::try_join!(forth, back).ok();
}
