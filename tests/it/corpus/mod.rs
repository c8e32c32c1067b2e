//! Plays the raw cases of `tests/corpus/` through the proxy, judged as their `README` says: a case has an outcome that
//! is safe, and whatever else happens is a finding. A canary request follows every case. Requests are played to endpoints
//! of both versions of HTTP, answers to clients of both, in the clear and under TLS.

mod backend;
mod judge;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use serde::Deserialize;

use crate::harness::between::raise;
use crate::harness::own_ip;
use crate::harness::pair::Pair;

/// Bytes as latin-1 text, or a list of texts and how often each is repeated.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Raw {
    Text(String),
    Parts(Vec<(String, usize)>),
}

impl Raw {
    fn bytes(&self) -> Vec<u8> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().map(|(text, count)| text.repeat(*count)).collect(),
        };
        latin1_bytes(&text)
    }
}

/// Text whose characters are all below 256, as bytes.
fn latin1_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("a corpus is latin-1")).collect()
}

/// What a client sends, and what may become of it.
#[derive(Debug, Deserialize)]
struct RequestCase {
    id: String,
    raw: Raw,
    expect: String,
    status: Vec<u16>,
    backend: usize,
    checks: Vec<String>,
}

/// What an endpoint answers, and what the client may see.
#[derive(Debug, Deserialize)]
struct ResponseCase {
    id: String,
    raw: Raw,
    expect: String,
    checks: Vec<String>,
    method: String,
    backend_end: String,
}

fn load<T: for<'de> Deserialize<'de>>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file);
    let text = fs::read_to_string(path).expect("a corpus file");
    serde_json::from_str(&text).expect("a corpus")
}

/// In which version the client speaks; answers come back to it in that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Http1,
    Http2,
}

/// Splits the cases over some proxies of their own, for most of a case's time is waiting for nothing to happen.
fn play<T: Sync>(
    cases: &[T],
    (client, pair): (Client, Pair),
    judge: impl Fn(&backend::Backend, SocketAddr, &T) -> Vec<String> + Sync,
) {
    let findings: Vec<String> = thread::scope(|scope| {
        let shards: Vec<_> = cases
            .chunks(cases.len().div_ceil(8))
            .map(|shard| {
                scope.spawn(|| {
                    let backend = backend::Backend::start(own_ip());
                    let entrance = if client == Client::Http2 { pair.takes_http2() } else { "" };
                    let stand = pair
                        .before(backend.address, |setup| setup.pool("retry = \"off\"").listener(entrance));
                    let to = if client == Client::Http2 { raise(stand.http2) } else { stand.http1 };
                    shard.iter().flat_map(|case| judge(&backend, to, case)).collect::<Vec<_>>()
                })
            })
            .collect();
        shards.into_iter().flat_map(|shard| shard.join().expect("a shard")).collect()
    });
    assert!(
        findings.is_empty(),
        "{} findings in {} cases:\n{}",
        findings.len(),
        cases.len(),
        findings.join("\n")
    );
}

const CLEAR: Pair = Pair { http2: false, tls: false };
const TLS: Pair = Pair { http2: false, tls: true };
const CLEAR_HTTP2: Pair = Pair { http2: true, tls: false };
const TLS_HTTP2: Pair = Pair { http2: true, tls: true };

#[test]
fn requests_of_the_shared_corpus_have_no_finding() {
    play(&load::<RequestCase>("raw-requests.json"), (Client::Http1, CLEAR), judge::request);
}

#[test]
fn requests_of_the_shared_corpus_have_no_finding_under_tls() {
    play(&load::<RequestCase>("raw-requests.json"), (Client::Http1, TLS), judge::request);
}

#[test]
fn requests_of_the_shared_corpus_have_no_finding_over_http2() {
    play(&load::<RequestCase>("raw-requests.json"), (Client::Http1, CLEAR_HTTP2), judge::request);
}

#[test]
fn requests_of_the_shared_corpus_have_no_finding_over_http2_under_tls() {
    play(&load::<RequestCase>("raw-requests.json"), (Client::Http1, TLS_HTTP2), judge::request);
}

#[test]
fn responses_of_the_shared_corpus_have_no_finding() {
    play(&load::<ResponseCase>("raw-responses.json"), (Client::Http1, CLEAR), judge::response);
}

#[test]
fn responses_of_the_shared_corpus_have_no_finding_under_tls() {
    play(&load::<ResponseCase>("raw-responses.json"), (Client::Http1, TLS), judge::response);
}

#[test]
fn responses_of_the_shared_corpus_have_no_finding_over_http2() {
    play(&load::<ResponseCase>("raw-responses.json"), (Client::Http2, CLEAR), judge::response);
}

#[test]
fn responses_of_the_shared_corpus_have_no_finding_over_http2_under_tls() {
    play(&load::<ResponseCase>("raw-responses.json"), (Client::Http2, TLS), judge::response);
}

#[test]
fn more_requests_have_no_finding() {
    play(&load::<RequestCase>("more-requests.json"), (Client::Http1, CLEAR), judge::request);
}

#[test]
fn more_requests_have_no_finding_over_http2() {
    play(&load::<RequestCase>("more-requests.json"), (Client::Http1, CLEAR_HTTP2), judge::request);
}

#[test]
fn more_responses_have_no_finding() {
    play(&load::<ResponseCase>("more-responses.json"), (Client::Http1, CLEAR), judge::response);
}

#[test]
fn more_responses_have_no_finding_over_http2() {
    play(&load::<ResponseCase>("more-responses.json"), (Client::Http2, CLEAR), judge::response);
}

/// The judge itself is judged: a relay that looks at nothing must be found out, and in the dangerous cases above all.
#[test]
fn a_relay_that_checks_nothing_is_found_out() {
    let backend = backend::Backend::start(own_ip());
    let relay = backend::blind_relay(own_ip(), backend.address);
    let cases: Vec<RequestCase> = load("raw-requests.json");
    let dangerous =
        ["cl-dup-diff", "te-unknown-and-cl", "host-two", "hop-nominated", "abs-mismatch", "chunk-ext"];
    let chosen: Vec<_> = cases.iter().filter(|c| dangerous.contains(&c.id.as_str())).collect();
    assert_eq!(chosen.len(), dangerous.len());
    for case in chosen {
        assert!(!judge::request(&backend, relay, case).is_empty(), "{} was not found out", case.id);
    }
}
