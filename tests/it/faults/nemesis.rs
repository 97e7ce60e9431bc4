//! What breaks, when, and for how long. Three hands at work at once: two have half of the nodes each and break one of them
//! at a time, the third has Postgres.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::fleet::FleetNode;
use super::history::Moment;
use crate::support::cluster::PrivateCluster;
use crate::support::wire::Mode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` and a start on the same files.
    Kill,
    /// SIGSTOP for longer than a lease: it wakes up with requests that were sent while it was away.
    Pause,
    /// Its connections to Postgres end, and new ones too.
    Cut,
    /// Nothing passes between it and Postgres, and nobody is told.
    Freeze,
    /// Whatever passes takes longer.
    Slow,
    /// `kill -9` of Postgres and all its processes; of some that stood still for a moment, with appends on their way.
    KillPostgres,
}

impl Fault {
    pub(super) const ALL: [Self; 6] =
        [Self::Kill, Self::Pause, Self::Cut, Self::Freeze, Self::Slow, Self::KillPostgres];
    const OF_NODES: [Self; 5] = [Self::Kill, Self::Pause, Self::Cut, Self::Freeze, Self::Slow];
}

/// One fault as it happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    pub(super) fault: Fault,
    pub(super) from: Moment,
    pub(super) until: Moment,
}

/// In milliseconds. A lease is a second.
const LONGER_THAN_A_LEASE: std::ops::Range<u64> = 1_500..2_600;
const A_WHILE: std::ops::Range<u64> = 200..2_200;
const DOWN: std::ops::Range<u64> = 0..600;
const CALM: std::ops::Range<u64> = 200..1_400;
const POSTGRES_CALM: std::ops::Range<u64> = 2_000..6_000;
const SLOWED: std::ops::Range<u64> = 5..60;

/// The faults of nodes, so that between them the hands deal each of them out before any comes again.
pub(super) fn deal(rng: &mut StdRng, hands: usize) -> Vec<Vec<Fault>> {
    let mut deck = Fault::OF_NODES;
    deck.shuffle(rng);
    (0..hands).map(|hand| deck.iter().copied().skip(hand).step_by(hands).collect()).collect()
}

/// A hand that breaks nodes: what it was dealt, and then whatever it likes until the time is over. All is well at its end.
pub(super) async fn break_nodes(
    mut nodes: Vec<FleetNode>,
    mut dealt: Vec<Fault>,
    mut rng: StdRng,
    began: Instant,
    until: Moment,
) -> (Vec<FleetNode>, Vec<Trouble>) {
    let mut troubles = Vec::new();
    while !dealt.is_empty() || began.elapsed() < until {
        pause(&mut rng, CALM).await;
        let fault = dealt.pop().unwrap_or_else(|| *Fault::OF_NODES.choose(&mut rng).unwrap());
        let at = rng.random_range(0..nodes.len());
        let from = began.elapsed();
        break_node(&mut nodes[at], fault, &mut rng).await;
        troubles.push(Trouble { fault, from, until: began.elapsed() });
    }
    (nodes, troubles)
}

async fn break_node(node: &mut FleetNode, fault: Fault, rng: &mut StdRng) {
    match fault {
        Fault::Kill => {
            node.kill();
            pause(rng, DOWN).await;
            node.start_again().await;
        }
        Fault::Pause => {
            node.pause();
            pause(rng, LONGER_THAN_A_LEASE).await;
            node.resume();
        }
        Fault::Cut => disturb(node, Mode::Cut, A_WHILE, rng).await,
        Fault::Freeze => disturb(node, Mode::Frozen, LONGER_THAN_A_LEASE, rng).await,
        Fault::Slow => {
            let by = Duration::from_millis(rng.random_range(SLOWED));
            disturb(node, Mode::Slow(by), A_WHILE, rng).await;
        }
        Fault::KillPostgres => unreachable!("the third hand has Postgres"),
    }
}

async fn disturb(node: &FleetNode, mode: Mode, span: std::ops::Range<u64>, rng: &mut StdRng) {
    node.wire.set(mode);
    pause(rng, span).await;
    node.wire.set(Mode::Open);
}

/// The hand that has Postgres; at least once it uses it.
pub(super) async fn break_postgres(
    mut cluster: PrivateCluster,
    mut rng: StdRng,
    began: Instant,
    until: Moment,
) -> (PrivateCluster, Vec<Trouble>) {
    let mut troubles = Vec::new();
    loop {
        pause(&mut rng, POSTGRES_CALM).await;
        if began.elapsed() > until && !troubles.is_empty() {
            return (cluster, troubles);
        }
        let from = began.elapsed();
        if rng.random_bool(0.5) {
            cluster.freeze_and_kill();
        } else {
            cluster.kill();
        }
        pause(&mut rng, DOWN).await;
        cluster.restart().await;
        troubles.push(Trouble { fault: Fault::KillPostgres, from, until: began.elapsed() });
    }
}

async fn pause(rng: &mut StdRng, milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(milliseconds))).await;
}
