//! From the start of the process to ready: with a snapshot of a million keys in a log of ten million events and a tail after
//! it, and without.
//!
//! The ceilings are the bytes of the snapshot, and the rows of the log, only read. `PORTCULLIS_BENCH_KEYS` and
//! `PORTCULLIS_BENCH_EVENTS` ask for other sizes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use portcullis::credential::root_key::RootKey;
use portcullis::domain::ids::KeyId;
use portcullis::log::head::Head;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

mod support {
    pub(crate) mod cluster;
    pub(crate) mod fleet;
    pub(crate) mod history;
    pub(crate) mod log;
    pub(crate) mod reading;
    pub(crate) mod report;
    pub(crate) mod service;
}

use support::cluster::Cluster;
use support::fleet::Fleet;
use support::history;
use support::log::Filling;
use support::reading::read_all;
use support::report::{Rounds, is_measuring, number, row, say, to_float};
use support::service::{PROGRAM, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
/// Events that come after the snapshot: what a busy log gets between a snapshot and a crash.
const TAIL: usize = 10_000;

fn main() -> anyhow::Result<()> {
    // The client of HTTP asks for one, though nothing here is encrypted. Nobody can have installed another before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(runtime.spawn(measure()))?
}

async fn measure() -> anyhow::Result<()> {
    let (keys, events) = if is_measuring() { (1_000_000, 10_000_000) } else { (500, 5_000) };
    let (keys, events) = (size("PORTCULLIS_BENCH_KEYS", keys)?, size("PORTCULLIS_BENCH_EVENTS", events)?);
    ensure!(keys > 0 && events >= 2 * keys, "a key with its worker is two events");
    let cluster = Cluster::start().await?;
    let folder = Arc::new(tempfile::Builder::new().prefix("portcullis-bench-service-").tempdir()?);
    let (root_key, _) = RootKey::load_or_create(&folder.path().join("root.key"))?;
    let mut fleet = Fleet::new(root_key.derive());
    let began = Instant::now();
    let known = fill(&cluster, &mut fleet, keys, events).await?;
    let what = format!("{} keys, {} events", number(to_float(keys as u64)), number(to_float(events as u64)));
    say(format_args!("filled a log with {what} in {:.1?}", began.elapsed()));

    let (mut from_nothing, mut rows) = (Rounds::default(), Rounds::default());
    rows.push(read_all(cluster.database.clone()).await?.1.as_secs_f64());
    let (mut service, ready) = start(&cluster, &folder).await?;
    from_nothing.push(ready);
    say(format_args!("ready from nothing after {} s; the rows, only read: {} s", number(ready), number(rows.median())));
    service.settle().await;
    stop(&mut service)?;
    drop(service);
    let snapshot = newest_snapshot(folder.path())?;
    let tail = if is_measuring() { TAIL } else { 50 };
    append(&cluster, &mut fleet, &known, tail).await?;
    let size = to_float(snapshot.metadata()?.len()) / f64::from(1 << 20);
    let (mut resumed, mut read, mut ratio) = (Rounds::default(), Rounds::default(), Rounds::default());
    let mut resident = 0.0;
    for round in 0..ROUNDS {
        let began = Instant::now();
        ensure!(!std::fs::read(&snapshot)?.is_empty(), "a snapshot is not empty");
        let reading = began.elapsed().as_secs_f64();
        // Killed at the end of its scope: it leaves no newer snapshot behind.
        let (service, ready) = start(&cluster, &folder).await?;
        resident = service.resident_mebibytes()?;
        say(format_args!(
            "round {round}: ready after {} s, the file only read {} ms",
            number(ready),
            number(reading * 1e3)
        ));
        read.push(reading * 1e3);
        resumed.push(ready);
        ratio.push(reading / ready);
    }
    say(format_args!("a snapshot of {} MiB; {} MiB resident once ready", number(size), number(resident)));
    let after = number(to_float(tail as u64));
    row(&format!("start to ready from a snapshot and {after} events after it, {what}"), &resumed, " s", ..=3.0);
    row("— the bytes of the snapshot, only read", &read, " ms", ..);
    row("— ratio", &ratio, "", ..);
    row("— start to ready without a snapshot", &from_nothing, " s", ..);
    row("— the rows of the log, only read", &rows, " s", ..);
    Ok(())
}

fn size(variable: &str, otherwise: usize) -> anyhow::Result<usize> {
    let Some(text) = std::env::var_os(variable) else { return Ok(otherwise) };
    let text = text.to_str().unwrap_or_default().replace(['_', ','], "");
    text.parse().with_context(|| format!("{variable} is a number"))
}

/// Workers, each followed by its key, and then what they go through.
async fn fill(cluster: &Cluster, fleet: &mut Fleet, count: usize, events: usize) -> anyhow::Result<Vec<KeyId>> {
    let mut filling = Filling::begin(cluster.database.session().await?.client, fleet, events).await?;
    let mut keys = Vec::with_capacity(count);
    for number in 0..count {
        let worker = fleet.worker(number)?;
        filling.push(fleet, &worker).await?;
        let (key, _) = fleet.key(number)?;
        filling.push(fleet, &key).await?;
        keys.push(history::key_of(&key)?);
    }
    for nth in 0..events - 2 * count {
        let recorded = history::event(fleet, nth, &keys)?;
        filling.push(fleet, &recorded).await?;
    }
    filling.finish().await?;
    cluster.settle().await?;
    Ok(keys)
}

/// What comes after the snapshot.
async fn append(cluster: &Cluster, fleet: &mut Fleet, keys: &[KeyId], events: usize) -> anyhow::Result<()> {
    let client = cluster.database.session().await?.client;
    let head = Head::read(&client).await?;
    (fleet.next_position, fleet.recorded_at) = (head.next_position, head.recorded_at);
    let mut filling = Filling::go_on(client, events).await?;
    for nth in 0..events {
        let recorded = history::event(fleet, nth, keys)?;
        filling.push(fleet, &recorded).await?;
    }
    filling.finish().await.map(drop)
}

/// Seconds from the start of the process until it says that it is ready.
async fn start(cluster: &Cluster, folder: &Arc<TempDir>) -> anyhow::Result<(Service, f64)> {
    let client = reqwest::Client::new();
    let began = Instant::now();
    let service = Service::start(Command::new(PROGRAM), "portcullis", cluster, folder.clone(), &[])?;
    let ready = format!("http://{}/readyz", service.address);
    while !client.get(&ready).send().await?.status().is_success() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((service, began.elapsed().as_secs_f64()))
}

/// A clean stop, at which it takes a snapshot.
fn stop(service: &mut Service) -> anyhow::Result<()> {
    kill_process(Pid::from_child(&service.child), Signal::TERM)?;
    ensure!(service.child.wait()?.success(), "the service did not stop well");
    Ok(())
}

fn newest_snapshot(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let files = std::fs::read_dir(data_dir.join("snapshots"))?.map(|entry| Ok(entry?.path()));
    files.collect::<anyhow::Result<Vec<_>>>()?.into_iter().max().context("no snapshot")
}
