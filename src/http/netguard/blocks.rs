//! Who is to be blocked, worked out from where isolated workers were seen and who else is there. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ids::KeyId;
use crate::domain::key::Holder;
use crate::domain::netguard::Listing;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{Standing, Worker};
use crate::http::schema;
use crate::projection::used::Source;

const HOUR: i64 = 3_600_000_000;
/// Of the addresses of a worker, those count where it was seen within so long before it was seen last. What it had before
/// that, somebody else may have now.
const LAST_SEEN: i64 = 24 * HOUR;
/// Who was seen at an address so long ago may be there still, and is not cut off without a word.
pub(super) const SHARED_FOR: i64 = 7 * 24 * HOUR;
/// Of each address, the other keys that are looked at: behind it is a whole site, and one that is accepted will do.
pub(super) const SHARERS_LOOKED_AT: usize = 256;
/// Isolated workers whose addresses are looked for. Past that a fence stands over all, and a firewall is a wall.
const WORKERS_MAX: usize = 100_000;
/// Names of one entry: for people, who want to know which worker, and not all ten thousand behind one address.
const NAMED_MAX: usize = 8;

/// What netguard blocks, and what it does not.
#[derive(Serialize, ToSchema)]
pub(super) struct Blocks {
    blocked: Vec<Blocked>,
    /// Somebody isolated was seen there, and so was somebody who is not: nothing is blocked unless it is asked for.
    shared: Vec<Shared>,
    /// Networks that operators have listed as never to be blocked.
    excepted: Vec<String>,
    /// Isolated workers whose addresses were not looked for, since there are too many.
    left_out: usize,
}

/// A network of which every packet is dropped.
#[derive(Serialize, ToSchema)]
pub(super) struct Blocked {
    #[schema(schema_with = schema::cidr)]
    network: String,
    /// Isolated workers that were seen there: eight of them at the most.
    workers: Vec<String>,
    /// How many they are.
    worker_count: usize,
    /// Whether an operator has listed it.
    listed: bool,
}

/// A network that is left alone.
#[derive(Serialize, ToSchema)]
pub(super) struct Shared {
    #[schema(schema_with = schema::cidr)]
    network: String,
    workers: Vec<String>,
    worker_count: usize,
    /// Who else: `worker` or `operator`, which can be blocked all the same with `--include-shared`; `trusted_proxy` or
    /// `loopback`, which never are.
    #[schema(schema_with = schema::netguard_with)]
    with: &'static str,
    /// Of a worker or an operator that is accepted and was seen there: the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    id: Option<String>,
}

/// The workers that are isolated, and where they were seen.
pub(super) struct Isolated {
    workers: Vec<String>,
    /// Which of them has which keys.
    of_key: BTreeMap<String, usize>,
    keys: Vec<KeyId>,
    /// Where, and who of them.
    seen: BTreeMap<IpAddr, BTreeSet<usize>>,
    left_out: usize,
}

impl Isolated {
    pub(super) fn at(roll: &Roll, now: Timestamp) -> Self {
        let mut isolated =
            Self { workers: Vec::new(), of_key: BTreeMap::new(), keys: Vec::new(), seen: BTreeMap::new(), left_out: 0 };
        for worker in roll.isolated_workers(now) {
            if isolated.workers.len() == WORKERS_MAX {
                isolated.left_out += 1;
            } else {
                isolated.add(worker);
            }
        }
        isolated
    }

    fn add(&mut self, worker: &Worker) {
        let number = self.workers.len();
        self.workers.push(worker.id.to_string());
        self.keys.extend(&worker.keys);
        self.of_key.extend(worker.keys.iter().map(|key| (key.to_string(), number)));
    }

