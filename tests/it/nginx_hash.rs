//! `ring_hash` against Debian's nginx with `hash ... consistent`: the same key lands on the same endpoint, whether its
//! address is IPv4, IPv6, a name or a path, also when that one is not to be used.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use plimsoll::policy::balance::{Balancer, Candidates, Draw, Kind, Member, Settings};

use crate::harness::client::Client;
use crate::harness::origin::Origin;
use crate::harness::proxy::own_directory;
use crate::harness::{free_port, own_ip, until};

const NGINX: &str = "/usr/sbin/nginx";

/// nginx, ended with the test.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    /// In front of these servers, as they stand in an `upstream` block; `listens` at these places itself, as an origin.
    fn start(servers: &[String], listens: &[String]) -> Self {
        let (directory, address) = (own_directory(), free_port(own_ip()));
        let at = |name: &str| directory.join(name).display().to_string();
        let temporary: Vec<String> = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};", at(name)))
            .into();
        let servers: Vec<String> = servers.iter().map(|server| format!("server {server};")).collect();
        let listens: String = listens
            .iter()
            .map(|place| format!("server {{ listen {place}; location / {{ return 200; }} }}\n"))
            .collect();
        let text = format!(
            "daemon off; master_process off; pid {}; error_log {};\n\
             events {{}}\n\
             http {{ access_log off; {}\n\
               upstream main {{ hash $arg_k consistent; {} }}\n\
               server {{ listen {address}; location / {{ proxy_pass http://main; add_header X-Endpoint $upstream_addr; }} }}\n\
               {listens}\
             }}\n",
            at("pid"),
            at("error.log"),
            temporary.join(" "),
            servers.join(" ")
        );
        fs::write(at("nginx.conf"), text).expect("a writable directory");
        let child = Command::new(NGINX)
            .args(["-e", &at("error.log"), "-p", &at(""), "-c", &at("nginx.conf")])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx from Debian's nginx-light");
        until("nginx to accept", || std::net::TcpStream::connect(address).ok());
        Self { child, address }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            let _status = self.child.wait();
        }
    }
}

/// Endpoints of which some are down.
struct Up(Vec<bool>);

impl Candidates for Up {
    fn pickable(&self, index: usize) -> bool {
        self.0[index]
    }
    fn in_flight(&self, _index: usize) -> u32 {
        0
    }
}

/// Sends keys through nginx and asks our balancer about each; `seen_as` has what nginx may call the one that it has used.
fn compare(nginx: &Nginx, ids: &[String], seen_as: &[Vec<String>], endpoints: &[(u16, bool)]) {
    let members: Vec<Member<'_>> =
        ids.iter().zip(endpoints).map(|(id, (weight, _))| Member { weight: *weight, id }).collect();
    let balancer = Balancer::new(&Settings::of(Kind::RingHash), &members, None);
    let up = Up(endpoints.iter().map(|(_, up)| *up).collect());
    let mut client = Client::connect(nginx.address);
    let mut used = vec![0; ids.len()];
    for number in 0..400u32 {
        let key =
            format!("/users/{number}?page={}", number.wrapping_mul(2_654_435_761)).replace(['/', '?'], "-");
        let theirs = client.get(&format!("/?k={key}")).fields("x-endpoint");
        let ours = balancer.pick(&up, &Draw { random: 0, key: Some(key.as_bytes()) }).expect("one is up");
        let same = theirs.len() == 1 && seen_as[ours].contains(&theirs[0]);
        assert!(same, "key {key} is at {theirs:?}, not at {}, among {ids:?}", ids[ours]);
        used[ours] += 1;
    }
    assert!(used.iter().zip(endpoints).all(|(used, (_, up))| (*used > 0) == *up), "{used:?}");
}

fn servers(ids: &[String], endpoints: &[(u16, bool)]) -> Vec<String> {
    let server = |(id, (weight, up)): (&String, &(u16, bool))| {
        format!("{id} weight={weight}{}", if *up { "" } else { " down" })
    };
    ids.iter().zip(endpoints).map(server).collect()
}

/// Compares over IPv4 addresses.
fn check(endpoints: &[(u16, bool)]) {
    let origins: Vec<Origin> = endpoints.iter().map(|_| Origin::saying("here")).collect();
    let ids: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let seen_as: Vec<Vec<String>> = ids.iter().map(|id| vec![id.clone()]).collect();
    compare(&Nginx::start(&servers(&ids, endpoints), &[]), &ids, &seen_as, endpoints);
}

/// Different ports of the loopback addresses that are free now.
fn loopback_ports<const N: usize>() -> [u16; N] {
    let both = || {
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a loopback port");
        let port = v6.local_addr().expect("its address").port();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|v4| (v4, v6, port))
    };
    let held: Vec<_> = (0..N).map(|_| until("a port that is free twice", both)).collect();
    std::array::from_fn(|at| held[at].2)
}

#[test]
fn every_key_lands_where_nginx_sends_it_whatever_kind_of_address_an_endpoint_has() {
    let [first_v6, second_v6, first_name, second_name] = loopback_ports();
    let paths =
        ["one.sock", "other.sock"].map(|name| format!("unix:{}", own_directory().join(name).display()));
    let ids: Vec<String> = [
        free_port(own_ip()).to_string(),
        format!("[::1]:{first_v6}"),
        format!("[::1]:{second_v6}"),
        format!("localhost:{first_name}"),
        format!("localhost:{second_name}"),
    ]
    .into_iter()
    .chain(paths)
    .collect();
    let endpoints = [(2, true), (1, true), (3, true), (1, true), (2, false), (1, true), (2, true)];
    // A name stands for all addresses that it has, and nginx uses them in turn.
    let addresses = |id: &String| match id.strip_prefix("localhost:") {
        Some(port) => vec![format!("127.0.0.1:{port}"), format!("[::1]:{port}")],
        None => vec![id.clone()],
    };
    let listens: Vec<String> = ids.iter().flat_map(addresses).collect();
    let nginx = Nginx::start(&servers(&ids, &endpoints), &listens);
    compare(&nginx, &ids, &ids.iter().map(addresses).collect::<Vec<_>>(), &endpoints);
}

#[test]
fn every_key_lands_where_nginx_sends_it() {
    check(&[(1, true), (1, true), (1, true), (1, true), (1, true)]);
}

#[test]
fn every_key_lands_where_nginx_sends_it_with_weights() {
    check(&[(1, true), (2, true), (5, true), (10, true), (3, true)]);
}

#[test]
fn the_keys_of_one_that_is_down_land_where_nginx_sends_them() {
    check(&[(1, true), (4, false), (2, true), (1, false), (3, true), (2, true)]);
}
