//! Datagrams: an endpoint that answers them, and a client that waits for answers.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::clock::pause;
use super::{DEADLINE, own_ip};

/// Datagrams, each with who sent it.
pub(crate) type Seen = Vec<(SocketAddr, Vec<u8>)>;

/// An endpoint that answers every datagram with its own name and what it was sent, unless that begins with `quiet`.
#[derive(Debug)]
pub(crate) struct Echo {
    /// Where it is.
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Echo {
    /// On an address of its own.
    pub(crate) fn start(name: &'static str) -> Self {
        Self::at((own_ip(), 0).into(), name)
    }

    /// On this address.
    pub(crate) fn at(address: SocketAddr, name: &'static str) -> Self {
        Self::answering_after(address, name, Duration::ZERO)
    }

    /// The same, which takes so long for each answer.
    pub(crate) fn answering_after(address: SocketAddr, name: &'static str, after: Duration) -> Self {
        let socket = UdpSocket::bind(address).expect("a loopback port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let address = socket.local_addr().expect("its address");
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (notes, ends) = (Arc::clone(&seen), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
                let said = room[..length].to_vec();
                notes.lock().unwrap_or_else(PoisonError::into_inner).push((from, said.clone()));
                if !said.starts_with(b"quiet") {
                    pause(after);
                    // Whoever has asked may have gone.
                    socket.send_to(&[name.as_bytes(), b":", &said].concat(), from).ok();
                }
            }
        });
        Self { address, seen, over, thread: Some(thread) }
    }

    /// What it was sent so far, and by whom.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Its port is closed when it has ended.
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A client with a socket of its own that is connected, so that it hears nobody but whom it asked.
#[derive(Debug)]
pub(crate) struct Asker(UdpSocket);

impl Asker {
    /// Asks `address`.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::from(address.ip(), address)
    }

    /// The same, from an address.
    pub(crate) fn from(ip: IpAddr, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a loopback port");
        socket.connect(address).expect("an address of this machine");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Self(socket)
    }

    /// Sends without waiting for an answer.
    pub(crate) fn say(&self, what: &[u8]) {
        self.0.send(what).expect("it is sent");
    }

    /// The next answer.
    pub(crate) fn hear(&self) -> io::Result<Vec<u8>> {
        let mut room = vec![0; 65_536];
        let length = self.0.recv(&mut room)?;
        room.truncate(length);
        Ok(room)
    }

    /// The next answer, unless it takes longer.
    pub(crate) fn hears_within(&self, limit: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(limit)).expect("a timeout");
        let heard = self.hear().ok();
        self.0.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        heard
    }

    /// Asks and waits for the answer, as text.
    pub(crate) fn ask(&self, what: &str) -> String {
        self.say(what.as_bytes());
        String::from_utf8(self.hear().expect("an answer")).expect("text")
    }

    /// Asks again and again, as one does over UDP, until an answer comes.
    pub(crate) fn insist(&self, what: &str) -> String {
        super::until("an answer", || {
            self.say(what.as_bytes());
            let heard = self.hears_within(Duration::from_millis(100))?;
            String::from_utf8(heard).ok()
        })
    }
}
