//! Sticky cookies by what clients and endpoints see: who is told what, once, and where that leads.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use rustix::process::Signal;

use crate::harness::http2::{self, Session, request};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command, own_directory};
use crate::harness::tls::Authority;
use crate::harness::until;
use crate::harness::wire::Message;

pub(crate) const NAMES: [&str; 3] = ["s1", "s2", "s3"];

pub(crate) fn three() -> Vec<Origin> {
    NAMES.into_iter().map(Origin::saying).collect()
}

/// Endpoints by name, in this order.
pub(crate) fn named(origins: &[Origin], order: &[usize]) -> String {
    let one =
        |at: &usize| format!("{{ name = \"{}\", address = \"{}\" }}", NAMES[*at], origins[*at].address());
    order.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn sticky(origins: &[Origin], more: &str) -> Setup {
    Setup::listed(&named(origins, &[0, 1, 2])).pool(&format!("sticky = {{ {more} }}"))
}

/// A GET with this cookie field, if it is not empty.
pub(crate) fn ask(proxy: &Proxy, cookies: &str) -> Message {
    let field = if cookies.is_empty() { String::new() } else { format!("Cookie: {cookies}\r\n") };
    proxy.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n"))
}

/// The cookie that an answer hands out, as the client sends it back.
pub(crate) fn cookie(answer: &Message) -> Option<String> {
    let set = answer.fields("set-cookie");
    assert!(set.len() <= 1, "{set:?}");
    set.first().map(|set| set.split(';').next().expect("a pair").to_owned())
}

/// A client that has been told where it belongs: its cookie, and who that is.
pub(crate) fn told(proxy: &Proxy) -> (String, String) {
    let answer = ask(proxy, "");
    assert_eq!(answer.status(), 200);
    (cookie(&answer).expect("a cookie"), answer.text())
}

/// A client that belongs to this endpoint.
fn told_to(proxy: &Proxy, name: &str) -> String {
    until("a client of the endpoint", || Some(told(proxy)).filter(|(_, who)| who == name)).0
}

/// Who answers a client with this cookie, which is told nothing.
pub(crate) fn who(proxy: &Proxy, cookies: &str) -> String {
    let answer = ask(proxy, cookies);
    assert_eq!((answer.status(), cookie(&answer)), (200, None), "nothing is new to it");
    answer.text()
}

pub(crate) fn rewrite(proxy: &Proxy, from: &str, to: &str) {
    let file = proxy.directory.join("plimsoll.toml");
    let text = fs::read_to_string(&file).expect("its configuration");
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).expect("it can be written");
}

pub(crate) fn reload(proxy: &Proxy) {
    let before = proxy.metric("plimsoll_config_generation", "");
    proxy.signal(Signal::HUP);
    proxy.until_metric("plimsoll_config_generation", "", before + 1.0);
}

fn keys(path: &Path, keys: &[&str]) {
    fs::write(path, keys.join("\n")).expect("a file of keys");
}

const OLD: &str = "the old key, of which nobody else knows";
const NEW: &str = "the new key, of which nobody else knows";

#[test]
fn a_client_is_told_once_and_stays() {
    let origins = three();
    let proxy = sticky(&origins, "").start();
    let mut used = Vec::new();
    for _ in 0..12 {
        let answer = ask(&proxy, "");
        let set = answer.field("set-cookie").expect("a cookie");
        let (pair, attributes) = set.split_once(';').expect("attributes");
        assert!(pair.starts_with("plimsoll_main=v1."), "{set}");
        assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax", "a session cookie; not secure without TLS");
        assert_eq!(answer.field("cache-control").as_deref(), Some("private"));
        for origin in &origins {
            assert!(!set.contains(&origin.address().port().to_string()), "no address in {set}");
        }
        let name = answer.text();
        for _ in 0..3 {
            assert_eq!(who(&proxy, pair), name);
        }
        used.push(name);
    }
    assert!(NAMES.iter().all(|name| used.iter().any(|used| used == name)), "{used:?}");
    let count = |result: &str| proxy.metric("plimsoll_pool_sticky_total", &format!("result=\"{result}\""));
    assert_eq!([count("new"), count("kept"), count("moved"), count("void")], [12.0, 36.0, 0.0, 0.0]);
    assert_eq!(proxy.metric("plimsoll_pool_sticky_cookies_total", "main"), 12.0);
}

