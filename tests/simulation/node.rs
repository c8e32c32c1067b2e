//! The machines behind the endpoints: what they do to traffic and to probes, from moment to moment, and how long that
//! has been so.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use plimsoll::policy::health::Verdict;
use plimsoll::policy::retry::Failure;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a machine that is there needs to take or to refuse a connection.
const CONNECT: Duration = Duration::from_millis(1);

/// What a machine does with something that comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers.
    Answer,
    /// Answers that it does not want traffic; traffic that comes all the same is served.
    SayNo,
    /// Refuses connections, and resets those that it has.
    Refuse,
    /// Swallows everything, as a machine whose network is gone.
    Swallow,
}

/// What a machine is like just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nature {
    /// In a word.
    pub(crate) word: &'static str,
    /// To traffic.
    pub(crate) traffic: Does,
    /// To probes.
    pub(crate) probe: Does,
    /// Time to an answer of traffic; those of probes stay below [`crate::scenario::PROBE_ANSWER_MS`].
    pub(crate) after: Duration,
    /// Of a hundred requests, so many are reset.
    pub(crate) resets: u8,
    /// Of a hundred requests, so many are answered 503.
    pub(crate) errors: u8,
}

impl Nature {
    /// As it should be.
    pub(crate) const WELL: Self = Self {
        word: "well",
        traffic: Does::Answer,
        probe: Does::Answer,
        after: Duration::from_millis(40),
        resets: 0,
        errors: 0,
    };

    /// All that a machine can be like.
    pub(crate) const ALL: [Self; 10] = [
        Self::WELL,
        Self { word: "slow", after: Duration::from_millis(900), ..Self::WELL },
        Self { word: "stuck", after: Duration::from_secs(9), ..Self::WELL },
        Self::GONE,
        Self { word: "silent", traffic: Does::Swallow, probe: Does::Swallow, ..Self::WELL },
        Self { word: "says no", probe: Does::SayNo, ..Self::WELL },
        Self { word: "probes cut off", probe: Does::Swallow, ..Self::WELL },
        Self { word: "traffic cut off", traffic: Does::Swallow, ..Self::WELL },
        Self { word: "resetting", resets: 60, ..Self::WELL },
        Self { word: "erring", errors: 60, ..Self::WELL },
    ];

    /// Not running.
    pub(crate) const GONE: Self =
        Self { word: "refusing", traffic: Does::Refuse, probe: Does::Refuse, ..Self::WELL };

    /// Whether no request to it can fail within `limit`.
    pub(crate) fn serves(&self, limit: Duration) -> bool {
        matches!(self.traffic, Does::Answer | Does::SayNo)
            && self.resets == 0
            && self.errors == 0
            && self.after < limit
    }
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its number, which is in the name of its endpoint.
    pub(crate) number: usize,
    nature: Cell<Nature>,
    /// What it says of leading an exclusive pool, with its rank.
    claims: Cell<Option<i64>>,
    /// When what probes see of it last turned to good or to bad.
    verdict_since: Cell<Duration>,
    /// Since when it says no and nothing else, having been good before.
    says_no: Cell<Option<Duration>>,
    /// When it last began to be otherwise than swallowing probes.
    swallowed: Cell<Option<Duration>>,
    /// When it last began to be otherwise than failing requests.
    failed: Cell<Option<Duration>>,
    start: Instant,
    rng: RefCell<Rng>,
}

impl Node {
    /// A machine that is well.
    pub(crate) fn new(number: usize, exclusive: bool, start: Instant, rng: &mut Rng) -> Rc<Self> {
        Rc::new(Self {
            number,
            nature: Cell::new(Nature::WELL),
            claims: Cell::new((!exclusive).then_some(0)),
            verdict_since: Cell::new(Duration::ZERO),
            says_no: Cell::new(None),
            swallowed: Cell::new(None),
            failed: Cell::new(None),
            start,
            rng: RefCell::new(rng.fork()),
        })
    }

    /// What it is like.
    pub(crate) fn nature(&self) -> Nature {
        self.nature.get()
    }

    /// Its rank, where it claims to lead; those of pools with many endpoints all do.
    pub(crate) fn claims(&self) -> Option<i64> {
        self.claims.get()
    }

