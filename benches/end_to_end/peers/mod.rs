//! The proxies under test: where their binaries are, what each can do, and a running process of each that ends with its
//! owner. A file for each holds the configuration that makes it do the same work as the others, on one CPU.

mod haproxy;
mod nginx;
mod plimsoll;

use std::fmt;
use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::certificate::Certificate;
use crate::lines::{Front, Line};
use crate::origin::Origins;

/// The CPU that the proxy has for itself; load and origin share the other one.
const PROXY_CPU: &str = "0";

/// A proxy that does not listen by then is given up.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// A proxy that has not gone by then, asked politely, is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plimsoll,
    /// Ours without what a line asks for beside forwarding: what that costs is the difference.
    Bare,
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
    /// All that it says about how it was built.
    built: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Plimsoll => "plimsoll",
            Kind::Bare => "plimsoll, bare",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
            Kind::Pingora => "pingora",
        };
        write!(out, "{name} {}", self.version)
    }
}

/// What all proxies are asked to be.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) line: &'a Line,
    pub(crate) origins: Origins,
    /// What is shown to clients that come by TLS.
    pub(crate) certificate: &'a Certificate,
    /// Each request or connection leaves a line in a file in memory.
    pub(crate) access_log: bool,
    /// Descriptors that a process may have.
    pub(crate) descriptors: u64,
}

impl Task<'_> {
    /// The origin that the line's requests end at.
    fn origin(&self) -> SocketAddr {
        match self.line.front {
            Front::Http | Front::Toolbox | Front::Tcp | Front::Tls => self.origins.http,
            Front::H2c => self.origins.grpc,
            Front::Udp => self.origins.udp,
        }
    }
}

/// What is a proxy's own: where it listens, and the folder for its files.
struct Site {
    front: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
}

/// A proxy that listens, on one CPU.
pub(crate) struct Running {
    child: Child,
    folder: PathBuf,
    /// The listener of its line.
    pub(crate) front: SocketAddr,
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
        (Kind::Plimsoll, Some(ours.clone()), "--version"),
        (Kind::Bare, Some(ours), "--version"),
        (Kind::Haproxy, Some("haproxy".into()), "-vv"),
        (Kind::Haproxy, std::env::var_os("HAPROXY3"), "-vv"),
        (Kind::Nginx, Some("nginx".into()), "-V"),
        (Kind::Pingora, Some(Path::new(PINGORA).join(PINGORA_BINARY).into()), "--version"),
    ];
    let found = candidates.into_iter().filter_map(|(kind, binary, flag)| {
        let binary = PathBuf::from(binary?);
        let built = said(&binary, flag)?;
        let version = version(&built)?;
        Some(Peer { kind, binary, version, built })
    });
    found.collect()
}

/// What a binary says about itself.
fn said(binary: &Path, flag: &str) -> Option<String> {
    let output = Command::new(binary).arg(flag).stdin(Stdio::null()).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// The first word with a digit and a dot in it, without its packaging.
fn version(said: &str) -> Option<String> {
    let word = said
        .split(|byte: char| byte.is_whitespace() || byte == '/')
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))?;
    let parts: Vec<&str> = word.split('-').collect();
    let released = if parts.get(1).is_some_and(|part| part.starts_with("dev")) { 2 } else { 1 };
    Some(parts[..released].join("-"))
}

impl Peer {
    /// Whether this binary can listen so.
    pub(crate) fn has(&self, front: Front) -> bool {
        match self.kind {
            Kind::Plimsoll => true,
            Kind::Bare => front == Front::Toolbox,
            Kind::Haproxy => match front {
                Front::Http | Front::Toolbox | Front::Tcp | Front::H2c => true,
                Front::Tls => self.built.contains("+OPENSSL"),
                Front::Udp => false,
            },
            Kind::Nginx => match front {
                Front::Http => true,
                // It has no sticky cookie.
                Front::Toolbox => false,
                Front::Tcp | Front::Udp => Path::new(nginx::STREAM).exists(),
                Front::Tls => {
                    ["ssl", "v2"].iter().all(|part| self.built.contains(&format!("http_{part}_module")))
                }
                Front::H2c => self.built.contains("http_v2_module"),
            },
            Kind::Pingora => front == Front::Http,
        }
    }

    /// Starts the proxy with a folder of its own in memory, and waits until it listens.
    pub(crate) fn start(&self, task: &Task<'_>) -> std::io::Result<Running> {
        let [front, admin] = free_addresses()?;
        let folder = PathBuf::from(format!("/dev/shm/end_to_end-{}-{}", std::process::id(), front.port()));
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("config");
        let site = Site { front, admin, folder };
        let text = match self.kind {
            Kind::Plimsoll => plimsoll::config(task, &site, false),
            Kind::Bare => plimsoll::config(task, &site, true),
            Kind::Haproxy => haproxy::config(task, &site),
            Kind::Nginx => nginx::config(task, &site),
            // It is told all on its command line.
            Kind::Pingora => String::new(),
        };
        std::fs::write(&config, text)?;

        let mut command = Command::new("taskset");
        command.args(["-c", PROXY_CPU]).arg(&self.binary);
        match self.kind {
            Kind::Plimsoll | Kind::Bare => command.arg("run").arg("--config").arg(&config),
            Kind::Haproxy => command.arg("-db").arg("-f").arg(&config),
            Kind::Nginx => command.arg("-p").arg(&site.folder).arg("-c").arg(&config),
            Kind::Pingora => command
                .arg(front.to_string())
                .arg(task.origin().to_string())
                .args(task.access_log.then_some("--access-log")),
        };
        let log = std::fs::File::create(site.folder.join("stdout"))?;
        let errors = std::fs::File::create(site.folder.join("stderr"))?;
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn()?;
        let mut running = Running { child, folder: site.folder, front };
        running.wait_until_listening(task.line.front)?;
        Ok(running)
    }
}

/// Two addresses that are free now, the first for datagrams, too; nobody else on this machine is expected to take them in
/// between.
fn free_addresses() -> std::io::Result<[SocketAddr; 2]> {
    let (first, second) =
        (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    let front = first.local_addr()?;
    drop(UdpSocket::bind(front)?);
    Ok([front, second.local_addr()?])
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_listening(&mut self, front: Front) -> std::io::Result<()> {
        let start = Instant::now();
        let address = self.front;
        let answers = || match front {
            Front::Udp => echoes(address).unwrap_or(false),
            _ => TcpStream::connect(address).is_ok(),
        };
        while !answers() {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.did_not_start(&format!("it ended with {status}:")));
            }
            if start.elapsed() > START_PATIENCE {
                return Err(self.did_not_start("it does not listen"));
            }
            pause();
        }
        Ok(())
    }

    fn did_not_start(&self, what: &str) -> Error {
        let said = std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
        // The last line is the one that says why.
        Error::new(ErrorKind::NotConnected, format!("{what} {}", said.lines().last().unwrap_or_default()))
    }
}

/// Whether a datagram comes back, with the wait that this takes at most.
fn echoes(address: SocketAddr) -> std::io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    socket.send(b"?")?;
    Ok(socket.recv(&mut [0; 8])? == 1)
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
