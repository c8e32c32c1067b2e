//! Which names are asked of DNS, when, and what their answers add up to: the last good one stays until a better one comes.
//! Pure: who asks, and what the time is, comes from `dns`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state_dir::findings::Answered;
use crate::model::address::{DnsName, EndpointAddress};

/// Addresses of one name; what is beyond is counted and left out.
pub const ADDRESSES_MAX: usize = 1000;

/// Names that are asked at the same time.
pub(super) const ASKING_MAX: usize = 32;

/// An answer is good for at least so long, whatever it says of itself; nothing is asked more often.
const TTL_MIN: Duration = Duration::from_secs(1);

/// An answer is asked again after so long, however long it says that it is good.
const TTL_MAX: Duration = Duration::from_secs(60);

/// The first wait after a failure; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest wait after failures.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A question whose answer is not in by then was lost: far above any time-out of one.
const LOST: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Query {
    /// The addresses of a host: A and AAAA.
    Host(DnsName),
    /// The targets of a service, SRV, and their addresses.
    Service(DnsName),
}

impl Query {
    /// What must be asked for an endpoint; nothing where it is an address.
    #[must_use]
    pub fn of(address: &EndpointAddress) -> Option<Self> {
        match address {
            EndpointAddress::Ip(_) | EndpointAddress::Unix(_) => None,
            EndpointAddress::Host { name, .. } => Some(Self::Host(name.clone())),
            EndpointAddress::Service(name) => Some(Self::Service(name.clone())),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(out, "{name}"),
            Self::Service(name) => write!(out, "srv:{name}"),
        }
    }
}

/// One address of an answer, in the order in which clients are to try them (RFC 2782).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Of an SRV record: the lowest is tried first.
    pub priority: u16,
    /// Where it is.
    pub ip: IpAddr,
    /// The port of an SRV record; of a host nothing is said.
    pub port: Option<u16>,
    /// Of an SRV record: its share among those of its priority.
    pub weight: u16,
}

/// Whose addresses a part of an answer has: those of one host, of one family.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The host.
    pub host: Arc<str>,
    /// Its AAAA records, not its A records.
    pub v6: bool,
}

/// What is asked beside other things, and may fail alone.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) source: Source,
    /// None may be found; an error is what was not learned.
    pub(super) found: Result<Vec<Found>, String>,
}

/// What came of asking.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) parts: Vec<Part>,
    /// How long the shortest-lived of its records is good.
    pub(super) ttl: Duration,
}

/// The addresses of every name that has any.
pub type Answers = HashMap<Query, Arc<[Found]>>;

/// What a name has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameState {
    /// Addresses in use, with what each came from.
    pub known: Arc<[(Found, Source)]>,
    /// When they were answered; nothing until the first answer.
    pub answered: Option<Instant>,
    /// Why there is no fresher answer; nothing while there is one.
    pub fault: Option<Arc<str>>,
    /// Times it was asked.
    pub asked: u64,
    /// Times that brought no answer.
    pub failed: u64,
    /// Addresses that were left out since there were too many.
    pub left_out: u64,
}

/// Every name that is asked for.
#[derive(Debug, Default)]
pub(super) struct Names {
    entries: BTreeMap<Query, Entry>,
}

#[derive(Debug)]
struct Entry {
    state: NameState,
    /// When it is to be asked.
    next: Instant,
    /// When it was last asked, and whether the answer is still to come.
    asked_at: Option<Instant>,
    asking: bool,
    /// Failures since the last good answer.
    failures: u32,
}

impl Names {
    /// Asks for these from now on, and no more for others.
    pub(super) fn follow(&mut self, queries: &BTreeSet<Query>, now: Instant) {
        self.entries.retain(|query, _| queries.contains(query));
        for query in queries {
            self.entries.entry(query.clone()).or_insert_with(|| Entry {
                state: NameState {
                    known: Arc::default(),
                    answered: None,
                    fault: None,
                    asked: 0,
                    failed: 0,
                    left_out: 0,
                },
                next: now,
                asked_at: None,
                asking: false,
                failures: 0,
            });
        }
    }

    /// Takes over an answer from before this process, where the name has none of its own. It is asked again at once.
    pub(super) fn recall(&mut self, query: &Query, known: Answered, answered: Instant) {
        if let Some(entry) = self.entries.get_mut(query).filter(|entry| entry.state.answered.is_none()) {
            entry.state.known = known;
            entry.state.answered = Some(answered);
        }
    }

