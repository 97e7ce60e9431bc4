//! The log: events as they lie on disk, in every schema ever, and the seals over them.
//!
//! An entry is written once and read for as long as the service lives. What an event *means* is
//! [`crate::domain::event`]'s matter, and changes with the code; what stands here about the past never does.

pub mod entry;
pub mod schema;
pub mod seal;
mod text;
