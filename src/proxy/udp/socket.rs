//! Datagram sockets: receiving and sending many at once, answers from the address that was asked, and the socket towards
//! an endpoint.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv6DontFrag, ReceiveTimestampns, UdpGroSegment};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::net::sockopt::{set_ip_mtu_discover, set_ipv6_mtu_discover};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::proxy::upstream::dial::SentFrom;

/// Bytes of a place for one datagram, or for as many of one sender as the kernel has joined (UDP_GRO).
const SLOT: usize = 65_535;

/// Bytes that the kernel may hold for a listener until its worker gets to them; it cuts this to `net.core.rmem_max`.
const KERNEL_BUFFER: usize = 4 << 20;

/// What is received into. A worker has one, made when it first receives a datagram; what no datagram has reached of it
/// takes no memory.
#[derive(Debug, Default)]
pub struct Room(RefCell<Vec<u8>>);

impl Room {
    /// Receives once, up to `slots` batches of datagrams, and shows each to `each`, who must not receive: how many there
    /// were. Fewer than `slots` have emptied the socket.
    ///
    /// # Errors
    /// As the system; `WouldBlock` when nothing is there.
    pub(super) fn receive(
        &self,
        socket: impl AsFd,
        state: &UdpSocketState,
        slots: usize,
        mut each: impl FnMut(&RecvMeta, &[u8]),
    ) -> io::Result<usize> {
        let mut room = self.0.borrow_mut();
        if room.is_empty() {
            *room = vec![0; SLOT * BATCH_SIZE];
        }
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let received = {
            let mut chunks = room.chunks_mut(SLOT);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let slots = slots.min(BATCH_SIZE);
            state.recv(UdpSockRef::from(&socket), &mut slices[..slots], &mut metas)?
        };
        for (meta, bytes) in metas.iter().zip(room.chunks(SLOT)).take(received) {
            each(meta, bytes.get(..meta.len).unwrap_or_default());
        }
        Ok(received)
    }
}

/// How many batches of datagrams one call brings at most.
pub(super) const BATCH: usize = BATCH_SIZE;

/// How many datagrams lie in what was received at once.
pub(super) fn count(meta: &RecvMeta) -> u64 {
    meta.len.div_ceil(meta.stride.max(1)).max(1) as u64
}

/// The datagrams that lie in what was received at once.
pub(super) fn split(bytes: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = bytes.split_at(stride.clamp(0, bytes.len()));
    std::iter::once(first).chain(rest.chunks(stride.max(1)))
}

/// The socket of a listener, as datagrams are answered on it.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) state: UdpSocketState,
    /// Whether it takes datagrams of every local address: answers must then name the one that was asked.
    everywhere: bool,
    /// Where it is bound.
    pub(super) address: Option<SocketAddr>,
}

impl Answering {
    /// Prepares a listener's socket.
    ///
    /// # Errors
    /// As the system.
    pub(super) fn new(socket: impl AsFd) -> io::Result<Self> {
        let options = SockRef::from(&socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The crate is made for QUIC, which forbids that its datagrams are cut into fragments. What we carry may need it.
        let address = options.local_addr()?.as_socket();
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::WANT).ok();
        if address.is_some_and(|address| address.is_ipv6()) {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::WANT)?;
            setsockopt(&socket, Ipv6DontFrag, &false)?;
        }
        // Nor does anybody read when a datagram came.
        setsockopt(&socket, ReceiveTimestampns, &false).ok();
        // A smaller one is no reason not to serve.
        options.set_recv_buffer_size(KERNEL_BUFFER).ok();
        let everywhere = address.is_none_or(|address| address.ip().is_unspecified());
        Ok(Self { state, everywhere, address })
    }

    /// The local address that a session is of, where the socket has many.
    pub(super) fn local(&self, meta: &RecvMeta) -> Option<IpAddr> {
        // Nobody answers from a group's or a net's address.
        let usable = |ip: &IpAddr| {
            !ip.is_multicast() && !matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.is_unspecified())
        };
        meta.dst_ip.filter(|ip| self.everywhere && usable(ip))
    }
}

