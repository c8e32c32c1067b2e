//! What an answer must contain: bytes, or a pattern.

use std::hash::{Hash, Hasher};

use regex::bytes::Regex;

/// What an answer must contain, anywhere.
#[derive(Debug, Clone)]
pub enum Expect {
    /// These bytes.
    Text(Vec<u8>),
    /// A match of this pattern, over bytes (`(?-u)` matches what is not UTF-8); unanchored unless it is anchored.
    Regex(Regex),
}

impl Expect {
    /// A pattern.
    ///
    /// # Errors
    /// That of the pattern.
    pub fn regex(pattern: &str) -> Result<Self, regex::Error> {
        Regex::new(pattern).map(Self::Regex)
    }

    /// Whether `answer` contains it.
    #[must_use]
    pub fn is_in(&self, answer: &[u8]) -> bool {
        match self {
            Self::Text(text) => text.is_empty() || answer.windows(text.len()).any(|part| part == text),
            Self::Regex(pattern) => pattern.is_match(answer),
        }
    }

    /// The kind and the text, which two equal ones share.
    fn written(&self) -> (bool, &[u8]) {
        match self {
            Self::Text(text) => (false, text),
            Self::Regex(pattern) => (true, pattern.as_str().as_bytes()),
        }
    }
}

impl PartialEq for Expect {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Eq for Expect {}

impl Hash for Expect {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.written().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_taken_literally_and_a_pattern_is_not() {
        assert!(Expect::Text(b"+PONG".to_vec()).is_in(b"x+PONG\r\n"));
        assert!(!Expect::Text(b"P.NG".to_vec()).is_in(b"PONG"));
        assert!(Expect::Text(Vec::new()).is_in(b""));
        let pattern = Expect::regex("^220 .*ESMTP").expect("a pattern");
        assert!(pattern.is_in(b"220 mail ESMTP\r\n"));
        assert!(!pattern.is_in(b"550 no ESMTP"));
    }
}
