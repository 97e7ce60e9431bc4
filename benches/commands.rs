//! Durable commands through the writer, at 1, 32 and 128 callers that each wait for one answer before they ask again.
//!
//! Two things are measured in turn with them, at as many clients. The flush floor: a transaction that holds nothing but
//! its own record. And what a service without an order would do: a transaction a command, each inserting one row of the
//! shape of an event into a plain table with the same indexes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;
use portcullis::command::{CommandQueue, Wish, mint};
use portcullis::credential::root_key::RootKey;
use portcullis::domain::actor::Author;
use portcullis::domain::command::{Command, Context, CreateWorker};
use portcullis::domain::ids::CommandId;
use portcullis::domain::worker::Labels;
use portcullis::telemetry::Telemetry;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

mod support {
    pub(crate) mod cluster;
    pub(crate) mod fleet;
    pub(crate) mod latency;
    pub(crate) mod log;
    pub(crate) mod node;
    pub(crate) mod report;
}

use support::cluster::Cluster;
use support::fleet::{Fleet, worker_id};
use support::latency::percentile;
use support::log::Filling;
use support::report::{Rounds, is_measuring, number, row, say, to_float};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
/// Workers and keys that are there before: a writer's work must not depend on how large the Roll is.
const FLEET: usize = 50_000;

/// How one round went: calls a second, and milliseconds.
struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
}

/// The rounds of one kind at one number of callers.
#[derive(Default)]
struct Series {
    rate: Rounds,
    p50: Rounds,
    p99: Rounds,
}

struct Bench {
    cluster: Cluster,
    queue: CommandQueue,
    author: Author,
    span: Duration,
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> anyhow::Result<()> {
    let (span, fleet_size) =
        if is_measuring() { (Duration::from_secs(2), FLEET) } else { (Duration::from_millis(50), 10) };
    let cluster = Cluster::start().await?;
    let mut fleet = Fleet::new(RootKey::from_bytes([7; 32]).derive());
    let mut filling = Filling::begin(cluster.database.session().await?.client, &mut fleet, fleet_size * 2).await?;
    for number in 0..fleet_size {
        let worker = fleet.worker(number)?;
        filling.push(&fleet, &worker).await?;
        let (key, _) = fleet.key(number)?;
        filling.push(&fleet, &key).await?;
    }
    filling.finish().await?;
    cluster.settle().await?;
    let telemetry = Telemetry::without_exporters()?;
    let metrics = support::node::metrics(&telemetry, &[])?;
    let running = support::node::start(cluster.database.clone(), metrics, fleet.keys.clone()).await?;
    cluster.owner().await?.batch_execute(PLAIN_TABLE).await?;

    let bench = Bench { cluster, queue: running.queue.clone(), author: fleet.author(), span };
    for callers in [1, 32, 128] {
        bench.compare(callers).await?;
    }
    running.stop();
    running.task.await.context("the writer broke off")
}

impl Bench {
    async fn compare(&self, callers: usize) -> anyhow::Result<()> {
        let (mut floor, mut unordered, mut writer) = (Series::default(), Series::default(), Series::default());
        let (mut to_floor, mut to_unordered) = (Rounds::default(), Rounds::default());
        for round in 0..ROUNDS {
            let flushed = self.flush_floor(callers).await?;
            let inserted = self.unordered(callers).await?;
            let commanded = self.writer(callers).await?;
            say(format_args!(
                "{callers} callers, round {round}: {} commands/s, flush floor {}/s, unordered {}/s",
                number(commanded.rate),
                number(flushed.rate),
                number(inserted.rate),
            ));
            to_floor.push(commanded.rate / flushed.rate);
            to_unordered.push(commanded.rate / inserted.rate);
            floor.push(&flushed);
            unordered.push(&inserted);
            writer.push(&commanded);
        }
        // The goals are for 32.
        let (p99_most, ratio_least) = if callers == 32 { (5.0, 1.4) } else { (f64::INFINITY, 0.0) };
        writer.rows(&format!("durable commands, {callers} callers"), p99_most);
        floor.rows("— flush floor", f64::INFINITY);
        unordered.rows("— one unordered transaction each", f64::INFINITY);
        row("— ratio to the flush floor", &to_floor, "", ..);
        row("— ratio to unordered transactions", &to_unordered, "", ratio_least..);
        Ok(())
    }

    async fn flush_floor(&self, callers: usize) -> anyhow::Result<Round> {
        let clients = self.clients(callers, "select pg_logical_emit_message(true, 'bench', 'x')").await?;
        measure(clients.into_iter().map(Flusher).collect(), self.span).await
    }

    async fn unordered(&self, callers: usize) -> anyhow::Result<Round> {
        let clients = self.clients(callers, INSERT).await?;
        measure(clients.into_iter().map(Inserter).collect(), self.span).await
    }

    async fn writer(&self, callers: usize) -> anyhow::Result<Round> {
        let caller = || Commander { queue: self.queue.clone(), author: self.author.clone() };
        measure((0..callers).map(|_| caller()).collect(), self.span).await
    }

