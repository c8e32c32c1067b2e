//! The proxies under test: where their binaries are, the configuration that makes them do the same work on one CPU,
//! and a running process of each that ends with its owner.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// The CPU that the proxy has for itself; load and origin share the other one.
const PROXY_CPU: &str = "0";

/// A proxy that does not listen by then is given up.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// A proxy that has not gone by then, asked politely, is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Debian's place for nginx's relay of plain TCP.
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Pipes that HAProxy may hold for splicing: one each way for every client of a line that measures CPU time, twice.
const HAPROXY_PIPES: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plimsoll,
    Haproxy,
    Nginx,
    Pingora,
}

/// One binary that can be measured.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    binary: PathBuf,
    /// As the binary says, such as `2.6.12`.
    pub(crate) version: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Plimsoll => "plimsoll",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
            Kind::Pingora => "pingora",
        };
        write!(out, "{name} {}", self.version)
    }
}

/// What all proxies are asked to be.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Where the origin listens.
    pub(crate) origin: SocketAddr,
    /// Each request or connection leaves a line in a file in memory.
    pub(crate) access_log: bool,
    /// HAProxy's `option splice-auto`: for lines with large answers, and TCP.
    pub(crate) splice: bool,
    /// Plain TCP is relayed too; nginx needs a module for it.
    pub(crate) relay: bool,
    /// Descriptors that a process may have.
    pub(crate) descriptors: u64,
}

/// A proxy that listens, on one CPU.
pub(crate) struct Running {
    child: Child,
    folder: PathBuf,
    /// Its HTTP listener.
    pub(crate) http: SocketAddr,
    /// Its TCP listener.
    pub(crate) tcp: SocketAddr,
}

/// Where pingora-proxy's own small crate stands, and its binary below that.
const PINGORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/pingora");
const PINGORA_BINARY: &str = "target/release/plimsoll-bench-pingora";

/// Builds pingora-proxy, which is not installed by any package.
pub(crate) fn build_pingora() -> std::io::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = Path::new(PINGORA).join("target");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--target-dir"]).arg(target).current_dir(PINGORA);
    let built = command.stdin(Stdio::null()).status()?;
    if built.success() { Ok(()) } else { Err(Error::other("benches/pingora cannot be built")) }
}

/// The binaries that are there: ours first, then `haproxy`, the one that `HAPROXY3` names, `nginx`, and pingora-proxy if
/// it has been built. `PLIMSOLL` names another binary of ours.
pub(crate) fn installed() -> Vec<Peer> {
    let ours = std::env::var_os("PLIMSOLL").unwrap_or_else(|| env!("CARGO_BIN_EXE_plimsoll").into());
    let candidates = [
        (Kind::Plimsoll, Some(ours), "--version"),
        (Kind::Haproxy, Some("haproxy".into()), "-v"),
        (Kind::Haproxy, std::env::var_os("HAPROXY3"), "-v"),
        (Kind::Nginx, Some("nginx".into()), "-v"),
        (Kind::Pingora, Some(Path::new(PINGORA).join(PINGORA_BINARY).into()), "--version"),
    ];
    let found = candidates.into_iter().filter_map(|(kind, binary, flag)| {
        let binary = PathBuf::from(binary?);
        let version = version(&binary, flag)?;
        Some(Peer { kind, binary, version })
    });
    found.collect()
}

/// The first word with a digit and a dot in what the binary says about itself, without its packaging.
fn version(binary: &Path, flag: &str) -> Option<String> {
    let output = Command::new(binary).arg(flag).stdin(Stdio::null()).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let word = said
        .split(|byte: char| byte.is_whitespace() || byte == '/')
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))?;
    let parts: Vec<&str> = word.split('-').collect();
    let released = if parts.get(1).is_some_and(|part| part.starts_with("dev")) { 2 } else { 1 };
    Some(parts[..released].join("-"))
}

impl Peer {
    /// Whether this binary can relay plain TCP here, or datagrams.
    pub(crate) fn relays(&self, datagrams: bool) -> bool {
        match self.kind {
            Kind::Plimsoll => true,
            Kind::Haproxy => !datagrams,
            Kind::Nginx => Path::new(NGINX_STREAM).exists(),
            Kind::Pingora => false,
        }
    }

    /// Starts the proxy with a folder of its own in memory, and waits until it listens.
    pub(crate) fn start(&self, task: &Task) -> std::io::Result<Running> {
        let [http, tcp, admin] = free_addresses()?;
        let folder = PathBuf::from(format!("/dev/shm/end_to_end-{}-{}", std::process::id(), http.port()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("config");
        let text = match self.kind {
            Kind::Plimsoll => plimsoll(task, http, tcp, admin, &folder),
            Kind::Haproxy => haproxy(task, http, tcp),
            Kind::Nginx => nginx(task, http, tcp, &folder),
            // It is told all on its command line.
            Kind::Pingora => String::new(),
        };
        std::fs::write(&config, text)?;

        let mut command = Command::new("taskset");
        command.args(["-c", PROXY_CPU]).arg(&self.binary);
        match self.kind {
            Kind::Plimsoll => command.arg("run").arg("--config").arg(&config),
            Kind::Haproxy => command.arg("-db").arg("-f").arg(&config),
            Kind::Nginx => command.arg("-p").arg(&folder).arg("-c").arg(&config),
            Kind::Pingora => command
                .arg(http.to_string())
                .arg(task.origin.to_string())
                .args(task.access_log.then_some("--access-log")),
        };
        let log = std::fs::File::create(folder.join("stdout"))?;
        let errors = std::fs::File::create(folder.join("stderr"))?;
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn()?;
        let mut running = Running { child, folder, http, tcp };
        running.wait_until_listening(&[http, tcp][..1 + usize::from(task.relay)])?;
        Ok(running)
    }
}

/// Three addresses that are free now; nobody else on this machine is expected to take them in between.
fn free_addresses() -> std::io::Result<[SocketAddr; 3]> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let [first, second, third] = &listeners;
    Ok([first.local_addr()?, second.local_addr()?, third.local_addr()?])
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_listening(&mut self, addresses: &[SocketAddr]) -> std::io::Result<()> {
        let start = Instant::now();
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                if let Some(status) = self.child.try_wait()? {
                    return Err(self.did_not_start(&format!("it ended with {status}:")));
                }
                if start.elapsed() > START_PATIENCE {
                    return Err(self.did_not_start("it does not listen"));
                }
                pause();
            }
        }
        Ok(())
    }

    fn did_not_start(&self, what: &str) -> Error {
        let said = std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
        // The last line is the one that says why.
        Error::new(ErrorKind::NotConnected, format!("{what} {}", said.lines().last().unwrap_or_default()))
    }
}

