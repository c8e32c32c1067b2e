//! One coarse timer wheel per worker: thousands of deadlines, one of tokio's timers.
//!
//! A connection owns one [`Timer`]. Moving its deadline later only writes a field; the entry in the wheel, firing
//! early, puts itself where the deadline now is. So a request costs no timer operation at all in the common case.
//! The clock is tokio's, so that tests can pause it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::sessions::Cut;
use crate::policy::health::guard::is_void;

const TICK_MS: u64 = 16;
const SLOTS: usize = 4096;
const NEVER: u64 = u64::MAX;

/// The wheel of one worker.
#[derive(Debug)]
pub struct Timers {
    start: Instant,
    wheel: RefCell<Wheel>,
    earlier: Notify,
    /// Entries whose timers are gone but which still lie in the wheel: the next timers take them over, so that memory
    /// follows the connections that there are, not those that there have been.
    free: RefCell<Vec<Rc<Entry>>>,
}

#[derive(Debug)]
struct Wheel {
    slots: Box<[Vec<Rc<Entry>>]>,
    /// One bit per slot that is not empty.
    occupied: Box<[u64]>,
    /// The last tick that has been fired.
    position: u64,
    /// The tick until which the driver sleeps.
    asleep_until: u64,
}

#[derive(Debug)]
struct Entry {
    deadline_ms: Cell<u64>,
    /// The tick of the one slot that counts for this entry; what other slots hold of it is stale.
    tick: Cell<u64>,
    fired: Cell<bool>,
    /// Set where the connection is to end before its deadline.
    cut: Cell<Option<Cut>>,
    /// Where a registry of connections has this one.
    position: Cell<u32>,
    waker: RefCell<Option<Waker>>,
}

/// A hold on a connection from outside, by which it is told to end.
#[derive(Debug)]
pub struct Hold(Rc<Entry>);

impl Hold {
    /// Tells the connection to end; the first reason stands.
    pub fn set_cut(&self, why: Cut) {
        if self.0.cut.get().is_none() {
            self.0.cut.set(Some(why));
            if let Some(waker) = self.0.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Why it is to end, if it is.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        self.0.cut.get()
    }

    /// Where its registry has it.
    #[must_use]
    pub fn position(&self) -> usize {
        self.0.position.get() as usize
    }

    /// Notes where its registry has it.
    pub fn set_position(&self, position: usize) {
        self.0.position.set(u32::try_from(position).unwrap_or(u32::MAX));
    }
}

/// The deadline of one connection: one at a time, moved as the connection changes what it waits for.
#[derive(Debug)]
pub struct Timer {
    timers: Rc<Timers>,
    entry: Rc<Entry>,
}

/// A deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired;

impl Timers {
    /// An empty wheel; [`Timers::drive`] must run for deadlines to fire.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            start: Instant::now(),
            wheel: RefCell::new(Wheel {
                slots: (0..SLOTS).map(|_| Vec::new()).collect(),
                occupied: vec![0; SLOTS / 64].into(),
                position: 0,
                asleep_until: NEVER,
            }),
            earlier: Notify::new(),
            free: RefCell::default(),
        })
    }

    /// A timer without a deadline.
    #[must_use]
    pub fn timer(self: &Rc<Self>) -> Timer {
        if let Some(entry) = self.free.borrow_mut().pop() {
            return Timer { timers: Rc::clone(self), entry };
        }
        let entry = Entry {
            deadline_ms: Cell::new(NEVER),
            tick: Cell::new(NEVER),
            fired: Cell::new(false),
            cut: Cell::new(None),
            position: Cell::new(u32::MAX),
            waker: RefCell::new(None),
        };
        Timer { timers: Rc::clone(self), entry: Rc::new(entry) }
    }

    /// Fires deadlines for as long as it is polled.
    pub async fn drive(&self) {
        loop {
            let next = self.wheel.borrow_mut().sleep();
            if next == NEVER {
                self.earlier.notified().await;
            } else {
                let due = self.start + Duration::from_millis(next * TICK_MS);
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.earlier.notified() => {}
                }
            }
            let now_ms = self.ms(Instant::now());
            self.wheel.borrow_mut().advance(now_ms);
        }
    }

    /// Wakes every connection that has a deadline, so that it looks at what else has changed.
    pub fn wake_all(&self) {
        let wheel = self.wheel.borrow();
        for entry in wheel.slots.iter().flatten() {
            if let Some(waker) = entry.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(NEVER)
    }

    fn schedule(&self, entry: &Rc<Entry>) {
        let tick = entry.deadline_ms.get().div_ceil(TICK_MS);
        if tick >= entry.tick.get() {
            return;
        }
        let mut wheel = self.wheel.borrow_mut();
        wheel.insert(entry, tick);
        if entry.tick.get() < wheel.asleep_until {
            self.earlier.notify_one();
        }
    }
}

