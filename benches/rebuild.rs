//! The Roll from its log: events a second, every seal checked, as at the start of a service.
//!
//! Its ceiling is reading the same rows, and doing nothing with them.

use std::sync::Arc;
use std::time::Instant;

use futures_util::TryStreamExt;
use portcullis::credential::root_key::{DerivedKeys, RootKey};
use portcullis::domain::ids::LogId;
use portcullis::log::head;
use portcullis::node::replay;
use tokio_postgres::Client;

mod support {
    pub(crate) mod cluster;
    pub(crate) mod fleet;
    pub(crate) mod log;
    pub(crate) mod report;
}

use support::cluster::Cluster;
use support::fleet::Fleet;
use support::log::Filling;
use support::report::{Rounds, is_measuring, number, row, say, to_float};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> anyhow::Result<()> {
    // As a task, and not on the thread that waits for it: so the rows go from the connection's task to the reader's
    // without a switch between threads for every eight KiB.
    tokio::spawn(measure()).await?
}

async fn measure() -> anyhow::Result<()> {
    let events = if is_measuring() { 1_000_000 } else { 2_000 };
    let cluster = Cluster::start().await?;
    let mut fleet = Fleet::new(RootKey::from_bytes([7; 32]).derive());
    let began = Instant::now();
    let client = fill(&cluster, &mut fleet, events).await?;
    let log = head::open(&client, &fleet.keys, None).await?;
    say(format_args!("filled a log of {events} events in {:.1?}", began.elapsed()));

    let (mut folded, mut read, mut ratio) = (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        let reading = read_only(&client).await?;
        let folding = fold(&client, &fleet.keys, log).await?;
        say(format_args!("round {round}: {} events/s, only read {}/s", number(folding), number(reading)));
        read.push(reading);
        folded.push(folding);
        ratio.push(folding / reading);
    }
    row("Roll from 1,000,000 events, every seal checked", &folded, " events/s", 300_000.0..);
    row("— the same rows, only read", &read, " events/s", ..);
    row("— ratio", &ratio, "", ..);
    Ok(())
}

/// Workers, each followed by its key.
async fn fill(cluster: &Cluster, fleet: &mut Fleet, events: usize) -> anyhow::Result<Client> {
    let mut filling = Filling::begin(cluster.database.session().await?.client, fleet, events).await?;
    for number in 0..events / 2 {
        let worker = fleet.worker(number)?;
        filling.push(fleet, &worker).await?;
        let (key, _) = fleet.key(number)?;
        filling.push(fleet, &key).await?;
    }
    let client = filling.finish().await?;
    cluster.settle().await?;
    Ok(client)
}

async fn read_only(client: &Client) -> anyhow::Result<f64> {
    let began = Instant::now();
    // The very statement of the fold: a ceiling of other columns would be the ceiling of other work.
    let statement = include_str!("../src/log/read.sql");
    let mut rows = std::pin::pin!(client.query_raw(statement, [0_i64, i64::MAX]).await?);
    let (mut count, mut bytes) = (0_u64, 0);
    while let Some(row) = rows.try_next().await? {
        count += 1;
        bytes += row.get::<_, &[u8]>(1).len() + row.get::<_, &[u8]>(2).len() + row.get::<_, &[u8]>(3).len();
    }
    anyhow::ensure!(bytes > 0, "the log is not empty");
    Ok(to_float(count) / began.elapsed().as_secs_f64())
}

async fn fold(client: &Client, keys: &Arc<DerivedKeys>, log: LogId) -> anyhow::Result<f64> {
    let began = Instant::now();
    let folded = replay::fold(client, keys, log, None).await?;
    let rate = to_float(folded.roll.next_position()) / began.elapsed().as_secs_f64();
    drop(folded);
    Ok(rate)
}