    pub(super) fn keys(&self) -> Vec<KeyId> {
        self.keys.clone()
    }

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.seen.keys().copied().collect()
    }

    /// Where their keys were shown.
    pub(super) fn were_seen(&mut self, sources: &[(String, Source)]) {
        let mut newest: BTreeMap<usize, Timestamp> = BTreeMap::new();
        let of = |key: &String| self.of_key.get(key).copied();
        for (worker, source) in sources.iter().filter_map(|(key, source)| Some((of(key)?, source))) {
            let known = newest.entry(worker).or_insert(source.seen.last);
            *known = source.seen.last.max(*known);
        }
        for (worker, source) in sources.iter().filter_map(|(key, source)| Some((of(key)?, source))) {
            if newest[&worker].0.saturating_sub(source.seen.last.0) <= LAST_SEEN {
                self.seen.entry(source.address).or_default().insert(worker);
            }
        }
    }

    /// `others` are keys, not of these workers alone, that came from the same addresses.
    pub(super) fn blocks(&self, roll: &Roll, now: Timestamp, others: &[(KeyId, IpAddr)], proxies: &[IpNet]) -> Blocks {
        let mut accepted: BTreeMap<IpAddr, Neighbour> = BTreeMap::new();
        for (key, address) in others {
            if let Some(neighbour) = neighbour(roll, *key, now) {
                meet(&mut accepted, *address, neighbour);
            }
        }
        // A key that an accepted worker has too says nothing of which of the two was there.
        let mine = self.seen.iter().flat_map(|(address, workers)| workers.iter().map(move |worker| (address, worker)));
        for (address, worker) in mine {
            let sharer = roll.worker(&self.workers[*worker]).and_then(|worker| sharer(roll, worker, now));
            if let Some(sharer) = sharer {
                meet(&mut accepted, *address, sharer);
            }
        }
        let (mut blocked, mut shared) = (Vec::new(), Vec::new());
        for (address, workers) in &self.seen {
            let network = IpNet::from(*address).to_string();
            let names = workers.iter().take(NAMED_MAX).map(|worker| self.workers[*worker].clone()).collect();
            let with = protected(*address, proxies).map(|with| Neighbour { with, id: None });
            match with.or_else(|| accepted.remove(address)) {
                Some(Neighbour { with, id }) => {
                    shared.push(Shared { network, workers: names, worker_count: workers.len(), with, id });
                }
                None => {
                    blocked.push(Blocked { network, workers: names, worker_count: workers.len(), listed: false });
                }
            }
        }
        let listed = |listing| roll.listed_networks().filter(move |(_, listed)| listed.listing == listing);
        blocked.extend(listed(Listing::Blocked).map(|(network, _)| Blocked {
            network: network.to_string(),
            workers: Vec::new(),
            worker_count: 0,
            listed: true,
        }));
        let excepted = listed(Listing::Excepted).map(|(network, _)| *network).chain(proxies.iter().copied());
        let excepted: BTreeSet<IpNet> = excepted.map(|network| network.trunc()).collect();
        let excepted = excepted.iter().map(ToString::to_string).collect();
        Blocks { blocked, shared, excepted, left_out: self.left_out }
    }
}

/// Of several the first by name is told, whoever was seen last: the answer is another one only when something is new.
fn meet(met: &mut BTreeMap<IpAddr, Neighbour>, address: IpAddr, neighbour: Neighbour) {
    let known = met.entry(address).or_insert_with(|| neighbour.clone());
    if neighbour < *known {
        *known = neighbour;
    }
}

/// Somebody else at an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Neighbour {
    with: &'static str,
    id: Option<String>,
}

/// What is never a worker's own address.
fn protected(address: IpAddr, proxies: &[IpNet]) -> Option<&'static str> {
    if address.is_loopback() || address.is_unspecified() {
        return Some("loopback");
    }
    proxies.iter().any(|proxy| proxy.contains(&address)).then_some("trusted_proxy")
}

/// The holder of a key, if it is one that is to go on.
fn neighbour(roll: &Roll, key: KeyId, now: Timestamp) -> Option<Neighbour> {
    let key = roll.key(key)?;
    match &key.holder {
        Holder::Operator(id) => {
            let operator = roll.operator(*id).filter(|operator| !operator.removed)?;
            Some(Neighbour { with: "operator", id: Some(operator.id.to_string()) })
        }
        Holder::Worker(_) | Holder::Workers(_) => {
            key.workers().iter().filter_map(|index| roll.worker_at(*index)).find_map(|worker| active(worker, now))
        }
    }
}

/// Another worker that has one of this worker's keys, and is to go on.
fn sharer(roll: &Roll, worker: &Worker, now: Timestamp) -> Option<Neighbour> {
    let shared = worker.keys.iter().filter_map(|key| roll.key(*key)).filter(|key| key.workers().len() > 1);
    let holders = shared.flat_map(|key| key.workers().iter()).filter_map(|index| roll.worker_at(*index));
    holders.filter(|holder| holder.id != worker.id).find_map(|holder| active(holder, now))
}

fn active(worker: &Worker, now: Timestamp) -> Option<Neighbour> {
    let is_active = matches!(worker.standing(now), Standing::Active | Standing::Pending);
    is_active.then(|| Neighbour { with: "worker", id: Some(worker.id.to_string()) })
}
