//! What each event is called: on disk, in lists, and by the steps of a checklist. A name never changes.

use super::Event;
use crate::domain::netguard::NetguardEvent;
use crate::domain::tripwire::TripwireEvent;
use crate::domain::webhook::WebhookEvent;

impl Event {
    /// The kind, under which it is on disk and in every list.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Event::PoolCreated { .. } => "pool.created",
            Event::PoolUpdated { .. } => "pool.updated",
            Event::PoolRemoved { .. } => "pool.removed",
            Event::WorkerCreated(_) => "worker.created",
            Event::WorkerUpdated { .. } => "worker.updated",
            Event::WorkerApproved { .. } => "worker.approved",
            Event::WorkerRejected { .. } => "worker.rejected",
            Event::WorkerIsolated { .. } => "worker.isolated",
            Event::WorkerReleased { .. } => "worker.released",
            Event::WorkerRemoved { .. } => "worker.removed",
            Event::KeyCreated(_) => "key.created",
            Event::KeyShared { .. } => "key.shared",
            Event::KeyRotated { .. } => "key.rotated",
            Event::KeyRevoked { .. } | Event::KeysRevoked { .. } => "key.revoked",
            Event::EnrollmentSecretCreated { .. } => "enrollment_secret.created",
            Event::EnrollmentSecretRotated { .. } => "enrollment_secret.rotated",
            Event::EnrollmentSecretDisabled { .. } => "enrollment_secret.disabled",
            Event::TokenIssued(_) => "token.issued",
            Event::TokensIssued { .. } => "tokens.issued",
            Event::TokenRevoked { .. } => "token.revoked",
            Event::SigningKeysInstalled { .. } => "signing_keys.installed",
            Event::SigningKeysRotated { .. } => "signing_keys.rotated",
            Event::OperatorCreated { .. } => "operator.created",
            Event::OperatorUpdated { .. } => "operator.updated",
            Event::OperatorRemoved { .. } => "operator.removed",
            Event::FenceRaised { .. } => "fence.raised",
            Event::TlsCertificateServed(_) => "tls_certificate.served",
            Event::BarrierPassed { .. } => "barrier.passed",
            Event::PlanMade(_) => "plan.made",
            Event::PlanApplied { .. } => "plan.applied",
            Event::PlanProgressed { .. } => "plan.progressed",
            Event::Netguard(NetguardEvent::AddressAdded { .. }) => "netguard.address_added",
            Event::Netguard(NetguardEvent::AddressRemoved { .. }) => "netguard.address_removed",
            Event::Webhook(change) => change.kind(),
            Event::PlanApproved { .. } => "plan.approved",
            Event::PlanPolicySet(_) => "plan_policy.set",
            Event::KeyRotationDue { .. } => "key.rotation_due",
            Event::Readmission { change, .. } => change.kind(),
            Event::IncidentOpened(_) => "incident.opened",
            Event::IncidentUpdated { .. } => "incident.updated",
            Event::IncidentNoted { .. } => "incident.noted",
            Event::IncidentReviewed { .. } => "incident.reviewed",
            Event::IncidentStepDone { .. } => "incident.step_done",
            Event::IncidentStepWaived { .. } => "incident.step_waived",
            Event::IncidentStepReopened { .. } => "incident.step_reopened",
            Event::IncidentClosed { .. } => "incident.closed",
            Event::LogRestored(_) => "log.restored",
            Event::Tripwire(TripwireEvent::HoneyKeyCreated { .. }) => "honey_key.created",
            Event::Tripwire(TripwireEvent::HoneyKeyRemoved { .. }) => "honey_key.removed",
            Event::Tripwire(TripwireEvent::Tripped(_)) => "tripwire.tripped",
            Event::Tripwire(TripwireEvent::RuleSet { .. }) => "tripwire.rule_set",
            Event::AuthFailuresObserved { .. } => "auth.failures_observed",
        }
    }

    /// What an auditor calls a change of configuration: pools, operators, signing keys, the doors that workers come in by, who has
    /// to approve what, tripwires, the addresses that are blocked by hand, who is told of events; and a restore, which may have
    /// changed all of them.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Event::PoolCreated { .. }
            | Event::PoolUpdated { .. }
            | Event::PoolRemoved { .. }
            | Event::EnrollmentSecretCreated { .. }
            | Event::EnrollmentSecretRotated { .. }
            | Event::EnrollmentSecretDisabled { .. }
            | Event::SigningKeysInstalled { .. }
            | Event::SigningKeysRotated { .. }
            | Event::OperatorCreated { .. }
            | Event::OperatorUpdated { .. }
            | Event::OperatorRemoved { .. }
            | Event::PlanPolicySet(_)
            | Event::TlsCertificateServed(_)
            | Event::Tripwire(
                TripwireEvent::HoneyKeyCreated { .. }
                | TripwireEvent::HoneyKeyRemoved { .. }
                | TripwireEvent::RuleSet { .. },
            )
            | Event::Netguard(_)
            | Event::Webhook(
                WebhookEvent::Created { .. } | WebhookEvent::Updated { .. } | WebhookEvent::Removed { .. },
            )
            | Event::LogRestored(_) => true,
            Event::WorkerCreated(_)
            | Event::WorkerUpdated { .. }
            | Event::WorkerApproved { .. }
            | Event::WorkerRejected { .. }
            | Event::WorkerIsolated { .. }
            | Event::WorkerReleased { .. }
            | Event::WorkerRemoved { .. }
            | Event::KeyCreated(_)
            | Event::KeyShared { .. }
            | Event::KeyRotated { .. }
            | Event::KeyRevoked { .. }
            | Event::KeysRevoked { .. }
            | Event::KeyRotationDue { .. }
            | Event::TokenIssued(_)
            | Event::TokensIssued { .. }
            | Event::TokenRevoked { .. }
            | Event::FenceRaised { .. }
            | Event::BarrierPassed { .. }
            | Event::PlanMade(_)
            | Event::PlanApproved { .. }
            | Event::PlanApplied { .. }
            | Event::PlanProgressed { .. }
            | Event::Readmission { .. }
            | Event::IncidentOpened(_)
            | Event::IncidentUpdated { .. }
            | Event::IncidentNoted { .. }
            | Event::IncidentReviewed { .. }
            | Event::IncidentStepDone { .. }
            | Event::IncidentStepWaived { .. }
            | Event::IncidentStepReopened { .. }
            | Event::IncidentClosed { .. }
            | Event::Tripwire(TripwireEvent::Tripped(_))
            | Event::Webhook(WebhookEvent::Settled { .. })
            | Event::AuthFailuresObserved { .. } => false,
        }
    }
}
