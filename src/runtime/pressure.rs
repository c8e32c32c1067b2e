//! How hard-pressed the process is: what control has found, for workers to read, and how late workers are, for control.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::counters::WorkerId;
use crate::policy::admission::overload::{Importance, Stage, State};

/// Read by every worker for every request, written when it changes; how late workers are lies elsewhere.
#[derive(Debug)]
pub struct Pressure {
    found: Found,
    late: Box<[Late]>,
}

/// The stage, and [`SAVES`] where what lies idle is given up.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Found(AtomicU8);

/// The latest that a worker was since control has last asked, in microseconds.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Late(AtomicU64);

const SAVES: u8 = 0x80;

impl Pressure {
    /// That of a process that is well.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { found: Found::default(), late: (0..workers).map(|_| Late::default()).collect() }
    }

    /// Notes what is given up from now on.
    pub fn set(&self, state: State) {
        let saves = if state.saves { SAVES } else { 0 };
        self.found.0.store(state.stage as u8 | saves, Ordering::Relaxed);
    }

    /// How hard-pressed the process is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let stage = self.found.0.load(Ordering::Relaxed) & !SAVES;
        Stage::ALL.get(usize::from(stage)).copied().unwrap_or_default()
    }

    /// Whether new work of a listener is turned away.
    #[inline]
    #[must_use]
    pub fn sheds(&self, importance: Importance) -> bool {
        self.found.0.load(Ordering::Relaxed) != 0 && self.stage().sheds(importance)
    }

    /// Whether connections of a listener are not kept while they are idle.
    #[inline]
    #[must_use]
    pub fn saves(&self, importance: Importance) -> bool {
        self.found.0.load(Ordering::Relaxed) & SAVES != 0 && importance != Importance::Critical
    }

    /// Notes how late a timer of this worker was.
    pub fn late(&self, worker: WorkerId, by: Duration) {
        if let Some(late) = self.late.get(worker.0) {
            late.0.fetch_max(u64::try_from(by.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// How late the latest worker was since the last time that this was asked.
    pub fn take_lag(&self) -> Duration {
        let latest = self.late.iter().map(|late| late.0.swap(0, Ordering::Relaxed)).max();
        Duration::from_micros(latest.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_control_finds_is_what_workers_read() {
        let pressure = Pressure::new(2);
        assert!(!pressure.sheds(Importance::Sheddable) && !pressure.saves(Importance::Sheddable));
        pressure.set(State { stage: Stage::Severe, saves: true, because: None });
        assert_eq!(pressure.stage(), Stage::Severe);
        assert!(pressure.sheds(Importance::Default) && !pressure.sheds(Importance::Critical));
        assert!(pressure.saves(Importance::Default) && !pressure.saves(Importance::Critical));
        pressure.set(State { stage: Stage::Shedding, saves: false, because: None });
        assert!(pressure.sheds(Importance::Sheddable) && !pressure.saves(Importance::Sheddable));
    }

    #[test]
    fn the_latest_worker_counts_once() {
        let pressure = Pressure::new(2);
        pressure.late(WorkerId(0), Duration::from_millis(3));
        pressure.late(WorkerId(1), Duration::from_millis(7));
        pressure.late(WorkerId(1), Duration::from_millis(5));
        assert_eq!(pressure.take_lag(), Duration::from_millis(7));
        assert_eq!(pressure.take_lag(), Duration::ZERO);
    }
}
