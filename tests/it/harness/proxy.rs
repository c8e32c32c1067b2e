//! The real binary with a configuration of its own: written, started, waited for, watched and stopped.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use super::client::{self, Client};
use super::wire::Message;
use super::{free_port, free_ports, own_ip, until};

/// The binary under test; `PLIMSOLL_TEST_BINARY` names a peer in its place (see `tests/peers/`).
fn binary() -> PathBuf {
    let ours = || PathBuf::from(env!("CARGO_BIN_EXE_plimsoll"));
    std::env::var_os("PLIMSOLL_TEST_BINARY").map_or_else(ours, PathBuf::from)
}

/// What a proxy is started with: one listener `web`, one pool `main`, and whatever a test adds.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    process: String,
    log: String,
    listener: String,
    protocol: &'static str,
    routes: Option<String>,
    pool: String,
    text: String,
    environment: Vec<(&'static str, String)>,
    /// A socket that it is given, and its name.
    socket: Option<(OwnedFd, &'static str)>,
    observe: bool,
    /// More keys of `[admin]`.
    admin: String,
    /// The admin API is on every address.
    open_admin: bool,
    /// The admin API is on a unix socket, and the open health listener where it would be.
    unix_admin: bool,
    /// A file that has the pool.
    include: Option<String>,
    /// It is started by way of a link that a test can lead elsewhere.
    linked: bool,
}

fn quoted(addresses: &[SocketAddr]) -> String {
    let list: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
    format!("endpoints = [{}]\n", list.join(", "))
}

fn add(to: &mut String, line: &str) {
    to.push_str(line);
    to.push('\n');
}

impl Setup {
    /// An HTTP listener whose every request goes to these endpoints.
    pub(crate) fn http(endpoints: &[SocketAddr]) -> Self {
        Self { protocol: "http", pool: quoted(endpoints), ..Self::default() }
    }

    /// The same with endpoints as they are to be written.
    pub(crate) fn listed(endpoints: &str) -> Self {
        Self { protocol: "http", pool: format!("endpoints = [{endpoints}]\n"), ..Self::default() }
    }

    /// The same with the endpoints of a file.
    pub(crate) fn filed(path: &Path) -> Self {
        let pool = format!("endpoints_file = \"{}\"\n", path.display());
        Self { protocol: "http", pool, ..Self::default() }
    }

    /// The same with a pool that stands in a file of its own.
    pub(crate) fn included(path: &Path) -> Self {
        Self { protocol: "http", include: Some(path.display().to_string()), ..Self::default() }
    }

    /// A TCP listener in front of these endpoints.
    pub(crate) fn tcp(endpoints: &[SocketAddr]) -> Self {
        Self { pool: quoted(endpoints), ..Self::listed_tcp("") }
    }

    /// The same with endpoints as they are to be written.
    pub(crate) fn listed_tcp(endpoints: &str) -> Self {
        let mut setup = Self { protocol: "tcp", ..Self::listed(endpoints) };
        setup.routes = Some(String::new());
        setup.listener("pool = \"main\"")
    }

    /// A UDP listener in front of these endpoints.
    pub(crate) fn udp(endpoints: &[SocketAddr]) -> Self {
        Self { protocol: "udp", ..Self::tcp(endpoints) }
    }

    /// The same with endpoints as they are to be written.
    pub(crate) fn listed_udp(endpoints: &str) -> Self {
        Self { protocol: "udp", ..Self::listed_tcp(endpoints) }
    }

    /// The same, where routes by `sni` alone lead to them.
    pub(crate) fn tcp_by_sni(endpoints: &str) -> Self {
        Self { protocol: "tcp", ..Self::listed(endpoints) }
    }

    /// Adds a key to `[process]`.
    pub(crate) fn process(mut self, line: &str) -> Self {
        add(&mut self.process, line);
        self
    }

    /// Adds a key to `[log]` (which otherwise says JSON on standard output).
    pub(crate) fn log(mut self, line: &str) -> Self {
        add(&mut self.log, line);
        self
    }

    /// Adds a key to the listener.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        add(&mut self.listener, line);
        self
    }

    /// Adds a key to the pool.
    pub(crate) fn pool(mut self, line: &str) -> Self {
        add(&mut self.pool, line);
        self
    }

    /// Adds a key to `[admin]`.
    pub(crate) fn admin(mut self, line: &str) -> Self {
        add(&mut self.admin, line);
        self
    }

    /// Puts the admin API on every address of the machine.
    pub(crate) fn open_admin(mut self) -> Self {
        self.open_admin = true;
        self
    }

    /// Takes the place of the route that sends everything to the pool.
    pub(crate) fn routes(mut self, text: &str) -> Self {
        self.routes = Some(text.to_owned());
        self
    }

    /// Adds whole tables.
    pub(crate) fn text(mut self, text: &str) -> Self {
        add(&mut self.text, text);
        self
    }

    /// Sets a variable in the environment of the process.
    pub(crate) fn environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Gives it a listening or a datagram socket, as a service manager does.
    pub(crate) fn inherit(mut self, socket: &impl AsFd, name: &'static str) -> Self {
        self.socket = Some((socket.as_fd().try_clone_to_owned().expect("a descriptor"), name));
        self
    }

    /// Starts it only to observe.
    pub(crate) fn observe(mut self) -> Self {
        self.observe = true;
        self
    }

    /// Puts the admin API on `admin.sock` in the proxy's directory.
    pub(crate) fn unix_admin(mut self) -> Self {
        self.unix_admin = true;
        self
    }

    /// Starts it as `plimsoll` in the proxy's directory, a link to the binary: see [`Proxy::install`].
    pub(crate) fn linked(mut self) -> Self {
        self.linked = true;
        self
    }

    fn render(&self, web: SocketAddr, admin: SocketAddr, directory: &Path) -> String {
        let default_route = "[[route]]\nname = \"all\"\npool = \"main\"\n".to_owned();
        let mut text = String::new();
        let workers = if self.process.contains("workers") { "" } else { "workers = 2\n" };
        let log = if self.log.is_empty() { "access = \"stdout\"\nformat = \"json\"\n" } else { &self.log };
        let routes = self.routes.as_ref().unwrap_or(&default_route);
        let admin = if self.unix_admin {
            let socket = directory.join("admin.sock");
            format!("[admin]\nbind = \"unix:{}\"\n\n[health]\nbind = [\"{admin}\"]\n", socket.display())
        } else {
            let bind = if self.open_admin { (Ipv4Addr::UNSPECIFIED, admin.port()).into() } else { admin };
            format!("[admin]\nbind = \"{bind}\"\n{}", self.admin)
        };
        let (include, pool) = match &self.include {
            Some(path) => (format!("include = [\"{path}\"]\n"), String::new()),
            None => (String::new(), format!("[pool.main]\n{}", self.pool)),
        };
        write!(
            text,
            "{include}[process]\n{workers}{}\n{admin}\n[log]\n{log}\n[listener.web]\nbind = [\"{web}\"]\n\
             protocol = \"{}\"\n{}\n{routes}\n{pool}\n{}",
            self.process, self.protocol, self.listener, self.text
        )
        .expect("text grows");
        text
    }

    /// Starts the binary and waits until it is ready.
    pub(crate) fn start(self) -> Proxy {
        let ip = own_ip();
        let (web, mut admin) = free_ports(ip);
        if self.open_admin {
            // Free on every address.
            admin.set_port(free_port(Ipv4Addr::UNSPECIFIED).port());
        }
        let directory = own_directory();
        let file = directory.join("plimsoll.toml");
        fs::write(&file, self.render(web, admin, &directory)).expect("a configuration file");
        let mut command = match self.socket {
            Some((socket, name)) => activated(socket, name),
            None if self.linked => {
                let link = directory.join("plimsoll");
                std::os::unix::fs::symlink(binary(), &link).expect("a link");
                Command::new(link)
            }
            None => Command::new(binary()),
        };
        command.arg("run").arg("--config").arg(&file).current_dir(&directory);
        if self.observe {
            command.arg("--observe");
        }
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        // One that only observes is never ready to take traffic.
        let there = if self.observe { "/livez" } else { "/readyz" };
        Proxy::spawn(command, web, admin, directory, there)
    }
}

