//! Endpoints by DNS: traffic follows what a name leads to, and goes on with the last good answer when DNS fails.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::harness::names::{Answer, NXDOMAIN, NameServer, SERVFAIL};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup};
use crate::harness::{free_port, own_ip, until};

/// An origin at this place.
fn origin(ip: Ipv4Addr, port: u16, text: &'static str) -> Origin {
    Origin::start_at(ip, port, move |mut session| {
        while session.request()?.is_some() {
            session.ok(text)?;
        }
        Ok(())
    })
}

/// Two origins of the same port at addresses of their own.
fn two() -> (Origin, Origin, u16) {
    let (one, other) = (own_ip(), own_ip());
    let port = free_port(one).port();
    (origin(one, port, "one"), origin(other, port, "other"), port)
}

fn ip(origin: &Origin) -> Ipv4Addr {
    match origin.address() {
        SocketAddr::V4(address) => *address.ip(),
        SocketAddr::V6(_) => panic!("an IPv4 origin"),
    }
}

fn start(server: &NameServer, endpoints: &str) -> Proxy {
    Setup::listed(endpoints).process(&server.line()).start()
}

/// Waits until a request is answered so; what came until then was answered all the same.
fn until_says(proxy: &Proxy, text: &str) {
    until(&format!("an answer of {text}"), || {
        let answer = proxy.get("/");
        assert!(answer.status() == 200 || answer.status() == 503, "{answer:?}");
        (answer.text() == text).then_some(())
    });
}

fn name(proxy: &Proxy) -> Value {
    proxy.admin_json("/v1/pools/main")["names"][0].clone()
}

#[test]
fn traffic_follows_the_addresses_of_a_name_and_outlives_every_failure_of_dns() {
    let server = NameServer::start();
    let (one, other, port) = two();
    server.leads("app.test", &[ip(&one)]);
    let proxy = start(&server, &format!("\"app.test:{port}\""));
    until_says(&proxy, "one");
    let endpoint = proxy.endpoint("main", &format!("app.test@{}", one.address()));
    assert_eq!(endpoint["address"], one.address().to_string());

    server.leads("app.test", &[ip(&other)]);
    until_says(&proxy, "other");
    for failure in [SERVFAIL, NXDOMAIN, Answer::Addresses(Vec::new()), Answer::Silence] {
        let before = proxy.metric("plimsoll_dns_failures_total", "app.test");
        server.says("app.test", failure.clone());
        until("a failure", || {
            assert_eq!(proxy.get("/").text(), "other", "{failure:?}");
            (proxy.metric("plimsoll_dns_failures_total", "app.test") > before).then_some(())
        });
    }
    let shown = name(&proxy);
    assert_eq!((&shown["name"], &shown["addresses"]), (&"app.test".into(), &1.into()));
    assert!(shown["fault"].is_string() && shown["age_ms"].as_f64() > Some(0.0), "{shown}");

    server.leads("app.test", &[ip(&one)]);
    until_says(&proxy, "one");
    until("the fault to be over", || name(&proxy)["fault"].is_null().then_some(()));
}

#[test]
fn a_process_starts_without_an_answer_and_serves_once_there_is_one() {
    let server = NameServer::start();
    let (one, _other, port) = two();
    server.says("late.test", Answer::Silence);
    let proxy = start(&server, &format!("\"late.test:{port}\""));
    assert_eq!(proxy.get("/").status(), 503);
    server.leads("late.test", &[ip(&one)]);
    until_says(&proxy, "one");
}

#[test]
fn records_of_a_service_bring_ports_and_backups() {
    let server = NameServer::start();
    let (one, other, port) = two();
    let target = |priority, name: &str| (priority, 1, port, name.to_owned());
    server.leads("a.test", &[ip(&one)]);
    server.leads("b.test", &[ip(&other)]);
    server.says("_web._tcp.app.test", Answer::Targets(vec![target(20, "b.test"), target(10, "a.test")]));
    let proxy = start(&server, "{ name = \"s\", address = \"srv:_web._tcp.app.test\" }");
    until_says(&proxy, "one");
    let backup = proxy.endpoint("main", &format!("s@{}", other.address()));
    assert_eq!(backup["tier"], 1);
    server.says("_web._tcp.app.test", Answer::Targets(vec![target(5, "b.test")]));
    until_says(&proxy, "other");
}

#[test]
fn a_name_whose_endpoint_refuses_is_asked_again_at_once() {
    let server = NameServer::start();
    let (one, other, port) = two();
    server.leads("app.test", &[ip(&one)]);
    let proxy = start(&server, &format!("\"app.test:{port}\""));
    until_says(&proxy, "one");
    server.leads("app.test", &[ip(&other)]);
    one.stop();
    until_says(&proxy, "other");
    assert!(server.asked("app.test") > 2);
}

#[test]
fn a_reload_to_a_name_does_not_publish_an_empty_pool() {
    let server = NameServer::start();
    let (one, other, port) = two();
    server.leads("new.test", &[ip(&other)]);
    let mut proxy = Setup::http(&[one.address()]).process(&server.line()).start();
    assert_eq!(proxy.get("/").text(), "one");
    let file = proxy.directory.join("plimsoll.toml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let text = text.replace(&format!("\"{}\"", one.address()), &format!("\"new.test:{port}\""));
    std::fs::write(&file, text).expect("it can be written");
    proxy.signal(rustix::process::Signal::HUP);
    until("the new endpoint", || {
        let answer = proxy.get("/");
        assert_eq!(answer.status(), 200, "{answer:?}");
        (answer.text() == "other").then_some(())
    });
    assert!(proxy.ended().is_none());
}

