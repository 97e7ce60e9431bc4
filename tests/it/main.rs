//! The tests that need a running part: Postgres, a service, a client. One binary, so that it is linked once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod bodies;
mod canary;
mod chaos;
mod cli;
mod clock;
mod coverage;
mod crash;
mod curl;
mod disk;
mod embedded;
mod faults;
mod incidents;
mod log;
mod mirror;
mod nginx;
mod nodes;
mod operators;
mod otlp;
mod overload;
mod plans;
mod postgres;
mod projections;
mod python;
mod readme;
mod restore;
mod rights;
mod schemathesis;
mod scope;
mod snapshots;
mod standby;
mod support;
mod unwritten;
mod went_back;
mod workers;
mod writer;
