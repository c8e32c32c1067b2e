//! What has changed, and why: a bounded ring of events with their evidence, which the admin API lists and streams and
//! the sinks of `notify` follow.
//!
//! The ring is the only store: a reader keeps the number of the last event that it has seen, so a slow one costs
//! nothing and holds nobody up. What left the ring before it came is told to it as a number.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::model::name::{EndpointName, PoolName};

/// Events that are kept; older ones make room.
pub const EVENTS_KEPT: usize = 1000;

/// Lines of evidence that an event keeps, the newest of those it is given.
pub const EVIDENCE_MAX: usize = 16;

/// Bytes that a text of an event or of its evidence keeps.
pub const TEXT_MAX: usize = 512;

/// Bytes of an answer that a line of evidence keeps.
pub const ANSWER_MAX: usize = 256;

/// Phases that a line of evidence keeps.
pub const PHASES_MAX: usize = 8;

/// What an event is about; `events` of a `[[notify]]` lists these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The state of an endpoint: probe, ejection, admin state, flap damping.
    Endpoint,
    /// Which tier of a pool serves.
    Tier,
    /// Whether a pool is usable, fails over or fails open.
    Pool,
    /// A breaker of an endpoint or a pool.
    Breaker,
    /// Who leads an exclusive pool.
    Leader,
    /// A reload, carried out or refused.
    Reload,
    /// The process: started, draining.
    Process,
    /// Something that a human must look at, such as two leaders, or our own lag.
    Alarm,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Endpoint,
        Self::Tier,
        Self::Pool,
        Self::Breaker,
        Self::Leader,
        Self::Reload,
        Self::Process,
        Self::Alarm,
    ];

    /// Its word in configuration, metrics, the log and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Tier => "tier",
            Self::Pool => "pool",
            Self::Breaker => "breaker",
            Self::Leader => "leader",
            Self::Reload => "reload",
            Self::Process => "process",
            Self::Alarm => "alarm",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// One result that led to an event: a probe's, or an attempt's of live traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// When it was there.
    pub at: SystemTime,
    /// What it came to, such as `says no` or `cannot be asked`, or the kind of a failure.
    pub result: Cow<'static, str>,
    /// In words: the status, the error as the system told it.
    pub text: String,
    /// How long it took as a whole.
    pub took: Duration,
    /// How long each phase took that was reached, in order; the last one is where a failure happened.
    pub phases: Vec<(&'static str, Duration)>,
    /// The start of the answer, as received.
    pub answer: Vec<u8>,
}

/// What changed, before it is an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub kind: Kind,
    /// The pool, where it is about one.
    pub pool: Option<PoolName>,
    /// The endpoint, where it is about one.
    pub endpoint: Option<EndpointName>,
    /// The state before; empty where there was none.
    pub from: Cow<'static, str>,
    /// The state now.
    pub to: Cow<'static, str>,
    /// Why, in words.
    pub because: String,
    /// The last results, oldest first.
    pub evidence: Vec<Evidence>,
    /// Flap damping holds the endpoint down until then.
    pub suppressed_until: Option<SystemTime>,
}

impl Change {
    /// A change of `kind` to the state `to`, and why.
    #[must_use]
    pub fn new(kind: Kind, to: impl Into<Cow<'static, str>>, because: impl Into<String>) -> Self {
        Self {
            kind,
            pool: None,
            endpoint: None,
            from: Cow::Borrowed(""),
            to: to.into(),
            because: because.into(),
            evidence: Vec::new(),
            suppressed_until: None,
        }
    }

    /// The pool that it is about.
    #[must_use]
    pub fn pool(self, pool: &PoolName) -> Self {
        Self { pool: Some(pool.clone()), ..self }
    }

    /// The endpoint that it is about.
    #[must_use]
    pub fn endpoint(self, pool: &PoolName, endpoint: &EndpointName) -> Self {
        Self { pool: Some(pool.clone()), endpoint: Some(endpoint.clone()), ..self }
    }

    /// The state before.
    #[must_use]
    pub fn from(self, state: impl Into<Cow<'static, str>>) -> Self {
        Self { from: state.into(), ..self }
    }

    /// What led to it, oldest first.
    #[must_use]
    pub fn evidence(self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        Self { evidence: evidence.into_iter().collect(), ..self }
    }

    /// How long flap damping holds the endpoint down.
    #[must_use]
    pub fn suppressed_until(self, until: SystemTime) -> Self {
        Self { suppressed_until: Some(until), ..self }
    }

    /// Cuts what is longer than an event may be: texts come from peers too.
    fn bound(&mut self) {
        cut_word(&mut self.from);
        cut_word(&mut self.to);
        cut(&mut self.because, TEXT_MAX);
        let surplus = self.evidence.len().saturating_sub(EVIDENCE_MAX);
        self.evidence.drain(..surplus);
        for line in &mut self.evidence {
            cut_word(&mut line.result);
            cut(&mut line.text, TEXT_MAX);
            line.phases.truncate(PHASES_MAX);
            line.answer.truncate(ANSWER_MAX);
            line.answer.shrink_to_fit();
        }
    }
}

