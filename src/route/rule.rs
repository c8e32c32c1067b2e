//! What an operator writes as the conditions of a route. How they are compared is `condition` and `path`;
//! which of several routes comes first is `precedence`.

use ipnet::IpNet;

use super::pattern::Pattern;
use crate::model::field::FieldName;
use crate::model::host::HostPattern;
use crate::model::name::{ListenerName, RouteName};

/// The conditions of one route, all of which must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: RouteName,
    /// Higher is asked first.
    pub priority: i32,
    /// Listeners that it serves; empty is every http listener.
    pub listeners: Vec<ListenerName>,
    /// Hosts; empty is any.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// Methods, as written; empty is any.
    pub methods: Vec<String>,
    /// Fields and what one of their values must be.
    pub headers: Vec<(FieldName, ValuePattern)>,
    /// Query parameters (undecoded) and what one of their values must be.
    pub query: Vec<(String, ValuePattern)>,
    /// Cookies and what one of their values must be.
    pub cookies: Vec<(String, ValuePattern)>,
    /// Networks of the client; empty is any.
    pub source: Vec<IpNet>,
}

/// What the path must be. Texts start with `/`; both they and the path are compared in the form that
/// [`super::path::normalize`] gives.
#[derive(Debug, Clone, PartialEq)]
pub enum PathPattern {
    /// Anything; also the only one that `OPTIONS *` can match beside a regular expression.
    Any,
    /// Exactly this; `/a` and `/a/` are two paths.
    Exact(String),
    /// This and whatever lies below it, element by element: `/v1` and `/v1/` both take `/v1`, `/v1/` and
    /// `/v1/x` and leave `/v1x` (Gateway API, `PathMatchPathPrefix`). `/` is [`PathPattern::Any`].
    Prefix(String),
    /// A regular expression, unanchored unless it anchors itself.
    Regex(Pattern),
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum ValuePattern {
    /// Exactly this.
    Exact(String),
    /// A regular expression, unanchored unless it anchors itself.
    Regex(Pattern),
}

impl ValuePattern {
    /// Whether `value` is what it must be; values are compared as received, with case.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl Rule {
    /// How many conditions there are beside host and path: methods, each field, query parameter and cookie, source.
    #[must_use]
    pub fn condition_count(&self) -> usize {
        usize::from(!self.methods.is_empty())
            + self.headers.len()
            + self.query.len()
            + self.cookies.len()
            + usize::from(!self.source.is_empty())
    }
}
