//! Timestamps between the domain's microseconds and Postgres.

use chrono::{DateTime, Utc};
use tokio_postgres::Client;

use super::LogFault;
use crate::domain::time::Timestamp;

pub(crate) fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp(at.timestamp_micros())
}

/// The moment as Postgres takes it. What is past chrono's years becomes its last moment: such a time is "never" either way.
pub(crate) fn date_time(at: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// What time the database has.
pub(crate) async fn of_database(client: &Client) -> Result<Timestamp, LogFault> {
    Ok(timestamp(client.query_one(include_str!("clock.sql"), &[]).await?.try_get(0)?))
}
