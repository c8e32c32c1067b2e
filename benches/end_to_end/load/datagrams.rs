//! Clients that send datagrams: each is one UDP socket, so one session of the proxy, with one datagram under way.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use tokio::time::Instant;

use super::{Load, Outcome, PATIENCE};

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// A datagram that has not come back by then is lost, and the next one is sent.
const LOST: Duration = Duration::from_millis(250);

/// The share of lost datagrams above which there is no figure: losing them is cheaper than passing them on.
const MOST_LOST: f64 = 0.001;

pub(super) struct Datagrams {
    poll: OwnedFd,
    sessions: Vec<Session>,
    buffer: Vec<u8>,
    latencies: Vec<u64>,
    lost: u64,
}

struct Session {
    socket: UdpSocket,
    message: Vec<u8>,
    sent: Option<Instant>,
    /// Of the datagram under way, in its first bytes: a late one must not be taken for it.
    number: u64,
}

impl Datagrams {
    pub(super) fn connect(target: SocketAddr, bytes: usize, clients: usize) -> std::io::Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut sessions = Vec::with_capacity(clients);
        for place in 0..clients {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(target)?;
            socket.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(place as u64);
            epoll::add(&poll, &socket, data, epoll::EventFlags::IN)?;
            let message = vec![b'.'; bytes.max(size_of::<u64>())];
            sessions.push(Session { socket, message, sent: None, number: 0 });
        }
        Ok(Self { poll, sessions, buffer: vec![0; 64 << 10], latencies: Vec::new(), lost: 0 })
    }

    /// Waits for events once, and takes what there is.
    fn turn(&mut self) -> std::io::Result<bool> {
        let mut events = Vec::with_capacity(EVENTS);
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(LOST.subsec_nanos()) };
        epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&wait))?;
        for event in &events {
            let session = &mut self.sessions[event.data.u64() as usize];
            if let Some(sent) = session.receive(&mut self.buffer)? {
                let now = Instant::now();
                self.latencies.push((now - sent).as_nanos() as u64);
                session.send(now)?;
            }
        }
        Ok(!events.is_empty())
    }

    fn replace_lost(&mut self, now: Instant) -> std::io::Result<()> {
        for session in &mut self.sessions {
            if session.sent.is_some_and(|sent| now - sent > LOST) {
                self.lost += 1;
                session.send(now)?;
            }
        }
        Ok(())
    }
}

impl Load for Datagrams {
    fn run(&mut self, length: Duration) -> std::io::Result<Outcome> {
        self.latencies.clear();
        self.lost = 0;
        let start = Instant::now();
        for session in self.sessions.iter_mut().filter(|session| session.sent.is_none()) {
            session.send(start)?;
        }
        let (mut heard, mut looked) = (start, start);
        while start.elapsed() < length {
            let something = self.turn()?;
            let now = Instant::now();
            if something {
                heard = now;
            } else if now - heard > PATIENCE {
                return Err(Error::new(ErrorKind::TimedOut, "no answer for 10 s"));
            }
            if now - looked > LOST {
                looked = now;
                self.replace_lost(now)?;
            }
        }
        let outcome = Outcome::new(std::mem::take(&mut self.latencies), start.elapsed());
        if self.lost as f64 > outcome.answers as f64 * MOST_LOST {
            let what = format!("{} datagrams were lost, {} came back", self.lost, outcome.answers);
            return Err(Error::new(ErrorKind::InvalidData, what));
        }
        Ok(outcome)
    }
}

impl Session {
    fn send(&mut self, now: Instant) -> std::io::Result<()> {
        self.number += 1;
        self.message[..size_of::<u64>()].copy_from_slice(&self.number.to_be_bytes());
        self.socket.send(&self.message)?;
        self.sent = Some(now);
        Ok(())
    }

    /// When the datagram was sent that has come back; `None` when it is not the one that is awaited.
    fn receive(&mut self, buffer: &mut [u8]) -> std::io::Result<Option<Instant>> {
        match self.socket.recv(buffer) {
            Ok(length) if buffer[..length] == self.message => Ok(self.sent),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}
