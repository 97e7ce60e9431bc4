//! The service over HTTP: how it listens and how it proves itself.

pub mod listen;
pub mod tls;
