//! What stands before a route: networks, maintenance, other origins' scripts, the size of a body; and pages in the place of
//! errors. Over HTTP/1 and HTTP/2.

use std::fs;
use std::net::Ipv4Addr;

use crate::harness::client::{self, Client};
use crate::harness::http2::{self, Session, request};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, own_directory};
use crate::harness::until;

const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 9, 1, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 8, 1, 1);

fn routed(origin: &Origin, route: &str) -> Proxy {
    let routes = format!("[[route]]\nname = \"all\"\npool = \"main\"\n{route}\n");
    Setup::http(&[origin.address()]).listener("h2c = true").routes(&routes).start()
}

fn status_from(source: Ipv4Addr, proxy: &Proxy) -> u16 {
    Client::connect_from(source, proxy.web).get("/").status()
}

#[test]
fn a_route_lets_in_a_network_and_nobody_else_and_deny_wins() {
    let origin = Origin::saying("ok");
    let proxy = routed(&origin, "allow = [\"127.9.0.0/16\"]\ndeny = [\"127.9.9.0/24\"]");
    assert_eq!(status_from(INSIDE, &proxy), 200);
    assert_eq!(status_from(OUTSIDE, &proxy), 403);
    assert_eq!(status_from(Ipv4Addr::new(127, 9, 9, 1), &proxy), 403);
    http2::run(async { assert_eq!(Session::connect(proxy.web).await.get("/").await.status, 403) });
    assert_eq!(origin.seen().len(), 1);
    until("the denials to be counted", || {
        (proxy.metric("plimsoll_limit_hits_total", "request_denied") >= 3.0).then_some(())
    });
}

#[test]
fn the_client_that_a_trusted_proxy_names_is_who_is_let_in() {
    let origin = Origin::saying("ok");
    let routes = "[[route]]\nname = \"all\"\npool = \"main\"\nallow = [\"192.0.2.0/24\"]\n";
    let proxy = Setup::http(&[origin.address()])
        .listener("trusted_proxies = [\"127.9.0.0/16\"]")
        .routes(routes)
        .start();
    let ask = |source| {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
        Client::connect_from(source, proxy.web).say(request).answer().status()
    };
    assert_eq!([ask(INSIDE), ask(OUTSIDE)], [200, 403]);
}

