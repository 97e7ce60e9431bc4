//! Everything is revoked at once, on three nodes of one machine: how soon that is in force on each, how long until every key
//! has its record, and what those notice who ask meanwhile. The node that applies it is killed twice on the way.
//!
//! The node that is asked and those who ask it have cores of their own, where there are any and it is permitted: why, and
//! what that changes besides, says `support/stand.rs`. `PORTCULLIS_BENCH_SHARED_CORES=1` has all share all cores. Alone or
//! meanwhile, the places are the same.
//!
//! Which of the two nodes that are left goes on with the plan, and which keeps the lists, is chance; it is said, since the asked
//! one can be it.
//!
//! `PORTCULLIS_BENCH_KEYS` asks for another size of the fleet.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use portcullis::credential::root_key::RootKey;
use rand::RngExt as _;
use reqwest::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;

mod support {
    pub(crate) mod cluster;
    pub(crate) mod duties;
    pub(crate) mod fleet;
    pub(crate) mod latency;
    pub(crate) mod log;
    pub(crate) mod open_load;
    pub(crate) mod report;
    pub(crate) mod service;
    pub(crate) mod settled;
    pub(crate) mod stand;
}

use support::cluster::Cluster;
use support::duties;
use support::fleet::Fleet;
use support::latency::percentile;
use support::log::Filling;
use support::open_load::{OpenLoad, Waited};
use support::report::{Rounds, is_measuring, number, row, say, to_float};
use support::service::{PROGRAM, Service};
use support::stand::{Place, Stand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The first is told, and killed; the second says how far the plan is; the last is asked for verdicts, and for nothing else.
const NODES: usize = 3;
const WITNESS: usize = 1;
const ASKED_NODE: usize = NODES - 1;
const KILLS: usize = 2;
/// Single revocations, whose way to all nodes is what the one for all is compared with.
const SINGLE: usize = 20;
/// Keys that are asked about, from all over the fleet.
const SAMPLED: usize = 16;
const CONNECTIONS: u32 = 32;
/// Validations a second.
const ASKED: u32 = 2_000;
const PAUSE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_mins(5);

struct Sizes {
    keys: usize,
    seconds: f64,
    /// For how long is asked while everything is revoked: until the lists of keys and
    /// workers hold it too, about; and as long before it.
    meanwhile: f64,
    /// The node that applies is killed within so long after its answer, or its restart.
    kill_within: Duration,
}

/// The nodes, and whoever asks them.
struct Nodes {
    services: Vec<Option<Service>>,
    folders: Vec<Arc<TempDir>>,
    root_key_file: PathBuf,
    /// Of those that are not asked, and of the one that is.
    places: [Place; 2],
    client: Client,
    token: SecretString,
}

fn main() -> anyhow::Result<()> {
    // The process that asks is this program, told so.
    if let Some(load) = OpenLoad::from_arguments()? {
        return load.run();
    }
    // The client of HTTP asks for one, though nothing here is encrypted. Nobody can have installed another before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let stand = Stand::take();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(stand))
}

async fn measure(stand: Stand) -> anyhow::Result<()> {
    let mut sizes = Sizes { keys: 2_003, seconds: 0.3, meanwhile: 1.0, kill_within: Duration::from_millis(50) };
    if is_measuring() {
        sizes = Sizes { keys: 1_000_003, seconds: 10.0, meanwhile: 100.0, kill_within: Duration::from_secs(5) };
    }
    if let Ok(keys) = std::env::var("PORTCULLIS_BENCH_KEYS") {
        sizes.keys = keys.replace(['_', ','], "").parse().context("PORTCULLIS_BENCH_KEYS is a number")?;
    }
    ensure!(sizes.keys > 2 * (SINGLE + SAMPLED), "too few keys to tell anything");
    say(&stand.layout);
    let cluster = Cluster::start().await?;
    let folder = data_dir()?;
    let root_key_file = folder.path().join("root.key");
    let (root_key, _) = RootKey::load_or_create(&root_key_file)?;
    let mut fleet = Fleet::new(root_key.derive());
    let credentials = folder.path().join("credentials");
    let sample = fill(&cluster, &mut fleet, sizes.keys, &credentials).await?;
    say(format_args!("filled a log with {} workers and their keys", number(to_float(sizes.keys as u64))));
    let mut nodes =
        Nodes::start(&cluster, fleet.operator_token.clone(), root_key_file, [stand.beside, stand.asked]).await?;
    let resident = nodes.service(0)?.resident_mebibytes()?;
    say(format_args!("{NODES} nodes are up, the first with {} MiB resident", number(resident)));
    let mut load = OpenLoad {
        address: nodes.service(ASKED_NODE)?.address.clone(),
        credentials,
        token: fleet.operator_token.expose_secret().to_owned(),
        connections: CONNECTIONS,
        rate: ASKED,
        seconds: sizes.seconds,
        accepted: true,
    };
    let program = std::env::current_exe()?;
    // The first seconds are for the caches and the clock of the processor.
    load.run_apart(stand.asking.command(&program)).await?;
    load.seconds = sizes.meanwhile;
    let idle = load.run_apart(stand.asking.command(&program)).await?;
    say_by_second("alone", &idle);
    let (single, sample) = sample.split_at(SINGLE);
    let one = nodes.revoke_each(single).await?;

    let (plan, digest) = nodes.plan(sizes.keys - SINGLE).await?;
    let applied = Instant::now();
    nodes.apply(&plan, &digest).await?;
    let answered = Instant::now();
    let in_force = nodes.refuse_all(sample, answered).await?;
    say(format_args!(
        "applied in {} ms, refused by all {NODES} nodes {} ms after the answer",
        number(millis(answered - applied)),
        number(millis(in_force))
    ));
    let recording = async {
        for _ in 0..KILLS {
            nodes.kill_and_restart(&cluster, sizes.kill_within).await?;
        }
        let recorded = nodes.recorded(&plan, answered).await?;
        let parts = nodes.say_duties(&cluster).await?;
        anyhow::Ok((recorded, lists_follow(&cluster, answered).await?, parts))
    };
    load.accepted = false;
    let (busy, recorded) = tokio::join!(load.run_apart(stand.asking.command(&program)), recording);
    let (busy, ((took, plan), followed, parts)) = (busy?, recorded?);
    check_counts(&cluster, &plan, sizes.keys).await?;
    say_by_second("after the answer", &busy);

    let deciding = answered - applied;
    let found = Found { layout: stand.layout, in_force, one, deciding, took, parts, followed, busy, idle };
    found.rows();
    Ok(())
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}

/// What was found out.
struct Found {
    layout: String,
    in_force: Duration,
    /// Of one key, in milliseconds.
    one: f64,
    deciding: Duration,
    took: Duration,
    /// How many parts of the plan the asked node has recorded.
    parts: u64,
    followed: Duration,
    busy: Waited,
    idle: Waited,
}

impl Found {
    fn rows(&self) {
        single_row(
            "everything revoked: from the answer to refusal on all nodes",
            millis(self.in_force),
            " ms",
            ..=1_000.0,
        );
        single_row("— the same of one key, p50", self.one, " ms", ..);
        single_row("— ratio", millis(self.in_force) / self.one, "", ..);
        single_row("— deciding and writing it, until the answer", millis(self.deciding), " ms", ..);
        single_row("— every key recorded, with the applying node killed twice", self.took.as_secs_f64(), " s", ..=60.0);
        single_row("— of its lists, recorded by the asked node", to_float(self.parts), "", ..);
        single_row("— all lists of keys and workers hold it", self.followed.as_secs_f64(), " s", ..);
        // The goal is of those seconds; the others, in which the lists follow, are measured to be known.
        let recording = self.took.as_secs_f64().ceil();
        let meanwhile =
            self.busy.by_second.iter().zip(1_u64..).take_while(|(_, second)| to_float(*second) <= recording);
        let meanwhile = p99(meanwhile.flat_map(|(second, _)| second.clone()).collect());
        let asked = format!("— validation until every key is recorded, {}, p99", self.layout);
        single_row(&asked, meanwhile, " ms", ..);
        single_row("— alone, p99", self.idle.p99, " ms", ..);
        single_row("— ratio", meanwhile / self.idle.p99, "", ..=2.0);
        single_row("— validation until the lists hold it too, p99", self.busy.p99, " ms", ..);
        single_row("— ratio", self.busy.p99 / self.idle.p99, "", ..);
        let (busy, idle) = (by_second(&self.busy), by_second(&self.idle));
        let ratio = busy.median() / idle.median();
        row("— p99 of each second of these", &busy, " ms", ..);
        row("— the same alone", &idle, " ms", ..);
        single_row("— ratio of the medians", ratio, "", ..);
    }
}

/// In milliseconds.
fn p99(mut samples: Vec<u64>) -> f64 {
    percentile(&mut samples, 0.99) / 1_000_000.0
}

fn by_second(waited: &Waited) -> Rounds {
    let mut rounds = Rounds::default();
    waited.by_second.iter().for_each(|second| rounds.push(p99(second.clone())));
    rounds
}

fn say_by_second(when: &str, waited: &Waited) {
    let seconds = waited.by_second.iter().map(|second| number(p99(second.clone()))).collect::<Vec<_>>().join(" ");
    say(format_args!("validation's p99 in each second {when}, in ms: {seconds}"));
}

fn single_row(what: &str, value: f64, unit: &str, goal: impl std::ops::RangeBounds<f64>) {
    let mut rounds = Rounds::default();
    rounds.push(value);
    row(what, &rounds, unit, goal);
}

fn data_dir() -> anyhow::Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("portcullis-bench-service-").tempdir()?)
}

