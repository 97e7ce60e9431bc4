//! What others write, while a node follows it and answers: how fast it follows, and what those notice who ask it.
//!
//! A follower is measured from the commit of many events to their being in what it answers from. Validation is measured at
//! a fixed rate from another process, from the moment when each request was meant to be sent, with nobody writing and with
//! another node that writes 5,000 events a second. `PORTCULLIS_BENCH_KEYS` asks for another size of the fleet.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use portcullis::credential::key::KEY_CHARS;
use portcullis::credential::root_key::RootKey;
use portcullis::domain::ids::KeyId;
use portcullis::log::append::{self, Appended, Batch};
use portcullis::log::head::Head;
use portcullis::telemetry::Telemetry;
use secrecy::ExposeSecret as _;
use tokio_postgres::Client;

mod support {
    pub(crate) mod cluster;
    pub(crate) mod fleet;
    pub(crate) mod history;
    pub(crate) mod latency;
    pub(crate) mod log;
    pub(crate) mod node;
    pub(crate) mod open_load;
    pub(crate) mod report;
    pub(crate) mod service;
    pub(crate) mod settled;
}

use support::cluster::Cluster;
use support::fleet::Fleet;
use support::history;
use support::log::Filling;
use support::open_load::{OpenLoad, Waited};
use support::report::{Rounds, is_measuring, number, row, say, to_float};
use support::service::{PROGRAM, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const CONNECTIONS: u32 = 32;
/// Validations a second: what leaves two cores room for a writer, a database and whoever asks.
const ASKED: u32 = 2_000;
/// A machine that does not answer so much of that with nobody writing has no p99 to compare with: it is at its end already.
const ANSWERED_MIN: f64 = 0.98;
/// Events a second that another node writes, and how many of them at once.
const WRITTEN: u32 = 5_000;
const BATCH: u32 = 50;

struct Sizes {
    keys: usize,
    followed: usize,
    rounds: usize,
    seconds: f64,
}

fn main() -> anyhow::Result<()> {
    // The process that asks is this program, told so.
    if let Some(load) = OpenLoad::from_arguments()? {
        return load.run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(runtime.spawn(measure()))?
}

async fn measure() -> anyhow::Result<()> {
    let mut sizes = Sizes { keys: 500, followed: 2_000, rounds: 1, seconds: 0.3 };
    if is_measuring() {
        sizes = Sizes { keys: 1_000_000, followed: 200_000, rounds: ROUNDS, seconds: 10.0 };
    }
    if let Ok(keys) = std::env::var("PORTCULLIS_BENCH_KEYS") {
        sizes.keys = keys.replace(['_', ','], "").parse().context("PORTCULLIS_BENCH_KEYS is a number")?;
    }
    let cluster = Cluster::start().await?;
    let folder = tempfile::Builder::new().prefix("portcullis-bench-service-").tempdir()?;
    let (root_key, _) = RootKey::load_or_create(&folder.path().join("root.key"))?;
    let mut fleet = Fleet::new(root_key.derive());
    let credentials = folder.path().join("credentials");
    let keys = fill(&cluster, &mut fleet, sizes.keys, &credentials).await?;
    say(format_args!("filled a log with {} workers and their keys", number(to_float(sizes.keys as u64))));
    follow(&cluster, &mut fleet, &keys, &sizes).await?;

    let data_dir = folder.path().to_owned();
    let service = Service::start(Command::new(PROGRAM), "portcullis", &cluster, Arc::new(folder), &[])?;
    support::settled::wait(&service, &cluster, &data_dir, &fleet.operator_token).await?;
    say(format_args!("the service is up, {} MiB resident", number(service.resident_mebibytes()?)));
    let load = OpenLoad {
        address: service.address.clone(),
        credentials,
        token: fleet.operator_token.expose_secret().to_owned(),
        connections: CONNECTIONS,
        rate: ASKED,
        seconds: sizes.seconds,
        accepted: true,
    };
    validate(&cluster, &mut fleet, &keys, &load, sizes.rounds).await
}

/// Every worker with a key; what they would present goes to a file.
async fn fill(cluster: &Cluster, fleet: &mut Fleet, count: usize, credentials: &Path) -> anyhow::Result<Vec<KeyId>> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(credentials)?);
    let mut filling = Filling::begin(cluster.database.session().await?.client, fleet, count * 2).await?;
    let mut keys = Vec::with_capacity(count);
    for number in 0..count {
        let worker = fleet.worker(number)?;
        filling.push(fleet, &worker).await?;
        let (key, text) = fleet.key(number)?;
        filling.push(fleet, &key).await?;
        debug_assert_eq!(text.expose_secret().len(), KEY_CHARS);
        file.write_all(text.expose_secret().as_bytes())?;
        keys.push(history::key_of(&key)?);
    }
    filling.finish().await?;
    file.flush()?;
    cluster.settle().await?;
    Ok(keys)
}

// === the follower ===

