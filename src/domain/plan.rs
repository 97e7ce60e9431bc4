//! Plans: the exact list that a batch command would touch, shown before it is applied (promise 12).
//!
//! A plan names its list by a digest. Applying it computes the list again, on the state of that moment, and refuses if the
//! digest is another: what was shown is what is done, or nothing is. The list itself is in no event. It is a function of the
//! selector and of the Roll, so every node that folds the log comes to the same one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::event::REVOKED_KEYS_MAX;
use super::ids::{EnrollmentSecretId, KeyId, OperatorId, PlanId, PoolId, SigningKeyId, WorkerId};
use super::key::Digest;
use super::operator::OperatorIndex;
use super::readmission::Readmission;
use super::time::{Seconds, Timestamp};
use super::worker::WorkerIndex;
pub use kind::{Delivery, PLAN_KINDS, PlanKind};

mod kind;

#[cfg(test)]
mod tests;

/// How many criteria one selector may have: more is a list for a file, and an entry of the log is small.
pub const CRITERIA_MAX: usize = 100;
/// What they may take, written out: half of an entry of the log.
pub const SELECTOR_BYTES_MAX: usize = 32_768;
/// A plan that was made longer ago says too little about the fleet of now.
pub const PLAN_TTL: Seconds = Seconds(60 * Seconds::MINUTE);
/// Nobody looks at what came to nothing a day ago; what was applied is looked at while the incident is worked on. The log
/// has both for ever.
const UNAPPLIED_KEPT: Seconds = Seconds(Seconds::DAY);
const APPLIED_KEPT: Seconds = Seconds(30 * Seconds::DAY);
/// For how long new secrets can be collected at the least: whoever gives no overlap needs new ones all the same.
const COLLECTED_MIN: Seconds = Seconds(60 * Seconds::MINUTE);
/// How short the overlap may be where workers fetch their keys.
pub const FETCH_MIN: Seconds = Seconds(5 * Seconds::MINUTE);
/// Pools of a policy: their names have to fit in one entry of the log.
pub const POLICY_POOLS_MAX: usize = 500;
/// How many new secrets one command hands over: their answer is kept, sealed, for whoever lost it.
pub const COLLECTED_MAX: usize = 100;
/// How many items are recorded by one command: few enough that validation and other commands are not kept waiting.
pub const CHUNK_ITEMS: usize = 256;
/// How many keys a list has by which a plan revokes: what one takes, on each node and in the database, is a fraction of a
/// millisecond, so that nobody notices who wants the same core. Much fewer, and it is the appends that take the time.
pub const LISTED_KEYS: usize = 250;
const _: () = assert!(LISTED_KEYS <= REVOKED_KEYS_MAX, "an event holds a list");
/// In how long a plan's lists of revoked keys are recorded, where they can be. A key that is refused already can wait for its
/// record: the more of that time is rest, the less others notice. A million keys, which are four thousand lists, are to have theirs
/// within a minute, also where nodes are killed meanwhile.
pub const RECORDED_IN: Duration = Duration::from_secs(40);
/// By how much a plan may be late before its lists are as long as an event can hold: where each append takes long, many short ones
/// would take several times as long. It is as long as a node takes to be missed, and to start again.
const LATE: Duration = Duration::from_secs(5);

/// One thing that is known of what is to be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Criterion {
    /// The whole fleet. Operators are no part of it.
    Everything,
    Pool(PoolId),
    /// The workers that the enrollment secret, or what it was rotated into, has let in.
    Lineage(EnrollmentSecretId),
    Worker(WorkerId),
    /// The key, what it was rotated into, and that again, with the workers that hold it.
    Key(KeyId),
    /// Workers with this label.
    Label {
        name: Arc<str>,
        value: Arc<str>,
    },
    /// What the operator has made, in any depth: workers, keys with those who hold them, and enrollment secrets with all
    /// whom they let in.
    Operator(OperatorId),
    /// Workers whose last own event came from an address in it.
    Source(IpNet),
}

/// What a plan reaches: what meets a criterion of every kind that is named. Two pools are either; a pool and a label are
/// both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// In order, each once.
    criteria: Vec<Criterion>,
    /// Only workers that came at this time or later.
    pub since: Option<Timestamp>,
    /// Only workers that came before this time.
    pub before: Option<Timestamp>,
}

/// One thing on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Item {
    Worker(WorkerIndex),
    Key(KeyId),
    EnrollmentSecret(EnrollmentSecretId),
    SigningKey(SigningKeyId),
    /// By its fingerprint.
    TlsCertificate(Digest),
}