/// Every worker with a key; what they would present goes to a file, but for those that are asked about, from all over.
async fn fill(
    cluster: &Cluster,
    fleet: &mut Fleet,
    count: usize,
    credentials: &Path,
) -> anyhow::Result<Vec<SecretString>> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(credentials)?);
    let mut filling = Filling::begin(cluster.database.session().await?.client, fleet, count * 2).await?;
    let apart = count / (SINGLE + SAMPLED);
    let mut sample = Vec::new();
    for number in 0..count {
        let worker = fleet.worker(number)?;
        filling.push(fleet, &worker).await?;
        let (key, text) = fleet.key(number)?;
        filling.push(fleet, &key).await?;
        if number % apart == 0 && sample.len() < SINGLE + SAMPLED {
            sample.push(text);
        } else {
            file.write_all(text.expose_secret().as_bytes())?;
        }
    }
    filling.finish().await?;
    file.flush()?;
    cluster.settle().await?;
    Ok(sample)
}

/// How long it takes until all lists are where the log is.
async fn lists_follow(cluster: &Cluster, since: Instant) -> anyhow::Result<Duration> {
    let client = cluster.database.session().await?.client;
    while support::settled::look(&client).await?.1 {
        ensure!(since.elapsed() < PATIENCE, "the lists do not follow");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(since.elapsed())
}

/// Each key has one record, and the plan says so.
async fn check_counts(cluster: &Cluster, plan: &Value, keys: usize) -> anyhow::Result<()> {
    let count = "select count(*), count(distinct key) from (
                   select jsonb_array_elements_text(entry->'data'->'keys') as key
                     from log.entries where kind = 'key.revoked' and subject_kind = 'plan'
                   union all
                   select subject_id from log.entries where kind = 'key.revoked' and subject_kind = 'key') revoked";
    let row = cluster.owner().await?.query_one(count, &[]).await?;
    let keys = i64::try_from(keys)?;
    ensure!((row.get::<_, i64>(0), row.get::<_, i64>(1)) == (keys, keys), "not one record for each key: {row:?}");
    let recorded = plan["progress"]["recorded"].as_i64();
    ensure!(recorded == Some(keys - i64::try_from(SINGLE)?), "the plan says otherwise: {plan}");
    Ok(())
}

