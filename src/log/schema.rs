//! Every schema of every kind of event ever written, in one table.
//!
//! An entry is read for as long as the service lives, so a struct in the files below is frozen the day it ships. A new
//! need gets the next number, an upcast and a golden file; nobody edits a field. Kinds and schemas that are not in the
//! table stop the reader: to skip one is to have a state that others do not have.

mod auth;
mod barrier;
mod certificate;
mod enrollment;
mod fence;
mod incident;
mod key;
mod netguard;
mod operator;
mod plan;
mod pool;
mod readmission;
mod restore;
mod signing_key;
mod token;
mod tripwire;
mod webhook;
mod worker;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::canonical::{self, Raw};
use super::entry::{EntryError, SubjectText};
use crate::domain::event::{Event, PlanMade};
use crate::domain::netguard::NetguardEvent;
use crate::domain::webhook::{Outcome, WebhookEvent};

/// The longest kind that an error repeats. An entry that is damaged may hold anything in its place.
const KIND_BYTES_MAX: usize = 64;

/// Every pair of kind and schema that was ever written.
pub const KINDS: &[(&str, u32)] = &[
    ("pool.created", 1),
    ("pool.updated", 1),
    ("pool.removed", 1),
    ("worker.created", 1),
    ("worker.updated", 1),
    ("worker.approved", 1),
    ("worker.rejected", 1),
    ("worker.isolated", 1),
    ("worker.released", 1),
    ("worker.removed", 1),
    ("key.created", 1),
    ("key.shared", 1),
    ("key.rotated", 1),
    ("key.revoked", 1),
    ("enrollment_secret.created", 1),
    ("enrollment_secret.rotated", 1),
    ("enrollment_secret.disabled", 1),
    ("token.issued", 1),
    ("tokens.issued", 1),
    ("token.revoked", 1),
    ("signing_keys.installed", 1),
    ("signing_keys.rotated", 1),
    ("operator.created", 1),
    ("operator.updated", 1),
    ("operator.removed", 1),
    ("fence.raised", 1),
    ("tls_certificate.served", 1),
    ("barrier.passed", 1),
    ("plan.made", 1),
    ("plan.applied", 1),
    ("plan.progressed", 1),
    ("netguard.address_added", 1),
    ("netguard.address_removed", 1),
    ("incident.opened", 1),
    ("incident.updated", 1),
    ("incident.noted", 1),
    ("incident.reviewed", 1),
    ("incident.step_done", 1),
    ("incident.step_waived", 1),
    ("incident.step_reopened", 1),
    ("incident.closed", 1),
    ("log.restored", 1),
    ("webhook.created", 1),
    ("webhook.updated", 1),
    ("webhook.removed", 1),
    ("webhook.delivered", 1),
    ("webhook.failed", 1),
    ("auth.failures_observed", 1),
    ("plan.made", 2),
    ("plan.approved", 1),
    ("plan_policy.set", 1),
    ("key.rotation_due", 1),
    ("honey_key.created", 1),
    ("honey_key.removed", 1),
    ("tripwire.tripped", 1),
    ("tripwire.rule_set", 1),
    ("plan.made", 3),
    ("readmission.wave_released", 1),
    ("readmission.keys_made", 1),
    ("readmission.paused", 1),
    ("readmission.resumed", 1),
    ("readmission.stopped", 1),
    ("readmission.completed", 1),
    ("readmission.rolled_back", 1),
    ("key.revoked", 2),
];

