//! What Portcullis knows and decides, pure: no I/O, no clock, no randomness, nothing of the other modules.
//!
//! A file a noun; [`roll`] is the whole state, [`mod@decide`] the rules. Time, ids and digests of secrets enter as values.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod actor;
pub mod admit;
pub mod certificate;
pub mod command;
pub mod decide;
pub mod enrollment;
pub mod event;
pub mod fence;
pub mod ids;
pub mod incident;
pub mod key;
pub mod netguard;
pub mod operator;
pub mod plan;
pub mod pool;
pub mod readmission;
pub mod refusal;
pub mod roll;
pub mod signing_key;
pub mod time;
pub mod token;
pub mod tripwire;
pub mod webhook;
pub mod worker;

pub use decide::decide;
