//! Events of plans on disk. A digest is 64 hexadecimal digits.
//!
//! 2026-11-22: `plan.made`, `plan.applied` and `plan.progressed`, schema 1.
//! 2026-11-22: `plan.approved` and `plan_policy.set`, schema 1; and `plan.made`, schema 2, for plans that rotate or fence,
//! that take another's place, or that a second operator has to approve. All others are written in schema 1 as before.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::{Event, PlanMade};
use crate::domain::ids::{PlanId, PoolId};
use crate::domain::plan::{ApprovalPolicy, Counts, Criterion, Delivery, PLAN_KINDS, PlanKind, Selector};
use crate::domain::time::{Seconds, Timestamp};
use crate::log::entry::EntryError;
use crate::log::text::{Text, optional, read_count, written_count};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MadeV1<'a> {
    counts: CountsV1,
    #[serde(borrow)]
    digest: Text<'a>,
    #[serde(borrow)]
    expires_at: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    left_without_key: u64,
    #[serde(borrow)]
    plan: Text<'a>,
    #[serde(borrow)]
    selector: SelectorV1<'a>,
    /// Of isolations that end by themselves.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    until: Option<Text<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CountsV1 {
    enrollment_secrets: u64,
    keys: u64,
    workers: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectorV1<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    before: Option<Text<'a>>,
    /// In the order of the domain, each once.
    #[serde(borrow)]
    criteria: Vec<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    since: Option<Text<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppliedV1<'a> {
    items: u64,
    #[serde(borrow)]
    plan: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProgressedV1<'a> {
    changed: u64,
    done: u64,
    #[serde(borrow)]
    plan: Text<'a>,
}

/// What schema 1 cannot say.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MadeV2<'a> {
    approval: bool,
    counts: CountsV2,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    delivery: Option<Text<'a>>,
    #[serde(borrow)]
    digest: Text<'a>,
    #[serde(borrow)]
    expires_at: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    left_without_key: u64,
    /// In seconds; of what rotates.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<u32>,
    #[serde(borrow)]
    plan: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    replaces: Option<Text<'a>>,
    #[serde(borrow)]
    selector: SelectorV1<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    until: Option<Text<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CountsV2 {
    enrollment_secrets: u64,
    keys: u64,
    signing_keys: u64,
    tls_certificates: u64,
    workers: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovedV1<'a> {
    #[serde(borrow)]
    plan: Text<'a>,
}

/// In order, each once.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyV1<'a> {
    #[serde(borrow)]
    kinds: Vec<Text<'a>>,
    #[serde(borrow)]
    pools: Vec<Text<'a>>,
}

impl SelectorV1<'_> {
    pub(super) fn new(selector: &Selector) -> Result<Self, EntryError> {
        Ok(Self {
            before: Text::time_if(selector.before, "before")?,
            criteria: selector.criteria().iter().map(Text::of).collect(),
            since: Text::time_if(selector.since, "since")?,
        })
    }

    pub(super) fn read(&self) -> Result<Selector, EntryError> {
        let malformed = EntryError::Malformed { field: "selector" };
        let criteria: Vec<Criterion> =
            self.criteria.iter().map(|text| text.parse("criteria")).collect::<Result<_, _>>()?;
        let since = optional(self.since.as_ref(), |at| at.parse_time("since"))?;
        let before = optional(self.before.as_ref(), |at| at.parse_time("before"))?;
        let selector = Selector::new(criteria.clone(), since, before).map_err(|_| malformed.clone())?;
        // What would be written in another order is not what was written.
        if selector.criteria() == criteria { Ok(selector) } else { Err(malformed) }
    }
}

impl CountsV2 {
    pub(super) fn new(counts: Counts) -> Result<Self, EntryError> {
        Ok(Self {
            enrollment_secrets: written_count(counts.enrollment_secrets, "counts")?,
            keys: written_count(counts.keys, "counts")?,
            signing_keys: written_count(counts.signing_keys, "counts")?,
            tls_certificates: written_count(counts.tls_certificates, "counts")?,
            workers: written_count(counts.workers, "counts")?,
        })
    }

    pub(super) fn read(&self) -> Result<Counts, EntryError> {
        Ok(Counts {
            workers: read_count(self.workers, "counts")?,
            keys: read_count(self.keys, "counts")?,
            enrollment_secrets: read_count(self.enrollment_secrets, "counts")?,
            signing_keys: read_count(self.signing_keys, "counts")?,
            tls_certificates: read_count(self.tls_certificates, "counts")?,
        })
    }
}

