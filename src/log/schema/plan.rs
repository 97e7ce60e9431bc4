//! Events of plans on disk. A digest is 64 hexadecimal digits.
//!
//! 2026-11-22: `plan.made`, `plan.applied` and `plan.progressed`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::{Event, PlanMade};
use crate::domain::ids::PlanId;
use crate::domain::plan::{Counts, Criterion, PlanKind, Selector};
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
struct SelectorV1<'a> {
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

impl SelectorV1<'_> {
    fn new(selector: &Selector) -> Result<Self, EntryError> {
        Ok(Self {
            before: Text::time_if(selector.before, "before")?,
            criteria: selector.criteria().iter().map(Text::of).collect(),
            since: Text::time_if(selector.since, "since")?,
        })
    }

    fn read(&self) -> Result<Selector, EntryError> {
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

impl MadeV1<'_> {
    pub(super) fn new(made: &PlanMade) -> Result<Self, EntryError> {
        let until = match made.kind {
            PlanKind::Isolate { until } => until,
            PlanKind::Release | PlanKind::RevokeAll | PlanKind::DisableEnrollment => None,
        };
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
            until: Text::time_if(until, "until")?,
        })
    }

    pub(super) fn made(&self) -> Result<Event, EntryError> {
        let until = optional(self.until.as_ref(), |at| at.parse_time("until"))?;
        let kind = match (self.kind.as_str(), until) {
            ("isolate", until) => PlanKind::Isolate { until },
            ("release", None) => PlanKind::Release,
            ("revoke_all", None) => PlanKind::RevokeAll,
            ("disable_enrollment", None) => PlanKind::DisableEnrollment,
            _ => return Err(EntryError::Malformed { field: "the plan's kind" }),
        };
        Ok(Event::PlanMade(PlanMade {
            plan: self.plan.parse("plan")?,
            kind,
            selector: self.selector.read()?,
            digest: self.digest.parse("digest")?,
            counts: Counts {
                workers: read_count(self.counts.workers, "counts")?,
                keys: read_count(self.counts.keys, "counts")?,
                enrollment_secrets: read_count(self.counts.enrollment_secrets, "counts")?,
            },
            left_without_key: read_count(self.left_without_key, "left_without_key")?,
            expires_at: self.expires_at.parse_time("expires_at")?,
        }))
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
