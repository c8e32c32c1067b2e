//! `ring_hash` against Debian's nginx with `hash ... consistent`: the same key lands on the same endpoint, also when that
//! one is not to be used.

use std::fs;
use std::net::SocketAddr;
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
    /// In front of these servers, as they stand in an `upstream` block.
    fn start(servers: &[String]) -> Self {
        let (directory, address) = (own_directory(), free_port(own_ip()));
        let at = |name: &str| directory.join(name).display().to_string();
        let temporary: Vec<String> = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};", at(name)))
            .into();
        let servers: Vec<String> = servers.iter().map(|server| format!("server {server};")).collect();
        let text = format!(
            "daemon off; master_process off; pid {}; error_log {};\n\
             events {{}}\n\
             http {{ access_log off; {}\n\
               upstream main {{ hash $arg_k consistent; {} }}\n\
               server {{ listen {address}; location / {{ proxy_pass http://main; add_header X-Endpoint $upstream_addr; }} }}\n\
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

/// Sends keys through nginx and asks our balancer about each.
fn check(endpoints: &[(u16, bool)]) {
    let origins: Vec<Origin> = endpoints.iter().map(|_| Origin::saying("here")).collect();
    let ids: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let server = |(id, (weight, up)): (&String, &(u16, bool))| {
        format!("{id} weight={weight}{}", if *up { "" } else { " down" })
    };
    let nginx = Nginx::start(&ids.iter().zip(endpoints).map(server).collect::<Vec<_>>());
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
        assert_eq!(theirs, [ids[ours].clone()], "key {key} among {ids:?}");
        used[ours] += 1;
    }
    assert!(used.iter().zip(endpoints).all(|(used, (_, up))| (*used > 0) == *up), "{used:?}");
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
