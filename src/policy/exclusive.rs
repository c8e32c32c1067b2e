//! Pools in which at most one endpoint serves, such as a database leader: who leads, and who must be closed. Probing the
//! members and their traffic ports is left to `control`, as is how quickly a close is carried out.

use std::cmp::Ordering;
use std::time::Duration;

/// How the leader of an exclusive pool is found and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of a number in the probe's answer; the highest leads where two claim to.
    pub rank: Option<String>,
    /// How long the last leader is kept when its health API is silent, nobody else claims and its port accepts.
    pub stale_for: Duration,
}

/// What one probe of a member came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It claims to lead.
    Leads {
        /// The number that `exclusive_rank` names, where the answer had one.
        rank: Option<i64>,
    },
    /// It says that it does not.
    SaysNo,
    /// It could not be asked.
    Silent {
        /// Whether its traffic port, asked beside the probe, accepted.
        port_accepts: bool,
    },
    /// No evidence.
    Void,
}

/// Another leader, or none any more, or one again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who led.
    pub from: Option<usize>,
    /// Who leads.
    pub to: Option<usize>,
    /// Why.
    pub why: Why,
    /// Whose connections must be closed now: everyone's but the leader's. Whoever is new to that has none.
    pub close: Vec<usize>,
}

/// Why the leader changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its claim is the only one or the best one.
    Claims,
    /// Several claim and nothing says who is right: the moment of the alarm.
    Undecided,
    /// It said no, and nobody else claims. Closing may follow `on_demotion`.
    SaysNo,
    /// Neither its health API nor its port could be reached. Closing may follow `on_unreachable`.
    Unreachable,
    /// Its health API was silent for too long although its port accepted.
    Stale,
}

/// What is known of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Member {
    /// Whether a probe of it has ended, void or not.
    pub asked: bool,
    /// What it said last.
    pub last: Option<Last>,
    /// Whether it has ever claimed.
    pub has_claimed: bool,
    /// From its last claim.
    pub rank: Option<i64>,
    /// The turn at which its promotion was seen; later ones are newer.
    pub promoted: Option<u64>,
    /// Times it said no since its last claim; silence takes nothing back.
    pub nos: u32,
    /// Bad results in a row.
    pub bad: u32,
    /// The same, without those whose port accepted while the health API was silent.
    pub unreachable: u32,
    /// When it last answered anything.
    pub answered_at: Duration,
}

/// What a member said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// That it leads.
    Claims,
    /// That it does not.
    SaysNo,
    /// Nothing: it could not be asked.
    Silent,
}

/// The problem: the members of such a pool say themselves who leads, and for a while two of them do, or the one that
/// leads cannot be asked. Sending writes to both loses data; cutting off the leader because its health API restarts loses
/// sessions. Why this answer: what the members say is a statement about a lock, not a sample of their quality, so a claim
/// is believed at once (below), and another's claim counts as a "no" of everyone else. When wrong: with a health API that
/// says yes by mistake (a proxy's error page with status 200) and no rank; such an API must not be asked.
///
/// - **Claims need no `rise`.** The promotion of another is believed on its first good answer after a "no". `rise` guards
///   against endpoints that are good by chance, and no one takes a leader's lock by chance; waiting for a second answer
///   would only give a superseded leader another interval for writes that will be lost. The "no" itself must have been
///   established, by the first answer ever or by `fall` of them, so that one wrong "no" of a superseded leader that still
///   claims does not make its next claim a promotion.
/// - **Losing without a successor needs `fall`** bad results in a row, like any endpoint. Then a "no" ends it, and so
///   does silence unless the port accepts; a port that accepts buys `stale_for`, counted from the last answer.
/// - **Two claims:** the higher rank wins. A tie or a missing rank: the one whose promotion was seen last. Neither seen:
///   nobody leads, and that is an alarm.
/// - **A leader that is being kept** (silent, or in doubt) yields to any claim but those that it is known to be newer
///   than: a superseded leader that goes on claiming does not come back because its successor cannot be asked.
/// - **The first election waits** until every member has been asked once, so that a start into a split does not use
///   whoever happened to answer first.
#[derive(Debug, Clone)]
pub struct Exclusive {
    settings: Settings,
    fall: u32,
    members: Vec<Member>,
    leader: Option<usize>,
    undecided: bool,
    /// Promotions seen.
    promotions: u64,
}

impl Exclusive {
    /// A pool of so many members of which nothing is known; `fall` is that of its probes.
    #[must_use]
    pub fn new(settings: Settings, fall: u32, members: usize) -> Self {
        Self {
            settings,
            fall: fall.max(1),
            members: vec![Member::default(); members],
            leader: None,
            undecided: false,
            promotions: 0,
        }
    }

    /// The same pool after a reload: for each member its index before, or nothing for a new one. A leader that is not
    /// among them is gone; [`Exclusive::tick`] then elects.
    #[must_use]
    pub fn carried(&self, settings: Settings, fall: u32, before: &[Option<usize>]) -> Self {
        let known = |old: &Option<usize>| old.and_then(|old| self.members.get(old)).copied();
        Self {
            members: before.iter().map(|old| known(old).unwrap_or_default()).collect(),
            leader: self.leader.and_then(|leader| before.iter().position(|old| *old == Some(leader))),
            undecided: self.undecided,
            promotions: self.promotions,
            ..Self::new(settings, fall, 0)
        }
    }