#[test]
fn endpoints_see_every_cookie_but_this_one() {
    let origin = Origin::saying("s1");
    let proxy = Setup::http(&[origin.address()]).pool("sticky = {}").start();
    let (own, _) = told(&proxy);
    let seen = |place: usize| origin.request(place).fields("cookie");
    assert_eq!(seen(0), Vec::<String>::new());
    who(&proxy, &own);
    assert_eq!(seen(1), Vec::<String>::new());
    who(&proxy, &format!("a=1; {own}; b=\"2\""));
    assert_eq!(seen(2), ["a=1; b=\"2\""]);
    ask(&proxy, "a=1; plimsoll_main=forged");
    assert_eq!(seen(3), ["a=1"]);
    ask(&proxy, "a=1;b=2");
    assert_eq!(seen(4), ["a=1;b=2"]);
}

#[test]
fn what_a_cookie_says_of_itself_is_as_written() {
    let origin = Origin::replying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: own=1\r\nCache-Control: public, max-age=60\r\n\r\nok",
    );
    let proxy = Setup::http(&[origin.address()])
        // `session-cookie-name` and `session-cookie-max-age: "172800"` of ingress-nginx.
        .pool("sticky = { cookie = \"INGRESSCOOKIE\", max_age = \"48h\", path = \"/app\", domain = \"example.com\", same_site = \"strict\", secure = \"always\" }")
        .start();
    let answer = ask(&proxy, "");
    let set = answer.fields("set-cookie");
    assert_eq!(set.len(), 2, "what an endpoint sets stays");
    assert_eq!(set[0], "own=1");
    let (pair, attributes) = set[1].split_once(';').expect("attributes");
    assert!(pair.starts_with("INGRESSCOOKIE=v1."));
    assert_eq!(
        attributes,
        " Path=/app; Domain=example.com; Max-Age=172800; HttpOnly; SameSite=Strict; Secure"
    );
    assert_eq!(answer.fields("cache-control"), ["private, max-age=60"], "no shared cache hands it on");
    let again = ask(&proxy, pair);
    assert_eq!(again.fields("set-cookie"), ["own=1"]);
    assert_eq!(again.fields("cache-control"), ["public, max-age=60"], "which matters only when one is set");
}

#[test]
fn what_is_forged_cut_short_too_long_or_of_another_pool_counts_for_nothing() {
    let origins = three();
    let other = Origin::saying("other");
    let proxy = sticky(&origins, "cookie = \"SRV\"")
        .text(&format!(
            "[pool.other]\nendpoints = [\"{}\"]\nsticky = {{ cookie = \"SRV\" }}",
            other.address()
        ))
        .routes("[[route]]\nhost = \"b\"\npool = \"other\"\n[[route]]\npool = \"main\"\n")
        .start();
    let (own, _) = told(&proxy);
    let foreign = proxy.ask("GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n");
    let foreign = cookie(&foreign).expect("a cookie");
    let mut flipped = own.clone().into_bytes();
    let last = flipped.len() - 1;
    flipped[last] = if flipped[last] == b'A' { b'Q' } else { b'A' };
    let long = format!("SRV=v1.{}", "A".repeat(10_000));
    let forged = [
        String::from_utf8(flipped).expect("text"),
        own[..own.len() - 1].to_owned(),
        format!("{own}A"),
        long,
        foreign,
        "SRV=".to_owned(),
        "SRV=v1.AAAA..".to_owned(),
        "SRV=\"\"".to_owned(),
    ];
    for (count, forged) in forged.iter().enumerate() {
        let answer = ask(&proxy, forged);
        assert_eq!(answer.status(), 200, "{forged}");
        assert!(cookie(&answer).is_some(), "it is as if it had none: {forged}");
        let void = proxy.metric("plimsoll_pool_sticky_total", "pool=\"main\",result=\"void\"");
        assert_eq!(void, count as f64 + 1.0, "{forged}");
    }
}