    /// What a probe would come to.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.nature().probe {
            Does::Answer if self.claims().is_some() => Verdict::Good,
            Does::Answer | Does::SayNo => Verdict::SaysNo,
            Does::Refuse | Does::Swallow => Verdict::CannotBeAsked,
        }
    }

    /// It becomes something else.
    pub(crate) fn become_like(&self, nature: Nature) {
        self.change(|| self.nature.set(nature));
    }

    /// It claims to lead from now on, or does not.
    pub(crate) fn claim(&self, rank: Option<i64>) {
        self.change(|| self.claims.set(rank));
    }

    fn change(&self, change: impl FnOnce()) {
        let now = self.start.elapsed();
        let good = self.verdict() == Verdict::Good;
        self.note(now);
        change();
        self.note(now);
        if good != (self.verdict() == Verdict::Good) {
            self.verdict_since.set(now);
        }
        if self.verdict() != Verdict::SaysNo {
            self.says_no.set(None);
        } else if good {
            self.says_no.set(Some(now));
        }
    }

    /// Since when it says no and nothing else, having been good before.
    pub(crate) fn says_no_since(&self) -> Option<Duration> {
        self.says_no.get()
    }

    /// When what probes see of it last turned to good or to bad.
    pub(crate) fn verdict_since(&self) -> Duration {
        self.verdict_since.get()
    }

    /// When probes to it last got no answer at all.
    pub(crate) fn swallowed_at(&self) -> Option<Duration> {
        self.note(self.start.elapsed());
        self.swallowed.get()
    }

    /// When requests to it could last fail.
    pub(crate) fn failed_at(&self) -> Option<Duration> {
        self.note(self.start.elapsed());
        self.failed.get()
    }

    fn note(&self, now: Duration) {
        if self.nature().probe == Does::Swallow {
            self.swallowed.set(Some(now));
        }
        if !self.nature().serves(crate::scenario::RESPONSE_HEADER) {
            self.failed.set(Some(now));
        }
    }

    /// Makes a connection for traffic.
    pub(crate) async fn connect(&self, limit: Duration) -> Result<(), Failure> {
        match self.nature().traffic {
            Does::Swallow => sleep(limit).await,
            _ => sleep(CONNECT.min(limit)).await,
        }
        match self.nature().traffic {
            Does::Answer | Does::SayNo => Ok(()),
            Does::Refuse | Does::Swallow => Err(Failure::Connect),
        }
    }

    /// Answers a request on a connection that was made before.
    pub(crate) async fn answer(&self, limit: Duration) -> Result<u16, Failure> {
        let deadline = Instant::now() + limit;
        let nature = self.nature();
        match nature.traffic {
            Does::Refuse => return Err(Failure::Reset),
            Does::Swallow => {
                sleep_until(deadline).await;
                return Err(Failure::Timeout);
            }
            Does::Answer | Does::SayNo => sleep(nature.after.min(limit)).await,
        }
        if nature.after >= limit {
            return Err(Failure::Timeout);
        }
        match self.nature().traffic {
            Does::Refuse => Err(Failure::Reset),
            Does::Swallow => {
                sleep_until(deadline).await;
                Err(Failure::Timeout)
            }
            Does::Answer | Does::SayNo => {
                let lot = self.rng.borrow_mut().u8(..100);
                if lot < nature.resets {
                    return Err(Failure::Reset);
                }
                Ok(if lot < nature.resets + nature.errors { 503 } else { 200 })
            }
        }
    }

    /// Answers a probe: as it was when it was asked, unless it breaks meanwhile.
    pub(crate) async fn probed(&self, limit: Duration) -> Verdict {
        let deadline = Instant::now() + limit;
        let takes = self.rng.borrow_mut().u64(1..crate::scenario::PROBE_ANSWER_MS);
        let said = self.verdict();
        match self.nature().probe {
            Does::Swallow => sleep_until(deadline).await,
            Does::Refuse => sleep(CONNECT).await,
            Does::Answer | Does::SayNo => sleep(Duration::from_millis(takes)).await,
        }
        match self.nature().probe {
            _ if said == Verdict::CannotBeAsked => {}
            Does::Answer | Does::SayNo => return said,
            Does::Refuse => {}
            Does::Swallow => sleep_until(deadline).await,
        }
        Verdict::CannotBeAsked
    }
}
