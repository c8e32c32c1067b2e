//! The directives of the nginx.conf, the haproxy.cfg and the ingress that Plimsoll takes the place of, each with its own
//! numbers. `tests/README.md` has the table of all of them, with those that other files show.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::client::Client;
use crate::harness::clock::{Moment, pause};
use crate::harness::member::{Member, addresses, probes};
use crate::harness::moody::Moody;
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::harness::{free_port, own_ip, until};

/// `least_conn` over two servers and a `backup`.
fn upstream(servers: &[SocketAddr; 3], more: &str) -> Proxy {
    let [one, two, backup] = servers;
    Setup::listed(&format!("\"{one}\", \"{two}\", {{ address = \"{backup}\", tier = 1 }}"))
        .pool("balance = \"least_requests\"")
        .text(more)
        .start()
}

/// Waits longer than `until` does.
fn patiently<T>(what: &str, most: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Moment::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(most), "waited {most} s for {what}");
        pause(Duration::from_millis(50));
    }
}

/// The first line of what comes, and how long it took: for waits that are longer than any other's.
fn first_line(to: SocketAddr, request: &str) -> (String, Duration) {
    let start = Moment::now();
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(90))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n") && stream.read(&mut byte).expect("an answer in time") > 0 {
        bytes.extend(byte);
    }
    (String::from_utf8_lossy(&bytes).trim_end().to_owned(), start.elapsed())
}

/// Fails unless an answer of this status took so many seconds and hardly more.
#[track_caller]
fn check((line, took): (String, Duration), status: u16, seconds: u64) {
    assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}");
    let bounds = Duration::from_secs(seconds)..Duration::from_secs(seconds + 3);
    assert!(bounds.contains(&took), "{took:?} in place of {seconds} s");
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

/// Takes connections and what they bring for as long as the process lives, and never answers.
fn mute() -> SocketAddr {
    let listener = TcpListener::bind((own_ip(), 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<TcpStream>>());
    address
}

fn silent() -> Origin {
    Origin::start(|mut session| {
        session.request()?;
        session.wire.at_end();
        Ok(())
    })
}

/// In one test, side by side: each of them waits for most of a minute.
#[test]
fn the_times_of_all_three_are_kept_to_the_second() {
    thread::scope(|scope| {
        scope.spawn(max_fails_3_fail_timeout_30s);
        scope.spawn(check_inter_5s_rise_2_fall_3);
        scope.spawn(connect_5s);
        scope.spawn(read_10s_50s_and_60s);
        scope.spawn(client_50s);
    });
}

fn max_fails_3_fail_timeout_30s() {
    let (sick, good) = (Moody::saying("sick"), Origin::saying("good"));
    sick.breaks();
    let proxy = Setup::http(&[sick.address(), good.address()])
        .pool("balance = \"first\"")
        .text("[pool.main.outlier]\nmax_fails = 3\nfail_timeout = \"30s\"")
        .start();
    for times in 1..=3 {
        assert_eq!(sick.asked(), times - 1);
        assert_eq!(proxy.get("/").text(), "good");
    }
    let banned = Moment::now();
    patiently("one trial", 40, || {
        assert_eq!(proxy.get("/").text(), "good");
        (sick.asked() > 3).then_some(())
    });
    assert_eq!(sick.asked(), 4, "one request is let through");
    assert!(banned.elapsed() >= Duration::from_secs(29), "{:?}", banned.elapsed());
}

/// HAProxy's `inter 5s rise 2 fall 3` with `option httpchk GET /health` and `expect status 200`; the same as nginx's
/// `health_check interval=5 passes=2 fails=3`.
fn check_inter_5s_rise_2_fall_3() {
    let (one, two) = (Member::http(), Member::http());
    let keys = "interval = \"5s\"\nfast_interval = \"5s\"\ndown_interval = \"5s\"\njitter = 0.0\nrise = 2\nfall = 3\n\
                method = \"GET\"\nexpect_status = [\"200\"]";
    let proxy = Setup::http(&addresses(&[&one, &two])).text(&probes(keys)).start();
    let state = || proxy.endpoint("main", &one.name())["probe"]["state"].clone();
    proxy.until_endpoint("main", &one.name(), "probe.state", "up");
    for (status, becomes, results, least, most) in [(204, "says no", 3, 10, 16), (200, "up", 2, 5, 11)] {
        let (before, start) = (one.asked(), Moment::now());
        one.says(status);
        let asked = patiently(becomes, 30, || {
            // Counted first: what comes between the two is too early for the state.
            let asked = one.asked() - before;
            (state() == becomes).then_some(asked)
        });
        assert!((results - 1..=results).contains(&asked), "{asked} results in place of {results}");
        let took = start.elapsed();
        assert!((least..=most).contains(&took.as_secs()), "{becomes} after {took:?}");
    }
    assert_eq!(two.asked(), one.asked(), "the other has been asked as often");
}

/// `proxy_connect_timeout 5s`, `timeout connect 5000ms`, `proxy-connect-timeout: "5"`.
fn connect_5s() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&SocketAddr::from((own_ip(), 0)).into()).expect("a port");
    full.listen(0).expect("a listener");
    let address = full.local_addr().expect("an address").as_socket().expect("an IP address");
    let filling: Vec<_> =
        (0..3).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    assert!(filling.iter().any(Result::is_err), "the backlog is not full");
    // A lone endpoint would be asked again.
    let keys = "[pool.main.timeouts]\nconnect = \"5s\"\n[pool.main.retry]\nattempts = 1";
    let proxy = Setup::http(&[address]).text(keys).start();
    check(first_line(proxy.web, &get("/")), 503, 5);
}

