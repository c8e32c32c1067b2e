//! The long-lived connections of one worker (tcp sessions and tunnels) by the endpoint that they lead to, so that
//! those of one endpoint can be cut when control says so.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::timer::{Hold, Timer};
use crate::runtime::counters::WorkerId;
use crate::runtime::snapshot::Edition;
use crate::telemetry::access_log::Termination;

/// Why a long-lived connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Its listener was removed, and the time for that is over.
    ListenerRemoved,
    /// The operator has ended it.
    Ended,
    /// A udp session that gives way to a newcomer.
    Evicted,
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
            Self::ListenerRemoved => Termination::ListenerRemoved,
            Self::Ended => Termination::Ended,
            Self::Evicted => Termination::Evicted,
        }
    }
}

/// All sessions of a worker, by slot of their endpoint. Entering, leaving and cutting one take constant time.
#[derive(Debug)]
pub struct Sessions {
    worker: WorkerId,
    start: Instant,
    next: Cell<u32>,
    by_slot: RefCell<Vec<Vec<Row>>>,
}

/// What is known of a session from outside. As small as it can be: there is one for every session, idle ones too.
#[derive(Debug)]
struct Row {
    hold: Hold,
    edition: Arc<Edition>,
    client: [u8; 16],
    client_port: u16,
    listener: u32,
    /// Since the worker started, in tenths of a second.
    began: u32,
    number: u32,
}

/// One session as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The worker that has it.
    pub worker: usize,
    /// Its number among those of its worker.
    pub number: u32,
    /// The other end.
    pub client: SocketAddr,
    /// The place of its listener.
    pub listener: usize,
    /// The slot of its endpoint.
    pub slot: u32,
    /// The snapshot that it began with.
    pub generation: u64,
    /// How old it is.
    pub age: Duration,
}

/// One session; it leaves when dropped.
#[derive(Debug)]
pub struct Entered<'a> {
    sessions: &'a Sessions,
    slot: u32,
    timer: &'a Timer,
}

impl Sessions {
    /// The sessions of a worker, none yet.
    #[must_use]
    pub fn new(worker: WorkerId) -> Self {
        Self { worker, start: Instant::now(), next: Cell::new(0), by_slot: RefCell::default() }
    }

    /// Notes a session of `client`, who came by the listener at a place. It leads to the endpoint at `slot` and waits on
    /// `timer`; `edition` is the snapshot that it began with.
    pub fn enter<'a>(
        &'a self,
        slot: u32,
        timer: &'a Timer,
        edition: &Arc<Edition>,
        client: SocketAddr,
        listener: u32,
    ) -> Entered<'a> {
        let mut by_slot = self.by_slot.borrow_mut();
        let index = slot as usize;
        if by_slot.len() <= index {
            by_slot.resize_with(index + 1, Vec::new);
        }
        if let Some(sessions) = by_slot.get_mut(index) {
            let hold = timer.hold();
            hold.set_position(sessions.len());
            edition.sessions.of(self.worker).one();
            let number = self.next.get();
            self.next.set(number.wrapping_add(1));
            sessions.push(Row {
                hold,
                edition: Arc::clone(edition),
                client: octets(client.ip()),
                client_port: client.port(),
                listener,
                began: u32::try_from(self.start.elapsed().as_millis() / 100).unwrap_or(u32::MAX),
                number,
            });
        }
        Entered { sessions: self, slot, timer }
    }

    /// Cuts up to `at_most` sessions of the endpoint at `slot`; each ends when its task is polled next.
    pub fn cut(&self, slot: u32, at_most: usize, why: Cut) {
        let by_slot = self.by_slot.borrow();
        let Some(sessions) = by_slot.get(slot as usize) else { return };
        for row in sessions.iter().filter(|row| row.hold.cut().is_none()).take(at_most) {
            row.hold.set_cut(why);
        }
    }

    /// Cuts all that came by the listener at a place.
    pub fn cut_listener(&self, place: usize, why: Cut) {
        for row in self.by_slot.borrow().iter().flatten().filter(|row| row.listener as usize == place) {
            row.hold.set_cut(why);
        }
    }

    /// Cuts the one of this number; whether there is one.
    pub fn end(&self, number: u32) -> bool {
        let by_slot = self.by_slot.borrow();
        let found = by_slot.iter().flatten().find(|row| row.number == number);
        found.map(|row| row.hold.set_cut(Cut::Ended)).is_some()
    }

    /// Up to `most` sessions, of the endpoints at these slots where some are given, and how many there are.
    #[must_use]
    pub fn list(&self, slots: Option<&[u32]>, most: usize) -> (Vec<Listed>, usize) {
        let by_slot = self.by_slot.borrow();
        let rows = by_slot.iter().zip(0..).flat_map(|(rows, slot)| rows.iter().map(move |row| (slot, row)));
        let wanted = |slot: u32| slots.is_none_or(|slots| slots.contains(&slot));
        let (mut listed, mut count) = (Vec::new(), 0);
        for (slot, row) in rows.filter(|(slot, _)| wanted(*slot)) {
            count += 1;
            if listed.len() < most {
                listed.push(self.listed(slot, row));
            }
        }
        (listed, count)
    }

    fn listed(&self, slot: u32, row: &Row) -> Listed {
        let began = Duration::from_millis(u64::from(row.began) * 100);
        Listed {
            worker: self.worker.0,
            number: row.number,
            client: SocketAddr::new(Ipv6Addr::from(row.client).to_canonical(), row.client_port),
            listener: row.listener as usize,
            slot,
            generation: row.edition.generation,
            age: self.start.elapsed().saturating_sub(began),
        }
    }
}