impl MadeV1<'_> {
    /// Whether this schema has a word for all of it.
    pub(super) fn can_say(made: &PlanMade) -> bool {
        let kind = match made.kind {
            PlanKind::Isolate { .. } | PlanKind::Release | PlanKind::RevokeAll | PlanKind::DisableEnrollment => true,
            PlanKind::RotateAll { .. }
            | PlanKind::RotateEnrollment { .. }
            | PlanKind::RotateSigningKeys { .. }
            | PlanKind::RotateTlsCertificates
            | PlanKind::Fence
            | PlanKind::Readmit(_) => false,
        };
        kind && !made.approval
            && made.replaces.is_none()
            && made.counts.signing_keys == 0
            && made.counts.tls_certificates == 0
    }

    pub(super) fn new(made: &PlanMade) -> Result<Self, EntryError> {
        Ok(Self {
            counts: CountsV1 {
                enrollment_secrets: written_count(made.counts.enrollment_secrets, "counts")?,
                keys: written_count(made.counts.keys, "counts")?,
                workers: written_count(made.counts.workers, "counts")?,
            },
            digest: Text::of(&made.digest),
            expires_at: Text::time(made.expires_at, "expires_at")?,
            kind: Text::borrowed(made.kind.name()),
            left_without_key: written_count(made.left_without_key, "left_without_key")?,
            plan: Text::of(&made.plan),
            selector: SelectorV1::new(&made.selector)?,
            until: Text::time_if(made.kind.until(), "until")?,
        })
    }

    pub(super) fn made(&self) -> Result<Event, EntryError> {
        let until = optional(self.until.as_ref(), |at| at.parse_time("until"))?;
        let kind = plain_kind(self.kind.as_str(), until)?;
        Ok(Event::PlanMade(PlanMade {
            plan: self.plan.parse("plan")?,
            kind,
            selector: self.selector.read()?,
            digest: self.digest.parse("digest")?,
            counts: Counts {
                workers: read_count(self.counts.workers, "counts")?,
                keys: read_count(self.counts.keys, "counts")?,
                enrollment_secrets: read_count(self.counts.enrollment_secrets, "counts")?,
                signing_keys: 0,
                tls_certificates: 0,
            },
            left_without_key: read_count(self.left_without_key, "left_without_key")?,
            replaces: None,
            approval: false,
            expires_at: self.expires_at.parse_time("expires_at")?,
        }))
    }
}

fn plain_kind(name: &str, until: Option<Timestamp>) -> Result<PlanKind, EntryError> {
    match (name, until) {
        ("isolate", until) => Ok(PlanKind::Isolate { until }),
        ("release", None) => Ok(PlanKind::Release),
        ("revoke_all", None) => Ok(PlanKind::RevokeAll),
        ("disable_enrollment", None) => Ok(PlanKind::DisableEnrollment),
        _ => Err(NO_KIND),
    }
}

const NO_KIND: EntryError = EntryError::Malformed { field: "the plan's kind" };

