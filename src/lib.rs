//! Portcullis: the gatehouse of a fleet of workers.

pub mod config;
pub mod credential;
pub mod domain;
pub mod http;
pub mod log;
pub mod postgres;
pub mod secret;
pub mod telemetry;
