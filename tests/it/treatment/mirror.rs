//! Copies for another pool: what is copied, and that nobody waits for it.

use super::{get, get2, pool, with};
use crate::harness::http2::{self, Session, request};
use crate::harness::origin::Origin;
use crate::harness::until;

fn seen(origin: &Origin, count: usize) -> Vec<crate::harness::wire::Message> {
    until("the copies", || (origin.seen().len() >= count).then(|| origin.seen()))
}

#[test]
fn a_copy_says_what_the_request_says() {
    let (origin, shadow) = (Origin::saying("real"), Origin::saying("shadow"));
    let keys = "mirror = { pool = \"shadow\" }\nrewrite = { path = \"/new\" }\nrequest_headers = { set = { x-tier = \"web\" }, remove = [\"x-gone\"] }";
    let proxy = with(&origin, keys, &pool("shadow", &shadow));
    assert_eq!(get(&proxy, "/old?q=1", "X-Gone: 1\r\nCookie: a=b\r\n").text(), "real");
    let (copy, real) = (&seen(&shadow, 1)[0], origin.request(0));
    assert_eq!(copy.start_line(), real.start_line());
    for name in ["host", "cookie", "x-tier", "x-gone", "x-request-id", "x-forwarded-for", "x-forwarded-proto"]
    {
        assert_eq!(copy.fields(name), real.fields(name), "{name}");
    }
    assert_eq!(get2(&proxy, "/", &[("x-gone", "1")]).text(), "real");
    assert_eq!(seen(&shadow, 2)[1].field("x-gone"), None);
    proxy.until_metric("plimsoll_route_mirrored_total", "result=\"answered\"", 2.0);
    assert_eq!(proxy.records(2).len(), 2, "a copy has no record of its own");
}

#[test]
fn bodies_are_copied_up_to_a_size() {
    let (origin, shadow) = (Origin::saying("real"), Origin::saying("shadow"));
    let proxy = with(&origin, "mirror = { pool = \"shadow\", max_body = \"10B\" }", &pool("shadow", &shadow));
    let mut client = proxy.connect();
    assert_eq!(client.post("/counted", "0123456789").text(), "real");
    let chunked = "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    assert_eq!(client.say(chunked).answer().text(), "real");
    assert_eq!(client.post("/large", "0123456789a").text(), "real");
    let large = "POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    assert_eq!(client.say(large).answer().text(), "real");
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let answer = session.post(request("POST", "/two"), b"xyz".to_vec()).await.expect("an answer");
        assert_eq!(answer.text(), "real");
    });
    let copies = seen(&shadow, 3);
    let mut told: Vec<_> = copies.iter().map(|copy| (copy.path(), copy.text())).collect();
    // Each copy goes on its own, and one may overtake another.
    told.sort();
    let want = [("/chunked", "abcdefg"), ("/counted", "0123456789"), ("/two", "xyz")];
    assert_eq!(told, want.map(|(path, body)| (path.to_owned(), body.to_owned())));
    proxy.until_metric("plimsoll_route_mirrored_total", "result=\"too_large\"", 2.0);
    assert_eq!(origin.seen().len(), 5);
    assert_eq!(origin.request(3).text(), "0123456789a");
}

#[test]
fn nobody_waits_for_a_copy_and_no_more_are_under_way_than_may_be() {
    let origin = Origin::saying("real");
    let stuck = Origin::start(|mut session| {
        session.request()?;
        session.wire.rest().map(drop)
    });
    let keys = "mirror = { pool = \"shadow\", max_in_flight = 2 }";
    let proxy = with(&origin, keys, &pool("shadow", &stuck));
    for _ in 0..5 {
        assert_eq!(get(&proxy, "/", "").text(), "real");
    }
    assert_eq!(seen(&stuck, 2).len(), 2);
    proxy.until_metric("plimsoll_route_mirrored_total", "result=\"dropped\"", 3.0);
    assert_eq!(proxy.metric("plimsoll_route_mirrored_in_flight", "route=\"all\""), 2.0);
    stuck.stop();
    proxy.until_metric("plimsoll_route_mirrored_total", "result=\"failed\"", 2.0);
    proxy.until_metric("plimsoll_route_mirrored_in_flight", "route=\"all\"", 0.0);
}

#[test]
fn a_share_is_a_share() {
    let (origin, shadow) = (Origin::saying("real"), Origin::saying("shadow"));
    let keys = "mirror = { pool = \"shadow\", share = \"25%\", max_in_flight = 1000 }";
    let proxy = with(&origin, keys, &pool("shadow", &shadow));
    let mut client = proxy.connect();
    for _ in 0..400 {
        assert_eq!(client.get("/").text(), "real");
    }
    let copied = proxy.metric("plimsoll_pool_requests_total", "pool=\"shadow\"");
    // Six standard deviations to either side.
    assert!((48.0..=152.0).contains(&copied), "{copied} of 400");
}
