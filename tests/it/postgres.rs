//! Postgres: the schema and its guards, the pools, TLS, and the private cluster.

mod connections;
mod embedded;
mod schema;
mod tls;