#[test]
fn nodes_with_one_file_of_keys_take_each_others_cookies_and_keys_can_be_changed_under_way() {
    let origins = three();
    let file = own_directory().join("sticky.key");
    keys(&file, &[OLD]);
    let more = format!("key_file = \"{}\"", file.display());
    let (one, two) = (sticky(&origins, &more).start(), sticky(&origins, &more).start());
    let clients: Vec<_> = (0..8).map(|_| told(&one)).collect();
    for (cookie, name) in &clients {
        assert_eq!(who(&two, cookie), *name);
    }
    // First both know the new one, then both sign by it, then the old one goes.
    for known in [&[OLD, NEW][..], &[NEW, OLD]] {
        keys(&file, known);
        let (config, admin) = (one.directory.join("plimsoll.toml"), one.admin.to_string());
        let plan = command(&["plan", &config.display().to_string(), "--admin", &admin]);
        let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
        assert!(plan.contains("sticky: its keys are others now"), "{plan}");
        for node in [&one, &two] {
            reload(node);
            for (cookie, name) in &clients {
                assert_eq!(who(node, cookie), *name, "{known:?}");
            }
        }
    }
    let (fresh, name) = told(&one);
    keys(&file, &[NEW]);
    reload(&two);
    assert_eq!(who(&two, &fresh), name);
    assert!(cookie(&ask(&two, &clients[0].0)).is_some(), "nobody knows the old key any more");
    // A file that cannot be used changes nothing.
    keys(&file, &["short"]);
    two.signal(Signal::HUP);
    until("the reload to be refused", || {
        (two.metric("plimsoll_reloads_total", "failed") == 1.0).then_some(())
    });
    assert_eq!(who(&two, &fresh), name);
}

