//! After the last fault: what nobody knew becomes known, and every node says of everything what the log says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use portcullis::domain::ids::KeyId;
use portcullis::domain::roll::Roll;
use portcullis::domain::time::Timestamp;
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::checker::Fleet;
use super::history::{Operation, Outcome, Scope, Wish};
use super::population::Credential;
use super::world::World;

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
const AT_ONCE: usize = 32;
/// As many as one request takes.
const VALIDATED_AT_ONCE: usize = 1_000;

/// Waits until all nodes may answer, and are at one position.
pub(super) async fn wait_for_all(world: &World) -> u64 {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let positions = (0..world.node_count()).map(|node| world.current_position(node));
        let positions = futures_util::future::join_all(positions).await;
        if let Some(position) = positions[0]
            && positions.iter().all(|other| *other == Some(position))
        {
            return position;
        }
        assert!(Instant::now() < give_up, "the nodes do not come together: {positions:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is issued after all that works at once, whatever was fenced: so something works in every run.
pub(super) async fn issue_one_more(world: &World) {
    let wishes = [Wish::CreateWorker("afterwards".into()), Wish::CreateKey("afterwards".into())];
    for (number, wish) in wishes.into_iter().enumerate() {
        let mut operation = world.begin(format!("afterwards-{number}"), wish, Scope::Local);
        world.attempt(&mut operation, 0, true).await;
        assert!(operation.position().is_some(), "{operation:?}");
        world.history().operations.push(operation);
    }
}

/// Asks again for all that was left unknown, with the `Idempotency-Key` that it had.
pub(super) async fn settle(world: &World, rng: &mut StdRng) {
    let operations = std::mem::take(&mut world.history().operations);
    let (unknown, mut known): (Vec<Operation>, Vec<Operation>) =
        operations.into_iter().partition(|operation| operation.outcome == Outcome::Unknown);
    let nodes: Vec<usize> = unknown.iter().map(|_| rng.random_range(0..world.node_count())).collect();
    let asked = unknown.into_iter().zip(nodes).map(|(mut operation, node)| async move {
        world.attempt(&mut operation, node, false).await;
        operation
    });
    let settled: Vec<Operation> = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    known.extend(settled);
    world.history().operations = known;
}

/// Compares what each node says of every credential, key and worker with the log. How many credentials work.
pub(super) async fn compare(world: &World, fleet: &Fleet, roll: &Roll) -> usize {
    let credentials = world.population().credentials().to_vec();
    let end = roll.next_position() - 1;
    let working = credentials.iter().filter(|credential| fleet.works(credential.key, end)).count();
    for node in 0..world.node_count() {
        for some in credentials.chunks(VALIDATED_AT_ONCE) {
            let verdicts = world.validate(node, some).await.expect("a node that is well answers");
            for (Credential { key, .. }, accepted) in some.iter().zip(verdicts) {
                assert_eq!(accepted, fleet.works(*key, end), "node {node} of key {key}");
            }
        }
    }
    let wanted: Vec<(String, Value)> =
        fleet.keys().map(|key| said_of_key(roll, key)).chain(said_of_workers(roll)).collect();
    let wanted: Arc<[(String, Value)]> = wanted.into();
    let reads = (0..world.node_count()).flat_map(|node| {
        let wanted = wanted.clone();
        (0..wanted.len()).map(move |at| (node, wanted.clone(), at))
    });
    let compared = futures_util::stream::iter(reads).for_each_concurrent(AT_ONCE, |(node, wanted, at)| async move {
        let (path, expected) = &wanted[at];
        let said = world.read(node, path, end).await;
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(said[field], *value, "node {node} of {path}: {said}");
        }
    });
    compared.await;
    working
}

fn now() -> Timestamp {
    portcullis::command::mint::now()
}

/// Where to ask for a key, and what the fold says of it.
fn said_of_key(roll: &Roll, id: KeyId) -> (String, Value) {
    let key = roll.key(id).expect("a key of the log is in its fold");
    let worker = roll.worker_at(key.workers()[0]).map(|worker| worker.id.to_string());
    let said = json!({
        "id": id.to_string(),
        "state": roll.key_standing(key, now()).as_str(),
        "issued": key.issued,
        "parent": key.parent.map(|parent| parent.to_string()),
        "worker": worker,
    });
    (format!("/v1/keys/{id}"), said)
}

fn said_of_workers(roll: &Roll) -> impl Iterator<Item = (String, Value)> {
    roll.workers_after(None).map(|worker| {
        let good = worker
            .keys
            .iter()
            .filter(|key| roll.key(**key).is_some_and(|key| roll.is_good_for(key, worker, now())))
            .count();
        let said = json!({
            "id": worker.id.to_string(),
            "pool": worker.pool.to_string(),
            "state": worker.standing(now()).as_str(),
            "keys": good,
        });
        (format!("/v1/workers/{}", worker.id), said)
    })
}
