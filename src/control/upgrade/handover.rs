//! What crosses from the old process to the new one on the socket between them, and how it is written: a version and a
//! length, JSON, then the descriptors in batches; after that a line of JSON for each thing that one tells the other.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::LiveState;
use crate::model::address::{Address, UnixPath};
use crate::runtime::listener::Transport;

/// The version of what is handed over. Fields may be added within one version, and unknown ones are passed over; whatever
/// else changes is another version, which is refused.
pub const VERSION: u32 = 1;

/// Bytes of JSON at most: the state of a hundred thousand endpoints.
const LENGTH_MAX: u32 = 64 * 1024 * 1024;

/// Sockets at most.
const SOCKETS_MAX: usize = 65_536;

/// Descriptors in one message; Linux takes 253 (`SCM_MAX_FD`).
const BATCH: usize = 250;

/// Bytes of a line at most.
const LINE_MAX: usize = 1024 * 1024;

/// Everything that is handed over, but for the descriptors themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    /// The old process.
    pub pid: u32,
    /// The snapshot that it ran; the next one's number is one more.
    pub generation: u64,
    /// What each descriptor is, in their order.
    pub sockets: Vec<Socket>,
    /// What is known of pools and endpoints.
    pub state: LiveState,
    /// What the operator has changed at run time, as a state directory keeps it.
    #[serde(default)]
    pub overrides: Value,
    /// Where names have led and what files of endpoints have listed, as a state directory keeps it.
    #[serde(default)]
    pub findings: Value,
}

/// What a descriptor is. A program that does not know one of these refuses the handover as a whole: better than an address
/// on which nobody serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Socket {
    /// One on which a worker accepts.
    Listener {
        /// The address as it was configured, by which the new process finds it.
        address: SocketAddr,
    },
    /// A unix socket on which workers accept.
    Unix {
        /// Its path.
        path: String,
    },
    /// One on which a worker receives datagrams.
    Datagrams {
        /// The address as it was configured.
        address: SocketAddr,
    },
    /// One that a service manager had opened.
    Manager {
        /// Its name.
        name: String,
    },
    /// One of the admin API or of the open health listener.
    Admin {
        /// The address as it was configured.
        address: String,
    },
    /// The other end leads to a process that an earlier upgrade has left behind.
    Elder {
        /// That process.
        pid: u32,
        /// Since when it drains, in seconds since 1970.
        since: u64,
    },
}

/// Why a handover did not come about.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The two programs do not understand each other.
    #[error("the handover is of version {theirs}, and this program understands version {VERSION}")]
    Version {
        /// What the other one writes.
        theirs: u32,
    },
    /// It is longer than anything that is handed over.
    #[error("the handover announces {0} bytes, more than there can be")]
    Length(u32),
    /// Its JSON is not what it should be.
    #[error("the handover is not understood: {0}")]
    Text(#[from] serde_json::Error),
    /// Descriptors are missing.
    #[error("{got} of {wanted} descriptors came over; the limit of open files may be too low")]
    Descriptors {
        /// How many came.
        got: usize,
        /// How many were announced.
        wanted: usize,
    },
    /// The socket between the two.
    #[error("the handover broke off: {0}")]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for HandoverError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Socket {
    /// One that serves an address.
    #[must_use]
    pub fn serving(transport: Transport, address: Address) -> Self {
        match (transport, address) {
            (Transport::Tcp, Address::Ip(address)) => Self::Listener { address },
            (Transport::Udp, Address::Ip(address)) => Self::Datagrams { address },
            (_, Address::Unix(path)) => Self::Unix { path: path.as_str().to_owned() },
        }
    }

    /// The address that it serves, if it does.
    #[must_use]
    pub fn served(&self) -> Option<(Transport, Address)> {
        match self {
            Self::Listener { address } => Some((Transport::Tcp, (*address).into())),
            Self::Datagrams { address } => Some((Transport::Udp, (*address).into())),
            Self::Unix { path } => Some((Transport::Tcp, UnixPath::new(path)?.into())),
            Self::Manager { .. } | Self::Admin { .. } | Self::Elder { .. } => None,
        }
    }
}

