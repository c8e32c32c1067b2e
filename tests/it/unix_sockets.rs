//! Unix sockets on both sides: listeners with a file of their own, and endpoints that are one.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use plimsoll::ReloadError;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::client::Client;
use crate::harness::embedded::Embedded;
use crate::harness::origin::{Origin, Session};
use crate::harness::proxy::Setup;
use crate::harness::until;

/// A folder for sockets, and the path of one in it.
fn socket() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("web.sock");
    (folder, path)
}

/// A second listener, on a unix socket; the routes of the first are its own too.
fn listens(path: &Path, keys: &str) -> String {
    format!("[listener.file]\nbind = [\"unix:{}\"]\n{keys}\n", path.display())
}

/// A listener on a unix socket alone, which answers with this text.
fn says(path: &Path, keys: &str, text: &str) -> String {
    format!(
        "{}[[route]]\nlisteners = [\"file\"]\nrespond = {{ status = 200, body = \"{text}\" }}\n",
        listens(path, keys)
    )
}

/// An endpoint as it is written.
fn endpoint(path: &Path) -> String {
    format!("{{ name = \"app\", address = \"unix:{}\" }}", path.display())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a socket").permissions().mode() & 0o777
}

fn echo(mut session: Session) -> io::Result<()> {
    loop {
        let before = session.wire.received.len();
        if session.wire.fill()? == 0 {
            return Ok(());
        }
        let new = session.wire.received[before..].to_vec();
        session.send(new)?;
    }
}

fn answer(mut session: Session) -> io::Result<()> {
    while let Some(request) = session.request()? {
        session.ok(&request.text())?;
    }
    Ok(())
}

#[test]
fn a_client_of_a_unix_socket_has_no_address_and_endpoints_are_told_so() {
    let (_folder, path) = socket();
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()]).text(&listens(&path, "")).start();
    let mut client = Client::connect_file(&path);
    let spoofed = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n\r\n";
    assert_eq!(client.say(spoofed).answer().text(), "ok");
    assert_eq!(client.get("/2").text(), "ok", "the connection is kept");
    for place in 0..2 {
        let request = origin.request(place);
        assert_eq!(request.fields("x-forwarded-for"), ["unknown"]);
        assert_eq!(request.field("x-real-ip"), None);
    }
    for record in proxy.records(2) {
        assert_eq!((&record["client"], &record["peer"]), (&json!("unix:"), &json!("unix:")));
    }
    assert_eq!(mode(&path), 0o660, "as most programs of one machine share sockets: by a group");
}

#[test]
fn who_connects_to_a_unix_socket_is_trusted_only_where_that_is_written() {
    let (_folder, path) = socket();
    let origin = Origin::saying("ok");
    let keys = "trusted_proxies = [\"unix:\"]\nmax_connections_per_source = 1\nunix_mode = \"0600\"";
    let proxy = Setup::http(&[origin.address()]).text(&listens(&path, keys)).start();
    let mut clients = [Client::connect_file(&path), Client::connect_file(&path)];
    for client in &mut clients {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        assert_eq!(client.say(request).answer().text(), "ok", "they are not one source");
    }
    assert_eq!(origin.request(0).fields("x-forwarded-for"), ["192.0.2.1, unknown"]);
    assert_eq!(origin.request(0).field("x-real-ip").as_deref(), Some("192.0.2.1"));
    assert_eq!(proxy.records(1)[0]["client"], "192.0.2.1:0");
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn rules_can_keep_the_clients_of_unix_sockets_out() {
    let (_folder, path) = socket();
    let origin = Origin::saying("ok");
    let keys = "deny = [\"unix:\"]";
    let _proxy = Setup::http(&[origin.address()]).text(&listens(&path, keys)).start();
    Client::connect_file(&path).expect_end();
}

#[test]
fn requests_go_to_an_endpoint_that_is_a_unix_socket() {
    let (_folder, path) = socket();
    let origin = Origin::start_file(&path, answer);
    let proxy = Setup::listed(&endpoint(&path)).process("workers = 1").start();
    let body = "x".repeat(300_000);
    let mut client = proxy.connect();
    for _ in 0..3 {
        assert_eq!(client.post("/", &body).text(), body);
    }
    assert_eq!(origin.accepted(), 1, "its connection is kept");
    assert_eq!(origin.request(0).field("host").as_deref(), Some("a"));
    assert_eq!(proxy.endpoint("main", "app")["address"], format!("unix:{}", path.display()));
    origin.stop();
    assert_eq!(client.get("/").status(), 503, "no connection can be made");
}

#[test]
fn an_endpoint_without_a_name_is_called_by_its_path() {
    let (_folder, path) = socket();
    let origin = Origin::start_file(&path, answer);
    let proxy = Setup::listed(&format!("\"unix:{}\"", path.display())).start();
    assert_eq!(proxy.connect().post("/", "hello").text(), "hello");
    let name = format!("unix:{}", path.display().to_string().trim_start_matches('/').replace('/', "."));
    assert_eq!(proxy.endpoint("main", &name)["usable"], true, "a name has no slash");
    drop(origin);
}

#[test]
fn both_protocols_of_requests_go_over_unix_sockets_both_ways() {
    let (_folder, path) = socket();
    let origin = Origin::start(answer);
    // The first listener leads to the second one, by HTTP/2 over a unix socket.
    let inner = format!(
        "{}[[route]]\nlisteners = [\"file\"]\npool = \"origin\"\n[pool.origin]\nendpoints = [\"{}\"]\n",
        listens(&path, "h2c = true"),
        origin.address()
    );
    let proxy = Setup::listed(&endpoint(&path))
        .routes("[[route]]\nlisteners = [\"web\"]\npool = \"main\"\n")
        .pool("protocol = \"http2\"")
        .text(&inner)
        .start();
    let body = "y".repeat(200_000);
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.post("/", &body).text(), body);
    }
    let told = origin.request(0).fields("x-forwarded-for");
    assert_eq!(told, ["unknown"], "the second proxy does not trust the first");
}

