//! TLS connections of our own to each other, over real sockets.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};

use super::{Greeted, HandshakeError, Tls};
use crate::proxy::stream::{Socket, Stream};

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let certificate: CertificateDer<'static> = cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(server), Arc::new(client))
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connected"), accepted.expect("accepted").0)
}

async fn accept(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Tls, HandshakeError> {
    Greeted::hear(Socket::Tcp(socket)).await?.answer(|_| (config, None)).await
}

/// A client's and a server's end of one connection.
async fn pair() -> (Stream, Stream) {
    let (server, client) = configs();
    let (ours, theirs) = sockets().await;
    let name = ServerName::try_from("localhost").expect("a name");
    let (client, server) =
        tokio::join!(Tls::connect(Socket::Tcp(ours), client, name), accept(theirs, server));
    (client.expect("a session").into(), server.expect("a session").into())
}

async fn read(stream: &Stream, room: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

async fn write_all(stream: &Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[tokio::test]
async fn both_sides_know_what_was_agreed_on() {
    let (client, server) = pair().await;
    let (client, server) = (client.tls().expect("TLS"), server.tls().expect("TLS"));
    assert_eq!(client.alpn().as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(server.alpn().as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(server.server_name().as_deref(), Some("localhost"));
    assert_eq!(server.version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(client.peer_certificates().map(|chain| chain.len()), Some(1));
}

#[tokio::test]
async fn more_than_the_socket_takes_arrives_whole_in_both_directions() {
    let (client, server) = pair().await;
    let sent: Vec<u8> = (0..4_000_000u32).map(|i| (i * 31 % 251) as u8).collect();
    let receive = async |from: &Stream| {
        let (mut got, mut room) = (Vec::new(), vec![0; 10_000]);
        while got.len() < sent.len() {
            let n = read(from, &mut room).await.expect("bytes");
            assert!(n > 0, "it ended after {}", got.len());
            got.extend_from_slice(&room[..n]);
        }
        got
    };
    let (to, from, there, back) = tokio::join!(
        write_all(&client, &sent),
        write_all(&server, &sent),
        receive(&server),
        receive(&client)
    );
    assert!(to.is_ok() && from.is_ok());
    assert!(there == sent && back == sent);
}

#[tokio::test]
async fn a_write_counts_only_once_it_is_on_its_way() {
    let (client, server) = pair().await;
    let bytes = vec![7; 64 * 1024];
    let mut written = 0;
    while let Ok(n) = client.try_write(&bytes) {
        written += n;
    }
    // What was taken and not sent is still the caller's, and is not sent twice.
    let (mut got, mut room) = (0, vec![0; 20_000]);
    while got < written {
        got += read(&server, &mut room).await.expect("bytes");
    }
    assert_eq!(got, written);
    write_all(&client, &bytes).await.expect("taken");
    while got < written + bytes.len() {
        got += read(&server, &mut room).await.expect("bytes");
    }
    assert_eq!(got, written + bytes.len());
}

#[tokio::test]
async fn tickets_do_not_disturb_an_idle_connection_but_bytes_and_an_end_do() {
    let (client, server) = pair().await;
    client.socket().readable().await.expect("the tickets");
    assert!(client.is_quiet(), "tickets");
    write_all(&server, b"x").await.expect("written");
    while client.is_quiet() {
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&client, &mut [0; 8]).await.expect("a byte"), 1, "it is still there to be read");
    drop(server);
    while client.is_quiet() {
        tokio::task::yield_now().await;
    }
    assert_eq!(read(&client, &mut [0; 8]).await.expect("an end that was announced"), 0);
}

#[tokio::test]
async fn an_end_without_a_word_is_an_error_of_an_endpoint_only() {
    let (client, server) = pair().await;
    server.tls().expect("TLS").abandon();
    drop(server);
    let ended = read(&client, &mut [0; 8]).await;
    assert!(ended.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));

    let (client, server) = pair().await;
    client.socket().readable().await.expect("the tickets");
    assert!(client.is_quiet(), "what is not read would turn the end into a reset");
    client.tls().expect("TLS").abandon();
    drop(client);
    assert_eq!(read(&server, &mut [0; 8]).await.expect("an end"), 0);
}

#[tokio::test]
async fn an_end_that_comes_with_the_last_bytes_is_seen_though_the_socket_stays_open() {
    let (client, server) = pair().await;
    write_all(&server, b"answer").await.expect("written");
    server.tls().expect("TLS").close();
    let mut room = [0; 16];
    assert_eq!(read(&client, &mut room).await.expect("bytes"), 6);
    // As the kernel has nothing more to tell, waiting for it would never end.
    let end = tokio::time::timeout(std::time::Duration::from_secs(10), read(&client, &mut room)).await;
    assert_eq!(end.expect("it is known already").expect("an end"), 0);
    drop(server);
}

#[tokio::test]
async fn half_of_a_connection_can_end() {
    let (client, server) = pair().await;
    write_all(&client, b"request").await.expect("written");
    client.end_sending();
    let mut room = [0; 16];
    assert_eq!(read(&server, &mut room).await.expect("bytes"), 7);
    assert_eq!(read(&server, &mut room).await.expect("an end"), 0);
    write_all(&server, b"answer").await.expect("the other half goes on");
    assert_eq!(read(&client, &mut room).await.expect("bytes"), 6);
}

#[tokio::test]
async fn an_end_or_nonsense_instead_of_a_handshake_is_an_error() {
    let (server, _) = configs();
    let (ours, theirs) = sockets().await;
    drop(ours);
    let ended = accept(theirs, Arc::clone(&server)).await;
    assert!(matches!(ended, Err(HandshakeError::Socket(_))));

    let (ours, theirs) = sockets().await;
    let ours = Stream::from(ours);
    write_all(&ours, b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let refused = accept(theirs, server).await;
    assert!(matches!(refused, Err(HandshakeError::Refused(_))));
}

#[tokio::test]
async fn what_protocol_engines_write_arrives_once_flushed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut client, mut server) = pair().await;
    let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 253) as u8).collect();
    let write = async {
        client.write_all(&sent).await?;
        client.flush().await?;
        client.shutdown().await
    };
    let mut got = Vec::new();
    let (written, read) = tokio::join!(write, server.read_to_end(&mut got));
    assert!(written.is_ok() && read.is_ok());
    assert!(got == sent);
    assert!(poll_fn(|cx| server.poll_write_ready(cx)).await.is_ok());
}

#[test]
fn suites_have_the_names_that_others_compare() {
    for (name, want) in [
        ("TLS13_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        ("TLS13_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
    ] {
        assert_eq!(super::openssl_name(name), want);
    }
}
