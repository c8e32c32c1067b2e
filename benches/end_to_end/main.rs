//! The end-to-end benchmark: the same load through Plimsoll and through every peer that is installed, each alone on one
//! CPU with load and origin on another, and what each answer cost the proxy.
//!
//! `cargo bench --bench end_to_end -- [--rounds N] [--seconds N] [--only LINE]... [--access-log on|off|both] [--json]
//! [--peers pingora]`
//!
//! A peer that is missing is left out; `--peers pingora` builds the one that no package brings, and once built it takes part
//! in every run. Environment: `HAPROXY3` names a second HAProxy, `PLIMSOLL` another binary of ours.
//! Judge by ratios within one run: CPU time comes from the kernel's account of the process, so it holds on a noisy
//! machine, but the machine is still part of it.

mod account;
mod certificate;
mod lines;
mod load;
mod origin;
mod peers;
mod table;

use std::io::{Error, ErrorKind, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

use account::Account;
use certificate::{Certificate, ClientTls};
use lines::{LINES, Line, Work};
use load::Streams;
use peers::{Kind, Peer, Running, Task};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use table::{Entry, Sample};

/// The CPU that load and origin share.
const LOAD_CPU: &str = "1";

/// Load before the account is opened: pools fill, code is warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// Connections that are busy at the same time in the burst before the idle ones are counted.
const BURST: usize = 256;

/// Descriptors that this process needs next to those of its clients.
const SPARE_DESCRIPTORS: u64 = 1000;

/// What the command line asks for.
struct Arguments {
    rounds: usize,
    length: Duration,
    only: Vec<String>,
    access_log: Vec<bool>,
    json: bool,
    build_pingora: bool,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benchmarks too, without this flag: there it is enough that this one builds.
    if !std::env::args().any(|word| word == "--bench") {
        eprintln!("end_to_end measures only under `cargo bench`, or when it is given --bench");
        return ExitCode::SUCCESS;
    }
    match arguments(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("end_to_end: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> std::io::Result<Arguments> {
    let wrong = |what: String| Error::new(ErrorKind::InvalidInput, what);
    let mut found = Arguments {
        rounds: 3,
        length: Duration::from_secs(3),
        only: Vec::new(),
        access_log: vec![false, true],
        json: false,
        build_pingora: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| wrong(format!("{word} needs a value")));
        match word.as_str() {
            // Cargo's own way to say that benchmarks run.
            "--bench" => {}
            "--json" => found.json = true,
            "--rounds" => {
                found.rounds = value()?
                    .parse()
                    .ok()
                    .filter(|rounds| *rounds > 0)
                    .ok_or_else(|| wrong("--rounds takes a number from 1".to_owned()))?;
            }
            "--seconds" => {
                let seconds = value()?.parse().ok().filter(|seconds| (0.1..=600.0).contains(seconds));
                let seconds = seconds.ok_or_else(|| wrong("--seconds takes 0.1 to 600".to_owned()))?;
                found.length = Duration::from_secs_f64(seconds);
            }
            "--only" => {
                let name = value()?;
                if !LINES.iter().any(|line| line.name == name) {
                    let names: Vec<_> = LINES.iter().map(|line| line.name).collect();
                    return Err(wrong(format!("no line {name}; they are {}", names.join(", "))));
                }
                found.only.push(name);
            }
            "--access-log" => {
                found.access_log = match value()?.as_str() {
                    "off" => vec![false],
                    "on" => vec![true],
                    "both" => vec![false, true],
                    other => return Err(wrong(format!("--access-log takes on, off or both, not {other}"))),
                };
            }
            "--peers" => match value()?.as_str() {
                "pingora" => found.build_pingora = true,
                other => return Err(wrong(format!("--peers takes pingora, which it builds, not {other}"))),
            },
            other => return Err(wrong(format!("unknown argument {other}"))),
        }
    }
    Ok(found)
}

fn run(arguments: &Arguments) -> std::io::Result<()> {
    // Before anything is pinned to one CPU.
    if arguments.build_pingora {
        peers::build_pingora()?;
    }
    pin_to_load_cpu()?;
    let descriptors = raise_descriptor_limit()?;
    let origins = origin::start()?;
    let (certificate, tls) = (Certificate::make()?, ClientTls::new()?);
    let peers = peers::installed();
    let mut out = std::io::stdout().lock();
    let mut document = Vec::new();
    if !peers.iter().any(|peer| peer.kind == Kind::Plimsoll) {
        eprintln!("plimsoll cannot be run: peers are measured alone, without ratios");
    }

    for &access_log in &arguments.access_log {
        if !arguments.json {
            let (state, first) = if access_log { ("on", "\n") } else { ("off", "") };
            writeln!(
                out,
                "{first}Access log {state} everywhere; {} rounds of {:?}",
                arguments.rounds, arguments.length
            )?;
        }
        for line in LINES {
            let wanted = arguments.only.is_empty() || arguments.only.iter().any(|name| name == line.name);
            // Idle connections write no log.
            if !wanted || (access_log && matches!(line.work, Work::Idle(_))) {
                continue;
            }
            let task = Task { line, origins, certificate: &certificate, access_log, descriptors };
            let entries = measure_line(&task, &peers, &tls, arguments);
            if arguments.json {
                document.push(table::json(line, access_log, &entries));
            } else {
                table::print(&mut out, line, &entries)?;
            }
        }
    }
    if arguments.json {
        writeln!(out, "{}", serde_json::Value::from(document))?;
    }
    Ok(())
}

/// All rounds of one line; in each round every peer has its turn, so that a noisy minute harms all alike.
fn measure_line(task: &Task<'_>, peers: &[Peer], tls: &ClientTls, arguments: &Arguments) -> Vec<Entry> {
    let name = task.line.name;
    let able = peers.iter().filter(|peer| {
        let able = peer.has(task.line.front);
        if !able && peer.kind != Kind::Bare {
            eprintln!("{name}: {peer} cannot do this, it is left out");
        }
        able
    });
    let mut entries: Vec<Entry> =
        able.map(|peer| Entry { peer: peer.clone(), rounds: Vec::new(), failure: None }).collect();
    for round in 1..=arguments.rounds {
        for entry in entries.iter_mut().filter(|entry| entry.failure.is_none()) {
            eprintln!("{name} {round}/{}: {}", arguments.rounds, entry.peer);
            match measure(&entry.peer, task, tls, arguments.length) {
                Ok(sample) => entry.rounds.push(sample),
                Err(error) => {
                    eprintln!("{}: {error}", entry.peer);
                    // A proxy that fails in one round has no figure at all.
                    entry.rounds.clear();
                    entry.failure = Some(error.to_string());
                }
            }
        }
    }
    entries
}

/// One round of one proxy, in a process of its own.
fn measure(peer: &Peer, task: &Task<'_>, tls: &ClientTls, length: Duration) -> std::io::Result<Sample> {
    let running = peer.start(task)?;
    match task.line.work {
        Work::Exchanges(clients) => exchanges(task.line, &running, tls, clients, length),
        Work::Idle(clients) => {
            // Each client takes one descriptor here and, through the proxy, up to one more at the origin.
            let most = usize::try_from((task.descriptors - SPARE_DESCRIPTORS) / 2).unwrap_or(usize::MAX);
            idle(task.line, &running, clients.min(most))
        }
    }
}

fn exchanges(
    line: &Line,
    running: &Running,
    tls: &ClientTls,
    clients: usize,
    length: Duration,
) -> std::io::Result<Sample> {
    let mut load = load::connect(line, running.front, clients, tls)?;
    load.run(WARM_UP)?;
    let account = Account::of(running.pid());
    let before = account.cpu();
    let outcome = load.run(length)?;
    let used = (account.cpu() - before).as_secs_f64();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(Sample {
        cost: used * 1e6 / outcome.answers as f64,
        rate: outcome.answers as f64 / outcome.elapsed.as_secs_f64(),
        p50: micros(outcome.quantile(0.50)),
        p99: micros(outcome.quantile(0.99)),
        peak: account.peak_memory() as f64 / f64::from(1 << 20),
        busy: used / outcome.elapsed.as_secs_f64(),
    })
}

/// Memory that clients cost once they are silent, beyond what a proxy takes that has served a few.
fn idle(line: &Line, running: &Running, clients: usize) -> std::io::Result<Sample> {
    let mut few = Streams::connect(running.front, line.exchange, BURST, None)?;
    few.burst(BURST)?;
    let account = Account::of(running.pid());
    let before = settled(&account);
    let mut many = Streams::connect(running.front, line.exchange, clients, None)?;
    many.burst(BURST)?;
    let after = settled(&account);
    Ok(Sample {
        cost: after.saturating_sub(before) as f64 / clients as f64,
        peak: account.peak_memory() as f64 / f64::from(1 << 20),
        ..Sample::default()
    })
}

/// Memory once it has not changed for two seconds: a proxy may give buffers back on a timer.
fn settled(account: &Account) -> u64 {
    const AGREEING: u32 = 4;
    let mut last = account.anonymous_memory();
    let mut agreed = 0;
    for _ in 0..20 {
        std::thread::park_timeout(Duration::from_millis(500));
        let now = account.anonymous_memory();
        agreed = if now == last { agreed + 1 } else { 0 };
        last = now;
        if agreed == AGREEING {
            break;
        }
    }
    last
}

/// Threads that start later, and processes that are not pinned elsewhere, inherit this.
fn pin_to_load_cpu() -> std::io::Result<()> {
    let own = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-cp", LOAD_CPU, &own]).output()?;
    if pinned.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&pinned.stderr).into_owned();
    Err(Error::new(ErrorKind::Unsupported, format!("two CPUs are needed: {said}")))
}

/// Raises the soft limit to the hard one and says what it is.
fn raise_descriptor_limit() -> std::io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(1 << 20).min(1 << 20))
}
