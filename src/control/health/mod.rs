//! Active health checks. [`probe`] makes one probe of one endpoint and says what it came to; who is probed when, and
//! what follows from it, is not its business.

pub mod probe;