/// A node in this process, and events that become visible to it all at once.
async fn follow(cluster: &Cluster, fleet: &mut Fleet, keys: &[KeyId], sizes: &Sizes) -> anyhow::Result<()> {
    let telemetry = Telemetry::without_exporters()?;
    let metrics = support::node::metrics(&telemetry, &[])?;
    let running = support::node::start(cluster.database.clone(), metrics, fleet.keys.clone()).await?;
    let mut rates = Rounds::default();
    let mut nth = 0;
    for round in 0..sizes.rounds {
        let mut filling = Filling::go_on(cluster.database.session().await?.client, sizes.followed).await?;
        let head = running.heads.borrow().clone();
        (fleet.next_position, fleet.recorded_at) = (head.next_position, head.recorded_at);
        for _ in 0..sizes.followed {
            let recorded = history::event(fleet, nth, keys)?;
            filling.push(fleet, &recorded).await?;
            nth += 1;
        }
        let filled = filling.fill().await?;
        let began = Instant::now();
        filled.commit().await?;
        running.node.reached(fleet.next_position - 1).await;
        let rate = to_float(sizes.followed as u64) / began.elapsed().as_secs_f64();
        say(format_args!("round {round}: followed at {} events/s", number(rate)));
        rates.push(rate);
    }
    running.stop();
    running.task.await?;
    row("a follower, from commit to published", &rates, " events/s", 100_000.0..);
    Ok(())
}

// === validation while others write ===

#[derive(Default)]
struct Series {
    p50: Rounds,
    p99: Rounds,
    p999: Rounds,
}

impl Series {
    fn push(&mut self, waited: &Waited) {
        self.p50.push(waited.p50);
        self.p99.push(waited.p99);
        self.p999.push(waited.p999);
    }

    fn rows(&self, what: &str) {
        row(&format!("{what}, p50"), &self.p50, " ms", ..);
        row("— p99", &self.p99, " ms", ..);
        row("— p99.9", &self.p999, " ms", ..);
    }
}

async fn validate(
    cluster: &Cluster,
    fleet: &mut Fleet,
    keys: &[KeyId],
    load: &OpenLoad,
    rounds: usize,
) -> anyhow::Result<()> {
    let (mut idle, mut busy) = (Series::default(), Series::default());
    let (mut ratio, mut written, mut answered) = (Rounds::default(), Rounds::default(), Rounds::default());
    let program = std::env::current_exe()?;
    let run = || load.run_apart(Command::new(&program));
    // The first seconds are for the caches and the clock of the processor.
    run().await?;
    for round in 0..rounds {
        let alone = run().await?;
        let writer = Writer::connect(cluster, keys).await?;
        let span = Duration::from_secs_f64(load.seconds);
        let (beside, rate) = tokio::join!(run(), writer.write(fleet, span));
        let (beside, rate) = (beside?, rate?);
        say(format_args!(
            "round {round}: p99 {} ms alone, {} ms beside {} events/s; answered {}/s and {}/s of {ASKED}",
            number(alone.p99),
            number(beside.p99),
            number(rate),
            number(alone.rate),
            number(beside.rate)
        ));
        ratio.push(beside.p99 / alone.p99);
        written.push(rate);
        answered.push(alone.rate / f64::from(ASKED));
        idle.push(&alone);
        busy.push(&beside);
    }
    idle.rows(&format!("validation over HTTP, {ASKED}/s from another process, from the intended moment"));
    busy.rows("— while another node writes");
    row("— events that it wrote", &written, "/s", f64::from(WRITTEN) * 0.98..);
    row("— answered of what was asked with nobody writing", &answered, "", ANSWERED_MIN..);
    if answered.median() < ANSWERED_MIN {
        row("— ratio of p99, not judged: the rate was not reached with nobody writing", &ratio, "", ..);
    } else {
        row("— ratio of p99", &ratio, "", ..=2.0);
    }
    Ok(())
}

/// Another node, of which there is only what it appends.
struct Writer<'a> {
    client: Client,
    statement: tokio_postgres::Statement,
    keys: &'a [KeyId],
}

impl<'a> Writer<'a> {
    async fn connect(cluster: &Cluster, keys: &'a [KeyId]) -> anyhow::Result<Self> {
        let client = cluster.database.session().await?.client;
        let statement = append::prepare(&client).await?;
        Ok(Self { client, statement, keys })
    }

    /// For so long, at its rate; answers the rate that came of it.
    async fn write(&self, fleet: &mut Fleet, span: Duration) -> anyhow::Result<f64> {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) * BATCH / WRITTEN);
        let mut count = 0_u32;
        let mut head = Head::read(&self.client).await?;
        append::make_partitions(&self.client, head.next_position + 1_000_000).await?;
        while began.elapsed() < span {
            ticks.tick().await;
            head = self.append(fleet, head, count as usize).await?;
            count += BATCH;
        }
        Ok(f64::from(count) / began.elapsed().as_secs_f64())
    }

    /// One batch, sealed and appended as any writer's; again where the service itself was faster.
    async fn append(&self, fleet: &mut Fleet, mut head: Head, nth: usize) -> anyhow::Result<Head> {
        for _ in 0..100 {
            (fleet.next_position, fleet.recorded_at) = (head.next_position, head.recorded_at);
            let mut batch = Batch::after(&head);
            for at in 0..BATCH as usize {
                let recorded = history::event(fleet, nth + at, self.keys)?;
                batch.push(&recorded, &fleet.keys)?;
            }
            if batch.append(&self.client, &self.statement).await? == Appended::Done {
                return Ok(batch.head().clone());
            }
            head = Head::read(&self.client).await?;
        }
        ensure!(false, "the head keeps moving");
        Ok(head)
    }
}
