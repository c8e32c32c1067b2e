//! Which route does this request take? Pure: no I/O, no clock, no lock.
//!
//! The map: `rule` (what is written), `path` and `host` (the forms that are compared), `precedence` (who is asked
//! first), `path_tree` and `host_index` (finding without asking everyone), `condition` (everything beside host and
//! path), `table` (all of it for one listener), `sni` (tcp listeners, by name alone), `explain` (the same question, answered with reasons),
//! `shadow` (routes that nothing can reach).
//! What becomes of a request that has taken one: `template` (text with variables in it), `rewrite` (another target) and `edits` (other fields).
//!
//! # What is compared
//! **Hosts** are compared in lower case, without port and without the dot at the end of a full name.
//!
//! **Paths** are compared in a normal form: escapes of unreserved characters decoded, dot segments resolved, repeated
//! slashes merged (`path::normalize` has the details). Otherwise `//admin`, `/./admin`, `/x/../admin` and `/%61dmin`
//! would all slip past a route for `/admin` and be served as `/admin` by the origin behind some wider route. The
//! path that goes on to the endpoint stays as it was sent. Patterns are brought into the same form; a regular
//! expression sees the normal form. A path that is in normal form already, as nearly every one is, is neither
//! copied nor changed.
//!
//! What this does not do: `%2F` is not `/`, `\` is not `/`, and `..;x` is no dot segment. Origins differ there, so a
//! route is no access control for an origin that reads those its own way.

mod condition;
pub mod edits;
mod explain;
mod host;
mod host_index;
pub mod path;
mod path_tree;
mod pattern;
mod precedence;
pub mod rewrite;
mod rule;
pub mod shadow;
mod sni;
mod table;
pub mod template;

pub use condition::{cookie_values, query_values};
pub use explain::{Candidate, Verdict};
pub use pattern::Pattern;
pub use rule::{PathPattern, Rule, ValuePattern};
pub use sni::SniTable;
pub use table::Table;

#[cfg(test)]
mod tests;
