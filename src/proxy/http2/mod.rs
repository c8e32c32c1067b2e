//! HTTP/2, by the h2 crate: connections to endpoints that carry many requests at once, and one of those requests.

mod encode;
pub mod half;
pub mod upstream;
