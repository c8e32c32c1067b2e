//! gRPC health checks against a server on the same HTTP/2 library, and against what is no gRPC server.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Response};
use plimsoll::control::health::probe::Check;
use plimsoll::control::health::probe::outcome::Outcome;
use plimsoll::policy::health::Verdict;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::ask;
use crate::origin::{Origin, Step};

/// What the server does with a call.
#[derive(Debug, Clone)]
enum Answer {
    /// A message, then the status in the trailers.
    Message(&'static [u8], &'static str),
    /// No message: the status in the head.
    Status(&'static str),
    /// HTTP status 404.
    NotFound,
    /// The stream is reset.
    Reset,
    /// A message without an end.
    Endless,
}

type Request = (http::request::Parts, Vec<u8>);

async fn serve(answer: Answer) -> (SocketAddr, mpsc::Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, requests) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, answer.clone(), sender.clone()));
        }
    });
    (address, requests)
}

async fn connection(stream: TcpStream, answer: Answer, sender: mpsc::Sender<Request>) {
    let mut connection = h2::server::handshake(stream).await.expect("a handshake");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (parts, mut body) = request.into_parts();
        let (answer, sender) = (answer.clone(), sender.clone());
        tokio::spawn(async move {
            let mut message = Vec::new();
            while let Some(data) = body.data().await {
                message.extend_from_slice(&data.expect("data"));
            }
            // A test that does not look at requests has dropped the other end or lets it fill.
            drop(sender.try_send((parts, message)));
            let head = |status| Response::builder().status(status).header("content-type", "application/grpc");
            match answer {
                Answer::Message(message, status) => {
                    let head = head(200).body(()).expect("a head");
                    let mut body = respond.send_response(head, false).expect("sent");
                    body.send_data(Bytes::from_static(message), false).expect("sent");
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", status.parse().expect("a value"));
                    body.send_trailers(trailers).expect("sent");
                }
                Answer::Status(status) => {
                    let head = head(200).header("grpc-status", status).header("grpc-message", "no such");
                    respond.send_response(head.body(()).expect("a head"), true).expect("sent");
                }
                Answer::NotFound => {
                    respond.send_response(head(404).body(()).expect("a head"), true).expect("sent");
                }
                Answer::Reset => respond.send_reset(Reason::REFUSED_STREAM),
                Answer::Endless => {
                    let mut body =
                        respond.send_response(head(200).body(()).expect("a head"), false).expect("sent");
                    body.send_data(Bytes::from(vec![0; 1 << 20]), false).expect("sent");
                    std::future::pending::<()>().await;
                }
            }
        });
    }
}

fn check(service: &str) -> Check {
    Check::Grpc { service: service.to_owned(), host: None, tls: None }
}

async fn asked(answer: Answer) -> Outcome {
    let (address, _requests) = serve(answer).await;
    ask(check(""), address).await
}

#[tokio::test]
async fn the_call_is_the_standard_one() {
    let (address, mut requests) = serve(Answer::Message(&[0, 0, 0, 0, 2, 8, 1], "0")).await;
    let outcome = ask(check("foo"), address).await;
    assert_eq!((outcome.verdict, &*outcome.evidence.what), (Verdict::Good, "SERVING"));
    assert_eq!(outcome.evidence.bytes, [0, 0, 0, 0, 2, 8, 1]);
    let (head, message) = requests.recv().await.expect("a request");
    assert_eq!((head.method, head.uri.path()), (http::Method::POST, "/grpc.health.v1.Health/Check"));
    assert_eq!(head.uri.authority().map(ToString::to_string), Some(address.to_string()));
    let field = |name| head.headers.get(name).map(|value| value.to_str().expect("text"));
    assert_eq!(field("content-type"), Some("application/grpc"));
    assert_eq!((field("te"), field("grpc-timeout")), (Some("trailers"), Some("20000m")));
    assert_eq!(message, b"\0\0\0\0\x05\x0a\x03foo");
}

#[tokio::test]
async fn an_answer_other_than_serving_is_a_no() {
    for (answer, what) in [
        (Answer::Message(&[0, 0, 0, 0, 2, 8, 2], "0"), "NOT_SERVING"),
        (Answer::Message(&[0, 0, 0, 0, 0], "0"), "UNKNOWN"),
        (Answer::Message(&[0, 0, 0, 0, 2, 8, 1], "14"), "grpc-status 14"),
        (Answer::Status("5"), "grpc-status 5 no such"),
        (Answer::NotFound, "HTTP status 404"),
    ] {
        let outcome = asked(answer).await;
        assert_eq!((outcome.verdict, &*outcome.evidence.what), (Verdict::SaysNo, what));
    }
}

#[tokio::test]
async fn what_is_no_grpc_answer_cannot_be_asked() {
    for answer in
        [Answer::Reset, Answer::Endless, Answer::Message(b"", "0"), Answer::Message(b"hello!!", "0")]
    {
        let outcome = asked(answer.clone()).await;
        assert_eq!(outcome.verdict, Verdict::CannotBeAsked, "{answer:?}: {}", outcome.evidence);
    }
    for garbage in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xff; 512]] {
        let origin = Origin::play([Step::Until(b"PRI * HTTP/2.0"), Step::Write(garbage.to_vec())]).await;
        let outcome = ask(check(""), origin.address).await;
        assert_eq!(outcome.verdict, Verdict::CannotBeAsked, "{}", outcome.evidence);
    }
}
