//! Live state as the JSON of a handover: what probes, live traffic and time have come to, by name. Times are
//! microseconds on the policies' time line, of which the moment of the handover is given.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::clients::{CLIENTS_MAX, Clients};
use super::rates::Rates;
use crate::control::health::memory::{EndpointMemory, Memory, PoolMemory};
use crate::model::name::{EndpointName, PoolName};
use crate::policy::balance::peak_ewma::PeakEwma;
use crate::policy::breaker::Gate;
use crate::policy::budget::{self, Budget};
use crate::policy::exclusive;
use crate::policy::failover::Phase;
use crate::policy::health;
use crate::policy::health::damping::Penalty;
use crate::policy::outlier::{Because, Ejection};
use crate::policy::retry::Failure;
use crate::policy::window::Totals;
use crate::runtime::judge;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::sticky::{SECRET, Secret};

/// What is known of all pools.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LiveState {
    /// The moment of the handover.
    now: u64,
    pools: Vec<PoolState>,
    #[serde(default)]
    tickets: TicketSecrets,
    /// Of sticky pools, and of rate limits.
    #[serde(default)]
    sticky: Option<StickySecret>,
    #[serde(default)]
    rates: Vec<Rates>,
}

/// What signs cookies of sticky pools without a file of keys.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct StickySecret([u8; SECRET]);

impl fmt::Debug for StickySecret {
    // It stays out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("StickySecret").finish_non_exhaustive()
    }
}

/// The secrets of session tickets: seconds since 1970 at which each was made, and itself.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TicketSecrets(Vec<(u64, [u8; 32])>);

impl fmt::Debug for TicketSecrets {
    // They stay out of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("TicketSecrets").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct PoolState {
    name: String,
    #[serde(default)]
    breaker: Option<BreakerState>,
    #[serde(default)]
    budget: Option<BudgetState>,
    #[serde(default)]
    tiers: Vec<LevelState<u8>>,
    #[serde(default)]
    chain: Vec<LevelState<String>>,
    #[serde(default)]
    endpoints: Vec<EndpointState>,
    /// Whom its table knows.
    #[serde(default)]
    clients: Option<Clients>,
}

/// What the retry budget has in it, in units that follow from its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct BudgetState {
    ratio: f64,
    minimum_per_second: u32,
    slots: Vec<i64>,
    slot: u64,
}

