//! Validation over HTTP with a million keys, at 32 connections.
//!
//! Its ceiling is a bare axum handler, behind the same listener, that answers the same bytes. Both are asked by the same
//! program in a process of its own, in turn.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use portcullis::credential::key::KEY_CHARS;
use portcullis::credential::root_key::RootKey;
use secrecy::ExposeSecret;

mod support {
    pub(crate) mod bare;
    pub(crate) mod cluster;
    pub(crate) mod fleet;
    pub(crate) mod latency;
    pub(crate) mod load;
    pub(crate) mod log;
    pub(crate) mod report;
    pub(crate) mod service;
    pub(crate) mod settled;
}

use support::cluster::Cluster;
use support::fleet::Fleet;
use support::load::{self, Load, Loaded};
use support::log::Filling;
use support::report::{Rounds, is_measuring, number, row, say};
use support::service::{PROGRAM, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 32;

#[derive(Default)]
struct Series {
    rate: Rounds,
    p50: Rounds,
    p99: Rounds,
}

fn main() -> anyhow::Result<()> {
    // The process that asks is this program, told so.
    if let Some(load) = Load::from_arguments()? {
        return load::run(&load);
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(compare())
}

async fn compare() -> anyhow::Result<()> {
    let (count, seconds) = if is_measuring() { (1_000_000, 3.0) } else { (1_000, 0.1) };
    let cluster = Cluster::start().await?;
    let folder = tempfile::Builder::new().prefix("portcullis-bench-service-").tempdir()?;
    let (root_key, _) = RootKey::load_or_create(&folder.path().join("root.key"))?;
    let mut fleet = Fleet::new(root_key.derive());
    let credentials = folder.path().join("credentials");
    let began = Instant::now();
    fill(&cluster, &mut fleet, count, &credentials).await?;
    say(format_args!("filled a log with {count} workers and their keys in {:.1?}", began.elapsed()));
    let data_dir = folder.path().to_owned();
    let service = Service::start(Command::new(PROGRAM), "portcullis", &cluster, Arc::new(folder), &[])?;
    support::settled::wait(&service, &cluster, &data_dir, &fleet.operator_token).await?;
    say(format_args!("the service is up, {} MiB resident", number(service.resident_mebibytes()?)));

    let load = |address: &str, seconds| Load {
        address: address.to_owned(),
        credentials: credentials.clone(),
        token: fleet.operator_token.expose_secret().to_owned(),
        connections: CONNECTIONS,
        seconds,
    };
    let answer = load::ask_once(&load(&service.address, seconds)).await?;
    let bare = support::bare::start(&answer).await?;
    let (mut served, mut bared) = (Series::default(), Series::default());
    let (mut rate_ratio, mut p99_ratio) = (Rounds::default(), Rounds::default());
    // The first seconds are for the caches and the clock of the processor.
    load::run_apart(&load(&bare, seconds / 3.0)).await?;
    load::run_apart(&load(&service.address, seconds / 3.0)).await?;
    for round in 0..ROUNDS {
        let ceiling = load::run_apart(&load(&bare, seconds)).await?;
        let validated = load::run_apart(&load(&service.address, seconds)).await?;
        say(format_args!("round {round}: {} requests/s, bare {}/s", number(validated.rate), number(ceiling.rate)));
        rate_ratio.push(validated.rate / ceiling.rate);
        p99_ratio.push(validated.p99 / ceiling.p99);
        served.push(&validated);
        bared.push(&ceiling);
    }
    served.rows("HTTP validation, 1,000,000 keys, 32 connections");
    bared.rows("— bare axum handler, the same bytes");
    row("— ratio of requests a second", &rate_ratio, "", 0.8..);
    row("— ratio of p99", &p99_ratio, "", ..=2.0);
    Ok(())
}

/// Every worker with a key; what they would present goes to a file, in the order of creation.
async fn fill(cluster: &Cluster, fleet: &mut Fleet, count: usize, credentials: &Path) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(credentials)?);
    let mut filling = Filling::begin(cluster.database.session().await?.client, fleet, count * 2).await?;
    for number in 0..count {
        let worker = fleet.worker(number)?;
        filling.push(fleet, &worker).await?;
        let (key, text) = fleet.key(number)?;
        filling.push(fleet, &key).await?;
        debug_assert_eq!(text.expose_secret().len(), KEY_CHARS);
        file.write_all(text.expose_secret().as_bytes())?;
    }
    filling.finish().await?;
    file.flush()?;
    cluster.settle().await
}

impl Series {
    fn push(&mut self, round: &Loaded) {
        self.rate.push(round.rate);
        self.p50.push(round.p50);
        self.p99.push(round.p99);
    }

    fn rows(&self, what: &str) {
        row(what, &self.rate, " requests/s", ..);
        row("— p50", &self.p50, " ms", ..);
        row("— p99", &self.p99, " ms", ..);
    }
}
