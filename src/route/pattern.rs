//! A regular expression that can be compared with another one, which a configuration needs of all its parts.

use std::fmt;
use std::ops::Deref;

use regex::bytes::Regex;

/// A compiled regular expression over bytes; equal to another one when they were written alike.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Self {
        Self(regex)
    }
}

impl Deref for Pattern {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_equal_when_they_are_written_alike() {
        let pattern = |text: &str| Pattern::from(Regex::new(text).expect("a regex"));
        assert_eq!(pattern("^/a+$"), pattern("^/a+$"));
        assert_ne!(pattern("^/a+$"), pattern("^/aa*$"));
        assert!(pattern("^/a+$").is_match(b"/aaa"));
    }
}
