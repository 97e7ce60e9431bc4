//! The Roll from its log: events a second, every seal checked, as at the start of a service.
//!
//! Its ceiling is reading the same rows on a thread like the one that reads them for the fold, and doing nothing with them.

use std::sync::Arc;
use std::time::Instant;

use portcullis::credential::root_key::{DerivedKeys, RootKey};
use portcullis::domain::ids::LogId;
use portcullis::log::head;
use portcullis::node::{background, replay};
use portcullis::postgres::Database;
use tokio_postgres::Client;

mod support {
    pub(crate) mod cluster;
    pub(crate) mod fleet;
    pub(crate) mod log;
    pub(crate) mod reading;
    pub(crate) mod report;
}

use support::cluster::Cluster;
use support::fleet::Fleet;
use support::log::Filling;
use support::reading::read_all;
use support::report::{Rounds, is_measuring, number, row, say, to_float};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let events = if is_measuring() { 1_000_000 } else { 2_000 };
    let cluster = Cluster::start().await?;
    let mut fleet = Fleet::new(RootKey::from_bytes([7; 32]).derive());
    let began = Instant::now();
    let client = fill(&cluster, &mut fleet, events).await?;
    let log = head::open(&client, &fleet.keys, None).await?;
    say(format_args!("filled a log of {events} events in {:.1?}", began.elapsed()));

    let (mut folded, mut read, mut ratio) = (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        let (count, took) = read_all(cluster.database.clone()).await?;
        let reading = to_float(count) / took.as_secs_f64();
        let folding = background::apart("folding", fold(cluster.database.clone(), fleet.keys.clone(), log)).await??;
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

async fn fold(database: Database, keys: Arc<DerivedKeys>, log: LogId) -> anyhow::Result<f64> {
    let client = database.session().await?.client;
    let began = Instant::now();
    let folded = replay::fold(&client, &keys, log, None).await?;
    let rate = to_float(folded.roll.next_position()) / began.elapsed().as_secs_f64();
    drop(folded);
    Ok(rate)
}
