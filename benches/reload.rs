//! What a reload of a large configuration takes, from its text to the published snapshot; whether a request is lost while
//! reloads follow one another under load, and how long requests take then and without them. Figures, with the target
//! beside them; nothing fails.
//!
//! `cargo bench --bench reload -- [--seconds N]`

use std::fmt::Write as _;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use plimsoll::{Config, Handle, Proxy, config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

// As the program itself has it.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const POOLS: usize = 1000;
const ENDPOINTS: usize = 10;

/// Routes to each pool.
const ROUTES: usize = 10;

/// What a reload may take; design.md section 8.
const TARGET: Duration = Duration::from_millis(250);

/// Reloads that are timed one by one, without load.
const QUIET: usize = 20;

/// Clients that ask one request after the other, and the pools that they ask for: few enough that the idle connections to
/// all their endpoints have descriptors.
const CLIENTS: usize = 4;
const ASKED_POOLS: usize = 20;

/// An answer that takes longer is a lost one.
const PATIENCE: Duration = Duration::from_secs(5);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benchmarks too, without this flag: there it is enough that this one builds.
    if !std::env::args().any(|word| word == "--bench") {
        eprintln!("reload measures only under `cargo bench`, or when it is given --bench");
        return ExitCode::SUCCESS;
    }
    match seconds().and_then(measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn seconds() -> Result<Duration, Failure> {
    let mut words = std::env::args().skip_while(|word| word != "--seconds").skip(1);
    Ok(Duration::from_secs(words.next().map_or(Ok(10), |word| word.parse())?))
}

fn measure(length: Duration) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let port = runtime.block_on(origin())?;
    let listen = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    // Two configurations in turn: the second has another last endpoint in each pool.
    let texts = [text(listen, port, 0), text(listen, port, 1)];
    let proxy = Proxy::start(&parse(&texts[0])?)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} endpoints in {POOLS} pools behind {} routes; each reload replaces {POOLS} endpoints; target {} ms",
        POOLS * ENDPOINTS,
        POOLS * ROUTES,
        TARGET.as_millis()
    )?;
    let mut turn = 0;
    let quiet = runtime.block_on(reloads(&proxy, &texts, &mut turn, |done| done < QUIET))?;
    print(&mut out, "without load", &quiet)?;

    let ((), alone) = under_load(listen, || {
        runtime.block_on(async { tokio::time::sleep(length).await });
        Ok(())
    })?;
    alone.print(&mut out, "without reloads")?;
    let (busy, beside) = under_load(listen, || {
        let start = Instant::now();
        runtime.block_on(reloads(&proxy, &texts, &mut turn, |_| start.elapsed() < length))
    })?;
    print(&mut out, "under load", &busy)?;
    beside.print(&mut out, "during reloads one after the other")?;
    runtime.block_on(proxy.shutdown(true));
    Ok(())
}

/// Works while clients ask, and tells what they went through meanwhile.
fn under_load<T>(
    target: SocketAddr,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<(T, Asked), Failure> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let clients: Vec<_> =
            (0..CLIENTS).map(|first| scope.spawn(move || client(target, first, stop))).collect();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let asked = clients.into_iter().filter_map(|client| client.join().ok());
        Ok((done?, asked.fold(Asked::default(), Asked::and)))
    })
}

/// How long the steps of one reload took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// From text to a checked configuration.
    parsing: Duration,
    /// From there to the published snapshot.
    publishing: Duration,
}

async fn reloads(
    proxy: &Handle,
    texts: &[String; 2],
    turn: &mut usize,
    more: impl Fn(usize) -> bool,
) -> Result<Vec<Taken>, Failure> {
    let mut taken = Vec::new();
    while more(taken.len()) {
        *turn += 1;
        let start = Instant::now();
        let config = parse(&texts[*turn % 2])?;
        let parsing = start.elapsed();
        proxy.reload(config).await?;
        taken.push(Taken { parsing, publishing: start.elapsed() - parsing });
    }
    Ok(taken)
}