/// One schema of an event's data. Its fields stand in the order of their names, as RFC 8785 wants them.
trait Frozen<'a>: Deserialize<'a> {
    /// The kind and the id of the event's subject, which the entry repeats outside of the data.
    fn subject(&self) -> (&'static str, &str);
}

/// The kind of an event, and the schema that it is written in: the newest. But what an earlier schema of `plan.made` or of
/// `key.revoked` can say is written in it: the columns beside an entry, and whoever writes an entry again, tell the schema
/// from the event.
#[must_use]
pub fn kind(event: &Event) -> (&'static str, u32) {
    let schema = match event {
        Event::PlanMade(made) if made.kind.terms().is_some() => 3,
        Event::PlanMade(made) if !plan::MadeV1::can_say(made) => 2,
        Event::KeysRevoked { .. } => 2,
        _ => 1,
    };
    (event.kind(), schema)
}

/// The data of an event, in the schema that [`kind`] names.
pub(super) fn write(event: &Event) -> Result<Box<RawValue>, EntryError> {
    match event {
        Event::PoolCreated { pool, settings } | Event::PoolUpdated { pool, settings } => {
            json(&pool::SettledV1::new(pool, settings))
        }
        Event::PoolRemoved { pool } => json(&pool::RemovedV1::new(pool)),
        Event::WorkerCreated(created) => json(&worker::CreatedV1::new(created)?),
        Event::WorkerUpdated { worker, name, labels, expires_at } => {
            json(&worker::UpdatedV1::new(worker, name.as_deref(), labels, *expires_at)?)
        }
        Event::WorkerIsolated { worker, until } => json(&worker::IsolatedV1::new(worker, *until)?),
        Event::WorkerApproved { worker }
        | Event::WorkerRejected { worker }
        | Event::WorkerReleased { worker }
        | Event::WorkerRemoved { worker } => json(&worker::NamedV1::new(worker)),
        Event::KeyCreated(created) => json(&key::CreatedV1::new(created)?),
        Event::KeyShared { key, worker } => json(&key::SharedV1::new(*key, worker)),
        Event::KeyRotated { key, successor, verifier, expires_at, overlap_until, derived } => {
            json(&key::RotatedV1::new(*key, *successor, verifier, *expires_at, *overlap_until, *derived)?)
        }
        Event::KeyRevoked { key } => json(&key::RevokedV1::new(*key)),
        Event::KeysRevoked { plan, keys } => json(&key::RevokedV2::new(*plan, keys)?),
        Event::EnrollmentSecretCreated { secret, pool, verifier, limits } => {
            json(&enrollment::CreatedV1::new(*secret, pool, verifier, limits)?)
        }
        Event::EnrollmentSecretRotated { secret, successor, verifier, overlap_until } => {
            json(&enrollment::RotatedV1::new(*secret, *successor, verifier, *overlap_until)?)
        }
        Event::EnrollmentSecretDisabled { secret } => json(&enrollment::DisabledV1::new(*secret)),
        Event::TokenIssued(issued) => json(&token::IssuedV1::new(issued)?),
        Event::TokensIssued { worker, count, from, to } => json(&token::CountedV1::new(worker, *count, *from, *to)?),
        Event::TokenRevoked { token, session, worker, issued } => {
            json(&token::RevokedV1::new(*token, *session, worker, *issued)?)
        }
        Event::SigningKeysInstalled { active, next } => json(&signing_key::InstalledV1::new(active, next)),
        Event::SigningKeysRotated { next, retired_verifies_until } => {
            json(&signing_key::RotatedV1::new(next, *retired_verifies_until)?)
        }
        Event::OperatorCreated { operator, name, role } | Event::OperatorUpdated { operator, name, role } => {
            json(&operator::SettledV1::new(*operator, name, *role))
        }
        Event::OperatorRemoved { operator } => json(&operator::RemovedV1::new(*operator)),
        Event::FenceRaised { scope, up_to } => json(&fence::RaisedV1::new(scope, *up_to)?),
        Event::TlsCertificateServed(served) => json(&certificate::ServedV1::new(served)?),
        Event::BarrierPassed { through, confirmed, waited_out } => {
            json(&barrier::PassedV1::new(*through, confirmed, waited_out)?)
        }
        Event::PlanMade(made) => write_plan(made),
        Event::Readmission { plan, change } => readmission::write(*plan, *change),
        Event::PlanApproved { plan } => json(&plan::ApprovedV1::new(*plan)),
        Event::PlanPolicySet(policy) => json(&plan::PolicyV1::new(policy)),
        Event::KeyRotationDue { key, until } => json(&key::RotationDueV1::new(*key, *until)?),
        Event::PlanApplied { plan, items } => json(&plan::AppliedV1::new(*plan, *items)?),
        Event::PlanProgressed { plan, done, changed } => json(&plan::ProgressedV1::new(*plan, *done, *changed)?),
        Event::Netguard(NetguardEvent::AddressAdded { network, listing }) => {
            json(&netguard::AddedV1::new(*network, *listing))
        }
        Event::Netguard(NetguardEvent::AddressRemoved { network }) => json(&netguard::RemovedV1::new(*network)),
        Event::IncidentOpened(opened) => json(&incident::OpenedV1::new(opened)?),
        Event::IncidentUpdated { incident, description } => json(&incident::UpdatedV1::new(incident, description)?),
        Event::IncidentNoted { incident, note: text }
        | Event::IncidentReviewed { incident, finding: text }
        | Event::IncidentClosed { incident, summary: text } => json(&incident::ToldV1::new(incident, text)),
        Event::IncidentStepDone { incident, step }
        | Event::IncidentStepWaived { incident, step }
        | Event::IncidentStepReopened { incident, step } => json(&incident::StepV1::new(incident, step)),
        Event::LogRestored(restored) => json(&restore::RestoredV1::new(restored)?),
        Event::Tripwire(event) => tripwire::write(event),
        Event::Webhook(change) => write_webhook(change),
        Event::AuthFailuresObserved { from, to, failures } => json(&auth::FailuresV1::new(*from, *to, failures)?),
    }
}

fn write_plan(made: &PlanMade) -> Result<Box<RawValue>, EntryError> {
    match made.kind.terms() {
        Some(terms) => json(&readmission::MadeV3::new(made, terms)?),
        None if plan::MadeV1::can_say(made) => json(&plan::MadeV1::new(made)?),
        None => json(&plan::MadeV2::new(made)?),
    }
}

fn write_webhook(change: &WebhookEvent) -> Result<Box<RawValue>, EntryError> {
    match change {
        WebhookEvent::Created { webhook, url, kinds, sealed } => {
            json(&webhook::CreatedV1::new(*webhook, url, kinds, sealed))
        }
        WebhookEvent::Updated { webhook, url, kinds, enabled } => {
            json(&webhook::UpdatedV1::new(*webhook, url, kinds, *enabled))
        }
        WebhookEvent::Removed { webhook } => json(&webhook::RemovedV1::new(*webhook)),
        WebhookEvent::Settled { webhook, delivery } => match &delivery.outcome {
            Outcome::Delivered { status } => json(&webhook::DeliveredV1::new(*webhook, delivery, *status)?),
            Outcome::Failed { why } => json(&webhook::FailedV1::new(*webhook, delivery, why)?),
        },
    }
}

/// Reads the data of an entry whose envelope was read already.
pub(super) fn read(kind: &str, schema: u32, subject: &SubjectText<'_>, data: Raw<'_>) -> Result<Event, EntryError> {
    let written = Written { subject, data };
    match (kind, schema) {
        ("pool.created", 1) => written.read::<pool::SettledV1<'_>>()?.created(),
        ("pool.updated", 1) => written.read::<pool::SettledV1<'_>>()?.updated(),
        ("pool.removed", 1) => written.read::<pool::RemovedV1<'_>>()?.removed(),
        ("worker.created", 1) => written.read::<worker::CreatedV1<'_>>()?.created(),
        ("worker.updated", 1) => written.read::<worker::UpdatedV1<'_>>()?.updated(),
        ("worker.approved", 1) => written.read::<worker::NamedV1<'_>>()?.approved(),
        ("worker.rejected", 1) => written.read::<worker::NamedV1<'_>>()?.rejected(),
        ("worker.isolated", 1) => written.read::<worker::IsolatedV1<'_>>()?.isolated(),
        ("worker.released", 1) => written.read::<worker::NamedV1<'_>>()?.released(),
        ("worker.removed", 1) => written.read::<worker::NamedV1<'_>>()?.removed(),
        ("key.created", 1) => written.read::<key::CreatedV1<'_>>()?.created(),
        ("key.shared", 1) => written.read::<key::SharedV1<'_>>()?.shared(),
        ("key.rotated", 1) => written.read::<key::RotatedV1<'_>>()?.rotated(),
        ("key.revoked", 1) => written.read::<key::RevokedV1<'_>>()?.revoked(),
        ("key.revoked", 2) => written.read::<key::RevokedV2<'_>>()?.revoked(),
        ("enrollment_secret.created", 1) => written.read::<enrollment::CreatedV1<'_>>()?.created(),
        ("enrollment_secret.rotated", 1) => written.read::<enrollment::RotatedV1<'_>>()?.rotated(),
        ("enrollment_secret.disabled", 1) => written.read::<enrollment::DisabledV1<'_>>()?.disabled(),
        ("token.issued", 1) => written.read::<token::IssuedV1<'_>>()?.issued(),
        ("tokens.issued", 1) => written.read::<token::CountedV1<'_>>()?.counted(),
        ("token.revoked", 1) => written.read::<token::RevokedV1<'_>>()?.revoked(),
        ("signing_keys.installed", 1) => written.read::<signing_key::InstalledV1<'_>>()?.installed(),
        ("signing_keys.rotated", 1) => written.read::<signing_key::RotatedV1<'_>>()?.rotated(),
        ("operator.created", 1) => written.read::<operator::SettledV1<'_>>()?.created(),
        ("operator.updated", 1) => written.read::<operator::SettledV1<'_>>()?.updated(),
        ("operator.removed", 1) => written.read::<operator::RemovedV1<'_>>()?.removed(),
        ("fence.raised", 1) => written.read::<fence::RaisedV1<'_>>()?.raised(),
        ("tls_certificate.served", 1) => written.read::<certificate::ServedV1<'_>>()?.served(),
        ("barrier.passed", 1) => written.read::<barrier::PassedV1<'_>>()?.passed(),
        ("plan.made", 1) => written.read::<plan::MadeV1<'_>>()?.made(),
        ("plan.made", 2) => written.read::<plan::MadeV2<'_>>()?.made(),
        ("plan.made", 3) => written.read::<readmission::MadeV3<'_>>()?.made(),
        ("readmission.wave_released", 1) => written.read::<readmission::WaveReleasedV1<'_>>()?.released(),
        ("readmission.keys_made", 1) => written.read::<readmission::KeysMadeV1<'_>>()?.made(),
        ("readmission.paused", 1) => written.read::<readmission::NamedV1<'_>>()?.paused(),
        ("readmission.resumed", 1) => written.read::<readmission::NamedV1<'_>>()?.resumed(),
        ("readmission.completed", 1) => written.read::<readmission::NamedV1<'_>>()?.completed(),
        ("readmission.stopped", 1) => written.read::<readmission::StoppedV1<'_>>()?.stopped(),
        ("readmission.rolled_back", 1) => written.read::<readmission::RolledBackV1<'_>>()?.rolled_back(),
        ("plan.approved", 1) => written.read::<plan::ApprovedV1<'_>>()?.approved(),
        ("plan_policy.set", 1) => written.read::<plan::PolicyV1<'_>>()?.set(),
        ("key.rotation_due", 1) => written.read::<key::RotationDueV1<'_>>()?.due(),
        ("plan.applied", 1) => written.read::<plan::AppliedV1<'_>>()?.applied(),
        ("plan.progressed", 1) => written.read::<plan::ProgressedV1<'_>>()?.progressed(),
        ("netguard.address_added", 1) => written.read::<netguard::AddedV1<'_>>()?.added(),
        ("netguard.address_removed", 1) => written.read::<netguard::RemovedV1<'_>>()?.removed(),
        ("incident.opened", 1) => written.read::<incident::OpenedV1<'_>>()?.opened(),
        ("incident.updated", 1) => written.read::<incident::UpdatedV1<'_>>()?.updated(),
        ("incident.noted", 1) => written.read::<incident::ToldV1<'_>>()?.noted(),
        ("incident.reviewed", 1) => written.read::<incident::ToldV1<'_>>()?.reviewed(),
        ("incident.step_done", 1) => written.read::<incident::StepV1<'_>>()?.done(),
        ("incident.step_waived", 1) => written.read::<incident::StepV1<'_>>()?.waived(),
        ("incident.step_reopened", 1) => written.read::<incident::StepV1<'_>>()?.reopened(),
        ("incident.closed", 1) => written.read::<incident::ToldV1<'_>>()?.closed(),
        ("log.restored", 1) => written.read::<restore::RestoredV1<'_>>()?.restored(),
        ("honey_key.created", 1) => written.read::<tripwire::HoneyCreatedV1<'_>>()?.created(),
        ("honey_key.removed", 1) => written.read::<tripwire::HoneyRemovedV1<'_>>()?.removed(),
        ("tripwire.tripped", 1) => written.read::<tripwire::TrippedV1<'_>>()?.tripped(),
        ("tripwire.rule_set", 1) => written.read::<tripwire::RuleSetV1<'_>>()?.set(),
        ("webhook.created", 1) => written.read::<webhook::CreatedV1<'_>>()?.created(),
        ("webhook.updated", 1) => written.read::<webhook::UpdatedV1<'_>>()?.updated(),
        ("webhook.removed", 1) => written.read::<webhook::RemovedV1<'_>>()?.removed(),
        ("webhook.delivered", 1) => written.read::<webhook::DeliveredV1<'_>>()?.delivered(),
        ("webhook.failed", 1) => written.read::<webhook::FailedV1<'_>>()?.failed(),
        ("auth.failures_observed", 1) => written.read::<auth::FailuresV1<'_>>()?.observed(),
        _ => Err(unknown(kind, schema)),
    }
}

/// The data of an entry, and the subject that it has to name.
struct Written<'e, 'a> {
    subject: &'e SubjectText<'a>,
    data: Raw<'a>,
}

impl<'a> Written<'_, 'a> {
    fn read<D: Frozen<'a>>(&self) -> Result<D, EntryError> {
        let data: D = canonical::read(self.data.0).map_err(|error| error.of("data"))?;
        if data.subject() == (self.subject.kind.as_str(), self.subject.id.as_str()) {
            Ok(data)
        } else {
            Err(EntryError::Malformed { field: "subject" })
        }
    }
}

fn json(data: &impl Serialize) -> Result<Box<RawValue>, EntryError> {
    to_raw_value(data).map_err(|_| EntryError::Unwritable { field: "data" })
}

fn unknown(kind: &str, schema: u32) -> EntryError {
    let is_kind = kind.len() <= KIND_BYTES_MAX && kind.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'.'));
    if is_kind {
        EntryError::Unknown { kind: kind.to_owned(), schema }
    } else {
        EntryError::Malformed { field: "kind" }
    }
}
