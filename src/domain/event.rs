//! Events: past facts, with today's meaning. How they lie on disk, in every schema ever, is [`crate::log`]'s matter.

use std::net::IpAddr;
use std::sync::Arc;

use super::actor::Author;
use super::certificate::CertificateServed;
use super::enrollment::Limits;
use super::fence::FenceScope;
use super::ids::{CommandId, EnrollmentSecretId, IncidentId, KeyId, OperatorId, PlanId, PoolId, TokenId, WorkerId};
use super::incident::{Description, StepTemplate};
use super::key::{Digest, KeyKind};
use super::netguard::NetguardEvent;
use super::operator::Role;
use super::plan::{ApprovalPolicy, Counts, PlanKind, Selector};
use super::pool::PoolSettings;
use super::readmission::ReadmissionChange;
use super::signing_key::NewSigningKey;
use super::time::Timestamp;
use super::token::NewToken;
use super::tripwire::TripwireEvent;
use super::webhook::WebhookEvent;
use super::worker::Labels;

mod kind;
mod subject;

/// Keys of one event of a plan that revokes. Their ids take 25 bytes each, of the 65,535 that an entry has; and while as many
/// are decided and folded in, some milliseconds, no other command is.
pub const REVOKED_KEYS_MAX: usize = 1_000;

pub use subject::{Subject, SubjectId};

