//! Health: one thread on which probes run and the [`keeper::Keeper`] decides what follows.
//!
//! The map: [`probe`] makes one probe of one endpoint, `targets` says who is probed how, [`keeper`] turns results, time
//! and the operator's words into conditions, gates and leaders (`results`: what probes mean to it, `adoption`: what a reload does, `operator`: what the operator says), `levels` are sums of what tiers can do, `standing` is where a pool stands among its tiers and
//! failover pools, `lead` who leads an exclusive one, [`closing`] ends live connections, `report` puts changes into
//! words, `memory` is what an upgrade hands on, [`board`] shows it all, `warm` asks endpoints that are to come. `watch` is the thread: its tasks ask, the keeper decides.

mod adoption;
pub mod board;
pub mod closing;
pub mod keeper;
mod lead;
mod levels;
pub(super) mod memory;
pub(in crate::control) mod operator;
pub mod probe;
mod report;
mod results;
mod standing;
#[cfg(test)]
mod survival;
pub mod targets;
pub(super) mod warm;
pub(super) mod watch;
