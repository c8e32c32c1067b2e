//! Listening and datagram sockets that a service manager has opened for us (`sd_listen_fds(3)`), and which listener has
//! which.
//!
//! An inherited socket is never closed: the manager's next process, or a listener that comes with a reload, finds it
//! again. Every worker accepts on a descriptor of its own of the same listening socket; a datagram socket is one worker's.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use socket2::{SockAddr, SockRef, Type};

use crate::model::address::{Address, UnixPath};
use crate::runtime::listener::{Listener, Transport};

/// The sockets that the process was started with.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Socket>,
    /// What was passed and is neither a listening TCP or unix socket nor a bound UDP socket.
    faults: Vec<String>,
}

#[derive(Debug)]
struct Socket {
    name: String,
    address: Address,
    transport: Transport,
    /// It takes IPv4 connections too, being bound to `[::]`.
    both_families: bool,
    descriptor: OwnedFd,
}

/// An address of a listener, and the inherited socket that stands for it (and perhaps for further ones of it), if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) address: Address,
    pub(super) transport: Transport,
    socket: Option<usize>,
}

impl Claim {
    /// Whether a service manager's socket stands for it.
    pub(super) const fn is_inherited(self) -> bool {
        self.socket.is_some()
    }
}

/// A listener as sockets are matched to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) bind: &'a [Address],
    pub(super) transport: Transport,
}

impl<'a> Wanted<'a> {
    /// What a listener wants.
    pub(super) fn of(listener: &'a Listener) -> Self {
        Self { name: listener.name.as_str(), bind: &listener.bind, transport: listener.transport() }
    }
}

impl Wanted<'_> {
    /// Whether one of its addresses is this socket's.
    fn has(&self, socket: &Socket) -> bool {
        self.transport == socket.transport && self.bind.contains(&socket.address)
    }
}