#[test]
fn a_key_of_our_own_outlives_reloads_and_upgrades_and_with_a_state_dir_the_process() {
    let origins = three();
    let mut proxy = sticky(&origins, "").linked().start();
    let clients: Vec<_> = (0..6).map(|_| told(&proxy)).collect();
    let stay =
        |proxy: &Proxy| clients.iter().for_each(|(cookie, name)| assert_eq!(who(proxy, cookie), *name));
    reload(&proxy);
    stay(&proxy);
    proxy.upgrade();
    stay(&proxy);
    drop(proxy);

    let state = own_directory();
    let with = || sticky(&origins, "").process(&format!("state_dir = \"{}\"", state.display()));
    let first = with().start();
    let (cookie, name) = told(&first);
    drop(first);
    assert_eq!(who(&with().start(), &cookie), name);
    // The file is nobody else's to read.
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(state.join("keys/sticky")).expect("the key").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn who_is_added_or_moved_in_a_file_moves_nobody() {
    let origins = three();
    let proxy = Setup::listed(&named(&origins, &[0, 1])).pool("sticky = {}").start();
    let clients: Vec<_> = (0..6).map(|_| told(&proxy)).collect();
    rewrite(&proxy, &named(&origins, &[0, 1]), &named(&origins, &[2, 1, 0]));
    reload(&proxy);
    for (cookie, name) in &clients {
        assert_eq!(who(&proxy, cookie), *name);
    }
    // Who has gone is gone: its clients are bound anew.
    rewrite(&proxy, &named(&origins, &[2, 1, 0]), &named(&origins, &[2, 1]));
    reload(&proxy);
    for (own, name) in &clients {
        let answer = ask(&proxy, own);
        assert_eq!(cookie(&answer).is_some(), name == "s1", "{name}");
        assert_ne!(answer.text(), "s1");
    }
}

#[test]
fn an_attempt_that_failed_binds_its_client_anew_and_once() {
    let origins = three();
    let proxy = sticky(&origins, "").start();
    let own = told_to(&proxy, "s2");
    origins[1].stop();
    let answer = ask(&proxy, &own);
    assert_eq!(answer.status(), 200, "the client does not notice");
    let (fresh, name) = (cookie(&answer).expect("a new cookie"), answer.text());
    assert_ne!(name, "s2");
    for _ in 0..5 {
        assert_eq!(who(&proxy, &fresh), name);
    }
    assert_eq!(proxy.metric("plimsoll_pool_sticky_total", "result=\"moved\""), 1.0);
}

#[test]
fn where_that_is_wanted_a_client_fails_rather_than_move() {
    let origins = three();
    let proxy = sticky(&origins, "when_down = \"fail\"").start();
    let own = told_to(&proxy, "s2");
    origins[1].stop();
    for _ in 0..4 {
        let answer = ask(&proxy, &own);
        assert_eq!((answer.status(), cookie(&answer)), (503, None));
    }
    assert_eq!(ask(&proxy, "").status(), 200, "others are balanced");
}

#[test]
fn a_drained_endpoint_keeps_its_clients_for_a_while_and_one_in_maintenance_does_not() {
    let origins = three();
    let proxy = sticky(&origins, "").pool("drain_timeout = \"2s\"").start();
    let own = told_to(&proxy, "s1");
    let set = |state: &str| {
        let answer = proxy.admin_change(
            "PATCH",
            "/v1/pools/main/endpoints/s1",
            &format!("{{\"admin_state\": \"{state}\"}}"),
        );
        assert_eq!(answer.status(), 200);
    };
    set("drain");
    assert_eq!(who(&proxy, &own), "s1");
    for _ in 0..8 {
        assert_ne!(ask(&proxy, "").text(), "s1", "nobody new comes to it");
    }
    let moved =
        until("the time to be over", || Some(ask(&proxy, &own)).filter(|answer| answer.text() != "s1"));
    assert!(cookie(&moved).is_some());
    set("ready");
    assert_eq!(who(&proxy, &own), "s1");
    set("maintenance");
    assert_ne!(ask(&proxy, &own).text(), "s1");
}

#[test]
fn an_endpoint_without_weight_keeps_its_clients() {
    let origins = three();
    let proxy = sticky(&origins, "").start();
    let own = told_to(&proxy, "s1");
    let answer = proxy.admin_change("PATCH", "/v1/pools/main/endpoints/s1", "{\"weight\": 0}");
    assert_eq!(answer.status(), 200);
    assert_eq!(who(&proxy, &own), "s1");
    for _ in 0..8 {
        assert_ne!(ask(&proxy, "").text(), "s1");
    }
}

/// An origin that answers with this, but holds what asks for `/hold` until its client goes.
fn holding(name: &'static str) -> Origin {
    Origin::start(move |mut session| {
        while let Some(request) = session.request()? {
            if request.path() == "/hold" {
                session.wire.at_end();
                return Ok(());
            }
            session.ok(name)?;
        }
        Ok(())
    })
}

#[test]
fn a_client_waits_for_its_endpoint_while_others_go_past_it() {
    let held = holding("s1");
    let free = Origin::saying("s2");
    let proxy = Setup::http(&[held.address(), free.address()])
        .pool("sticky = {}")
        .text("[pool.main.limits]\nmax_requests = 1\nqueue = 10\nqueue_timeout = \"20s\"")
        .start();
    let own = told_to(&proxy, "s1");
    let mut holder = proxy.connect();
    holder.say(format!("GET /hold HTTP/1.1\r\nHost: a\r\nCookie: {own}\r\n\r\n"));
    until("it to be held", || held.seen().iter().any(|seen| seen.path() == "/hold").then_some(()));
    let (address, waiting) = (proxy.web, own);
    let waiter = thread::spawn(move || {
        crate::harness::client::ask(
            address,
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {waiting}\r\n\r\n"),
        )
    });
    proxy.until_metric("plimsoll_pool_queue_length", "main", 1.0);
    for _ in 0..4 {
        assert_eq!(ask(&proxy, "").text(), "s2", "others do not wait behind it");
    }
    drop(holder);
    let answer = waiter.join().expect("an answer");
    assert_eq!((answer.text().as_str(), cookie(&answer)), ("s1", None));
}

#[test]
fn a_client_that_waits_for_an_endpoint_that_goes_is_served_elsewhere() {
    let held = holding("s1");
    let free = Origin::saying("s2");
    let names = [held.address(), free.address()].map(|address: SocketAddr| address.to_string());
    let proxy = Setup::http(&[held.address(), free.address()])
        .pool("sticky = {}")
        .text("[pool.main.limits]\nmax_requests = 1\nqueue = 10\nqueue_timeout = \"20s\"")
        .start();
    let own = told_to(&proxy, "s1");
    let mut holder = proxy.connect();
    holder.say(format!("GET /hold HTTP/1.1\r\nHost: a\r\nCookie: {own}\r\n\r\n"));
    until("it to be held", || held.seen().iter().any(|seen| seen.path() == "/hold").then_some(()));
    let address = proxy.web;
    let waiter = thread::spawn(move || {
        crate::harness::client::ask(
            address,
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: {own}\r\n\r\n"),
        )
    });
    proxy.until_metric("plimsoll_pool_queue_length", "main", 1.0);
    let path = format!("/v1/pools/main/endpoints/{}", names[0].replace(':', "%3A"));
    assert_eq!(proxy.admin_change("PATCH", &path, "{\"admin_state\": \"maintenance\"}").status(), 200);
    let answer = waiter.join().expect("an answer");
    assert_eq!(answer.text(), "s2");
    assert!(cookie(&answer).is_some(), "and belongs there now");
}

#[test]
fn over_http2_it_is_the_same() {
    let origins = three();
    let proxy = sticky(&origins, "").listener("h2c = true").start();
    let (own, name) = told(&proxy);
    http2::run(async {
        let mut session = Session::connect(proxy.web).await;
        let mut asked = request("GET", "/");
        for crumb in ["a=1", own.as_str(), "b=2"] {
            asked.headers_mut().append("cookie", crumb.parse().expect("a value"));
        }
        let answer = session.ask(asked).await.expect("an answer");
        assert_eq!(answer.text(), name);
        assert!(!answer.headers.contains_key("set-cookie"));
        let fresh = session.get("/").await;
        let set = fresh.headers.get("set-cookie").expect("a cookie").to_str().expect("text").to_owned();
        assert_eq!(fresh.headers.get("cache-control").expect("a field"), "private");
        let pair = set.split(';').next().expect("a pair");
        assert_eq!(who(&proxy, pair), fresh.text(), "which counts over HTTP/1 too");
    });
    let crumbs = origins.iter().flat_map(Origin::seen).flat_map(|seen| seen.fields("cookie"));
    assert!(crumbs.eq(["a=1; b=2"]));
}

#[test]
fn who_had_to_go_elsewhere_comes_home_as_told() {
    for (how, comes_home) in [
        ("failback = \"stay\"", false),
        ("failback = \"idle\", max_idle = \"1s\"", true),
        ("failback = \"expiry\", max_age = \"1s\"", true),
    ] {
        let home = Origin::saying("home");
        let away = Origin::saying("away");
        let proxy = Setup::http(&[home.address()])
            .pool("failover = [\"dr\"]\nfailback = { after = \"0s\", ramp = \"0s\" }\noutlier = \"off\"")
            .pool(&format!("sticky = {{ {how} }}"))
            .text(&format!("[pool.dr]\nendpoints = [\"{}\"]", away.address()))
            .start();
        let address = home.address();
        home.stop();
        let (own, name) = told(&proxy);
        assert_eq!(name, "away", "{how}");
        drop(home);
        let std::net::IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
        let _again = Origin::start_at(ip, address.port(), |mut session| {
            while session.request()?.is_some() {
                session.ok("home")?;
            }
            Ok(())
        });
        until("newcomers to be at home", || (ask(&proxy, "").text() == "home").then_some(()));
        if comes_home {
            let back = until("the client to come home", || {
                Some(ask(&proxy, &own)).filter(|answer| answer.text() == "home")
            });
            assert!(cookie(&back).is_some(), "{how}");
        } else {
            for _ in 0..5 {
                assert_eq!(who(&proxy, &own), "away", "{how}");
            }
        }
    }
}

#[test]
fn on_tls_a_cookie_is_for_tls_alone() {
    let authority = Authority::new();
    authority.sign("a", &["a.test"]);
    let origin = Origin::saying("ok");
    let tls = format!("tls = {{ certificates = [{}] }}", authority.listed("a", ""));
    let proxy = Setup::http(&[origin.address()]).listener(&tls).pool("sticky = {}").start();
    let answer = authority.trusting().build().get(proxy.web, "a.test", "a.test").expect("an answer");
    let set = answer.lines().find(|line| line.to_lowercase().starts_with("set-cookie: ")).expect("a cookie");
    assert!(set.trim_end().ends_with("; HttpOnly; SameSite=Lax; Secure"), "{set}");
}
