//! An answer that TLS does not say the end of is not taken for a whole one: without close_notify anybody on the way could
//! have cut it (RFC 8446 section 6.1).

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::secure::{Authority, Secure, Settings};

/// An origin that sends these bytes and ends, by TLS that says so or not, and a proxy before it.
fn sending(bytes: &'static str, abrupt: bool, tcp: bool) -> (Origin, Proxy) {
    let authority = Authority::new();
    let origin = Origin::start(move |mut session| {
        if tcp {
            session.wire.take(2).map(drop)?
        } else {
            session.request().map(drop)?
        }
        session.send(bytes)
    });
    let pairs = vec![("api.test", authority.issue("api.test", |_| {}))];
    let secure = Secure::start(origin.address(), &Settings { pairs, abrupt, ..Settings::default() });
    let setup = if tcp { Setup::tcp(&[secure.address()]) } else { Setup::http(&[secure.address()]) };
    let ca = authority.ca();
    let tls = format!("tls = {{ server_name = \"api.test\", ca = \"{}\" }}", ca.display());
    (origin, setup.pool(&tls).start())
}

/// What a client hears of it; an error where the connection does not end in order.
fn heard(proxy: &Proxy, request: &str) -> std::io::Result<String> {
    let mut wire = Client::connect(proxy.web).into_wire();
    wire.send(request)?;
    wire.rest().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

const GET: &str = "GET / HTTP/1.0\r\n\r\n";

#[test]
fn a_body_that_ends_with_the_connection_needs_an_end() {
    const HALF: &str = "HTTP/1.1 200 OK\r\n\r\nhalf of it";
    let (_origin, proxy) = sending(HALF, false, false);
    assert!(heard(&proxy, GET).is_ok_and(|all| all.ends_with("\r\n\r\nhalf of it")));
    let (_origin, proxy) = sending(HALF, true, false);
    let cut = heard(&proxy, GET);
    assert!(cut.is_err(), "{cut:?} looks whole");
    assert_eq!(proxy.records(1)[0]["end"], "endpoint_aborted");
}

#[test]
fn the_same_body_in_chunks_lacks_its_last_one() {
    let (_origin, proxy) = sending("HTTP/1.1 200 OK\r\n\r\nhalf of it", true, false);
    let cut = heard(&proxy, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let whole = cut.as_ref().is_ok_and(|all| all.ends_with("0\r\n\r\n"));
    assert!(cut.is_err() && !whole, "{cut:?} looks whole");
}

#[test]
fn a_body_of_known_length_is_whole_when_all_of_it_is_there() {
    const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";
    let (_origin, proxy) = sending(WHOLE, true, false);
    assert!(heard(&proxy, GET).is_ok_and(|all| all.ends_with("\r\n\r\nwhole")));
    let (_origin, proxy) = sending("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", true, false);
    assert!(heard(&proxy, GET).is_err());
}

#[test]
fn a_session_ends_as_its_endpoint_ends_it() {
    let (_origin, proxy) = sending("hello", false, true);
    assert_eq!(heard(&proxy, "hi").expect("an orderly end"), "hello");
    let (_origin, proxy) = sending("hello", true, true);
    let cut = heard(&proxy, "hi");
    assert!(cut.is_err(), "{cut:?} looks whole");
}
