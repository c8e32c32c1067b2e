//! What a state directory brings over a restart, and that one that cannot be used stops nothing.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, own_directory};
use crate::harness::{free_ports, own_ip, until};

/// A file with a state directory, that stays when the process ends.
struct Site {
    directory: PathBuf,
    web: SocketAddr,
    admin: SocketAddr,
}

impl Site {
    fn new(pools: &str) -> Self {
        let (web, admin) = free_ports(own_ip());
        let site = Self { directory: own_directory(), web, admin };
        let text = format!(
            "[process]\nworkers = 1\nstate_dir = \"state\"\n[admin]\nbind = \"{admin}\"\n[log]\naccess = \"off\"\n\
             [listener.web]\nbind = [\"{web}\"]\n[[route]]\nname = \"all\"\npool = \"main\"\n{pools}\n"
        );
        fs::write(site.path("main.toml"), text).expect("a file");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn start(&self) -> Proxy {
        Proxy::start_file(&self.path("main.toml"), self.web, self.admin, &[])
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

#[test]
fn what_the_operator_changed_holds_again_after_a_restart() {
    let (a, b, dr) = (Origin::saying("a"), Origin::saying("b"), Origin::saying("dr"));
    let (a_at, b_at) = (a.address().to_string(), b.address().to_string());
    let site = Site::new(&format!(
        "[pool.main]\nendpoints = [\"{a_at}\", \"{b_at}\"]\nfailover = [\"dr\"]\n[pool.other]\nendpoints = [\"{b_at}\"]\n\
         failover = [\"dr\"]\n[pool.dr]\nendpoints = [\"{}\"]",
        dr.address()
    ));
    let mut proxy = site.start();
    let patch = |proxy: &Proxy, name: &str, body: &str| {
        proxy.admin_change("PATCH", &format!("/v1/pools/main/endpoints/{name}"), body).status()
    };
    assert_eq!(patch(&proxy, &a_at, r#"{"admin_state":"drain"}"#), 200);
    assert_eq!(patch(&proxy, &b_at, r#"{"weight":7}"#), 200);
    assert_eq!(proxy.admin_change("POST", "/v1/pools/other/failover", r#"{"to":"dr"}"#).status(), 200);
    let before = proxy.admin_json("/v1/config")["overrides"].clone();
    assert_eq!(before["failovers"]["other"], "dr", "{before}");
    proxy.signal(rustix::process::Signal::TERM);
    assert!(proxy.wait().success());
    drop(proxy);

    let proxy = site.start();
    proxy.until_endpoint("main", &a_at, "admin_state", "drain");
    proxy.until_endpoint("main", &b_at, "weight", 7);
    until("the failover", || (proxy.admin_json("/v1/pools/other")["failover"] == "dr").then_some(()));
    assert_eq!(proxy.admin_json("/v1/config")["overrides"], before);
    assert_eq!(proxy.get("/").text(), "b");
}

#[test]
fn a_killed_process_finds_its_last_good_configuration() {
    let origin = Origin::saying("served");
    let site = Site::new(&format!("[pool.main]\nendpoints = [\"{}\"]", origin.address()));
    drop({
        let proxy = site.start();
        until("the last good configuration", || site.path("state/last-good.json").exists().then_some(()));
        proxy
    });
    let broken =
        fs::read_to_string(site.path("main.toml")).expect("text").replace("[listener.web]", "[listener.web");
    fs::write(site.path("main.toml"), broken).expect("a file");
    let proxy = site.start();
    assert_eq!(proxy.get("/").text(), "served", "a line of the broken file still says where the state is");
    let fallback = &proxy.admin_json("/v1/config")["fallback"];
    assert_eq!(fallback["diagnostics"][0]["line"], 8, "{fallback}");
}

#[test]
fn a_state_directory_that_cannot_be_used_stops_nothing_and_is_told() {
    let origin = Origin::saying("served");
    let site = Site::new(&format!("[pool.main]\nendpoints = [\"{}\"]", origin.address()));
    fs::write(site.path("state"), "a file in its place").expect("a file");
    let proxy = site.start();
    assert_eq!(proxy.get("/").text(), "served");
    until("the alarm", || proxy.events().into_iter().find(|event| event["to"] == "state is not kept"));
    drop(proxy);
    fs::remove_file(site.path("state")).expect("it is removed");
    fs::create_dir(site.path("state")).expect("a directory");
    fs::write(site.path("state/overrides.json"), "{\"version\":1,\"endpoints\":[").expect("half a file");
    let proxy = site.start();
    assert_eq!(proxy.get("/").text(), "served");
    until("the alarm", || proxy.events().into_iter().find(|event| event["to"] == "overrides are lost"));
}
