//! The meeting point: the immutable [`snapshot::Snapshot`] that control publishes and the live state that
//! workers write.
//!
//! Two kinds of state meet here. What the operator wrote is compiled into a snapshot and never changes; what
//! happens is kept in atomics keyed by identity, so that it outlives every snapshot.
//!
//! Why an endpoint may not be picked is one word of bits ([`condition`]): the keeper of health and the operator write
//! some, [`judge`] writes what live traffic says. [`pick`] reads them, in the order of tiers ([`tier`]) and failover pools;
//! who finds everybody busy waits in the [`queue`]. Where a client belongs already, [`sticky`] knows.

pub mod adaptive;
pub mod answer_times;
pub mod clock;
pub mod compile;
pub mod condition;
pub mod counters;
pub mod credentials;
pub mod diff;
pub mod endpoint;
pub mod events;
pub mod gate;
pub mod judge;
pub mod limits;
pub mod listener;
pub mod page;
pub mod pick;
pub mod places;
pub mod pool;
pub mod pressure;
pub mod queue;
pub mod rate_table;
pub mod route_limits;
pub mod snapshot;
pub mod sources;
pub mod spans;
pub mod sticky;
pub mod store;
mod sync;
pub mod tier;
pub mod tls;
pub mod treatment;