#[test]
fn a_route_out_of_service_says_so_to_all_but_its_testers() {
    let origin = Origin::saying("ok");
    let directory = own_directory();
    let page = directory.join("gone.html");
    fs::write(&page, "<h1>{status} back soon, {uri}</h1>").expect("a page");
    let proxy = routed(
        &origin,
        &format!(
            "maintenance = {{ page = {{ file = \"{}\", template = true }}, allow = [\"127.9.0.0/16\"], retry_after = \"10m\" }}",
            page.display()
        ),
    );
    assert_eq!(status_from(INSIDE, &proxy), 200);
    let answer = client::ask(proxy.web, "GET /?<b> HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status(), answer.field("retry-after").as_deref()), (503, Some("600")));
    assert_eq!(answer.fields("content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(answer.text(), "<h1>503 back soon, /?&lt;b&gt;</h1>");
    http2::run(async {
        let answer = Session::connect(proxy.web).await.get("/x").await;
        assert_eq!((answer.status, answer.text().as_str()), (503, "<h1>503 back soon, /x</h1>"));
    });
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_body_over_its_size_is_refused_before_the_endpoint_has_it() {
    let origin = Origin::saying("ok");
    let proxy = routed(&origin, "max_body = \"8B\"");
    assert_eq!(Client::connect(proxy.web).post("/", "12345678").status(), 200);
    let mut client = Client::connect(proxy.web);
    let answer = client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").answer();
    assert_eq!(answer.status(), 413, "at once, without a byte of it");
    client.expect_end();
    assert_eq!(origin.seen().len(), 1);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    origin.close_connections();
    until("the connections to close", || (origin.open() == 0).then_some(()));
    let mut client = Client::connect(proxy.web);
    client.say(chunked);
    until("the first chunk to go on", || (origin.open() > 0).then_some(()));
    assert_eq!(client.say("4\r\nworl\r\n0\r\n\r\n").answer().status(), 413, "when it has become larger");
    client.expect_end();
    let fits = client::ask(proxy.web, format!("{chunked}3\r\nwor\r\n0\r\n\r\n"));
    assert_eq!(fits.status(), 200);
    until("the limit to be counted", || {
        (proxy.metric("plimsoll_limit_hits_total", "request_body") >= 2.0).then_some(())
    });
}

#[test]
fn a_body_of_http2_is_held_to_its_size_by_what_it_says_and_by_what_comes() {
    let origin = Origin::saying("ok");
    let proxy = routed(&origin, "max_body = \"8B\"");
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let fits = session.post(request("POST", "/"), vec![b'x'; 8]).await.expect("an answer");
        assert_eq!(fits.status, 200);
        let mut said = request("POST", "/");
        said.headers_mut().insert("content-length", 9.into());
        let (response, _body) = session.open(said, false).await;
        assert_eq!(http2::whole(response.await.expect("an answer")).await.expect("all of it").status, 413);
        let (response, mut body) = session.open(request("POST", "/"), false).await;
        http2::give(&mut body, vec![b'x'; 9].into(), false).await.expect("it is taken");
        assert_eq!(http2::whole(response.await.expect("an answer")).await.expect("all of it").status, 413);
        assert_eq!(session.get("/").await.status, 200, "the connection goes on");
    });
}

#[test]
fn scripts_of_origins_that_are_listed_may_read_answers_and_others_may_not() {
    let origin = Origin::replying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nVary: Accept\r\nAccess-Control-Allow-Origin: *\r\n\r\nok",
    );
    let proxy = routed(
        &origin,
        "cors = { origins = [\"https://app.example\", \"https://*.dev.example\"], methods = [\"GET\", \"PUT\"], \
         headers = [\"x-a\"], expose = [\"x-b\", \"x-c\"], credentials = true, max_age = \"10m\" }",
    );
    let ask = |method: &str, lines: &str| {
        client::ask(proxy.web, format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n"))
    };
    let listed = ask("GET", "Origin: https://a.dev.example\r\n");
    assert_eq!(listed.fields("access-control-allow-origin"), ["https://a.dev.example"]);
    assert_eq!(listed.fields("access-control-allow-credentials"), ["true"]);
    assert_eq!(listed.fields("access-control-expose-headers"), ["x-b, x-c"]);
    assert_eq!(listed.fields("vary"), ["Accept", "Origin"]);
    for lines in ["Origin: https://evil.example\r\n", ""] {
        let other = ask("GET", lines);
        assert_eq!((other.status(), other.field("access-control-allow-origin")), (200, None));
        assert_eq!(other.fields("vary"), ["Accept", "Origin"]);
    }
    let seen = origin.seen().len();
    let asks = "Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n";
    let allowed = ask("OPTIONS", &format!("Origin: https://app.example\r\n{asks}"));
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.field("access-control-allow-origin").as_deref(), Some("https://app.example"));
    assert_eq!(allowed.field("access-control-allow-methods").as_deref(), Some("GET, PUT"));
    assert_eq!(allowed.field("access-control-allow-headers").as_deref(), Some("x-a"));
    assert_eq!(allowed.field("access-control-max-age").as_deref(), Some("600"));
    assert!(allowed.field("vary").is_some_and(|vary| vary.starts_with("Origin")));
    let refused = ask("OPTIONS", &format!("Origin: https://evil.example\r\n{asks}"));
    assert_eq!((refused.status(), refused.field("access-control-allow-methods")), (204, None));
    http2::run(async {
        let mut asked = request("OPTIONS", "/");
        asked.headers_mut().insert("origin", http::HeaderValue::from_static("https://app.example"));
        asked.headers_mut().insert("access-control-request-method", http::HeaderValue::from_static("PUT"));
        let answer = Session::connect(proxy.web).await.ask(asked).await.expect("an answer");
        assert_eq!(
            (answer.status, &answer.headers["access-control-allow-origin"]),
            (204, &"https://app.example".parse().expect("a value"))
        );
    });
    assert_eq!(origin.seen().len(), seen, "preflight requests are answered here");
}

#[test]
fn errors_that_scripts_get_can_be_read_by_them() {
    let origin = Origin::saying("ok");
    origin.stop();
    let proxy = routed(&origin, "cors = { origins = [\"*\"] }");
    let answer = client::ask(proxy.web, "GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://x\r\n\r\n");
    assert_eq!((answer.status(), answer.field("access-control-allow-origin").as_deref()), (503, Some("*")));
    assert_eq!(answer.field("vary"), None);
}

#[test]
fn pages_take_the_place_of_errors_and_those_of_a_route_go_first() {
    let origin = Origin::start(|mut session| {
        while let Some(request) = session.request()? {
            let status = request.path()[1..].to_owned();
            session.send(format!(
                "HTTP/1.1 {status} X\r\nContent-Length: 5\r\nRetry-After: 7\r\nX-Own: 1\r\n\r\nplain"
            ))?;
        }
        Ok(())
    });
    let directory = own_directory();
    let page = |name: &str, text: &str| {
        fs::write(directory.join(name), text).expect("a page");
        format!("\"{}\"", directory.join(name).display())
    };
    let proxy = Setup::http(&[origin.address()])
        .listener("h2c = true")
        .listener(&format!(
            "error_pages = {{ \"404\" = {}, \"5xx\" = {} }}",
            page("404.html", "<p>no such page"),
            page("any.json", "{\"sorry\":true}")
        ))
        .routes(&format!(
            "[[route]]\nname = \"shown\"\nhost = \"a\"\npath_regex = \"^/5\"\npool = \"main\"\nintercept_errors = true\n\
             error_pages = {{ \"503\" = {{ file = {}, template = true, content_type = \"text/plain\" }} }}\n\
             [[route]]\nname = \"plain\"\npath = \"/404\"\npool = \"main\"\n\
             [[route]]\nname = \"denied\"\npath = \"/denied\"\npool = \"main\"\ndeny = [\"0.0.0.0/0\"]\n",
            page("503.txt", "{status} of {route}")
        ))
        .start();
    let none = proxy.get("/nothing");
    assert_eq!((none.status(), none.text().as_str()), (404, "<p>no such page"));
    assert_eq!(none.fields("content-type"), ["text/html; charset=utf-8"]);
    let shown = proxy.get("/503");
    assert_eq!((shown.status(), shown.text().as_str()), (503, "503 of shown"));
    assert_eq!((shown.field("retry-after").as_deref(), shown.field("x-own")), (Some("7"), None));
    assert_eq!(proxy.get("/502").text(), "{\"sorry\":true}");
    assert_eq!(proxy.get("/502").fields("content-type"), ["application/json"]);
    assert_eq!(proxy.get("/404").text(), "plain", "what endpoints answer goes on unless a route says so");
    assert!(proxy.get("/denied").text().starts_with("403 Forbidden"), "there is no page for it");
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let shown = session.get("/503").await;
        assert_eq!((shown.status, shown.text().as_str()), (503, "503 of shown"));
        assert_eq!(session.get("/502").await.text(), "{\"sorry\":true}");
        assert_eq!(session.get("/nothing").await.text(), "<p>no such page");
    });
}

