//! TLS towards endpoints: who is trusted, which name is asked for, what we show, and on which steps a probe fails.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plimsoll::control::health::probe::http::{Http, RequestHead};
use plimsoll::control::health::probe::outcome::Outcome;
use plimsoll::control::health::probe::{Check, run};
use plimsoll::control::tls::TlsClient;
use plimsoll::policy::health::Verdict;
use plimsoll::runtime::tls::client::{Certificate, Settings, Verify};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::origin::{Origin, Step, nobody};
use crate::{ask, probe};

/// An authority with the files that it made.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { folder, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn issue(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::new([name.to_owned()]).expect("params");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |kind| self.folder.path().join(format!("{name}.{kind}.pem"));
        fs::write(path("chain"), certificate.pem()).expect("written");
        fs::write(path("key"), key.serialize_pem()).expect("written");
        Certificate { chain: path("chain"), key: path("key") }
    }

    /// A client that trusts this authority.
    fn client<'a>(&self, name: Option<&'a str>) -> Asking<'a> {
        Asking { name, settings: Settings { ca: Some(self.ca()), ..Settings::default() } }
    }
}

/// What a server saw of a client that it let in.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    server_name: Option<String>,
    alpn: Option<Vec<u8>>,
    request: Vec<u8>,
}

struct Server {
    address: SocketAddr,
    seen: mpsc::Receiver<Seen>,
}

/// A TLS server that answers a request, where one comes, with 200. With `clients` it asks for their certificates.
async fn serve(
    certificate: &Certificate,
    clients: Option<&Authority>,
    protocol: &'static SupportedProtocolVersion,
) -> Server {
    let chain = CertificateDer::pem_file_iter(&certificate.chain).expect("a file").map(|c| c.expect("one"));
    let key = PrivateKeyDer::from_pem_file(&certificate.key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[protocol])
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let mut config = builder.with_single_cert(chain.collect(), key).expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, seen) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let session = stream.get_ref().1;
            let server_name = session.server_name().map(ToOwned::to_owned);
            let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
            let mut request = Vec::new();
            while !request.windows(4).any(|part| part == b"\r\n\r\n")
                && stream.read_buf(&mut request).await.is_ok_and(|n| n > 0)
            {}
            // A peer that has gone needs no answer.
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await);
            drop(stream.shutdown().await);
            drop(sender.try_send(Seen { server_name, alpn, request }));
        }
    });
    Server { address, seen }
}

/// How a client asks, and for whom.
struct Asking<'a> {
    name: Option<&'a str>,
    settings: Settings,
}

fn client(asking: Asking<'_>) -> Arc<TlsClient> {
    Arc::new(TlsClient::new(asking.settings, asking.name).expect("a client"))
}

async fn handshake(asking: Asking<'_>, server: &Server) -> Outcome {
    ask(Check::Tls(client(asking)), server.address).await
}

fn fails(outcome: &Outcome, why: &str) {
    assert_eq!(outcome.verdict, Verdict::CannotBeAsked, "{}", outcome.evidence);
    assert!(outcome.evidence.what.contains(why), "{} has not \"{why}\"", outcome.evidence);
}

#[tokio::test]
async fn a_handshake_is_verified_and_names_the_server() {
    let authority = Authority::named("ours");
    let certificate = authority.issue("api.test", |_| {});
    for protocol in [&version::TLS12, &version::TLS13] {
        let mut server = serve(&certificate, None, protocol).await;
        let outcome = handshake(authority.client(Some("api.test")), &server).await;
        assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
        assert!(outcome.evidence.phases.tls >= outcome.evidence.phases.connect);
        let seen = server.seen.recv().await.expect("a client");
        assert_eq!((seen.server_name.as_deref(), seen.alpn), (Some("api.test"), None));
        fails(&handshake(authority.client(Some("other.test")), &server).await, "not valid for name");
        fails(
            &handshake(Authority::named("stranger").client(Some("api.test")), &server).await,
            "UnknownIssuer",
        );
    }
}

#[tokio::test]
async fn without_a_name_the_address_is_verified_and_no_name_is_sent() {
    let authority = Authority::named("ours");
    let mut server = serve(&authority.issue("127.0.0.1", |_| {}), None, &version::TLS13).await;
    assert_eq!(handshake(authority.client(None), &server).await.verdict, Verdict::Good);
    assert_eq!(server.seen.recv().await.expect("a client").server_name, None);
    let other = serve(&authority.issue("127.0.0.2", |_| {}), None, &version::TLS13).await;
    fails(&handshake(authority.client(None), &other).await, "not valid for name");
}

