//! An endpoint of a probed pool: a traffic port, and a health port on the same host that answers as the test wants.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::client::Client;
use super::origin::{Origin, Session};
use super::own_ip;
use super::proxy::Proxy;

/// Where the health of every member is asked; each has an address of its own.
pub(crate) const HEALTH_PORT: u16 = 8008;

/// What a member says when it is asked how it is.
#[derive(Debug, Clone)]
enum Says {
    Status(u16, String),
    /// These statuses in turn, over and over.
    InTurn(&'static [u16]),
    /// It accepts and ends the connection without a word: it cannot be asked.
    Nothing,
    /// It accepts and says nothing until it says something else.
    Hangs,
}

/// One endpoint with its health port.
#[derive(Debug)]
pub(crate) struct Member {
    /// Where its traffic goes; answers with its address, or over TCP greets with it.
    traffic: Origin,
    health: Origin,
    says: Arc<Mutex<Says>>,
    broken: Arc<AtomicUsize>,
}

fn lock(says: &Mutex<Says>) -> MutexGuard<'_, Says> {
    says.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve_http(mut session: Session, name: &str) -> io::Result<()> {
    while session.request()?.is_some() {
        session.ok(name)?;
    }
    Ok(())
}

/// Greets with its name in a line, then hears the client out.
fn serve_tcp(mut session: Session, name: &str) -> io::Result<()> {
    session.send(format!("{name}\n"))?;
    while session.wire.fill()? > 0 {}
    Ok(())
}

/// Answers one probe; what the asker did not hear out is an error.
fn answer(session: &mut Session, says: &Mutex<Says>) -> io::Result<()> {
    session.request()?;
    let (status, body) = loop {
        let now = lock(says).clone();
        match now {
            Says::Status(status, body) => break (status, body),
            Says::InTurn(statuses) => break (statuses[session.number % statuses.len()], String::new()),
            Says::Nothing => return Ok(()),
            Says::Hangs if session.wire.silent_for(Duration::from_millis(10)) => {}
            Says::Hangs => return Ok(()),
        }
    };
    let length = body.len();
    // At once: the evidence of a probe holds what has come of the body by the time it knows the answer.
    session.send(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}"))?;
    session.wire.finish()?;
    while session.wire.fill()? > 0 {}
    Ok(())
}

impl Member {
    fn start(serve: fn(Session, &str) -> io::Result<()>) -> Self {
        let ip = own_ip();
        let says = Arc::new(Mutex::new(Says::Status(200, String::new())));
        let said = Arc::clone(&says);
        let broken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&broken);
        let health = Origin::start_at(ip, HEALTH_PORT, move |mut session| {
            let answered = answer(&mut session, &said);
            count.fetch_add(usize::from(answered.is_err()), Ordering::Relaxed);
            answered
        });
        Self { traffic: traffic(ip, 0, serve), health, says, broken }
    }

    /// One for requests. It is well.
    pub(crate) fn http() -> Self {
        Self::start(serve_http)
    }

    /// One for sessions. It is well.
    pub(crate) fn tcp() -> Self {
        Self::start(serve_tcp)
    }

    /// Answers probes with this status from now on.
    pub(crate) fn says(&self, status: u16) -> &Self {
        self.states(status, "")
    }

    /// Answers probes with this status and body from now on.
    pub(crate) fn states(&self, status: u16, body: &str) -> &Self {
        *lock(&self.says) = Says::Status(status, body.to_owned());
        self
    }

    /// Answers probes with these statuses in turn from now on.
    pub(crate) fn alternates(&self, statuses: &'static [u16]) -> &Self {
        *lock(&self.says) = Says::InTurn(statuses);
        self
    }

    /// Cannot be asked from now on, although its ports accept.
    pub(crate) fn falls_silent(&self) -> &Self {
        *lock(&self.says) = Says::Nothing;
        self
    }

    /// Lets probes wait from now on.
    pub(crate) fn hangs(&self) -> &Self {
        *lock(&self.says) = Says::Hangs;
        self
    }

    /// Neither port accepts any more, and every connection is closed.
    pub(crate) fn stop(&self) {
        self.health.stop();
        self.traffic.stop();
    }

    /// The health port does not accept any more.
    pub(crate) fn stop_health(&self) {
        self.health.stop();
    }

    /// Its traffic port.
    pub(crate) fn traffic(&self) -> &Origin {
        &self.traffic
    }

    /// Where its traffic goes.
    pub(crate) fn address(&self) -> SocketAddr {
        self.traffic.address()
    }

    /// Its name in answers, status and events.
    pub(crate) fn name(&self) -> String {
        self.address().to_string()
    }

    /// Probes that broke off while it answered.
    pub(crate) fn broken_off(&self) -> usize {
        self.broken.load(Ordering::Relaxed)
    }

    /// Probes that it has answered or left without an answer.
    pub(crate) fn asked(&self) -> usize {
        self.health.seen().len()
    }
}

fn traffic(ip: Ipv4Addr, port: u16, serve: fn(Session, &str) -> io::Result<()>) -> Origin {
    let name = Arc::new(Mutex::new(String::new()));
    let known = Arc::clone(&name);
    let origin = Origin::start_at(ip, port, move |session| {
        let name = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        serve(session, &name)
    });
    *name.lock().unwrap_or_else(PoisonError::into_inner) = origin.address().to_string();
    origin
}

/// The traffic addresses of members.
pub(crate) fn addresses(members: &[&Member]) -> Vec<SocketAddr> {
    members.iter().map(|member| member.address()).collect()
}

/// A session through the proxy with a tcp member, and which one it is.
pub(crate) fn greeted(proxy: &Proxy) -> (Client, String) {
    let mut client = proxy.connect();
    let mut name = Vec::new();
    while !name.ends_with(b"\n") {
        name.extend(client.take(1).expect("a greeting"));
    }
    (client, String::from_utf8_lossy(name.trim_ascii()).into_owned())
}

/// The probes of the pool `main`: often, and undisturbed by damping. Further keys come with it.
pub(crate) fn probes(more: &str) -> String {
    probes_of("main", more)
}

/// The same for any pool.
pub(crate) fn probes_of(pool: &str, more: &str) -> String {
    let mut text = format!("[pool.{pool}.health]\nport = {HEALTH_PORT}\npath = \"/health\"\n");
    for usual in ["interval = \"100ms\"", "fast_interval = \"50ms\"", "timeout = \"2s\"", "damping = \"off\""]
    {
        let key = usual.split('=').next().unwrap_or_default();
        if !more.lines().any(|line| line.starts_with(key)) {
            text.push_str(usual);
            text.push('\n');
        }
    }
    format!("{text}{more}\n")
}