#[test]
fn bytes_go_from_a_unix_socket_to_a_unix_socket_with_half_closed_connections() {
    let (folder, path) = socket();
    let app = folder.path().join("app.sock");
    let _origin = Origin::start_file(&app, |mut session| {
        while session.wire.fill()? > 0 {}
        let said = session.wire.received.clone();
        session.send(said)
    });
    let keys = "protocol = \"tcp\"\npool = \"main\"";
    let _proxy = Setup::listed(&endpoint(&app)).text(&listens(&path, keys)).start();
    // Much, so that it moves by splice.
    let said = "0123456789".repeat(400_000);
    let mut client = Client::connect_file(&path);
    client.say(&said).finish().expect("it is open");
    assert!(client.rest().expect("an answer") == said.as_bytes(), "all of it comes back");
}

#[test]
fn probes_ask_unix_sockets() {
    let (_folder, path) = socket();
    for check in ["http", "tcp"] {
        let origin = Origin::start_file(&path, answer);
        let health = format!("health = {{ check = \"{check}\", interval = \"50ms\", fall = 1, rise = 1 }}");
        let proxy = Setup::listed(&endpoint(&path)).pool(&health).start();
        proxy.until_endpoint("main", "app", "probe.state", "up");
        if check == "http" {
            assert_eq!(origin.request(0).field("host").as_deref(), Some("localhost"));
        }
        origin.stop();
        proxy.until_endpoint("main", "app", "probe.state", "cannot be asked");
        let _again = Origin::start_file(&path, answer);
        proxy.until_endpoint("main", "app", "probe.state", "up");
    }
}

#[test]
fn a_file_that_was_left_behind_is_replaced() {
    let (_folder, path) = socket();
    // Closed without taking its file away, as by a crash.
    drop(UnixListener::bind(&path).expect("a socket"));
    let origin = Origin::saying("ok");
    let mut proxy = Setup::http(&[origin.address()]).text(&listens(&path, "")).start();
    assert_eq!(Client::connect_file(&path).get("/").text(), "ok");
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    assert!(!path.exists(), "it goes with the process");
}

