//! Who is let in, and when not all can be: `class` (whose turn it is in a queue), `shedding` (which of those who wait are
//! sent away) and `ceiling` (how much an endpoint takes while its pool is not busy).

pub mod ceiling;
pub mod class;
pub mod shedding;