/// The binary with a socket as its third descriptor: a shell moves it there, and becomes the binary.
fn activated(socket: OwnedFd, name: &str) -> Command {
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    command.arg("-c").arg(script).arg(binary()).stdin(socket);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name);
    command
}

/// Lines that a process writes, gathered by a thread.
#[derive(Debug, Clone)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn follow(source: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let copy = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                copy.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        lines
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A directory for one test's files.
pub(crate) fn own_directory() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("it-{}-{number}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// Runs the binary with these arguments to its end.
pub(crate) fn command(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

/// The running binary; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    /// Where the listener `web` is.
    pub(crate) web: SocketAddr,
    /// Where the admin API is.
    pub(crate) admin: SocketAddr,
    /// Where its configuration stands.
    pub(crate) directory: PathBuf,
    output: Lines,
    errors: Lines,
    /// Processes that have taken over.
    successors: Vec<u32>,
}

impl Proxy {
    /// Starts `plimsoll demo` on ports of its own and waits until it is ready.
    pub(crate) fn demo() -> Self {
        let ip = own_ip();
        let (web, admin) = free_ports(ip);
        let mut command = Command::new(binary());
        command.arg("demo").arg("--listen").arg(web.to_string()).arg("--admin").arg(admin.to_string());
        Self::spawn(command, web, admin, own_directory(), "/readyz")
    }

    /// Starts it with a file that stands somewhere already and is not its own to remove, and waits until it is ready.
    pub(crate) fn start_file(
        file: &Path,
        web: SocketAddr,
        admin: SocketAddr,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(file).envs(environment.iter().copied());
        Self::spawn(command, web, admin, own_directory(), "/readyz")
    }

    fn spawn(
        mut command: Command,
        web: SocketAddr,
        admin: SocketAddr,
        directory: PathBuf,
        there: &str,
    ) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let output = Lines::follow(child.stdout.take().expect("piped"));
        let errors = Lines::follow(child.stderr.take().expect("piped"));
        let mut proxy = Self { child, web, admin, directory, output, errors, successors: Vec::new() };
        proxy.wait_until(there);
        proxy
    }

    /// Waits until a page of the admin API answers 200.
    fn wait_until(&mut self, path: &str) {
        until("the proxy to be ready", || {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("the proxy ended with {status}: {}", self.errors.all().join("\n"));
            }
            // One that starts a second time, with its last good configuration, may drop a connection in between.
            let answer = self.try_admin_get(path)?;
            answer.starts_with("HTTP/1.1 200 ").then_some(())
        });
    }

    /// The bytes of an answer of the admin API, where there is one.
    fn try_admin_get(&self, path: &str) -> Option<String> {
        let mut stream = std::net::TcpStream::connect(self.admin).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// A connection to the listener `web`.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.web)
    }

    /// A GET through the proxy on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Message {
        client::get(self.web, path)
    }

    /// Any request through the proxy on a connection of its own.
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        client::ask(self.web, request)
    }

    /// A GET of the admin API.
    pub(crate) fn admin_get(&self, path: &str) -> Message {
        client::ask(
            self.admin,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        )
    }

    /// A page of the admin API as JSON.
    pub(crate) fn admin_json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.admin_get(path).body).expect("JSON")
    }

    /// A change by the admin API.
    pub(crate) fn admin_change(&self, method: &str, path: &str, body: &str) -> Message {
        let length = body.len();
        client::ask(
            self.admin,
            format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            ),
        )
    }

    /// An endpoint as its pool shows it.
    pub(crate) fn endpoint(&self, pool: &str, name: &str) -> Value {
        let pool = self.admin_json(&format!("/v1/pools/{pool}"));
        let found = pool["endpoints"].as_array().into_iter().flatten().find(|one| one["name"] == name);
        found.cloned().unwrap_or_else(|| panic!("no endpoint {name} in {pool}"))
    }

    /// Waits until a key of an endpoint (with a dot: within another) has this value.
    pub(crate) fn until_endpoint(&self, pool: &str, name: &str, key: &str, value: impl Into<Value>) {
        let (pointer, value) = (format!("/{}", key.replace('.', "/")), value.into());
        until(&format!("{key} of {name} to be {value}"), || {
            (self.endpoint(pool, name).pointer(&pointer) == Some(&value)).then_some(())
        });
    }

    /// Events so far, but for those that only say that the process runs.
    pub(crate) fn events(&self) -> Vec<Value> {
        let Value::Array(events) = self.admin_json("/v1/events") else { panic!("no list of events") };
        events.into_iter().filter(|event| event["kind"] != "process").collect()
    }

    /// Waits for the first event about somebody (an endpoint, or a pool) that says what it has become.
    pub(crate) fn event(&self, about: &str, to: &str) -> Value {
        until(&format!("the event that {about} becomes {to}"), || {
            let is_it =
                |event: &Value| (event["endpoint"] == about || event["pool"] == about) && event["to"] == to;
            self.events().into_iter().find(is_it)
        })
    }

    /// The sum of all samples of a metric whose labels contain this text.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin_get("/metrics").text();
        let lines = text.lines().filter(|l| l.split(['{', ' ']).next() == Some(name) && l.contains(labels));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the sum of a counter is `value`: much is counted a moment after a client could see it.
    pub(crate) fn until_metric(&self, name: &str, labels: &str, value: f64) {
        until(&format!("{name} {labels} to be {value}"), || {
            (self.metric(name, labels) == value).then_some(())
        });
    }

    /// What it wrote to standard output so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.all()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.all()
    }

    /// Waits for so many access-log records in JSON and gives them all.
    pub(crate) fn records(&self, count: usize) -> Vec<Value> {
        until("access-log records", || {
            let lines = self.output();
            let records: Vec<_> = lines.iter().filter_map(|l| serde_json::from_str(l).ok()).collect();
            (records.len() >= count).then_some(records)
        })
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("an id");
        rustix::process::kill_process(id, signal).expect("it is ours");
    }

    /// Puts a program in the place of the one that a linked process was started from.
    pub(crate) fn install(&self, script: &str) {
        let (path, link) = (self.directory.join("next"), self.directory.join("plimsoll"));
        fs::write(&path, script).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        fs::rename(path, link).expect("it takes the place");
    }

    /// Has it replaced by a new process, and waits until that one answers alone: the number of that.
    pub(crate) fn upgrade(&mut self) -> u32 {
        let before = self.serving();
        let id = i32::try_from(before).ok().and_then(rustix::process::Pid::from_raw).expect("an id");
        rustix::process::kill_process(id, rustix::process::Signal::USR2).expect("it is ours");
        let successor = until("another process", || {
            // The old process may close a connection before the request is there.
            let status = self.try_admin_get("/v1/status")?;
            let status: Value = serde_json::from_str(status.split_once("\r\n\r\n")?.1).ok()?;
            let now = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
            (now != before).then_some(now)
        });
        self.successors.push(successor);
        successor
    }

    /// Notes a process that has taken over, so that it is ended with us.
    pub(crate) fn taken_over_by(&mut self, successor: u32) {
        self.successors.push(successor);
    }

    /// The number of the process that answers the admin API.
    pub(crate) fn serving(&self) -> u32 {
        let pid = self.admin_json("/v1/status")["pid"].as_u64();
        pid.and_then(|pid| u32::try_from(pid).ok()).expect("a number")
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the proxy to end", || self.ended())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            let errors = self.errors.all();
            let from = errors.len().saturating_sub(20);
            eprintln!("the proxy's last words:\n{}", errors[from..].join("\n"));
        }
        for &successor in &self.successors {
            let id = i32::try_from(successor).ok().and_then(rustix::process::Pid::from_raw);
            // It may have ended already.
            id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::KILL).ok());
        }
        // Both fail only where the process has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.directory));
    }
}
