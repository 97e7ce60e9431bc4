//! What the tests stand on.

pub(crate) mod cluster;
pub(crate) mod links;
pub(crate) mod node;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod run;
pub(crate) mod runbook;
pub(crate) mod service;
pub(crate) mod terminal;
pub(crate) mod wire;