impl Nodes {
    async fn start(
        cluster: &Cluster,
        token: SecretString,
        root_key_file: PathBuf,
        places: [Place; 2],
    ) -> anyhow::Result<Self> {
        let folders = (0..NODES).map(|_| data_dir().map(Arc::new)).collect::<anyhow::Result<_>>()?;
        let client = Client::builder().timeout(PATIENCE).build()?;
        let mut nodes = Self { services: Vec::new(), folders, root_key_file, places, client, token };
        for number in 0..NODES {
            let service = nodes.launch(cluster, number)?;
            nodes.services.push(Some(service));
        }
        for (service, folder) in nodes.services.iter().flatten().zip(&nodes.folders) {
            support::settled::wait(service, cluster, folder.path(), &nodes.token).await?;
        }
        Ok(nodes)
    }

    fn launch(&self, cluster: &Cluster, number: usize) -> anyhow::Result<Service> {
        let (name, root_key) =
            (format!("node-{number}"), self.root_key_file.to_str().context("a path of ours is text")?);
        let arguments = ["--root-key-file", root_key, "--node-name", &name];
        let folder = self.folders[number].clone();
        let [beside, asked] = &self.places;
        let place = if number == ASKED_NODE { asked } else { beside };
        Service::start(place.command(PROGRAM), &name, cluster, folder, &arguments)
    }

