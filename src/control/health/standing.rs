//! Where a pool stands among its tiers and failover pools: the gates that picks go by, and what of it changed.

use std::time::Duration;

use super::board::PoolBoard;
use super::levels::Levels;
use super::memory::PoolMemory;
use crate::control::journal::{Change, Kind};
use crate::model::name::PoolName;
use crate::policy::failover::{self, FailoverState, Level};
use crate::runtime::condition::Level as Overlooking;
use crate::runtime::pool::Pool;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::tier;

/// One pool.
#[derive(Debug)]
pub(super) struct Standing {
    name: PoolName,
    /// Numbers of its tiers and names of its chain, by which they are found again after a reload.
    numbers: Vec<u8>,
    links: Vec<PoolName>,
    tiers: FailoverState,
    chain: FailoverState,
    /// What the last plan was made from.
    facts: Option<(Vec<Level>, Vec<Level>)>,
    again: Option<Duration>,
    board: PoolBoard,
    usable: Option<bool>,
}

/// Whether anything of it can be used.
const fn serves(level: &Level) -> bool {
    level.usable + level.unproven > 0
}

impl Standing {
    /// A pool of a new snapshot, with what is known of it from before.
    pub(super) fn carried(pool: &Pool, snapshot: &Snapshot, before: Option<Self>) -> Self {
        let numbers: Vec<u8> = pool.tiers.iter().map(|tier| tier.number).collect();
        let links: Vec<PoolName> =
            pool.chain.iter().filter_map(|&at| snapshot.pools.get(at)).map(|p| p.name.clone()).collect();
        let (tiers, chain, board, usable) = match before {
            None => (FailoverState::new(numbers.len()), FailoverState::new(links.len()), None, None),
            Some(old) => {
                let at = |number: &u8| old.numbers.iter().position(|old| old == number);
                let tiers: Vec<Option<usize>> = numbers.iter().map(at).collect();
                let at = |name: &PoolName| old.links.iter().position(|old| old == name);
                let chain: Vec<Option<usize>> = links.iter().map(at).collect();
                (old.tiers.carried(&tiers), old.chain.carried(&chain), Some(old.board), old.usable)
            }
        };
        let board = board.unwrap_or_default();
        Self {
            name: pool.name.clone(),
            numbers,
            links,
            tiers,
            chain,
            facts: None,
            again: None,
            board,
            usable,
        }
    }

    /// Where it stands, for another process.
    pub(super) fn memory(&self) -> PoolMemory {
        let tier = |(at, number): (usize, &u8)| (*number, self.tiers.phase(at), self.tiers.losses(at));
        let link =
            |(at, name): (usize, &PoolName)| (name.clone(), self.chain.phase(at), self.chain.losses(at));
        PoolMemory {
            tiers: self.numbers.iter().enumerate().map(tier).collect(),
            chain: self.links.iter().enumerate().map(link).collect(),
            members: Vec::new(),
        }
    }

    /// Goes on from where it stood in the process before; where the operator had sent its traffic comes by itself.
    pub(super) fn recall(&mut self, before: &PoolMemory) {
        let tier = |number: &u8| before.tiers.iter().find(|(old, ..)| old == number);
        let tiers = self.numbers.iter().map(|number| tier(number).map(|&(_, phase, losses)| (phase, losses)));
        self.tiers = FailoverState::resumed(tiers.map(Option::unwrap_or_default));
        let link = |name: &PoolName| before.chain.iter().find(|(old, ..)| old == name);
        let links = self.links.iter().map(|name| link(name).map(|&(_, phase, losses)| (phase, losses)));
        self.chain = FailoverState::resumed(links.map(Option::unwrap_or_default));
    }

    pub(super) const fn name(&self) -> &PoolName {
        &self.name
    }

    /// Where the operator has sent its traffic; 0 is home.
    pub(super) fn place_of(&self, target: &PoolName) -> Option<usize> {
        self.links.iter().position(|name| name == target)
    }

    /// Carries out `plimsoll failover`.
    pub(super) fn fail_over(&mut self, place: usize, settings: &failover::Settings, now: Duration) {
        self.chain.fail_over(place, settings.failback, now);
        self.facts = None;
    }

    pub(super) const fn board(&self) -> &PoolBoard {
        &self.board
    }

