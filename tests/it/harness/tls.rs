//! Certificates made for one test, and clients that speak TLS over real sockets.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::DEADLINE;
use super::proxy::own_directory;

/// An authority with a folder of what it has signed.
pub(crate) struct Authority {
    pub(crate) folder: PathBuf,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a client shows.
pub(crate) struct Own {
    pub(crate) certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    /// A new one; its own certificate is in `ca.pem`.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the test's authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = own_directory();
        fs::write(folder.join("ca.pem"), certificate.pem()).expect("a file");
        Self { folder, certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// The path of a file of it, as a configuration has it.
    pub(crate) fn path(&self, file: &str) -> String {
        self.folder.join(file).display().to_string()
    }

    /// Signs for these names with a key of P-256, and writes `FILE.crt` and `FILE.key`.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> CertificateDer<'static> {
        self.sign_by(file, names, &KeyPair::generate().expect("a key"), |_| {})
    }

    /// The same with any key, and whatever else is to be in the certificate.
    pub(crate) fn sign_by(
        &self,
        file: &str,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).expect("a certificate");
        fs::write(self.folder.join(format!("{file}.crt")), certificate.pem()).expect("a file");
        fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem()).expect("a file");
        certificate.der().clone()
    }

    /// Makes a client's certificate with this common name.
    pub(crate) fn client(&self, name: &str) -> Own {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").der().clone();
        Own { certificate, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())) }
    }

    /// `{ cert = .., key = .. }` of files that were signed, with more keys.
    pub(crate) fn listed(&self, file: &str, more: &str) -> String {
        let (cert, key) = (self.path(&format!("{file}.crt")), self.path(&format!("{file}.key")));
        format!("{{ cert = \"{cert}\", key = \"{key}\"{more} }}")
    }

    /// A client that trusts this authority.
    pub(crate) fn trusting(&self) -> Trusting<'_> {
        Trusting { authority: self, versions: rustls::ALL_VERSIONS, own: None, provider: None }
    }
}

/// A client in the making.
pub(crate) struct Trusting<'a> {
    authority: &'a Authority,
    versions: &'a [&'static SupportedProtocolVersion],
    own: Option<&'a Own>,
    provider: Option<CryptoProvider>,
}

impl<'a> Trusting<'a> {
    /// It speaks these versions only.
    pub(crate) fn versions(self, versions: &'a [&'static SupportedProtocolVersion]) -> Self {
        Self { versions, ..self }
    }

    /// It shows this certificate when it is asked for one.
    pub(crate) fn showing(self, own: &'a Own) -> Self {
        Self { own: Some(own), ..self }
    }

    /// It has only these abilities.
    pub(crate) fn by(self, provider: CryptoProvider) -> Self {
        Self { provider: Some(provider), ..self }
    }

    pub(crate) fn build(self) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.clone()).expect("an authority");
        let provider = Arc::new(self.provider.unwrap_or_else(aws_lc_rs::default_provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.own {
            Some(own) => builder
                .with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key())
                .expect("a pair"),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(16);
        Tls(config)
    }
}

/// A client with the sessions that it could resume.
#[derive(Clone)]
pub(crate) struct Tls(pub(crate) ClientConfig);

/// A connection under TLS.
pub(crate) type Talk = StreamOwned<ClientConnection, TcpStream>;

impl Tls {
    /// Connects and shakes hands, asking for a name.
    pub(crate) fn connect(&self, to: SocketAddr, name: &str) -> io::Result<Talk> {
        self.connect_after(b"", to, name)
    }

    /// Connects, sends bytes as they are and then shakes hands.
    pub(crate) fn connect_after(&self, first: &[u8], to: SocketAddr, name: &str) -> io::Result<Talk> {
        let mut stream = TcpStream::connect_timeout(&to, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(first)?;
        let mut session = self.session(name);
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(session, stream))
    }

    /// It trusts the authority of this file, and no other.
    pub(crate) fn trust(&mut self, ca: &std::path::Path) {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_protocol_versions(rustls::ALL_VERSIONS).expect("versions");
        self.0 = config.with_root_certificates(roots).with_no_client_auth();
    }

    fn session(&self, name: &str) -> ClientConnection {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        ClientConnection::new(Arc::new(self.0.clone()), name).expect("a session")
    }

    /// The record with the ClientHello.
    pub(crate) fn hello(&self, name: &str) -> Vec<u8> {
        let mut record = Vec::new();
        self.session(name).write_tls(&mut record).expect("a hello");
        record
    }

    /// A GET on a connection of its own: the whole answer as text.
    pub(crate) fn get(&self, to: SocketAddr, name: &str, host: &str) -> io::Result<String> {
        let mut talk = self.connect(to, name)?;
        talk.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        talk.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// A GET on a connection that stays open: status and body.
pub(crate) fn get(talk: &mut Talk, host: &str) -> io::Result<(u16, String)> {
    talk.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok((status, body.to_owned()));
            }
        }
        let mut room = [0; 4096];
        match talk.read(&mut room)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => received.extend_from_slice(&room[..n]),
        }
    }
}

/// The certificate that the other side has shown.
pub(crate) fn shown(talk: &Talk) -> CertificateDer<'static> {
    let chain = talk.conn.peer_certificates().expect("a chain");
    chain.first().expect("a certificate").clone().into_owned()
}
