//! Live connections that are to end because of what became of their endpoint: after a while, at a bounded rate.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use crate::config::health::Closing as Written;
use crate::model::units::Rate;
use crate::proxy::sessions::Cut;
use crate::runtime::endpoint::EndpointLive;

/// A closing goes on for so long although nothing is left, for connections that were on their way to the endpoint when
/// it began.
const LINGER: Duration = Duration::from_secs(5);

/// Tells workers to cut connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutOrder {
    /// The endpoint.
    pub slot: u32,
    /// How many at most; of one worker where there is a rate, of each where there is none.
    pub at_most: usize,
    /// The worker that is asked, counted on and on; nothing is all of them.
    pub turn: Option<usize>,
    /// The reason.
    pub why: Cut,
}

#[derive(Debug)]
struct Closing {
    live: Arc<EndpointLive>,
    begins: Duration,
    rate: Option<Rate>,
    ordered: u64,
}

/// All closings under way.
#[derive(Debug, Default)]
pub struct Closings {
    /// By slot: a reload can begin thousands at once.
    under_way: BTreeMap<(u32, Cut), Closing>,
    turn: usize,
}

impl Closings {
    /// Begins to close what leads to an endpoint, as the operator wrote it. One that is under way for the same reason
    /// goes on; where the two differ, the more urgent one counts.
    pub fn begin(&mut self, live: &Arc<EndpointLive>, written: Written, why: Cut, now: Duration) {
        let (begins, rate) = (now.saturating_add(written.after), written.rate);
        match self.under_way.entry((live.slot(), why)) {
            Entry::Occupied(mut known) => {
                let closing = known.get_mut();
                closing.begins = closing.begins.min(begins);
                closing.rate = closing.rate.filter(|_| rate.is_some());
            }
            Entry::Vacant(vacant) => {
                vacant.insert(Closing { live: Arc::clone(live), begins, rate, ordered: 0 });
            }
        }
    }

    /// Ends closings of an endpoint that has come back; what was cut stays cut.
    pub fn cancel(&mut self, slot: u32) {
        self.end(slot, |why| why != Cut::Drained);
    }

    /// Ends those of a drain that was taken back.
    pub fn cancel_drain(&mut self, slot: u32) {
        self.end(slot, |why| why == Cut::Drained);
    }

    fn end(&mut self, slot: u32, wanted: impl Fn(Cut) -> bool) {
        let from = self.under_way.range((slot, Cut::Demoted)..).map(|(key, _)| *key);
        let of = from.take_while(|(other, _)| *other == slot);
        let ended: Vec<_> = of.filter(|(_, why)| wanted(*why)).collect();
        for key in ended {
            self.under_way.remove(&key);
        }
    }

    /// Whether anything is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// What workers are to be told now.
    pub fn run(&mut self, now: Duration) -> Vec<CutOrder> {
        self.under_way.retain(|_, c| c.live.in_flight() > 0 || now < c.begins.saturating_add(LINGER));
        let mut orders = Vec::new();
        for (&(slot, why), closing) in self.under_way.iter_mut().filter(|(_, c)| c.begins <= now) {
            let Some(rate) = closing.rate else {
                orders.push(CutOrder { slot, at_most: usize::MAX, turn: None, why });
                continue;
            };
            let spacing = rate.spacing().as_nanos().max(1);
            let due = u64::try_from((now - closing.begins).as_nanos() / spacing).unwrap_or(u64::MAX);
            let fresh = due.saturating_sub(closing.ordered);
            if fresh > 0 {
                closing.ordered = due;
                self.turn = self.turn.wrapping_add(1);
                let at_most = usize::try_from(fresh).unwrap_or(usize::MAX);
                orders.push(CutOrder { slot, at_most, turn: Some(self.turn), why });
            }
        }
        orders
    }
}

/// How much of what leads to the others is moved to an endpoint that has returned: what they have above their part of
/// all, at a bounded rate, for no longer than it takes.
///
/// The problem: long-lived connections stay where they are, so a restarted API server is idle for hours. Why this
/// answer: clients whose connection ends come back, and then least_requests sends them to the newcomer; the bounded rate
/// makes that a trickle. When wrong: for clients to which a new connection is dear, which is why it must be asked for.
#[derive(Debug)]
pub struct Shedding {
    since: Duration,
    ordered: u64,
    turn: usize,
}

/// The next step of shedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// Tell workers this.
    Cut(CutOrder),
    /// Nothing for now.
    Wait,
    /// It is done.
    Over,
}

