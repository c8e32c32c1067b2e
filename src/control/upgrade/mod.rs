//! Upgrade: the process is replaced by a new one, perhaps of another program, without a listener that closes or a connection
//! that is cut.
//!
//! | file | owns |
//! |---|---|
//! | `handover.rs` | what crosses between the two, and how it is written |
//! | `state.rs` | live state as the JSON of it |
//! | `clients.rs` | the part of it that sticky tables know |
//! | `rates.rs` | the part of it that rate limits know |
//! | `departure.rs` | the old process: what it lends, and how it leaves |
//! | `successor.rs` | the new process as its parent sees it: started, heard, killed |
//! | `arrival.rs` | the new process: what it has been given, and when it accepts |
//! | `elders.rs` | processes that were left behind and still have connections |
//!
//! The old process starts the new one with one end of a socket pair as its standard input and writes there what it has:
//! every listening socket, what is known of every endpoint, what the operator has changed. The new one reads the
//! configuration, takes the sockets that it listens on, warms up, and says that it is *warm*; the old one says *accept*;
//! the new one accepts and says that it is *ready*. Until then the old one accepts as ever, so whatever goes wrong before
//! changes nothing. Afterwards it drains, and tells once a second how many connections it still has.
//!
//! For a moment both accept on the same sockets, and no socket is ever without somebody who does: one that the new process
//! does not want is emptied by the old one before it closes.

pub mod arrival;
mod clients;
mod departure;
pub(super) mod elders;
pub mod handover;
mod rates;
pub mod state;
mod successor;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

pub(super) use departure::Belongings;

/// The variable of the environment by which a process knows that it is to take over; its value is the handover's version.
pub const MARKER: &str = "PLIMSOLL_UPGRADE";

/// What the steps after *warm* get, in which nobody waits for anybody else.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);

/// Why an upgrade did not come about; everything is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// One is under way.
    #[error("an upgrade is under way already")]
    Busy,
    /// A reload is under way.
    #[error("a reload is under way")]
    Reloading,
    /// The process is stopping, or has been replaced.
    #[error("the process is stopping")]
    Stopping,
    /// It has no listeners to hand over.
    #[error("the process only observes")]
    Observing,
    /// Everything in a container ends with its process 1.
    #[error("process 1 of a container cannot be replaced: its container ends with it")]
    FirstProcess,
    /// The new process did not get ready.
    #[error("{0}")]
    Failed(String),
}

/// A socket that control does not own and that is handed over too.
#[derive(Debug)]
pub struct Lent {
    /// Its address as it was configured.
    pub address: String,
    /// The socket.
    pub descriptor: OwnedFd,
    /// Set when the new process has it: what belongs to it, such as its file, is that one's from then on.
    pub taken: Arc<AtomicBool>,
}

impl Lent {
    /// The same with a descriptor of its own.
    ///
    /// # Errors
    /// As the system, when no descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let (address, taken) = (self.address.clone(), Arc::clone(&self.taken));
        Ok(Self { address, descriptor: self.descriptor.try_clone()?, taken })
    }
}

/// A process that an upgrade has left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldProcess {
    /// Its number.
    pub pid: u32,
    /// Connections that it still has.
    pub connections: usize,
    /// Since when it drains.
    pub since: SystemTime,
}