#[test]
fn a_socket_in_use_and_a_file_that_is_none_are_let_be() {
    let (folder, path) = socket();
    let taken = UnixListener::bind(&path).expect("a socket");
    let free = folder.path().join("free.sock");
    let proxy = Embedded::start(&says(&free, "", "one"));
    let Err(ReloadError::Bind { address, error, .. }) = proxy.try_reload(&says(&path, "", "two")) else {
        panic!("the socket is another program's");
    };
    assert_eq!(address.to_string(), format!("unix:{}", path.display()));
    assert!(error.to_string().contains("another process listens on this socket"), "{error}");
    drop(taken);
    fs::remove_file(&path).expect("it is gone");
    fs::write(&path, "precious").expect("a file");
    let Err(ReloadError::Bind { error, .. }) = proxy.try_reload(&says(&path, "", "two")) else {
        panic!("the file is no socket");
    };
    assert!(error.to_string().contains("no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
    assert_eq!(Client::connect_file(&free).get("/").text(), "one", "all is as before");
}

#[test]
fn a_reload_brings_moves_and_takes_away_unix_sockets() {
    let (folder, first) = socket();
    let second = folder.path().join("second.sock");
    let proxy = Embedded::start(&says(&first, "", "before"));
    let mut stays = Client::connect_file(&first);
    assert_eq!(stays.get("/").text(), "before");
    let inode = |path: &Path| rustix::fs::stat(path).expect("a socket").st_ino;
    let of_first = inode(&first);
    // The same socket under another name and with another mode is not opened anew.
    let renamed = says(&first, "unix_mode = \"0666\"", "renamed").replace("file", "other");
    proxy.reload(&renamed);
    assert_eq!((inode(&first), mode(&first)), (of_first, 0o666));
    assert_eq!(Client::connect_file(&first).get("/").text(), "renamed");
    proxy.reload(&says(&second, "", "after"));
    assert_eq!(Client::connect_file(&second).get("/").text(), "after");
    until("the file of the first to be taken away", || (!first.exists()).then_some(()));
    proxy.reload(&says(&first, "", "again"));
    assert_eq!(Client::connect_file(&first).get("/").text(), "again");
}

#[test]
fn an_upgrade_hands_the_socket_over_and_its_file_stays() {
    let (_folder, path) = socket();
    let origin = Origin::start(echo);
    let keys = "protocol = \"tcp\"\npool = \"main\"";
    let mut proxy = Setup::tcp(&[origin.address()]).text(&listens(&path, keys)).start();
    let mut session = Client::connect_file(&path);
    assert_eq!(session.say("before").take(6).expect("an echo"), b"before");
    let inode = || rustix::fs::stat(&path).expect("a socket").st_ino;
    let before = inode();
    for round in 0..2 {
        proxy.upgrade();
        assert_eq!(Client::connect_file(&path).say("new").take(3).expect("an echo"), b"new");
        if round == 0 {
            assert_eq!(session.say("after").take(5).expect("an echo"), b"after");
            session.finish().expect("it is open");
            assert!(proxy.wait().success(), "the old process ends with its last connection");
        }
        assert_eq!(inode(), before, "it is the same socket");
    }
}

#[test]
fn a_socket_of_the_service_manager_is_not_ours_to_take_away() {
    let (_folder, path) = socket();
    let origin = Origin::saying("ok");
    let socket = UnixListener::bind(&path).expect("a socket");
    let start = || Setup::http(&[origin.address()]).inherit(&socket, "web").start();
    let mut proxy = start();
    assert_eq!(Client::connect_file(&path).get("/").text(), "ok");
    assert!(Client::is_turned_away(proxy.web), "what the socket stands for is not bound");
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    let mut waiting = Client::connect_file(&path);
    waiting.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _next = start();
    assert_eq!(waiting.answer().status(), 200, "what came in between has waited for the next process");
}

#[test]
fn proxy_headers_are_taken_from_and_sent_for_clients_of_unix_sockets() {
    let (folder, path) = socket();
    let app = folder.path().join("app.sock");
    let keys =
        "protocol = \"tcp\"\npool = \"main\"\naccept_proxy_protocol = true\ntrusted_proxies = [\"unix:\"]";
    let _origin = Origin::start_file(&app, echo);
    let through = |version: &str, says: &str| {
        let pool = format!("send_proxy = \"{version}\"");
        let _proxy = Setup::listed(&endpoint(&app)).pool(&pool).text(&listens(&path, keys)).start();
        let mut client = Client::connect_file(&path);
        client.say(says).finish().expect("it is open");
        client.rest().expect("what the endpoint got")
    };
    let named = "PROXY TCP4 192.0.2.7 192.0.2.200 4711 443\r\nhey";
    assert_eq!(through("v1", named), named.as_bytes());
    assert_eq!(through("v1", "PROXY UNKNOWN\r\nhey"), b"PROXY UNKNOWN\r\nhey");
    let unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0hey";
    assert_eq!(through("v2", "PROXY UNKNOWN\r\nhey"), unspecified, "somebody's, whose address nobody knows");
    drop(UnixStream::connect(&app).expect("the endpoint is there to the end"));
}
