//! nginx's max_fails and fail_timeout: what they do step by step, and against a second spelling of nginx's own source.

use super::*;

#[test]
fn by_nginx_rule_one_trial_decides() {
    let mut endpoint = Endpoint::new(nginx());
    let full = Facts { ejected_by_judgement: 4, ..FACTS };
    assert_eq!(endpoint.fails(Failure::Reset, &full), None);
    let Some(Decision::Eject(ejection)) = endpoint.fails(Failure::Reset, &full) else {
        panic!("not ejected")
    };
    assert_eq!((ejection.until - endpoint.now, ejection.judgement), (11 * SECOND, false));
    assert!(endpoint.outlier.asks());
    assert!(!endpoint.outlier.pick(&endpoint.settings, endpoint.now));

    let trials = endpoint.passes(11 * SECOND);
    assert_eq!(trials, [Return::Trial]);
    let (settings, now) = (endpoint.settings.clone(), endpoint.now);
    let let_through = (0..50).filter(|_| endpoint.outlier.pick(&settings, now)).count();
    assert_eq!(let_through, 1);
    assert_eq!(endpoint.passes(10 * SECOND), [], "nothing came of it, so it is out again");
    assert_eq!(endpoint.passes(SECOND), [Return::Trial]);
    assert!(endpoint.outlier.pick(&settings, endpoint.now));
    assert_eq!(endpoint.fails(Failure::Connect, &FACTS), None, "it stays out");
    assert_eq!(endpoint.passes(10 * SECOND), []);
    endpoint.passes(SECOND);
    assert!(endpoint.outlier.pick(&settings, endpoint.now));
    assert!(matches!(endpoint.succeed(), Some(Return::Usable { .. })));
    assert_eq!((endpoint.outlier.streak(), endpoint.outlier.asks()), (0, false));
}

#[test]
fn by_nginx_rule_a_success_from_before_the_trial_ends_nothing() {
    let mut endpoint = Endpoint::new(nginx());
    endpoint.until_decided(Failure::Reset, &FACTS);
    assert_eq!(endpoint.succeed(), None);
    endpoint.passes(10 * SECOND);
    assert_eq!(endpoint.succeed(), None);
    assert!(endpoint.outlier.ejected().is_some());
}

#[test]
fn by_nginx_rule_too_the_last_usable_one_stays() {
    let mut endpoint = Endpoint::new(nginx());
    assert_eq!(held(Some(endpoint.until_decided(Failure::Connect, &LAST).1)), Some(Cap::LastUsable));
    assert!(endpoint.outlier.pick(&endpoint.settings, endpoint.now), "and is picked");
    assert!(matches!(endpoint.fails(Failure::Connect, &FACTS), Some(Decision::Eject(_))));
}

/// The fields and steps of a peer, as nginx's source has them: a second spelling to compare with.
#[derive(Default)]
struct Peer {
    fails: i64,
    accessed: i64,
    checked: i64,
}

impl Peer {
    fn get(&mut self, now: i64) -> bool {
        if self.fails >= 2 && now - self.checked <= 10 {
            return false;
        }
        if now - self.checked > 10 {
            self.checked = now;
        }
        true
    }

    fn free(&mut self, failed: bool, now: i64) {
        if failed {
            self.fails += 1;
            (self.accessed, self.checked) = (now, now);
        } else if self.accessed < self.checked {
            self.fails = 0;
        }
    }
}

proptest! {
    /// Picks and ends in any order: whatever nginx would pick or skip, so do we.
    #[test]
    fn nginx_rule_is_nginx(
        steps in prop::collection::vec((0_u64..9_000, prop::option::of(any::<bool>())), 1..300),
    ) {
        let (mut ours, mut nginx) = (Endpoint::new(nginx()), Peer::default());
        for (wait, end) in steps {
            ours.now += Duration::from_millis(wait);
            let now = i64::try_from(ours.now.as_secs()).unwrap();
            match end {
                None => {
                    let back = ours.outlier.tick(&ours.settings, ours.totals, ours.now);
                    let in_reach = ours.outlier.ejected().is_none() || back == Some(Return::Trial);
                    let picked = if in_reach && ours.outlier.asks() {
                        ours.outlier.pick(&ours.settings, ours.now)
                    } else {
                        in_reach
                    };
                    prop_assert_eq!(picked, nginx.get(now), "at {:?}", ours.now);
                }
                Some(true) => {
                    ours.fails(Failure::Timeout, &FACTS);
                    nginx.free(true, now);
                }
                Some(false) => {
                    ours.succeed();
                    nginx.free(false, now);
                }
            }
        }
    }
}