impl Wheel {
    fn insert(&mut self, entry: &Rc<Entry>, tick: u64) {
        // Beyond the horizon: the entry fires early and is put on again.
        let tick = tick.clamp(self.position + 1, self.position + SLOTS as u64 - 1);
        let slot = (tick % SLOTS as u64) as usize;
        entry.tick.set(tick);
        self.slots[slot].push(Rc::clone(entry));
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Notes and returns the tick of the first slot that is not empty.
    fn sleep(&mut self) -> u64 {
        self.asleep_until = (1..SLOTS as u64)
            .map(|ahead| self.position + ahead)
            .find(|tick| self.is_occupied((tick % SLOTS as u64) as usize))
            .unwrap_or(NEVER);
        self.asleep_until
    }

    fn is_occupied(&self, slot: usize) -> bool {
        self.occupied[slot / 64] & (1 << (slot % 64)) != 0
    }

    fn advance(&mut self, now_ms: u64) {
        let now = now_ms / TICK_MS;
        // After a long sleep every slot is looked at once, not once per missed turn.
        let from = self.position.max(now.saturating_sub(SLOTS as u64));
        for tick in from + 1..=now {
            self.position = tick;
            let slot = (tick % SLOTS as u64) as usize;
            if !self.is_occupied(slot) {
                continue;
            }
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            let mut entries = std::mem::take(&mut self.slots[slot]);
            for entry in entries.drain(..) {
                self.fire(&entry, tick, now_ms);
            }
            // The allocation is kept, unless a new entry has already started another.
            if self.slots[slot].is_empty() && entries.capacity() <= 64 {
                self.slots[slot] = entries;
            }
        }
        self.position = self.position.max(now);
    }

    fn fire(&mut self, entry: &Rc<Entry>, tick: u64, now_ms: u64) {
        if entry.tick.get() > tick {
            return;
        }
        entry.tick.set(NEVER);
        let deadline = entry.deadline_ms.get();
        if deadline == NEVER {
            return;
        }
        if deadline > now_ms {
            self.insert(entry, deadline.div_ceil(TICK_MS));
            return;
        }
        entry.fired.set(true);
        if let Some(waker) = entry.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Timer {
    /// Sets the deadline; whatever was set before does not count any more.
    pub fn set(&self, deadline: Instant) {
        // Rounded up, so that it never fires early.
        self.entry.deadline_ms.set(self.timers.ms(deadline).saturating_add(1));
        self.entry.fired.set(false);
        self.timers.schedule(&self.entry);
    }

    /// Sets the deadline `after` from now.
    pub fn set_after(&self, after: Duration) {
        self.set(Instant::now() + after);
    }

    /// Whether the deadline fired so late that what it measured is no evidence: the worker itself was held up.
    #[must_use]
    pub fn is_late(&self) -> bool {
        let deadline = self.entry.deadline_ms.get();
        let late = Duration::from_millis(self.timers.ms(Instant::now()).saturating_sub(deadline));
        self.entry.fired.get() && is_void(late)
    }

    /// Takes the deadline away.
    pub fn clear(&self) {
        self.entry.deadline_ms.set(NEVER);
        self.entry.fired.set(false);
    }

    /// A hold on this connection.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold(Rc::clone(&self.entry))
    }

    /// Why the connection is to end before its deadline, if it is.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        self.entry.cut.get()
    }

    /// Ready once the deadline has passed or the connection is cut; else the task is woken then.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<Expired> {
        if self.entry.fired.get() || self.entry.cut.get().is_some() {
            return Poll::Ready(Expired);
        }
        let mut waker = self.entry.waker.borrow_mut();
        match waker.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Runs `work` until it is done or the deadline passes.
    ///
    /// # Errors
    /// [`Expired`] when the deadline passes first.
    pub async fn within<F: Future>(&self, work: F) -> Result<F::Output, Expired> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            self.poll_expired(cx).map(Err)
        })
        .await
    }

    /// Waits for the deadline.
    pub async fn expired(&self) -> Expired {
        poll_fn(|cx| self.poll_expired(cx)).await
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.clear();
        self.entry.cut.set(None);
        // The task's memory must not wait for the wheel.
        self.entry.waker.borrow_mut().take();
        self.timers.free.borrow_mut().push(Rc::clone(&self.entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn with_wheel<F: Future>(test: impl FnOnce(Rc<Timers>) -> F) {
        let timers = Timers::new();
        tokio::select! {
            () = timers.drive() => {}
            _ = test(Rc::clone(&timers)) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_fires_never_early_and_at_most_a_tick_late() {
        with_wheel(|timers| async move {
            for ms in [1, 15, 16, 250, 10_000, 70_000, 3_600_000] {
                let timer = timers.timer();
                let start = Instant::now();
                timer.set_after(Duration::from_millis(ms));
                timer.expired().await;
                let took = start.elapsed().as_millis();
                assert!(
                    took >= u128::from(ms) && took <= u128::from(ms + 2 * TICK_MS + 1),
                    "{ms} ms took {took}"
                );
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moved_later_does_not_fire_at_the_first_place() {
        with_wheel(|timers| async move {
            let timer = timers.timer();
            let start = Instant::now();
            timer.set_after(Duration::from_secs(1));
            timer.set_after(Duration::from_secs(5));
            timer.expired().await;
            assert!(start.elapsed() >= Duration::from_secs(5));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moved_earlier_fires_at_the_earlier_place() {
        with_wheel(|timers| async move {
            let timer = timers.timer();
            let start = Instant::now();
            timer.set_after(Duration::from_secs(60));
            let waiting = pin!(timer.expired());
            tokio::select! {
                _ = waiting => panic!("too early"),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
            timer.set_after(Duration::from_secs(1));
            timer.expired().await;
            assert!(start.elapsed() < Duration::from_millis(2100), "{:?}", start.elapsed());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_cleared_or_dropped_timer_wakes_nobody() {
        with_wheel(|timers| async move {
            let timer = timers.timer();
            timer.set_after(Duration::from_secs(1));
            timer.clear();
            drop(timers.timer());
            let late = tokio::time::timeout(Duration::from_secs(3600), timer.expired()).await;
            assert!(late.is_err());
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_cut_off_at_the_deadline() {
        with_wheel(|timers| async move {
            let timer = timers.timer();
            timer.set_after(Duration::from_millis(100));
            assert_eq!(timer.within(std::future::pending::<()>()).await, Err(Expired));
            timer.set_after(Duration::from_millis(100));
            assert_eq!(timer.within(async { 7 }).await, Ok(7));
        })
        .await;
    }
}
