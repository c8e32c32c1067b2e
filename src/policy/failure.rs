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
}