    /// What is to be asked now; it is taken to be asked.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Query> {
        let asking = self.entries.values().filter(|entry| entry.is_asked(now)).count();
        let mut due: Vec<(Instant, Query)> = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.is_asked(now) && entry.next <= now)
            .map(|(query, entry)| (entry.next, query.clone()))
            .collect();
        // Whoever waits longest comes first, so that none is forgotten while many fail.
        due.sort();
        due.truncate(ASKING_MAX.saturating_sub(asking));
        for (_, query) in &due {
            if let Some(entry) = self.entries.get_mut(query) {
                entry.asking = true;
                entry.asked_at = Some(now);
                entry.state.asked += 1;
            }
        }
        due.into_iter().map(|(_, query)| query).collect()
    }

    /// When the next one is to be asked; while as many as may be are asked, an answer comes first.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if self.entries.values().filter(|entry| entry.is_asked(now)).count() >= ASKING_MAX {
            return None;
        }
        self.entries.values().filter(|entry| !entry.is_asked(now)).map(|entry| entry.next).min()
    }

    /// Takes in what came of asking; whether other addresses are in use now.
    pub(super) fn learn(&mut self, query: &Query, answer: Result<Answer, String>, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(query) else { return false };
        entry.asking = false;
        let merged = match answer {
            Ok(answer) => entry.merge(answer),
            Err(fault) => Err(fault),
        };
        match merged {
            Ok((known, ttl)) => {
                entry.failures = 0;
                entry.state.fault = None;
                entry.state.answered = Some(now);
                entry.next = now + ttl.clamp(TTL_MIN, TTL_MAX);
                let changed = known.iter().map(|k| k.0).ne(entry.state.known.iter().map(|k| k.0));
                entry.state.known = known.into();
                changed
            }
            Err(fault) => {
                let wait = RETRY_MIN.saturating_mul(1 << entry.failures.min(8)).min(RETRY_MAX);
                entry.failures += 1;
                entry.state.failed += 1;
                entry.state.fault = Some(fault.into());
                entry.next = now + wait;
                false
            }
        }
    }

    /// An endpoint of this name cannot be reached: its answer may be outdated. Asked again at once, but never more often
    /// than an answer is good.
    pub(super) fn suspect(&mut self, query: &Query, now: Instant) {
        let Some(entry) = self.entries.get_mut(query) else { return };
        let earliest = entry.asked_at.map_or(now, |asked| now.max(asked + TTL_MIN));
        entry.next = entry.next.min(earliest);
    }

    /// Whether every name has been answered, or was found not to be, at least once.
    pub(super) fn is_settled(&self) -> bool {
        self.entries.values().all(|entry| entry.state.answered.is_some() || entry.state.fault.is_some())
    }

    /// The addresses in use.
    pub(super) fn answers(&self) -> Answers {
        let known = self.entries.iter().filter(|(_, entry)| !entry.state.known.is_empty());
        known
            .map(|(query, entry)| {
                (query.clone(), entry.state.known.iter().map(|(found, _)| *found).collect())
            })
            .collect()
    }

    /// What every name has come to.
    pub(super) fn states(&self) -> BTreeMap<Query, NameState> {
        self.entries.iter().map(|(query, entry)| (query.clone(), entry.state.clone())).collect()
    }
}

impl Entry {
    fn is_asked(&self, now: Instant) -> bool {
        self.asking && self.asked_at.is_some_and(|asked| now.saturating_duration_since(asked) < LOST)
    }