/// `proxy_read_timeout 10s` of one location and 60s of the other, and `timeout server 50000ms`.
fn read_10s_50s_and_60s() {
    let route = |name: &str, keys: &str| format!("[[route]]\nname = \"{name}\"\npool = \"main\"\n{keys}\n");
    let routes = [
        route("health", "path_prefix = \"/health\"\ntimeouts = { response_header = \"10s\" }"),
        route("haproxy", "path_prefix = \"/haproxy\"\ntimeouts = { response_header = \"50s\" }"),
        route("all", ""),
    ];
    let proxy = Setup::http(&[mute()])
        .routes(&routes.concat())
        .text("[pool.main.timeouts]\nresponse_header = \"60s\"\n[pool.main.retry]\nattempts = 1")
        .start();
    thread::scope(|scope| {
        for (path, seconds) in [("/health", 10), ("/haproxy", 50), ("/", 60)] {
            let to = proxy.web;
            scope.spawn(move || check(first_line(to, &get(path)), 504, seconds));
        }
    });
}

/// `timeout client 50000ms`.
fn client_50s() {
    let proxy = Setup::http(&[mute()]).text("[listener.web.timeouts]\nclient_idle = \"50s\"").start();
    let stalled = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    check(first_line(proxy.web, stalled), 408, 50);
}

