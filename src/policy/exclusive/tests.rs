//! Every sentence of the promise about exclusive pools, and the invariants over random histories.

use proptest::prelude::*;

use super::*;

const STALE_FOR: Duration = Duration::from_secs(30);
const FALL: u32 = 3;

/// A pool with its clock; results come in as (member, word), a fifth of a second apart.
struct Pool {
    exclusive: Exclusive,
    now: Duration,
    changes: Vec<Change>,
}

impl Pool {
    fn new(members: usize) -> Self {
        Self::ranked(members, false)
    }

    fn ranked(members: usize, ranked: bool) -> Self {
        let rank = ranked.then(|| "timeline".to_owned());
        let exclusive = Exclusive::new(Settings { rank, stale_for: STALE_FOR }, FALL, members);
        Self { exclusive, now: Duration::from_secs(1000), changes: Vec::new() }
    }

    fn hears(&mut self, member: usize, answer: Answer) -> &mut Self {
        self.now += Duration::from_millis(200);
        self.changes.extend(self.exclusive.observe(member, answer, self.now));
        self
    }

    /// A word per member and time: y(es), n(o), s(ilent), p(ort accepts though silent), v(oid), digits are ranks.
    fn hear(&mut self, rounds: &str) -> &mut Self {
        for round in rounds.split(' ') {
            for (member, word) in round.chars().enumerate().filter(|(_, word)| *word != '.') {
                self.hears(member, answer(word));
            }
        }
        self
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.changes.extend(self.exclusive.tick(self.now));
        self
    }

    fn leader(&self) -> Option<usize> {
        self.exclusive.leader()
    }

    fn last(&self) -> (Option<usize>, Option<usize>, Why, &[usize]) {
        let change = self.changes.last().expect("something changed");
        (change.from, change.to, change.why, &change.close)
    }
}

fn answer(word: char) -> Answer {
    match word {
        'y' => Answer::Leads { rank: None },
        'n' => Answer::SaysNo,
        's' => Answer::Silent { port_accepts: false },
        'p' => Answer::Silent { port_accepts: true },
        'v' => Answer::Void,
        _ => Answer::Leads { rank: word.to_digit(10).map(i64::from) },
    }
}

fn leader_after(members: usize, rounds: &str) -> Option<usize> {
    Pool::new(members).hear(rounds).leader()
}

#[test]
fn the_one_that_claims_leads() {
    assert_eq!(leader_after(3, "nyn"), Some(1));
    assert_eq!(leader_after(3, "nnn"), None);
    assert_eq!(leader_after(3, "sss"), None);
    assert_eq!(leader_after(1, "y"), Some(0));
    assert_eq!(leader_after(0, ""), None);
}

#[test]
fn the_first_election_waits_until_all_were_asked() {
    assert_eq!(leader_after(3, "yn."), None);
    assert_eq!(leader_after(3, "ynv"), Some(0), "a void probe has been an attempt");
    assert_eq!(leader_after(3, "yns"), Some(0));
}

#[test]
fn the_first_answer_of_a_promoted_one_closes_all_others_at_once() {
    let mut pool = Pool::new(3);
    pool.hear("ynn yyn");
    assert_eq!(pool.leader(), Some(1));
    assert_eq!(pool.last(), (Some(0), Some(1), Why::Claims, &[0, 2][..]));
}

#[test]
fn a_superseded_leader_does_not_come_back_while_both_claim() {
    assert_eq!(leader_after(2, "yn yy yy yy yy"), Some(1));
    assert_eq!(leader_after(2, "yn yy ny yy"), Some(1), "one no does not make a promotion");
    assert_eq!(leader_after(2, "yn yy sy sy sy sy yy"), Some(1), "nor does silence");
}

#[test]
fn a_superseded_leader_does_not_come_back_because_the_new_one_is_silent() {
    assert_eq!(leader_after(2, "yn yy yp yp yp yp yp"), Some(1));
    assert_eq!(leader_after(2, "yn yy yn yn"), Some(1), "nor because it is in doubt");
}

#[test]
fn a_superseded_leader_comes_back_when_the_new_one_is_gone() {
    assert_eq!(leader_after(2, "yn yy yn yn yn"), Some(0));
    assert_eq!(leader_after(2, "yn yy ys ys ys"), Some(0));
}

#[test]
fn the_newest_promotion_wins() {
    assert_eq!(leader_after(2, "yn yy ny ny ny yy"), Some(0));
    assert_eq!(leader_after(3, "ynn yyn yyy"), Some(2));
    assert_eq!(leader_after(3, "ynn ynp yny"), Some(2), "a silence in between hides no promotion");
}

