//! Endpoints that the operator adds and removes at run time: they are overrides, which outlive the process and go with their
//! pool.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::names::{Answer, NameServer};
use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, own_directory};
use crate::harness::wire::Message;
use crate::harness::{client, free_ports, own_ip, until};

const TOKEN: &str = "full-0123456789abcdef";

/// A file with a state directory and a token, that stays when the process ends.
struct Site {
    directory: PathBuf,
    web: SocketAddr,
    admin: SocketAddr,
}

impl Site {
    fn new() -> Self {
        let (web, admin) = free_ports(own_ip());
        let site = Self { directory: own_directory(), web, admin };
        fs::write(site.directory.join("admin.token"), TOKEN).expect("a file");
        site
    }

    fn write(&self, process: &str, pools: &str) {
        let Self { directory, web, admin } = self;
        let text = format!(
            "[process]\nworkers = 1\nstate_dir = \"state\"\n{process}\n[admin]\nbind = \"{admin}\"\ntoken_file = \"admin.token\"\n\
             [log]\naccess = \"off\"\n[listener.web]\nbind = [\"{web}\"]\n[[route]]\nname = \"all\"\npool = \"main\"\n{pools}\n"
        );
        fs::write(directory.join("main.toml"), text).expect("a file");
    }

    fn start(&self) -> Proxy {
        Proxy::start_file(&self.directory.join("main.toml"), self.web, self.admin, &[])
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Message {
        let length = body.len();
        client::ask(
            self.admin,
            format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            ),
        )
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

fn overrides(proxy: &Proxy) -> Value {
    proxy.admin_json("/v1/config")["overrides"].clone()
}

#[test]
fn what_was_added_and_removed_outlives_the_process_and_goes_with_its_pool() {
    let (one, other) = (Origin::saying("one"), Origin::saying("other"));
    let site = Site::new();
    let main = format!("[pool.main]\nendpoints = [\"{}\"]\nfailover = [\"dr\"]\n", one.address());
    let spare = format!("[pool.spare]\nendpoints = [\"{}\"]\n", one.address());
    let dr = format!("[pool.dr]\nendpoints = [\"{}\"]\n", other.address());
    site.write("", &format!("{main}{spare}{dr}"));
    let mut proxy = site.start();
    let new =
        json!({ "address": other.address().to_string(), "name": "new", "weight": 5, "tier": 1, "zone": "b" });
    for pool in ["main", "spare"] {
        let path = format!("/v1/pools/{pool}/endpoints");
        assert_eq!(site.ask("POST", &path, &new.to_string()).status(), 201);
        let removed = site.ask("DELETE", &format!("{path}/{}", one.address()), "");
        assert_eq!(removed.status(), 200, "{removed:?}");
    }
    assert_eq!(site.ask("POST", "/v1/pools/main/failover", r#"{"to":"dr"}"#).status(), 200);
    let before = overrides(&proxy);
    let expected = json!({
        "pool": "main", "endpoint": "new", "address": other.address().to_string(), "weight": 5, "tier": 1, "zone": "b",
    });
    assert_eq!(before["added"][0], expected, "{before}");
    assert_eq!(before["removed"][1], json!({ "pool": "spare", "endpoint": one.address().to_string() }));

    let generation = |proxy: &Proxy| proxy.admin_json("/v1/config")["generation"].as_u64();
    let last = generation(&proxy);
    proxy.upgrade();
    // The old process may still answer what it has accepted.
    until("the new process to answer", || (generation(&proxy) == last.map(|last| last + 1)).then_some(()));
    assert_eq!(overrides(&proxy), before, "after an upgrade");
    until("the failover", || (proxy.admin_json("/v1/pools/main")["failover"] == "dr").then_some(()));
    let seen = proxy.endpoint("main", "new");
    assert_eq!((&seen["tier"], &seen["weight"], &seen["zone"]), (&1.into(), &5.into(), &"b".into()));
    assert_eq!(proxy.get("/").text(), "other");

    drop(proxy);
    let proxy = site.start();
    assert_eq!(overrides(&proxy), before, "after a restart");
    assert_eq!(proxy.get("/").text(), "other");
    assert_eq!(proxy.admin_json("/v1/pools/main")["added"], json!(["new"]));

    let plan: Value = serde_json::from_slice(&site.ask("POST", "/v1/plan", "").body).expect("JSON");
    assert_eq!(plan["summary"], "nothing changes", "{plan}");

    // One whose configuration is on trial is not gone yet.
    site.write("", &format!("{main}{dr}"));
    assert_eq!(site.ask("POST", "/v1/reload?confirm=10m", "").status(), 200);
    assert_eq!(overrides(&proxy), before);
    assert_eq!(site.ask("POST", "/v1/reload/confirm", "").status(), 200);
    let after = overrides(&proxy);
    assert_eq!(
        (after["added"].as_array().map(Vec::len), after["removed"].as_array().map(Vec::len)),
        (Some(1), Some(1))
    );
    site.write("", &format!("{main}{spare}{dr}"));
    assert_eq!(site.ask("POST", "/v1/reload", "").status(), 200);
    assert_eq!(proxy.endpoint("spare", &one.address().to_string())["name"], one.address().to_string());
}

#[test]
fn a_silent_resolver_and_a_missing_file_leave_what_was_last_known_at_a_start() {
    let (named, listed) = (Origin::saying("named"), Origin::saying("listed"));
    let server = NameServer::start();
    let SocketAddr::V4(address) = named.address() else { panic!("an IPv4 origin") };
    server.leads("app.test", &[*address.ip()]);
    let site = Site::new();
    let file = site.directory.join("listed.endpoints");
    fs::write(&file, format!("{}\n", listed.address())).expect("a file");
    let name = format!("app.test:{}", address.port());
    let pools = format!("[pool.main]\nendpoints = [\"{name}\"]\nendpoints_file = \"listed.endpoints\"\n");
    site.write(&server.line(), &pools);
    let both = |proxy: &Proxy| {
        let said: Vec<String> = (0..2).map(|_| proxy.get("/").text()).collect();
        said.contains(&"named".to_owned()) && said.contains(&"listed".to_owned())
    };
    let mut proxy = site.start();
    until("both to serve", || both(&proxy).then_some(()));
    server.says("app.test", Answer::Silence);
    fs::remove_file(&file).expect("it is removed");

    proxy.upgrade();
    assert!(both(&proxy), "after an upgrade");
    // A file that is missing now brings what it brought last.
    let plan: Value = serde_json::from_slice(&site.ask("POST", "/v1/plan", "").body).expect("JSON");
    assert_eq!((&plan["summary"], &plan["unasked"]), (&"nothing changes".into(), &json!([])), "{plan}");
    let name = proxy.admin_json("/v1/pools/main")["names"][0].clone();
    assert!(name["age_ms"].as_f64() > Some(0.0), "{name}");
    let stopped =
        i32::try_from(proxy.serving()).ok().and_then(rustix::process::Pid::from_raw).expect("a number");
    rustix::process::kill_process(stopped, rustix::process::Signal::TERM).expect("it is ours");
    proxy.wait();
    until("its end", || std::net::TcpStream::connect(site.admin).is_err().then_some(()));
    drop(proxy);

    let proxy = site.start();
    assert!(both(&proxy), "after a restart");
    let pool = proxy.admin_json("/v1/pools/main");
    assert!(pool["endpoints_file"]["fault"].is_string(), "{pool}");
    fs::write(&file, "\n").expect("a file");
    server.leads("app.test", &[*address.ip()]);
    until("the file alone to be empty", || {
        (proxy.admin_json("/v1/pools/main")["endpoints"].as_array().map(Vec::len) == Some(1)).then_some(())
    });
    assert_eq!(proxy.get("/").text(), "named");
}