/// What the new process tells the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromNew {
    /// Everything is in place but that it accepts; nothing can fail any more.
    Warm,
    /// It accepts.
    Ready {
        /// Places of the sockets that it has taken.
        taken: Vec<usize>,
    },
    /// It cannot, and ends.
    Failed {
        /// Why.
        why: String,
    },
}

/// What the old process tells the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromOld {
    /// Begin to accept: from here on the old one does not kill it for being late.
    Accept,
    /// So many connections are still open here.
    Left(usize),
}

/// Writes a handover. Waits for its reader, as long as the socket's timeout lets it.
///
/// # Errors
/// [`HandoverError`].
pub fn send(stream: &UnixStream, handover: &Handover, descriptors: &[OwnedFd]) -> Result<(), HandoverError> {
    let text = serde_json::to_vec(handover)?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= LENGTH_MAX);
    let length = length.ok_or(HandoverError::Length(u32::MAX))?;
    if descriptors.len() != handover.sockets.len() || descriptors.len() > SOCKETS_MAX {
        return Err(HandoverError::Descriptors { got: descriptors.len(), wanted: handover.sockets.len() });
    }
    let mut out = stream;
    out.write_all(&VERSION.to_be_bytes())?;
    out.write_all(&length.to_be_bytes())?;
    out.write_all(&text)?;
    for batch in descriptors.chunks(BATCH) {
        let batch: Vec<BorrowedFd<'_>> = batch.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&batch)) {
            return Err(HandoverError::Descriptors { got: 0, wanted: batch.len() });
        }
        // Descriptors travel with a byte, of which each batch has its own.
        sendmsg(stream, &[IoSlice::new(b"D")], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Reads a handover and its descriptors, which no program that is started inherits.
///
/// # Errors
/// [`HandoverError`]; the descriptors that had come are closed then.
pub fn receive(stream: &UnixStream) -> Result<(Handover, Vec<OwnedFd>), HandoverError> {
    let mut input = stream;
    let mut number = [0; 4];
    input.read_exact(&mut number)?;
    let theirs = u32::from_be_bytes(number);
    if theirs != VERSION {
        return Err(HandoverError::Version { theirs });
    }
    input.read_exact(&mut number)?;
    let length = u32::from_be_bytes(number);
    if length > LENGTH_MAX {
        return Err(HandoverError::Length(length));
    }
    // It grows with what comes, whatever was announced.
    let mut text = Vec::new();
    input.take(length.into()).read_to_end(&mut text)?;
    if text.len() < length as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let handover: Handover = serde_json::from_slice(&text)?;
    let wanted = handover.sockets.len();
    if wanted > SOCKETS_MAX {
        return Err(HandoverError::Descriptors { got: 0, wanted });
    }
    let mut descriptors = Vec::with_capacity(wanted);
    while descriptors.len() < wanted {
        let expected = (wanted - descriptors.len()).min(BATCH);
        let batch = receive_batch(stream)?;
        let got = batch.len();
        descriptors.extend(batch);
        if got != expected {
            return Err(HandoverError::Descriptors { got: descriptors.len(), wanted });
        }
    }
    Ok((handover, descriptors))
}

fn receive_batch(stream: &UnixStream) -> Result<Vec<OwnedFd>, HandoverError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(batch) = message {
            descriptors.extend(batch);
        }
    }
    Ok(descriptors)
}

