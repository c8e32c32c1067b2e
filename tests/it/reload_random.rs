//! Random changes, each with something in it that cannot be: whatever else they say, nothing of them is published.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, Setup, command};
use crate::harness::{client, free_port, own_ip};

/// Rounds; each is one refused change, and every third is carried out as well once what cannot be is taken out of it.
const ROUNDS: usize = 45;

/// A generator that every run repeats (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// What cannot be.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Listener,
    Admin,
    Health,
    Token,
    AccessLog,
    Workers,
    Guard,
    Key,
    Syntax,
}

const FAULTS: [Fault; 9] = [
    Fault::Listener,
    Fault::Admin,
    Fault::Health,
    Fault::Token,
    Fault::AccessLog,
    Fault::Workers,
    Fault::Guard,
    Fault::Key,
    Fault::Syntax,
];

/// The addresses of a run.
struct Places {
    web: SocketAddr,
    admin: SocketAddr,
    /// Nobody listens there.
    free: [SocketAddr; 3],
    /// Somebody else does.
    taken: SocketAddr,
    origins: [SocketAddr; 2],
}

/// A valid configuration, as `random` has it.
fn configuration(random: &mut Random, places: &Places) -> String {
    let Places { web, admin, free, origins, .. } = places;
    let drain = 1 + random.below(50);
    let hosts = if random.coin() { "allowed_hosts = [\"lb.internal\"]\n" } else { "" };
    let health = if random.coin() { format!("[health]\nbind = [\"{}\"]\n", free[0]) } else { String::new() };
    let log = ["text", "json"][random.below(2)];
    let access = ["off", "stdout", "stderr"][random.below(3)];
    let second = if random.coin() { format!(", \"{}\"", free[1]) } else { String::new() };
    let other = match random.coin() {
        true => {
            format!("[listener.other]\nbind = [\"{}\"]\nprotocol = \"tcp\"\npool = \"main\"\n", free[2])
        }
        false => String::new(),
    };
    let weights = [1 + random.below(9), 1 + random.below(9)];
    let both = if random.coin() {
        format!(", {{ address = \"{}\", weight = {} }}", origins[1], weights[1])
    } else {
        String::new()
    };
    let body = random.below(1000);
    format!(
        "[process]\nworkers = 2\nwarm_timeout = \"300ms\"\ndrain_timeout = \"{drain}s\"\n[admin]\nbind = \"{admin}\"\n{hosts}{health}\
         [log]\nformat = \"{log}\"\naccess = \"{access}\"\n[listener.web]\nbind = [\"{web}\"{second}]\n{other}\
         [[route]]\nname = \"said\"\npath = \"/said\"\nrespond = {{ status = 200, body = \"{body}\" }}\n\
         [[route]]\nname = \"all\"\npool = \"main\"\n\
         [pool.main]\nendpoints = [{{ address = \"{}\", weight = {} }}{both}]\n",
        origins[0], weights[0]
    )
}

/// The same with something in it that cannot be.
fn broken(text: &str, fault: Fault, places: &Places) -> String {
    let Places { admin, taken, origins, .. } = places;
    let replaced = |from: &str, to: String| {
        assert!(text.contains(from), "{from} in {text}");
        text.replacen(from, &to, 1)
    };
    let bind = format!("[admin]\nbind = \"{admin}\"\n");
    match fault {
        Fault::Listener => format!("{text}[listener.more]\nbind = [\"{taken}\"]\n"),
        Fault::Admin => replaced(&bind, format!("[admin]\nbind = \"{taken}\"\n")),
        Fault::Health if text.contains("[health]\nbind = [") => {
            replaced("[health]\nbind = [", format!("[health]\nbind = [\"{taken}\", "))
        }
        Fault::Health => format!("{text}[health]\nbind = [\"{taken}\"]\n"),
        Fault::Token => replaced(&bind, format!("{bind}token_file = \"missing.token\"\n")),
        Fault::AccessLog => {
            let at = text.find("access = ").expect("the key");
            let line = text[at..].lines().next().expect("its line").to_owned();
            replaced(&line, "access = \"/nowhere/access.log\"".to_owned())
        }
        Fault::Workers => replaced("workers = 2", "workers = 3".to_owned()),
        // Nobody answers there, so too little would be left.
        Fault::Guard => text
            .replace(&origins[0].to_string(), "127.0.0.1:1")
            .replace(&origins[1].to_string(), "127.0.0.1:2"),
        Fault::Key => format!("{text}[pool.main.limits]\nmax_request = 5\n"),
        Fault::Syntax => format!("{text}[pool.other"),
    }
}

/// Everything that a change that was refused must leave as it was.
fn seen(proxy: &Proxy) -> Vec<Value> {
    let config = proxy.admin_json("/v1/config");
    let pool = proxy.admin_json("/v1/pools/main");
    let endpoints = pool["endpoints"].as_array().expect("a list").iter();
    let endpoints = endpoints.map(|one| Value::from(vec![one["name"].clone(), one["weight"].clone()]));
    let keys = ["generation", "config_hash", "effective", "overrides", "provenance", "loaded"];
    keys.iter().map(|key| config[key].clone()).chain(endpoints).collect()
}

fn listens(places: &Places) -> Vec<bool> {
    places.free.iter().map(|address| TcpStream::connect(address).is_ok()).collect()
}

#[test]
fn nothing_of_a_change_that_fails_is_published() {
    let origins = [Origin::saying("one"), Origin::saying("other")];
    let proxy = Setup::http(&[origins[0].address()]).start();
    let somebody = TcpListener::bind((own_ip(), 0)).expect("a socket");
    let places = Places {
        web: proxy.web,
        admin: proxy.admin,
        free: [free_port(own_ip()), free_port(own_ip()), free_port(own_ip())],
        taken: somebody.local_addr().expect("its address"),
        origins: origins.each_ref().map(Origin::address),
    };
    let file = proxy.directory.join("plimsoll.toml");
    let admin = proxy.admin.to_string();
    let reload = || command(&["reload", "--wait", "--admin", &admin]);
    let mut random = Random(0x706c_696d_736f_6c6c);
    fs::write(&file, configuration(&mut random, &places)).expect("it can be written");
    assert!(reload().status.success());
    let mut stays = client::Client::connect(proxy.web);
    for round in 0..ROUNDS {
        let (before, open) = (seen(&proxy), listens(&places));
        let said = stays.get("/said").text();
        let text = configuration(&mut random, &places);
        let fault = FAULTS[random.below(FAULTS.len())];
        fs::write(&file, broken(&text, fault, &places)).expect("it can be written");
        let output = reload();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !told.is_empty(), "round {round}, {fault:?} in {text}: {told}");
        assert_eq!(seen(&proxy), before, "round {round}, {fault:?} in {text}");
        assert_eq!(listens(&places), open, "round {round}, {fault:?} in {text}");
        assert_eq!(stays.get("/said").text(), said, "round {round}, {fault:?}");
        if round % 3 == 0 {
            fs::write(&file, &text).expect("it can be written");
            let output = reload();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "round {round}: {told}");
            assert_ne!(seen(&proxy), before, "round {round}");
            assert!(text.contains(&format!("body = \"{}\"", stays.get("/said").text())), "round {round}");
        }
    }
}