/// How long the list is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub workers: u64,
    pub keys: u64,
    pub enrollment_secrets: u64,
    pub signing_keys: u64,
    pub tls_certificates: u64,
}

/// That somebody else has looked at a plan, and would do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub by: OperatorIndex,
    /// The key that they came with.
    pub key: KeyId,
    pub at: Timestamp,
}

/// Which plans need the approval of a second operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalPolicy {
    /// Names of kinds, in order, each once.
    pub kinds: Arc<[Arc<str>]>,
    /// Pools of which nothing may be on a list without it; in order, each once.
    pub pools: Arc<[PoolId]>,
}

/// A plan, as the Roll keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub id: PlanId,
    pub kind: PlanKind,
    pub selector: Selector,
    pub digest: Digest,
    pub counts: Counts,
    /// Members of the fleet that had a working key when it was made, and would have none.
    pub left_without_key: u64,
    /// The plan that it takes the place of, to be compared with it.
    pub replaces: Option<PlanId>,
    /// Whether a second operator had to approve it by the policy of then.
    pub approval: bool,
    /// At most one of each operator.
    pub approvals: Vec<Approval>,
    /// The position of its event.
    pub made: u64,
    pub made_by: Option<OperatorIndex>,
    pub made_at: Timestamp,
    pub expires_at: Timestamp,
    pub progress: Option<Progress>,
}

/// How far an applied plan has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The position at which it was applied.
    pub applied: u64,
    pub applied_at: Timestamp,
    pub applied_by: Option<OperatorIndex>,
    /// Dropped when all of it is done.
    pub items: Arc<[Item]>,
    pub total: u64,
    /// How many of them have been dealt with, in order.
    pub done: u64,
    /// For how many an event was recorded. For the others the wish held already when their turn came.
    pub changed: u64,
    /// Of a plan that lets workers back in.
    pub readmission: Option<Readmission>,
}

impl Plan {
    /// Whether applying it changes each item: what a fence refuses by a position needs no mark of its own, on a million rows.
    #[must_use]
    pub fn marks_items(&self) -> bool {
        match self.kind {
            PlanKind::RevokeAll => self.selector.fence_scope().is_none(),
            // Each worker comes back with its record, and not before.
            PlanKind::Fence
            | PlanKind::RotateSigningKeys { .. }
            | PlanKind::RotateTlsCertificates
            | PlanKind::Readmit(_) => false,
            PlanKind::Isolate { .. }
            | PlanKind::Release
            | PlanKind::DisableEnrollment
            | PlanKind::RotateAll { .. }
            | PlanKind::RotateEnrollment { .. } => true,
        }
    }

    /// Until when the applying operator can collect new secrets; `None` where there are none to collect.
    #[must_use]
    pub fn collected_until(&self) -> Option<Timestamp> {
        let overlap = match self.kind {
            PlanKind::RotateAll { overlap, delivery: Delivery::File } | PlanKind::RotateEnrollment { overlap } => {
                overlap
            }
            PlanKind::Isolate { .. }
            | PlanKind::Release
            | PlanKind::RevokeAll
            | PlanKind::DisableEnrollment
            | PlanKind::RotateAll { delivery: Delivery::Fetch, .. }
            | PlanKind::RotateSigningKeys { .. }
            | PlanKind::RotateTlsCertificates
            | PlanKind::Fence
            // What is collected of these is no item that waits for its record.
            | PlanKind::Readmit(_) => return None,
        };
        self.progress.as_ref().map(|progress| progress.applied_at.after(overlap.max(COLLECTED_MIN)))
    }

    /// When it need not be kept any more; `None` while it is under way.
    #[must_use]
    pub fn forgotten_at(&self) -> Option<Timestamp> {
        match &self.progress {
            None => Some(self.expires_at.after(UNAPPLIED_KEPT)),
            Some(progress) => progress.is_complete().then(|| progress.applied_at.after(APPLIED_KEPT)),
        }
    }
}

impl Counts {
    #[must_use]
    pub fn of(items: &[Item]) -> Self {
        items.iter().fold(Self::default(), |mut counts, item| {
            match item {
                Item::Worker(_) => counts.workers += 1,
                Item::Key(_) => counts.keys += 1,
                Item::EnrollmentSecret(_) => counts.enrollment_secrets += 1,
                Item::SigningKey(_) => counts.signing_keys += 1,
                Item::TlsCertificate(_) => counts.tls_certificates += 1,
            }
            counts
        })
    }

    #[must_use]
    pub fn total(self) -> u64 {
        self.workers + self.keys + self.enrollment_secrets + self.signing_keys + self.tls_certificates
    }
}