#[test]
fn least_conn_prefers_the_server_with_fewer_requests_and_never_the_backup() {
    let held = Arc::new(Barrier::new(2));
    let release = Arc::clone(&held);
    let busy = Origin::start(move |mut session| {
        while let Some(request) = session.request()? {
            if request.path() == "/held" {
                held.wait();
            }
            session.ok("busy")?;
        }
        Ok(())
    });
    let (free, backup) = (Origin::saying("free"), Origin::saying("backup"));
    let proxy = upstream(&[busy.address(), free.address(), backup.address()], "");
    let mut waiting = until("a request to wait at the first", || {
        let mut client = proxy.connect();
        let before = free.seen().len();
        client.say("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
        until("it to arrive", || (!busy.seen().is_empty() || free.seen().len() > before).then_some(()));
        (free.seen().len() == before).then_some(client)
    });
    let mut client = proxy.connect();
    assert!((0..20).all(|_| client.get("/").text() == "free"));
    release.wait();
    assert_eq!(waiting.answer().text(), "busy");
    assert!(backup.seen().is_empty());
}

#[test]
fn a_backup_server_is_used_while_no_other_can_be() {
    let [one, two] = [Moody::saying("one"), Moody::saying("two")];
    let backup = Origin::saying("backup");
    let servers = [one.address(), two.address(), backup.address()];
    // As HAProxy's and nginx's: back at once.
    let proxy = upstream(&servers, "[pool.main.failback]\nafter = \"0s\"\nramp = \"0s\"");
    assert!((0..10).all(|_| proxy.get("/").text() != "backup"));
    one.refuse();
    assert!((0..10).all(|_| proxy.get("/").text() == "two"));
    two.refuse();
    assert!((0..10).all(|_| proxy.get("/").text() == "backup"));
}

#[test]
fn keepalive_32_keeps_so_many_idle_connections() {
    const AT_ONCE: usize = 40;
    let all_here = Arc::new(Barrier::new(AT_ONCE));
    let origin = Origin::start(move |mut session| {
        session.request()?;
        all_here.wait();
        session.ok("ok")?;
        session.wire.at_end();
        Ok(())
    });
    let proxy = Setup::http(&[origin.address()])
        .process("workers = 1")
        .text("[pool.main.limits]\nidle_connections = 32")
        .start();
    let mut clients: Vec<Client> = (0..AT_ONCE).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert!(clients.iter_mut().all(|client| client.answer().text() == "ok"));
    until("the others to close", || (origin.open() == 32).then_some(()));
}

/// What an endpoint with these retries answers and who else was asked: those that fail as `moods` say, then a good one.
fn next_upstream(retry: &str, moods: &[u16]) -> (u16, usize) {
    let sick: Vec<Moody> = moods
        .iter()
        .map(|&mood| {
            let sick = Moody::saying("sick");
            if mood == 0 {
                sick.breaks()
            } else {
                sick.answers(mood)
            }
            sick
        })
        .collect();
    let good = Origin::saying("ok");
    let mut addresses: Vec<SocketAddr> = sick.iter().map(|one| one.address()).collect();
    addresses.push(good.address());
    let proxy = Setup::http(&addresses)
        .pool("balance = \"first\"\noutlier = \"off\"")
        .text(&format!("[pool.main.retry]\n{retry}"))
        .start();
    let status = proxy.get("/").status();
    (status, sick.iter().map(|one| one.asked()).sum())
}

#[test]
fn next_upstream_error_timeout_503_504() {
    let retry = "on = [\"connect\", \"reset\", \"timeout\", \"503\", \"504\"]";
    for mood in [0, 503, 504] {
        assert_eq!(next_upstream(retry, &[mood]), (200, 1), "{mood}");
    }
    for status in [500, 502, 404, 429] {
        assert_eq!(next_upstream(retry, &[status]), (status, 1), "it is not listed");
    }
}

#[test]
fn next_upstream_error_timeout_502_503_tries_3() {
    let retry = "attempts = 3\non = [\"connect\", \"reset\", \"timeout\", \"502\", \"503\"]";
    assert_eq!(next_upstream(retry, &[502, 503]), (200, 2));
    assert_eq!(next_upstream(retry, &[503, 502, 503]), (503, 3), "three tries, and the last answer stands");
    assert_eq!(next_upstream(retry, &[0, 0, 0]), (502, 3));
    assert_eq!(next_upstream(retry, &[504]), (504, 1), "it is not listed");
}

#[test]
fn a_try_that_times_out_goes_on_where_timeouts_are_listed() {
    let (slow, good) = (silent(), Origin::saying("ok"));
    let proxy = Setup::http(&[slow.address(), good.address()])
        .pool("balance = \"first\"")
        .text("[pool.main.timeouts]\nresponse_header = \"500ms\"")
        .text("[pool.main.retry]\nattempts = 3\non = [\"connect\", \"reset\", \"timeout\", \"502\", \"503\"]")
        .start();
    assert_eq!(proxy.get("/").text(), "ok");
    assert_eq!(slow.seen().len(), 1);
}

#[test]
fn endpoints_get_the_fields_that_proxy_set_header_sets() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    let mut client = proxy.connect();
    for place in 0..2 {
        client.say("GET / HTTP/1.1\r\nHost: App.example.com\r\nConnection: keep-alive\r\n\r\n").answer();
        let request = origin.request(place);
        // Host $host, X-Real-IP $remote_addr, X-Forwarded-For, X-Forwarded-Proto $scheme, Connection "".
        assert_eq!(request.fields("host"), ["App.example.com"]);
        assert_eq!(request.fields("x-real-ip"), ["127.0.0.1"]);
        assert_eq!(request.fields("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(request.fields("x-forwarded-proto"), ["http"]);
        assert_eq!(request.fields("connection"), [""; 0]);
        assert!(request.start_line().ends_with("HTTP/1.1"), "proxy_http_version 1.1");
    }
    assert_eq!(origin.accepted(), 1, "one connection carries both");
}

#[test]
fn use_backend_by_source_network_10_8() {
    let (app, health) = (Origin::saying("app"), Origin::saying("health"));
    let proxy = Setup::http(&[app.address()])
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .routes(
            "[[route]]\nname = \"is-health-check\"\nsource = [\"10.0.0.0/8\"]\npool = \"health\"\n\
             [[route]]\nname = \"default_backend\"\npool = \"main\"\n",
        )
        .text(&format!("[pool.health]\nendpoints = [\"{}\"]", health.address()))
        .start();
    for (client, backend) in [
        ("10.0.0.0", "health"),
        ("10.255.255.255", "health"),
        ("9.255.255.255", "app"),
        ("11.0.0.0", "app"),
        ("::ffff:10.1.2.3", "health"),
        ("2001:db8::10", "app"),
    ] {
        let request =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: {client}\r\n\r\n");
        assert_eq!(proxy.ask(request).text(), backend, "{client}");
    }
}

#[test]
fn balance_roundrobin_over_two_servers_and_a_backup() {
    let origins = ["app1", "app2", "app3"].map(Origin::saying);
    let [one, two, backup] = origins.each_ref().map(Origin::address);
    let proxy = Setup::listed(&format!("\"{one}\", \"{two}\", {{ address = \"{backup}\", tier = 1 }}"))
        .pool("balance = \"round_robin\"")
        .start();
    let mut client = proxy.connect();
    let answers: Vec<String> = (0..100).map(|_| client.get("/").text()).collect();
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "by turns");
    assert!(!answers.iter().any(|answer| answer == "app3"));
}

/// A server that refuses connections costs its clients nothing; HAProxy asks the same one again, ours goes on.
#[test]
fn retries_3_after_failed_connects() {
    let good = Origin::saying("ok");
    let dead = [free_port(own_ip()), free_port(own_ip()), free_port(own_ip())];
    let endpoints = [&dead[..], &[good.address()]].concat();
    let proxy = Setup::http(&endpoints)
        .pool("balance = \"round_robin\"")
        .text("[pool.main.retry]\nattempts = 3")
        .start();
    assert!((0..20).all(|_| proxy.get("/").status() == 200));
}

#[test]
fn a_check_without_options_is_a_connection_every_2s_rise_2_fall_3() {
    let endpoint = ["10.0.0.1:9090".parse().expect("an address")];
    let proxy = Setup::http(&endpoint).text("[pool.main.health]\ncheck = \"tcp\"").observe().start();
    let file = proxy.directory.join("plimsoll.toml").display().to_string();
    let text = String::from_utf8(command(&["check", "--show", "--config", &file]).stdout).expect("text");
    for line in ["check = \"tcp\"", "interval = \"2s\"", "rise = 2", "fall = 3"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn maxconn_4096_lets_so_many_in_and_the_next_when_one_leaves() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).listener("max_connections = 4096").start();
    let mut clients: Vec<Client> = (0..4096).map(|_| proxy.connect()).collect();
    assert_eq!(clients[4095].get("/").text(), "ok");
    let mut next = proxy.connect();
    next.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("accepting to pause", || {
        (proxy.metric("plimsoll_listener_connections", "web") > 4095.5).then_some(())
    });
    assert_eq!(clients[0].get("/").text(), "ok", "those who are in are served");
    assert_eq!(origin.seen().len(), 2, "who waits is not");
    drop(clients.pop());
    assert_eq!(next.answer().text(), "ok");
}

#[test]
fn option_dontlognull_a_connection_without_data_leaves_no_record() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).start();
    for _ in 0..3 {
        drop(proxy.connect());
    }
    proxy.get("/last");
    assert_eq!(proxy.records(1)[0]["target"], "/last");
    until("those to end", || (proxy.metric("plimsoll_listener_connections", "web") < 0.5).then_some(()));
    assert_eq!(proxy.records(1).len(), 1);
}

/// The PodDisruptionBudget's `minAvailable: "75%"`, for what a balancer takes away.
#[test]
fn min_available_75_percent_lets_one_of_four_be_drained() {
    let origins = ["a", "b", "c", "d"].map(Origin::saying);
    let addresses = origins.each_ref().map(Origin::address);
    let proxy = Setup::http(&addresses).pool("min_available = \"75%\"").start();
    let drain = |place: usize| {
        let path = format!("/v1/pools/main/endpoints/{}", addresses[place]);
        proxy.admin_change("PATCH", &path, "{\"admin_state\":\"drain\"}").status()
    };
    assert_eq!(drain(0), 200);
    assert_eq!(drain(1), 409);
    assert!((0..20).map(|_| proxy.get("/").text()).all(|who| who != "a"));
}