impl MadeV2<'_> {
    pub(super) fn new(made: &PlanMade) -> Result<Self, EntryError> {
        // An enrollment secret is delivered in one way only, and does not say so.
        let delivery = match made.kind {
            PlanKind::RotateAll { delivery, .. } => Some(delivery),
            _ => None,
        };
        Ok(Self {
            approval: made.approval,
            counts: CountsV2::new(made.counts)?,
            delivery: delivery.map(|delivery| Text::borrowed(delivery.as_str())),
            digest: Text::of(&made.digest),
            expires_at: Text::time(made.expires_at, "expires_at")?,
            kind: Text::borrowed(made.kind.name()),
            left_without_key: written_count(made.left_without_key, "left_without_key")?,
            overlap: made.kind.overlap().map(|overlap| overlap.0),
            plan: Text::of(&made.plan),
            replaces: made.replaces.map(|plan| Text::of(&plan)),
            selector: SelectorV1::new(&made.selector)?,
            until: Text::time_if(made.kind.until(), "until")?,
        })
    }

    pub(super) fn made(&self) -> Result<Event, EntryError> {
        let made = PlanMade {
            plan: self.plan.parse("plan")?,
            kind: self.kind()?,
            selector: self.selector.read()?,
            digest: self.digest.parse("digest")?,
            counts: self.counts.read()?,
            left_without_key: read_count(self.left_without_key, "left_without_key")?,
            replaces: optional(self.replaces.as_ref(), |plan| plan.parse("replaces"))?,
            approval: self.approval,
            expires_at: self.expires_at.parse_time("expires_at")?,
        };
        // There is one way to write each event.
        if MadeV1::can_say(&made) { Err(NO_KIND) } else { Ok(Event::PlanMade(made)) }
    }

    fn kind(&self) -> Result<PlanKind, EntryError> {
        let until = optional(self.until.as_ref(), |at| at.parse_time("until"))?;
        let delivery = self.delivery.as_ref().map(Text::as_str);
        let delivery = match delivery {
            Some(name) => Some(Delivery::ALL.into_iter().find(|known| known.as_str() == name).ok_or(NO_KIND)?),
            None => None,
        };
        match (self.kind.as_str(), self.overlap.map(Seconds), delivery, until) {
            ("rotate_all", Some(overlap), Some(delivery), None) => Ok(PlanKind::RotateAll { overlap, delivery }),
            ("rotate_enrollment", Some(overlap), None, None) => Ok(PlanKind::RotateEnrollment { overlap }),
            ("rotate_signing_keys", Some(overlap), None, None) => Ok(PlanKind::RotateSigningKeys { overlap }),
            ("rotate_tls_certificates", None, None, None) => Ok(PlanKind::RotateTlsCertificates),
            ("fence", None, None, None) => Ok(PlanKind::Fence),
            (name, None, None, until) => plain_kind(name, until),
            _ => Err(NO_KIND),
        }
    }
}

impl ApprovedV1<'_> {
    pub(super) fn new(plan: PlanId) -> Self {
        Self { plan: Text::of(&plan) }
    }

    pub(super) fn approved(&self) -> Result<Event, EntryError> {
        Ok(Event::PlanApproved { plan: self.plan.parse("plan")? })
    }
}

impl<'a> PolicyV1<'a> {
    pub(super) fn new(policy: &'a ApprovalPolicy) -> Self {
        Self {
            kinds: policy.kinds.iter().map(|kind| Text::borrowed(kind)).collect(),
            pools: policy.pools.iter().map(|pool| Text::borrowed(pool.as_str())).collect(),
        }
    }

    pub(super) fn set(&self) -> Result<Event, EntryError> {
        let kinds: Arc<[Arc<str>]> = self.kinds.iter().map(Text::to_shared).collect();
        let pools: Arc<[PoolId]> = self.pools.iter().map(|pool| pool.parse("pools")).collect::<Result<_, _>>()?;
        let ordered = kinds.is_sorted_by(|a, b| a < b) && pools.is_sorted_by(|a, b| a < b);
        if !ordered || !kinds.iter().all(|kind| PLAN_KINDS.contains(&&**kind)) {
            return Err(EntryError::Malformed { field: "the policy" });
        }
        Ok(Event::PlanPolicySet(ApprovalPolicy { kinds, pools }))
    }
}

impl AppliedV1<'_> {
    pub(super) fn new(plan: PlanId, items: u64) -> Result<Self, EntryError> {
        Ok(Self { items: written_count(items, "items")?, plan: Text::of(&plan) })
    }

    pub(super) fn applied(&self) -> Result<Event, EntryError> {
        Ok(Event::PlanApplied { plan: self.plan.parse("plan")?, items: read_count(self.items, "items")? })
    }
}

impl ProgressedV1<'_> {
    pub(super) fn new(plan: PlanId, done: u64, changed: u64) -> Result<Self, EntryError> {
        Ok(Self {
            changed: written_count(changed, "changed")?,
            done: written_count(done, "done")?,
            plan: Text::of(&plan),
        })
    }

    pub(super) fn progressed(&self) -> Result<Event, EntryError> {
        Ok(Event::PlanProgressed {
            plan: self.plan.parse("plan")?,
            done: read_count(self.done, "done")?,
            changed: read_count(self.changed, "changed")?,
        })
    }
}

impl<'a> Frozen<'a> for MadeV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for MadeV2<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for ApprovedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for PolicyV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("log", "plan_policy")
    }
}

impl<'a> Frozen<'a> for AppliedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for ProgressedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}