/// Tells the other end one thing.
///
/// # Errors
/// As the socket.
pub fn tell<T: Serialize>(mut stream: &UnixStream, word: &T) -> Result<(), HandoverError> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// Hears one thing from the other end; nothing when it has closed.
///
/// # Errors
/// [`HandoverError`], also when nothing comes within the socket's timeout.
pub fn hear<T: for<'a> Deserialize<'a>>(mut stream: &UnixStream) -> Result<Option<T>, HandoverError> {
    // A byte at a time: what follows the line may be for somebody else to read. These lines are few.
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte == *b"\n" => return Ok(Some(serde_json::from_slice(&line)?)),
            Ok(_) if line.len() >= LINE_MAX => return Err(HandoverError::Length(u32::MAX)),
            Ok(_) => line.extend(byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    type Failure = Box<dyn std::error::Error>;

    fn listeners(count: usize) -> io::Result<(Handover, Vec<OwnedFd>)> {
        let one = TcpListener::bind("127.0.0.1:0")?;
        let address = one.local_addr()?;
        let sockets = vec![Socket::Listener { address }; count];
        let descriptors =
            (0..count).map(|_| one.try_clone().map(OwnedFd::from)).collect::<io::Result<_>>()?;
        let state = LiveState::default();
        let (overrides, findings) = (Value::Null, Value::Null);
        Ok((Handover { pid: 7, generation: 3, sockets, state, overrides, findings }, descriptors))
    }

    /// What comes of these bytes, after which nothing follows.
    fn read(bytes: &[u8]) -> Result<(), HandoverError> {
        let (here, there) = UnixStream::pair()?;
        (&here).write_all(bytes)?;
        drop(here);
        receive(&there).map(drop)
    }

    fn framed(version: u32, length: u32, text: &[u8]) -> Vec<u8> {
        [&version.to_be_bytes()[..], &length.to_be_bytes(), text].concat()
    }

    #[test]
    fn sockets_come_over_in_their_order_however_many() -> Result<(), Failure> {
        let (mut sent, mut descriptors) = listeners(BATCH + 3)?;
        let last = TcpListener::bind("127.0.0.1:0")?;
        let address = last.local_addr()?;
        sent.sockets.push(Socket::Listener { address });
        descriptors.push(last.into());
        let (here, there) = UnixStream::pair()?;
        let expected = sent.clone();
        let writer = thread::spawn(move || send(&here, &sent, &descriptors).is_ok());
        let (received, mut sockets) = receive(&there)?;
        assert_eq!((received, sockets.len()), (expected, BATCH + 4));
        let last = TcpListener::from(sockets.pop().ok_or("one")?);
        assert_eq!(last.local_addr()?, address);
        assert!(writer.join().is_ok_and(|sent| sent));
        Ok(())
    }

    #[test]
    fn another_version_a_monster_and_half_of_it_are_refused() {
        assert!(
            matches!(read(&framed(VERSION + 1, 2, b"{}")), Err(HandoverError::Version { theirs }) if theirs == VERSION + 1)
        );
        assert!(matches!(read(&framed(VERSION, u32::MAX, b"{}")), Err(HandoverError::Length(u32::MAX))));
        assert!(matches!(read(&framed(VERSION, 2, b"{}")), Err(HandoverError::Text(_))));
        for cut in [&framed(VERSION, 20, b"{}")[..], &VERSION.to_be_bytes(), b"\0", b""] {
            assert!(matches!(read(cut), Err(HandoverError::Io(_))), "{cut:?}");
        }
    }

    #[test]
    fn fewer_descriptors_than_announced_are_refused() -> Result<(), Failure> {
        let (mut announced, descriptors) = listeners(3)?;
        announced.sockets.pop();
        let (here, there) = UnixStream::pair()?;
        assert!(matches!(send(&here, &announced, &descriptors), Err(HandoverError::Descriptors { .. })));
        // A program that announces more than it sends.
        let descriptors = &descriptors[..2];
        send(&here, &announced, descriptors)?;
        let mut bytes = vec![0; 8];
        (&there).read_exact(&mut bytes)?;
        let mut text = vec![0; u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize];
        (&there).read_exact(&mut text)?;
        let batch = receive_batch(&there)?;
        announced.sockets.push(announced.sockets[0].clone());
        let text = serde_json::to_vec(&announced)?;
        (&here).write_all(&framed(VERSION, u32::try_from(text.len())?, &text))?;
        let two: Vec<BorrowedFd<'_>> = batch.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&two)));
        sendmsg(&here, &[IoSlice::new(b"D")], &mut ancillary, SendFlags::NOSIGNAL)?;
        assert!(matches!(receive(&there), Err(HandoverError::Descriptors { got: 2, wanted: 3 })));
        Ok(())
    }

    #[test]
    fn words_come_one_by_one_and_then_the_end() -> Result<(), Failure> {
        let (here, there) = UnixStream::pair()?;
        tell(&here, &FromNew::Warm)?;
        tell(&here, &FromNew::Ready { taken: vec![0, 2] })?;
        drop(here);
        assert_eq!(hear(&there)?, Some(FromNew::Warm));
        assert_eq!(hear(&there)?, Some(FromNew::Ready { taken: vec![0, 2] }));
        assert_eq!(hear::<FromNew>(&there)?, None);
        Ok(())
    }
}