/// Nothing is shed any more so long after an endpoint returned.
const SHED_MAX: Duration = Duration::from_secs(600);

impl Shedding {
    /// Begins now.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { since: now, ordered: 0, turn: 0 }
    }

    /// What comes next, over the usable endpoints and their weights.
    pub fn run(&mut self, rate: Rate, usable: &[(Arc<EndpointLive>, u64)], now: Duration) -> Shed {
        let all: u64 = usable.iter().map(|(live, _)| u64::from(live.in_flight())).sum();
        let weights: u64 = usable.iter().map(|(_, weight)| weight).sum();
        let fair = |weight: u64| (all * weight).div_ceil(weights.max(1));
        let above = |(live, weight): &&(Arc<EndpointLive>, u64)| {
            u64::from(live.in_flight()).saturating_sub(fair(*weight))
        };
        let Some(most) = usable.iter().max_by_key(above) else { return Shed::Over };
        let excess = above(&most);
        if excess == 0 || now.saturating_sub(self.since) > SHED_MAX {
            return Shed::Over;
        }
        let due = (now - self.since).as_nanos() / rate.spacing().as_nanos().max(1);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let fresh = due.saturating_sub(self.ordered).min(excess);
        self.ordered = due;
        if fresh == 0 {
            return Shed::Wait;
        }
        self.turn = self.turn.wrapping_add(1);
        let at_most = usize::try_from(fresh).unwrap_or(usize::MAX);
        Shed::Cut(CutOrder { slot: most.0.slot(), at_most, turn: Some(self.turn), why: Cut::Shed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::endpoint::Slots;

    fn live() -> Arc<EndpointLive> {
        Arc::new(EndpointLive::new(&Arc::<Slots>::default(), 1))
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_closing_waits_for_its_time_and_ends_with_the_endpoints_return() {
        let (mut closings, live) = (Closings::default(), live());
        closings.begin(&live, Written { after: at(2), rate: None }, Cut::Unreachable, at(10));
        assert!(closings.run(at(11)).is_empty());
        let order = CutOrder { slot: live.slot(), at_most: usize::MAX, turn: None, why: Cut::Unreachable };
        assert_eq!(closings.run(at(12)), [order]);
        closings.cancel(live.slot());
        assert!(closings.is_empty() && closings.run(at(13)).is_empty());
    }

    #[test]
    fn what_must_be_closed_at_once_does_not_wait_for_a_patient_closing() {
        let (mut closings, live) = (Closings::default(), live());
        let rate = Rate::parse("10/s").expect("a rate");
        closings.begin(&live, Written { after: at(2), rate: Some(rate) }, Cut::Demoted, at(10));
        closings.begin(&live, Written { after: at(0), rate: None }, Cut::Demoted, at(11));
        let order = CutOrder { slot: live.slot(), at_most: usize::MAX, turn: None, why: Cut::Demoted };
        assert_eq!(closings.run(at(11)), [order]);
        closings.begin(&live, Written { after: at(2), rate: Some(rate) }, Cut::Demoted, at(12));
        assert_eq!(closings.run(at(12)), [order], "patience comes too late");
    }

    #[test]
    fn a_superseded_leader_is_closed_at_once_although_it_had_been_given_time() {
        let (mut closings, live) = (Closings::default(), live());
        let rate = Rate::parse("1/s").expect("a rate");
        let order = CutOrder { slot: live.slot(), at_most: usize::MAX, turn: None, why: Cut::Demoted };
        for written in [Written { after: at(60), rate: None }, Written { after: at(0), rate: Some(rate) }] {
            closings.begin(&live, written, Cut::Demoted, at(10));
            assert!(closings.run(at(10)).is_empty());
            closings.begin(&live, Written { after: at(0), rate: None }, Cut::Demoted, at(11));
            assert_eq!(closings.run(at(11)), [order]);
            closings.cancel(live.slot());
        }
    }

    #[test]
    fn a_rate_is_kept_whatever_the_tick() {
        let (mut closings, live) = (Closings::default(), live());
        let rate = Rate::parse("10/s").expect("a rate");
        closings.begin(&live, Written { after: at(0), rate: Some(rate) }, Cut::Demoted, at(0));
        let ordered: usize = (0..=40)
            .flat_map(|tick| closings.run(Duration::from_millis(tick * 100)))
            .map(|order| order.at_most)
            .sum();
        assert_eq!(ordered, 40);
    }
}
