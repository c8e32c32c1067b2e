//! The socket of the admin API: a TCP address, or a unix socket that only its owner can reach.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

use crate::config::process::AdminBind;
use crate::control::upgrade::Lent;
use crate::proxy::socket_file::{SocketFile, remove_stale};

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: u32 = 128;

/// A bound admin socket. Dropping it closes it and takes a unix socket's file away.
#[derive(Debug)]
pub struct Bound(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Held for its drop.
        file: SocketFile,
    },
}

/// A connection to either.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Bound {
    /// Binds and listens; must be called inside a tokio runtime. A unix socket's file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::AddrInUse`] also when another process listens on the unix socket, and
    /// [`io::ErrorKind::AlreadyExists`] when its path is something else than a socket.
    pub fn bind(address: &AdminBind) -> io::Result<Self> {
        let _runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        Ok(Self(match address {
            AdminBind::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Socket::Tcp(TcpListener::from_std(listener)?)
            }
            AdminBind::Unix(path) => {
                remove_stale(path)?;
                let socket = UnixSocket::new_stream()?;
                socket.bind(path)?;
                let file = SocketFile::new(path)?;
                // Nobody can connect before `listen`, so there is no moment at which others could.
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                Socket::Unix { listener: socket.listen(BACKLOG)?, file }
            }
        }))
    }

    /// The socket that the process before has had at this address; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the system says, such as that a unix socket's file is gone.
    pub fn adopt(address: &AdminBind, socket: OwnedFd) -> io::Result<Self> {
        let _runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        Ok(Self(match address {
            AdminBind::Tcp(_) => {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                Socket::Tcp(TcpListener::from_std(listener)?)
            }
            AdminBind::Unix(path) => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                Socket::Unix { listener: UnixListener::from_std(listener)?, file: SocketFile::new(path)? }
            }
        }))
    }

    /// The socket for the next process, which has it at this address. Once it has taken it, its file is that one's.
    ///
    /// # Errors
    /// As the system, when no descriptor is left.
    pub fn lend(&self, address: &AdminBind) -> io::Result<Lent> {
        let (descriptor, taken) = match &self.0 {
            Socket::Tcp(listener) => (listener.as_fd().try_clone_to_owned()?, Arc::default()),
            Socket::Unix { listener, file } => {
                (listener.as_fd().try_clone_to_owned()?, file.left_to_another())
            }
        };
        Ok(Lent { address: address.to_string(), descriptor, taken })
    }

    /// The bound TCP address, with the port that the kernel chose; nothing for a unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix { .. } => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match &self.0 {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            Socket::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_its_owners_and_goes_with_the_process() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("admin.sock");
        let bound = Bound::bind(&AdminBind::Unix(path.clone()))?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        let second = Bound::bind(&AdminBind::Unix(path.clone())).map(drop);
        assert_eq!(second.map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse));
        drop(bound);
        assert!(!path.exists());
        Ok(())
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_other_files_are_not() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("admin.sock");
        // The standard library's listener leaves its file behind.
        drop(std::os::unix::net::UnixListener::bind(&path)?);
        assert!(path.exists());
        drop(Bound::bind(&AdminBind::Unix(path.clone()))?);
        fs::write(&path, "precious")?;
        let refused = Bound::bind(&AdminBind::Unix(path.clone())).map(drop);
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&path)?, b"precious");
        Ok(())
    }

    #[tokio::test]
    async fn a_successors_socket_is_left_alone() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("admin.sock");
        let bound = Bound::bind(&AdminBind::Unix(path.clone()))?;
        fs::remove_file(&path)?;
        let _successor = std::os::unix::net::UnixListener::bind(&path)?;
        drop(bound);
        assert!(path.exists());
        Ok(())
    }
}
