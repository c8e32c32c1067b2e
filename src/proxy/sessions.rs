//! The long-lived connections of one worker (tcp sessions and tunnels) by the endpoint that they lead to, so that
//! those of one endpoint can be cut when control says so.

use std::cell::RefCell;

use super::timer::{Hold, Timer};
use crate::telemetry::access_log::Termination;

/// Why a long-lived connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its endpoint says that it does not want traffic, or another one leads now.
    Demoted,
    /// Its endpoint cannot be reached any more.
    Unreachable,
    /// It is as old as a connection may become.
    Aged,
    /// It makes room for an endpoint that has come back.
    Shed,
    /// Its endpoint was drained or removed, and the time for that is over.
    Drained,
}

impl Cut {
    /// The access log's word for it.
    #[must_use]
    pub const fn termination(self) -> Termination {
        match self {
            Self::Demoted => Termination::EndpointDemoted,
            Self::Unreachable => Termination::EndpointUnreachable,
            Self::Aged => Termination::Aged,
            Self::Shed => Termination::Shed,
            Self::Drained => Termination::EndpointDrained,
        }
    }
}

/// All sessions of a worker, by slot of their endpoint. Entering, leaving and cutting one take constant time.
#[derive(Debug, Default)]
pub struct Sessions(RefCell<Vec<Vec<Hold>>>);

/// One session; it leaves when dropped.
#[derive(Debug)]
pub struct Entered<'a> {
    sessions: &'a Sessions,
    slot: u32,
    timer: &'a Timer,
}

impl Sessions {
    /// Notes a session that leads to the endpoint at `slot` and waits on `timer`.
    pub fn enter<'a>(&'a self, slot: u32, timer: &'a Timer) -> Entered<'a> {
        let mut by_slot = self.0.borrow_mut();
        let index = slot as usize;
        if by_slot.len() <= index {
            by_slot.resize_with(index + 1, Vec::new);
        }
        if let Some(sessions) = by_slot.get_mut(index) {
            let hold = timer.hold();
            hold.set_position(sessions.len());
            sessions.push(hold);
        }
        Entered { sessions: self, slot, timer }
    }

    /// Cuts up to `at_most` sessions of the endpoint at `slot`; each ends when its task is polled next.
    pub fn cut(&self, slot: u32, at_most: usize, why: Cut) {
        let by_slot = self.0.borrow();
        let Some(sessions) = by_slot.get(slot as usize) else { return };
        for hold in sessions.iter().filter(|hold| hold.cut().is_none()).take(at_most) {
            hold.set_cut(why);
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut by_slot = self.sessions.0.borrow_mut();
        let Some(sessions) = by_slot.get_mut(self.slot as usize) else { return };
        let position = self.timer.hold().position();
        if position < sessions.len() {
            sessions.swap_remove(position);
            if let Some(moved) = sessions.get(position) {
                moved.set_position(position);
            }
        }
        // What a crowd once took is given back.
        if sessions.len() * 4 < sessions.capacity() {
            sessions.shrink_to(sessions.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::timer::Timers;

    #[tokio::test(start_paused = true)]
    async fn a_cut_reaches_the_sessions_of_its_endpoint_alone_and_no_more_than_asked() {
        let timers = Timers::new();
        let sessions = Sessions::default();
        let waits: Vec<Timer> = (0..6).map(|_| timers.timer()).collect();
        let entered: Vec<Entered<'_>> =
            waits.iter().enumerate().map(|(i, timer)| sessions.enter(u32::from(i >= 4), timer)).collect();
        sessions.cut(0, 3, Cut::Unreachable);
        let cut = || waits.iter().filter(|timer| timer.cut() == Some(Cut::Unreachable)).count();
        assert_eq!(cut(), 3);
        sessions.cut(0, 3, Cut::Unreachable);
        assert_eq!(cut(), 4, "the last one; those cut already do not count");
        sessions.cut(7, 1, Cut::Unreachable);
        drop(entered);
        assert!(sessions.0.borrow().iter().all(Vec::is_empty));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_leave_in_any_order() {
        let timers = Timers::new();
        let sessions = Sessions::default();
        let waits: Vec<Timer> = (0..5).map(|_| timers.timer()).collect();
        let mut entered: Vec<Option<Entered<'_>>> =
            waits.iter().map(|timer| Some(sessions.enter(3, timer))).collect();
        for leaves in [1, 4, 0] {
            entered[leaves] = None;
        }
        sessions.cut(3, usize::MAX, Cut::Demoted);
        let cut: Vec<bool> = waits.iter().map(|timer| timer.cut().is_some()).collect();
        assert_eq!(cut, [false, false, true, true, false]);
    }
}
