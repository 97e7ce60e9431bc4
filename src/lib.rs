//! Portcullis: the gatehouse of a fleet of workers.

pub mod config;
pub mod domain;
pub mod http;
pub mod telemetry;
