//! The ceiling of whatever folds a log: its rows, read as a start reads them, and nothing done with them. Other rows, or read
//! otherwise, would be the ceiling of other work.

use std::time::{Duration, Instant};

use anyhow::ensure;
use portcullis::log::head::Head;
use portcullis::log::read::{self, ChunkMax};
use portcullis::node::background;
use portcullis::postgres::Database;

/// As many as the fold takes at a time.
const CHUNK_EVENTS: u64 = 1_024;

/// How many rows there are, and how long they took.
pub(crate) async fn read_all(database: Database) -> anyhow::Result<(u64, Duration)> {
    background::apart("reading", read_here(database)).await?
}

async fn read_here(database: Database) -> anyhow::Result<(u64, Duration)> {
    let client = database.session().await?.client;
    client.batch_execute("set statement_timeout = 0").await?;
    let (began, end) = (Instant::now(), Head::read(&client).await?.next_position);
    let mut count = 0;
    read::stream_copied(&client, 0, end, ChunkMax::events(CHUNK_EVENTS), |rows| {
        count += rows.len() as u64;
        std::future::ready(Some(rows.emptied()))
    })
    .await?;
    ensure!(count == end && count > 0, "all of the log was read");
    Ok((count, began.elapsed()))
}
