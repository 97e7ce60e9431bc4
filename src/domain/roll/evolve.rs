//! What each event makes of the Roll. The only code that changes state.
//!
//! `decide` never writes an event that names what does not exist. Should a log hold one all the same, the past is not ours
//! to refuse: the state stands.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::Roll;
use crate::domain::enrollment::{EnrollmentSecret, EnrollmentState, Limits};
use crate::domain::event::{Event, KeyCreated, KeyHolder, WorkerCreated};
use crate::domain::fence::Floor;
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId, PoolId, WorkerId};
use crate::domain::key::{Digest, Holder, Key, KeyKind, KeyState};
use crate::domain::operator::{Operator, OperatorIndex, Role};
use crate::domain::pool::{Pool, PoolSettings};
use crate::domain::signing_key::{NewSigningKey, SigningKey, SigningKeyState};
use crate::domain::time::Timestamp;
use crate::domain::worker::{Labels, Worker, WorkerIndex, WorkerState};

/// What the record of an event says beside the event.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) position: u64,
    pub(super) at: Timestamp,
    /// When its command was made, which is what its author counts from.
    pub(super) asked_at: Timestamp,
    /// The operator whose doing it was, where it was one's.
    pub(super) by: Option<OperatorIndex>,
    /// The key that its author came with.
    pub(super) key: Option<KeyId>,
}

impl Roll {
    pub(super) fn evolve(&mut self, origin: Origin, event: &Event) {
        let Origin { position, at, .. } = origin;
        match event {
            Event::PoolCreated { pool, settings } => self.create_pool(at, pool, settings),
            Event::PoolUpdated { pool, settings } => self.with_pool(pool, |pool| pool.settings = settings.clone()),
            Event::PoolRemoved { pool } => self.with_pool(pool, |pool| pool.removed = true),

            Event::WorkerCreated(created) => self.create_worker(origin, created),
            Event::WorkerUpdated { worker, name, labels, expires_at } => {
                self.update_worker(worker, name.as_ref(), labels, *expires_at);
            }
            Event::WorkerApproved { worker } => {
                self.no_longer_pending(worker);
                self.with_worker(worker, |worker| worker.state = WorkerState::Active);
            }
            Event::WorkerRejected { worker } => {
                self.no_longer_pending(worker);
                self.leave(worker, WorkerState::Rejected);
            }
            Event::WorkerIsolated { worker, until } => self.isolate(worker, *until),
            Event::WorkerReleased { worker } => self.with_worker(worker, |worker| worker.state = WorkerState::Active),
            Event::WorkerRemoved { worker } => {
                self.no_longer_pending(worker);
                self.leave(worker, WorkerState::Removed);
            }

            Event::KeyCreated(created) => self.create_key(origin, created),
            Event::KeyShared { key, worker } => self.share_key(*key, worker),
            Event::KeyRotated { .. } => self.rotate_key(origin, event),
            Event::KeyRevoked { key } => self.with_key(*key, |key| key.state = KeyState::Revoked),
            Event::KeysRevoked { keys, .. } => {
                for key in keys {
                    self.with_key(*key, |key| key.state = KeyState::Revoked);
                }
            }

            Event::EnrollmentSecretCreated { secret, pool, verifier, limits } => {
                self.insert_enrollment_secret(origin, *secret, pool, *verifier, limits, None);
            }
            Event::EnrollmentSecretRotated { .. } => self.rotate_enrollment_secret(origin, event),
            Event::EnrollmentSecretDisabled { secret } => self.disable_enrollment_secret(*secret),

            // A token carries its own facts; only what was revoked of tokens is state.
            Event::TokenIssued(_) | Event::TokensIssued { .. } => {}
            Event::TokenRevoked { session, issued, .. } => self.cut_session(*session, *issued, at),

            Event::SigningKeysInstalled { active, next } => self.install_signing_keys(active, next, at),
            Event::SigningKeysRotated { next, retired_verifies_until } => {
                self.rotate_signing_keys(next, *retired_verifies_until, at);
            }

            Event::OperatorCreated { operator, name, role } => self.create_operator(origin, *operator, name, *role),
            Event::OperatorUpdated { operator, name, role } => self.update_operator(*operator, name, *role),
            Event::OperatorRemoved { operator } => self.with_operator(*operator, |operator| operator.removed = true),

            Event::FenceRaised { scope, up_to } => self.raise_fence(position, at, scope, *up_to),

            Event::PlanMade(made) => self.make_plan(origin, made),
            Event::PlanApplied { plan, .. } => self.apply_plan(origin, *plan),
            Event::PlanProgressed { plan, done, changed } => self.progress_plan(at, *plan, *done, *changed),
            Event::PlanApproved { plan } => self.approve_plan(origin, *plan),
            Event::PlanPolicySet(policy) => self.plan_policy = policy.clone(),
            Event::KeyRotationDue { key, until } => _ = self.supersede_key(*key, *until),

            Event::Readmission { plan, change } => self.change_readmission(position, at, *plan, *change),
            Event::Netguard(change) => self.change_netguard(position, at, change),
            Event::Tripwire(event) => self.change_tripwires(origin, event),
            Event::Webhook(change) => self.change_webhook(position, at, change),

            // By `evolve_incident`, which also asks for the reason.
            Event::IncidentOpened(_)
            | Event::IncidentUpdated { .. }
            | Event::IncidentNoted { .. }
            | Event::IncidentReviewed { .. }
            | Event::IncidentStepDone { .. }
            | Event::IncidentStepWaived { .. }
            | Event::IncidentStepReopened { .. }
            | Event::IncidentClosed { .. } => {}

            Event::TlsCertificateServed(served) => self.serve_certificate(origin, served),

            Event::BarrierPassed { through, .. } => self.pass_barrier(*through),
            // What it brought back stands in the log before it.
            Event::LogRestored(_) => {}
            Event::AuthFailuresObserved { from, failures, .. } => self.count_refusals(*from, failures),
        }
    }