fn print(out: &mut impl Write, when: &str, taken: &[Taken]) -> std::io::Result<()> {
    let figures = |of: fn(&Taken) -> Duration| {
        let mut all: Vec<Duration> = taken.iter().map(of).collect();
        all.sort_unstable();
        let at = |place: usize| all.get(place).copied().unwrap_or_default();
        (millis(at(all.len() / 2)), millis(at(all.len().saturating_sub(1))))
    };
    let whole = figures(|t| t.parsing + t.publishing);
    let (parsing, publishing) = (figures(|t| t.parsing), figures(|t| t.publishing));
    let verdict = if whole.0 < millis(TARGET) { "reached" } else { "MISSED" };
    writeln!(
        out,
        "  {when}: {} reloads, median {:.1} ms ({verdict}), slowest {:.1} ms; of that text {:.1}, compile and publish {:.1}",
        taken.len(),
        whole.0,
        whole.1,
        parsing.0,
        publishing.0
    )
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn text(listen: SocketAddr, port: u16, version: usize) -> String {
    let mut text = format!(
        "[log]\naccess = \"off\"\nlevel = \"error\"\n[listener.web]\nbind = [\"{listen}\"]\nprotocol = \"http\"\n"
    );
    let mut pools = String::new();
    for pool in 0..POOLS {
        // Every address of 127.0.0.0/8 is the origin.
        let address =
            |endpoint: usize| format!("\"127.{}.{}.{}:{port}\"", endpoint + 1, pool >> 8, pool & 255);
        let last = ENDPOINTS - 1 + version;
        let list: Vec<String> = (0..ENDPOINTS - 1).chain([last]).map(address).collect();
        // Writing to a string cannot fail.
        for route in 0..ROUTES {
            let name = if route == 0 { format!("p{pool}") } else { format!("p{pool}-{route}") };
            let _infallible = writeln!(
                text,
                "[[route]]\nname = \"{name}\"\npath_prefix = \"/{name}/\"\npool = \"p{pool}\""
            );
        }
        let _infallible = writeln!(pools, "[pool.p{pool}]\nendpoints = [{}]", list.join(", "));
    }
    text + &pools
}

fn parse(text: &str) -> Result<Config, config::Diagnostics> {
    config::load_text(text, Path::new("reload.toml"), &|_| None)
}

/// An origin on every loopback address, on a thread of its own; says its port.
async fn origin() -> std::io::Result<u16> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    // It is every endpoint, and each of the many is connected to before it is published: with a short queue it would be
    // the repeats of lost SYNs that are measured, a second each.
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    let listener = std::net::TcpListener::from(socket);
    let port = listener.local_addr()?.port();
    let thread: std::io::Result<JoinHandle<()>> =
        std::thread::Builder::new().name("origin".to_owned()).spawn(move || {
            if let Err(error) = serve(listener) {
                eprintln!("the origin has ended: {error}");
            }
        });
    thread.map(|_| port)
}

fn serve(listener: std::net::TcpListener) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut part = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut part).await {
                    head.extend_from_slice(&part[..count]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        if stream.write_all(ANSWER).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    })
}

/// What clients went through.
#[derive(Debug, Default)]
struct Asked {
    /// How long each answer took.
    answers: Vec<Duration>,
    lost: u64,
}

impl Asked {
    fn and(mut self, other: Self) -> Self {
        self.answers.extend(other.answers);
        Self { answers: self.answers, lost: self.lost + other.lost }
    }

    fn print(mut self, out: &mut impl Write, when: &str) -> std::io::Result<()> {
        self.answers.sort_unstable();
        let at = |hundredths: usize| {
            let place = (self.answers.len() * hundredths / 100).min(self.answers.len().saturating_sub(1));
            millis(self.answers.get(place).copied().unwrap_or_default())
        };
        writeln!(
            out,
            "  {when}: {} requests, {} lost, p50 {:.2} ms, p99 {:.2} ms, the slowest {:.1} ms",
            self.answers.len(),
            self.lost,
            at(50),
            at(99),
            at(100)
        )
    }
}

/// Asks for one pool after the other on a kept connection.
fn client(target: SocketAddr, first: usize, stop: &AtomicBool) -> Asked {
    let mut asked = Asked::default();
    let mut connection = None;
    for number in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        match ask(target, number % ASKED_POOLS, &mut connection) {
            Ok(()) => asked.answers.push(start.elapsed()),
            Err(error) => {
                eprintln!("lost: {error}");
                asked.lost += 1;
                connection = None;
            }
        }
    }
    asked
}

fn ask(target: SocketAddr, pool: usize, connection: &mut Option<TcpStream>) -> std::io::Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(target)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            connection.insert(stream)
        }
    };
    stream.write_all(format!("GET /p{pool}/ HTTP/1.1\r\nHost: bench.test\r\n\r\n").as_bytes())?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"\r\n\r\nok\n") {
        match stream.read(&mut part)? {
            0 => return Err(Error::new(ErrorKind::UnexpectedEof, "closed before the answer")),
            count => answer.extend_from_slice(&part[..count]),
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(Error::new(ErrorKind::InvalidData, String::from_utf8_lossy(&answer).into_owned()));
        }
    }
    Ok(())
}
