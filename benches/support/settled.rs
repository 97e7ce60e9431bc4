//! Waiting until a service has done what its first start leaves to be done: its lists are made, its first snapshot is written,
//! and its mirror holds the whole log.
//!
//! For a million workers that takes a core for minutes, and memory at its full speed. Whoever means to measure what comes after,
//! which goes on for months, would measure those minutes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::Client;

use super::cluster::Cluster;
use super::service::Service;

/// Several times what it takes.
const PATIENCE: Duration = Duration::from_mins(10);
/// A log of fewer events is not worth a snapshot soon after a start.
const SNAPSHOT_EVENTS: i64 = 100_000;
/// What a mirror may be behind, or a list: the service's own events go on.
const LAG: u64 = 100;
const MIRROR_LAG: &str = "portcullis_mirror_lag ";
/// How many lists there are, and whether one of them is not where the log is. The service's own events go on.
const BEHIND: &str = "select h.next_position, (select count(*) from projection.cursor) < $1
                          or exists (select 1 from projection.cursor c where c.position + 100 < h.next_position)
                        from log.head h";

/// Of a service with this data directory, as an operator with this token sees it.
pub(crate) async fn wait(
    service: &Service,
    cluster: &Cluster,
    data_dir: &Path,
    token: &SecretString,
) -> anyhow::Result<()> {
    // The client of HTTP asks for one, though nothing here is encrypted. There may be one already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    service.settle().await;
    let client = cluster.database.session().await?.client;
    let began = Instant::now();
    loop {
        let (events, lists_are_behind) = look(&client).await?;
        let is_taken = std::fs::read_dir(data_dir.join("snapshots")).is_ok_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|ending| ending == "roll")))
        });
        let lag = metric(service, token, MIRROR_LAG).await?.context("no lag of a mirror")?;
        if !lists_are_behind && (is_taken || events < SNAPSHOT_EVENTS) && lag <= LAG {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "the lists are not made, no snapshot is written, or the mirror is behind");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How many events the log has, and whether a list is not there yet.
pub(crate) async fn look(client: &Client) -> anyhow::Result<(i64, bool)> {
    let lists = i64::try_from(portcullis::projection::ALL.len())?;
    let row = client.query_one(BEHIND, &[&lists]).await?;
    Ok((row.get(0), row.get(1)))
}

/// The sum of a service's metrics whose lines begin so, if there are any, as an operator with this token sees them.
pub(crate) async fn metric(service: &Service, token: &SecretString, name: &str) -> anyhow::Result<Option<u64>> {
    let url = format!("http://{}/metrics", service.address);
    let asked = reqwest::Client::new().get(url).bearer_auth(token.expose_secret()).send();
    let metrics = asked.await?.error_for_status()?.text().await?;
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    let values = lines.filter_map(|line| line.rsplit(' ').next()).map(str::parse::<u64>);
    let values = values.collect::<Result<Vec<_>, _>>()?;
    Ok((!values.is_empty()).then(|| values.into_iter().sum()))
}
