//! Tcp listeners with `when_empty = "stop_listening"`: closed while nothing behind them is usable, open again with it.
//!
//! A balancer or a client that gets no connection goes elsewhere at once; one that gets a connection which is reset
//! may try here again and again.

use std::time::Duration;

use tokio::time::Instant;

use super::health::board::Board;
use super::status::ProbeState;
use crate::runtime::listener::{Protocol, WhenEmpty};
use crate::runtime::pick::Order;
use crate::runtime::places::Listeners;
use crate::runtime::snapshot::Snapshot;

/// Nothing must have been usable for so long.
const AFTER: Duration = Duration::from_secs(3);

/// What is to be done with a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Close its sockets.
    Shut(usize),
    /// Bind and accept again.
    Open(usize),
}

/// Where the listeners stand, by their index.
#[derive(Debug, Default)]
pub(super) struct Emptiness(Vec<State>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Listening,
    EmptySince(Instant),
    Shut,
}

impl Emptiness {
    /// What is to be done now. A step that failed is said again after [`Emptiness::failed`].
    pub(super) fn look(&mut self, snapshot: &Snapshot, board: &Board, now: Instant) -> Vec<Step> {
        self.0.resize(snapshot.listeners.len(), State::default());
        let mut steps = Vec::new();
        for (index, listener) in snapshot.listeners.places() {
            let Some(state) = self.0.get_mut(index) else { continue };
            let empty = match listener.protocol {
                Protocol::Tcp { pool: Some(pool), when_empty: WhenEmpty::StopListening, .. } => {
                    is_empty(snapshot, board, pool)
                }
                _ => false,
            };
            *state = match *state {
                State::Shut if !empty => {
                    steps.push(Step::Open(index));
                    State::Listening
                }
                State::Shut => State::Shut,
                State::EmptySince(since) if empty && now.saturating_duration_since(since) >= AFTER => {
                    steps.push(Step::Shut(index));
                    State::Shut
                }
                State::EmptySince(since) if empty => State::EmptySince(since),
                _ if empty => State::EmptySince(now),
                _ => State::Listening,
            };
        }
        steps
    }

    /// Whether the listener at a place is shut.
    pub(super) fn is_shut(&self, index: usize) -> bool {
        self.0.get(index) == Some(&State::Shut)
    }

    /// Takes over the listeners of another snapshot: what is not the same listener any more, or is to listen always,
    /// starts anew.
    pub(super) fn keep(&mut self, before: &Listeners, now: &Listeners) {
        for (index, state) in self.0.iter_mut().enumerate() {
            let same = before.name(index) == now.name(index);
            let closes = now.get(index).is_some_and(|listener| {
                matches!(listener.protocol, Protocol::Tcp { when_empty: WhenEmpty::StopListening, .. })
            });
            if !same || !closes {
                *state = State::default();
            }
        }
    }

    /// A listener could not be opened: it is tried again.
    pub(super) fn failed(&mut self, index: usize) {
        if let Some(state) = self.0.get_mut(index) {
            *state = State::Shut;
        }
    }
}

/// Whether no endpoint of the pool and its failover pools is usable, or is there at all where they fail open.
fn is_empty(snapshot: &Snapshot, board: &Board, pool: usize) -> bool {
    let Some(home) = snapshot.pools.get(pool) else { return true };
    if Order::new(&snapshot.pools, &home.chain).is_usable() {
        return false;
    }
    let is_there = |slot: u32| board.endpoint(slot).probe.state != ProbeState::CannotBeAsked;
    let chain = home.chain.iter().filter_map(|&at| snapshot.pools.get(at));
    let mut endpoints = chain.filter(|p| !p.exclusive).flat_map(|p| &p.endpoints);
    !(home.fail_open && endpoints.any(|e| is_there(e.live.slot())))
}
