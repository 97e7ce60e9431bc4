//! 64 writers on four nodes, with commits held back for random times (H1): nothing is skipped and nothing happens twice, on
//! any node, whatever the order in which transactions begin, insert and commit.
//!
//! Postgres itself holds them back, after all is inserted and before it commits: just there, whoever orders events by when a
//! transaction began, or by a sequence, shows a later event before an earlier one. The wires of the nodes are slow and are
//! cut by turns. `ops/faults --writers` runs it with 200,000 events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use portcullis::command::mint;
use portcullis::domain::ids::{CommandId, WorkerId};
use portcullis::log::head;
use portcullis::log::seal::Hash;
use portcullis::node::replay;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::cluster::{Scratch, shared_socket};
use crate::support::node::{TestNode, create_key, create_worker, keys, wish};
use crate::support::run::number_from;
use crate::support::wire::{Mode, Wire};

const NODES: usize = 4;
const WRITERS: usize = 64;
/// What each of them asks for in one go, of as many nodes as chance has it.
const AT_ONCE: u64 = 8;
/// As many as every run of the tests can bear.
const EVENTS_DEFAULT: u64 = 12_000;
/// Far above what any of it takes.
const MAX_STALE: Duration = Duration::from_secs(30);

/// Before a commit: nothing, or up to 3 ms; and one in fifty for long enough that all the others come along.
const HOLD_BACK: &str = "
    create function public.hold_back() returns trigger language plpgsql as $$
    begin
        perform pg_sleep(case when random() < 0.02 then 0.02 else greatest(0, random() * 0.006 - 0.003) end);
        return null;
    end $$;
    create constraint trigger hold_back after update on log.head deferrable initially deferred
        for each row execute function public.hold_back()";

/// Below this position is what the first node begins the log with.
const BOOTSTRAP: u64 = 8;

/// What was acknowledged: at which position.
type Acknowledged = HashMap<CommandId, u64>;

/// The heads that a node has published, as far as somebody was quick enough to see them.
type Published = Vec<(u64, Hash)>;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_chaotic_writers_on_four_nodes_skip_nothing_and_do_nothing_twice() {
    let events = number_from("PORTCULLIS_FAULTS_EVENTS").unwrap_or(EVENTS_DEFAULT);
    let seed = number_from("PORTCULLIS_FAULTS_SEED").unwrap_or_else(rand::random);
    eprintln!("{events} events with the seed {seed}");
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    let scratch = Scratch::new().await;
    let superuser = scratch.superuser().await;
    let (mut nodes, mut wires) = (Vec::new(), Vec::new());
    for _ in 0..NODES {
        let wire = Wire::start(shared_socket()).await;
        let database = scratch.database_on(wire.port).await;
        nodes.push(Arc::new(TestNode::start_with(database, keys(), MAX_STALE, None).await.unwrap()));
        wires.push(wire);
    }
    nodes[0].bootstrap().await;
    superuser.batch_execute(HOLD_BACK).await.unwrap();

    let watching: Vec<JoinHandle<Published>> = nodes.iter().map(|node| tokio::spawn(watch(node))).collect();
    let shaking = tokio::spawn(shake(wires, StdRng::from_rng(&mut rng)));
    let rounds = events.div_ceil(WRITERS as u64 * AT_ONCE * 2);
    let writers: Vec<JoinHandle<Acknowledged>> = (0..WRITERS)
        .map(|number| tokio::spawn(write(number, rounds, nodes.clone(), StdRng::from_rng(&mut rng))))
        .collect();
    let mut acknowledged = Acknowledged::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert_eq!(acknowledged.len() as u64, rounds * WRITERS as u64 * AT_ONCE * 2, "each has its own id");
    eprintln!("{} events in {:.1?}", acknowledged.len(), began.elapsed());

    let macs = check_log(&superuser, &acknowledged).await;
    check_rolls(&superuser, &nodes).await;
    for node in nodes {
        Arc::into_inner(node).expect("the writers have ended").stop().await;
    }
    // They end with the nodes that they watch.
    shaking.abort();
    for watched in watching {
        let published = watched.await.unwrap();
        for (next_position, mac) in &published {
            assert_eq!(macs[usize::try_from(*next_position).unwrap() - 1], *mac, "at position {next_position}");
        }
        assert!(published.len() > 100, "seen moving {} times only", published.len());
    }
}