/// A short wait for another process, which no event announces.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(10));
}

impl Drop for Running {
    fn drop(&mut self) {
        let start = Instant::now();
        // nginx's workers go with their master only when it is asked, so killing comes last.
        let asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        while asked.is_ok() && start.elapsed() < STOP_PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            pause();
        }
        // Both fail only when the process or the folder is gone, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Everything stays at its default but what the work asks for.
fn plimsoll(task: &Task, http: SocketAddr, tcp: SocketAddr, admin: SocketAddr, folder: &Path) -> String {
    let access =
        if task.access_log { folder.join("access.log").display().to_string() } else { "off".to_owned() };
    let relay = if task.relay {
        format!(
            "[listener.relay]\nbind = [\"{tcp}\"]\nprotocol = \"tcp\"\npool = \"raw\"\n\
             [listener.datagrams]\nbind = [\"{tcp}\"]\nprotocol = \"udp\"\npool = \"raw\"\n"
        )
    } else {
        String::new()
    };
    format!(
        r#"
[process]
workers = 1
[admin]
bind = "{admin}"
[log]
access = "{access}"
[listener.web]
bind = ["{http}"]
protocol = "http"
{relay}
[[route]]
pool = "origin"
[pool.origin]
endpoints = ["{origin}"]
[pool.raw]
endpoints = ["{origin}"]
"#,
        origin = task.origin
    )
}

/// One thread; `http-reuse always`, because the default, `safe`, opens a connection to the origin for each new client,
/// which neither nginx nor we do. The access log goes to standard output, which is a file in memory.
fn haproxy(task: &Task, http: SocketAddr, tcp: SocketAddr) -> String {
    let splice = if task.splice { "option splice-auto" } else { "" };
    let (target, http_log, tcp_log) = if task.access_log {
        ("log stdout format raw local0", "log global\n option httplog", "log global\n option tcplog")
    } else {
        ("", "", "")
    };
    // Each connection and each pipe takes two descriptors.
    let connections = (task.descriptors - 500) / 2 - HAPROXY_PIPES;
    format!(
        r"
global
 nbthread 1
 maxconn {connections}
 maxpipes {HAPROXY_PIPES}
 {target}
defaults
 timeout connect 2s
 timeout client 60s
 timeout server 60s
 timeout http-keep-alive 60s
 {splice}
listen web
 mode http
 bind {http}
 maxconn {connections}
 http-reuse always
 {http_log}
 server origin {origin}
listen relay
 mode tcp
 bind {tcp}
 maxconn {connections}
 {tcp_log}
 server origin {origin}
",
        origin = task.origin
    )
}

/// One worker, kept connections to the origin, no limit on requests per connection, no answer written to disk.
fn nginx(task: &Task, http: SocketAddr, tcp: SocketAddr, folder: &Path) -> String {
    let log = folder.join("access.log").display().to_string();
    let (http_log, tcp_log) = if task.access_log {
        (
            format!("access_log {log} combined"),
            format!(
                "log_format relay '$remote_addr $status $bytes_sent $session_time'; access_log {log} relay"
            ),
        )
    } else {
        ("access_log off".to_owned(), "access_log off".to_owned())
    };
    let folder = folder.display();
    let (origin, descriptors, connections) = (task.origin, task.descriptors, task.descriptors - 500);
    let (module, stream) = if task.relay {
        let stream = format!(
            "stream {{ {tcp_log}; upstream origin {{ server {origin}; }}\n\
             server {{ listen {tcp} backlog=4096; proxy_pass origin; }}\n\
             server {{ listen {tcp} udp; proxy_pass origin; }} }}"
        );
        (format!("load_module {NGINX_STREAM};"), stream)
    } else {
        (String::new(), String::new())
    };
    format!(
        r#"
{module}
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
 {http_log};
 client_body_temp_path {folder}/client;
 proxy_temp_path {folder}/proxy;
 fastcgi_temp_path {folder}/fastcgi;
 uwsgi_temp_path {folder}/uwsgi;
 scgi_temp_path {folder}/scgi;
 keepalive_requests 1000000000;
 keepalive_timeout 60s;
 upstream origin {{
  server {origin};
  keepalive 64;
  keepalive_requests 1000000000;
 }}
 server {{
  listen {http} backlog=4096;
  location / {{
   proxy_pass http://origin;
   proxy_http_version 1.1;
   proxy_set_header Connection "";
   proxy_max_temp_file_size 0;
  }}
 }}
}}
{stream}
"#
    )
}
