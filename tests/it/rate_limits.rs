//! Rate limits of routes over real sockets: nginx's numbers, what those who come too fast get, and what tells them apart.

use std::time::Duration;

use crate::harness::clock::Moment;
use crate::harness::http2::{self, Frames, Outcome, Session};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{client::Client, until};

fn limited(limit: &str) -> (Origin, Proxy) {
    let origin = Origin::saying("ok");
    let route = format!("[[route]]\nname = \"all\"\npool = \"main\"\nrate_limit = {limit}\n");
    let proxy = Setup::http(&[origin.address()]).routes(&route).start();
    (origin, proxy)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The statuses of so many requests on one connection, sent together.
fn together(client: &mut Client, requests: usize) -> Vec<u16> {
    client.say(GET.repeat(requests));
    (0..requests).map(|_| client.answer().status()).collect()
}

fn passed(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status == 200).count()
}

/// nginx: `limit_req_zone $binary_remote_addr zone=api:10m rate=100r/s` and `limit_req zone=api burst=20 nodelay`.
#[test]
fn twenty_one_pass_at_once_and_then_a_hundred_in_a_second() {
    let (origin, proxy) = limited("{ key = \"source\", rate = \"100/s\", burst = 20 }");
    let mut client = proxy.connect();
    let start = Moment::now();
    // Those that pass come first, but for one in ten milliseconds.
    let statuses = together(&mut client, 40);
    let due = usize::try_from(start.elapsed().as_millis() / 10).expect("a short time");
    assert!(statuses[..21].iter().all(|status| *status == 200), "{statuses:?}");
    assert!((21..=21 + due + 1).contains(&passed(&statuses)), "{statuses:?} with {due} more due");
    let mut count = passed(&statuses);
    while start.elapsed() < Duration::from_millis(1_500) {
        count += passed(&together(&mut client, 4));
    }
    let due = usize::try_from(start.elapsed().as_millis() / 10).expect("a short time");
    // A pause of the machine's own may cost some: no more than twenty can be saved up.
    assert!((21 + due - 25..=21 + due + 1).contains(&count), "{count} passed with {due} due");
    assert_eq!(origin.seen().len(), count, "nobody else has come to the endpoint");
}

/// Test vector of a rate of 10 with a burst of 20: the 22nd is one too many, and a tenth of a second later one passes.
#[test]
fn a_burst_of_twenty_at_ten_a_second() {
    let (_origin, proxy) = limited("{ rate = \"10/s\", burst = 20 }");
    let mut client = proxy.connect();
    let start = Moment::now();
    let statuses = together(&mut client, 22);
    if start.elapsed() < Duration::from_millis(100) {
        assert_eq!((passed(&statuses), statuses[21]), (21, 429));
    }
    until("the next one to be due", || (client.get("/").status() == 200).then_some(()));
    let due = usize::try_from(start.elapsed().as_millis() / 100).expect("a short time");
    assert!(due >= 1 || statuses[21] == 200, "it passed after {:?}", start.elapsed());
}

/// The same without nodelay: the k-th of the burst is held for (k - 1) tenths of a second.
#[test]
fn what_is_ahead_is_held_until_it_is_due() {
    let (_origin, proxy) = limited("{ rate = \"10/s\", burst = 20, delay = 0 }");
    let start = Moment::now();
    let mut clients: Vec<Client> = (0..22).map(|_| proxy.connect()).collect();
    let begun = Moment::now();
    for client in &mut clients {
        client.say(GET);
    }
    let mut took: Vec<(u16, Duration)> = std::thread::scope(|scope| {
        let answers =
            clients.iter_mut().map(|client| scope.spawn(|| (client.answer().status(), start.elapsed())));
        let answers: Vec<_> = answers.collect();
        answers.into_iter().map(|answer| answer.join().expect("an answer")).collect()
    });
    let spread = start.elapsed() - begun.elapsed();
    took.sort_by_key(|(_, time)| *time);
    let held: Vec<Duration> =
        took.iter().filter(|(status, _)| *status == 200).map(|(_, time)| *time).collect();
    assert!(held.len() >= 21, "{took:?}");
    for (k, time) in held.iter().enumerate().take(21) {
        let due = Duration::from_millis(100) * u32::try_from(k).expect("below 22");
        assert!(*time >= due, "the {k}th answer came after {time:?}");
        assert!(*time < due + spread + Duration::from_secs(2), "the {k}th answer came after {time:?}");
    }
    assert!(proxy.metric("plimsoll_rate_limit_requests_total", "delayed") >= 20.0);
}