#[test]
fn two_claims_of_which_no_promotion_was_seen_are_an_alarm_and_nobody_leads() {
    let mut pool = Pool::new(2);
    pool.hear("ys yy");
    assert!(pool.exclusive.is_undecided());
    assert_eq!(pool.last(), (Some(0), None, Why::Undecided, &[0, 1][..]));
    assert_eq!(pool.exclusive.claimants().collect::<Vec<_>>(), [0, 1]);
    let alarms = pool.changes.len();
    pool.hear("yy yy");
    assert_eq!(pool.changes.len(), alarms, "it alarms once");
    pool.hear("yn");
    assert_eq!(pool.last(), (None, Some(0), Why::Claims, &[1][..]));
}

#[test]
fn two_claims_from_the_start_are_an_alarm() {
    let mut pool = Pool::new(2);
    pool.hear("yy");
    assert_eq!(pool.last(), (None, None, Why::Undecided, &[0, 1][..]));
}

#[test]
fn the_higher_rank_leads_whatever_was_seen() {
    let leader_after = |rounds| Pool::ranked(2, true).hear(rounds).leader();
    assert_eq!(leader_after("12"), Some(1));
    assert_eq!(leader_after("2n 21"), Some(0), "the promotion of the lower one was seen");
    assert_eq!(leader_after("2n 23"), Some(1));
    assert_eq!(leader_after("22"), None);
    assert_eq!(leader_after("2n 22"), Some(1), "a tie: the promotion decides");
    assert_eq!(leader_after("2n 2y"), Some(1), "a missing rank: the promotion decides");
}

#[test]
fn ranks_mean_nothing_where_they_were_not_asked_for() {
    assert_eq!(leader_after(2, "2n 21"), Some(1));
}

#[test]
fn a_leader_whose_health_api_is_cut_off_is_kept() {
    let mut pool = Pool::new(3);
    pool.hear("nyn");
    let changes = pool.changes.len();
    for _ in 0..40 {
        pool.hear("npn");
    }
    pool.hear("nyn");
    assert_eq!((pool.leader(), pool.changes.len()), (Some(1), changes), "for 24 seconds nothing changed");
}

#[test]
fn a_silent_leader_is_kept_for_so_long_and_no_longer() {
    let mut pool = Pool::new(2);
    pool.hear("yn");
    let answered_at = pool.now - Duration::from_millis(200);
    pool.hear("pn pn pn");
    assert_eq!(pool.exclusive.deadline(), Some(answered_at + STALE_FOR));
    let left = answered_at + STALE_FOR - pool.now;
    pool.pass(left - Duration::from_nanos(1));
    assert_eq!(pool.leader(), Some(0));
    pool.pass(Duration::from_nanos(1));
    assert_eq!(pool.last(), (Some(0), None, Why::Stale, &[0, 1][..]));
    pool.hear("pn pn");
    assert_eq!(pool.leader(), None, "an open port alone does not bring it back");
    assert_eq!(pool.hear("yn").leader(), Some(0));
}

#[test]
fn a_silent_leader_is_not_kept_when_another_claims() {
    assert_eq!(leader_after(2, "yn pn pn py"), Some(1));
    assert_eq!(leader_after(2, "ys ps py"), Some(1), "nobody's promotion was seen");
}

#[test]
fn a_silent_leader_whose_port_is_closed_is_lost_after_fall() {
    let mut pool = Pool::new(2);
    assert_eq!(pool.hear("yn sn sn").leader(), Some(0));
    pool.hear("sn");
    assert_eq!(pool.last(), (Some(0), None, Why::Unreachable, &[0, 1][..]));
    assert_eq!(leader_after(2, "yn sn sn pn sn sn"), Some(0), "an accepting port starts the count anew");
}

#[test]
fn a_leader_that_says_no_is_lost_after_fall() {
    let mut pool = Pool::new(2);
    assert_eq!(pool.hear("yn nn nn").leader(), Some(0));
    assert_eq!(pool.hear("yn nn nn").leader(), Some(0));
    pool.hear("nn");
    assert_eq!(pool.last(), (Some(0), None, Why::SaysNo, &[0, 1][..]));
}

#[test]
fn a_leader_that_says_no_yields_to_another_claim_at_once() {
    assert_eq!(leader_after(2, "yn ny"), Some(1));
}

#[test]
fn void_probes_change_nothing() {
    let mut pool = Pool::new(2);
    pool.hear("yn nn nn vv vv vv");
    assert_eq!((pool.leader(), pool.changes.len()), (Some(0), 1));
}

