//! What a route changes in the fields of a head: at once where it is the same for every request, else by templates.

use super::template::Template;
use crate::model::field::{FieldEdits, FieldName};

/// Changes to a head, in this order: fields are removed, renamed, set, added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// What is the same for every request.
    pub fixed: FieldEdits,
    /// Fields that get another name, each value of theirs beside those that have that name already.
    pub rename: Vec<(FieldName, FieldName)>,
    /// Fields that replace all of their name; one whose value comes out empty only takes the others away.
    pub set: Vec<(FieldName, Template)>,
    /// Fields put beside those that are there; not where the value comes out empty.
    pub add: Vec<(FieldName, Template)>,
}

impl Edits {
    /// Whether every request gets the same ones.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.rename.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.is_fixed()
    }
}