#[test]
fn a_refusal_says_when_to_come_back_and_why() {
    let (origin, proxy) = limited("{ name = \"slow\", rate = \"1/m\", burst = 1 }");
    let mut client = proxy.connect();
    assert_eq!(
        client.get("/").field("ratelimit"),
        None,
        "those who pass are not told unless it is asked for"
    );
    assert_eq!(client.get("/").status(), 200);
    let refused = client.get("/");
    assert_eq!(refused.status(), 429);
    let after: u64 =
        refused.field("retry-after").and_then(|text| text.parse().ok()).expect("a number of seconds");
    assert!((55..=60).contains(&after), "{after}");
    assert_eq!(refused.field("ratelimit-policy").as_deref(), Some("\"slow\";q=1;w=60"));
    assert_eq!(refused.field("ratelimit"), Some(format!("\"slow\";r=0;t={after}")));
    assert!(refused.text().contains("come too fast"), "{}", refused.text());
    assert_eq!(client.get("/").status(), 429, "the connection goes on");
    assert_eq!(origin.seen().len(), 2);
    assert_eq!(proxy.records(4).iter().filter(|record| record["end"] == "rate_limited").count(), 2);
    proxy.until_metric("plimsoll_rate_limit_requests_total", "rejected", 2.0);
    assert!(proxy.metric("plimsoll_limit_hits_total", "limit=\"rate_limit\"") >= 2.0);
    assert!(proxy.metric("plimsoll_rate_limit_keys", "slow") >= 1.0);
}

#[test]
fn all_answers_tell_what_is_left_where_that_is_asked_for() {
    let (_origin, proxy) = limited(
        "[{ name = \"a\", rate = \"1/m\", burst = 4, headers = \"all\" }, { name = \"b\", key = \"path\", rate = \"7/h\", burst = 6, status = 503, headers = \"all\" }]",
    );
    let mut client = proxy.connect();
    let first = client.get("/x");
    assert_eq!(first.field("ratelimit-policy").as_deref(), Some("\"a\";q=1;w=60, \"b\";q=7;w=3600"));
    assert_eq!(first.field("ratelimit").as_deref(), Some("\"a\";r=4;t=60, \"b\";r=6;t=515"));
    let left = |n: u32| format!("\"a\";r={n};");
    for n in [3, 2, 1, 0] {
        let field = client.get("/y").field("ratelimit").expect("it is told");
        assert!(field.starts_with(&left(n)), "{field}");
    }
    assert_eq!(client.get("/z").status(), 429);
}

#[test]
fn a_limit_that_stops_a_request_leaves_the_others_uncharged() {
    let (_origin, proxy) = limited(
        "[{ name = \"wide\", key = \"global\", rate = \"1/h\", burst = 4 }, { name = \"narrow\", key = \"path\", rate = \"1/h\", status = 503 }]",
    );
    let mut client = proxy.connect();
    let status = |client: &mut Client, path: &str| client.get(path).status();
    assert_eq!(status(&mut client, "/a"), 200);
    for _ in 0..20 {
        assert_eq!(status(&mut client, "/a"), 503);
    }
    // Of the five of the wide one, four are left.
    let others: Vec<u16> = (0..5).map(|n| status(&mut client, &format!("/{n}"))).collect();
    assert_eq!(others, [200, 200, 200, 200, 429]);
}

#[test]
fn requests_are_told_apart_by_what_is_named() {
    let ask =
        |proxy: &Proxy, head: &str| proxy.ask(format!("GET /p?{head}\r\nConnection: close\r\n\r\n")).status();
    let cases = [
        ("header:x-key", "q=1 HTTP/1.1\r\nHost: a\r\nX-Key: 1", "q=1 HTTP/1.1\r\nHost: a\r\nX-Key: 2"),
        (
            "cookie:sid",
            "q=1 HTTP/1.1\r\nHost: a\r\nCookie: a=b; sid=1",
            "q=1 HTTP/1.1\r\nHost: a\r\nCookie: sid=2",
        ),
        ("query:q", "q=1 HTTP/1.1\r\nHost: a", "q=2 HTTP/1.1\r\nHost: a"),
        ("host", "q=1 HTTP/1.1\r\nHost: A:80", "q=1 HTTP/1.1\r\nHost: b"),
        (
            "source",
            "q=1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8::1",
            "q=1 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8:0:1::1",
        ),
    ];
    for (key, one, other) in cases {
        let origin = Origin::saying("ok");
        let route = format!(
            "[[route]]\nname = \"all\"\npool = \"main\"\nrate_limit = {{ key = \"{key}\", rate = \"1/h\" }}\n"
        );
        let proxy = Setup::http(&[origin.address()])
            .routes(&route)
            .listener("trusted_proxies = [\"127.0.0.0/8\"]")
            .start();
        let got = [one, one, other, other].map(|head| ask(&proxy, head));
        assert_eq!(got, [200, 429, 200, 429], "{key}");
        if key == "source" {
            assert_eq!(ask(&proxy, &one.replace("::1", "::2:3")), 429, "the same /64");
        }
        if key.contains(':') {
            let without = "x HTTP/1.1\r\nHost: a";
            assert_eq!([ask(&proxy, without), ask(&proxy, without)], [200, 200], "{key}");
        }
    }
}