    fn rotate_key(&mut self, origin: Origin, event: &Event) {
        let Event::KeyRotated { key, successor, verifier, expires_at, overlap_until, derived } = event else { return };
        if let Some(parent) = self.supersede_key(*key, *overlap_until) {
            let heir = heir(&parent, *successor, *verifier, *expires_at, origin);
            self.insert_key(Key { derived: *derived, ..heir });
        }
    }

    fn rotate_enrollment_secret(&mut self, origin: Origin, event: &Event) {
        let Event::EnrollmentSecretRotated { secret, successor, verifier, overlap_until } = event else { return };
        if let Some(parent) = self.supersede_enrollment_secret(*secret, *overlap_until) {
            let (pool, limits) = (&parent.pool, &parent.limits);
            self.insert_enrollment_secret(origin, *successor, pool, *verifier, limits, Some(*secret));
        }
    }

    fn create_pool(&mut self, at: Timestamp, id: &PoolId, settings: &PoolSettings) {
        let new = Pool {
            id: id.clone(),
            settings: settings.clone(),
            created_at: at,
            removed: false,
            workers: 0,
            fence: Floor::default(),
        };
        self.pools.insert(id.clone(), Arc::new(new));
    }

    /// None is ever taken out, so their number is the place of the next.
    fn create_operator(&mut self, origin: Origin, id: OperatorId, name: &Arc<str>, role: Role) {
        let count = u32::try_from(self.operators.len()).expect("fewer than four billion operators in one log");
        let index = OperatorIndex(NonZeroU32::MIN.saturating_add(count));
        let Origin { position: created, at: created_at, by: created_by, .. } = origin;
        let (name, removed, keys) = (name.clone(), false, Vec::new());
        let new = Operator { id, index, name, role, removed, created_at, created, created_by, keys };
        self.operators.insert(id, Arc::new(new));
    }

