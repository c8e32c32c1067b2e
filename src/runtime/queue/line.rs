//! Those who wait, a line for each class, under the queue's lock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Away, Grant, State, Wish};
use crate::policy::admission::class::{Class, Turns};
use crate::policy::admission::shedding::{Settings, Shedder};
use crate::runtime::condition::Level;
use crate::runtime::endpoint::EndpointLive;

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    level: Level,
    // Endpoints that this request has tried already; almost always empty.
    tried: Box<[u32]>,
    // The endpoint that this request belongs to, where it waits for that alone.
    only: Option<u32>,
    /// Its number in the order of arrival.
    came: u64,
    /// When it came, on the time line of the policies.
    at: Duration,
    grant: oneshot::Sender<Result<Grant, Away>>,
}

impl Waiter {
    fn takes(&self, endpoint: &EndpointLive) -> bool {
        match self.only {
            Some(only) => only == endpoint.slot() && endpoint.condition.allows_bound(self.level),
            None => endpoint.condition.allows(self.level) && !self.tried.contains(&endpoint.slot()),
        }
    }

    /// Whether it keeps those behind it from places that it cannot use itself.
    fn takes_any(&self) -> bool {
        self.only.is_none() && self.tried.is_empty()
    }

    fn has_left(&self) -> bool {
        self.grant.is_closed()
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    class: Class,
    place: usize,
}

#[derive(Debug, Default)]
struct Line {
    waiters: VecDeque<Waiter>,
    shedder: Shedder,
}

impl Line {
    /// The one in it whose turn it is among those that can use the endpoint.
    fn first(&self, endpoint: &EndpointLive, newest_first: bool) -> Option<usize> {
        if newest_first && self.shedder.stands() {
            return self.waiters.iter().rposition(|waiter| waiter.takes(endpoint));
        }
        self.waiters.iter().position(|waiter| waiter.takes(endpoint))
    }
}

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: [Line; Class::COUNT],
    /// Those in line that have given up; swept when they are half of all, so that leaving costs little however long
    /// the lines are.
    gone: usize,
    turns: Turns,
    came: u64,
    shedding: Option<Settings>,
}

impl Lines {
    fn all(&self) -> usize {
        self.lines.iter().map(|line| line.waiters.len()).sum()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.all().saturating_sub(self.gone)
    }

    pub(super) fn state(&self) -> State {
        let waiting = |line: &Line| line.waiters.iter().filter(|waiter| !waiter.has_left()).count();
        State {
            waiting: self.lines.each_ref().map(waiting),
            stands: self.lines.each_ref().map(|line| line.shedder.stands() && !line.waiters.is_empty()),
        }
    }

    pub(super) fn set_shedding(&mut self, settings: Option<Settings>) {
        if self.shedding != settings {
            self.shedding = settings;
            self.lines.iter_mut().for_each(|line| line.shedder = Shedder::default());
        }
    }

    pub(super) const fn may_shed(&self) -> bool {
        self.shedding.is_some()
    }

    /// Sends away who waits in a line that stands and has waited for too long; how many have gone from the lines.
    pub(super) fn shed(&mut self, now: Duration) -> usize {
        let Some(settings) = self.shedding else { return 0 };
        let mut left = 0;
        for line in &mut self.lines {
            loop {
                let Some(first) = line.waiters.front() else {
                    line.shedder.empty(&settings, now);
                    break;
                };
                let waited = now.saturating_sub(first.at);
                let has_left = first.has_left();
                if !has_left {
                    line.shedder.observe(&settings, waited, now);
                    if !line.shedder.sheds(&settings, waited) {
                        break;
                    }
                }
                let Some(first) = line.waiters.pop_front() else { break };
                left += 1;
                if has_left || first.grant.send(Err(Away::Shed)).is_err() {
                    self.gone = self.gone.saturating_sub(1);
                }
            }
        }
        left
    }

