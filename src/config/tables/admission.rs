//! The keys that say who is let in when not all can be, as data.

use super::super::key::{Given, Key, Kind, Word};
use Given::Default;

/// `priority_class` of a route.
pub(super) const PRIORITY_CLASS: Key = Key::new(
    "priority_class",
    Kind::Choice(&[Word::new("high"), Word::new("normal"), Word::new("low")]),
    Default(r#""normal""#),
    "Whose turn it is where requests wait for an endpoint: high before normal before low, each first come first served; one \
     place in 16 goes to whoever has waited longest, so that no class waits for ever.",
);
