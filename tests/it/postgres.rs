//! Postgres: the schema and its guards, the pools, TLS, and the private cluster.

mod schema;