fn cut_word(word: &mut Cow<'static, str>) {
    if word.len() > TEXT_MAX {
        cut(word.to_mut(), TEXT_MAX);
    }
}

fn cut(text: &mut String, most: usize) {
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.truncate(end);
    text.shrink_to_fit();
}

/// A change with its place in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number: 1 is the first since the process started, and none is left out.
    pub id: u64,
    /// When it was noted.
    pub at: SystemTime,
    /// What changed.
    pub change: Change,
}

/// The events of this process. Shared by `Arc`; its lock is held for the length of a push or of a copy of pointers.
#[derive(Debug)]
pub struct Journal {
    ring: Mutex<Ring>,
    /// Tells who follows that there is more: the number of the newest event.
    wake: watch::Sender<u64>,
    counts: [AtomicU64; Kind::ALL.len()],
}

#[derive(Debug, Default)]
struct Ring {
    /// Events noted so far, which is the number of the newest.
    newest: u64,
    events: VecDeque<Arc<Event>>,
}

/// Events after a number, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Events that came in between and are not kept any more.
    pub missed: u64,
    /// The events.
    pub events: Vec<Arc<Event>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { ring: Mutex::default(), wake: watch::Sender::new(0), counts: Default::default() }
    }
}

impl Journal {
    /// Notes a change: in the ring, in the log and in the metrics. Wakes who follows.
    pub fn append(&self, mut change: Change) -> Arc<Event> {
        change.bound();
        self.counts[change.kind as usize].fetch_add(1, Ordering::Relaxed);
        let event = {
            let mut ring = self.ring();
            ring.newest += 1;
            let event = Arc::new(Event { id: ring.newest, at: SystemTime::now(), change });
            if ring.events.len() == EVENTS_KEPT {
                ring.events.pop_front();
            }
            ring.events.push_back(Arc::clone(&event));
            // Under the lock, so that numbers never go back.
            self.wake.send_replace(event.id);
            event
        };
        log(&event);
        event
    }

    /// Events with numbers above `id`. A number that was not given out yet is from an earlier process: then all.
    #[must_use]
    pub fn after(&self, id: u64) -> Page {
        self.some_after(id, EVENTS_KEPT)
    }

    fn some_after(&self, id: u64, most: usize) -> Page {
        let ring = self.ring();
        let id = if id > ring.newest { 0 } else { id };
        let gone = ring.newest - ring.events.len() as u64;
        let missed = gone.saturating_sub(id);
        // At most EVENTS_KEPT, which fits.
        let skip = usize::try_from(id.saturating_sub(gone)).unwrap_or(usize::MAX);
        Page { missed, events: ring.events.iter().skip(skip).take(most).cloned().collect() }
    }

    /// Events of a kind since the process started.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// Follows the events with numbers above `id`, under the rule of [`Journal::after`].
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, id: u64) -> Subscription {
        let wake = self.wake.subscribe();
        let seen = if id > self.newest() { 0 } else { id };
        Subscription { journal: Arc::clone(self), wake, seen }
    }

    /// The number of the newest event; 0 before the first.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.ring().newest
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic cannot come between the steps of a push.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one who follows learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The next event.
    Event(Arc<Event>),
    /// So many events left the ring before they were read.
    Missed {
        /// How many.
        count: u64,
        /// The number of the last of them.
        until: u64,
    },
}

/// One who follows the journal. Holds no events, so it may be as slow as it likes.
#[derive(Debug)]
pub struct Subscription {
    journal: Arc<Journal>,
    wake: watch::Receiver<u64>,
    seen: u64,
}

