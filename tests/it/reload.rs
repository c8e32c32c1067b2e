//! What a reload brings to those who wait: through the library, as a program that embeds the proxy does it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;

use plimsoll::{Config, Handle, Proxy, config};

use crate::harness::client::Client;
use crate::harness::moody::Moody;
use crate::harness::origin::Origin;
use crate::harness::{free_port, own_ip, until};

/// A proxy within this process, stopped with the test.
struct Embedded {
    handle: Handle,
    web: SocketAddr,
}

fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

impl Embedded {
    fn start(pool: &str) -> Self {
        let web = free_port(own_ip());
        let handle = Proxy::start(&Self::configuration(web, pool)).expect("it starts");
        Self { handle, web }
    }

    fn configuration(web: SocketAddr, pool: &str) -> Config {
        let text = format!(
            "[process]\nworkers = 2\n[log]\naccess = \"off\"\n[listener.web]\nbind = [\"{web}\"]\n\
             [[route]]\npool = \"main\"\n[pool.main]\n{pool}\n"
        );
        config::load_text(&text, Path::new("embedded.toml"), &|_| None).expect("a valid configuration")
    }

    fn reload(&self, pool: &str) {
        now(self.handle.reload(Self::configuration(self.web, pool))).expect("it reloads");
    }

    fn waiting(&self) -> u64 {
        self.handle.status().pools.iter().map(|pool| pool.queue.len()).sum()
    }

    fn send(&self) -> Client {
        let mut client = Client::connect(self.web);
        client.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        now(self.handle.shutdown(true));
    }
}

const ONE_PLACE: &str = "outlier = \"off\"\nlimits = { max_requests = 1, queue_timeout = \"1m\" }";

#[test]
fn an_endpoint_added_by_a_reload_takes_those_who_wait_at_once() {
    let (full, added) = (Moody::saying("full"), Origin::saying("added"));
    full.hangs();
    let proxy = Embedded::start(&format!("{ONE_PLACE}\nendpoints = [\"{}\"]", full.address()));
    let mut held = proxy.send();
    full.request(0);
    let mut waiting: Vec<Client> = (0..4).map(|_| proxy.send()).collect();
    until("all to wait", || (proxy.waiting() == 4).then_some(()));
    proxy.reload(&format!("{ONE_PLACE}\nendpoints = [\"{}\", \"{}\"]", full.address(), added.address()));
    for client in &mut waiting {
        assert_eq!(client.answer().text(), "added");
    }
    full.answers(200);
    assert_eq!(held.answer().text(), "full");
}

#[test]
fn a_higher_ceiling_lets_those_who_wait_in() {
    let origin = Moody::saying("x");
    origin.hangs();
    let endpoints = format!("endpoints = [\"{}\"]", origin.address());
    let proxy = Embedded::start(&format!("{ONE_PLACE}\n{endpoints}"));
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.send()).collect();
    until("three to wait", || (proxy.waiting() == 3).then_some(()));
    proxy.reload(&format!("{}\n{endpoints}", ONE_PLACE.replace("max_requests = 1", "max_requests = 3")));
    until("three to arrive", || (origin.asked() == 3).then_some(()));
    assert_eq!(proxy.waiting(), 1);
    origin.answers(200);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "x");
    }
}

#[test]
fn what_live_traffic_taught_survives_a_reload() {
    let (broken, good) = (Moody::saying("broken"), Origin::saying("good"));
    broken.breaks();
    let pool = |weight: u32| {
        format!(
            "balance = \"first\"\noutlier = {{ consecutive_failures = 2, ejection_time = \"1h\", max_ejection_time = \"1h\" }}\n\
             endpoints = [\"{}\", {{ address = \"{}\", weight = {weight} }}]",
            broken.address(),
            good.address()
        )
    };
    let proxy = Embedded::start(&pool(1));
    for _ in 0..6 {
        assert_eq!(proxy.send().answer().text(), "good");
    }
    assert_eq!(broken.asked(), 2);
    proxy.reload(&pool(5));
    for _ in 0..6 {
        assert_eq!(proxy.send().answer().text(), "good");
    }
    assert_eq!(broken.asked(), 2, "it stays ejected");
}