    /// Moves the gates where the facts have changed or the time for it has come; what of that is news.
    pub(super) fn plan(
        &mut self,
        snapshot: &Snapshot,
        index: usize,
        levels: &Levels,
        now: Duration,
    ) -> Vec<Change> {
        let Some(pool) = snapshot.pools.get(index) else { return Vec::new() };
        let chain = pool.chain.iter().map(|&at| levels.pool(snapshot, at)).collect();
        let facts = (levels.tiers(snapshot, index), chain);
        if self.facts.as_ref() == Some(&facts) && self.again.is_none_or(|again| now < again) {
            return Vec::new();
        }
        let (tiers, chain) =
            (self.tiers.plan(&pool.failover, &facts.0, now), self.chain.plan(&pool.failover, &facts.1, now));
        for (place, tier) in pool.tiers.iter().enumerate() {
            let gate = tiers.gates.get(place).copied().unwrap_or(tier::OPEN);
            let panics = tiers.panic.get(place).copied().unwrap_or_default();
            let local = match levels.groups(snapshot, index, place).as_slice() {
                [local, elsewhere] => failover::local_share(local, elsewhere, pool.failover.spill),
                _ => tier::OPEN,
            };
            tier.live.set(gate, local, panics);
        }
        pool.live.set_gates(&chain.gates);
        self.again = [tiers.again, chain.again].into_iter().flatten().min();
        let board = self.draw_board(snapshot, pool, &facts, &tiers.gates, &chain.gates);
        self.facts = Some(facts);
        self.news(board)
    }

    fn draw_board(
        &self,
        snapshot: &Snapshot,
        pool: &Pool,
        (own, chain): &(Vec<Level>, Vec<Level>),
        tiers: &[u32],
        pools: &[u32],
    ) -> PoolBoard {
        let admits = |gates: &[u32], place: usize| gates.get(place).copied().unwrap_or(tier::OPEN) > 0;
        let serving = (0..own.len())
            .find(|&at| serves(&own[at]) && admits(tiers, at))
            .or_else(|| own.iter().position(serves));
        let home = chain.first().is_some_and(serves) && admits(pools, 0);
        let next = (1..chain.len()).find(|&at| serves(&chain[at]) && admits(pools, at));
        let next = next.or_else(|| (1..chain.len()).find(|&at| serves(&chain[at])));
        let nothing = !chain.iter().any(serves);
        let opens = |at: &usize| {
            snapshot.pools.get(*at).is_some_and(|p| {
                let shut = p.exclusive || p.live.condition.reason().is_some();
                !shut && p.endpoints.iter().any(|e| e.live.condition.allows(Overlooking::Open))
            })
        };
        PoolBoard {
            serving_tier: serving.and_then(|at| self.numbers.get(at).copied()),
            failover: if home { None } else { next.and_then(|at| self.links.get(at).cloned()) },
            fails_open: nothing && pool.fail_open && pool.chain.iter().any(opens),
        }
    }

    fn news(&mut self, board: PoolBoard) -> Vec<Change> {
        let (before, name) = (std::mem::replace(&mut self.board, board), &self.name);
        let usable = self.board.serving_tier.is_some();
        let was = self.usable.replace(usable);
        let mut news = Vec::new();
        if was.is_some_and(|was| was != usable) || (was.is_none() && !usable) {
            let word = |usable| if usable { "usable" } else { "not usable" };
            let because = if usable { "an endpoint is usable" } else { "no endpoint is usable" };
            let change = Change::new(Kind::Pool, word(usable), because).pool(name);
            news.push(if was.is_some() { change.from(word(!usable)) } else { change });
        }
        if let (Some(from), Some(to)) = (before.serving_tier, self.board.serving_tier)
            && from != to
        {
            let because = if to > from {
                "nothing before it is usable, or it is held back"
            } else {
                "it has recovered, and its hold-down is over"
            };
            let change = Change::new(Kind::Tier, format!("tier {to}"), because).pool(name);
            news.push(change.from(format!("tier {from}")));
        }
        if before.failover != self.board.failover {
            let word = |pool: &Option<PoolName>| match pool {
                Some(pool) => format!("served by {pool}"),
                None => "served by itself".to_owned(),
            };
            let change = Change::new(Kind::Pool, word(&self.board.failover), "failover").pool(name);
            news.push(change.from(word(&before.failover)));
        }
        if before.fails_open != self.board.fails_open {
            let (to, because) = if self.board.fails_open {
                ("fails open", "nothing is usable in the whole chain: whose port accepts is used")
            } else {
                ("does not fail open", "something is usable again, or nothing at all is left")
            };
            news.push(Change::new(Kind::Pool, to, because).pool(name));
        }
        news
    }
}