#[test]
fn a_drop_says_nothing_and_a_count_stops_nothing() {
    let (_origin, proxy) = limited("{ rate = \"1/h\", on_limit = \"drop\" }");
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    client.say(GET);
    client.expect_end();
    let records = proxy.records(2);
    assert!(
        records.iter().any(|record| record["end"] == "rate_limited" && record["status"] == 0),
        "{records:?}"
    );
    let (origin, proxy) = limited("{ rate = \"1/h\", on_limit = \"count\" }");
    let mut client = proxy.connect();
    for _ in 0..5 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(origin.seen().len(), 5);
    proxy.until_metric("plimsoll_rate_limit_requests_total", "counted", 4.0);
}

#[test]
fn a_tarpit_holds_only_so_many() {
    let (_origin, proxy) = limited(
        "{ rate = \"1/h\", on_limit = \"tarpit\", tarpit = \"700ms\", tarpit_max = 2, status = 503 }",
    );
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.connect()).collect();
    assert_eq!(clients[3].get("/").status(), 200);
    let start = Moment::now();
    for client in &mut clients[..2] {
        client.say(GET);
    }
    until("two to be held", || (proxy.metric("plimsoll_rate_limit_held", "all") >= 2.0).then_some(()));
    assert_eq!(clients[2].get("/").status(), 503);
    let third = start.elapsed();
    for client in &mut clients[..2] {
        assert_eq!(client.answer().status(), 503);
    }
    assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
    assert!(third < Duration::from_millis(700), "the third was held too");
    proxy.until_metric("plimsoll_rate_limit_held", "all", 0.0);
    assert!(proxy.metric("plimsoll_limit_hits_total", "tarpit_max") >= 1.0);
    let limit = &proxy.admin_json("/v1/limits")["rate_limits"][0];
    assert_eq!((limit["tarpitted"].as_u64(), limit["tarpit_full"].as_u64()), (Some(2), Some(1)), "{limit}");
}

#[test]
fn a_client_that_leaves_the_tarpit_frees_its_place() {
    let (_origin, proxy) = limited("{ rate = \"1/h\", on_limit = \"tarpit\", tarpit = \"1h\" }");
    assert_eq!(proxy.get("/").status(), 200);
    let mut client = proxy.connect();
    client.say(GET);
    until("it to be held", || (proxy.metric("plimsoll_rate_limit_held", "all") >= 1.0).then_some(()));
    drop(client);
    proxy.until_metric("plimsoll_rate_limit_held", "all", 0.0);
}

#[test]
fn streams_of_one_connection_are_limited_each_for_itself() {
    let origin = Origin::saying("ok");
    let routes = "[[route]]\nname = \"all\"\npool = \"main\"\nrate_limit = { rate = \"1/h\", burst = 2 }\n\
         [[route]]\nname = \"drop\"\npath = \"/drop\"\npool = \"main\"\n\
         rate_limit = { rate = \"1/h\", on_limit = \"drop\" }\n";
    let proxy = Setup::http(&[origin.address()]).routes(routes).listener("h2c = true").start();
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        for want in [200, 200, 200, 429] {
            let answer = session.get("/").await;
            assert_eq!(answer.status, want);
            assert_eq!(answer.headers.contains_key("retry-after"), want == 429);
        }
    });
    let mut frames = Frames::connect(proxy.web);
    frames.ask(1, &http2::get("/drop"));
    assert_eq!(frames.outcome(1), Outcome::Answer(200, b"ok".to_vec()));
    frames.ask(3, &http2::get("/drop"));
    assert_eq!(frames.outcome(3), Outcome::Reset(11), "ENHANCE_YOUR_CALM");
}

#[test]
fn a_reload_forgets_nothing() {
    let (_origin, proxy) = limited("{ name = \"kept\", rate = \"1/h\", burst = 9 }");
    let mut client = proxy.connect();
    assert_eq!(passed(&together(&mut client, 6)), 6);
    let reload = |from: &str, to: &str| {
        let file = proxy.directory.join("plimsoll.toml");
        let text = std::fs::read_to_string(&file).expect("a configuration");
        std::fs::write(&file, text.replace(from, to)).expect("it can be written");
        assert_eq!(proxy.admin_change("POST", "/v1/reload", "").status(), 200);
    };
    // Another route in front, another size and another burst: four of ten are left, and three more.
    reload("[[route]]", "[[route]]\nname = \"other\"\npath = \"/x\"\nrespond = { status = 204 }\n[[route]]");
    reload("burst = 9", "burst = 12, size = 77");
    assert_eq!(passed(&together(&mut client, 20)), 7);
    // The same hours are due at another rate: of an empty bucket of twelve hours six are left at half of it.
    reload("1/h", "2/h");
    assert_eq!(client.get("/").status(), 429);
    reload("name = \"kept\", ", "name = \"kept\", key = \"global\", ");
    assert_eq!(client.get("/").status(), 200, "by another key it is another count");
}

