//! What Portcullis knows and decides, pure: no I/O, no clock, no randomness, nothing of the other modules.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod ids;
