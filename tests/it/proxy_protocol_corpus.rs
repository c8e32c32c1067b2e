//! PROXY headers of every kind, good and bad, at the front of HTTP, TLS and tcp sessions.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::harness::client::Client;
use crate::harness::clock::pause;
use crate::harness::origin::Origin;
use crate::harness::presented::header;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::tls::{Authority, get};

const TRUSTING: &str = "accept_proxy_protocol = true\ntrusted_proxies = [\"127.0.0.0/8\"]";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[derive(Debug, Deserialize)]
struct Case {
    id: String,
    prefix: String,
    /// `accept`, `close`, or the status of an answer to what follows the header.
    expect: String,
    client: Option<String>,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        self.prefix.chars().map(|c| u8::try_from(c).expect("latin-1")).collect()
    }

    /// Who the client is, where its own end of the connection is this; without a port, which nobody can know beforehand.
    fn client(&self, own: SocketAddr) -> IpAddr {
        match self.client.as_deref() {
            Some("peer") | None => own.ip(),
            Some(address) => address.parse::<SocketAddr>().expect("an address").ip(),
        }
    }

    /// Sends the header, in one piece with what follows unless it is about pieces.
    fn say(&self, client: &mut Client, then: &[u8]) {
        if !self.id.ends_with("-split") {
            client.say([&self.bytes()[..], then].concat());
            return;
        }
        client.stream().set_nodelay(true).expect("an option");
        for byte in self.bytes() {
            client.say([byte]);
            pause(Duration::from_millis(1));
        }
        client.say(then);
    }
}

fn cases() -> Vec<Case> {
    let read = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file);
        let text = std::fs::read_to_string(path).expect("the corpus");
        serde_json::from_str::<Vec<Case>>(&text).expect("a corpus")
    };
    let cases: Vec<_> =
        ["proxy-protocol.json", "more-proxy-protocol.json"].into_iter().flat_map(read).collect();
    assert!(cases.len() > 80, "{}", cases.len());
    cases
}

fn trusting(origin: &Origin, keys: &str) -> Proxy {
    Setup::http(&[origin.address()]).listener(TRUSTING).listener(keys).start()
}

#[test]
fn in_front_of_http_the_corpus_has_no_finding() {
    let origin = Origin::saying("ok");
    let proxy = trusting(&origin, "");
    let mut served = 0;
    for case in cases() {
        let mut client = proxy.connect();
        case.say(&mut client, GET.as_bytes());
        match case.expect.as_str() {
            "accept" => {
                assert_eq!(client.answer().status(), 200, "{}", case.id);
                let want = case.client(client.local_address()).to_string();
                assert_eq!(origin.request(served).fields("x-forwarded-for"), [want], "{}", case.id);
                served += 1;
            }
            "close" => assert!(client.at_end(), "{}", case.id),
            status => assert_eq!(client.answer().status().to_string(), status, "{}", case.id),
        }
        assert_eq!(origin.seen().len(), served, "{} went on to the endpoint", case.id);
    }
}

#[test]
fn in_front_of_tls_the_corpus_has_no_finding() {
    let (authority, origin) = (Authority::new(), Origin::saying("ok"));
    authority.sign("a", &["a.test"]);
    let proxy = trusting(&origin, &format!("tls = {{ certificates = [{}] }}", authority.listed("a", "")));
    let client = authority.trusting().build();
    let mut served = 0;
    for case in cases() {
        let talk = client.connect_after(&case.bytes(), proxy.web, "a.test");
        // What would be no request after the header is no handshake either.
        if case.expect != "accept" {
            assert!(talk.is_err(), "{}", case.id);
            continue;
        }
        let mut talk = talk.unwrap_or_else(|error| panic!("{}: {error}", case.id));
        assert_eq!(get(&mut talk, "a.test").expect("an answer").0, 200, "{}", case.id);
        let want = case.client(talk.sock.local_addr().expect("an address")).to_string();
        assert_eq!(origin.request(served).fields("x-forwarded-for"), [want], "{}", case.id);
        served += 1;
    }
    assert_eq!(origin.seen().len(), served);
}

#[test]
fn in_front_of_a_tcp_session_the_corpus_has_no_finding() {
    let origin = Origin::start(|mut session| {
        let source = header(&mut session)?.addresses.map(|told| told.source.ip());
        let all = session.wire.rest()?;
        session.send(format!(
            "{} {}",
            source.map_or_else(String::new, |ip| ip.to_string()),
            all.escape_ascii()
        ))
    });
    let setup = Setup::tcp(&[origin.address()]).listener(TRUSTING);
    let proxy = setup.pool("send_proxy = \"v2\"").start();
    for case in cases() {
        let mut client = proxy.connect();
        case.say(&mut client, b"hello");
        client.finish().ok();
        match case.expect.as_str() {
            "close" => assert!(client.at_end(), "{}", case.id),
            expect => {
                let answer = String::from_utf8(client.rest().expect("an answer")).expect("text");
                if expect == "accept" {
                    let want = format!("{} hello", case.client(client.local_address()));
                    assert_eq!(answer, want, "{}", case.id);
                } else {
                    // What follows the header is the client's, whatever it is.
                    assert!(
                        answer.ends_with("hello") && !answer.ends_with(" hello"),
                        "{}: {answer}",
                        case.id
                    );
                }
            }
        }
    }
}