#[test]
fn so_many_of_one_key_are_under_way_and_no_more() {
    let origin = crate::harness::moody::Moody::saying("ok");
    let route = "[[route]]\nname = \"all\"\npool = \"main\"\n\
         concurrency_limit = { key = \"header:x-key\", max = 2, status = 503 }\n";
    let proxy = Setup::http(&[origin.address()]).routes(route).start();
    let ask = |key: &str| {
        let mut client = proxy.connect();
        client.say(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n"));
        client
    };
    origin.hangs();
    let mut held = [ask("a"), ask("a")];
    until("both to be under way", || (origin.asked() == 2).then_some(()));
    let refused = ask("a").answer();
    assert_eq!((refused.status(), refused.field("retry-after").as_deref()), (503, Some("1")));
    let other = ask("b");
    until("another key to be under way", || (origin.asked() == 3).then_some(()));
    assert!(proxy.metric("plimsoll_concurrency_limit_keys", "all") >= 2.0);
    drop(other);
    // One that leaves frees its place, and so does one that is answered.
    let [first, second] = &mut held;
    drop(std::mem::replace(first, ask("none")));
    let mut next = None;
    until("a place to be free", || {
        let mut client = ask("a");
        let refused = !client.silent_for(Duration::from_millis(200));
        next = (!refused).then_some(client);
        next.as_ref().map(|_| ())
    });
    origin.answers(200);
    assert_eq!(second.answer().status(), 200);
    proxy.until_metric("plimsoll_concurrency_limit_keys", "all", 0.0);
    assert!(proxy.records(4).iter().any(|record| record["end"] == "concurrency_limited"));
}

#[test]
fn the_admin_api_shows_the_tables() {
    let (_origin, proxy) =
        limited("{ name = \"shown\", key = [\"source\", \"path\"], rate = \"1/h\", size = 77 }");
    let mut client = proxy.connect();
    for path in ["/a", "/b", "/a"] {
        client.get(path);
    }
    let limits = proxy.admin_json("/v1/limits");
    let shown = &limits["rate_limits"][0];
    assert_eq!((&shown["name"], &shown["key"]), (&"shown".into(), &"source + path".into()), "{limits}");
    let number = |key: &str| shown[key].as_u64();
    assert_eq!((number("entries"), number("size")), (Some(2), Some(77)), "{limits}");
    assert_eq!((number("passed"), number("rejected")), (Some(2), Some(1)), "{limits}");
}

#[test]
fn another_spelling_of_a_path_is_no_other_key() {
    let (_origin, proxy) = limited("{ key = [\"source\", \"path\"], rate = \"1/h\" }");
    let mut client = proxy.connect();
    let mut ask = |path: &str| {
        client.say(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.answer().status()
    };
    assert_eq!(ask("/login"), 200);
    for path in ["/login", "//login", "/./login", "/%6cogin", "/x/../login"] {
        assert_eq!(ask(path), 429, "{path}");
    }
    assert_eq!(ask("/other"), 200);
}

#[test]
fn what_has_been_spent_stays_spent_over_an_upgrade() {
    let origin = Origin::saying("ok");
    let route = "[[route]]\nname = \"all\"\npool = \"main\"\n\
                 rate_limit = { key = \"header:x-user\", rate = \"1/h\", burst = 3 }\n";
    let mut proxy = Setup::http(&[origin.address()]).routes(route).linked().start();
    let ask = |proxy: &Proxy, user: &str| {
        proxy
            .ask(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-User: {user}\r\n\r\n"))
            .status()
    };
    let spend = |proxy: &Proxy, user: &str, times: usize| -> Vec<u16> {
        (0..times).map(|_| ask(proxy, user)).collect()
    };
    assert_eq!(spend(&proxy, "spent", 5), [200, 200, 200, 200, 429]);
    assert_eq!(spend(&proxy, "half", 2), [200, 200]);
    proxy.upgrade();
    assert_eq!(spend(&proxy, "spent", 1), [429]);
    assert_eq!(spend(&proxy, "half", 3), [200, 200, 429]);
    assert_eq!(spend(&proxy, "new", 5), [200, 200, 200, 200, 429]);
}
