//! Four nodes, 64 clients, and everything that breaks: promises 1 to 5 while nodes are killed, paused for longer than their
//! leases, cut off, frozen and slowed, and Postgres is killed under them.
//!
//! Every client writes down what it asked, when, and what it was told; at the end [`checker`] compares that with the log.
//! `ops/faults` runs it for longer, and again with the seed that a run has printed. A seed repeats what is chosen, not how
//! the machine interleaves it.

mod checker;
mod clients;
mod facts;
mod fleet;
mod healed;
mod history;
mod nemesis;
mod population;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use self::checker::{Fleet, Violation, check};
use self::clients::Clients;
use self::fleet::FleetNode;
use self::history::{History, Moment, Outcome, Scope};
use self::nemesis::{Fault, Trouble};
use self::world::World;
use crate::support::cluster::PrivateCluster;
use crate::support::run::number_from;

const NODES: usize = 4;
const CLIENTS: usize = 64;
/// As long as every run of the tests can bear.
const SECONDS_DEFAULT: u64 = 8;
/// After the last fault: what it left is seen, and the first answers of nodes that were away.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// Many leases, on a machine that does much else.
const WAITED_OUT_PATIENCE: Duration = Duration::from_secs(20);
/// Of each kind of violation so many are shown.
const SHOWN_MAX: usize = 3;

/// How long and with which choices to run: `PORTCULLIS_FAULTS_SECONDS` and `PORTCULLIS_FAULTS_SEED`, which `ops/faults` sets.
fn plan() -> (Duration, u64) {
    let seconds = number_from("PORTCULLIS_FAULTS_SECONDS").unwrap_or(SECONDS_DEFAULT);
    (Duration::from_secs(seconds), number_from("PORTCULLIS_FAULTS_SEED").unwrap_or_else(rand::random))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_nothing_acknowledged_is_lost_and_nothing_revoked_is_accepted() {
    let (length, seed) = plan();
    eprintln!("{} s of faults with the seed {seed}", length.as_secs());
    let mut rng = StdRng::seed_from_u64(seed);
    // As Postgres is where nobody has set anything: what is planned as dear is compiled, however small it is.
    let cluster = PrivateCluster::start_with(|_, _| vec!["jit=on".to_owned()]).await;
    let mut nodes = fleet::start(&cluster, NODES).await;
    let world = Arc::new(World::of(&nodes).await);
    let clients = Clients::start(&world, CLIENTS, seed);

    let mut hands = nemesis::deal(&mut rng, 2).into_iter();
    let mut hand = |nodes, rng| {
        let dealt = hands.next().unwrap_or_default();
        tokio::spawn(nemesis::break_nodes(nodes, dealt, rng, world.began, length))
    };
    let others = nodes.split_off(NODES / 2);
    let first = hand(nodes, StdRng::from_rng(&mut rng));
    let second = hand(others, StdRng::from_rng(&mut rng));
    let postgres = tokio::spawn(nemesis::break_postgres(cluster, StdRng::from_rng(&mut rng), world.began, length));
    let (nodes, mut troubles) = first.await.unwrap();
    let (others, further) = second.await.unwrap();
    troubles.extend(further);
    let (cluster, further) = postgres.await.unwrap();
    troubles.extend(further);

    troubles.push(wait_one_out(&world, &nodes[0]).await);
    tokio::time::sleep(AFTERWARDS).await;
    clients.stop().await;
    healed::wait_for_all(&world).await;
    healed::settle(&world, &mut rng).await;
    healed::issue_one_more(&world).await;
    healed::wait_for_all(&world).await;
    let (facts, roll) = facts::read(&cluster.owner_url(), &world.keys).await;
    let working = healed::compare(&world, &Fleet::of(&facts), &roll).await;

    nodes[0].service.verify_projections().await;

    let history = std::mem::take(&mut *world.history());
    // What the nodes have logged says nothing of what the checker finds.
    nodes.into_iter().chain(others).for_each(|mut node| assert!(node.service.stop()));
    let (facts, _) = facts::read(&cluster.owner_url(), &world.keys).await;
    let violations = check(&history, &facts);
    tell(&world, &history, &troubles, facts.len(), working);
    assert!(violations.is_empty(), "with the seed {seed}:{}", shown(&violations));
    check_that_it_was_about_something(&world, &troubles, working);
}

/// Pauses a node for as long as it takes until something is acknowledged by all the others: with the faults at random it may
/// be that none lasted long enough for that.
async fn wait_one_out(world: &World, node: &FleetNode) -> Trouble {
    let mut trouble = Trouble { fault: Fault::Pause, from: world.now(), until: Moment::MAX };
    node.pause();
    while waited_out(&world.history(), &[trouble]) == 0 {
        assert!(
            world.now().saturating_sub(trouble.from) < WAITED_OUT_PATIENCE,
            "a node that is paused is not waited out"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.resume();
    trouble.until = world.now();
    trouble
}

/// How many there are of each kind, and the first few.
fn shown(violations: &[Violation]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&Violation>> = BTreeMap::new();
    for violation in violations {
        kinds.entry(violation.kind()).or_default().push(violation);
    }
    let few =
        |some: Vec<&Violation>| some.iter().take(SHOWN_MAX).map(|one| format!("\n    {one:?}")).collect::<String>();
    kinds.into_iter().map(|(kind, some)| format!("\n  {} times {kind}{}", some.len(), few(some))).collect()
}

/// A run in which nothing happened would pass too.
fn check_that_it_was_about_something(world: &World, troubles: &[Trouble], working: usize) {
    for fault in Fault::ALL {
        assert!(troubles.iter().any(|trouble| trouble.fault == fault), "no {fault:?}");
    }
    let heard = world.heard();
    assert!(working > 0 && heard.accepted > 0 && heard.refused > 0 && heard.stale > 0, "{heard:?}");
}

/// How much was acknowledged with `wait=everywhere` while a node was paused or frozen all along.
fn waited_out(history: &History, troubles: &[Trouble]) -> usize {
    let deaf = |trouble: &&Trouble| matches!(trouble.fault, Fault::Pause | Fault::Freeze);
    let during = |trouble: &Trouble| {
        let acknowledged = history.operations.iter().filter(|operation| {
            let is_within = operation.invoked >= trouble.from && operation.completed <= trouble.until;
            let is_done = matches!(operation.outcome, Outcome::Done { .. });
            is_within && is_done && operation.scope == Scope::Everywhere
        });
        acknowledged.count()
    };
    troubles.iter().filter(deaf).map(during).sum()
}

fn tell(world: &World, history: &History, troubles: &[Trouble], events: usize, working: usize) {
    let heard = world.heard();
    eprintln!(
        "operations: {:?}, {} with wait=everywhere while a node was deaf",
        heard.operations,
        waited_out(history, troubles)
    );
    eprintln!(
        "validations: {} accepted, {} refused, {} stale, {} unanswered; {events} events; {working} credentials work in the end",
        heard.accepted, heard.refused, heard.stale, heard.unanswered
    );
    for fault in Fault::ALL {
        let times = troubles.iter().filter(|trouble| trouble.fault == fault);
        let lengths: Vec<String> =
            times.map(|trouble| format!("{:.1?}", trouble.until.saturating_sub(trouble.from))).collect();
        eprintln!("{fault:?}: {}", lengths.join(", "));
    }
}
