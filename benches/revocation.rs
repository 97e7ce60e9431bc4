//! From a revocation to its refusal on eight nodes of one machine, and what `wait=everywhere` costs and promises.
//!
//! Real processes on one durable Postgres. Each trial revokes a key of its own on one of the nodes, in turn, while a client
//! of each node asks about that key until it is refused there: the last of them is when it was refused everywhere. From the
//! moment when `wait=everywhere` has answered no node may accept it, not once.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use portcullis::credential::root_key::RootKey;
use reqwest::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;

mod support {
    pub(crate) mod cluster;
    pub(crate) mod fleet;
    pub(crate) mod latency;
    pub(crate) mod log;
    pub(crate) mod report;
    pub(crate) mod service;
}

use support::cluster::Cluster;
use support::fleet::Fleet;
use support::latency::percentile;
use support::log::Filling;
use support::report::{Rounds, is_measuring, number, row, say, to_float};
use support::service::{PROGRAM, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODES: usize = 8;
const ROUNDS: usize = 5;
/// Between two questions to one node: eight clients who ask as fast as they can would be what is measured.
const PAUSE: Duration = Duration::from_millis(1);
/// After the answer that it is in force everywhere, each node is asked so often again.
const ASKED_AFTERWARDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// What one revocation took: until it was refused by all, and until `wait=everywhere` said so.
struct Trial {
    refused: Duration,
    acknowledged: Duration,
    accepted_afterwards: usize,
}

/// The nodes, and whoever asks them.
struct Nodes {
    services: Vec<Service>,
    client: Client,
    token: SecretString,
}

fn main() -> anyhow::Result<()> {
    // The client of HTTP asks for one, though nothing here is encrypted. Nobody can have installed another before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let (rounds, trials) = if is_measuring() { (ROUNDS, 1_000 / ROUNDS) } else { (1, NODES) };
    let cluster = Cluster::start().await?;
    let folder = data_dir()?;
    let key_file = folder.path().join("root.key");
    let (root_key, _) = RootKey::load_or_create(&key_file)?;
    let mut fleet = Fleet::new(root_key.derive());
    let keys = fill(&cluster, &mut fleet, rounds * trials).await?;
    let nodes = Nodes::start(&cluster, fleet.operator_token, key_file.to_str().context("a path of ours is text")?)?;
    nodes.settle(&keys[0]).await?;
    let resident = nodes.services[0].resident_mebibytes()?;
    say(format_args!("{NODES} nodes are up, the first with {} MiB resident", number(resident)));

    let mut series: [Rounds; 4] = Default::default();
    let mut accepted_afterwards = 0;
    for (round, keys) in keys.chunks(trials).enumerate() {
        let (mut refused, mut acknowledged) = (Vec::new(), Vec::new());
        for (number, key) in keys.iter().enumerate() {
            let trial = nodes.revoke(number % NODES, key).await?;
            refused.push(u64::try_from(trial.refused.as_micros())?);
            acknowledged.push(u64::try_from(trial.acknowledged.as_micros())?);
            accepted_afterwards += trial.accepted_afterwards;
        }
        let measured = [(&mut refused, 0.5), (&mut acknowledged, 0.5)].map(|(samples, part)| percentile(samples, part));
        let tails = [(&mut refused, 0.99), (&mut acknowledged, 0.99)].map(|(samples, part)| percentile(samples, part));
        for (rounds, value) in series.iter_mut().zip(measured.into_iter().chain(tails)) {
            rounds.push(value / 1_000.0);
        }
        say(format_args!(
            "round {round}: refused by all after {} ms, 99 % {} ms",
            number(measured[0] / 1_000.0),
            number(tails[0] / 1_000.0)
        ));
    }
    let [refused, acknowledged, refused_tail, acknowledged_tail] = series;
    row(&format!("revocation to refusal on all of {NODES} nodes, p50"), &refused, " ms", ..=20.0);
    row("— p99", &refused_tail, " ms", ..=250.0);
    row("— until `wait=everywhere` answers, p50", &acknowledged, " ms", ..);
    row("— p99", &acknowledged_tail, " ms", ..);
    let mut accepts = Rounds::default();
    accepts.push(to_float(accepted_afterwards as u64));
    row(&format!("— accepted after that, in {} trials", rounds * trials), &accepts, "", ..=0.0);
    Ok(())
}

fn data_dir() -> anyhow::Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("portcullis-bench-service-").tempdir()?)
}

