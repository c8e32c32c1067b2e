//! Names that an operator gives to listeners, routes, pools and endpoints; not interchangeable.

use std::fmt;
use std::sync::Arc;

/// Longest accepted name in bytes: names become metric labels and file-safe identifiers.
pub const NAME_MAX: usize = 128;

/// Longest name of an endpoint that stands for many: `@` and the longest address go behind it.
pub const LABEL_MAX: usize = NAME_MAX - "@[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535".len();

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The text has more than [`NAME_MAX`] bytes.
    #[error("a name has at most {NAME_MAX} bytes")]
    TooLong,
    /// The text has a character that a name cannot have.
    #[error("a name cannot contain {0:?}")]
    Character(char),
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_MAX {
        return Err(NameError::TooLong);
    }
    // '/' separates pool and endpoint in commands; quotes and spaces would need escaping everywhere.
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.:@[]".contains(*c))) {
        Some(c) => Err(NameError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes `text` as a name.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, too long or has a character outside `A-Za-z0-9-_.:@[]`.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

name_type!(
    /// The name of a listener.
    ListenerName
);
name_type!(
    /// The name of a route.
    RouteName
);
name_type!(
    /// The name of a pool.
    PoolName
);
name_type!(
    /// The name of an endpoint within its pool; its written address unless the operator gave one.
    EndpointName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_takes_what_addresses_need_and_refuses_separators() {
        assert_eq!(EndpointName::new("[::1]:80").map(|n| n.to_string()), Ok("[::1]:80".to_owned()));
        assert_eq!(PoolName::new(""), Err(NameError::Empty));
        assert_eq!(PoolName::new("a/b"), Err(NameError::Character('/')));
        assert_eq!(PoolName::new(&"x".repeat(NAME_MAX + 1)), Err(NameError::TooLong));
    }
}
