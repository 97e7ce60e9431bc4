//! Portcullis: the gatehouse of a fleet of workers.
//!
//! Data flows down this list; a module uses what stands below it, never what stands above.

pub mod cli;

pub mod http;

pub mod incident;

pub mod vault;

pub mod webhook;

pub mod command;

pub mod projection;

pub mod node;

pub mod validate;

pub mod log;

pub mod credential;

pub mod postgres;

pub mod domain;

pub mod config;
pub mod secret;
pub mod telemetry;
pub mod turns;
