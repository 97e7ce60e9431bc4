//! Events of readmissions on disk. Times are seconds, bounds the greatest counts that are allowed.
//!
//! 2026-11-22: `readmission.wave_released`, `readmission.keys_made`, `readmission.paused`, `readmission.resumed`,
//! `readmission.stopped`, `readmission.completed` and `readmission.rolled_back`, schema 1; and `plan.made`, schema 3, for plans
//! that let workers back in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::plan::{CountsV2, SelectorV1};
use super::{Frozen, json};
use crate::domain::event::{Event, PlanMade};
use crate::domain::ids::PlanId;
use crate::domain::plan::{Delivery, PlanKind};
use crate::domain::readmission::{ReadmissionChange, Terms};
use crate::domain::time::Seconds;
use crate::log::entry::EntryError;
use crate::log::text::{Text, optional, read_count, written_count};

const NO_TERMS: EntryError = EntryError::Malformed { field: "the terms" };

/// What the schemas before it cannot say.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MadeV3<'a> {
    approval: bool,
    counts: CountsV2,
    #[serde(borrow)]
    digest: Text<'a>,
    #[serde(borrow)]
    expires_at: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    left_without_key: u64,
    #[serde(borrow)]
    plan: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    replaces: Option<Text<'a>>,
    #[serde(borrow)]
    selector: SelectorV1<'a>,
    #[serde(borrow)]
    terms: TermsV1<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TermsV1<'a> {
    #[serde(borrow)]
    as_of: Text<'a>,
    canaries: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    canary: Option<Text<'a>>,
    #[serde(borrow)]
    delivery: Text<'a>,
    /// Of old keys; only where workers fetch theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<u32>,
    refusals_max: u64,
    trips_max: u64,
    wave_every: u32,
    wave_size: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaveReleasedV1<'a> {
    #[serde(borrow)]
    plan: Text<'a>,
    wave: u64,
    workers: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysMadeV1<'a> {
    done: u64,
    #[serde(borrow)]
    plan: Text<'a>,
}

/// Of those that say nothing but which.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedV1<'a> {
    #[serde(borrow)]
    plan: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoppedV1<'a> {
    #[serde(borrow)]
    plan: Text<'a>,
    refusals: u64,
    trips: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RolledBackV1<'a> {
    #[serde(borrow)]
    plan: Text<'a>,
    workers: u64,
}

impl<'a> MadeV3<'a> {
    pub(super) fn new(made: &'a PlanMade, terms: &'a Terms) -> Result<Self, EntryError> {
        Ok(Self {
            approval: made.approval,
            counts: CountsV2::new(made.counts)?,
            digest: Text::of(&made.digest),
            expires_at: Text::time(made.expires_at, "expires_at")?,
            kind: Text::borrowed(made.kind.name()),
            left_without_key: written_count(made.left_without_key, "left_without_key")?,
            plan: Text::of(&made.plan),
            replaces: made.replaces.map(|plan| Text::of(&plan)),
            selector: SelectorV1::new(&made.selector)?,
            terms: TermsV1::new(terms)?,
        })
    }

    pub(super) fn made(&self) -> Result<Event, EntryError> {
        let kind = PlanKind::Readmit(Arc::new(self.terms.read()?));
        if self.kind.as_str() != kind.name() {
            return Err(NO_TERMS);
        }
        Ok(Event::PlanMade(PlanMade {
            plan: self.plan.parse("plan")?,
            kind,
            selector: self.selector.read()?,
            digest: self.digest.parse("digest")?,
            counts: self.counts.read()?,
            left_without_key: read_count(self.left_without_key, "left_without_key")?,
            replaces: optional(self.replaces.as_ref(), |plan| plan.parse("replaces"))?,
            approval: self.approval,
            expires_at: self.expires_at.parse_time("expires_at")?,
        }))
    }
}

impl<'a> TermsV1<'a> {
    fn new(terms: &'a Terms) -> Result<Self, EntryError> {
        Ok(Self {
            as_of: Text::time(terms.as_of, "terms")?,
            canaries: written_count(terms.canaries, "terms")?,
            canary: terms.canary.as_ref().map(|pool| Text::borrowed(pool.as_str())),
            delivery: Text::borrowed(terms.delivery.as_str()),
            overlap: (terms.delivery == Delivery::Fetch).then_some(terms.overlap.0),
            refusals_max: written_count(terms.refusals_max, "terms")?,
            trips_max: written_count(terms.trips_max, "terms")?,
            wave_every: terms.wave_every.0,
            wave_size: terms.wave_size,
        })
    }

