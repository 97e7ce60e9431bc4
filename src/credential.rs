//! Credentials: how they look, what is kept of them, and the keys by which that is made.
//!
//! Everything secret here stems from one root key that is not in the database. What the database holds (verifiers,
//! sealed signing keys, sealed outcomes) is worth nothing without it.

pub mod idempotency;
pub mod key;
pub mod root_key;
pub mod seal;
pub mod signing_key;
pub mod strength;
pub mod token;
pub mod verifier;

#[cfg(test)]
mod golden;