impl Subscription {
    /// What comes next, once it is there. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> News {
        loop {
            self.wake.mark_unchanged();
            if let Some(news) = self.ready() {
                return news;
            }
            if self.wake.changed().await.is_err() {
                // The journal, which holds the sender, is alive as long as this is.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What comes next, if it is there already.
    pub fn ready(&mut self) -> Option<News> {
        let page = self.journal.some_after(self.seen, 1);
        if page.missed > 0 {
            self.seen += page.missed;
            return Some(News::Missed { count: page.missed, until: self.seen });
        }
        let event = page.events.into_iter().next()?;
        self.seen = event.id;
        Some(News::Event(event))
    }
}

fn log(event: &Event) {
    let Change { kind, pool, endpoint, from, to, because, evidence, suppressed_until } = &event.change;
    // A field without a value is left out of the line.
    let pool = pool.as_ref().map(PoolName::as_str);
    let endpoint = endpoint.as_ref().map(EndpointName::as_str);
    let from = Some(from.as_ref()).filter(|from| !from.is_empty());
    let evidence: Vec<_> = evidence.iter().map(ToString::to_string).collect();
    let evidence = (!evidence.is_empty()).then(|| evidence.join("; "));
    let suppressed_for = suppressed_until.and_then(|until| until.duration_since(event.at).ok());
    let suppressed_for = suppressed_for.map(tracing::field::debug);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(id = event.id, %kind, pool, endpoint, from, %to, because, evidence, suppressed_for, "event")
        };
    }
    // An alarm is what a human must act on; the rest are states that change.
    if *kind == Kind::Alarm { line!(error) } else { line!(info) }
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} after {:?}", self.result, self.took)?;
        if !self.text.is_empty() {
            write!(out, ": {}", self.text)?;
        }
        for (phase, took) in &self.phases {
            write!(out, ", {phase} {took:?}")?;
        }
        if !self.answer.is_empty() {
            write!(out, ", answer \"{}\"", self.answer.escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: usize) -> Change {
        Change::new(Kind::Endpoint, "down", format!("reason {number}"))
    }

    fn ids(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn numbers_start_at_one_and_after_leaves_out_what_was_seen() {
        let journal = Journal::default();
        assert_eq!(journal.after(0), Page::default());
        for number in 0..3 {
            journal.append(change(number));
        }
        assert_eq!(ids(&journal.after(0)), [1, 2, 3]);
        assert_eq!(ids(&journal.after(2)), [3]);
        assert!(ids(&journal.after(3)).is_empty());
        assert_eq!(ids(&journal.after(4)), [1, 2, 3], "a number of an earlier process");
        assert_eq!((journal.count(Kind::Endpoint), journal.count(Kind::Alarm)), (3, 0));
    }

    #[test]
    fn the_ring_keeps_the_newest_and_counts_what_a_reader_missed() {
        let journal = Journal::default();
        for number in 0..EVENTS_KEPT + 7 {
            journal.append(change(number));
        }
        let page = journal.after(3);
        assert_eq!((page.missed, page.events.len()), (4, EVENTS_KEPT));
        assert_eq!(page.events[0].id, 8);
        assert_eq!(journal.after(7).missed, 0);
    }

    #[tokio::test]
    async fn who_follows_sees_each_event_once_and_learns_of_a_gap() {
        let journal = Arc::new(Journal::default());
        journal.append(change(0));
        let mut slow = journal.subscribe(0);
        let mut later = journal.subscribe(journal.newest());
        assert_eq!(later.ready(), None);
        for number in 0..EVENTS_KEPT + 1 {
            journal.append(change(number));
        }
        assert_eq!(slow.next().await, News::Missed { count: 2, until: 2 });
        let News::Event(event) = slow.next().await else { panic!("an event") };
        assert_eq!(event.id, 3);
        assert_eq!(later.next().await, News::Missed { count: 1, until: 2 });
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_next_event() {
        let journal = Arc::new(Journal::default());
        let mut follower = journal.subscribe(0);
        let waiting = tokio::spawn(async move { follower.next().await });
        tokio::task::yield_now().await;
        let event = journal.append(change(0));
        assert_eq!(waiting.await.ok(), Some(News::Event(event)));
    }

    #[test]
    fn an_event_is_cut_to_its_bounds_at_whole_characters() {
        let line = Evidence {
            at: SystemTime::UNIX_EPOCH,
            result: "says no".into(),
            text: "ä".repeat(TEXT_MAX),
            took: Duration::from_millis(3),
            phases: vec![("connect", Duration::ZERO); PHASES_MAX + 1],
            answer: vec![b'x'; ANSWER_MAX * 2],
        };
        let lines =
            (0..=EVIDENCE_MAX).map(|n| Evidence { took: Duration::from_secs(n as u64), ..line.clone() });
        let event = Journal::default()
            .append(Change::new(Kind::Pool, "x".repeat(600), "é".repeat(600)).evidence(lines));
        let change = &event.change;
        assert_eq!((change.to.len(), change.because.len()), (TEXT_MAX, TEXT_MAX));
        assert_eq!((change.evidence.len(), change.evidence[0].took), (EVIDENCE_MAX, Duration::from_secs(1)));
        let kept = &change.evidence[0];
        assert_eq!(
            (kept.text.len(), kept.phases.len(), kept.answer.len()),
            (TEXT_MAX, PHASES_MAX, ANSWER_MAX)
        );
    }

    #[test]
    fn evidence_in_the_log_escapes_what_a_peer_sent() {
        let line = Evidence {
            at: SystemTime::UNIX_EPOCH,
            result: "says no".into(),
            text: "status 503".to_owned(),
            took: Duration::from_millis(3),
            phases: vec![("connect", Duration::from_millis(1))],
            answer: b"no\n\x1b[0m".to_vec(),
        };
        assert_eq!(line.to_string(), r#"says no after 3ms: status 503, connect 1ms, answer "no\n\x1b[0m""#);
    }
}