    fn read(&self) -> Result<Terms, EntryError> {
        let name = self.delivery.as_str();
        let delivery = Delivery::ALL.into_iter().find(|known| known.as_str() == name).ok_or(NO_TERMS)?;
        let overlap = match (delivery, self.overlap) {
            (Delivery::File, None) => Seconds(0),
            (Delivery::Fetch, Some(overlap)) => Seconds(overlap),
            (Delivery::File, Some(_)) | (Delivery::Fetch, None) => return Err(NO_TERMS),
        };
        Ok(Terms {
            as_of: self.as_of.parse_time("terms")?,
            canary: optional(self.canary.as_ref(), |pool| pool.parse("terms"))?,
            canaries: read_count(self.canaries, "terms")?,
            wave_size: self.wave_size,
            wave_every: Seconds(self.wave_every),
            refusals_max: read_count(self.refusals_max, "terms")?,
            trips_max: read_count(self.trips_max, "terms")?,
            delivery,
            overlap,
        })
    }
}

pub(super) fn write(plan: PlanId, change: ReadmissionChange) -> Result<Box<RawValue>, EntryError> {
    match change {
        ReadmissionChange::WaveReleased { wave, workers } => json(&WaveReleasedV1::new(plan, wave, workers)?),
        ReadmissionChange::KeysMade { done } => json(&KeysMadeV1::new(plan, done)?),
        ReadmissionChange::Paused | ReadmissionChange::Resumed | ReadmissionChange::Completed => {
            json(&NamedV1::new(plan))
        }
        ReadmissionChange::Stopped { refusals, trips } => json(&StoppedV1::new(plan, refusals, trips)?),
        ReadmissionChange::RolledBack { workers } => json(&RolledBackV1::new(plan, workers)?),
    }
}

fn changed(plan: &Text<'_>, change: ReadmissionChange) -> Result<Event, EntryError> {
    Ok(Event::Readmission { plan: plan.parse("plan")?, change })
}

impl WaveReleasedV1<'_> {
    pub(super) fn new(plan: PlanId, wave: u64, workers: u64) -> Result<Self, EntryError> {
        Ok(Self {
            plan: Text::of(&plan),
            wave: written_count(wave, "wave")?,
            workers: written_count(workers, "workers")?,
        })
    }

    pub(super) fn released(&self) -> Result<Event, EntryError> {
        let (wave, workers) = (read_count(self.wave, "wave")?, read_count(self.workers, "workers")?);
        changed(&self.plan, ReadmissionChange::WaveReleased { wave, workers })
    }
}

impl KeysMadeV1<'_> {
    pub(super) fn new(plan: PlanId, done: u64) -> Result<Self, EntryError> {
        Ok(Self { done: written_count(done, "done")?, plan: Text::of(&plan) })
    }

    pub(super) fn made(&self) -> Result<Event, EntryError> {
        changed(&self.plan, ReadmissionChange::KeysMade { done: read_count(self.done, "done")? })
    }
}

impl NamedV1<'_> {
    pub(super) fn new(plan: PlanId) -> Self {
        Self { plan: Text::of(&plan) }
    }

    pub(super) fn paused(&self) -> Result<Event, EntryError> {
        changed(&self.plan, ReadmissionChange::Paused)
    }

    pub(super) fn resumed(&self) -> Result<Event, EntryError> {
        changed(&self.plan, ReadmissionChange::Resumed)
    }

    pub(super) fn completed(&self) -> Result<Event, EntryError> {
        changed(&self.plan, ReadmissionChange::Completed)
    }
}

impl StoppedV1<'_> {
    pub(super) fn new(plan: PlanId, refusals: u64, trips: u64) -> Result<Self, EntryError> {
        Ok(Self {
            plan: Text::of(&plan),
            refusals: written_count(refusals, "refusals")?,
            trips: written_count(trips, "trips")?,
        })
    }

    pub(super) fn stopped(&self) -> Result<Event, EntryError> {
        let (refusals, trips) = (read_count(self.refusals, "refusals")?, read_count(self.trips, "trips")?);
        changed(&self.plan, ReadmissionChange::Stopped { refusals, trips })
    }
}

impl RolledBackV1<'_> {
    pub(super) fn new(plan: PlanId, workers: u64) -> Result<Self, EntryError> {
        Ok(Self { plan: Text::of(&plan), workers: written_count(workers, "workers")? })
    }

    pub(super) fn rolled_back(&self) -> Result<Event, EntryError> {
        changed(&self.plan, ReadmissionChange::RolledBack { workers: read_count(self.workers, "workers")? })
    }
}

impl<'a> Frozen<'a> for MadeV3<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for WaveReleasedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for KeysMadeV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for NamedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for StoppedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl<'a> Frozen<'a> for RolledBackV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}