/// A worker with a key for each trial.
async fn fill(cluster: &Cluster, fleet: &mut Fleet, count: usize) -> anyhow::Result<Vec<SecretString>> {
    let mut filling = Filling::begin(cluster.database.session().await?.client, fleet, count * 2).await?;
    let mut keys = Vec::with_capacity(count);
    for number in 0..count {
        let worker = fleet.worker(number)?;
        filling.push(fleet, &worker).await?;
        let (key, text) = fleet.key(number)?;
        filling.push(fleet, &key).await?;
        keys.push(text);
    }
    filling.finish().await?;
    cluster.settle().await?;
    Ok(keys)
}

impl Nodes {
    fn start(cluster: &Cluster, token: SecretString, root_key_file: &str) -> anyhow::Result<Self> {
        let start = |number| {
            let name = format!("node-{number}");
            Service::start(
                Command::new(PROGRAM),
                &name,
                cluster,
                Arc::new(data_dir()?),
                &["--root-key-file", root_key_file, "--node-name", &name],
            )
        };
        let services = (0..NODES).map(start).collect::<anyhow::Result<_>>()?;
        Ok(Self { services, client: Client::builder().timeout(PATIENCE).build()?, token })
    }

    /// Waits until each says that this key is good.
    async fn settle(&self, key: &SecretString) -> anyhow::Result<()> {
        for (number, service) in self.services.iter().enumerate() {
            service.settle().await;
            ensure!(self.accepts(number, key).await?, "node {number} refuses a good key");
        }
        Ok(())
    }

    async fn revoke(&self, at: usize, key: &SecretString) -> anyhow::Result<Trial> {
        let id = key.expose_secret().split('_').nth(2).context("a key has its id in it")?;
        let began = Instant::now();
        let refused = futures_util::future::try_join_all((0..NODES).map(|node| self.refused(node, key, began)));
        let acknowledged = async {
            let body = self.post(at, &format!("/v1/keys/{id}/revoke?wait=everywhere"), &json!({})).await?;
            let acknowledged = began.elapsed();
            let confirmed = body["in_force"]["confirmed"].as_array().map_or(0, Vec::len);
            ensure!(confirmed == NODES, "only {confirmed} nodes confirmed: {body}");
            let mut accepted = 0;
            for _ in 0..ASKED_AFTERWARDS {
                let asked = futures_util::future::try_join_all((0..NODES).map(|node| self.accepts(node, key))).await?;
                accepted += asked.into_iter().filter(|accepted| *accepted).count();
            }
            anyhow::Ok((acknowledged, accepted))
        };
        let (refused, (acknowledged, accepted_afterwards)) = tokio::try_join!(refused, acknowledged)?;
        let refused = refused.into_iter().max().unwrap_or_default();
        Ok(Trial { refused, acknowledged, accepted_afterwards })
    }

    /// After how long the node refuses the key.
    async fn refused(&self, node: usize, key: &SecretString, began: Instant) -> anyhow::Result<Duration> {
        while self.accepts(node, key).await? {
            ensure!(began.elapsed() < PATIENCE, "node {node} goes on accepting");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(began.elapsed())
    }

    async fn accepts(&self, node: usize, key: &SecretString) -> anyhow::Result<bool> {
        let verdict = self.post(node, "/v1/validate", &json!({ "credential": key.expose_secret() })).await?;
        verdict["active"].as_bool().context("a verdict says whether it is active")
    }

    async fn post(&self, node: usize, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("http://{}{path}", self.services[node].address);
        let request = self.client.post(url).bearer_auth(self.token.expose_secret()).json(body);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }
}
