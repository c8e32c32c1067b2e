//! Variables in what routes change and answer: fields, targets, redirects and bodies, over HTTP/1 and HTTP/2.

use crate::harness::client;
use crate::harness::http2::{self, Session, request};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::wire::Message;

fn routed(origin: &Origin, routes: &str) -> Proxy {
    Setup::http(&[origin.address()]).listener("h2c = true").routes(routes).start()
}

/// The same request over both protocols, and what the origin has seen of each.
fn both(proxy: &Proxy, origin: &Origin, path: &str, fields: &[(&str, &str)]) -> [Message; 2] {
    let before = origin.seen().len();
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    client::ask(proxy.web, format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}Connection: close\r\n\r\n"));
    http2::run(async {
        let mut asked = request("GET", path);
        for &(name, value) in fields {
            asked.headers_mut().append(
                http::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                http::HeaderValue::from_str(value).expect("a value"),
            );
        }
        Session::connect(proxy.web).await.ask(asked).await.expect("an answer");
    });
    [origin.request(before), origin.request(before + 1)]
}

#[test]
fn fields_of_a_request_are_renamed_and_set_from_what_it_is() {
    let origin = Origin::saying("ok");
    let proxy = routed(
        &origin,
        "[[route]]\nname = \"all\"\npool = \"main\"\n\
         [route.request_headers]\nremove = [\"x-gone\"]\nrename = { x-old = \"X-New\" }\n\
         set = { x-who = \"{client} {peer} {method} {scheme} {host} {hostname}\", x-none = \"{header:none}\", \
                 x-literal = \"{{client}} {\" }\n\
         add = { x-where = \"{listener}/{route}/{pool}{path}?{query:q}\", x-cookie = \"{cookie:c}\" }\n",
    );
    let fields = [
        ("x-old", "1"),
        ("x-old", "2"),
        ("x-new", "0"),
        ("x-gone", "1"),
        ("x-none", "1"),
        ("cookie", "b=1; c=2"),
    ];
    for seen in both(&proxy, &origin, "/p?q=%20&r", &fields) {
        assert_eq!(seen.fields("x-new"), ["0", "1", "2"]);
        assert_eq!((seen.field("x-old"), seen.field("x-gone"), seen.field("x-none")), (None, None, None));
        let ip = proxy.web.ip();
        let who = seen.field("x-who").expect("it is set");
        assert!(who.ends_with(" GET http a a") && who.starts_with("127."), "{who} from {ip}");
        assert_eq!(seen.field("x-where").as_deref(), Some("web/all/main/p?%20"));
        assert_eq!(seen.field("x-cookie").as_deref(), Some("2"));
        assert_eq!(seen.field("x-literal").as_deref(), Some("{client} {"));
    }
}

#[test]
fn a_field_for_one_hop_does_not_go_on_under_another_name() {
    let origin = Origin::saying("ok");
    let proxy = routed(
        &origin,
        "[[route]]\nname = \"all\"\npool = \"main\"\nrequest_headers = { rename = { x-hop = \"x-kept\" } }\n",
    );
    client::ask(proxy.web, "GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nConnection: close, X-Hop\r\n\r\n");
    let seen = origin.request(0);
    assert_eq!((seen.field("x-hop"), seen.field("x-kept")), (None, None));
}

#[test]
fn fields_of_an_answer_know_its_status_and_who_gave_it() {
    let origin = Origin::replying(
        b"HTTP/1.1 203 X\r\nContent-Length: 2\r\nServer: secret\r\nX-Old: 1\r\nX-Old: 2\r\n\r\nok",
    );
    let proxy = routed(
        &origin,
        "[[route]]\nname = \"all\"\npool = \"main\"\n\
         [route.response_headers]\nrename = { x-old = \"x-new\" }\n\
         set = { server = \"{pool}\", x-status = \"{status}\", x-id = \"{request_id}\" }\nadd = { x-by = \"{endpoint}\" }\n",
    );
    let answer = proxy.get("/");
    assert_eq!(answer.fields("x-new"), ["1", "2"]);
    assert_eq!(answer.field("x-old"), None);
    assert_eq!(answer.fields("server"), ["main"]);
    assert_eq!(answer.field("x-status").as_deref(), Some("203"));
    assert_eq!(answer.field("x-by"), Some(origin.address().to_string()));
    assert_eq!(answer.field("x-id"), origin.request(0).field("x-request-id"));
    http2::run(async {
        let answer = Session::connect(proxy.web).await.get("/").await;
        let fields = |name: &str| answer.headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(fields("x-new"), ["1", "2"]);
        assert_eq!(
            (fields("server"), fields("x-status")),
            (vec!["main".parse().expect("a value")], vec![203.into()])
        );
        assert_eq!(fields("x-by"), [origin.address().to_string().as_str()]);
        assert!(fields("x-old").is_empty());
    });
}

#[test]
fn errors_get_the_fields_of_their_route_too() {
    let origin = Origin::saying("ok");
    origin.stop();
    let proxy = routed(
        &origin,
        "[[route]]\nname = \"all\"\npool = \"main\"\n\
         response_headers = { set = { x-fixed = \"1\", x-status = \"{status}\" } }\n",
    );
    let answer = proxy.get("/");
    assert_eq!(answer.status(), 503);
    assert_eq!(
        (answer.field("x-fixed"), answer.field("x-status")),
        (Some("1".to_owned()), Some("503".to_owned()))
    );
}