    /// Sends the newest of the lowest class under this one away, if there is any.
    pub(super) fn displace(&mut self, by: Class) -> bool {
        for line in self.lines.iter_mut().skip(by.index() + 1).rev() {
            if let Some(place) = line.waiters.iter().rposition(|waiter| !waiter.has_left())
                && let Some(waiter) = line.waiters.remove(place)
            {
                // It cannot have left: leaving takes the lock.
                drop(waiter.grant.send(Err(Away::Displaced)));
                return true;
            }
        }
        false
    }

    /// Whether somebody of this class or a higher one is in front. One that has been everywhere free, or waits for one
    /// endpoint alone, does not keep others from a place it cannot use itself.
    pub(super) fn is_behind(&self, class: Class) -> bool {
        let front = self.lines.iter().take(class.index() + 1).flat_map(|line| &line.waiters);
        front.into_iter().any(|waiter| !waiter.has_left() && waiter.takes_any())
    }

    /// Whether the first in the line of this class has waited for longer than this.
    pub(super) fn waits_longer(&self, class: Class, than: Duration, now: Duration) -> bool {
        let line = &self.lines[class.index()];
        if self.shedding.is_some_and(|settings| settings.newest_first) && line.shedder.stands() {
            return false;
        }
        let first = line.waiters.iter().find(|waiter| !waiter.has_left());
        first.is_some_and(|first| now.saturating_sub(first.at) > than)
    }

    /// Puts one at the end of its line; for how long it may wait while that stands.
    pub(super) fn push(
        &mut self,
        wish: &Wish<'_>,
        now: Duration,
        grant: oneshot::Sender<Result<Grant, Away>>,
    ) -> Option<Duration> {
        self.came += 1;
        let (level, tried, only, came) = (wish.level, wish.tried.into(), wish.only, self.came);
        let line = &mut self.lines[wish.class.index()];
        line.waiters.push_back(Waiter { level, tried, only, came, at: now, grant });
        self.shedding.filter(|_| line.shedder.stands()).map(|settings| settings.patience())
    }

    /// Whose turn it is among those that can use the endpoint.
    pub(super) fn next(&self, endpoint: &EndpointLive) -> Option<Turn> {
        let newest_first = self.shedding.is_some_and(|settings| settings.newest_first);
        let places = self.lines.each_ref().map(|line| line.first(endpoint, newest_first));
        let came = Class::ALL.map(|class| {
            let index = class.index();
            self.lines[index].waiters.get(places[index]?).map(|waiter| waiter.came)
        });
        let class = self.turns.next(came)?;
        Some(Turn { class, place: places[class.index()]? })
    }

    /// Gives a place to the one whose turn it is; gives it back where that one has left.
    pub(super) fn grant(&mut self, turn: Turn, grant: Grant) -> Result<(), Grant> {
        let Some(waiter) = self.lines[turn.class.index()].waiters.remove(turn.place) else {
            return Err(grant);
        };
        match waiter.grant.send(Ok(grant)) {
            Ok(()) => {
                self.turns.taken();
                Ok(())
            }
            Err(unused) => {
                self.gone = self.gone.saturating_sub(1);
                unused.map_or(Ok(()), Err)
            }
        }
    }

    /// Sends those at these levels, or for this endpoint alone, away, and sweeps those that have left; how many have gone from the lines.
    pub(super) fn dismiss(&mut self, hopeless: impl Fn(Level, Option<u32>) -> bool) -> usize {
        let before = self.all();
        for line in &mut self.lines {
            line.waiters.retain(|waiter| !waiter.has_left() && !hopeless(waiter.level, waiter.only));
        }
        self.gone = 0;
        before - self.all()
    }

    /// Notes that one has left; how many have gone from the lines.
    pub(super) fn note_gone(&mut self) -> usize {
        self.gone += 1;
        if self.gone * 2 <= self.all() {
            return 0;
        }
        self.dismiss(|_, _| false)
    }

    /// How many are in line, with those that have left.
    #[cfg(all(test, not(plimsoll_loom)))]
    pub(super) fn length(&self) -> usize {
        self.all()
    }
}