    /// Goes on with what another process has learnt of the members; `leader` is the one that led there.
    pub fn resume(&mut self, members: Vec<Member>, leader: Option<usize>) {
        self.promotions = members.iter().filter_map(|member| member.promoted).max().unwrap_or(0);
        self.leader = leader.filter(|&leader| leader < members.len());
        self.members = members;
    }

    /// What is known of each member.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Takes what a probe of a member came to, and says what changes.
    pub fn observe(&mut self, member: usize, answer: Answer, now: Duration) -> Option<Change> {
        let fall = self.fall;
        let member = self.members.get_mut(member)?;
        member.asked = true;
        match answer {
            Answer::Leads { rank } => {
                if member.has_denied(fall) {
                    self.promotions += 1;
                    member.promoted = Some(self.promotions);
                }
                member.claim(rank, now);
            }
            Answer::SaysNo => member.say_no(now),
            Answer::Silent { port_accepts } => member.fall_silent(port_accepts),
            Answer::Void => {}
        }
        self.tick(now)
    }

    /// Lets time pass: to be called at [`Exclusive::deadline`].
    pub fn tick(&mut self, now: Duration) -> Option<Change> {
        let elected = self.elect(now);
        let to = elected.ok();
        let was_undecided = std::mem::replace(&mut self.undecided, elected == Err(Why::Undecided));
        let from = std::mem::replace(&mut self.leader, to);
        // A split that follows no leader is told as well: it is an alarm.
        if from == to && (!self.undecided || was_undecided) {
            return None;
        }
        let close = (0..self.members.len()).filter(|index| Some(*index) != to).collect();
        Some(Change { from, to, why: elected.err().unwrap_or(Why::Claims), close })
    }

    /// The endpoint that may be used.
    #[must_use]
    pub const fn leader(&self) -> Option<usize> {
        self.leader
    }

    /// Whether nobody leads because several claim to, and nothing says who is right.
    #[must_use]
    pub const fn is_undecided(&self) -> bool {
        self.undecided
    }

    /// The members whose last answer was a claim.
    pub fn claimants(&self) -> impl Iterator<Item = usize> + '_ {
        self.members.iter().enumerate().filter(|(_, member)| member.claims()).map(|(index, _)| index)
    }

    /// Until when a leader whose health API is silent is kept at most: the time for the next [`Exclusive::tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let leader = self.members.get(self.leader?)?;
        (leader.last == Some(Last::Silent)).then(|| leader.stale_at(self.settings.stale_for))
    }

    /// Who leads now, or why nobody does.
    fn elect(&self, now: Duration) -> Result<usize, Why> {
        let lost = match self.leader {
            None if self.members.iter().any(|member| !member.asked) => return Err(Why::Unreachable),
            None => None,
            Some(leader) => self.loss(leader, now),
        };
        let kept = self.leader.filter(|&leader| lost.is_none() && !self.members[leader].claims());
        if let Some(kept) = kept
            && self.claimants().all(|other| self.is_newer(kept, other))
        {
            return Ok(kept);
        }
        let is_best = |&one: &usize| self.claimants().all(|other| one == other || self.is_newer(one, other));
        if let Some(best) = self.claimants().find(is_best) {
            return Ok(best);
        }
        Err(if self.claimants().next().is_some() { Why::Undecided } else { lost.unwrap_or(Why::Unreachable) })
    }

    /// Why a leader is not kept any more; nothing while it is.
    fn loss(&self, leader: usize, now: Duration) -> Option<Why> {
        let member = self.members.get(leader)?;
        match member.last {
            _ if member.bad < self.fall => None,
            Some(Last::SaysNo) => Some(Why::SaysNo),
            _ if member.unreachable >= self.fall => Some(Why::Unreachable),
            _ => (now >= member.stale_at(self.settings.stale_for)).then_some(Why::Stale),
        }
    }

    /// Whether one member is known to lead in the other's place.
    fn is_newer(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.members[one], &self.members[other]);
        let by_rank = match (&self.settings.rank, one.rank, other.rank) {
            (Some(_), Some(one), Some(other)) => one.cmp(&other),
            _ => Ordering::Equal,
        };
        by_rank.then(one.promoted.cmp(&other.promoted)) == Ordering::Greater
    }
}

impl Member {
    fn claims(&self) -> bool {
        self.last == Some(Last::Claims)
    }

    /// Whether it is established that it did not lead when it last answered.
    const fn has_denied(&self, fall: u32) -> bool {
        self.nos >= fall || (!self.has_claimed && self.nos > 0)
    }

    fn stale_at(&self, stale_for: Duration) -> Duration {
        self.answered_at.saturating_add(stale_for)
    }

    fn claim(&mut self, rank: Option<i64>, now: Duration) {
        self.last = Some(Last::Claims);
        self.has_claimed = true;
        self.rank = rank;
        self.answered_at = now;
        (self.nos, self.bad, self.unreachable) = (0, 0, 0);
    }

    fn say_no(&mut self, now: Duration) {
        self.last = Some(Last::SaysNo);
        self.answered_at = now;
        self.nos = self.nos.saturating_add(1);
        self.bad = self.bad.saturating_add(1);
        self.unreachable = 0;
    }

    fn fall_silent(&mut self, port_accepts: bool) {
        self.last = Some(Last::Silent);
        self.bad = self.bad.saturating_add(1);
        self.unreachable = if port_accepts { 0 } else { self.unreachable.saturating_add(1) };
    }
}

#[cfg(test)]
mod tests;