    /// Connections that have the statement prepared.
    async fn clients(&self, count: usize, statement: &str) -> anyhow::Result<Vec<(Client, Statement)>> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let client = self.cluster.owner().await?;
            let statement = client.prepare(statement).await?;
            clients.push((client, statement));
        }
        Ok(clients)
    }
}

/// Somebody who asks for one thing and waits until it is durable.
trait Caller: Send + Sync + 'static {
    fn call(&self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

struct Flusher((Client, Statement));

impl Caller for Flusher {
    async fn call(&self) -> anyhow::Result<()> {
        let (client, statement) = &self.0;
        client.query_one(statement, &[]).await?;
        Ok(())
    }
}

struct Commander {
    queue: CommandQueue,
    author: Author,
}

impl Caller for Commander {
    async fn call(&self) -> anyhow::Result<()> {
        static WORKERS: AtomicUsize = AtomicUsize::new(FLEET);
        let create = CreateWorker {
            worker: worker_id(WORKERS.fetch_add(1, Ordering::Relaxed))?,
            pool: "default".parse()?,
            name: None,
            labels: Labels::new(),
            expires_at: None,
            pending: false,
            static_secret: None,
        };
        let wish = Wish {
            id: CommandId::from_uuid(mint::id()),
            fingerprint: None,
            command: Command::CreateWorker(create),
            context: Context { now: mint::now(), author: self.author.clone(), reason: None, incident: None },
            answer: Arc::new(|_, done| serde_json::json!({ "position": done.position })),
            sealed: None,
            dry_run: false,
        };
        let outcome = self.queue.submit(wish).await?;
        anyhow::ensure!(outcome.changed, "the worker was there before");
        Ok(())
    }
}

/// Like the log's table, with its checks and indexes, and without its order, partitions, head and seals.
const PLAIN_TABLE: &str = "create schema bench; create table bench.event (like log.event including all)";
const INSERT: &str = "insert into bench.event values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

struct Inserter((Client, Statement));

impl Caller for Inserter {
    async fn call(&self) -> anyhow::Result<()> {
        static POSITIONS: AtomicI64 = AtomicI64::new(0);
        let (client, statement) = &self.0;
        let position = POSITIONS.fetch_add(1, Ordering::Relaxed);
        let worker = worker_id(usize::try_from(position)?)?;
        let entry = ENTRY.replace("0050000", &format!("{position:07}"));
        let command = Uuid::from_u128(mint::id().as_u128());
        let none = None::<&str>;
        client
            .execute(
                statement,
                &[
                    &position,
                    &entry.as_bytes(),
                    &&[1_u8; 32][..],
                    &&[2_u8; 32][..],
                    &Utc::now(),
                    &"worker.created",
                    &1_i32,
                    &"worker",
                    &worker.as_str(),
                    &"default",
                    &"operator:0Gq5vJ2kX8mB3nR7tZ1cLw",
                    &none,
                    &command,
                ],
            )
            .await?;
        Ok(())
    }
}

/// As long as the entry of the event that the writer's commands come to.
const ENTRY: &str = concat!(
    r#"{"actor":{"id":"0Gq5vJ2kX8mB3nR7tZ1cLw","kind":"operator"},"command_id":"0Gq5vJ2kX8mB3nR7tZ1cLx","#,
    r#""credential":{"id":"0Gq5vJ2kX8mB3nR7tZ1cLy","kind":"key"},"data":{"labels":{},"pending":false,"#,
    r#""pool":"default","worker":"runner-0050000.eu-west"},"kind":"worker.created","#,
    r#""occurred_at":"2026-11-22T03:10:41.123456Z","position":50006,"recorded_at":"2026-11-22T03:10:41.123456Z","#,
    r#""request_id":"01JD3W6ZK2Q8V5N9R4T7X1M0BC","schema":1,"source":"10.20.30.40","#,
    r#""subject":{"id":"runner-0050000.eu-west","kind":"worker"}}"#,
);

/// Everyone calls, waits for the answer, and calls again, until the time is over.
async fn measure<C: Caller>(callers: Vec<C>, span: Duration) -> anyhow::Result<Round> {
    let began = Instant::now();
    let spawn = |caller: C| {
        tokio::spawn(async move {
            let mut samples = Vec::new();
            while began.elapsed() < span {
                let asked = Instant::now();
                caller.call().await?;
                samples.push(u64::try_from(asked.elapsed().as_micros())?);
            }
            anyhow::Ok(samples)
        })
    };
    let tasks: Vec<_> = callers.into_iter().map(spawn).collect();
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    let rate = to_float(samples.len() as u64) / began.elapsed().as_secs_f64();
    let mut milliseconds = |part| percentile(&mut samples, part) / 1_000.0;
    Ok(Round { rate, p50: milliseconds(0.5), p99: milliseconds(0.99) })
}

impl Series {
    fn push(&mut self, round: &Round) {
        self.rate.push(round.rate);
        self.p50.push(round.p50);
        self.p99.push(round.p99);
    }

    fn rows(&self, what: &str, p99_most: f64) {
        row(what, &self.rate, "/s", ..);
        row("— p50", &self.p50, " ms", ..);
        row("— p99", &self.p99, " ms", ..=p99_most);
    }
}
