//! A worker: one member of the fleet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fence::Floor;
use super::ids::{EnrollmentSecretId, KeyId, PoolId, WorkerId};
use super::operator::OperatorIndex;
use super::time::Timestamp;

/// How many live keys one worker may hold: a rotation's two for several programs. More were forgotten ones.
pub const WORKER_KEYS_MAX: usize = 16;
/// A name is for people; this fits every host name (RFC 1035: 253).
pub const NAME_CHARS_MAX: usize = 253;
pub const LABELS_MAX: usize = 32;
pub const LABEL_CHARS_MAX: usize = 128;

pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// A worker's place in the Roll: dense, in order of creation, so that a key finds its worker without hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerIndex(pub u32);

/// What a verdict reads comes first and lies together, so that it costs one line of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Worker {
    pub state: WorkerState,
    pub expires_at: Option<Timestamp>,
    /// Of the fences over this worker alone.
    pub fence: Floor,
    pub id: WorkerId,
    pub pool: PoolId,
    /// `None`: nobody gave it one, and its id stands for it.
    pub name: Option<Arc<str>>,
    pub labels: Option<Arc<Labels>>,
    pub created_at: Timestamp,
    /// The position of its `worker.created`.
    pub created: u64,
    /// The enrollment secret that let it in: its lineage.
    pub enrolled_by: Option<EnrollmentSecretId>,
    /// The operator who made it, where it was one.
    pub created_by: Option<OperatorIndex>,
    /// Where the last event came from that was the worker's own doing.
    pub seen_from: Option<IpAddr>,
    pub keys: Vec<KeyId>,
}

/// What was decided about a worker. What time makes of it is [`Standing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerState {
    /// Waits for approval.
    Pending,
    Active,
    /// Refused everything, until released or until the time given.
    Isolated {
        until: Option<Timestamp>,
    },
    Rejected,
    /// The last state. Nothing follows.
    Removed,
}

/// A worker's state at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    Pending,
    Active,
    Isolated,
    Rejected,
    Removed,
    Expired,
}

impl Worker {
    /// The state at `now`.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        self.state.standing(self.expires_at, now)
    }

    /// What people see: the name, or else the id.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.as_str())
    }

    /// Whether it still belongs to the fleet.
    #[must_use]
    pub fn is_member(&self) -> bool {
        match self.state {
            WorkerState::Pending | WorkerState::Active | WorkerState::Isolated { .. } => true,
            WorkerState::Rejected | WorkerState::Removed => false,
        }
    }
}

impl WorkerState {
    /// What time makes of it: isolation ends by itself, and so does a worker that expires.
    #[must_use]
    pub fn standing(self, expires_at: Option<Timestamp>, now: Timestamp) -> Standing {
        let expired = expires_at.is_some_and(|at| at <= now);
        match self {
            WorkerState::Removed => Standing::Removed,
            WorkerState::Rejected => Standing::Rejected,
            WorkerState::Pending if expired => Standing::Expired,
            WorkerState::Pending => Standing::Pending,
            // Isolation outranks expiry: it is what a responder looks for.
            WorkerState::Isolated { until } if until.is_none_or(|until| now < until) => Standing::Isolated,
            WorkerState::Isolated { .. } | WorkerState::Active if expired => Standing::Expired,
            WorkerState::Isolated { .. } | WorkerState::Active => Standing::Active,
        }
    }
}

impl Standing {
    pub const ALL: [Standing; 6] = [
        Standing::Pending,
        Standing::Active,
        Standing::Isolated,
        Standing::Rejected,
        Standing::Removed,
        Standing::Expired,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Pending => "pending",
            Standing::Active => "active",
            Standing::Isolated => "isolated",
            Standing::Rejected => "rejected",
            Standing::Removed => "removed",
            Standing::Expired => "expired",
        }
    }
}