    fn isolate(&mut self, id: &WorkerId, until: Option<Timestamp>) {
        self.with_worker(id, |worker| worker.state = WorkerState::Isolated { until });
    }

    fn update_operator(&mut self, id: OperatorId, name: &Arc<str>, role: Role) {
        self.with_operator(id, |operator| (operator.name, operator.role) = (name.clone(), role));
    }

    fn disable_enrollment_secret(&mut self, id: EnrollmentSecretId) {
        self.with_enrollment_secret(id, |secret| secret.state = EnrollmentState::Disabled);
    }

    fn create_worker(&mut self, origin: Origin, created: &WorkerCreated) {
        let index = WorkerIndex(u32::try_from(self.workers.len()).expect("fewer than four billion workers in one log"));
        // The pool's own id, and not the copy that was read with the event: a million workers share it.
        let pool = self.pools.get(&created.pool).map_or(&created.pool, |pool| &pool.id);
        let worker = Worker {
            id: created.worker.clone(),
            pool: pool.clone(),
            name: created.name.clone(),
            labels: (!created.labels.is_empty()).then(|| Arc::new(created.labels.clone())),
            state: if created.pending { WorkerState::Pending } else { WorkerState::Active },
            expires_at: created.expires_at,
            fence: Floor::default(),
            created_at: origin.at,
            created: origin.position,
            enrolled_by: created.enrolled_by,
            created_by: origin.by,
            seen_from: None,
            keys: Vec::new(),
        };
        self.workers.push(worker);
        self.worker_ids.insert(created.worker.clone(), index);
        if let Some(name) = &created.name {
            self.names.insert((name.clone(), index));
        }
        self.with_pool(&created.pool, |pool| pool.workers += 1);
        if let Some(secret) = created.enrolled_by {
            self.with_enrollment_secret(secret, |secret| {
                secret.uses += 1;
                secret.pending += u64::from(created.pending);
            });
        }
    }

    fn update_worker(
        &mut self,
        id: &WorkerId,
        name: Option<&Arc<str>>,
        labels: &Labels,
        expires_at: Option<Timestamp>,
    ) {
        self.rename(id, name);
        self.with_worker(id, |worker| {
            worker.labels = (!labels.is_empty()).then(|| Arc::new(labels.clone()));
            worker.expires_at = expires_at;
        });
    }

    /// The worker is no member of the fleet any more.
    fn leave(&mut self, id: &WorkerId, state: WorkerState) {
        let Some(worker) = self.worker(id.as_str()).cloned() else { return };
        if worker.is_member() {
            self.remove_name(&worker);
            self.with_pool(&worker.pool, |pool| pool.workers = pool.workers.saturating_sub(1));
        }
        self.with_worker(id, |worker| worker.state = state);
    }

    fn no_longer_pending(&mut self, id: &WorkerId) {
        let waiting = self.worker(id.as_str()).filter(|worker| worker.state == WorkerState::Pending);
        if let Some(secret) = waiting.and_then(|worker| worker.enrolled_by) {
            self.with_enrollment_secret(secret, |secret| secret.pending = secret.pending.saturating_sub(1));
        }
    }

    fn rename(&mut self, id: &WorkerId, name: Option<&Arc<str>>) {
        let Some(worker) = self.worker(id.as_str()).cloned() else { return };
        if worker.is_member() {
            self.remove_name(&worker);
            if let (Some(name), Some(index)) = (name, self.worker_index(id.as_str())) {
                self.names.insert((name.clone(), index));
            }
        }
        self.with_worker(id, |worker| worker.name = name.cloned());
    }

    fn remove_name(&mut self, worker: &Worker) {
        if let (Some(name), Some(index)) = (&worker.name, self.worker_index(worker.id.as_str())) {
            self.names.remove(&(name.clone(), index));
        }
    }

