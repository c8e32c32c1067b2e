//! Broken changes of a configuration: each leaves the running proxy serving and is explained, and a process that is started
//! with it serves the last good configuration.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use plimsoll::config;
use plimsoll::control::state_dir::StateDir;

use crate::harness::origin::Origin;
use crate::harness::proxy::{Proxy, own_directory};
use crate::harness::{free_ports, own_ip, until};

/// What is done to good files.
enum Change {
    /// In the main file this is put in the place of that.
    Edit(&'static str, &'static str),
    /// This is put behind the main file.
    Add(&'static str),
    /// A file is written.
    Write(&'static str, &'static [u8]),
    /// A file is removed.
    Remove(&'static str),
    /// A directory takes a file's place.
    Directory(&'static str),
    /// A symbolic link to nothing takes a file's place.
    Dangling(&'static str),
    /// A file has so many bytes, all zero.
    Zeros(&'static str, u64),
    /// Only the first half of a file has been written.
    Half(&'static str),
    /// One file takes the place of another.
    Copy(&'static str, &'static str),
}

use Change::{Add, Copy, Dangling, Directory, Edit, Half, Remove, Write, Zeros};

const MAIN: &str = "main.toml";
const EXTRA: &str = "extra.toml";
const SECURE: &str = "conf.d/secure.toml";

/// Each change, and what its explanation says.
const CASES: &[(Change, &str)] = &[
    // The file itself.
    (Remove(MAIN), "cannot be read: No such file"),
    (Directory(MAIN), "cannot be read: Is a directory"),
    (Dangling(MAIN), "cannot be read: No such file"),
    (Half(MAIN), "main.toml:"),
    (Zeros(MAIN, 100 << 20), "it is larger than 16 MiB"),
    (Zeros(MAIN, 4096), "this is not TOML"),
    (Write(MAIN, b""), "there is no listener"),
    (Write(MAIN, b"\xff\xfe[\0p\0r\0o\0"), "the file is not UTF-8"),
    (Write(MAIN, b"{\"listener\": {}}"), "main.toml:1:1"),
    (Add("\n[pool.x]\nendpoints = [\"\u{0}\"]"), "main.toml:"),
    // What it includes.
    (Remove(EXTRA), "extra.toml\" cannot be read"),
    (Directory(EXTRA), "extra.toml\" is no regular file"),
    (Dangling(EXTRA), "extra.toml\" cannot be read"),
    (Zeros(EXTRA, 17 << 20), "it is larger than 16 MiB"),
    (Write(EXTRA, b"[pool.extra"), "extra.toml:1:"),
    (Write(EXTRA, b"[pool.main]\nendpoints = [\"10.0.0.1:80\"]\n"), "defined twice"),
    (Write("conf.d/zz.toml", b"nonsense = 1"), "zz.toml:1:1"),
    (Edit("include = [\"conf.d/*.toml\", \"extra.toml\"]", "include = 5"), "`include`"),
    // Certificates and keys.
    (Remove("ca.pem"), "ca.pem: No such file"),
    (Directory("ca.pem"), "ca.pem: Is a directory"),
    (Write("ca.pem", b""), "it has no certificate"),
    (Write("ca.pem", b"hello"), "it has no certificate"),
    (Dangling("own.crt"), "own.crt: No such file"),
    (Half("own.crt"), "own.crt"),
    (Remove("own.key"), "own.key: No such file"),
    (Copy("other.key", "own.key"), "own.key is not the key of"),
    (Copy("own.crt", "own.key"), "it has no private key"),
    (Write(SECURE, b"[pool.secure]\nendpoints = [\"127.0.0.1:9\"]\n[pool.secure.health]\ntls = { cert = \"../own.crt\" }"), "`cert` needs `key`"),
    // Syntax and keys.
    (Edit("[process]", "[process"), "main.toml:2:"),
    (Edit("workers = 1", "workers ="), "main.toml:3:"),
    (Edit("workers = 1", "workerz = 1"), "did you mean `workers`"),
    (Edit("workers = 1", "workers = 1\nworkers = 1"), "main.toml:4:"),
    (Edit("workers = 1", "workers = \"many\""), "`workers`"),
    (Edit("workers = 1", "workers = 0"), "`workers`"),
    (Edit("workers = 1", "reload_guard = 2.0"), "`reload_guard`"),
    (Edit("workers = 1", "drain_timeout = \"30\""), "`drain_timeout`"),
    (Edit("workers = 1", "drain_timeout = \"-2s\""), "`drain_timeout`"),
    (Edit("workers = 1", "drain_timeout = 1979-05-27"), "`drain_timeout`"),
    (Edit("workers = 1", "zone = \"${PLIMSOLL_TEST_UNSET}\""), "PLIMSOLL_TEST_UNSET"),
    (Edit("workers = 1", "zone = \"${OPEN\""), "environment variable"),
    (Add("\n[listner.x]\nbind = []"), "did you mean `listener`"),
    (Add("\n[pool.main]\nfail_open = true"), "main.toml:"),
    (Edit("access = \"off\"", "level = \"loud\""), "`level`"),
    // Listeners.
    (Edit("bind = [\"WEB\"]", "bind = [\"nowhere\"]"), "nowhere"),
    (Edit("bind = [\"WEB\"]", "bind = [\"127.0.0.1\"]"), "127.0.0.1"),
    (Edit("bind = [\"WEB\"]", "bind = []"), "`bind`"),
    (Edit("bind = [\"WEB\"]", "bind = [\"ADMIN\"]"), "bound already, by the admin API"),
    (Edit("bind = [\"WEB\"]", "bind = [\"WEB\", \"WEB\"]"), "bound already"),
    (Edit("bind = [\"WEB\"]", "bind = [\"WEB\", \"TAKEN\"]"), "cannot bind TAKEN: Address already in use"),
    (Edit("bind = [\"WEB\"]", "bind = [\"WEB\", \"192.0.2.1:80\"]"), "cannot bind 192.0.2.1:80"),
    (Edit("bind = [\"WEB\"]", "bind = [\"WEB\"]\nprotocol = \"gopher\""), "`protocol`"),
    (Edit("bind = [\"WEB\"]", "bind = [\"WEB\"]\ntrusted_proxies = [\"10.0.0.0/64\"]"), "`trusted_proxies`"),
    // Routes and pools.
    (Edit("pool = \"main\"", "pool = \"mian\""), "did you mean \"main\""),
    (Edit("pool = \"main\"", "host = \"a\""), "main.toml:"),
    (Edit("pool = \"main\"", "path_regex = \"[\"\npool = \"main\""), "`path_regex`"),
    (Edit("pool = \"main\"", "path = \"/a\"\npath_prefix = \"/b\"\npool = \"main\""), "path"),
    (Edit("pool = \"main\"", "redirect = { to = \"/\", status = 200 }"), "status"),
    (Edit("endpoints = [\"ORIGIN\"]", "endpoints = []"), "`endpoints`"),
    (Edit("endpoints = [\"ORIGIN\"]", "endpoints = [\"ORIGIN\", \"ORIGIN\"]"), "ORIGIN"),
    (Edit("endpoints = [\"ORIGIN\"]", "endpoints = [\":80\"]"), ":80"),
    (Edit("endpoints = [\"ORIGIN\"]", "endpoints = [{ address = \"ORIGIN\", weight = 70000 }]"), "`weight`"),
    (Edit("endpoints = [\"ORIGIN\"]", "endpoints = [\"ORIGIN\"]\nbalance = \"round\""), "`balance`"),
    (Edit("endpoints = [\"ORIGIN\"]", "endpoints = [\"ORIGIN\"]\nfailover = [\"dr\"]"), "dr"),
    (Edit("endpoints = [\"ORIGIN\"]", "like = \"nobody\""), "nobody"),
    (Edit("endpoints = [\"ORIGIN\"]", "endpoints = [\"ORIGIN\"]\npreset = \"fancy\""), "fancy"),
];

/// Good files in a directory of their own.
struct Site {
    directory: PathBuf,
    web: SocketAddr,
    admin: SocketAddr,
    origin: SocketAddr,
    taken: SocketAddr,
}

impl Site {
    fn new(origin: SocketAddr, taken: SocketAddr) -> Self {
        let (web, admin) = free_ports(own_ip());
        Self { directory: own_directory(), web, admin, origin, taken }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What stands for addresses in texts of the cases.
    fn fill(&self, text: &str) -> String {
        let names =
            [("WEB", self.web), ("ADMIN", self.admin), ("ORIGIN", self.origin), ("TAKEN", self.taken)];
        names.iter().fold(text.to_owned(), |text, (name, address)| text.replace(name, &address.to_string()))
    }

    /// Puts the good files in their places again.
    fn mend(&self, pem: &Pem) {
        drop(fs::remove_dir_all(self.path("conf.d")));
        for name in [MAIN, EXTRA, "ca.pem", "own.crt", "own.key"] {
            clear(&self.path(name));
        }
        fs::create_dir_all(self.path("conf.d")).expect("a directory");
        let main = "include = [\"conf.d/*.toml\", \"extra.toml\"]\n[process]\nworkers = 1\nstate_dir = \"state\"\n\
             warm_timeout = \"100ms\"\n[admin]\nbind = \"ADMIN\"\n[log]\naccess = \"off\"\n[listener.web]\n\
             bind = [\"WEB\"]\n[[route]]\nname = \"all\"\npool = \"main\"\n[pool.main]\nendpoints = [\"ORIGIN\"]\n";
        let secure = "[pool.secure]\nendpoints = [\"127.0.0.1:9\"]\n[pool.secure.health]\n\
             tls = { server_name = \"a.test\", ca = \"../ca.pem\", cert = \"../own.crt\", key = \"../own.key\" }\n";
        let files = [
            (MAIN, self.fill(main)),
            (EXTRA, "[pool.extra]\nendpoints = [\"127.0.0.1:9\"]\n".to_owned()),
            (SECURE, secure.to_owned()),
            ("ca.pem", pem.cert.clone()),
            ("own.crt", pem.cert.clone()),
            ("own.key", pem.key.clone()),
            ("other.key", pem.other.clone()),
        ];
        for (name, text) in files {
            fs::write(self.path(name), text).expect("a file");
        }
    }

    fn spoil(&self, change: &Change) {
        let main = || fs::read_to_string(self.path(MAIN)).expect("the good file");
        match change {
            Edit(from, to) => {
                let (text, from) = (main(), self.fill(from));
                assert!(text.contains(&from), "{from}");
                fs::write(self.path(MAIN), text.replacen(&from, &self.fill(to), 1)).expect("a file");
            }
            Add(text) => fs::write(self.path(MAIN), main() + text).expect("a file"),
            Write(name, bytes) => fs::write(self.path(name), bytes).expect("a file"),
            Remove(name) => clear(&self.path(name)),
            Directory(name) => {
                clear(&self.path(name));
                fs::create_dir(self.path(name)).expect("a directory");
            }
            Dangling(name) => {
                clear(&self.path(name));
                symlink(self.path("nothing"), self.path(name)).expect("a link");
            }
            Zeros(name, length) => {
                let file = File::create(self.path(name)).expect("a file");
                file.set_len(*length).expect("so many zeros");
            }
            Half(name) => {
                let bytes = fs::read(self.path(name)).expect("the good file");
                fs::write(self.path(name), &bytes[..bytes.len() / 2]).expect("a file");
            }
            Copy(from, to) => drop(fs::copy(self.path(from), self.path(to)).expect("a file")),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.directory));
    }
}

fn clear(path: &Path) {
    drop(if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) });
}

struct Pem {
    cert: String,
    key: String,
    other: String,
}

impl Pem {
    fn new() -> Self {
        let own = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        let other = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        Self {
            cert: own.cert.pem(),
            key: own.signing_key.serialize_pem(),
            other: other.signing_key.serialize_pem(),
        }
    }
}

fn taken() -> TcpListener {
    TcpListener::bind((own_ip(), 0)).expect("a port")
}

#[test]
fn a_broken_change_leaves_what_runs_serving_and_is_explained() {
    let (origin, taken, pem) = (Origin::saying("served"), taken(), Pem::new());
    let site = Site::new(origin.address(), taken.local_addr().expect("its address"));
    site.mend(&pem);
    let proxy = Proxy::start_file(&site.path(MAIN), site.web, site.admin, &[]);
    let runs = proxy.admin_json("/v1/config");
    let mut wrong = Vec::new();
    for (number, (change, explained)) in CASES.iter().enumerate() {
        site.spoil(change);
        let refused = proxy.admin_change("POST", "/v1/reload", "");
        let (status, text) = (refused.status(), refused.text());
        assert!([409, 422].contains(&status), "case {number} ({explained}) is not refused: {status} {text}");
        let explained = site.fill(explained);
        let body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let detail = body["detail"].as_str().unwrap_or_default();
        if !detail.contains(&explained) {
            wrong.push(format!("case {number}: \"{explained}\" is not in:\n{detail}"));
        }
        assert_eq!(proxy.get("/").text(), "served", "case {number}");
        site.mend(&pem);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(proxy.admin_json("/v1/config"), runs, "nothing has changed");
    assert_eq!(proxy.admin_change("POST", "/v1/reload", "").status(), 200, "the good file is still good");
    assert!(CASES.len() >= 60, "{}", CASES.len());
}

#[test]
fn a_start_with_a_broken_change_serves_the_last_good_configuration() {
    let (origin, taken, pem) = (Origin::saying("served"), taken(), Pem::new());
    let (origin, taken) = (origin.address(), taken.local_addr().expect("its address"));
    let next = AtomicUsize::new(0);
    let boots = || {
        while let Some((change, explained)) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
            boot(&Site::new(origin, taken), &pem, change, explained);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(boots);
        }
    });
}

fn boot(site: &Site, pem: &Pem, change: &Change, explained: &str) {
    site.mend(pem);
    let main = site.path(MAIN);
    let good = config::load(&main).expect("the good file");
    let state = site.path("state");
    StateDir::at(&state).keep(&good.origin, good.hash, SystemTime::now()).expect("it is kept");
    site.spoil(change);
    // What systemd sets where the unit has a StateDirectory: a file that is gone cannot say where it was.
    let environment = [("STATE_DIRECTORY", state.to_str().expect("text"))];
    let proxy = Proxy::start_file(&main, site.web, site.admin, &environment);
    let explained = site.fill(explained);
    assert_eq!(proxy.get("/").text(), "served", "{explained}");
    assert_eq!(proxy.metric("plimsoll_config_fallback", ""), 1.0, "{explained}");
    let shown = proxy.admin_json("/v1/config");
    assert_eq!(shown["provenance"], "last good", "{explained}");
    until(&format!("{explained} in the log"), || {
        proxy.errors().join("\n").contains(&explained).then_some(())
    });
    assert!(
        proxy.events().iter().any(|event| event["to"] == "the last good configuration serves"),
        "{explained}"
    );
    // The way back: a good file and a reload.
    site.mend(pem);
    assert_eq!(proxy.admin_change("POST", "/v1/reload", "").status(), 200, "{explained}");
    assert_eq!(proxy.admin_json("/v1/config")["provenance"], "file", "{explained}");
    assert_eq!(proxy.metric("plimsoll_config_fallback", ""), 0.0, "{explained}");
}
