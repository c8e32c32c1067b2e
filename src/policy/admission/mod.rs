//! Who is let in, and when not all can be: `class` (whose turn it is in a queue), `shedding` (which of those who wait are
//! sent away) `ceiling` (how much an endpoint takes while its pool is not busy),
//! `gradient` (how much it takes by how long it takes to answer) and `overload` (what a process that runs
//! short gives up first).

pub mod ceiling;
pub mod class;
pub mod gradient;
pub mod overload;
pub mod shedding;