/// One fact, in its place in the one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub position: u64,
    /// Strictly increasing over the log.
    pub recorded_at: Timestamp,
    /// When the command was made: earlier than `recorded_at` by its wait in the queue.
    pub occurred_at: Timestamp,
    pub author: Author,
    pub command: CommandId,
    /// The position of the event that led to this one.
    pub cause: Option<u64>,
    /// The incident that it was done for.
    pub incident: Option<IncidentId>,
    pub reason: Option<Arc<str>>,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    PoolCreated {
        pool: PoolId,
        settings: PoolSettings,
    },
    PoolUpdated {
        pool: PoolId,
        settings: PoolSettings,
    },
    PoolRemoved {
        pool: PoolId,
    },

    WorkerCreated(WorkerCreated),
    /// The whole of what can be updated, as it is from now on.
    WorkerUpdated {
        worker: WorkerId,
        name: Option<Arc<str>>,
        labels: Labels,
        expires_at: Option<Timestamp>,
    },
    WorkerApproved {
        worker: WorkerId,
    },
    WorkerRejected {
        worker: WorkerId,
    },
    WorkerIsolated {
        worker: WorkerId,
        until: Option<Timestamp>,
    },
    WorkerReleased {
        worker: WorkerId,
    },
    WorkerRemoved {
        worker: WorkerId,
    },

    KeyCreated(KeyCreated),
    /// The key may from now on be presented by this worker too.
    KeyShared {
        key: KeyId,
        worker: WorkerId,
    },
    KeyRotated {
        key: KeyId,
        successor: KeyId,
        verifier: Digest,
        expires_at: Option<Timestamp>,
        overlap_until: Timestamp,
        derived: bool,
    },
    KeyRevoked {
        key: KeyId,
    },
    /// The next keys on the list of a plan that revokes, at most [`REVOKED_KEYS_MAX`]: one event each would have every node
    /// read and seal a million entries that say the same.
    KeysRevoked {
        plan: PlanId,
        keys: Box<[KeyId]>,
    },

    EnrollmentSecretCreated {
        secret: EnrollmentSecretId,
        pool: PoolId,
        verifier: Digest,
        limits: Limits,
    },
    EnrollmentSecretRotated {
        secret: EnrollmentSecretId,
        successor: EnrollmentSecretId,
        verifier: Digest,
        overlap_until: Timestamp,
    },
    EnrollmentSecretDisabled {
        secret: EnrollmentSecretId,
    },

    TokenIssued(NewToken),
    /// Where the pool counts: how many tokens one worker was given in a window.
    TokensIssued {
        worker: WorkerId,
        count: u64,
        from: Timestamp,
        to: Timestamp,
    },
    TokenRevoked {
        token: TokenId,
        session: TokenId,
        worker: WorkerId,
        issued: u64,
    },

    /// The first two keys of a log.
    SigningKeysInstalled {
        active: NewSigningKey,
        next: NewSigningKey,
    },
    /// Next became active, active became retired, and there is another next.
    SigningKeysRotated {
        next: NewSigningKey,
        retired_verifies_until: Timestamp,
    },

    OperatorCreated {
        operator: OperatorId,
        name: Arc<str>,
        role: Role,
    },
    OperatorUpdated {
        operator: OperatorId,
        name: Arc<str>,
        role: Role,
    },
    OperatorRemoved {
        operator: OperatorId,
    },

    /// All that was issued to this scope at `up_to` or before it is refused from now on.
    FenceRaised {
        scope: FenceScope,
        up_to: u64,
    },

    /// A node serves TLS with another certificate than the log knew of.
    TlsCertificateServed(CertificateServed),

    /// Every node has applied all up to and with `through`, or can answer for nothing any more.
    BarrierPassed {
        through: u64,
        /// The names of the nodes that had applied it.
        confirmed: Vec<Arc<str>>,
        /// Of those that were given up, since their leases had ended.
        waited_out: Vec<Arc<str>>,
    },

    /// Somebody was shown what a batch command would touch.
    PlanMade(PlanMade),
    /// All of the plan's list is as the plan wants it, from this event on. The records of the single items follow.
    PlanApplied {
        plan: PlanId,
        /// How many are on the list.
        items: u64,
    },
    /// So many of the list have been recorded one by one: all of them, where it is as many as there are.
    PlanProgressed {
        plan: PlanId,
        done: u64,
        /// For how many of these an event was recorded; somebody has changed the others since.
        changed: u64,
    },

    /// Netguard's list has changed.
    Netguard(NetguardEvent),
    /// An operator other than its maker would do the same.
    PlanApproved {
        plan: PlanId,
    },
    /// From now on these plans need that.
    PlanPolicySet(ApprovalPolicy),
    /// The key ends then, and its holder is to rotate it before.
    KeyRotationDue {
        key: KeyId,
        until: Timestamp,
    },

    Readmission {
        plan: PlanId,
        change: ReadmissionChange,
    },

    IncidentOpened(IncidentOpened),
    /// The whole of what can be updated, as it is from now on.
    IncidentUpdated {
        incident: IncidentId,
        description: Description,
    },
    IncidentNoted {
        incident: IncidentId,
        note: Arc<str>,
    },
    /// Somebody has looked at logs or changes, and says what they found.
    IncidentReviewed {
        incident: IncidentId,
        finding: Arc<str>,
    },
    /// By hand. The reason stands with the event.
    IncidentStepDone {
        incident: IncidentId,
        step: Arc<str>,
    },
    IncidentStepWaived {
        incident: IncidentId,
        step: Arc<str>,
    },
    IncidentStepReopened {
        incident: IncidentId,
        step: Arc<str>,
    },
    IncidentClosed {
        incident: IncidentId,
        summary: Arc<str>,
    },

    /// A backup was put in place, and what came after it was brought back as far as there was a copy of it. All before this
    /// event is as it was.
    LogRestored(LogRestored),
    Webhook(WebhookEvent),

    /// A tripwire was laid or has tripped.
    Tripwire(TripwireEvent),

    /// Failed attempts of a window, counted.
    AuthFailuresObserved {
        from: Timestamp,
        to: Timestamp,
        failures: Vec<FailureCount>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerCreated {
    pub worker: WorkerId,
    pub pool: PoolId,
    pub name: Option<Arc<str>>,
    pub labels: Labels,
    pub expires_at: Option<Timestamp>,
    /// Waits for approval.
    pub pending: bool,
    pub enrolled_by: Option<EnrollmentSecretId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCreated {
    pub key: KeyId,
    pub holder: KeyHolder,
    pub kind: KeyKind,
    pub verifier: Digest,
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanMade {
    pub plan: PlanId,
    pub kind: PlanKind,
    pub selector: Selector,
    pub digest: Digest,
    pub counts: Counts,
    /// Members of the fleet that have a working key, and would have none.
    pub left_without_key: u64,
    /// The plan that it takes the place of.
    pub replaces: Option<PlanId>,
    /// Whether a second operator has to approve it.
    pub approval: bool,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentOpened {
    pub incident: IncidentId,
    pub description: Description,
    pub drill: bool,
    /// As it was at opening: another template tomorrow changes no incident of today.
    pub checklist: Vec<StepTemplate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRestored {
    /// How many events the backup had.
    pub backup: u64,
    /// Of the dump in it: SHA-256.
    pub dump: Digest,
    /// How many events came after the backup, and were taken from the mirror just as they were.
    pub brought_back: u64,
    /// How many of them took access away.
    pub reductions: u64,
    pub given_up: Option<GivenUp>,
}

/// The part of the log that a restore did not bring back: from this event's own position on, there was another history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Where the log had been seen to end; `None` where nobody could say.
    pub known_to: Option<u64>,
}

/// For whom a key is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyHolder {
    Worker(WorkerId),
    Operator(OperatorId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureCount {
    pub reason: Arc<str>,
    pub source: Option<IpAddr>,
    /// The public id of the credential that was tried, where there was one.
    pub credential: Option<Arc<str>>,
    pub count: u64,
}

impl Event {
    /// Whether somebody may be refused from this event on who was accepted before: what can be waited for until it is in
    /// force on every node.
    #[must_use]
    pub fn reduces_access(&self) -> bool {
        match self {
            Event::PoolRemoved { .. }
            | Event::WorkerRejected { .. }
            | Event::WorkerIsolated { .. }
            | Event::WorkerRemoved { .. }
            | Event::KeyRotated { .. }
            | Event::KeyRevoked { .. }
            | Event::KeysRevoked { .. }
            | Event::KeyRotationDue { .. }
            | Event::EnrollmentSecretRotated { .. }
            | Event::EnrollmentSecretDisabled { .. }
            | Event::TokenRevoked { .. }
            | Event::SigningKeysRotated { .. }
            | Event::OperatorUpdated { .. }
            | Event::OperatorRemoved { .. }
            | Event::FenceRaised { .. }
            | Event::PlanApplied { .. }
            | Event::Readmission { change: ReadmissionChange::RolledBack { .. }, .. } => true,
            Event::WorkerUpdated { expires_at, .. } => expires_at.is_some(),
            Event::PoolCreated { .. }
            | Event::PoolUpdated { .. }
            | Event::WorkerCreated(_)
            | Event::WorkerApproved { .. }
            | Event::WorkerReleased { .. }
            | Event::KeyCreated(_)
            | Event::KeyShared { .. }
            | Event::EnrollmentSecretCreated { .. }
            | Event::TokenIssued(_)
            | Event::TokensIssued { .. }
            | Event::SigningKeysInstalled { .. }
            | Event::OperatorCreated { .. }
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
            | Event::AuthFailuresObserved { .. } => false,
        }
    }

    /// As the log has it at that position, where nothing else of it matters.
    #[cfg(test)]
    pub(crate) fn recorded_at(self, position: u64) -> Recorded {
        Recorded {
            position,
            recorded_at: Timestamp(0),
            occurred_at: Timestamp(0),
            author: Author::system(),
            command: CommandId(1),
            cause: None,
            incident: None,
            reason: None,
            event: self,
        }
    }

    /// How many facts of its kind it holds: one, or one for each key on a list.
    #[must_use]
    pub fn facts(&self) -> u64 {
        match self {
            Event::KeysRevoked { keys, .. } => keys.len() as u64,
            _ => 1,
        }
    }

    /// Whether its effect is as large as the fleet may be, and takes as long to bring about.
    #[must_use]
    pub fn is_sweeping(&self) -> bool {
        match self {
            Event::PlanApplied { .. } | Event::FenceRaised { .. } | Event::KeysRevoked { .. } => true,
            Event::Readmission { change, .. } => matches!(change, ReadmissionChange::RolledBack { .. }),
            _ => false,
        }
    }

    /// Whether it is what its incident is opened for, by the next event: it can carry none yet.
    #[must_use]
    pub fn precedes_its_incident(&self) -> bool {
        matches!(self, Event::Tripwire(TripwireEvent::Tripped(tripped)) if tripped.opens_incident())
    }

    /// The incident that it is an event of itself, as opposed to one that it was done for.
    #[must_use]
    pub fn own_incident(&self) -> Option<&IncidentId> {
        match self {
            Event::IncidentOpened(opened) => Some(&opened.incident),
            Event::IncidentUpdated { incident, .. }
            | Event::IncidentNoted { incident, .. }
            | Event::IncidentReviewed { incident, .. }
            | Event::IncidentStepDone { incident, .. }
            | Event::IncidentStepWaived { incident, .. }
            | Event::IncidentStepReopened { incident, .. }
            | Event::IncidentClosed { incident, .. } => Some(incident),
            _ => None,
        }
    }
}