impl Inherited {
    /// Takes what the environment names, once: call it before other threads run, for it changes the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        // listenfd takes LISTEN_FDS away when it has read it, and does not read the names.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            match take(&mut passed, index, name) {
                Ok(socket) => inherited.sockets.push(socket),
                Err(fault) => inherited.faults.push(fault),
            }
        }
        inherited
    }

    /// The same from the process before, which had them from the service manager.
    pub(super) fn from_predecessor(sockets: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        let mut inherited = Self::default();
        for (name, socket) in sockets {
            match Socket::new(socket, &name) {
                Ok(socket) => inherited.sockets.push(socket),
                Err(what) => inherited.faults.push(format!("the inherited socket \"{name}\" {what}")),
            }
        }
        inherited
    }

    /// A descriptor of each socket with its name, for the next process.
    pub(super) fn lend(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.sockets.iter().map(|socket| Ok((socket.name.clone(), socket.descriptor.try_clone()?))).collect()
    }

    /// The inherited socket that stands for an address.
    pub(super) fn descriptor(&self, claim: Claim) -> Option<&OwnedFd> {
        self.sockets.get(claim.socket?).map(|socket| &socket.descriptor)
    }

    /// What each listener accepts on: a socket belongs to the listener with its address, else to the one with its name,
    /// else to one that listens everywhere on its port. It stands for each address of the listener that it covers; one
    /// that came by its name alone, for the first address that has none.
    pub(super) fn claims(&self, listeners: &[Wanted<'_>]) -> Vec<Vec<Claim>> {
        let mut taken: Vec<Vec<Option<usize>>> =
            listeners.iter().map(|listener| vec![None; listener.bind.len()]).collect();
        let has_its_own = |socket: &Socket| listeners.iter().any(|listener| listener.has(socket));
        let (own, others): (Vec<_>, Vec<_>) =
            self.sockets.iter().enumerate().partition(|(_, socket)| has_its_own(socket));
        for (index, socket) in own.into_iter().chain(others) {
            let Some(at) = socket.listener(listeners) else { continue };
            let (Some(listener), Some(places)) = (listeners.get(at), taken.get_mut(at)) else { continue };
            let free =
                |places: &[Option<usize>], place: usize| places.get(place).is_some_and(Option::is_none);
            let covered: Vec<usize> = (0..listener.bind.len())
                .filter(|&place| free(places, place) && socket.covers(listener.bind[place]))
                .collect();
            let first = || (0..listener.bind.len()).find(|&place| free(places, place)).into_iter().collect();
            let covered = if covered.is_empty() && socket.name == listener.name { first() } else { covered };
            for place in covered {
                places[place] = Some(index);
            }
        }
        let claims = |(listener, places): (&Wanted<'_>, Vec<Option<usize>>)| {
            let mut claims: Vec<Claim> = Vec::new();
            for (&address, socket) in listener.bind.iter().zip(places) {
                if socket.is_none() || !claims.iter().any(|claim| claim.socket == socket) {
                    claims.push(Claim { address, transport: listener.transport, socket });
                }
            }
            claims
        };
        listeners.iter().zip(taken).map(claims).collect()
    }

    /// Says in the log which sockets are accepted on, and warns of those that nobody wants.
    pub(super) fn report(&self, listeners: &[Wanted<'_>]) {
        for fault in &self.faults {
            tracing::warn!("{fault}");
        }
        let claims = self.claims(listeners);
        for (index, socket) in self.sockets.iter().enumerate() {
            let by = listeners
                .iter()
                .zip(&claims)
                .find(|(_, own)| own.iter().any(|claim| claim.socket == Some(index)));
            let Socket { name, address, .. } = socket;
            match by {
                Some((listener, _)) => {
                    tracing::info!(listener = listener.name, %address, name, "accepting on an inherited socket");
                }
                None => tracing::warn!(
                    %address,
                    name,
                    "an inherited socket belongs to no listener, by name or by address: what connects to it waits in vain"
                ),
            }
        }
    }
}

/// A name and an address that a socket has, when it is one to accept connections or receive datagrams on.
fn take(passed: &mut ListenFd, index: usize, name: &str) -> Result<Socket, String> {
    let wrong = |what: &str| format!("inherited descriptor {} (\"{name}\") {what}", index + 3);
    let twice = || wrong("is there twice");
    // A socket of another kind stays where it is and can be asked for again.
    let taken = passed.take_tcp_listener(index).map(|socket| socket.map(OwnedFd::from));
    let taken = taken.or_else(|_| passed.take_udp_socket(index).map(|socket| socket.map(OwnedFd::from)));
    let taken = taken.or_else(|_| passed.take_unix_listener(index).map(|socket| socket.map(OwnedFd::from)));
    let socket = match taken {
        Ok(socket) => socket.ok_or_else(twice)?,
        Err(_) => return Err(wrong("is no TCP, UDP or unix socket to listen on and is left alone")),
    };
    Socket::new(socket, name).map_err(|what| wrong(&what))
}

impl Socket {
    fn new(descriptor: OwnedFd, name: &str) -> Result<Self, String> {
        let socket = SockRef::from(&descriptor);
        let transport = match socket.r#type() {
            Ok(Type::DGRAM) => Transport::Udp,
            _ => Transport::Tcp,
        };
        if transport == Transport::Tcp && !socket.is_listener().unwrap_or(false) {
            let why = "does not listen: its unit says Accept=yes, or another program has opened it";
            return Err(why.to_owned());
        }
        let address = socket.local_addr().map_err(|error| format!("has no address: {error}"))?;
        let address = address_of(&address).ok_or("has an address that no listener can have")?;
        if transport == Transport::Udp && address.ip().is_none() {
            return Err("is a unix socket for datagrams, which no listener takes".to_owned());
        }
        let is_v6 = address.ip().is_some_and(|address| address.is_ipv6());
        let both_families = is_v6 && !socket.only_v6().unwrap_or(true);
        Ok(Self { name: name.to_owned(), address, transport, both_families, descriptor })
    }

    fn listener(&self, listeners: &[Wanted<'_>]) -> Option<usize> {
        let same = |listener: &Wanted<'_>| listener.transport == self.transport;
        let by_address = listeners.iter().position(|listener| listener.has(self));
        let by_name = || listeners.iter().position(|listener| same(listener) && listener.name == self.name);
        let by_port = || {
            let covered = |listener: &Wanted<'_>| listener.bind.iter().any(|&address| self.covers(address));
            listeners.iter().position(|listener| same(listener) && covered(listener))
        };
        by_address.or_else(by_name).or_else(by_port)
    }

    /// Whether a bind to `address` would fail because this socket takes its connections. One that listens everywhere
    /// stands for another that does, never for a single address: that would let in more than was configured.
    fn covers(&self, address: Address) -> bool {
        if self.address == address {
            return true;
        }
        let (Address::Ip(own), Address::Ip(address)) = (self.address, address) else { return false };
        let everywhere = |ip: IpAddr| ip.is_unspecified();
        let same_family = own.is_ipv4() == address.is_ipv4();
        own.port() == address.port()
            && everywhere(own.ip())
            && everywhere(address.ip())
            && (same_family || self.both_families)
    }
}

fn address_of(address: &SockAddr) -> Option<Address> {
    let path = || UnixPath::new(address.as_pathname()?.to_str()?);
    address.as_socket().map(Address::Ip).or_else(|| path().map(Address::Unix))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::model::address::AddressError;

    /// Sockets by name, address and whether they take both families; their descriptors are not looked at here.
    fn inherited(sockets: &[(&str, &str, bool)]) -> io::Result<Inherited> {
        let socket = |&(name, address, both_families): &(&str, &str, bool)| -> io::Result<Socket> {
            let wrong = |error: AddressError| io::Error::other(error);
            let descriptor = TcpListener::bind("127.0.0.1:0")?.into();
            Ok(Socket {
                name: name.to_owned(),
                address: Address::parse(address).map_err(wrong)?,
                transport: Transport::Tcp,
                both_families,
                descriptor,
            })
        };
        Ok(Inherited { sockets: sockets.iter().map(socket).collect::<Result<_, _>>()?, faults: Vec::new() })
    }

    /// What each listener accepts on, in words: `3` is an inherited socket, an address a bind.
    fn matched(sockets: &[(&str, &str, bool)], listeners: &[(&str, &[&str])]) -> io::Result<Vec<String>> {
        let binds: Vec<Vec<Address>> = listeners
            .iter()
            .map(|(_, bind)| bind.iter().map(|a| Address::parse(a).expect("an address")).collect())
            .collect();
        let wanted: Vec<_> = listeners
            .iter()
            .zip(&binds)
            .map(|((name, _), bind)| Wanted { name, bind, transport: Transport::Tcp })
            .collect();
        let word = |claim: &Claim| {
            claim.socket.map_or_else(|| claim.address.to_string(), |index| (index + 3).to_string())
        };
        let words = |claims: &Vec<Claim>| claims.iter().map(word).collect::<Vec<_>>().join(" ");
        Ok(inherited(sockets)?.claims(&wanted).iter().map(words).collect())
    }

    #[test]
    fn a_socket_stands_for_the_address_that_it_has_and_the_rest_is_bound() -> io::Result<()> {
        let web: (&str, &[&str]) = ("web", &["10.0.0.1:80", "10.0.0.2:80"]);
        let got = matched(&[("plimsoll.socket", "10.0.0.2:80", false)], &[web, ("raw", &["10.0.0.1:81"])])?;
        assert_eq!(got, ["10.0.0.1:80 3", "10.0.0.1:81"]);
        // The address is stronger than the name: nobody else could bind it.
        let got = matched(&[("raw", "10.0.0.2:80", false)], &[web, ("raw", &["10.0.0.1:81"])])?;
        assert_eq!(got, ["10.0.0.1:80 3", "10.0.0.1:81"]);
        Ok(())
    }

    #[test]
    fn by_its_name_a_socket_stands_for_the_next_address_that_has_none() -> io::Result<()> {
        let sockets =
            [("web", "127.0.0.1:8080", false), ("web", "10.0.0.1:80", false), ("web", "[::1]:8080", false)];
        let got = matched(&sockets, &[("raw", &["10.0.0.9:81"]), ("web", &["10.0.0.1:80", "10.0.0.2:80"])])?;
        assert_eq!(got, ["10.0.0.9:81", "4 3"], "the last one finds no address left");
        Ok(())
    }

    #[test]
    fn what_listens_everywhere_on_both_families_stands_for_both_but_never_for_one_address() -> io::Result<()>
    {
        let both = [("plimsoll.socket", "[::]:443", true)];
        assert_eq!(matched(&both, &[("web", &["0.0.0.0:443", "[::]:443", "0.0.0.0:80"])])?, ["3 0.0.0.0:80"]);
        assert_eq!(matched(&both, &[("web", &["0.0.0.0:443"])])?, ["3"]);
        let six = [("plimsoll.socket", "[::]:443", false)];
        assert_eq!(matched(&six, &[("web", &["0.0.0.0:443", "[::]:443"])])?, ["0.0.0.0:443 3"]);
        assert_eq!(matched(&both, &[("web", &["10.0.0.1:443"])])?, ["10.0.0.1:443"], "that would open more");
        Ok(())
    }

    #[test]
    fn a_unix_socket_stands_for_its_path_or_by_its_name() -> io::Result<()> {
        let sockets = [("plimsoll.socket", "unix:/run/a.sock", false), ("raw", "unix:/run/b.sock", false)];
        let listeners: [(&str, &[&str]); 2] =
            [("web", &["10.0.0.1:80", "unix:/run/a.sock"]), ("raw", &["unix:/run/c.sock"])];
        assert_eq!(matched(&sockets, &listeners)?, ["10.0.0.1:80 3", "4"]);
        Ok(())
    }
}
