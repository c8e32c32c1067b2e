//! The bytes of one connection, whichever way they travel: a TCP or a unix socket, bare or under TLS.
//!
//! It is used as the runtime's sockets are: ask whether it is ready, try, wait where it would block. So the engines above
//! are written once, and a bare socket costs them one branch.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, shutdown, sockopt};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::paced::Paced;
use super::tls::Tls;

/// A socket that carries bytes in order.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket; boxed, so that the idle connections of TCP do not weigh a word more for there being two kinds.
    Unix(Box<UnixStream>),
}

impl Socket {
    /// Ready when there is something to read, or an end.
    ///
    /// # Errors
    /// As the runtime.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Ready when something can be written.
    ///
    /// # Errors
    /// As the runtime.
    #[inline]
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Runs `io` if the runtime knows of readiness, and takes note where it would block.
    ///
    /// # Errors
    /// As `io`.
    #[inline]
    pub fn try_io<R>(&self, interest: Interest, io: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, io),
            Self::Unix(stream) => stream.try_io(interest, io),
        }
    }

    /// Waits until there is something to read, or an end.
    ///
    /// # Errors
    /// As the runtime.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// As [`Socket::readable`]; true once the other side has ended its direction, so that what is there is all.
    ///
    /// # Errors
    /// As the runtime.
    pub async fn readable_or_ended(&self) -> io::Result<bool> {
        let ready = match self {
            Self::Tcp(stream) => stream.ready(Interest::READABLE).await?,
            Self::Unix(stream) => stream.ready(Interest::READABLE).await?,
        };
        Ok(ready.is_read_closed())
    }

    /// Waits until something can be written.
    ///
    /// # Errors
    /// As the runtime.
    pub async fn writable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_write_ready(cx)).await
    }

    /// Reads once; 0 is the end.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when nothing is there.
    #[inline]
    pub fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        let space = room.len();
        let n = self.try_io(Interest::READABLE, || Ok(rustix::io::read(self, room)?))?;
        if n > 0 && n < space {
            self.drained();
        }
        Ok(n)
    }

    /// Writes once.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when it takes nothing.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        // MSG_NOSIGNAL: a peer that has gone is an error to handle, not a signal.
        self.try_io(Interest::WRITABLE, || Ok(rustix::net::send(self, bytes, SendFlags::NOSIGNAL)?))
    }

    /// Writes once what lies in several pieces.
    ///
    /// # Errors
    /// As [`Socket::try_write`].
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || {
            let mut none = SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg(self, pieces, &mut none, SendFlags::NOSIGNAL)?)
        })
    }

    /// A read that did not fill its room has emptied the socket: the runtime is told, so that the next wait costs no
    /// read that finds nothing. (What arrives from now on raises a new event.)
    fn drained(&self) {
        let nothing: io::Result<()> =
            self.try_io(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
        debug_assert!(nothing.is_err());
    }

    /// Reads once, whatever the runtime knows of readiness.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when nothing is there.
    pub fn ask(&self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self, room, RecvFlags::DONTWAIT)?.0)
    }

    /// What lies at the front of what has arrived, without taking it, whatever the runtime knows of readiness; 0 is the end.
    ///
    /// # Errors
    /// As the socket; `WouldBlock` when nothing is there.
    pub fn look(&self, room: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self, room, RecvFlags::PEEK | RecvFlags::DONTWAIT)?.0)
    }

    /// Our own end, where it has an address.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getsockname(self).ok()?).ok()
    }

    /// What a look at the first byte that waits comes to; takes nothing away, and asks the socket itself.
    fn peek(&self) -> io::Result<usize> {
        SockRef::from(self).peek(&mut [MaybeUninit::uninit(); 1])
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// A connection's bytes in both directions.
#[derive(Debug)]
pub enum Stream {
    /// As they are on the wire.
    Plain(Socket),
    /// Under TLS; boxed, so that a bare connection does not carry its weight.
    Tls(Box<Tls>),
    /// Either of them, no faster than its listener allows.
    Paced(Box<Paced>),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(Socket::Tcp(stream))
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Plain(Socket::Unix(Box::new(stream)))
    }
}

impl From<Tls> for Stream {
    fn from(tls: Tls) -> Self {
        Self::Tls(Box::new(tls))
    }
}

