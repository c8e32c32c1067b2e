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

/// Fields that say where a message ends or that concern one connection only (RFC 9110 section 7.6.1): they are the
/// proxy's.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a field of this name frames a message or belongs to one connection, also for gateways (CGI, WSGI) that take an
/// underscore for a hyphen.
#[must_use]
pub fn is_framing(name: &str) -> bool {
    let spelt = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    FRAMING.iter().any(|framing| name.bytes().map(spelt).eq(framing.bytes()))
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
    /// Nothing to change.
    pub const NONE: &'static Self = &Self { remove: Vec::new(), set: Vec::new(), add: Vec::new() };

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

/// One change of one head.
#[derive(Debug, Clone, PartialEq, Eq)]
enum OwnEdit<'a> {
    Remove(&'a str),
    Set(&'a str, Vec<u8>),
    Add(&'a str, Vec<u8>),
}

/// What is changed in one head alone, beside what its route changes in all of them. Names are the configuration's or fixed
/// ones; values are made for this head, and one that could end its line is never taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnEdits<'a>(Vec<OwnEdit<'a>>);

impl OwnEdits<'static> {
    /// Nothing to change.
    pub const NONE: &'static Self = &Self(Vec::new());
}

impl<'a> OwnEdits<'a> {
    /// Whether there is nothing to change.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all fields of this name away.
    pub fn remove(&mut self, name: &'a str) {
        self.0.push(OwnEdit::Remove(name));
    }

    /// Replaces all fields of this name; one whose value cannot be a field's is only taken away.
    pub fn set(&mut self, name: &'a str, value: impl Into<Vec<u8>>) {
        self.0.push(match sendable(value.into()) {
            Some(value) => OwnEdit::Set(name, value),
            None => OwnEdit::Remove(name),
        });
    }

    /// Puts a field beside those that are there, unless its value cannot be a field's.
    pub fn add(&mut self, name: &'a str, value: impl Into<Vec<u8>>) {
        self.0.extend(sendable(value.into()).map(|value| OwnEdit::Add(name, value)));
    }

    fn drops(&self, name: &[u8]) -> bool {
        self.0.iter().any(|edit| match edit {
            OwnEdit::Remove(own) | OwnEdit::Set(own, _) => own.as_bytes().eq_ignore_ascii_case(name),
            OwnEdit::Add(..) => false,
        })
    }

    /// Of several that set the same field the last one stands.
    fn given(&self) -> impl Iterator<Item = (&'a str, &[u8])> {
        self.0.iter().enumerate().filter_map(|(at, edit)| match edit {
            OwnEdit::Remove(_) => None,
            OwnEdit::Add(name, value) => Some((*name, value.as_slice())),
            OwnEdit::Set(name, value) => {
                let rest = Self::settled(&self.0[at + 1..], name);
                (!rest).then_some((*name, value.as_slice()))
            }
        })
    }

    /// Whether a field of this name that came with the message is left out of what goes on.
    #[must_use]
    pub fn takes_away(&self, name: &[u8]) -> bool {
        self.drops(name)
    }

    /// The fields that are put into the head.
    pub fn put(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.given().map(|(name, value)| (name.as_bytes(), value))
    }

    fn settled(later: &[OwnEdit<'_>], name: &str) -> bool {
        later.iter().any(|edit| match edit {
            OwnEdit::Remove(other) | OwnEdit::Set(other, _) => other.eq_ignore_ascii_case(name),
            OwnEdit::Add(..) => false,
        })
    }
}

/// A value as it may stand in a field (RFC 9110 section 5.5): without control characters, and without white space around.
fn sendable(value: Vec<u8>) -> Option<Vec<u8>> {
    if value.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return None;
    }
    let trimmed = value.trim_ascii();
    if trimmed.len() == value.len() { Some(value) } else { Some(trimmed.to_vec()) }
}

/// Everything that is changed in the fields of one head: by its route first, then for it alone.
#[derive(Debug, Clone, Copy)]
pub struct HeadEdits<'a> {
    /// By its route.
    pub route: &'a FieldEdits,
    /// For this head alone; goes before the route's where both set the same field.
    pub own: &'a OwnEdits<'a>,
}

impl<'a> HeadEdits<'a> {
    /// Nothing to change.
    pub const NONE: Self = HeadEdits { route: FieldEdits::NONE, own: OwnEdits::NONE };

    /// What a route changes, and nothing else.
    #[must_use]
    pub const fn of(route: &'a FieldEdits) -> Self {
        Self { route, own: OwnEdits::NONE }
    }

    /// Whether there is nothing to change.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.route.is_empty() && self.own.is_empty()
    }

    /// Whether a field of this name that came with the message is left out of what goes on.
    #[must_use]
    pub fn drops(self, name: &[u8]) -> bool {
        self.route.drops(name) || self.own.drops(name)
    }

    /// The names of the fields that are left out of what goes on.
    pub fn dropped(self) -> impl Iterator<Item = &'a str> {
        let route = self.route.remove.iter().chain(self.route.set.iter().map(|(name, _)| name));
        route.map(FieldName::as_str).chain(self.own.0.iter().filter_map(|edit| match edit {
            OwnEdit::Remove(name) | OwnEdit::Set(name, _) => Some(*name),
            OwnEdit::Add(..) => None,
        }))
    }

    /// The fields that are put into the head.
    pub fn given(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let own = self.own;
        let set = self.route.set.iter().filter(|(name, _)| !own.drops(name.as_str().as_bytes()));
        let route =
            set.chain(&self.route.add).map(|(name, value)| (name.as_str(), value.as_str().as_bytes()));
        route.chain(own.given())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(edits: HeadEdits<'_>) -> Vec<(String, String)> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        edits.given().map(|(name, value)| (name.to_owned(), text(value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn field(name: &str, value: &str) -> (FieldName, FieldValue) {
        (FieldName::new(name).expect("a name"), FieldValue::new(value).expect("a value"))
    }

    #[test]
    fn what_is_set_for_one_head_goes_before_what_its_route_sets_in_all() {
        let route = FieldEdits {
            remove: Vec::new(),
            set: vec![field("X-Tier", "web"), field("X-Zone", "a")],
            add: vec![field("Via", "1.1 us")],
        };
        let mut own = OwnEdits::default();
        own.set("x-tier", "canary");
        own.add("via", "1.1 them");
        own.remove("cookie");
        let edits = HeadEdits { route: &route, own: &own };
        assert!(edits.drops(b"Cookie") && edits.drops(b"x-zone") && edits.drops(b"X-TIER"));
        assert!(!edits.drops(b"via"));
        assert_eq!(
            given(edits),
            pairs(&[("X-Zone", "a"), ("Via", "1.1 us"), ("x-tier", "canary"), ("via", "1.1 them")])
        );
    }

    #[test]
    fn of_several_that_set_the_same_field_the_last_one_stands() {
        let mut own = OwnEdits::default();
        own.set("cookie", "a=1; b=2");
        own.set("Cookie", "b=2");
        own.set("x-gone", "1");
        own.remove("x-gone");
        let edits = HeadEdits { route: FieldEdits::NONE, own: &own };
        assert_eq!(given(edits), pairs(&[("Cookie", "b=2")]));
        assert!(edits.drops(b"x-gone"));
    }

    #[test]
    fn a_value_that_could_end_its_line_is_never_taken() {
        let mut own = OwnEdits::default();
        own.set("x-path", "/a\r\nX-Evil: 1");
        own.add("x-other", "a\0b");
        own.add("x-fine", " caf\u{e9}\tb ");
        let edits = HeadEdits { route: FieldEdits::NONE, own: &own };
        assert_eq!(given(edits), pairs(&[("x-fine", "caf\u{e9}\tb")]));
        assert!(edits.drops(b"x-path"));
    }
}
