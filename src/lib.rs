//! Portcullis: the gatehouse of a fleet of workers.

pub mod credential;
pub mod domain;
pub mod log;
pub mod postgres;
pub mod secret;