#[test]
fn a_page_that_changes_is_read_again() {
    let origin = Origin::saying("ok");
    let page = own_directory().join("404.html");
    fs::write(&page, "one").expect("a page");
    let proxy = Setup::http(&[origin.address()])
        .process("watch = true")
        .listener(&format!("error_pages = {{ \"404\" = \"{}\" }}", page.display()))
        .routes("[[route]]\nname = \"x\"\npath = \"/x\"\npool = \"main\"\n")
        .start();
    assert_eq!(proxy.get("/").text(), "one");
    fs::write(&page, "two").expect("a page");
    until("the new page", || (proxy.get("/").text() == "two").then_some(()));
}

#[test]
fn testers_get_another_pool_by_a_field_or_a_cookie() {
    let [stable, canary] = [Origin::saying("stable"), Origin::saying("canary")];
    let proxy = Setup::http(&[stable.address()])
        .routes(
            "[[route]]\nname = \"by-field\"\nheaders = { x-canary = \"1\" }\npool = \"canary\"\n\
             [[route]]\nname = \"by-cookie\"\ncookies = { canary = { regex = \"^(1|yes)$\" } }\npool = \"canary\"\n\
             [[route]]\nname = \"all\"\nsplit = [{ pool = \"main\" }, { pool = \"canary\", weight = 0 }]\n",
        )
        .text(&format!("[pool.canary]\nendpoints = [\"{}\"]\n", canary.address()))
        .start();
    let ask =
        |lines: &str| client::ask(proxy.web, format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).text();
    assert_eq!(ask(""), "stable");
    assert_eq!(ask("X-Canary: 1\r\n"), "canary");
    assert_eq!(ask("X-Canary: 0\r\n"), "stable");
    assert_eq!(ask("Cookie: a=b; canary=yes\r\n"), "canary");
    assert_eq!(ask("Cookie: canary=no\r\n"), "stable");
}
