//! The tests that need a running part: Postgres, a service, a client. One binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod cli;
mod log;
mod operators;
mod postgres;
mod support;
mod workers;
mod writer;