#[test]
fn a_target_is_rewritten_by_groups_and_fields() {
    let origin = Origin::saying("ok");
    let proxy = routed(
        &origin,
        "[[route]]\nname = \"users\"\npath_prefix = \"/u\"\npool = \"main\"\n\
         rewrite = { path_regex = \"^/u/([0-9]+)(?P<rest>/.*)?$\", path = \"/users/{1}{group:rest}\", \
                     host = \"u{1}.internal:81\", query = { set = { tenant = \"{header:x-tenant}\" }, remove = [\"debug\"] } }\n\
         [[route]]\nname = \"own\"\npath_regex = \"^/old/(.*)$\"\npool = \"main\"\nrewrite = { path = \"/new/{1}\" }\n\
         [[route]]\nname = \"tenants\"\npool = \"main\"\nrewrite = { path = \"/t/{header:x-tenant}{path}\", query = \"\" }\n",
    );
    let fields = [("x-tenant", "a&b=c/d")];
    for seen in both(&proxy, &origin, "/u/42/x%20y?debug=1&q=%41&%64ebug", &fields) {
        assert_eq!(seen.path(), "/users/42/x%20y?q=%41&tenant=a%26b%3Dc%2Fd");
        assert_eq!(seen.field("host").as_deref(), Some("u42.internal:81"));
        assert_eq!(seen.field("x-forwarded-host").as_deref(), Some("a"));
    }
    for seen in both(&proxy, &origin, "/u/x?debug", &[]) {
        assert_eq!((seen.path().as_str(), seen.field("host").as_deref()), ("/u/x?debug", Some("a")));
    }
    for seen in both(&proxy, &origin, "/old/a/%62?q", &[]) {
        assert_eq!(seen.path(), "/new/a/b?q");
    }
    for seen in both(&proxy, &origin, "/x/../y?q", &fields) {
        assert_eq!(seen.path(), "/t/a%26b%3Dc%2Fd/y");
    }
    let seen = origin.seen().len();
    let refused = client::ask(proxy.web, "GET /y HTTP/1.1\r\nHost: a\r\nX-Tenant: ..\r\n\r\n");
    assert_eq!((refused.status(), origin.seen().len()), (400, seen), "no path leads out by dots");
}

#[test]
fn the_host_that_is_set_is_the_authority_of_http2_too() {
    let origin = Origin::saying("ok");
    let proxy = routed(
        &origin,
        "[[route]]\nname = \"all\"\npool = \"main\"\n\
         request_headers = { set = { Host = \"{header:x-to}\" } }\n",
    );
    for seen in both(&proxy, &origin, "/", &[("x-to", "b.example")]) {
        assert_eq!(seen.fields("host"), ["b.example"]);
    }
    let refused = client::ask(proxy.web, "GET / HTTP/1.1\r\nHost: a\r\nX-To: b c\r\n\r\n");
    assert_eq!(refused.status(), 400);
}

#[test]
fn redirects_and_answers_are_made_of_the_request_and_safe() {
    let origin = Origin::saying("ok");
    let proxy = routed(
        &origin,
        "[[route]]\nname = \"moved\"\npath_regex = \"^/go/([a-z]+)$\"\n\
         redirect = { to = \"https://{hostname}/{1}?from={header:x-from}&{query}\", status = 301 }\n\
         [[route]]\nname = \"json\"\npath = \"/json\"\n\
         respond = { status = 200, body = '{\"you\":{\"agent\":\"{header:user-agent}\"}}', content_type = \"application/json\" }\n\
         [[route]]\nname = \"html\"\npath = \"/html\"\n\
         respond = { status = 200, body = '<p>{uri}', content_type = \"text/html\" }\n\
         response_headers = { set = { x-uri = \"{uri}\" } }\n\
         [[route]]\nname = \"rest\"\nredirect = { to = \"https://{host}{uri}\" }\n",
    );
    let ask = |path: &str, fields: &str| {
        client::ask(proxy.web, format!("GET {path} HTTP/1.1\r\nHost: a:80\r\n{fields}\r\n"))
    };
    let moved = ask("/go/home?a=b", "X-From: x&y z\r\n");
    assert_eq!(moved.status(), 301);
    assert_eq!(moved.field("location").as_deref(), Some("https://a/home?from=x%26y%20z&a=b"));
    let json = ask("/json", "User-Agent: a\"b<\\\r\n");
    assert_eq!(json.field("content-type").as_deref(), Some("application/json"));
    assert_eq!(json.text(), "{\"you\":{\"agent\":\"a\\\"b\\u003C\\\\\"}}");
    assert_eq!(ask("/html?<script>", "").text(), "<p>/html?&lt;script&gt;");
    assert_eq!(ask("/p?q=1", "").field("location").as_deref(), Some("https://a:80/p?q=1"));
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let moved = session.get("/go/home?a=b").await;
        assert_eq!(
            (moved.status, &moved.headers["location"]),
            (301, &"https://a/home?from=&a=b".parse().expect("a value"))
        );
        let html = session.get("/html?%3Cx").await;
        assert_eq!(
            (html.text().as_str(), &html.headers["x-uri"]),
            ("<p>/html?%3Cx", &"/html?%3Cx".parse().expect("a value"))
        );
    });
}

#[test]
fn a_redirect_to_a_path_never_leads_to_another_host() {
    let origin = Origin::saying("ok");
    let proxy = routed(&origin, "[[route]]\nname = \"slash\"\nredirect = { to = \"{path}/\" }\n");
    for (path, to) in
        [("/a", "/a/"), ("//evil.example", "/evil.example/"), ("/\\\\/evil.example", "/%5C%5C/evil.example/")]
    {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(client::ask(proxy.web, head).fields("location"), [to], "{path}");
    }
}