/// An address in sixteen bytes, an old one as its mapped form (RFC 4291 section 2.5.5.2).
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut by_slot = self.sessions.by_slot.borrow_mut();
        let Some(sessions) = by_slot.get_mut(self.slot as usize) else { return };
        let position = self.timer.hold().position();
        if position < sessions.len() {
            let left = sessions.swap_remove(position);
            left.edition.sessions.of(self.sessions.worker).sub(1);
            if let Some(moved) = sessions.get(position) {
                moved.hold.set_position(position);
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
        let sessions = Sessions::new(WorkerId(0));
        let edition = Arc::new(Edition::new(1, 1));
        let client = SocketAddr::from(([192, 0, 2, 1], 1024));
        let waits: Vec<Timer> = (0..6).map(|_| timers.timer()).collect();
        let entered: Vec<Entered<'_>> = waits
            .iter()
            .enumerate()
            .map(|(i, timer)| sessions.enter(u32::from(i >= 4), timer, &edition, client, 0))
            .collect();
        sessions.cut(0, 3, Cut::Unreachable);
        let cut = || waits.iter().filter(|timer| timer.cut() == Some(Cut::Unreachable)).count();
        assert_eq!(cut(), 3);
        sessions.cut(0, 3, Cut::Unreachable);
        assert_eq!(cut(), 4, "the last one; those cut already do not count");
        sessions.cut(7, 1, Cut::Unreachable);
        drop(entered);
        assert!(sessions.by_slot.borrow().iter().all(Vec::is_empty));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_leave_in_any_order() {
        let timers = Timers::new();
        let sessions = Sessions::new(WorkerId(0));
        let edition = Arc::new(Edition::new(1, 1));
        let client = SocketAddr::from(([192, 0, 2, 1], 1024));
        let waits: Vec<Timer> = (0..5).map(|_| timers.timer()).collect();
        let mut entered: Vec<Option<Entered<'_>>> =
            waits.iter().map(|timer| Some(sessions.enter(3, timer, &edition, client, 5))).collect();
        for leaves in [1, 4, 0] {
            entered[leaves] = None;
        }
        sessions.cut(3, usize::MAX, Cut::Demoted);
        let cut: Vec<bool> = waits.iter().map(|timer| timer.cut().is_some()).collect();
        assert_eq!(cut, [false, false, true, true, false]);
    }
    #[tokio::test(start_paused = true)]
    async fn each_is_listed_with_what_it_holds_and_can_be_ended() {
        let timers = Timers::new();
        let sessions = Sessions::new(WorkerId(0));
        let editions = [1, 2].map(|generation| Arc::new(Edition::new(generation, 1)));
        let client = SocketAddr::from(([192, 0, 2, 1], 1024));
        let waits: Vec<Timer> = (0..3).map(|_| timers.timer()).collect();
        let old = sessions.enter(7, &waits[0], &editions[0], client, 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        let _new = sessions.enter(7, &waits[1], &editions[1], client, 1);
        let _other = sessions.enter(8, &waits[2], &editions[1], client, 1);
        let (listed, count) = sessions.list(Some(&[7]), 1);
        assert_eq!((listed.len(), count), (1, 2));
        let Listed { generation, slot, age, .. } = listed[0];
        assert_eq!((generation, slot, age, listed[0].client), (1, 7, Duration::from_secs(2), client));
        assert_eq!(editions[0].sessions.of(WorkerId(0)).get(), 1);
        assert!(sessions.end(listed[0].number) && !sessions.end(99));
        assert_eq!(waits[0].cut(), Some(Cut::Ended));
        drop(old);
        assert_eq!(editions[0].sessions.of(WorkerId(0)).get(), 0);
        sessions.cut_listener(1, Cut::ListenerRemoved);
        assert!(waits[1..].iter().all(|timer| timer.cut() == Some(Cut::ListenerRemoved)));
    }
}
