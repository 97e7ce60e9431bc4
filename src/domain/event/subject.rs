//! What each event is about, for search: a kind and an id.

use std::fmt;

use ipnet::IpNet;

use super::Event;
use crate::domain::fence::FenceScope;
use crate::domain::ids::{decode_base62, encode_base62};
use crate::domain::tripwire::{TripwireEvent, Why};

/// What an event is about, for search: a kind and an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub kind: &'static str,
    pub id: String,
}

/// A subject's id, of whichever type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectId<'a> {
    Chosen(&'a str),
    Made(u128),
    Network(IpNet),
}

impl Event {
    #[must_use]
    pub fn subject(&self) -> Subject {
        let (kind, id) = self.about();
        Subject { kind, id: id.to_string() }
    }

    /// The subject's kind and its id, without writing it.
    #[must_use]
    pub fn about(&self) -> (&'static str, SubjectId<'_>) {
        match self {
            Event::PoolCreated { pool, .. } | Event::PoolUpdated { pool, .. } | Event::PoolRemoved { pool } => {
                ("pool", SubjectId::Chosen(pool.as_str()))
            }
            Event::WorkerCreated(created) => ("worker", SubjectId::Chosen(created.worker.as_str())),
            Event::WorkerUpdated { worker, .. }
            | Event::WorkerApproved { worker }
            | Event::WorkerRejected { worker }
            | Event::WorkerIsolated { worker, .. }
            | Event::WorkerReleased { worker }
            | Event::WorkerRemoved { worker }
            | Event::TokensIssued { worker, .. } => ("worker", SubjectId::Chosen(worker.as_str())),
            Event::KeyCreated(created) => ("key", SubjectId::Made(created.key.0)),
            Event::KeyShared { key, .. }
            | Event::KeyRotated { key, .. }
            | Event::KeyRotationDue { key, .. }
            | Event::KeyRevoked { key } => ("key", SubjectId::Made(key.0)),
            Event::EnrollmentSecretCreated { secret, .. }
            | Event::EnrollmentSecretRotated { secret, .. }
            | Event::EnrollmentSecretDisabled { secret } => ("enrollment_secret", SubjectId::Made(secret.0)),
            Event::TokenIssued(issued) => ("worker", SubjectId::Chosen(issued.worker.as_str())),
            Event::TokenRevoked { token, .. } => ("token", SubjectId::Made(token.0)),
            Event::SigningKeysInstalled { active, .. } => ("signing_key", SubjectId::Made(active.id.0)),
            Event::SigningKeysRotated { next, .. } => ("signing_key", SubjectId::Made(next.id.0)),
            Event::OperatorCreated { operator, .. }
            | Event::OperatorUpdated { operator, .. }
            | Event::OperatorRemoved { operator } => ("operator", SubjectId::Made(operator.0)),
            Event::FenceRaised { scope, .. } => match scope {
                FenceScope::Everything => ("log", SubjectId::Chosen("everything")),
                FenceScope::Pool(pool) => ("pool", SubjectId::Chosen(pool.as_str())),
                FenceScope::Lineage(secret) => ("enrollment_secret", SubjectId::Made(secret.0)),
                FenceScope::Worker(worker) => ("worker", SubjectId::Chosen(worker.as_str())),
            },
            Event::TlsCertificateServed(served) => ("node", SubjectId::Chosen(&served.node)),
            Event::BarrierPassed { .. } => ("log", SubjectId::Chosen("barrier")),
            Event::LogRestored(_) => ("log", SubjectId::Chosen("restore")),
            Event::PlanMade(made) => ("plan", SubjectId::Made(made.plan.0)),
            Event::KeysRevoked { plan, .. }
            | Event::PlanApplied { plan, .. }
            | Event::PlanProgressed { plan, .. }
            | Event::PlanApproved { plan }
            | Event::Readmission { plan, .. } => ("plan", SubjectId::Made(plan.0)),
            Event::Netguard(change) => ("network", SubjectId::Network(change.network())),
            Event::Webhook(change) => ("webhook", SubjectId::Made(change.webhook().0)),
            Event::PlanPolicySet(_) => ("log", SubjectId::Chosen("plan_policy")),
            Event::IncidentOpened(opened) => ("incident", SubjectId::Chosen(opened.incident.as_str())),
            Event::IncidentUpdated { incident, .. }
            | Event::IncidentNoted { incident, .. }
            | Event::IncidentReviewed { incident, .. }
            | Event::IncidentStepDone { incident, .. }
            | Event::IncidentStepWaived { incident, .. }
            | Event::IncidentStepReopened { incident, .. }
            | Event::IncidentClosed { incident, .. } => ("incident", SubjectId::Chosen(incident.as_str())),
            Event::Tripwire(TripwireEvent::HoneyKeyCreated { key, .. } | TripwireEvent::HoneyKeyRemoved { key }) => {
                ("honey_key", SubjectId::Made(key.0))
            }
            Event::Tripwire(TripwireEvent::Tripped(tripped)) => match tripped.why {
                Why::Honey => ("honey_key", SubjectId::Made(tripped.key.0)),
                Why::Revoked | Why::Rotated => ("key", SubjectId::Made(tripped.key.0)),
            },
            Event::Tripwire(TripwireEvent::RuleSet { pool: Some(pool), .. }) => {
                ("pool", SubjectId::Chosen(pool.as_str()))
            }
            Event::Tripwire(TripwireEvent::RuleSet { pool: None, .. }) => ("log", SubjectId::Chosen("tripwires")),
            Event::AuthFailuresObserved { .. } => ("log", SubjectId::Chosen("auth")),
        }
    }
}

impl SubjectId<'_> {
    /// Whether `text` is how it is written.
    #[must_use]
    pub fn is(self, text: &str) -> bool {
        match self {
            SubjectId::Chosen(id) => id == text,
            // There is one spelling of each, and reading is cheaper than writing.
            SubjectId::Made(id) => decode_base62(text.as_bytes()) == Some(id),
            SubjectId::Network(network) => network.to_string() == text,
        }
    }
}

impl fmt::Display for SubjectId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubjectId::Chosen(id) => f.write_str(id),
            SubjectId::Network(network) => network.fmt(f),
            SubjectId::Made(id) => f.write_str(std::str::from_utf8(&encode_base62(*id)).expect("base62 is ASCII")),
        }
    }
}
