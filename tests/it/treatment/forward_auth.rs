//! Another service is asked first: what it hears, what goes on, and what becomes of its answers.

use super::{get, get2, pool, with};
use crate::harness::origin::Origin;
use crate::harness::proxy::Proxy;
use crate::harness::{free_port, own_ip};

/// Says no with a page of its own unless there is a cookie.
fn service() -> Origin {
    Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            match request.field("cookie").as_deref() {
                Some("session=1") => session.send("HTTP/1.1 204 No Content\r\nX-User: anna\r\nX-Roles: a\r\nX-Roles: b\r\n\r\n")?,
                Some("session=2") => session.send("HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nSet-Cookie: seen=1\r\nContent-Length: 0\r\n\r\n")?,
                Some("session=3") => session.send("HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")?,
                _ => session.send(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Type: text/html\r\nContent-Length: 10\r\n\r\n<h1>\xe9</h1>")?,
            }
        }
        Ok(())
    })
}

fn start(origin: &Origin, service: &Origin, keys: &str) -> Proxy {
    let auth = format!(
        "forward_auth = {{ pool = \"auth\", path = \"/verify?from=lb\", response_headers = [\"x-user\", \"x-roles\"]{keys} }}"
    );
    with(origin, &auth, &pool("auth", service))
}

#[test]
fn what_the_service_lets_in_goes_on_with_its_word() {
    let (origin, service) = (Origin::saying("in"), service());
    let proxy = start(&origin, &service, "");
    let spoofed = "Cookie: session=1\r\nX-User: root\r\nX_User: root\r\nX-Forwarded-Uri: /else\r\nX-Forwarded-Method: PUT\r\nX-Other: 1\r\n";
    assert_eq!(get(&proxy, "/page?q=1", spoofed).text(), "in");
    let asked = service.request(0);
    assert_eq!(asked.start_line(), "GET /verify?from=lb HTTP/1.1");
    assert_eq!(asked.fields("x-forwarded-uri"), ["/page?q=1"]);
    assert_eq!(asked.fields("x-forwarded-method"), ["GET"]);
    assert_eq!(asked.fields("x-forwarded-host"), ["a"]);
    assert_eq!(asked.fields("x-forwarded-proto"), ["http"]);
    assert_eq!(asked.fields("x-forwarded-for").len(), 1);
    assert_eq!(asked.fields("x-other"), ["1"]);
    let seen = origin.request(0);
    assert_eq!((seen.fields("x-user"), seen.field("x_user")), (vec!["anna".to_owned()], None));
    assert_eq!(seen.fields("x-roles"), ["a", "b"]);
    assert_eq!(seen.path(), "/page?q=1");
    let answer = get2(&proxy, "/two", &[("cookie", "session=1"), ("x-roles", "root")]);
    assert_eq!(answer.text(), "in");
    assert_eq!(origin.request(1).fields("x-roles"), ["a", "b"]);
    assert_eq!(service.accepted(), 1, "its connection is used again");
    proxy.until_metric("plimsoll_route_forward_auth_total", "result=\"passed\"", 2.0);
}

#[test]
fn a_body_goes_to_the_endpoint_alone() {
    let (origin, service) = (Origin::saying("in"), service());
    let proxy = start(&origin, &service, "");
    let request = "POST /form HTTP/1.1\r\nHost: a\r\nCookie: session=1\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(proxy.connect().say(request).answer().text(), "in");
    let asked = service.request(0);
    assert_eq!(asked.start_line(), "GET /verify?from=lb HTTP/1.1");
    assert_eq!((asked.field("content-length"), asked.field("content-type")), (None, None));
    assert_eq!(asked.fields("x-forwarded-method"), ["POST"]);
    assert_eq!(origin.request(0).text(), "hello");
}

#[test]
fn what_it_refuses_the_client_gets_as_it_is() {
    let (origin, service) = (Origin::saying("in"), service());
    let proxy = start(&origin, &service, "");
    let answer = get(&proxy, "/", "");
    assert_eq!((answer.status(), answer.body.as_slice()), (401, &b"<h1>\xe9</h1>"[..]));
    assert_eq!(answer.fields("www-authenticate"), ["Bearer"]);
    assert_eq!(answer.fields("content-type"), ["text/html"]);
    let answer = get2(&proxy, "/", &[("cookie", "session=2")]);
    assert_eq!((answer.status, answer.headers["location"].as_bytes()), (302, &b"https://login.example/"[..]));
    assert_eq!(answer.headers["set-cookie"].as_bytes(), b"seen=1");
    assert!(origin.seen().is_empty());
    proxy.until_metric("plimsoll_route_forward_auth_total", "result=\"refused\"", 2.0);
}

