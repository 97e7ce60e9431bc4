//! The Roll: the whole state, as one immutable value.
//!
//! It is a function of the log and of nothing else (promise 3): [`Roll::apply`] is the only thing that changes it. The
//! maps are persistent, so that a copy costs a few pointers: a draft that is not committed is dropped, a reader keeps its
//! snapshot for as long as it likes. Fold it from nothing and the maps change in place, since nobody else holds them.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdMap, OrdSet, Vector};
use ipnet::IpNet;

use super::certificate::Certificate;
use super::enrollment::EnrollmentSecret;
use super::ids::{
    EnrollmentSecretId, IncidentId, KeyId, OperatorId, PlanId, PoolId, SigningKeyId, TokenId, WebhookId, WorkerId,
};
use super::key::{Digest, Key};
use super::netguard::Listed;
use super::operator::{Operator, OperatorIndex};
use super::plan::{ApprovalPolicy, Plan};
use super::pool::Pool;
use super::signing_key::{SigningKey, SigningKeyState};
use super::time::Timestamp;
use super::token::SessionCut;
use super::webhook::Webhook;
use super::worker::{Worker, WorkerIndex};
use fences::Fences;
use incidents::Incidents;
use keys::Keys;
use rows::Rows;
use tripwires::Tripwires;

mod apply;
mod certificates;
mod evolve;
mod fences;
mod fragment;
mod incidents;
mod index;
mod keys;
mod made_by;
mod netguard;
mod plans;
mod prefetch;
mod readmissions;
mod rows;
pub mod scope;
mod selection;
mod sessions;
pub mod stored;
#[cfg(test)]
mod tests;
mod tripwires;
mod webhooks;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roll {
    /// How many events it holds: the position of the next one.
    next_position: u64,
    /// When the last of them was recorded.
    recorded_at: Timestamp,
    /// The position of the last event that took access away; 0, which is none, before there was one.
    reduced: u64,
    /// All up to and with this position is in force on every node.
    in_force: u64,
    pools: OrdMap<PoolId, Arc<Pool>>,
    workers: Rows<Worker>,
    worker_ids: OrdMap<WorkerId, WorkerIndex>,
    /// Members of the fleet by the name that they were given, to show collisions. A set of pairs, since a whole fleet may
    /// have one name: a list by name would be copied for each that comes.
    names: OrdSet<(Arc<str>, WorkerIndex)>,
    keys: Keys,
    /// Keys that serve more than one worker: a risk to be listed.
    shared_keys: OrdSet<KeyId>,
    /// Static secrets that more than one key has: a risk to be listed.
    shared_secrets: OrdSet<Digest>,
    enrollment_secrets: OrdMap<EnrollmentSecretId, Arc<EnrollmentSecret>>,
    enrollment_verifiers: IdMap<Digest, EnrollmentSecretId>,
    signing_keys: Vector<Arc<SigningKey>>,
    session_cuts: IdMap<TokenId, SessionCut>,
    session_cut_ends: OrdSet<(Timestamp, TokenId)>,
    operators: OrdMap<OperatorId, Arc<Operator>>,
    fences: Fences,
    plans: OrdMap<PlanId, Arc<Plan>>,
    /// Workers whose state is isolation, whether or not its end has come.
    isolated: OrdSet<WorkerIndex>,
    netguard: OrdMap<IpNet, Listed>,
    /// When each of them that is not under way can be forgotten.
    plan_ends: OrdSet<(Timestamp, PlanId)>,
    plan_policy: ApprovalPolicy,
    incidents: Incidents,
    /// By the names of the nodes.
    certificates: OrdMap<Arc<str>, Arc<Certificate>>,
    certificates_due: u64,
    /// The incident that the newest plan to replace them was applied for.
    certificates_for: Option<IncidentId>,
    /// Behind a pointer, since it seldom changes, and a Roll is copied for each batch.
    tripwires: Arc<Tripwires>,
    webhooks: OrdMap<WebhookId, Arc<Webhook>>,
}

/// Ids, found by themselves.
pub type IdSet<T> = std::collections::HashSet<T, BuildHasherDefault<IdHasher>>;
type IdMap<K, V> = GenericHashMap<K, V, BuildHasherDefault<IdHasher>, DefaultSharedPtr>;

/// Takes the id itself as its hash: ids are random, or digests, and made by us alone, so nobody can aim at a bucket.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low half of a UUIDv7 is the random one")]
    fn write_u128(&mut self, id: u128) {
        self.0 ^= id as u64;
    }

    fn write_usize(&mut self, _length: usize) {}

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }
}

