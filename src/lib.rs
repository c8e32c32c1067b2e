//! Plimsoll, an L4/L7 load balancer and health proxy.

pub mod model;
pub mod telemetry;
pub mod policy;
pub mod route;
pub mod config;
pub mod runtime;
pub mod proxy;
pub mod control;
