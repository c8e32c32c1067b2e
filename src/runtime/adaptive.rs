//! The ceiling of an endpoint that is found out by its answers, out of counters that workers write anyway: a request
//! pays nothing for it.

use std::time::Duration;

use super::endpoint::{EndpointLive, Work};
use super::sync::{AtomicU32, Mutex, Ordering, lock};
use crate::policy::admission::gradient::{Gradient, Settings, WINDOW, Window};

/// The ceiling and how it is found.
#[derive(Debug, Default)]
pub struct Adaptive {
    /// 0 is none yet.
    ceiling: AtomicU32,
    finding: Box<Mutex<Option<Finding>>>,
}

#[derive(Debug)]
struct Finding {
    settings: Settings,
    gradient: Gradient,
    /// What the counters said when the window began.
    before: Counts,
    since: Duration,
    busiest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    answers: u64,
    micros: u64,
    timeouts: u64,
}

impl Counts {
    fn of(live: &EndpointLive) -> Self {
        Self {
            answers: live.counters.sum(|c| &c.answers),
            micros: live.counters.sum(|c| &c.answer_micros),
            timeouts: live.counters.sum(|c| &c.failed_timeout),
        }
    }
}

impl Adaptive {
    /// How much may be in flight where `most` may at most.
    #[must_use]
    pub fn ceiling(&self, settings: &Settings, most: u32) -> u32 {
        match self.ceiling.load(Ordering::Relaxed) {
            0 => settings.min.min(most),
            found => found.min(most),
        }
    }

    /// The time to an answer without load, where it is known.
    #[must_use]
    pub fn baseline(&self) -> Option<Duration> {
        lock(&self.finding).as_ref().and_then(|finding| finding.gradient.baseline())
    }

    /// Looks at the counters of its endpoint, which may have `most` in flight. To be called a few times a second; whether
    /// the ceiling has risen.
    pub fn tick(&self, live: &EndpointLive, settings: &Settings, most: u32, now: Duration) -> bool {
        let mut held = lock(&self.finding);
        if held.as_ref().is_none_or(|finding| finding.settings != *settings) {
            *held = None;
        }
        let finding = held.get_or_insert_with(|| Finding {
            settings: *settings,
            gradient: Gradient::new(settings, now),
            before: Counts::of(live),
            since: now,
            busiest: 0,
        });
        finding.busiest = finding.busiest.max(live.in_flight_of(Work::Request));
        if now.saturating_sub(finding.since) >= WINDOW {
            let (counts, before) = (Counts::of(live), finding.before);
            let window = Window {
                answers: counts.answers.saturating_sub(before.answers),
                time: Duration::from_micros(counts.micros.saturating_sub(before.micros)),
                timeouts: counts.timeouts.saturating_sub(before.timeouts),
                busiest: finding.busiest,
            };
            // Endpoints have numbers of their own, and so measure at times of their own.
            let random = (f64::from(live.slot()) * 0.618_034).fract();
            if finding.gradient.observe(settings, most, &window, random, now) {
                let busiest = live.in_flight_of(Work::Request);
                (finding.before, finding.since, finding.busiest) = (counts, now, busiest);
            }
        }
        let ceiling = finding.gradient.ceiling(settings, most);
        self.ceiling.swap(ceiling, Ordering::Relaxed) < ceiling
    }
}
