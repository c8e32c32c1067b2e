//! Plimsoll, an L4/L7 load balancer and health proxy.

pub mod model;
pub mod policy;
pub mod route;
pub mod admin;
pub mod cli;
pub mod config;
pub mod control;
pub mod telemetry;
