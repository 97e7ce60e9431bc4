//! The clients: each acts and asks, on any node, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::history::{Outcome, Scope, Wish};
use super::population::{Credential, Population};
use super::world::World;

/// Between two things that a client does, in milliseconds: 64 of them are to leave the nodes some of the machine.
const THINKS: std::ops::Range<u64> = 10..220;
const ACTS: f64 = 0.3;
/// Of what takes access away, how much waits for all nodes.
const WAITS_EVERYWHERE: f64 = 0.6;
/// What is unknown is asked for again, on any node, in so many cases; a few times.
const ASKS_AGAIN: f64 = 0.5;
const ATTEMPTS_MAX: usize = 3;
const VALIDATED_AT_ONCE: usize = 8;
/// Validations that were sent the moment after an acknowledgement, and still wait: most of them for a node that is paused.
const PROBES_MAX: usize = 1_024;
const PROBED_MAX: usize = 32;

type Choice = fn(&Population, &mut StdRng) -> Option<Wish>;

/// What clients wish, and how often: a further kind is a line here, its request in `world.rs`, and what it leaves in the log
/// in `history.rs` and `facts.rs`.
const WISHES: [(u32, Choice); 6] = [
    (6, |population, rng| population.worker(rng).map(Wish::CreateKey)),
    (4, |population, rng| population.key(rng).map(|key| Wish::RotateKey { key, ends_now: rng.random_bool(0.5) })),
    (4, |population, rng| population.key(rng).map(Wish::RevokeKey)),
    (3, |population, rng| population.worker(rng).map(Wish::Isolate)),
    (4, |population, rng| population.worker(rng).map(Wish::Release)),
    (2, |population, rng| {
        let everything = rng.random_bool(FENCES_EVERYTHING);
        Some(Wish::Fence(if everything { None } else { Some(population.worker(rng)?) }))
    }),
];
/// Every credential there is ends with one of these: seldom, or nothing else would be there to be seen.
const FENCES_EVERYTHING: f64 = 0.02;
/// Beside these: a worker is made.
const NEW_WORKERS: u32 = 6;

pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    probes: Arc<Semaphore>,
    running: Vec<JoinHandle<()>>,
}

struct Client {
    number: usize,
    world: Arc<World>,
    stop: Arc<AtomicBool>,
    probes: Arc<Semaphore>,
}

impl Clients {
    pub(super) fn start(world: &Arc<World>, count: usize, seed: u64) -> Self {
        let (stop, probes) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(PROBES_MAX)));
        let client = |number| {
            let rng = StdRng::seed_from_u64(seed ^ (number as u64 + 1) << 32);
            let client = Client { number, world: world.clone(), stop: stop.clone(), probes: probes.clone() };
            tokio::spawn(client.run(rng))
        };
        Self { running: (0..count).map(client).collect(), stop, probes }
    }

    /// Waits until each has heard, or given up on, all that it asked.
    pub(super) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.running {
            client.await.unwrap();
        }
        drop(self.probes.acquire_many(u32::try_from(PROBES_MAX).unwrap()).await.unwrap());
    }
}

impl Client {
    async fn run(self, mut rng: StdRng) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if rng.random_bool(ACTS) {
                self.act(number, &mut rng).await;
            } else {
                self.ask(&mut rng).await;
            }
            tokio::time::sleep(Duration::from_millis(rng.random_range(THINKS))).await;
        }
    }

    async fn ask(&self, rng: &mut StdRng) {
        let chosen: Vec<Credential> = {
            let population = self.world.population();
            (0..VALIDATED_AT_ONCE).filter_map(|_| population.credential(rng)).collect()
        };
        if !chosen.is_empty() {
            let node = rng.random_range(0..self.world.node_count());
            self.world.validate(node, &chosen).await;
        }
    }

    async fn act(&self, number: usize, rng: &mut StdRng) {
        let wish = self.choose(number, rng);
        let takes_access =
            matches!(wish, Wish::RotateKey { .. } | Wish::RevokeKey(_) | Wish::Isolate(_) | Wish::Fence(_));
        let everywhere = takes_access && rng.random_bool(WAITS_EVERYWHERE);
        let scope = if everywhere { Scope::Everywhere } else { Scope::Local };
        let mut operation = self.world.begin(format!("{}-{number}", self.number), wish, scope);
        for attempt in 0..ATTEMPTS_MAX {
            let node = rng.random_range(0..self.world.node_count());
            self.world.attempt(&mut operation, node, attempt == 0).await;
            if operation.outcome != Outcome::Unknown || !rng.random_bool(ASKS_AGAIN) {
                break;
            }
        }
        let mut touched = self.world.population().touch_all(World::concerned(&operation.wish));
        // The newest: of a fence over everything that is enough to ask about.
        touched.drain(..touched.len().saturating_sub(PROBED_MAX));
        if matches!(operation.outcome, Outcome::Done { .. }) && takes_access {
            self.probe(&touched);
        }
        self.world.history().operations.push(operation);
    }

    fn choose(&self, number: usize, rng: &mut StdRng) -> Wish {
        let population = self.world.population();
        let others: u32 = WISHES.iter().map(|(weight, _)| weight).sum();
        let chosen = (!rng.random_ratio(NEW_WORKERS, NEW_WORKERS + others))
            .then(|| WISHES.choose_weighted(rng, |(weight, _)| *weight).unwrap())
            .and_then(|(_, choice)| choice(&population, rng));
        chosen.unwrap_or_else(|| Wish::CreateWorker(format!("w-{}-{number}", self.number).into()))
    }

    /// Asks every node about what was just acknowledged, without waiting for those that do not answer.
    fn probe(&self, touched: &[Credential]) {
        for node in 0..self.world.node_count() {
            let Ok(permit) = self.probes.clone().try_acquire_owned() else { return };
            let (world, touched) = (self.world.clone(), touched.to_vec());
            tokio::spawn(async move {
                world.validate(node, &touched).await;
                drop(permit);
            });
        }
    }
}
