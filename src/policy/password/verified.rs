//! Which logins have been found right lately, so that the expensive check is made once and not for each request.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// What a login is known by: a digest under a secret key of the stored hash and the password, so that it says nothing of
/// either, and a changed hash is another login.
pub type Mark = [u8; 32];

/// Logins that were right.
#[derive(Debug)]
pub struct Verified {
    /// How many are remembered; the oldest gives way.
    max: usize,
    /// How long each is.
    lifetime: Duration,
    until: HashMap<Mark, Duration>,
    /// In the order in which they came.
    order: VecDeque<Mark>,
}

impl Verified {
    /// Nobody yet.
    #[must_use]
    pub fn new(max: usize, lifetime: Duration) -> Self {
        Self { max, lifetime, until: HashMap::new(), order: VecDeque::new() }
    }

    /// Whether this login was right, less than its lifetime before `now`.
    #[must_use]
    pub fn knows(&self, mark: &Mark, now: Duration) -> bool {
        self.until.get(mark).is_some_and(|until| now < *until)
    }

    /// Notes a login that was found right at `now`; whether another had to give way that was still good.
    pub fn note(&mut self, mark: Mark, now: Duration) -> bool {
        if self.until.insert(mark, now + self.lifetime).is_some() {
            return false;
        }
        self.order.push_back(mark);
        let mut early = false;
        while self.order.len() > self.max {
            let gone = self.order.pop_front().and_then(|oldest| self.until.remove(&oldest));
            early |= gone.is_some_and(|until| now < until);
        }
        early
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_login_is_remembered_for_its_time() {
        let mut verified = Verified::new(2, 10 * SECOND);
        assert!(!verified.knows(&[1; 32], SECOND));
        assert!(!verified.note([1; 32], SECOND));
        assert!(verified.knows(&[1; 32], 10 * SECOND));
        assert!(!verified.knows(&[2; 32], 10 * SECOND));
        assert!(!verified.knows(&[1; 32], 11 * SECOND), "its time is over");
        assert!(!verified.note([1; 32], 11 * SECOND));
        assert!(verified.knows(&[1; 32], 20 * SECOND), "it was found right again");
        assert_eq!(verified.len(), 1);
    }

    #[test]
    fn the_oldest_gives_way_to_the_newest() {
        let mut verified = Verified::new(2, 10 * SECOND);
        assert!(!verified.note([1; 32], SECOND));
        assert!(!verified.note([2; 32], SECOND));
        assert!(verified.note([3; 32], SECOND), "one gave way before its time");
        assert!(!verified.knows(&[1; 32], SECOND) && verified.knows(&[2; 32], SECOND));
        assert!(!verified.note([4; 32], 20 * SECOND), "the time of that one was over");
        assert_eq!(verified.len(), 2);
    }
}
