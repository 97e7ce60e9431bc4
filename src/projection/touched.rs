//! Which rows an event can change, of whatever projection.
//!
//! One too many is work for nothing, one too few is a wrong list. Every kind of event is named, so that a new one has to be
//! thought about.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use crate::domain::event::{Event, KeyCreated, Recorded};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId, PlanId, PoolId, WorkerId};
use crate::domain::key::{Holder, KeyKind, KeyState};
use crate::domain::plan::Item;
use crate::domain::readmission::ReadmissionChange;
use crate::domain::roll::Roll;
use crate::domain::worker::WorkerIndex;

/// What some events are about, beyond their subjects too.
#[derive(Debug, Default)]
pub struct Touched {
    pub(super) pools: BTreeSet<PoolId>,
    pub(super) workers: BTreeSet<WorkerId>,
    pub(super) keys: BTreeSet<KeyId>,
    pub(super) enrollment_secrets: BTreeSet<EnrollmentSecretId>,
    pub(super) operators: BTreeSet<OperatorId>,
    pub(super) fences: BTreeSet<FenceScope>,
    pub(super) floors: BTreeSet<FenceScope>,
}

impl Touched {
    /// `roll` holds the events, and perhaps later ones.
    pub(super) fn by(roll: &Roll, events: &[Arc<Recorded>]) -> Self {
        let mut touched = Self::default();
        for recorded in events {
            touched.add(roll, recorded.position, &recorded.event);
            if recorded.event.facts() > 1 {
                // A list: whoever waits for this core comes first.
                thread::yield_now();
            }
        }
        touched
    }

    fn add(&mut self, roll: &Roll, position: u64, event: &Event) {
        match event {
            Event::PoolCreated { pool, .. } | Event::PoolUpdated { pool, .. } | Event::PoolRemoved { pool } => {
                self.pools.insert(pool.clone());
            }
            Event::WorkerCreated(created) => self.counted_worker(roll, &created.worker),
            Event::WorkerApproved { worker } | Event::WorkerRejected { worker } | Event::WorkerRemoved { worker } => {
                self.counted_worker(roll, worker);
            }
            Event::WorkerUpdated { worker, .. }
            | Event::WorkerIsolated { worker, .. }
            | Event::WorkerReleased { worker } => {
                self.workers.insert(worker.clone());
            }
            Event::KeyCreated(KeyCreated { key, .. }) => self.new_key(roll, *key),
            Event::KeyShared { key, worker } => self.shared_key(roll, *key, worker),
            Event::KeyRotated { key, successor, .. } => {
                self.new_key(roll, *successor);
                self.key(roll, *key);
            }
            Event::KeyRevoked { key } | Event::KeyRotationDue { key, .. } => self.key(roll, *key),
            Event::KeysRevoked { keys, .. } => keys.iter().for_each(|key| self.key(roll, *key)),
            Event::EnrollmentSecretCreated { secret, .. } | Event::EnrollmentSecretDisabled { secret } => {
                self.enrollment_secrets.insert(*secret);
            }
            Event::EnrollmentSecretRotated { secret, successor, .. } => {
                self.enrollment_secrets.extend([*secret, *successor]);
            }
            Event::OperatorCreated { operator, .. }
            | Event::OperatorUpdated { operator, .. }
            | Event::OperatorRemoved { operator } => {
                self.operators.insert(*operator);
            }
            Event::FenceRaised { scope, up_to } => self.fence(roll, position, scope, *up_to),
            Event::PlanApplied { plan, .. } => self.plan(roll, *plan),
            Event::Readmission { plan, change: ReadmissionChange::RolledBack { .. } } => self.rolled_back(roll, *plan),
            // Of tokens nothing is kept one by one, and signing keys, barriers, plans, incidents, tripwires, webhooks and attempts
            // are in no table.
            Event::TokenIssued(_)
            | Event::TokensIssued { .. }
            | Event::TokenRevoked { .. }
            | Event::SigningKeysInstalled { .. }
            | Event::SigningKeysRotated { .. }
            | Event::TlsCertificateServed(_)
            | Event::BarrierPassed { .. }
            | Event::LogRestored(_)
            | Event::PlanMade(_)
            | Event::PlanProgressed { .. }
            | Event::Netguard(_)
            | Event::PlanApproved { .. }
            | Event::Readmission { .. }
            | Event::PlanPolicySet(_)
            | Event::IncidentOpened(_)
            | Event::IncidentUpdated { .. }
            | Event::IncidentNoted { .. }
            | Event::IncidentReviewed { .. }
            | Event::IncidentStepDone { .. }
            | Event::IncidentStepWaived { .. }
            | Event::IncidentStepReopened { .. }
            | Event::IncidentClosed { .. }
            | Event::Tripwire(_)
            | Event::Webhook(_)
            | Event::AuthFailuresObserved { .. } => {}
        }
    }

