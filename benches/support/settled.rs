//! Waiting until a service has done what its first start leaves to be done: its lists are made, its first snapshot is written.
//!
//! For a million workers that takes a core for a minute, and memory at its full speed. Whoever means to measure what comes after,
//! which goes on for months, would measure that minute.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::cluster::Cluster;
use super::service::Service;

/// Several times what it takes.
const PATIENCE: Duration = Duration::from_mins(10);
/// A log of fewer events is not worth a snapshot soon after a start.
const SNAPSHOT_EVENTS: i64 = 100_000;
/// How many lists there are, and whether one of them is not where the log is. The service's own events go on.
const BEHIND: &str = "select h.next_position, (select count(*) from projection.cursor) < $1
                          or exists (select 1 from projection.cursor c where c.position + 100 < h.next_position)
                        from log.head h";

/// Of a service with this data directory.
pub(crate) async fn wait(service: &Service, cluster: &Cluster, data_dir: &Path) -> anyhow::Result<()> {
    service.settle().await;
    let client = cluster.database.session().await?.client;
    let lists = i64::try_from(portcullis::projection::ALL.len())?;
    let began = Instant::now();
    loop {
        let row = client.query_one(BEHIND, &[&lists]).await?;
        let (events, lists_are_behind): (i64, bool) = (row.get(0), row.get(1));
        let is_taken = std::fs::read_dir(data_dir.join("snapshots")).is_ok_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|ending| ending == "roll")))
        });
        if !lists_are_behind && (is_taken || events < SNAPSHOT_EVENTS) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "the lists are not made, or no snapshot is written");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