    fn create_key(&mut self, origin: Origin, created: &KeyCreated) {
        let holder = match &created.holder {
            KeyHolder::Worker(worker) => self.newest_or_other(worker.as_str()).map(Holder::Worker),
            KeyHolder::Operator(operator) => Some(Holder::Operator(*operator)),
        };
        let Some(holder) = holder else { return };
        self.insert_key(Key {
            id: created.key,
            verifier: created.verifier,
            holder,
            kind: created.kind,
            state: KeyState::Live,
            expires_at: created.expires_at,
            created_at: origin.at,
            issued: origin.position,
            parent: None,
            derived: false,
            created_by: origin.by,
        });
    }

    /// Most workers get their first key with the event after their own: then the id is the newest, and not looked for.
    fn newest_or_other(&self, id: &str) -> Option<WorkerIndex> {
        let newest = self.workers.len().checked_sub(1).and_then(|row| u32::try_from(row).ok()).map(WorkerIndex);
        let is_newest = |index: &WorkerIndex| self.worker_at(*index).is_some_and(|worker| worker.id.as_str() == id);
        newest.filter(is_newest).or_else(|| self.worker_index(id))
    }

    /// An id is one key's for ever: another under it changes nothing.
    fn insert_key(&mut self, key: Key) {
        if self.keys.get(key.id).is_some() {
            return;
        }
        if key.kind == KeyKind::Static && self.static_secrets(&key.verifier).next().is_some() {
            self.shared_secrets.insert(key.verifier);
        }
        match &key.holder {
            Holder::Operator(operator) => self.with_operator(*operator, |operator| operator.keys.push(key.id)),
            Holder::Worker(index) => self.give_key(*index, key.id),
            Holder::Workers(all) => {
                self.shared_keys.insert(key.id);
                all.iter().for_each(|index| self.give_key(*index, key.id));
            }
        }
        self.keys.insert(key);
    }

    fn give_key(&mut self, index: WorkerIndex, key: KeyId) {
        if let Some(worker) = self.workers.get_mut(index.0 as usize) {
            let keys = &mut worker.keys;
            // Most workers have one key, and a first push would make room for four.
            if keys.is_empty() {
                keys.reserve_exact(1);
            }
            keys.push(key);
        }
    }

    fn share_key(&mut self, id: KeyId, worker: &WorkerId) {
        let Some(index) = self.worker_index(worker.as_str()) else { return };
        self.with_key(id, |key| {
            let all = key.workers().iter().copied().chain([index]).collect();
            key.holder = Holder::Workers(all);
        });
        self.shared_keys.insert(id);
        self.give_key(index, id);
    }

    pub(super) fn supersede_key(&mut self, id: KeyId, until: Timestamp) -> Option<Key> {
        self.with_key(id, |key| {
            key.state = match key.state {
                KeyState::Live => KeyState::Superseded { until },
                // Rotated before: a second rotation never makes the overlap longer.
                KeyState::Superseded { until: earlier } => KeyState::Superseded { until: earlier.min(until) },
                ended @ (KeyState::Revoked | KeyState::Fenced) => ended,
            }
        });
        self.keys.get(id).cloned()
    }

    pub(super) fn supersede_enrollment_secret(
        &mut self,
        id: EnrollmentSecretId,
        until: Timestamp,
    ) -> Option<Arc<EnrollmentSecret>> {
        self.with_enrollment_secret(id, |secret| secret.state = superseded(secret.state, until));
        self.enrollment_secrets.get(&id).cloned()
    }

