//! Header fields as values: names, values, and the edits an operator asks for.

use std::fmt;

/// A header field name: a token (RFC 9110 section 5.6.2), kept as written, compared without case.
#[derive(Clone)]
pub struct FieldName(Box<str>);

/// Why a text is no field name or value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Not a token.
    #[error("a field name is made of letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    /// A control character in a value.
    #[error("a field value cannot contain control characters")]
    Value,
}

/// Whether `byte` may stand in a token (RFC 9110 section 5.6.2).
#[must_use]
pub const fn is_token_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}

impl FieldName {
    /// Takes a token as a field name.
    ///
    /// # Errors
    /// [`FieldError::Name`] when it is no token.
    pub fn new(text: &str) -> Result<Self, FieldError> {
        if text.is_empty() || !text.bytes().all(is_token_byte) {
            return Err(FieldError::Name);
        }
        Ok(Self(Box::from(text)))
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is this name, whatever its case.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        self.0.as_bytes().eq_ignore_ascii_case(name)
    }
}

impl PartialEq for FieldName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for FieldName {}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// A field value without control characters or surrounding white space (RFC 9110 section 5.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldValue(Box<str>);

impl FieldValue {
    /// Takes a text as a field value.
    ///
    /// # Errors
    /// [`FieldError::Value`] when it has a control character.
    pub fn new(text: &str) -> Result<Self, FieldError> {
        if text.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
            return Err(FieldError::Value);
        }
        Ok(Self(Box::from(text.trim_matches([' ', '\t']))))
    }

    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an operator wants changed in the fields of a head: first removed, then set, then added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Fields taken away.
    pub remove: Vec<FieldName>,
    /// Fields that replace all of their name.
    pub set: Vec<(FieldName, FieldValue)>,
    /// Fields put beside those that are there.
    pub add: Vec<(FieldName, FieldValue)>,
}

impl FieldEdits {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Whether a field of this name that came with the message is left out of what goes on.
    #[must_use]
    pub fn drops(&self, name: &[u8]) -> bool {
        self.remove.iter().any(|n| n.matches(name)) || self.set.iter().any(|(n, _)| n.matches(name))
    }
}
