//! What an operator may change at run time, and why it may be refused.

use std::fmt;

use crate::model::address::EndpointAddress;
use crate::model::name::{EndpointName, PoolName};
use crate::model::units::Weight;

/// What the operator wants of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdminState {
    /// It may take work.
    #[default]
    Ready,
    /// No new work; work in flight finishes.
    Drain,
    /// No work at all, and no probes count.
    Maintenance,
}

impl AdminState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Drain, Self::Maintenance];

    /// Its word in commands and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for AdminState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// A change of one endpoint; what is not given stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointChange {
    /// The pool.
    pub pool: PoolName,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The state that it shall have.
    pub state: Option<AdminState>,
    /// The weight that it shall have.
    pub weight: Option<Weight>,
    /// Carry it out even where a guard such as `min_available` speaks against it.
    pub force: bool,
}

/// An endpoint that is to be added to a pool; it is kept over reloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// The pool.
    pub pool: PoolName,
    /// Its name.
    pub name: EndpointName,
    /// Where it is; of a name, every address.
    pub address: EndpointAddress,
    /// Its share.
    pub weight: Weight,
    /// Its priority group.
    pub tier: u8,
    /// Where it stands; empty is nowhere.
    pub zone: String,
}

/// An endpoint that is to be removed from a pool, whoever brings it; what long-lived work is on it gets the pool's
/// `drain_timeout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The pool.
    pub pool: PoolName,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// Also below `min_available`.
    pub force: bool,
}

/// Where a pool's traffic shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailoverTarget {
    /// Back to the pool itself.
    Home,
    /// To one of its failover pools.
    Pool(PoolName),
}

impl fmt::Display for FailoverTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home => out.write_str("home"),
            Self::Pool(pool) => out.write_str(pool.as_str()),
        }
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such pool.
    #[error("there is no pool \"{0}\"")]
    NoPool(PoolName),
    /// The pool has no such endpoint.
    #[error("pool \"{0}\" has no endpoint \"{1}\"")]
    NoEndpoint(PoolName, EndpointName),
    /// The target is none of the pool's failover pools.
    #[error("pool \"{0}\" does not fail over to \"{1}\"")]
    NoTarget(PoolName, PoolName),
    /// A guard speaks against it; `force` goes past it.
    #[error("{0}; force does it all the same")]
    Guarded(String),
    /// It cannot be done, by force neither.
    #[error("{0}")]
    Impossible(String),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}
