//! A scripted origin: a listener, a thread per connection that plays a script, and a record of all that arrived.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::wire::{Message, Wire};
use super::{DEADLINE, own_ip, until};

#[derive(Debug, Default)]
struct Record {
    seen: Vec<Message>,
    streams: BTreeMap<usize, TcpStream>,
    accepted: usize,
}

#[derive(Debug, Default)]
struct Shared {
    record: Mutex<Record>,
    stopped: AtomicBool,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of an origin, as its script sees it.
#[derive(Debug)]
pub(crate) struct Session {
    /// The connection's number, from 1.
    pub(crate) number: usize,
    /// The connection.
    pub(crate) wire: Wire,
    shared: Arc<Shared>,
}

impl Session {
    /// The next whole request, recorded; nothing at the end of the connection.
    pub(crate) fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(message) = self.wire.request()? else { return Ok(None) };
        self.note(&message);
        Ok(Some(message))
    }

    /// The next request's head alone, recorded; its body stays on the wire.
    pub(crate) fn head(&mut self) -> io::Result<Option<Message>> {
        let Some(message) = self.wire.head()? else { return Ok(None) };
        self.note(&message);
        Ok(Some(message))
    }

    fn note(&self, message: &Message) {
        self.shared.record().seen.push(message.clone());
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes)
    }

    /// Answers 200 with this body.
    pub(crate) fn ok(&mut self, body: &str) -> io::Result<()> {
        let length = body.len();
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))
    }
}

/// A running origin; dropping it closes everything.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    /// The path of its unix socket, in place of the address.
    file: Option<PathBuf>,
    shared: Arc<Shared>,
}

impl Origin {
    /// Plays `script` on every connection; the connection ends when the script does.
    pub(crate) fn start(script: impl Fn(Session) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start_at(own_ip(), 0, script)
    }

    /// The same at a chosen address, so that an origin can come back.
    pub(crate) fn start_at(
        ip: Ipv4Addr,
        port: u16,
        script: impl Fn(Session) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, port)).expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let shared = play(move || Ok(listener.accept()?.0), script);
        Self { address, file: None, shared }
    }

    /// The same on a unix socket.
    pub(crate) fn start_file(
        path: &Path,
        script: impl Fn(Session) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("a unix socket");
        // The standard library reads and writes any connected socket alike.
        let shared = play(move || Ok(OwnedFd::from(listener.accept()?.0).into()), script);
        Self { address: (Ipv4Addr::UNSPECIFIED, 0).into(), file: Some(path.to_owned()), shared }
    }

    /// Answers every request with 200 and this text, and keeps connections.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::start(move |mut session| {
            while let Some(request) = session.request()? {
                if request.start_line().starts_with("HEAD ") {
                    session.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len()))?;
                } else {
                    session.ok(text)?;
                }
            }
            Ok(())
        })
    }

    /// Answers the first request of every connection with these bytes, then closes it.
    pub(crate) fn replying(bytes: &'static [u8]) -> Self {
        Self::start(move |mut session| {
            session.request()?;
            session.send(bytes)
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests so far.
    pub(crate) fn seen(&self) -> Vec<Message> {
        self.shared.record().seen.clone()
    }

    /// Waits for the request of this place (from 0) and gives it.
    pub(crate) fn request(&self, place: usize) -> Message {
        until("a request at the origin", || self.shared.record().seen.get(place).cloned())
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.record().accepted
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.record().streams.len()
    }

    /// Closes every connection with a FIN; goes on listening.
    pub(crate) fn close_connections(&self) {
        for stream in self.shared.record().streams.values() {
            // It may be closed already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Stops listening; what is open goes on.
    pub(crate) fn refuse(&self) {
        if self.shared.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(path) = &self.file {
            drop(UnixStream::connect(path));
            until("the origin's socket to close", || UnixStream::connect(path).is_err().then_some(()));
            // A test may have taken it away.
            drop(fs::remove_file(path));
        } else {
            drop(TcpStream::connect_timeout(&self.address, DEADLINE));
            until("the origin's port to close", || TcpStream::connect(self.address).is_err().then_some(()));
        }
    }

    /// Stops listening and closes every connection.
    pub(crate) fn stop(&self) {
        self.refuse();
        self.close_connections();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Plays a script on each connection that is accepted, until it is told to stop.
fn play(
    accept: impl Fn() -> io::Result<TcpStream> + Send + 'static,
    script: impl Fn(Session) -> io::Result<()> + Send + Sync + 'static,
) -> Arc<Shared> {
    let shared = Arc::new(Shared::default());
    let (script, for_loop) = (Arc::new(script), Arc::clone(&shared));
    thread::spawn(move || {
        loop {
            let Ok(stream) = accept() else { continue };
            if for_loop.stopped.load(Ordering::SeqCst) {
                return;
            }
            let session = open(stream, &for_loop);
            let script = Arc::clone(&script);
            thread::spawn(move || {
                let (number, shared) = (session.number, Arc::clone(&session.shared));
                // An I/O error here is a connection that the other side ended: often what the test wants.
                drop(script(session));
                shared.record().streams.remove(&number);
            });
        }
    });
    shared
}

fn open(stream: TcpStream, shared: &Arc<Shared>) -> Session {
    let mut record = shared.record();
    record.accepted += 1;
    let number = record.accepted;
    if let Ok(copy) = stream.try_clone() {
        record.streams.insert(number, copy);
    }
    drop(record);
    Session { number, wire: Wire::new(stream), shared: Arc::clone(shared) }
}
