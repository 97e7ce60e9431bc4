//! Portcullis: the gatehouse of a fleet of workers.

pub mod domain;
pub mod postgres;
