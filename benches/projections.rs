//! All projections from their log, as after a lost database of them: fold, render, write, index.
//!
//! The ceiling of a rebuild is the same rows copied from table to table inside Postgres, with their indexes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::credential::root_key::{DerivedKeys, RootKey};
use portcullis::domain::ids::LogId;
use portcullis::domain::roll::Roll;
use portcullis::log::head;
use portcullis::node::{MAX_STALE_DEFAULT, Node, replay};
use portcullis::projection::build::{self, Haste, Progress};
use portcullis::projection::{ALL, Projection};
use portcullis::validate::Snapshot;
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

const ROUNDS: usize = 3;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> anyhow::Result<()> {
    // As a task, and not on the thread that waits for it, as in the service.
    tokio::spawn(measure()).await?
}

async fn measure() -> anyhow::Result<()> {
    let events = match std::env::var("PORTCULLIS_BENCH_EVENTS") {
        Ok(events) => events.parse()?,
        Err(_) if is_measuring() => 1_000_000,
        Err(_) => 2_000,
    };
    let cluster = Cluster::start().await?;
    let mut fleet = Fleet::new(RootKey::from_bytes([7; 32]).derive());
    let began = Instant::now();
    let client = fill(&cluster, &mut fleet, events).await?;
    let log = head::open(&client, &fleet.keys, None).await?;
    say(format_args!("filled a log of {events} events in {:.1?}", began.elapsed()));

    let (mut whole, mut folding, mut ceiling, mut ratio) =
        (Rounds::default(), Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..ROUNDS {
        let began = Instant::now();
        let snapshot = fold(&client, &fleet.keys, log).await?;
        let (events, folded) = (snapshot.roll.next_position(), began.elapsed().as_secs_f64());
        for projection in &ALL {
            rebuild(&cluster, projection, &snapshot).await?;
        }
        let rebuilt = began.elapsed().as_secs_f64();
        drop(snapshot);
        let copied = copy_all(&cluster).await?;
        let rate = number(to_float(events) / rebuilt);
        let [all, fold, copy] = [rebuilt, folded, copied].map(number);
        say(format_args!(
            "round {round}: {all} s ({rate} events/s), of which the fold {fold} s; the same rows copied {copy} s"
        ));
        whole.push(rebuilt);
        folding.push(folded);
        ceiling.push(copied);
        ratio.push(copied / (rebuilt - folded));
    }
    // The goal is one of that size.
    let goal = if events == 1_000_000 { 60.0 } else { f64::INFINITY };
    row(&format!("all projections from {events} events"), &whole, " s", ..=goal);
    row("— of which the fold of the log", &folding, " s", ..);
    row("— the same rows and indexes, copied inside Postgres", &ceiling, " s", ..);
    row("— ratio to that, without the fold", &ratio, "", ..);
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

async fn fold(client: &Client, keys: &Arc<DerivedKeys>, log: LogId) -> anyhow::Result<Arc<Snapshot>> {
    let roll: Roll = replay::fold(client, keys, log, None).await?.roll;
    Ok(Node::new(keys.clone(), roll, MAX_STALE_DEFAULT)?.snapshot())
}

async fn rebuild(cluster: &Cluster, projection: &'static Projection, snapshot: &Arc<Snapshot>) -> anyhow::Result<()> {
    let progress = Arc::new(Progress::default());
    let position = build::build(&cluster.database, projection, snapshot.clone(), progress.clone(), Haste::Full).await?;
    let mut session = cluster.database.session().await?;
    build::switch(&mut session.client, projection, &[], position, Duration::from_secs(1)).await?;
    let (done, total) = progress.rows();
    anyhow::ensure!(done == total, "{} has {done} of {total} rows", projection.name);
    Ok(())
}

/// Seconds for what no rebuild can do without: the rows, written and indexed.
async fn copy_all(cluster: &Cluster) -> anyhow::Result<f64> {
    let client = cluster.database.session().await?.client;
    client.batch_execute("set statement_timeout to 0; set synchronous_commit to off").await?;
    client.batch_execute("set maintenance_work_mem to '128MB'").await?;
    let began = Instant::now();
    for projection in &ALL {
        let (tables, indexes) = projection.definition();
        let copy = "pools_0";
        client.execute("select projection.make_schema($1)", &[&copy]).await?;
        client.batch_execute(&format!("set search_path to {copy}")).await?;
        for (table, definition) in tables {
            client.batch_execute(definition).await?;
            client.batch_execute(&format!("insert into {table} select * from {}.{table}", projection.schema())).await?;
        }
        client.batch_execute(indexes).await?;
        client.execute("select projection.drop_schema($1)", &[&copy]).await?;
    }
    Ok(began.elapsed().as_secs_f64())
}