/// What falls have added up to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct PenaltyState {
    value: f64,
    at: u64,
    /// Since when it is suppressed, and until when.
    suppressed: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LevelState<N> {
    level: N,
    phase: PhaseState,
    losses: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PhaseState {
    Fresh,
    Serving(u64),
    Lost(u64),
    Held(u64),
    Ramping(u64),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct EndpointState {
    name: String,
    /// Under another address it is another endpoint.
    address: String,
    #[serde(default)]
    probe: Option<ProbeState>,
    #[serde(default)]
    penalty: Option<PenaltyState>,
    #[serde(default)]
    grows_since: Option<u64>,
    #[serde(default)]
    ejection: Option<EjectionState>,
    #[serde(default)]
    ejections: u32,
    #[serde(default)]
    breaker: Option<BreakerState>,
    /// The word of [`PeakEwma`].
    #[serde(default)]
    latency: u64,
    #[serde(default)]
    claim: Option<ClaimState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ProbeState {
    says: Says,
    /// Seconds since 1970.
    since: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Says {
    Unknown,
    Up,
    No,
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct EjectionState {
    until: u64,
    number: u32,
    because: EjectionCause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EjectionCause {
    Connects(u32),
    Consecutive(u32, FailureState),
    Ratio(u64, u64),
    Latency(u64, u64),
    MaxFails(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FailureState {
    Connect,
    Reset,
    Timeout,
    Status(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct BreakerState {
    gate: GateState,
    times: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GateState {
    Closed,
    Open(u64),
    HalfOpen,
}

/// What a member of an exclusive pool has said, and whether it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ClaimState {
    leads: bool,
    asked: bool,
    last: Option<LastState>,
    has_claimed: bool,
    rank: Option<i64>,
    promoted: Option<u64>,
    nos: u32,
    bad: u32,
    unreachable: u32,
    answered_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LastState {
    Claims,
    No,
    Nothing,
}

impl LiveState {
    /// What is known of the pools of a snapshot; `memory` is the keeper's part of it.
    pub(in crate::control) fn read(snapshot: &Snapshot, memory: &Memory) -> Self {
        let mut clients = CLIENTS_MAX;
        let pools = snapshot.pools.iter().map(|pool| {
            let own = memory.pools.get(&pool.name);
            let endpoints = pool.endpoints.iter().map(|endpoint| {
                let known = memory.endpoints.get(&(pool.name.clone(), endpoint.name.clone()));
                let known = known.copied().unwrap_or_default();
                let judged = endpoint.live.judged.memory();
                let claim = own.and_then(|own| own.members.iter().find(|(name, ..)| *name == endpoint.name));
                EndpointState {
                    name: endpoint.name.to_string(),
                    address: endpoint.address.to_string(),
                    probe: known
                        .probe
                        .map(|(state, since)| ProbeState { says: says(state), since: seconds(since) }),
                    penalty: PenaltyState::of(known.penalty),
                    grows_since: known.grows_since.map(micros),
                    ejection: judged.ejected.as_ref().map(EjectionState::of),
                    ejections: judged.ejections,
                    breaker: judged.breaker.map(BreakerState::of),
                    latency: endpoint.live.latency().to_word(),
                    claim: claim.map(|(_, member, leads)| ClaimState::of(member, *leads)),
                }
            });
            let tier = |&(level, phase, losses): &(u8, Phase, u32)| LevelState {
                level,
                phase: PhaseState::of(phase),
                losses,
            };
            let link = |(name, phase, losses): &(PoolName, Phase, u32)| LevelState {
                level: name.to_string(),
                phase: PhaseState::of(*phase),
                losses: *losses,
            };
            PoolState {
                name: pool.name.to_string(),
                breaker: pool.live.judged.memory().breaker.map(BreakerState::of),
                budget: pool.budget_memory().map(|(settings, budget)| BudgetState::of(settings, &budget)),
                tiers: own.map(|own| own.tiers.iter().map(tier).collect()).unwrap_or_default(),
                chain: own.map(|own| own.chain.iter().map(link).collect()).unwrap_or_default(),
                endpoints: endpoints.collect(),
                clients: Clients::read(pool, &mut clients),
            }
        });
        let secrets = snapshot.tickets.secrets().into_iter().map(|(made, secret)| (seconds(made), secret));
        let tickets = TicketSecrets(secrets.collect());
        let sticky = Some(StickySecret(*snapshot.secret.bytes()));
        let rates = Rates::read(snapshot);
        Self { now: micros(snapshot.clock.now()), pools: pools.collect(), tickets, sticky, rates }
    }

    /// What signs cookies of sticky pools without a file of keys.
    pub(in crate::control) fn secret(&self) -> Option<Secret> {
        self.sticky.map(|StickySecret(bytes)| bytes.into())
    }

    /// The moment of the handover.
    pub(in crate::control) const fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// Gives the pools and endpoints of a first snapshot what is known of them, and the keeper its part. What the new
    /// configuration does not have is passed over.
    pub(in crate::control) fn apply(&self, snapshot: &Snapshot) -> Memory {
        let at = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        snapshot
            .tickets
            .adopt(self.tickets.0.iter().filter_map(|(made, secret)| Some((at(*made)?, *secret))));
        self.rates.iter().for_each(|rates| rates.apply(snapshot));
        let mut memory = Memory::default();
        for pool in &snapshot.pools {
            let Some(own) = self.pools.iter().find(|own| own.name == pool.name.as_str()) else { continue };
            let judged = judge::Memory { breaker: own.breaker.map(BreakerState::back), ..Default::default() };
            judge::resume(pool, None, &judged);
            if let Some(budget) = &own.budget {
                budget.resume(pool);
            }
            if let Some(clients) = &own.clients {
                clients.apply(pool);
            }
            let mut members = Vec::new();
            let known: HashMap<&str, &EndpointState> =
                own.endpoints.iter().map(|known| (known.name.as_str(), known)).collect();
            for endpoint in &pool.endpoints {
                let known = known.get(endpoint.name.as_str()).copied();
                let Some(known) = known.filter(|known| known.address == endpoint.address.to_string()) else {
                    continue;
                };
                judge::resume(pool, Some(endpoint), &known.judged());
                endpoint.live.set_latency(PeakEwma::from_word(known.latency));
                memory.endpoints.insert((pool.name.clone(), endpoint.name.clone()), known.memory());
                members.extend(known.claim.map(|claim| claim.back(&endpoint.name)));
            }
            let tiers = own.tiers.iter().map(|tier| (tier.level, tier.phase.back(), tier.losses));
            let chain = own
                .chain
                .iter()
                .filter_map(|link| Some((PoolName::new(&link.level).ok()?, link.phase.back(), link.losses)));
            let own = PoolMemory { tiers: tiers.collect(), chain: chain.collect(), members };
            memory.pools.insert(pool.name.clone(), own);
        }
        memory
    }
}

impl EndpointState {
    fn judged(&self) -> judge::Memory {
        judge::Memory {
            ejected: self.ejection.map(EjectionState::back),
            ejections: self.ejections,
            breaker: self.breaker.map(BreakerState::back),
        }
    }

    fn memory(&self) -> EndpointMemory {
        let state = |probe: ProbeState| match probe.says {
            Says::Unknown => health::State::Unknown,
            Says::Up => health::State::Up,
            Says::No => health::State::Down(health::Because::SaysNo),
            Says::Nothing => health::State::Down(health::Because::CannotBeAsked),
        };
        let since = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        EndpointMemory {
            probe: self.probe.map(|p| (state(p), since(p.since).unwrap_or(SystemTime::UNIX_EPOCH))),
            penalty: self.penalty.map(PenaltyState::back).unwrap_or_default(),
            grows_since: self.grows_since.map(Duration::from_micros),
        }
    }
}

const fn says(state: health::State) -> Says {
    match state {
        health::State::Unknown => Says::Unknown,
        health::State::Up => Says::Up,
        health::State::Down(health::Because::SaysNo) => Says::No,
        health::State::Down(health::Because::CannotBeAsked) => Says::Nothing,
    }
}

impl PhaseState {
    fn of(phase: Phase) -> Self {
        match phase {
            Phase::Fresh => Self::Fresh,
            Phase::Serving { since } => Self::Serving(micros(since)),
            Phase::Lost { since } => Self::Lost(micros(since)),
            Phase::Held { since } => Self::Held(micros(since)),
            Phase::Ramping { since } => Self::Ramping(micros(since)),
        }
    }

    const fn back(self) -> Phase {
        match self {
            Self::Fresh => Phase::Fresh,
            Self::Serving(since) => Phase::Serving { since: Duration::from_micros(since) },
            Self::Lost(since) => Phase::Lost { since: Duration::from_micros(since) },
            Self::Held(since) => Phase::Held { since: Duration::from_micros(since) },
            Self::Ramping(since) => Phase::Ramping { since: Duration::from_micros(since) },
        }
    }
}

impl EjectionState {
    fn of(ejection: &Ejection) -> Self {
        let because = match ejection.because {
            Because::Connects(count) => EjectionCause::Connects(count),
            Because::Consecutive { count, last } => EjectionCause::Consecutive(count, FailureState::of(last)),
            Because::Ratio(Totals { attempts, failures }) => EjectionCause::Ratio(attempts, failures),
            Because::Latency { mean, median } => EjectionCause::Latency(micros(mean), micros(median)),
            Because::MaxFails(count) => EjectionCause::MaxFails(count),
        };
        Self { until: micros(ejection.until), number: ejection.number, because }
    }

    fn back(self) -> Ejection {
        let because = match self.because {
            EjectionCause::Connects(count) => Because::Connects(count),
            EjectionCause::Consecutive(count, last) => Because::Consecutive { count, last: last.back() },
            EjectionCause::Ratio(attempts, failures) => Because::Ratio(Totals { attempts, failures }),
            EjectionCause::Latency(mean, median) => {
                Because::Latency { mean: Duration::from_micros(mean), median: Duration::from_micros(median) }
            }
            EjectionCause::MaxFails(count) => Because::MaxFails(count),
        };
        let (until, judgement) = (Duration::from_micros(self.until), because.is_judgement());
        Ejection { until, because, judgement, number: self.number }
    }
}

impl FailureState {
    const fn of(failure: Failure) -> Self {
        match failure {
            Failure::Connect => Self::Connect,
            Failure::Reset => Self::Reset,
            Failure::Timeout => Self::Timeout,
            Failure::Status(status) => Self::Status(status),
        }
    }

    const fn back(self) -> Failure {
        match self {
            Self::Connect => Failure::Connect,
            Self::Reset => Failure::Reset,
            Self::Timeout => Failure::Timeout,
            Self::Status(status) => Failure::Status(status),
        }
    }
}

impl BreakerState {
    fn of((gate, times): (Gate, u32)) -> Self {
        let gate = match gate {
            Gate::Closed => GateState::Closed,
            Gate::Open { until } => GateState::Open(micros(until)),
            Gate::HalfOpen => GateState::HalfOpen,
        };
        Self { gate, times }
    }

    const fn back(self) -> (Gate, u32) {
        let gate = match self.gate {
            GateState::Closed => Gate::Closed,
            GateState::Open(until) => Gate::Open { until: Duration::from_micros(until) },
            GateState::HalfOpen => Gate::HalfOpen,
        };
        (gate, self.times)
    }
}

impl PenaltyState {
    /// Nothing where nothing has fallen.
    fn of(penalty: Penalty) -> Option<Self> {
        let (value, at, suppressed) = penalty.parts();
        let suppressed = suppressed.map(|(since, until)| (micros(since), micros(until)));
        (value > 0.0).then(|| Self { value, at: micros(at), suppressed })
    }

    fn back(self) -> Penalty {
        let time = Duration::from_micros;
        let suppressed = self.suppressed.map(|(since, until)| (time(since), time(until)));
        Penalty::from_parts(self.value, time(self.at), suppressed)
    }
}

impl BudgetState {
    fn of(settings: budget::Settings, budget: &Budget) -> Self {
        let budget::Settings { ratio, minimum_per_second } = settings;
        let (slots, slot) = budget.parts();
        Self { ratio, minimum_per_second, slots: slots.to_vec(), slot }
    }

    fn resume(&self, pool: &Pool) {
        let settings = budget::Settings { ratio: self.ratio, minimum_per_second: self.minimum_per_second };
        if let Ok(slots) = self.slots.as_slice().try_into() {
            pool.resume_budget(settings, slots, self.slot);
        }
    }
}

impl ClaimState {
    fn of(member: &exclusive::Member, leads: bool) -> Self {
        let last = member.last.map(|last| match last {
            exclusive::Last::Claims => LastState::Claims,
            exclusive::Last::SaysNo => LastState::No,
            exclusive::Last::Silent => LastState::Nothing,
        });
        let &exclusive::Member { asked, has_claimed, rank, promoted, nos, bad, unreachable, .. } = member;
        let answered_at = micros(member.answered_at);
        Self { leads, asked, last, has_claimed, rank, promoted, nos, bad, unreachable, answered_at }
    }

    fn back(self, name: &EndpointName) -> (EndpointName, exclusive::Member, bool) {
        let last = self.last.map(|last| match last {
            LastState::Claims => exclusive::Last::Claims,
            LastState::No => exclusive::Last::SaysNo,
            LastState::Nothing => exclusive::Last::Silent,
        });
        let Self { asked, has_claimed, rank, promoted, nos, bad, unreachable, .. } = self;
        let answered_at = Duration::from_micros(self.answered_at);
        let member = exclusive::Member {
            asked,
            last,
            has_claimed,
            rank,
            promoted,
            nos,
            bad,
            unreachable,
            answered_at,
        };
        (name.clone(), member, self.leads)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::runtime::compile::{Machine, Weights, compile};
    use crate::runtime::condition::Impediment;

    fn snapshot() -> Snapshot {
        let text = "[listener.web]\nbind = [\"127.0.0.1:1\"]\nprotocol = \"tcp\"\npool = \"main\"\n\
                    [pool.main]\nendpoints = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nbreaker = { scope = \"endpoint\" }\n";
        let config = config::load_text(text, Path::new("test.toml"), &|_| None).expect("valid");
        let machine =
            Machine { workers: 1, connections_max: 100, time: Duration::from_secs(1000), secret: None };
        compile(&config, None, &machine, &Weights::default()).expect("no file is named")
    }

    #[test]
    fn what_is_known_survives_the_json_and_stands_in_the_next_process() -> Result<(), serde_json::Error> {
        let before = snapshot();
        let until = before.clock.now() + Duration::from_secs(100);
        let (pool, first) = (&before.pools[0], &before.pools[0].endpoints[0]);
        let because = Because::Consecutive { count: 5, last: Failure::Status(503) };
        let ejection = Ejection { until, because, judgement: true, number: 3 };
        let breaker = Some((Gate::Open { until }, 2));
        judge::resume(pool, Some(first), &judge::Memory { ejected: Some(ejection), ejections: 3, breaker });
        let mut memory = Memory::default();
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        let down = health::State::Down(health::Because::CannotBeAsked);
        let held = Some((Duration::from_secs(980), Duration::from_secs(1100)));
        let penalty = Penalty::from_parts(3.5, Duration::from_secs(980), held);
        while before.pools[0].may_retry() {}
        let known = EndpointMemory {
            probe: Some((down, since)),
            penalty,
            grows_since: Some(Duration::from_secs(990)),
        };
        memory.endpoints.insert((pool.name.clone(), first.name.clone()), known);
        let member = exclusive::Member { asked: true, rank: Some(4), ..exclusive::Member::default() };
        let held = Phase::Held { since: Duration::from_secs(900) };
        let members = vec![(first.name.clone(), member, true)];
        let own =
            PoolMemory { tiers: vec![(0, held, 2)], chain: vec![(pool.name.clone(), held, 1)], members };
        memory.pools.insert(pool.name.clone(), own);

        let text = serde_json::to_string(&LiveState::read(&before, &memory))?;
        let after = snapshot();
        let read: LiveState = serde_json::from_str(&text)?;
        let recalled = read.apply(&after);
        assert_eq!(recalled.pools, memory.pools);
        assert_eq!(recalled.endpoints.get(&(pool.name.clone(), first.name.clone())), Some(&known));
        let live = &after.pools[0].endpoints[0].live;
        assert!(live.condition.has(Impediment::Ejected) && live.condition.has(Impediment::Broken));
        assert_eq!(live.judged.memory().ejections, 3);
        assert_eq!(live.judged.gate().map(|gate| matches!(gate, Gate::Open { .. })), Some(true));
        assert!(!after.pools[0].may_retry(), "a spent budget is spent");
        let other = &after.pools[0].endpoints[1].live.condition;
        assert!(!other.has(Impediment::Ejected) && !other.has(Impediment::Broken));
        Ok(())
    }
}
