//! Connecting to an endpoint: socket options and one deadline over it all.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, UnixStream};
use tokio::time::Instant;

use super::tls::{self, Handshake};
use crate::model::address::{Address, Source, UNIX_CLIENT};
use crate::proxy::stream::{Socket, Stream};
use crate::proxy::timer::Timer;
use crate::runtime::pool::Timeouts;

/// An address that connections to endpoints are made to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentFrom {
    /// One of this node.
    Own(IpAddr),
    /// A client's.
    Client(IpAddr),
}

impl SentFrom {
    /// What connections of a client come from; nothing leaves it to the system.
    pub fn of(source: Source, client: impl FnOnce() -> SocketAddr) -> Option<Self> {
        match source {
            Source::System => None,
            Source::Own(address) => Some(Self::Own(address)),
            Source::Client => Some(client()).filter(|client| *client != UNIX_CLIENT).map(|client| {
                let canonical = client.ip().to_canonical();
                Self::Client(canonical)
            }),
        }
    }

    /// Binds a socket to it that is to connect to `address`. The port is chosen when it connects, by source and destination
    /// together, so that the ports of the address are not used up by one connection each (IP_BIND_ADDRESS_NO_PORT in ip(7)).
    ///
    /// # Errors
    /// As the system; `AddrNotAvailable` when the address is none of this node's and no client's, `PermissionDenied` without
    /// CAP_NET_ADMIN for a client's.
    pub fn bind(self, socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
        let socket = SockRef::from(&socket);
        let source = match self {
            Self::Own(source) => source,
            // The endpoint cannot answer an address of the other family.
            Self::Client(client) if client.is_ipv4() != address.is_ipv4() => return Ok(()),
            Self::Client(client) => {
                show_others(&socket, client)?;
                client
            }
        };
        setsockopt(&*socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())
    }
}

fn show_others(socket: &SockRef<'_>, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// Whether this process may connect from addresses of clients.
///
/// # Errors
/// As the system: `PermissionDenied` without CAP_NET_ADMIN (or CAP_NET_RAW).
pub fn may_show_clients() -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_ip_transparent_v4(true)
}

/// What is connected to, and how.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where.
    pub address: Address,
    /// What the connection comes from, where that is written.
    pub source: Option<SentFrom>,
    /// The PROXY header that it begins with, before TLS.
    pub header: Option<Rc<Vec<u8>>>,
    /// TLS on it; boxed, as few connections to be made have some.
    pub tls: Option<Box<Handshake>>,
    /// Of these, how long connecting and the handshake may take together, and unacknowledged data.
    pub timeouts: Timeouts,
}

/// Connects before `timer`, set to the connect timeout, fires.
///
/// # Errors
/// As the system and as [`Handshake::make`]; `TimedOut` when the endpoint does not answer in time.
pub async fn dial(target: &Target, timer: &Timer) -> io::Result<Stream> {
    timer.set(Instant::now() + target.timeouts.connect);
    let socket = match timer.within(connect(target)).await {
        Ok(connected) => connected?,
        Err(_) => {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no connection within the connect timeout"));
        }
    };
    if let Some(header) = &target.header {
        introduce(&socket, header)?;
    }
    let Some(handshake) = target.tls.clone() else { return Ok(Stream::Plain(socket)) };
    // Boxed: most connections have none, and every one would weigh so much more while it is made.
    match timer.within(Box::pin(handshake.make(socket))).await {
        Ok(made) => made,
        Err(_) => Err(tls::timed_out()),
    }
}

/// Sends a PROXY header. The buffer of a new connection has room for it, so that it goes at once and whole.
fn introduce(socket: &Socket, header: &[u8]) -> io::Result<()> {
    match socket.try_write(header)? {
        sent if sent == header.len() => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::WriteZero, "the PROXY header did not go out whole")),
    }
}

async fn connect(target: &Target) -> io::Result<Socket> {
    let address = match &target.address {
        Address::Ip(address) => *address,
        Address::Unix(path) => {
            return Ok(Socket::Unix(Box::new(UnixStream::connect(path.as_path()).await?)));
        }
    };
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = target.source {
        source.bind(&socket, address)?;
    }
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_user_timeout(Some(target.timeouts.tcp_user_timeout))?;
    Ok(Socket::Tcp(socket.connect(address).await?))
}

/// Lets the kernel ask after a quiet peer: after so long without a byte, then every 10 s, three times. For tunnels and tcp
/// sessions; connections of requests have shorter times of their own.
pub fn keep_alive_probes(stream: &Stream, after: Duration) {
    let probes = TcpKeepalive::new().with_time(after).with_interval(Duration::from_secs(10)).with_retries(3);
    // The only failure is a socket that is gone already.
    SockRef::from(stream).set_tcp_keepalive(&probes).ok();
}

/// Whether a failed connect is our own want of descriptors, ports or memory, not the endpoint's doing.
#[must_use]
pub fn is_ours(error: &io::Error) -> bool {
    // EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, ENOMEM.
    matches!(error.raw_os_error(), Some(24 | 23 | 99 | 105 | 12))
}

/// How long an idle connection may be kept: the pool's time, or less when the endpoint announces less. A margin
/// keeps a request from crossing the endpoint's close on the way.
#[must_use]
pub fn keep_alive(pool: Duration, announced_seconds: Option<u32>) -> Duration {
    const MARGIN: Duration = Duration::from_secs(1);
    match announced_seconds {
        Some(seconds) => pool.min(Duration::from_secs(u64::from(seconds)).saturating_sub(MARGIN)),
        None => pool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_endpoint_announces_shortens_the_idle_time() {
        let pool = Duration::from_secs(30);
        assert_eq!(keep_alive(pool, None), pool);
        assert_eq!(keep_alive(pool, Some(5)), Duration::from_secs(4));
        assert_eq!(keep_alive(pool, Some(0)), Duration::ZERO);
        assert_eq!(keep_alive(pool, Some(75)), pool);
    }
}
