//! `[tracing]`: which traces requests belong to.

use super::value::Fields;
use crate::policy::traces::{Accept, Settings};

/// `[tracing]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Whether requests belong to traces.
    pub propagates: bool,
    /// To which.
    pub settings: Settings,
}

impl Tracing {
    /// Reads the section `[tracing]`.
    pub(super) fn read(fields: &Fields) -> Option<Self> {
        let accept = if fields.is_word("accept", "trusted") { Accept::Trusted } else { Accept::All };
        Some(Self {
            propagates: fields.is_word("propagate", "w3c"),
            settings: Settings { accept, sample: fields.get("sample")? },
        })
    }
}
