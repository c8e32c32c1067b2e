//! What limits tell requests apart by: parts of a request, each with its text form.

use std::fmt;

use super::field::{FieldName, is_token_byte};

/// One part of the key of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitPart {
    /// The client's network, after trust has been applied.
    Source,
    /// The first value of a header.
    Header(FieldName),
    /// The first value of a cookie.
    Cookie(Box<str>),
    /// The first value of a query parameter, as it is sent.
    Query(Box<str>),
    /// The path, in the form in which routes compare it.
    Path,
    /// The host, without its port and in lower case.
    Host,
    /// The listener.
    Listener,
    /// Nothing: all requests count together.
    Global,
}

/// Why a text is no part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitPartError {
    /// None of the words.
    #[error("it is none of the possible keys")]
    Unknown,
    /// The name behind the colon is none.
    #[error("no name can be read behind the colon")]
    Name,
}

impl LimitPart {
    /// The texts that [`LimitPart::parse`] reads, for people.
    pub const FORMS: &str = "\"source\", \"header:NAME\", \"cookie:NAME\", \"query:NAME\", \"path\", \"host\", \"listener\" or \"global\"";

    /// Reads a part such as `source` or `header:x-api-key`.
    ///
    /// # Errors
    /// [`LimitPartError`] when it is none.
    pub fn parse(text: &str) -> Result<Self, LimitPartError> {
        match text.split_once(':') {
            Some(("header", name)) => {
                FieldName::new(name).map(Self::Header).map_err(|_| LimitPartError::Name)
            }
            Some(("cookie", name)) => match name.bytes().all(is_token_byte) && !name.is_empty() {
                true => Ok(Self::Cookie(name.into())),
                false => Err(LimitPartError::Name),
            },
            Some(("query", name)) => match name.bytes().all(|b| b.is_ascii_graphic()) && !name.is_empty() {
                true => Ok(Self::Query(name.into())),
                false => Err(LimitPartError::Name),
            },
            _ => [Self::Source, Self::Path, Self::Host, Self::Listener, Self::Global]
                .into_iter()
                .find(|part| part.to_string() == text)
                .ok_or(LimitPartError::Unknown),
        }
    }
}

impl fmt::Display for LimitPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("source"),
            Self::Header(name) => write!(f, "header:{}", name.as_str()),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
            Self::Host => f.write_str("host"),
            Self::Listener => f.write_str("listener"),
            Self::Global => f.write_str("global"),
        }
    }
}

/// The whole key of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitKey {
    /// Its parts, joined; at least one.
    pub parts: Vec<LimitPart>,
    /// Bits of an IPv4 address that tell clients apart.
    pub prefix_v4: u8,
    /// Bits of an IPv6 address that do.
    pub prefix_v6: u8,
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts.iter().enumerate() {
            write!(f, "{}{part}", if at == 0 { "" } else { " + " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_and_write_the_same_text() {
        for text in ["source", "header:X-Key", "cookie:sid", "query:q", "path", "host", "listener", "global"]
        {
            assert_eq!(LimitPart::parse(text).map(|part| part.to_string()).as_deref(), Ok(text));
        }
        for (text, error) in [
            ("", LimitPartError::Unknown),
            ("ip", LimitPartError::Unknown),
            ("header", LimitPartError::Unknown),
            ("header:", LimitPartError::Name),
            ("cookie:a;b", LimitPartError::Name),
            ("query:", LimitPartError::Name),
        ] {
            assert_eq!(LimitPart::parse(text), Err(error), "{text}");
        }
    }
}