    /// What is known after an answer: of parts that failed, what was known before. Nothing at all is no answer: a name is
    /// not believed to have lost all of its addresses at once.
    fn merge(&mut self, answer: Answer) -> Result<(Vec<(Found, Source)>, Duration), String> {
        let mut known = Vec::new();
        let mut fault = None;
        let mut fresh = false;
        for part in answer.parts {
            match part.found {
                Ok(found) => {
                    fresh |= !found.is_empty();
                    known.extend(found.into_iter().map(|found| (found, part.source.clone())));
                }
                Err(error) => {
                    fault.get_or_insert(error);
                    known.extend(
                        self.state.known.iter().filter(|(_, source)| *source == part.source).cloned(),
                    );
                }
            }
        }
        if !fresh {
            return Err(fault.unwrap_or_else(|| "the answer has no address".to_owned()));
        }
        known.sort_by_key(|(found, _)| *found);
        let mut seen = HashSet::new();
        known.retain(|(found, _)| seen.insert((found.ip, found.port)));
        let beyond = known.len().saturating_sub(ADDRESSES_MAX);
        self.state.left_out += beyond as u64;
        known.truncate(ADDRESSES_MAX);
        Ok((known, answer.ttl))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Query {
        Query::Host(DnsName::new(name).expect("a name"))
    }

    fn ip(last: u8) -> Found {
        Found { priority: 0, ip: IpAddr::from([10, 0, 0, last]), port: None, weight: 0 }
    }

    fn part(v6: bool, found: Result<Vec<Found>, String>) -> Part {
        Part { source: Source { host: "a".into(), v6 }, found }
    }

    fn answer(last: &[u8], ttl: u64) -> Result<Answer, String> {
        let found = last.iter().map(|&last| ip(last)).collect();
        let parts = vec![part(false, Ok(found)), part(true, Ok(Vec::new()))];
        Ok(Answer { parts, ttl: Duration::from_secs(ttl) })
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// One name, asked for the first time.
    fn one(now: Instant) -> (Names, Query) {
        let (mut names, query) = (Names::default(), host("a"));
        names.follow(&BTreeSet::from([query.clone()]), now);
        assert_eq!(names.due(now), std::slice::from_ref(&query));
        assert!(names.due(now).is_empty(), "it is asked once");
        (names, query)
    }

    fn addresses(names: &Names, query: &Query) -> Vec<Found> {
        names.answers().get(query).map(|found| found.to_vec()).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_asked_again_when_it_ends_within_bounds() {
        let now = Instant::now();
        for (ttl, wait) in [(0, 1), (1, 1), (30, 30), (60, 60), (86_400, 60)] {
            let (mut names, query) = one(now);
            assert!(names.learn(&query, answer(&[1], ttl), now));
            assert_eq!(names.next(now), Some(now + seconds(wait)), "a ttl of {ttl}");
            assert!(names.due(now + seconds(wait) - Duration::from_millis(1)).is_empty());
            assert_eq!(names.due(now + seconds(wait)), [query]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_as_changed_only_when_its_addresses_differ() {
        let now = Instant::now();
        let (mut names, query) = one(now);
        assert!(names.learn(&query, answer(&[2, 1, 2], 5), now));
        assert_eq!(addresses(&names, &query), [ip(1), ip(2)], "sorted, each once");
        assert!(!names.learn(&query, answer(&[1, 2], 9), now), "the order does not matter");
        assert!(names.learn(&query, answer(&[1], 9), now));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_answer_outlives_failures_and_empty_answers() {
        let start = Instant::now();
        let (mut names, query) = one(start);
        names.learn(&query, answer(&[1], 5), start);
        let mut now = start;
        for (failure, wait) in
            [Err("SERVFAIL".to_owned()), answer(&[], 5), Err("timed out".to_owned()), answer(&[], 5)]
                .into_iter()
                .zip([1, 2, 4, 5])
        {
            now += seconds(5);
            assert!(!names.learn(&query, failure, now));
            assert_eq!(addresses(&names, &query), [ip(1)]);
            assert_eq!(names.next(now), Some(now + seconds(wait)), "the wait grows within bounds");
        }
        let state = names.states().remove(&query).expect("a state");
        assert_eq!((state.answered, state.failed), (Some(start), 4));
        assert!(state.fault.is_some_and(|fault| fault.contains("no address")));
        assert!(names.learn(&query, answer(&[2], 5), now));
        assert_eq!(addresses(&names, &query), [ip(2)]);
        assert_eq!(names.states().remove(&query).and_then(|state| state.fault), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_serves_until_there_is_one_and_is_asked_again_at_once() {
        let (mut names, query) = (Names::default(), host("a"));
        let now = Instant::now() + seconds(100);
        let source = Source { host: "a".into(), v6: false };
        names.follow(&BTreeSet::from([query.clone()]), now);
        names.recall(&query, [(ip(1), source.clone())].into(), now - seconds(50));
        assert_eq!(addresses(&names, &query), [ip(1)]);
        assert!(names.is_settled());
        assert_eq!(names.due(now), std::slice::from_ref(&query));
        assert!(!names.learn(&query, Err("timed out".to_owned()), now));
        assert_eq!(addresses(&names, &query), [ip(1)]);
        assert!(names.learn(&query, answer(&[2], 5), now));
        names.recall(&query, [(ip(1), source)].into(), now);
        assert_eq!(addresses(&names, &query), [ip(2)], "what it knows itself is newer");
        names.recall(&host("b"), Arc::default(), now);
        assert_eq!(names.answers().len(), 1, "nobody asks for that");
    }

    #[tokio::test(start_paused = true)]
    async fn a_family_that_fails_keeps_its_own_addresses_and_one_that_has_none_loses_them() {
        let now = Instant::now();
        let (mut names, query) = one(now);
        let v6 = Found { ip: IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16]), ..ip(0) };
        let both = |a: Result<Vec<Found>, String>, b: Result<Vec<Found>, String>| {
            Ok(Answer { parts: vec![part(false, a), part(true, b)], ttl: seconds(5) })
        };
        names.learn(&query, both(Ok(vec![ip(1)]), Ok(vec![v6])), now);
        assert!(names.learn(&query, both(Ok(vec![ip(2)]), Err("timed out".to_owned())), now));
        assert_eq!(addresses(&names, &query), [ip(2), v6]);
        assert!(names.learn(&query, both(Ok(vec![ip(2)]), Ok(Vec::new())), now));
        assert_eq!(addresses(&names, &query), [ip(2)]);
        assert!(!names.learn(&query, both(Ok(Vec::new()), Err("timed out".to_owned())), now));
        assert_eq!(addresses(&names, &query), [ip(2)], "nothing new was learned");
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspected_name_is_asked_at_once_but_not_more_than_every_second() {
        let start = Instant::now();
        let (mut names, query) = one(start);
        names.learn(&query, answer(&[1], 60), start);
        let later = start + seconds(10);
        names.suspect(&query, later);
        assert_eq!(names.due(later), std::slice::from_ref(&query));
        names.learn(&query, answer(&[1], 60), later);
        names.suspect(&query, later + Duration::from_millis(300));
        assert_eq!(names.next(later), Some(later + seconds(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_addresses_are_cut_and_counted() {
        let now = Instant::now();
        let (mut names, query) = one(now);
        let many = |n: usize| {
            let found =
                (0..n).map(|i| Found { ip: IpAddr::from((i as u32).to_be_bytes()), ..ip(0) }).collect();
            Ok(Answer { parts: vec![part(false, Ok(found))], ttl: seconds(1) })
        };
        names.learn(&query, many(ADDRESSES_MAX), now);
        assert_eq!(names.states()[&query].left_out, 0);
        names.learn(&query, many(ADDRESSES_MAX + 7), now);
        assert_eq!((names.states()[&query].left_out, addresses(&names, &query).len()), (7, ADDRESSES_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_names_are_asked_at_once_and_none_is_forgotten() {
        let now = Instant::now();
        let all: BTreeSet<Query> = (0..ASKING_MAX + 5).map(|i| host(&format!("n{i}"))).collect();
        let mut names = Names::default();
        names.follow(&all, now);
        let first = names.due(now);
        assert_eq!((first.len(), names.next(now)), (ASKING_MAX, None));
        for query in &first {
            names.learn(query, Err("refused".to_owned()), now);
        }
        assert!(!names.is_settled());
        let second = names.due(now);
        assert_eq!(second.len(), 5);
        for query in &second {
            assert!(names.learn(query, answer(&[1], 5), now));
        }
        assert!(names.is_settled());
        assert_eq!(names.answers().len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_followed_no_more_is_forgotten_and_who_stays_is_known() {
        let now = Instant::now();
        let (mut names, query) = one(now);
        names.learn(&query, answer(&[1], 5), now);
        names.follow(&BTreeSet::from([query.clone(), host("b")]), now);
        assert_eq!(names.due(now), [host("b")]);
        assert_eq!(addresses(&names, &query), [ip(1)]);
        names.follow(&BTreeSet::from([host("b")]), now);
        assert!(addresses(&names, &query).is_empty());
        assert!(!names.learn(&query, answer(&[2], 5), now), "a late answer is for nobody");
    }
}