#[test]
fn without_an_answer_on_error_decides() {
    let (origin, service) = (Origin::saying("in"), service());
    let strict = start(&origin, &service, "");
    let broken = "Cookie: session=3\r\nX-User: root\r\n";
    assert_eq!(get(&strict, "/", broken).status(), 503);
    assert!(origin.seen().is_empty());
    let lenient = start(&origin, &service, ", on_error = \"allow\"");
    assert_eq!(get(&lenient, "/", broken).status(), 200);
    assert_eq!(origin.request(0).field("x-user"), None, "nobody has vouched for it");
    lenient.until_metric("plimsoll_route_forward_auth_total", "result=\"failed\"", 1.0);
    let gone = format!("[pool.auth]\nendpoints = [\"{}\"]\n", free_port(own_ip()));
    let dead = with(&origin, "forward_auth = { pool = \"auth\" }", &gone);
    assert_eq!(get(&dead, "/", "").status(), 503);
    assert!(dead.metric("plimsoll_endpoint_failures_total", "pool=\"auth\"") >= 1.0);
}

#[test]
fn a_service_that_does_not_answer_is_not_waited_for() {
    let origin = Origin::saying("in");
    let silent = Origin::start(|mut session| {
        session.request()?;
        session.wire.rest().map(drop)
    });
    let proxy = start(&origin, &silent, ", timeout = \"100ms\"");
    assert_eq!(get(&proxy, "/", "").status(), 503);
    assert_eq!(proxy.metric("plimsoll_endpoint_failures_total", "kind=\"timeout\""), 1.0);
}

#[test]
fn only_the_fields_that_are_named_are_told() {
    let (origin, service) = (Origin::saying("in"), service());
    let proxy = start(&origin, &service, ", request_headers = [\"Cookie\"]");
    assert_eq!(get(&proxy, "/", "Cookie: session=1\r\nX-Other: 1\r\nAuthorization: x\r\n").status(), 200);
    let asked = service.request(0);
    assert_eq!(asked.fields("cookie"), ["session=1"]);
    assert_eq!((asked.field("x-other"), asked.field("authorization")), (None, None));
    assert_eq!(asked.fields("x-forwarded-uri"), ["/"]);
}

#[test]
fn what_was_vouched_for_is_what_edits_see() {
    let (origin, service) = (Origin::saying("in"), service());
    let edits = "}\n[route.request_headers]\nrename = { x-user = \"x-remote-user\", x-mine = \"x-roles\" }\n\
                 set = { x-said = \"{header:x-user} {header:x-free}\" }\n# {";
    let proxy = start(&origin, &service, edits);
    let spoofed = "Cookie: session=1\r\nX-User: root\r\nX-Mine: root\r\nX-Free: mine\r\n";
    assert_eq!(get(&proxy, "/", spoofed).text(), "in");
    let seen = origin.request(0);
    assert_eq!(seen.fields("x-remote-user"), ["anna"]);
    assert_eq!(seen.fields("x-said"), ["anna mine"]);
    assert_eq!(seen.fields("x-roles"), ["a", "b"], "nobody else's word stands beside it");
    assert_eq!((seen.field("x-user"), seen.field("x-mine")), (None, None));
}

#[test]
fn a_no_is_a_no_whatever_becomes_of_its_page() {
    let origin = Origin::saying("in");
    let talker = Origin::start(|mut session| {
        session.request()?;
        session
            .send("HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 100000\r\n\r\n")?;
        session.send(vec![b'x'; 100_000])
    });
    let proxy = start(&origin, &talker, ", on_error = \"allow\", max_answer = \"1KiB\"");
    let answer = get(&proxy, "/", "");
    assert_eq!((answer.status(), answer.text().as_str()), (403, ""));
    assert_eq!(answer.field("content-type"), None);
    assert!(origin.seen().is_empty());
}

#[test]
fn who_says_twice_who_he_is_is_not_asked_about() {
    let (origin, service) = (Origin::saying("in"), service());
    let proxy = start(&origin, &service, "");
    let two = "Cookie: session=1\r\nAuthorization: Basic YTpi\r\nAuthorization: Basic Yzpk\r\n";
    assert_eq!(get(&proxy, "/", two).status(), 400);
    assert!(origin.seen().is_empty() && service.seen().is_empty());
}
