//! What counts as a failure of an endpoint: the words that ejection, breaker and retry share.

use super::retry::Failure;

/// A set of failures, as `count` and `on` list them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counted {
    /// No connection could be made.
    pub connect: bool,
    /// Closed before a complete response head.
    pub reset: bool,
    /// No response head in time.
    pub timeout: bool,
    /// Statuses of the answer, sorted, inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
}

/// What the end of an attempt says about its endpoint. The client's own abort is never shown to a policy as an end: it
/// says nothing, and a place that was held for the attempt is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It answered, and not with a status that counts: a 404 comes from an endpoint that works.
    Good,
    /// A failure that counts.
    Bad,
    /// A failure that the settings say not to count; no sign of health either.
    Nothing,
}

impl Counted {
    /// Whether this failure is in the set.
    #[must_use]
    pub fn has(&self, failure: Failure) -> bool {
        match failure {
            Failure::Connect => self.connect,
            Failure::Reset => self.reset,
            Failure::Timeout => self.timeout,
            Failure::Status(status) => {
                self.statuses.iter().any(|(low, high)| (*low..=*high).contains(&status))
            }
        }
    }

    /// What an attempt that ended in `failure` says, where this set is what counts. Any status may be asked about.
    #[must_use]
    pub fn evidence(&self, failure: Failure) -> Evidence {
        match failure {
            _ if self.has(failure) => Evidence::Bad,
            Failure::Status(_) => Evidence::Good,
            Failure::Connect | Failure::Reset | Failure::Timeout => Evidence::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_counts_only_where_it_is_listed() {
        let count = Counted { connect: true, statuses: vec![(429, 429), (500, 599)], ..Counted::default() };
        for (failure, want) in [
            (Failure::Connect, Evidence::Bad),
            (Failure::Reset, Evidence::Nothing),
            (Failure::Timeout, Evidence::Nothing),
            (Failure::Status(200), Evidence::Good),
            (Failure::Status(404), Evidence::Good),
            (Failure::Status(429), Evidence::Bad),
            (Failure::Status(499), Evidence::Good),
            (Failure::Status(500), Evidence::Bad),
            (Failure::Status(599), Evidence::Bad),
        ] {
            assert_eq!(count.evidence(failure), want, "{failure:?}");
        }
    }
}