impl Roll {
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.next_position
    }

    #[must_use]
    pub fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// The position of the last event that took access away; 0 before there was one.
    #[must_use]
    pub fn reduced(&self) -> u64 {
        self.reduced
    }

    /// Up to and with which position all is known to be in force on every node.
    #[must_use]
    pub fn in_force(&self) -> u64 {
        self.in_force
    }

    #[must_use]
    pub fn pool(&self, id: &str) -> Option<&Arc<Pool>> {
        self.pools.get(id)
    }

    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values()
    }

    #[must_use]
    pub fn worker(&self, id: &str) -> Option<&Worker> {
        self.worker_index(id).and_then(|index| self.worker_at(index))
    }

    #[must_use]
    pub fn worker_index(&self, id: &str) -> Option<WorkerIndex> {
        self.worker_ids.get(id).copied()
    }

    #[must_use]
    pub fn worker_at(&self, index: WorkerIndex) -> Option<&Worker> {
        self.workers.get(index.0 as usize)
    }

    /// Workers in the order of their ids, from the one after `cursor` on.
    pub fn workers_after<'a>(&'a self, cursor: Option<&str>) -> impl Iterator<Item = &'a Worker> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = cursor.map_or(Unbounded, Excluded);
        self.worker_ids.range::<_, str>((from, Unbounded)).filter_map(|(_, index)| self.worker_at(*index))
    }

    /// Members of the fleet that were given this name, oldest first.
    pub fn workers_named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Worker> {
        let name: Arc<str> = name.into();
        let all = (name.clone(), WorkerIndex(0))..=(name, WorkerIndex(u32::MAX));
        self.names.range(all).filter_map(|(_, index)| self.worker_at(*index))
    }

    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&Key> {
        self.keys.get(id)
    }

    /// Asks memory for what tells where this key stands.
    pub fn prefetch_key_index(&self, id: KeyId) {
        self.keys.prefetch_index(id);
    }

    /// Asks memory for this key.
    pub fn prefetch_key(&self, id: KeyId) {
        self.keys.prefetch(id);
    }

    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// All keys, oldest first, from the one after `cursor` on; `None` where there is no such key.
    pub fn keys_after(&self, cursor: Option<KeyId>) -> Option<impl Iterator<Item = &Key>> {
        self.keys.after(cursor)
    }

    /// The keys that were issued after this position, oldest first.
    pub fn keys_issued_after(&self, position: u64) -> impl Iterator<Item = &Key> {
        self.keys.issued_after(position)
    }

    /// The keys whose value has this verifier, oldest first.
    pub fn static_secrets<'a>(&'a self, verifier: &Digest) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.keys.with_static_secret(*verifier)
    }

    /// Keys that several workers share, and keys whose static secret another key has too; each once.
    pub fn shared(&self) -> impl Iterator<Item = &Key> {
        let by_value = self.shared_secrets.iter().flat_map(|verifier| self.static_secrets(verifier));
        let by_value = by_value.filter(|key| !self.shared_keys.contains(&key.id));
        self.shared_keys.iter().filter_map(|id| self.key(*id)).chain(by_value)
    }

    #[must_use]
    pub fn enrollment_secret(&self, id: EnrollmentSecretId) -> Option<&Arc<EnrollmentSecret>> {
        self.enrollment_secrets.get(&id)
    }

    #[must_use]
    pub fn enrollment_secret_by_verifier(&self, verifier: &Digest) -> Option<&Arc<EnrollmentSecret>> {
        self.enrollment_verifiers.get(verifier).and_then(|id| self.enrollment_secrets.get(id))
    }

    pub fn enrollment_secrets(&self) -> impl Iterator<Item = &Arc<EnrollmentSecret>> {
        self.enrollment_secrets.values()
    }

    /// Oldest first.
    pub fn signing_keys(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.signing_keys.iter()
    }

    #[must_use]
    pub fn signing_key(&self, id: SigningKeyId) -> Option<&Arc<SigningKey>> {
        self.signing_keys.iter().find(|key| key.id == id)
    }

    #[must_use]
    pub fn active_signing_key(&self) -> Option<&Arc<SigningKey>> {
        self.signing_keys.iter().rev().find(|key| key.state == SigningKeyState::Active)
    }

    /// Whether a token of this session, issued at this position, was revoked or descends from one that was.
    #[must_use]
    pub fn is_token_revoked(&self, session: TokenId, issued: u64) -> bool {
        self.session_cuts.get(&session).is_some_and(|cut| cut.from <= issued)
    }

    #[must_use]
    pub fn operator(&self, id: OperatorId) -> Option<&Arc<Operator>> {
        self.operators.get(&id)
    }

    pub fn operators(&self) -> impl Iterator<Item = &Arc<Operator>> {
        self.operators.values()
    }

    /// There are few, and nobody asks often.
    #[must_use]
    pub fn operator_at(&self, index: OperatorIndex) -> Option<&Arc<Operator>> {
        self.operators().find(|operator| operator.index == index)
    }
}