#[test]
fn a_reload_keeps_the_leader_and_who_superseded_whom() {
    let mut pool = Pool::new(2);
    pool.hear("yn yy");
    let settings = pool.exclusive.settings.clone();
    pool.exclusive = pool.exclusive.carried(settings.clone(), FALL, &[None, Some(1), Some(0)]);
    assert_eq!(pool.leader(), Some(1));
    assert_eq!(pool.hear("nyy nyy").leader(), Some(1));
    pool.exclusive = pool.exclusive.carried(settings, FALL, &[Some(2)]);
    assert_eq!(pool.leader(), None);
    assert_eq!(pool.pass(Duration::ZERO).leader(), Some(0));
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let rank = prop::option::of(0i64..3);
    prop_oneof![
        3 => rank.prop_map(|rank| Answer::Leads { rank }),
        3 => Just(Answer::SaysNo),
        2 => any::<bool>().prop_map(|port_accepts| Answer::Silent { port_accepts }),
        1 => Just(Answer::Void),
    ]
}

fn any_history() -> impl Strategy<Value = Vec<(usize, Answer, u64)>> {
    prop::collection::vec((0usize..4, any_answer(), 0u64..8), 0..120)
}

proptest! {
    /// Sessions stand where somebody led since their last close; only the leader may have any.
    #[test]
    fn never_do_two_serve(ranked: bool, history in any_history()) {
        let mut pool = Pool::ranked(4, ranked);
        let mut serving = [false; 4];
        for (member, answer, seconds) in history {
            pool.now += Duration::from_secs(seconds);
            let before = pool.leader();
            let change = pool.exclusive.observe(member, answer, pool.now);
            prop_assert_eq!(change.is_some(), before != pool.leader() || change.as_ref().is_some_and(|change| change.why == Why::Undecided));
            for closed in change.map(|change| change.close).unwrap_or_default() {
                serving[closed] = false;
            }
            if let Some(leader) = pool.leader() {
                serving[leader] = true;
            }
            for (member, serving) in serving.iter().enumerate() {
                prop_assert!(!serving || pool.leader() == Some(member));
            }
        }
    }

    #[test]
    fn a_lone_claim_leads_once_the_last_leader_denies(ranked: bool, history in any_history(), lone in 0usize..4) {
        let mut pool = Pool::ranked(4, ranked);
        for (member, answer, seconds) in history {
            pool.now += Duration::from_secs(seconds);
            pool.exclusive.observe(member, answer, pool.now);
        }
        for _ in 0..FALL {
            for member in 0..4 {
                let answer = if member == lone { Answer::Leads { rank: Some(1) } } else { Answer::SaysNo };
                pool.hears(member, answer);
            }
        }
        prop_assert_eq!(pool.leader(), Some(lone));
    }

    #[test]
    fn nobody_leads_without_a_claim_that_is_not_too_old(ranked: bool, history in any_history()) {
        let mut pool = Pool::ranked(4, ranked);
        let mut claimed = [None; 4];
        let mut denials = [0; 4];
        for (member, answer, seconds) in history {
            pool.now += Duration::from_secs(seconds);
            match answer {
                Answer::Leads { .. } => (claimed[member], denials[member]) = (Some(pool.now), 0),
                Answer::SaysNo => denials[member] += 1,
                _ => {}
            }
            pool.exclusive.observe(member, answer, pool.now);
            if let Some(leader) = pool.leader() {
                prop_assert!(claimed[leader].is_some());
                prop_assert!(denials[leader] < FALL || answer != Answer::SaysNo || member != leader);
            }
        }
        pool.pass(STALE_FOR);
        let silent = |member: &usize| {
            let member = &pool.exclusive.members[*member];
            member.last == Some(Last::Silent) && member.bad >= FALL
        };
        prop_assert!(pool.leader().is_none_or(|leader| !silent(&leader)));
    }

    #[test]
    fn a_promotion_under_watch_wins_at_once_where_ranks_do_not_speak(
        history in any_history(), promoted in 0usize..4,
    ) {
        let mut pool = Pool::new(4);
        for (member, answer, seconds) in history {
            pool.now += Duration::from_secs(seconds);
            pool.exclusive.observe(member, answer, pool.now);
        }
        for member in 0..4 {
            pool.hears(member, Answer::Void);
        }
        for _ in 0..FALL {
            pool.hears(promoted, Answer::SaysNo);
        }
        pool.hears(promoted, Answer::Leads { rank: None });
        prop_assert_eq!(pool.leader(), Some(promoted));
    }

    #[test]
    fn among_ranked_claims_the_highest_leads(history in any_history(), ranks in prop::array::uniform4(0i64..100)) {
        let mut pool = Pool::ranked(4, true);
        for (member, answer, seconds) in history {
            pool.now += Duration::from_secs(seconds);
            pool.exclusive.observe(member, answer, pool.now);
        }
        for (member, rank) in ranks.into_iter().enumerate() {
            pool.hears(member, Answer::Leads { rank: Some(rank) });
        }
        let highest = ranks.iter().max().expect("four");
        if ranks.iter().filter(|rank| *rank == highest).count() == 1 {
            prop_assert_eq!(pool.leader().map(|leader| ranks[leader]), Some(*highest));
        }
    }
}