#[test]
fn a_process_that_takes_over_knows_where_its_names_lead_before_it_accepts() {
    let server = NameServer::start();
    let (one, _other, port) = two();
    server.leads("app.test", &[ip(&one)]);
    let mut proxy = start(&server, &format!("\"app.test:{port}\""));
    until_says(&proxy, "one");
    proxy.upgrade();
    for _ in 0..10 {
        let answer = proxy.get("/");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "one"));
    }
}

#[test]
fn endpoints_of_a_file_come_and_go_with_it_and_a_bad_file_changes_nothing() {
    let (one, other, _port) = two();
    let directory = crate::harness::proxy::own_directory();
    let file = directory.join("main.endpoints");
    let write = |text: &str| {
        // As a careful program writes: beside it, then over it.
        let beside = directory.join("main.endpoints.new");
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &file))
            .expect("it can be written");
    };
    write(&format!("{} # the first\n", one.address()));
    let proxy = Setup::filed(&file).start();
    assert_eq!(proxy.get("/").text(), "one");
    write(&format!("[{{\"address\": \"{}\", \"weight\": 3}}]", other.address()));
    until_says(&proxy, "other");
    write("10.0.0.1:80\nnonsense\n");
    until("the fault", || {
        let shown = proxy.admin_json("/v1/pools/main")["endpoints_file"].clone();
        shown["fault"].as_str().filter(|fault| fault.contains("main.endpoints:2:1")).map(drop)
    });
    assert_eq!(proxy.get("/").text(), "other");
    assert!(proxy.errors().iter().any(|line| line.contains("endpoints")));
    write(&format!("{}\n", one.address()));
    until_says(&proxy, "one");
}

#[test]
fn an_endpoint_added_and_one_removed_stay_so_over_a_reload() {
    let (one, other, _port) = two();
    let mut proxy = Setup::http(&[one.address()]).unix_admin().start();
    let ask = |proxy: &Proxy, head: &str, body: &str| {
        let socket = std::os::unix::net::UnixStream::connect(proxy.directory.join("admin.sock"));
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        crate::harness::client::exchange_unix(socket.expect("the socket"), &request)
    };
    let path = "/v1/pools/main/endpoints";
    let refused = ask(&proxy, &format!("DELETE {path}/{}", one.address()), "");
    assert!(refused.starts_with("HTTP/1.1 409") && refused.contains("min_available"), "{refused}");
    let body = format!("{{\"address\": \"{}\", \"name\": \"new\"}}", other.address());
    let added = ask(&proxy, &format!("POST {path}"), &body);
    assert!(added.starts_with("HTTP/1.1 201") && added.contains("\"name\":\"new\""), "{added}");
    let again = ask(&proxy, &format!("POST {path}"), &body);
    assert!(again.starts_with("HTTP/1.1 409"), "{again}");
    let removed = ask(&proxy, &format!("DELETE {path}/{}", one.address()), "");
    assert!(removed.starts_with("HTTP/1.1 200") && removed.contains("\"removed\":["), "{removed}");
    assert_eq!(proxy.get("/").text(), "other");
    let reloaded = ask(&proxy, "POST /v1/reload", "");
    assert!(reloaded.starts_with("HTTP/1.1 200"), "{reloaded}");
    assert_eq!(proxy.get("/").text(), "other");
    let gone = ask(&proxy, &format!("DELETE {path}/nobody"), "");
    assert!(gone.starts_with("HTTP/1.1 404"), "{gone}");
    assert!(proxy.ended().is_none());
}

#[test]
fn a_changed_file_is_a_reload_where_watch_says_so_also_by_a_swapped_link() {
    let (one, other, _port) = two();
    let directory = crate::harness::proxy::own_directory();
    let text = |origin: &Origin| format!("[pool.main]\nendpoints = [\"{}\"]\n", origin.address());
    // As Kubernetes mounts a volume: the file is a link through `..data`, which is swapped.
    let mount = |version: &str, text: &str| {
        let folder = directory.join(version);
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("pool.toml"), text).expect("a file");
        let link = directory.join("..new");
        std::os::unix::fs::symlink(version, &link).expect("a link");
        std::fs::rename(&link, directory.join("..data")).expect("swapped");
    };
    mount("..1", &text(&one));
    std::os::unix::fs::symlink("..data/pool.toml", directory.join("pool.toml")).expect("a link");
    let proxy = Setup::included(&directory.join("pool.toml")).process("watch = true").start();
    assert_eq!(proxy.get("/").text(), "one");
    mount("..2", &text(&other));
    until_says(&proxy, "other");
    mount("..3", "[pool.main]\nendpoints = [\n");
    until("the refusal", || {
        proxy.events().iter().any(|e| e["kind"] == "reload" && e["to"] == "refused").then_some(())
    });
    assert_eq!(proxy.get("/").text(), "other");
}

#[test]
fn a_first_file_in_a_folder_of_included_ones_is_a_reload() {
    let origin = Origin::saying("ok");
    let directory = crate::harness::proxy::own_directory();
    let folder = directory.join("conf.d");
    std::fs::create_dir(&folder).expect("a folder");
    let pool = format!("[pool.main]\nendpoints = [\"{}\"]\n", origin.address());
    let setup = Setup::included(&folder.join("*.toml")).text(&pool).process("watch = true");
    let proxy = setup.start();
    assert_eq!(proxy.get("/said").text(), "ok");
    let route = "[[route]]\nname = \"said\"\npath = \"/said\"\nrespond = { status = 200, body = \"said\" }\n";
    std::fs::write(folder.join("said.toml"), route).expect("a file");
    until("the new route", || (proxy.get("/said").text() == "said").then_some(()));
}
