//! Which route does this request take? Pure: no I/O, no clock, no lock.

use ipnet::IpNet;

use crate::model::field::FieldName;
use crate::model::host::HostPattern;
use crate::model::name::{ListenerName, RouteName};

/// The conditions of one route, all of which must hold.
#[derive(Debug, Clone)]
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

/// What the path must be.
#[derive(Debug, Clone)]
pub enum PathPattern {
    /// Anything.
    Any,
    /// Exactly this.
    Exact(String),
    /// This and whatever lies below it, element by element.
    Prefix(String),
    /// A regular expression, unanchored unless it anchors itself.
    Regex(regex::bytes::Regex),
}

/// What a value must be.
#[derive(Debug, Clone)]
pub enum ValuePattern {
    /// Exactly this.
    Exact(String),
    /// A regular expression, unanchored unless it anchors itself.
    Regex(regex::bytes::Regex),
}
