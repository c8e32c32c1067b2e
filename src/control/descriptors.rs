//! The limit on open descriptors: raised as far as the process may, and lived within.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for client and upstream connections: logs, admin, epoll, pipes.
const RESERVE: u64 = 128;

/// Raises the soft limit to the hard one and says how many client connections fit, each with one to an endpoint.
#[must_use]
pub(super) fn connections_max(workers: usize, listeners: usize) -> usize {
    let limit = raise();
    let own = RESERVE + (workers as u64) * (listeners as u64 + 40);
    usize::try_from(limit.saturating_sub(own) / 2).unwrap_or(usize::MAX).max(1)
}

/// How many the process may have once the soft limit has been raised.
#[must_use]
pub(super) fn most() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

fn raise() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let (current, maximum) = (now.current.unwrap_or(u64::MAX), now.maximum.unwrap_or(u64::MAX));
    if current >= maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, current, "the descriptor limit could not be raised");
            current
        }
    }
}
