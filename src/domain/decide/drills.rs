//! Drills: a copy of what an incident would be about, and nothing done for the drill that reaches past the copy.
//!
//! What a command touches is read from the events that it would come to, and not from its kind: so a command that is new
//! has to be looked at here before it can be given for a drill.

use std::collections::BTreeSet;

use super::Decision;
use crate::domain::command::DrillCredentials;
use crate::domain::enrollment::{EnrollmentState, Limits};
use crate::domain::event::{Event, KeyCreated, KeyHolder, WorkerCreated};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{EnrollmentSecretId, IncidentId, KeyId, PlanId, PoolId, WorkerId};
use crate::domain::incident::{DRILL_WORKERS_MAX, Description, Incident, drill_pool};
use crate::domain::key::KeyKind;
use crate::domain::plan::{Item, PlanKind, Selector};
use crate::domain::pool::PoolSettings;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::tripwire::TripwireEvent;
use crate::domain::worker::{Worker, WorkerIndex};

/// A pool of the drill's own: an enrollment secret, and a copy of each worker of the scope with a key. Nobody has any of the
/// credentials, so nobody gets in by them.
pub(super) fn set_up(
    roll: &Roll,
    incident: &IncidentId,
    description: &Description,
    credentials: &DrillCredentials,
) -> Decision {
    let invalid = |field, message: &str| Refusal::Invalid { field, message: message.to_owned() };
    let pool =
        drill_pool(incident).ok_or_else(|| invalid("id", "too long for a drill, whose pool is named after it"))?;
    if roll.pool(pool.as_str()).is_some() {
        return Err(Refusal::PoolExists(pool));
    }
    let selector = Selector::new(description.scope.clone(), None, None);
    let selector = selector.map_err(|_| invalid("scope", "needed: a drill works on copies of what is in its scope"))?;
    let selected = roll.select(&PlanKind::Isolate { until: None }, &selector);
    let workers = selected.iter().filter_map(|item| match item {
        Item::Worker(index) => roll.worker_at(*index),
        Item::Key(_) | Item::EnrollmentSecret(_) | Item::SigningKey(_) | Item::TlsCertificate(_) => None,
    });
    let settings = PoolSettings { description: format!("Drill {incident}").into(), ..PoolSettings::default() };
    let (secret, verifier) = credentials.enrollment;
    let mut events = vec![
        Event::PoolCreated { pool: pool.clone(), settings },
        Event::EnrollmentSecretCreated { secret, pool: pool.clone(), verifier, limits: Limits::default() },
    ];
    for (worker, (key, verifier)) in workers.zip(&credentials.keys).take(DRILL_WORKERS_MAX) {
        let number = events.len() / 2;
        let copy: WorkerId = format!("{pool}-{number}").parse().map_err(|_| invalid("id", "too long for a drill"))?;
        if roll.worker(copy.as_str()).is_some() {
            return Err(Refusal::WorkerExists(copy));
        }
        events.push(copied(worker, copy.clone(), pool.clone()));
        events.push(Event::KeyCreated(KeyCreated {
            key: *key,
            holder: KeyHolder::Worker(copy),
            kind: KeyKind::Api,
            verifier: *verifier,
            expires_at: None,
        }));
    }
    if events.len() == 2 {
        return Err(invalid("scope", "selects no active worker, so there is nothing to copy"));
    }
    Ok(events)
}

fn copied(worker: &Worker, copy: WorkerId, pool: PoolId) -> Event {
    Event::WorkerCreated(WorkerCreated {
        worker: copy,
        pool,
        name: Some(worker.display_name().into()),
        labels: worker.labels.as_deref().cloned().unwrap_or_default(),
        expires_at: None,
        pending: false,
        enrolled_by: None,
    })
}

/// The drill's pool, empty and gone.
pub(super) fn clear_away(roll: &Roll, incident: &Incident) -> Vec<Event> {
    let Some(pool) = incident.drill_pool() else { return vec![] };
    let workers = roll.workers_after(None).filter(|worker| worker.pool == pool && worker.is_member());
    let workers = workers.map(|worker| Event::WorkerRemoved { worker: worker.id.clone() });
    let secrets = roll.enrollment_secrets().filter(|it| it.pool == pool && it.state != EnrollmentState::Disabled);
    let secrets = secrets.map(|secret| Event::EnrollmentSecretDisabled { secret: secret.id });
    let gone =
        roll.pool(pool.as_str()).filter(|found| !found.removed).map(|_| Event::PoolRemoved { pool: pool.clone() });
    workers.chain(secrets).chain(gone).collect()
}

/// The events, if all that they touch is the drill's own.
pub(super) fn within(roll: &Roll, incident: &Incident, events: Vec<Event>) -> Decision {
    let outside = || Refusal::OutsideDrill(incident.id.clone());
    let pool = incident.drill_pool().ok_or_else(outside)?;
    let mut bounds = Bounds { roll, incident: &incident.id, pool, made: BTreeSet::new() };
    if events.iter().all(|event| bounds.hold(event)) { Ok(events) } else { Err(outside()) }
}

struct Bounds<'a> {
    roll: &'a Roll,
    incident: &'a IncidentId,
    pool: PoolId,
    /// Workers that the same command makes in the pool.
    made: BTreeSet<WorkerId>,
}

