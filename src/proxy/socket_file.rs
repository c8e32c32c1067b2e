//! The file of a unix socket: one that was left behind is replaced, ours is taken away at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes away what an earlier process left behind; a socket in use stays.
///
/// # Errors
/// What the system says; [`io::ErrorKind::AddrInUse`] when somebody listens there, and
/// [`io::ErrorKind::AlreadyExists`] when the path is something else than a socket.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path is there already and is no socket",
            ));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The file of a unix socket; taken away at the end unless a successor has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Another process has the socket and its file.
    left_to_another: Arc<AtomicBool>,
}

impl SocketFile {
    /// The file that a socket has just been bound to, or that came with it.
    ///
    /// # Errors
    /// As the system, when it is gone.
    pub fn new(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        let left_to_another = Arc::default();
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino(), left_to_another })
    }

    /// Lets others connect, or keeps them from it.
    ///
    /// # Errors
    /// As the system.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode))
    }

    /// What to set once another process has the socket and its file.
    #[must_use]
    pub fn left_to_another(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.left_to_another)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = !self.left_to_another.load(Ordering::Relaxed)
            && fs::symlink_metadata(&self.path)
                .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the file of a unix socket stays behind");
        }
    }
}
