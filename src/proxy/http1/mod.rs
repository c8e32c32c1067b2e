//! HTTP/1.0 and HTTP/1.1 on both sides: strict framing, heads parsed in place, bodies that pass without a copy.

pub mod answer;
pub mod chunked;
pub mod client_half;
pub mod crossing;
pub mod encode;
pub mod exchange;
pub mod fields;
pub mod half;
pub mod head;
pub mod outgoing;
pub mod scan;
pub mod serve;
mod translate;
pub mod tunnel;
pub mod upload;