    fn service(&self, number: usize) -> anyhow::Result<&Service> {
        self.services[number].as_ref().context("a node that was killed is asked")
    }

    /// The median time from the answer of a single revocation until all nodes refuse, in milliseconds.
    async fn revoke_each(&self, keys: &[SecretString]) -> anyhow::Result<f64> {
        let mut samples = Vec::new();
        for key in keys {
            let id = key.expose_secret().split('_').nth(2).context("a key has its id in it")?;
            self.post(0, &format!("/v1/keys/{id}/revoke"), &json!({})).await?;
            let answered = Instant::now();
            samples.push(u64::try_from(self.refuse_all(std::slice::from_ref(key), answered).await?.as_micros())?);
        }
        Ok(percentile(&mut samples, 0.5) / 1_000.0)
    }

    /// The plan for everything, its id and digest.
    async fn plan(&self, keys: usize) -> anyhow::Result<(String, String)> {
        let body = json!({ "kind": "revoke_all", "select": ["everything"], "reason": "measured" });
        let plan = self.post(0, "/v1/plans", &body).await?;
        ensure!(plan["counts"]["keys"] == json!(keys), "another number of keys: {plan}");
        let text = |field: &str| plan[field].as_str().map(str::to_owned).context("a plan has an id and a digest");
        Ok((text("id")?, text("digest")?))
    }

    async fn apply(&self, plan: &str, digest: &str) -> anyhow::Result<()> {
        self.post(0, &format!("/v1/plans/{plan}/apply"), &json!({ "digest": digest })).await?;
        Ok(())
    }

    /// After how long all nodes refuse all of these.
    async fn refuse_all(&self, keys: &[SecretString], since: Instant) -> anyhow::Result<Duration> {
        let pairs = (0..NODES).flat_map(|node| keys.iter().map(move |key| (node, key)));
        let refused = pairs.map(|(node, key)| self.refused(node, key, since));
        let all = futures_util::future::try_join_all(refused).await?;
        Ok(all.into_iter().max().unwrap_or_default())
    }

    async fn refused(&self, node: usize, key: &SecretString, since: Instant) -> anyhow::Result<Duration> {
        loop {
            let verdict = self.post(node, "/v1/validate", &json!({ "credential": key.expose_secret() })).await?;
            if !verdict["active"].as_bool().context("a verdict says whether it is active")? {
                return Ok(since.elapsed());
            }
            ensure!(since.elapsed() < PATIENCE, "node {node} goes on accepting");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Kills the node that has applied, at a random moment, and starts it again.
    async fn kill_and_restart(&mut self, cluster: &Cluster, within: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        tokio::time::sleep(rand::rng().random_range(Duration::ZERO..within)).await;
        self.say_duties(cluster).await?;
        let moment = began.elapsed();
        // To drop it is to kill it.
        self.services[0] = None;
        let began = Instant::now();
        let service = self.launch(cluster, 0)?;
        say(format_args!(
            "killed the applying node after {} ms; it was back after {} s",
            number(millis(moment)),
            number(began.elapsed().as_secs_f64())
        ));
        self.services[0] = Some(service);
        Ok(())
    }

    /// Who records and who keeps the lists; how many parts of the plan the asked node has recorded.
    async fn say_duties(&self, cluster: &Cluster) -> anyhow::Result<u64> {
        let mut parts = Vec::new();
        for number in 0..NODES {
            parts.push(duties::recorded(self.service(number)?, &self.token).await?);
        }
        let each = parts.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let keepers = duties::keepers(cluster).await?;
        say(format_args!("parts of the plan recorded by each node since its start: {each}; kept: {keepers}"));
        Ok(parts[ASKED_NODE])
    }

    /// Waits until each item has its record, as a node says that was never killed.
    async fn recorded(&self, plan: &str, since: Instant) -> anyhow::Result<(Duration, Value)> {
        loop {
            let url = format!("http://{}/v1/plans/{plan}", self.service(WITNESS)?.address);
            let request = self.client.get(url).bearer_auth(self.token.expose_secret());
            let found: Value = request.send().await?.error_for_status()?.json().await?;
            if found["state"] == "recorded" {
                return Ok((since.elapsed(), found));
            }
            ensure!(since.elapsed() < PATIENCE, "it is not recorded to its end: {found}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn post(&self, node: usize, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("http://{}{path}", self.service(node)?.address);
        let request = self.client.post(url).bearer_auth(self.token.expose_secret()).json(body);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }
}