    /// A worker that came, left, or waits no longer: it is counted in its pool, and by the secret that let it in.
    fn counted_worker(&mut self, roll: &Roll, id: &WorkerId) {
        if let Some(worker) = roll.worker(id.as_str()) {
            self.pools.insert(worker.pool.clone());
            self.enrollment_secrets.extend(worker.enrolled_by);
        }
        self.workers.insert(id.clone());
    }

    /// A key, and whoever has it.
    fn key(&mut self, roll: &Roll, id: KeyId) {
        let Some(key) = roll.key(id) else { return };
        self.keys.insert(id);
        match &key.holder {
            Holder::Operator(operator) => {
                self.operators.insert(*operator);
            }
            Holder::Worker(_) | Holder::Workers(_) => {
                self.workers.extend(key.workers().iter().filter_map(|index| id_of(roll, *index)));
            }
        }
    }

    /// A new key, and the oldest of the same static value: from the second one on both are a risk, and of those between
    /// them it is known.
    fn new_key(&mut self, roll: &Roll, id: KeyId) {
        self.key(roll, id);
        let Some(key) = roll.key(id).filter(|key| key.kind == KeyKind::Static) else { return };
        if let Some(first) = roll.static_secrets(&key.verifier).next() {
            self.key(roll, first.id);
        }
    }

    fn shared_key(&mut self, roll: &Roll, id: KeyId, with: &WorkerId) {
        self.keys.insert(id);
        self.workers.insert(with.clone());
        // The first was alone with it until now; those between have been told when they came.
        let first = roll.key(id).and_then(|key| key.workers().first().copied());
        self.workers.extend(first.and_then(|index| id_of(roll, index)));
    }

    /// What was issued to the scope is known by its position, so that nothing of it is touched. Only what came of refused
    /// credentials, by their own power and after `up_to`, was ended one by one.
    fn fence(&mut self, roll: &Roll, raised: u64, scope: &FenceScope, up_to: u64) {
        self.fences.insert(scope.clone());
        let secrets = roll.enrollment_secrets().filter(|secret| match scope {
            FenceScope::Everything | FenceScope::Lineage(_) => true,
            FenceScope::Pool(pool) => secret.pool == *pool,
            FenceScope::Worker(_) => false,
        });
        for secret in secrets {
            self.enrollment_secrets.insert(secret.id);
            self.floors.insert(FenceScope::Lineage(secret.id));
        }
        self.floors.insert(scope.clone());
        for key in roll.keys_issued_after(up_to).take_while(|key| key.issued < raised) {
            if key.state == KeyState::Fenced {
                self.key(roll, key.id);
            }
        }
    }
}

impl Touched {
    /// What the plan has changed at once. Where the list is gone, each item has had an event of its own since: the plan's
    /// record, or whatever somebody did with it.
    fn plan(&mut self, roll: &Roll, id: PlanId) {
        let Some(plan) = roll.plan(id) else { return };
        for item in plan.progress.iter().flat_map(|progress| progress.items.iter()) {
            match item {
                Item::Worker(index) => self.workers.extend(id_of(roll, *index)),
                // Where a fence refuses the rest, only those that it would have left to somebody are marked.
                Item::Key(key) if plan.marks_items() || is_marked(roll, *key) => self.key(roll, *key),
                Item::Key(_) => {}
                Item::EnrollmentSecret(secret) => _ = self.enrollment_secrets.insert(*secret),
                Item::SigningKey(_) | Item::TlsCertificate(_) => {}
            }
        }
    }
}

impl Touched {
    /// Whom the readmission had let in, and the keys that they hold.
    fn rolled_back(&mut self, roll: &Roll, id: PlanId) {
        let Some(progress) = roll.plan(id).and_then(|plan| plan.progress.as_ref()) else { return };
        for item in progress.items.iter() {
            let Item::Worker(index) = item else { continue };
            let Some(worker) = roll.worker_at(*index) else { continue };
            self.workers.insert(worker.id.clone());
            worker.keys.iter().filter(|key| is_marked(roll, **key)).for_each(|key| self.key(roll, *key));
        }
    }
}

fn is_marked(roll: &Roll, id: KeyId) -> bool {
    roll.key(id).is_some_and(|key| key.state == KeyState::Fenced)
}

fn id_of(roll: &Roll, index: WorkerIndex) -> Option<WorkerId> {
    roll.worker_at(index).map(|worker| worker.id.clone())
}