impl Stream {
    /// The socket underneath.
    #[inline]
    #[must_use]
    pub fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
            Self::Paced(paced) => paced.stream.socket(),
        }
    }

    /// The socket, where its bytes are those of the connection: what the kernel may move by itself.
    #[inline]
    #[must_use]
    pub const fn plain(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(_) | Self::Paced(_) => None,
        }
    }

    /// The TLS of the connection.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls),
            Self::Paced(paced) => paced.stream.tls(),
        }
    }

    /// Ready when there may be something to read, or an end.
    ///
    /// # Errors
    /// As the runtime.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_read_ready(cx),
            Self::Paced(paced) => paced.poll_read_ready(cx),
        }
    }

    /// Ready when something may be written.
    ///
    /// # Errors
    /// As the runtime.
    #[inline]
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Paced(paced) => paced.poll_write_ready(cx),
            _ => self.socket().poll_write_ready(cx),
        }
    }

    /// Waits until there may be something to read, or an end.
    ///
    /// # Errors
    /// As the runtime.
    pub async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_read_ready(cx)).await
    }

    /// Waits until something may be written.
    ///
    /// # Errors
    /// As the runtime.
    pub async fn writable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_write_ready(cx)).await
    }

    /// Reads once; 0 is the end.
    ///
    /// # Errors
    /// As the connection; `WouldBlock` when nothing is there.
    #[inline]
    pub fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read(room),
            Self::Tls(tls) => tls.try_read(room),
            Self::Paced(paced) => paced.try_read(room),
        }
    }

    /// Writes once. What it took is on its way when it returns; where it would block, the next call must have the same
    /// bytes in front.
    ///
    /// # Errors
    /// As the connection; `WouldBlock` when it takes nothing more now.
    #[inline]
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(tls) => tls.try_write(bytes),
            Self::Paced(paced) => paced.try_write(bytes),
        }
    }

    /// Ends our direction of the connection; the other one goes on.
    pub fn end_sending(&self) {
        if let Some(tls) = self.tls() {
            tls.close();
        }
        // The other side may be gone already, which whoever reads from it finds out.
        shutdown(self, Shutdown::Write).ok();
    }

    /// Makes the coming close a reset, so that the peer sees that the transfer is not complete.
    pub fn reset_on_close(&self) {
        if let Some(tls) = self.tls() {
            tls.abandon();
        }
        // The only failure is a socket that is gone already.
        sockopt::set_socket_linger(self, Some(Duration::ZERO)).ok();
    }

    /// Whether nothing has arrived on an idle connection: no end, no reset, no byte that is for us to read. Asks the
    /// socket itself.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(socket) => {
                matches!(socket.peek(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(tls) => tls.is_quiet(),
            Self::Paced(paced) => paced.stream.is_quiet(),
        }
    }

    /// Whether a connection was reset; one whose other side has only ended its direction is not.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(self.socket().peek(), Err(error) if error.kind() != io::ErrorKind::WouldBlock)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

/// For protocol engines that own their connection. Under TLS these keep what they took until it is flushed, so they and
/// [`Stream::try_write`] are not for one connection.
impl Stream {
    /// As [`AsyncRead::poll_read`].
    ///
    /// # Errors
    /// As the connection.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// As [`AsyncWrite::poll_write_vectored`].
    ///
    /// # Errors
    /// As the connection.
    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.take_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_write_ready(cx))?,
                done => return Poll::Ready(done),
            }
        }
    }

    fn take_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(pieces),
            Self::Tls(tls) => tls.take_vectored(pieces),
            Self::Paced(paced) => {
                let first = pieces.iter().find(|piece| !piece.is_empty());
                let take = |stream: &Self, bytes: &[u8]| stream.take_vectored(&[IoSlice::new(bytes)]);
                paced.take(first.map_or(&[], |piece| piece), take)
            }
        }
    }

    /// As [`AsyncWrite::poll_flush`].
    ///
    /// # Errors
    /// As the connection.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(tls) = self.tls() else { return Poll::Ready(Ok(())) };
        loop {
            match tls.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket().poll_write_ready(cx))?
                }
                done => return Poll::Ready(done),
            }
        }
    }

    /// As [`AsyncWrite::poll_shutdown`].
    ///
    /// # Errors
    /// As the connection.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        self.end_sending();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Self::poll_read(&self, cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(&self, cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(&self, cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_flush(&self, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(&self, cx)
    }
}