#[tokio::test]
async fn an_expired_certificate_and_one_of_nobody_we_know_fail() {
    let authority = Authority::named("ours");
    let old = authority.issue("api.test", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let server = serve(&old, None, &version::TLS13).await;
    fails(&handshake(authority.client(Some("api.test")), &server).await, "xpired");
    // The system's bundle knows nothing of this authority.
    let server = serve(&authority.issue("api.test", |_| {}), None, &version::TLS13).await;
    let system = Asking { name: Some("api.test"), settings: Settings::default() };
    fails(&handshake(system, &server).await, "UnknownIssuer");
}

#[tokio::test]
async fn verification_can_be_switched_off_for_a_reason() {
    let authority = Authority::named("ours");
    let certificate = authority.issue("api.test", |params| params.not_after = date_time_ymd(2020, 1, 1));
    for protocol in [&version::TLS12, &version::TLS13] {
        let server = serve(&certificate, None, protocol).await;
        let verify = Verify::Off { reason: "self-signed until March".to_owned() };
        let settings = Settings { verify, ..Settings::default() };
        let outcome = handshake(Asking { name: None, settings }, &server).await;
        assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    }
}

#[tokio::test]
async fn a_server_that_wants_our_certificate_gets_it_or_fails_the_probe() {
    let authority = Authority::named("ours");
    let certificate = authority.issue("api.test", |_| {});
    let ours = authority.issue("plimsoll", |_| {});
    let stranger = Authority::named("stranger");
    let foreign = stranger.issue("plimsoll", |_| {});
    for protocol in [&version::TLS12, &version::TLS13] {
        let server = serve(&certificate, Some(&authority), protocol).await;
        let with = |certificate| {
            let asking = authority.client(Some("api.test"));
            Asking { settings: Settings { certificate, ..asking.settings }, ..asking }
        };
        let outcome = handshake(with(Some(ours.clone())), &server).await;
        assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
        // With TLS 1.3 this comes after what is the end of the handshake for us.
        fails(&handshake(with(None), &server).await, "ertificate");
        fails(&handshake(with(Some(foreign.clone())), &server).await, "alert");
        let http = |certificate| {
            let check = Http::new(RequestHead::new("GET", "/", None, &[]).expect("a request"));
            Check::Http(Box::new(Http { tls: Some(client(with(certificate))), ..check }))
        };
        assert_eq!(ask(http(Some(ours.clone())), server.address).await.verdict, Verdict::Good);
        fails(&ask(http(None), server.address).await, "ertificate");
    }
}

#[tokio::test]
async fn http_and_grpc_are_asked_for_by_name() {
    let authority = Authority::named("ours");
    let mut server = serve(&authority.issue("api.test", |_| {}), None, &version::TLS13).await;
    let tls = Some(client(authority.client(Some("api.test"))));
    let head = RequestHead::new("GET", "/health", Some("web.test"), &[]).expect("a request");
    let check = Http::new(head);
    let outcome = ask(Check::Http(Box::new(Http { tls: tls.clone(), ..check })), server.address).await;
    assert_eq!(outcome.verdict, Verdict::Good, "{}", outcome.evidence);
    assert!(outcome.evidence.bytes.starts_with(b"HTTP/1.1 200 OK"), "evidence is what was encrypted");
    let seen = server.seen.recv().await.expect("a client");
    assert_eq!(seen.alpn.as_deref(), Some(&b"http/1.1"[..]));
    assert!(seen.request.starts_with(b"GET /health HTTP/1.1\r\n"));
    let grpc = Check::Grpc { service: String::new(), host: None, tls };
    assert_eq!(ask(grpc, server.address).await.verdict, Verdict::CannotBeAsked);
    assert_eq!(server.seen.recv().await.expect("a client").alpn.as_deref(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn a_port_without_tls_cannot_be_asked() {
    let authority = Authority::named("ours");
    let check = || Check::Tls(client(authority.client(Some("api.test"))));
    for script in [
        vec![Step::Read(1), Step::Write(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())],
        vec![Step::Write(b"220 mail ESMTP\r\n".to_vec()), Step::Hold],
        vec![],
    ] {
        let origin = Origin::play(script).await;
        let outcome = ask(check(), origin.address).await;
        assert_eq!(outcome.verdict, Verdict::CannotBeAsked, "{}", outcome.evidence);
        assert_eq!(outcome.evidence.phases.tls, None);
    }
    fails(&ask(check(), nobody().await).await, "connection refused");
}

#[tokio::test(start_paused = true)]
async fn a_silent_handshake_is_out_of_time() {
    let origin = Origin::play([Step::Hold]).await;
    let tls = client(Authority::named("ours").client(Some("api.test")));
    let outcome = run(&probe(Check::Tls(tls), origin.address)).await;
    assert_eq!(outcome.evidence.what, "timeout in the TLS handshake");
    assert!(outcome.evidence.lateness < Duration::from_millis(1));
}

#[tokio::test]
async fn postgres_offers_tls_or_is_not_asked_further() {
    let tls = Some(client(Authority::named("ours").client(Some("api.test"))));
    let check = || Check::Postgres { user: "ha".to_owned(), tls: tls.clone() };
    for (answer, verdict, what) in [
        (&b"N"[..], Verdict::CannotBeAsked, "the server does not offer TLS"),
        (b"E\0\0\0", Verdict::SaysNo, "an error in answer to the request for TLS"),
        (b"H", Verdict::CannotBeAsked, "no answer to the request for TLS"),
        (b"", Verdict::CannotBeAsked, "no answer to the request for TLS"),
    ] {
        let mut origin = Origin::play([Step::Read(8), Step::Write(answer.to_vec())]).await;
        let outcome = ask(check(), origin.address).await;
        assert_eq!((outcome.verdict, &*outcome.evidence.what), (verdict, what));
        assert_eq!(origin.heard().await.bytes, [0, 0, 0, 8, 4, 210, 22, 47]);
    }
}