/// Sends what `bytes` hold, datagrams of `stride` bytes each, from `from` where the socket has many addresses. One call,
/// where the kernel and the interface can cut datagrams from a larger piece (UDP_SEGMENT), else one for each.
///
/// # Errors
/// As the system; what was not sent is lost.
pub(super) fn send(
    socket: impl AsFd,
    state: &UdpSocketState,
    to: SocketAddr,
    from: Option<IpAddr>,
    bytes: &[u8],
    stride: usize,
) -> io::Result<()> {
    let transmit = |contents, segment_size| Transmit {
        destination: to,
        ecn: None,
        contents,
        segment_size,
        src_ip: from,
    };
    if bytes.len() <= stride {
        return state.try_send(UdpSockRef::from(&socket), &transmit(bytes, None));
    }
    let joined = bytes.len().div_ceil(stride) <= state.max_gso_segments();
    if joined {
        match state.try_send(UdpSockRef::from(&socket), &transmit(bytes, Some(stride))) {
            Ok(()) => return Ok(()),
            // EINVAL, EIO: not cut here, or too long for the interface.
            Err(error) if !matches!(error.raw_os_error(), Some(22 | 5 | 90)) => return Err(error),
            Err(_) => {}
        }
    }
    for datagram in bytes.chunks(stride) {
        state.try_send(UdpSockRef::from(&socket), &transmit(datagram, None))?;
    }
    Ok(())
}

/// A socket that is connected to an endpoint: so the kernel tells when nobody listens there, and brings nothing of others.
#[derive(Debug)]
pub(super) struct Upstream {
    socket: AsyncFd<Socket>,
    address: SocketAddr,
    /// Goes before each datagram, in the same packet; empty is none.
    header: Box<[u8]>,
}

/// What is waited for: datagrams, and word that the endpoint refuses them. Room to send is never waited for.
const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

impl Upstream {
    /// Connects to `address`, from `source` where there is one; `header` goes before each datagram.
    ///
    /// # Errors
    /// As the system.
    pub(super) fn connect(
        address: SocketAddr,
        source: Option<SentFrom>,
        header: Box<[u8]>,
    ) -> io::Result<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if let Some(source) = source {
            source.bind(&socket, address)?;
        }
        socket.connect(&address.into())?;
        #[expect(
            deprecated,
            reason = "its successor is an unsafe fn for types that may close their descriptor; a Socket does not"
        )]
        let socket = AsyncFd::with_interest(socket, INTEREST)?;
        Ok(Self { socket, address, header })
    }

    /// Sends datagrams of `stride` bytes each.
    ///
    /// # Errors
    /// As the system; what was not sent is lost.
    pub(super) fn send(&self, state: &UdpSocketState, bytes: &[u8], stride: usize) -> io::Result<()> {
        if !self.header.is_empty() {
            return split(bytes, stride).try_for_each(|datagram| {
                let packet = [IoSlice::new(&self.header), IoSlice::new(datagram)];
                self.socket.get_ref().send_vectored(&packet).map(|_| ())
            });
        }
        if bytes.len() > stride {
            return send(&self.socket, state, self.address, None, bytes, stride);
        }
        // Without a name the kernel need not look for the way again.
        self.socket.get_ref().send(bytes).map(|_| ())
    }

    /// Ready when something has come, or word that the endpoint refuses.
    ///
    /// # Errors
    /// As the runtime.
    pub(super) async fn ready(&self) -> io::Result<tokio::io::unix::AsyncFdReadyGuard<'_, Socket>> {
        self.socket.ready(INTEREST).await
    }

    /// The socket.
    pub(super) fn socket(&self) -> &Socket {
        self.socket.get_ref()
    }

    /// Lets the kernel join what it receives of a sender that sends much; for the others it would cost a call.
    pub(super) fn join(&self) {
        // An older kernel brings them one by one.
        setsockopt(self.socket.get_ref(), UdpGroSegment, &true).ok();
    }
}

/// Whether an error says that the endpoint, or its host, is not there: ICMP port, host or net unreachable.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    // ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN.
    matches!(error.raw_os_error(), Some(111 | 113 | 101 | 112))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_joined_is_cut_where_it_was_joined() {
        let cut = |bytes: &'static [u8], stride| split(bytes, stride).collect::<Vec<_>>();
        assert_eq!(cut(b"aabbc", 2), [&b"aa"[..], b"bb", b"c"]);
        assert_eq!(cut(b"aa", 2), [b"aa"]);
        assert_eq!(cut(b"", 0), [b""], "an empty datagram is one");
        for (len, stride, datagrams) in [(5, 2, 3), (4, 2, 2), (0, 0, 1), (7, 7, 1)] {
            let mut meta = RecvMeta::default();
            (meta.len, meta.stride) = (len, stride);
            assert_eq!(count(&meta), datagrams);
        }
    }
}