    fn insert_enrollment_secret(
        &mut self,
        origin: Origin,
        id: EnrollmentSecretId,
        pool: &PoolId,
        verifier: Digest,
        limits: &Limits,
        parent: Option<EnrollmentSecretId>,
    ) {
        let secret = EnrollmentSecret {
            id,
            pool: pool.clone(),
            verifier,
            limits: limits.clone(),
            state: EnrollmentState::Live,
            created_at: origin.at,
            issued: origin.position,
            fence: Floor::default(),
            parent,
            created_by: origin.by,
            uses: 0,
            pending: 0,
        };
        self.enrollment_secrets.insert(id, Arc::new(secret));
        self.enrollment_verifiers.insert(verifier, id);
    }

    fn install_signing_keys(&mut self, active: &NewSigningKey, next: &NewSigningKey, at: Timestamp) {
        self.signing_keys.push_back(Arc::new(signing_key(active, SigningKeyState::Active, at)));
        self.signing_keys.push_back(Arc::new(signing_key(next, SigningKeyState::Next, at)));
    }

    fn rotate_signing_keys(&mut self, next: &NewSigningKey, verify_until: Timestamp, at: Timestamp) {
        for key in &mut self.signing_keys {
            let state = match key.state {
                SigningKeyState::Next => SigningKeyState::Active,
                SigningKeyState::Active => SigningKeyState::Retired { verify_until },
                // A rotation without an overlap is for a key that leaked: it ends the overlap of older ones too.
                SigningKeyState::Retired { verify_until: earlier } => {
                    SigningKeyState::Retired { verify_until: earlier.min(verify_until) }
                }
            };
            if state != key.state {
                Arc::make_mut(key).state = state;
            }
        }
        self.signing_keys.push_back(Arc::new(signing_key(next, SigningKeyState::Next, at)));
    }

    pub(super) fn with_pool(&mut self, id: &PoolId, change: impl FnOnce(&mut Pool)) {
        if let Some(pool) = self.pools.get_mut(id) {
            change(Arc::make_mut(pool));
        }
    }

    pub(super) fn with_worker(&mut self, id: &WorkerId, change: impl FnOnce(&mut Worker)) {
        if let Some(index) = self.worker_index(id.as_str()) {
            self.with_worker_at(index, change);
        }
    }

    pub(super) fn with_key(&mut self, id: KeyId, change: impl FnOnce(&mut Key)) {
        if let Some(key) = self.keys.get_mut(id) {
            change(key);
        }
    }

    pub(super) fn with_enrollment_secret(
        &mut self,
        id: EnrollmentSecretId,
        change: impl FnOnce(&mut EnrollmentSecret),
    ) {
        if let Some(secret) = self.enrollment_secrets.get_mut(&id) {
            change(Arc::make_mut(secret));
        }
    }

    fn with_operator(&mut self, id: OperatorId, change: impl FnOnce(&mut Operator)) {
        if let Some(operator) = self.operators.get_mut(&id) {
            change(Arc::make_mut(operator));
        }
    }
}

/// What a rotation puts in the place of `parent`.
fn heir(parent: &Key, id: KeyId, verifier: Digest, expires_at: Option<Timestamp>, origin: Origin) -> Key {
    let Origin { position: issued, at: created_at, by: created_by, .. } = origin;
    let holder = parent.holder.clone();
    let (kind, state, parent) = (parent.kind, KeyState::Live, Some(parent.id));
    Key { id, verifier, holder, kind, state, expires_at, created_at, issued, parent, derived: false, created_by }
}

fn superseded(state: EnrollmentState, until: Timestamp) -> EnrollmentState {
    match state {
        EnrollmentState::Live => EnrollmentState::Superseded { until },
        EnrollmentState::Superseded { until: earlier } => EnrollmentState::Superseded { until: earlier.min(until) },
        EnrollmentState::Disabled => EnrollmentState::Disabled,
    }
}

fn signing_key(new: &NewSigningKey, state: SigningKeyState, created_at: Timestamp) -> SigningKey {
    SigningKey {
        id: new.id,
        algorithm: new.algorithm,
        public_jwk: new.public_jwk.clone(),
        sealed: new.sealed.clone(),
        state,
        created_at,
    }
}