impl Progress {
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done == self.total && self.readmission.as_ref().is_none_or(|readmission| readmission.stage.is_over())
    }

    /// The position of the event that its next records come of.
    #[must_use]
    pub fn cause(&self) -> u64 {
        let Some(readmission) = &self.readmission else { return self.applied };
        let begun = readmission.waves.last().filter(|wave| self.done < wave.to).map(|wave| wave.released);
        readmission.rolled_back.or(begun).unwrap_or(self.applied)
    }

    /// How many items one command records of a plan of this kind now.
    #[must_use]
    pub fn chunk(&self, kind: &PlanKind, now: Timestamp) -> usize {
        match kind {
            // These are on one list.
            PlanKind::RevokeAll if self.is_late(now) => REVOKED_KEYS_MAX,
            PlanKind::RevokeAll => LISTED_KEYS,
            _ => CHUNK_ITEMS,
        }
    }

    /// Whether less of it is done than would be if it went on evenly, and had begun so much later.
    fn is_late(&self, now: Timestamp) -> bool {
        let since = u128::try_from(now.0.saturating_sub(self.applied_at.0)).unwrap_or_default();
        let since = since.saturating_sub(LATE.as_micros());
        u128::from(self.done) * RECORDED_IN.as_micros() < u128::from(self.total) * since
    }

    /// What comes next on the list, at most so many.
    #[must_use]
    pub fn next_items(&self, most: usize) -> &[Item] {
        let from = usize::try_from(self.done).map_or(self.items.len(), |done| done.min(self.items.len()));
        // Of a readmission no more than belong to the waves that were begun.
        let end = match &self.readmission {
            Some(readmission) => usize::try_from(readmission.begun()).unwrap_or(usize::MAX).min(self.items.len()),
            None => self.items.len(),
        };
        &self.items[from.min(end)..end.min(from + most)]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("at least one criterion; `everything` is the whole fleet")]
    Empty,
    #[error("at most {CRITERIA_MAX} criteria")]
    TooMany,
    #[error("`everything` stands alone")]
    NotAlone,
}

impl Selector {
    pub fn new(
        mut criteria: Vec<Criterion>,
        since: Option<Timestamp>,
        before: Option<Timestamp>,
    ) -> Result<Self, SelectorError> {
        criteria.sort();
        criteria.dedup();
        match criteria.len() {
            0 => Err(SelectorError::Empty),
            2.. if criteria.contains(&Criterion::Everything) => Err(SelectorError::NotAlone),
            count if count > CRITERIA_MAX => Err(SelectorError::TooMany),
            _ => Ok(Self { criteria, since, before }),
        }
    }

    #[must_use]
    pub fn criteria(&self) -> &[Criterion] {
        &self.criteria
    }
}

/// A kind and an id, as events name their subjects; a label with its value.
impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Criterion::Everything => f.write_str("everything"),
            Criterion::Pool(id) => write!(f, "pool:{id}"),
            Criterion::Lineage(id) => write!(f, "enrollment_secret:{id}"),
            Criterion::Worker(id) => write!(f, "worker:{id}"),
            Criterion::Key(id) => write!(f, "key:{id}"),
            Criterion::Label { name, value } => write!(f, "label:{name}={value}"),
            Criterion::Operator(id) => write!(f, "operator:{id}"),
            Criterion::Source(net) => write!(f, "source:{net}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "each one of: `everything`; `pool:`, `enrollment_secret:`, `worker:`, `key:` or `operator:` and an id; \
     `label:NAME=VALUE`; or `source:` and a CIDR without digits past its prefix, such as `10.1.0.0/16` or `10.1.2.3/32`"
)]
pub struct NotACriterion;

impl FromStr for Criterion {
    type Err = NotACriterion;

    fn from_str(text: &str) -> Result<Self, NotACriterion> {
        let read = match text.split_once(':') {
            None if text == "everything" => Some(Criterion::Everything),
            Some(("pool", id)) => id.parse().ok().map(Criterion::Pool),
            Some(("enrollment_secret", id)) => id.parse().ok().map(Criterion::Lineage),
            Some(("worker", id)) => id.parse().ok().map(Criterion::Worker),
            Some(("key", id)) => id.parse().ok().map(Criterion::Key),
            Some(("label", pair)) => pair
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, value)| Criterion::Label { name: name.into(), value: value.into() }),
            Some(("operator", id)) => id.parse().ok().map(Criterion::Operator),
            // One spelling of each, since it is written down as it was read.
            Some(("source", net)) => {
                let read = net.parse().ok().filter(|read: &IpNet| read.trunc() == *read && read.to_string() == net);
                read.map(Criterion::Source)
            }
            None | Some(_) => None,
        };
        read.ok_or(NotACriterion)
    }
}