impl Bounds<'_> {
    fn hold(&mut self, event: &Event) -> bool {
        match event {
            Event::PoolUpdated { pool, .. }
            | Event::PoolRemoved { pool }
            | Event::EnrollmentSecretCreated { pool, .. }
            | Event::Tripwire(TripwireEvent::HoneyKeyCreated { pool, .. } | TripwireEvent::RuleSet { pool: Some(pool), .. })
            | Event::FenceRaised { scope: FenceScope::Pool(pool), .. } => *pool == self.pool,
            Event::WorkerCreated(created) => {
                self.made.insert(created.worker.clone());
                created.pool == self.pool
            }
            Event::WorkerUpdated { worker, .. }
            | Event::WorkerApproved { worker }
            | Event::WorkerRejected { worker }
            | Event::WorkerIsolated { worker, .. }
            | Event::WorkerReleased { worker }
            | Event::WorkerRemoved { worker }
            | Event::TokenRevoked { worker, .. }
            | Event::FenceRaised { scope: FenceScope::Worker(worker), .. } => self.worker(worker),
            Event::KeyCreated(KeyCreated { holder: KeyHolder::Worker(worker), .. }) => self.worker(worker),
            Event::KeyShared { key, worker } => self.key(*key) && self.worker(worker),
            Event::KeyRotated { key, .. } | Event::KeyRotationDue { key, .. } | Event::KeyRevoked { key } => {
                self.key(*key)
            }
            Event::KeysRevoked { keys, .. } => keys.iter().all(|key| self.key(*key)),
            Event::EnrollmentSecretRotated { secret, .. }
            | Event::EnrollmentSecretDisabled { secret }
            | Event::FenceRaised { scope: FenceScope::Lineage(secret), .. } => self.secret(*secret),
            Event::PlanMade(made) => self.list(&made.kind, &made.selector),
            Event::PlanApplied { plan, .. } | Event::PlanApproved { plan } => self.plan(*plan),
            // Of what is collected: what it selects is not what it was when it was applied.
            Event::PlanProgressed { plan, .. } | Event::Readmission { plan, .. } => self.listed(*plan),
            Event::IncidentUpdated { .. }
            | Event::IncidentNoted { .. }
            | Event::IncidentReviewed { .. }
            | Event::IncidentStepDone { .. }
            | Event::IncidentStepWaived { .. }
            | Event::IncidentStepReopened { .. }
            | Event::IncidentClosed { .. } => event.own_incident() == Some(self.incident),
            Event::Tripwire(TripwireEvent::HoneyKeyRemoved { key }) => self.roll.honey_key(*key).is_some_and(|honey| honey.pool == self.pool),
            Event::PoolCreated { .. }
            | Event::Tripwire(TripwireEvent::Tripped(_) | TripwireEvent::RuleSet { pool: None, .. })
            | Event::KeyCreated(KeyCreated { holder: KeyHolder::Operator(_), .. })
            | Event::FenceRaised { scope: FenceScope::Everything, .. }
            | Event::TokenIssued(_)
            | Event::TokensIssued { .. }
            | Event::SigningKeysInstalled { .. }
            | Event::SigningKeysRotated { .. }
            | Event::OperatorCreated { .. }
            | Event::OperatorUpdated { .. }
            | Event::OperatorRemoved { .. }
            | Event::TlsCertificateServed(_)
            | Event::BarrierPassed { .. }
            | Event::PlanPolicySet(_)
            | Event::LogRestored(_)
            | Event::IncidentOpened(_)
            // Who has a network, the Roll does not know: it may be a real worker's.
            | Event::Netguard(_)
            | Event::Webhook(_)
            | Event::AuthFailuresObserved { .. } => false,
        }
    }

    fn worker(&self, id: &WorkerId) -> bool {
        self.made.contains(id) || self.roll.worker(id.as_str()).is_some_and(|worker| worker.pool == self.pool)
    }

    fn row(&self, index: WorkerIndex) -> bool {
        self.roll.worker_at(index).is_some_and(|worker| worker.pool == self.pool)
    }

    fn key(&self, id: KeyId) -> bool {
        let holders = self.roll.key(id).map(|key| key.workers().to_vec()).unwrap_or_default();
        !holders.is_empty() && holders.into_iter().all(|index| self.row(index))
    }

    fn secret(&self, id: EnrollmentSecretId) -> bool {
        self.roll.enrollment_secret(id).is_some_and(|secret| secret.pool == self.pool)
    }

    fn plan(&self, id: PlanId) -> bool {
        self.roll.plan(id).is_some_and(|plan| self.list(&plan.kind, &plan.selector))
    }

    fn list(&self, kind: &PlanKind, selector: &Selector) -> bool {
        self.roll.select(kind, selector).into_iter().all(|item| self.item(item))
    }

    /// Whether all that is on the list of a plan that was applied is the drill's own.
    fn listed(&self, id: PlanId) -> bool {
        let progress = self.roll.plan(id).and_then(|plan| plan.progress.as_ref());
        progress.is_some_and(|progress| progress.items.iter().all(|item| self.item(*item)))
    }

    fn item(&self, item: Item) -> bool {
        match item {
            Item::Worker(index) => self.row(index),
            Item::Key(id) => self.key(id),
            Item::EnrollmentSecret(id) => self.secret(id),
            Item::SigningKey(_) | Item::TlsCertificate(_) => false,
        }
    }
}