/// One writer: some workers, and then a key for each of them, all at once, and each asked of any node.
async fn write(number: usize, rounds: u64, nodes: Vec<Arc<TestNode>>, mut rng: StdRng) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for round in 0..rounds {
        let workers: Vec<WorkerId> =
            (0..AT_ONCE).map(|nth| format!("w-{number}-{round}-{nth}").parse().unwrap()).collect();
        for has_key in [false, true] {
            let submitted = workers.iter().map(|worker| {
                let node = &nodes[rng.random_range(0..nodes.len())];
                let command = if has_key { create_key(&node.keys, worker).2 } else { create_worker(worker) };
                let id = CommandId::from_uuid(mint::id());
                async move { (id, node.running.queue.submit(wish(id, None, command)).await.unwrap()) }
            });
            for (id, done) in join_all(submitted.collect::<Vec<_>>()).await {
                assert!(done.changed, "{done:?}");
                acknowledged.insert(id, done.position);
            }
        }
    }
    acknowledged
}

/// Notes every head that the node publishes: each further than the one before, and never ahead of the state.
fn watch(node: &TestNode) -> impl Future<Output = Published> + 'static {
    let (node, mut heads) = (node.running.node.clone(), node.running.heads.clone());
    async move {
        let mut published = Published::new();
        while heads.changed().await.is_ok() {
            let (next_position, mac) = {
                let head = heads.borrow_and_update();
                (head.next_position, head.seals.mac)
            };
            assert!(node.snapshot().roll.next_position() >= next_position, "the state comes first");
            let is_further = published.last().is_none_or(|(before, _)| *before <= next_position);
            assert!(is_further, "{next_position} after {:?}", published.last());
            published.push((next_position, mac));
        }
        published
    }
}

/// Slows the wires, each by itself, and now and then cuts one: what was on its way is then of unknown fate.
async fn shake(wires: Vec<Wire>, mut rng: StdRng) {
    loop {
        let wire = &wires[rng.random_range(0..wires.len())];
        match rng.random_range(0..20) {
            0 => {
                wire.set(Mode::Cut);
                tokio::time::sleep(Duration::from_millis(rng.random_range(1..30))).await;
                wire.set(Mode::Open);
            }
            1..8 => wire.set(Mode::Slow(Duration::from_micros(rng.random_range(0..2_000)))),
            _ => wire.set(Mode::Open),
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(5..60))).await;
    }
}

/// Every position is there, and every command once, where its caller was told. Answers the mac at each position.
async fn check_log(client: &Client, acknowledged: &Acknowledged) -> Vec<Hash> {
    let question = "select position, mac, command_id from log.event order by position";
    let mut missing: HashMap<CommandId, u64> = acknowledged.clone();
    let mut macs = Vec::new();
    for row in client.query(question, &[]).await.unwrap() {
        let position = u64::try_from(row.get::<_, i64>(0)).unwrap();
        assert_eq!(position, macs.len() as u64, "positions are dense");
        macs.push(row.get::<_, &[u8]>(1).try_into().unwrap());
        match missing.remove(&CommandId::from_uuid(row.get(2))) {
            Some(told) => assert_eq!(told, position),
            None => assert!(position < BOOTSTRAP, "the event at {position} is one too many"),
        }
    }
    assert!(missing.is_empty(), "{} were acknowledged and are not there", missing.len());
    macs
}

/// Every node has come to the state that the log gives when it is read from its beginning, every seal checked.
async fn check_rolls(client: &Client, nodes: &[Arc<TestNode>]) {
    let log = head::open(client, &keys(), None).await.unwrap();
    let folded = replay::fold(client, &keys(), log, None).await.unwrap();
    for (number, node) in nodes.iter().enumerate() {
        let node = &node.running.node;
        let arrived = node.reached(folded.head.next_position - 1);
        tokio::time::timeout(MAX_STALE, arrived).await.unwrap_or_else(|_| panic!("node {number} skipped something"));
        assert!(node.snapshot().roll == folded.roll, "the state of node {number} is not that of the log");
        node.check_current().unwrap();
    }
}
