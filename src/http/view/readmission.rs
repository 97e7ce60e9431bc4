//! A readmission, as answers show it: its waves, how they fare, and what is next.

use serde::Serialize;
use utoipa::ToSchema;

use super::{duration, time};
use crate::domain::plan::{Plan, Progress};
use crate::domain::readmission::{Readmission, Stage, Terms, Wave};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::http::schema;

/// Isolated workers that are let back in wave by wave.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ReadmissionView {
    /// The id of its plan.
    #[schema(schema_with = schema::made_id)]
    id: String,
    /// The incident that it was applied for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::chosen_id, required = false)]
    incident: Option<String>,
    /// `made` and `expired`: it was not applied. `releasing`: it goes on by itself. `paused`: by an operator; `stopped`: by a
    /// bound. `completed`: all are back. `rolled_back`: all are isolated again.
    #[schema(schema_with = schema::readmission_state)]
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::chosen_id, required = false)]
    canary_pool: Option<String>,
    #[schema(schema_with = schema::wave_size)]
    wave_size: u32,
    #[schema(example = "5m")]
    wave_every: String,
    #[schema(schema_with = schema::bound)]
    stop_after_refusals: u64,
    #[schema(schema_with = schema::bound)]
    stop_after_trips: u64,
    #[schema(schema_with = schema::delivery)]
    delivery: &'static str,
    #[schema(schema_with = schema::position)]
    workers: u64,
    /// How many of them were dealt with: let back in, but for those that somebody had released or removed before.
    #[schema(schema_with = schema::position)]
    released: u64,
    /// To how many new keys were handed out.
    #[schema(schema_with = schema::position)]
    keyed: u64,
    /// Counted since it began, or was last resumed.
    #[schema(schema_with = schema::position)]
    refusals: u64,
    #[schema(schema_with = schema::position)]
    trips: u64,
    /// In how many waves they come back, all told.
    #[schema(schema_with = schema::position)]
    waves_planned: u64,
    /// How their new keys are used; only where one readmission is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    adoption: Option<Adoption>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next: Option<NextView>,
    /// Those that were begun.
    waves: Vec<WaveView>,
}

/// What comes next by itself.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct NextView {
    /// The number of the next wave; none where the last one only has to stand for its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::position, required = false)]
    wave: Option<u64>,
    /// `time`: until `at`. `keys`: until the new keys of workers that are back were collected. `wave`: until all of the last
    /// wave are back.
    #[schema(schema_with = schema::waits_for)]
    waits_for: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    at: Option<String>,
}

/// One wave.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WaveView {
    #[schema(schema_with = schema::position)]
    wave: u64,
    /// Whether its workers are of the canary pool.
    canary: bool,
    #[schema(schema_with = schema::position)]
    workers: u64,
    /// The position at which it was begun.
    #[schema(schema_with = schema::position)]
    position: u64,
    #[schema(schema_with = schema::time)]
    released_at: String,
    /// Refusals of its workers that showed a key of theirs, in windows that began after it.
    #[schema(schema_with = schema::position)]
    refusals: u64,
    #[schema(schema_with = schema::position)]
    trips: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    adoption: Option<Adoption>,
}

/// How many workers were seen with what since they are back, as far as it was written down. One that was seen with both
/// counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::http) struct Adoption {
    /// A key that they were given since was accepted.
    #[schema(schema_with = schema::position)]
    pub(in crate::http) new_key_used: u64,
    /// They came with a key of before: it was refused, or it is good for a while yet.
    #[schema(schema_with = schema::position)]
    pub(in crate::http) old_key_used: u64,
    /// Neither.
    #[schema(schema_with = schema::position)]
    pub(in crate::http) silent: u64,
}

/// How workers come back, as a plan has it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WavesView {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::chosen_id, required = false)]
    canary_pool: Option<String>,
    /// How many come back at once, at the most.
    #[schema(schema_with = schema::wave_size)]
    size: u32,
    #[schema(example = "5m")]
    every: String,
    #[schema(schema_with = schema::bound)]
    stop_after_refusals: u64,
    #[schema(schema_with = schema::bound)]
    stop_after_trips: u64,
    /// In how many waves they come back, all told.
    #[schema(schema_with = schema::position)]
    planned: u64,
}

impl WavesView {
    pub(in crate::http) fn of(terms: &Terms, workers: u64) -> Self {
        Self {
            canary_pool: terms.canary.as_ref().map(ToString::to_string),
            size: terms.wave_size,
            every: duration(terms.wave_every),
            stop_after_refusals: terms.refusals_max,
            stop_after_trips: terms.trips_max,
            planned: terms.waves(workers),
        }
    }
}

impl Adoption {
    pub(in crate::http) fn add(&mut self, other: Self) {
        self.new_key_used += other.new_key_used;
        self.old_key_used += other.old_key_used;
        self.silent += other.silent;
    }
}

impl ReadmissionView {
    /// `None` for a plan of another kind. `adoption`: of each wave, where it was asked for.
    pub(in crate::http) fn of(roll: &Roll, plan: &Plan, adoption: Option<&[Adoption]>, now: Timestamp) -> Option<Self> {
        let terms = plan.kind.terms()?;
        let progress = plan.progress.as_ref();
        let readmission = progress.and_then(|progress| progress.readmission.as_ref());
        let workers = plan.counts.workers;
        Some(Self {
            id: plan.id.to_string(),
            incident: roll.incident_of_plan(plan.id).map(ToString::to_string),
            state: match readmission {
                Some(readmission) => readmission.stage.as_str(),
                None if plan.expires_at <= now => "expired",
                None => "made",
            },
            canary_pool: terms.canary.as_ref().map(ToString::to_string),
            wave_size: terms.wave_size,
            wave_every: duration(terms.wave_every),
            stop_after_refusals: terms.refusals_max,
            stop_after_trips: terms.trips_max,
            delivery: terms.delivery.as_str(),
            workers,
            released: progress.map_or(0, released),
            keyed: readmission.map_or(0, |it| it.keyed),
            refusals: readmission.map_or(0, |it| it.refusals),
            trips: readmission.map_or(0, |it| it.trips),
            waves_planned: terms.waves(workers),
            adoption: adoption.map(|waves| {
                waves.iter().fold(Adoption::default(), |mut all, wave| {
                    all.add(*wave);
                    all
                })
            }),
            next: progress.and_then(|progress| next(terms, progress)),
            waves: readmission.map_or_else(Vec::new, |readmission| waves(terms, readmission, adoption)),
        })
    }
}

/// Of one that was rolled back, the items are what is isolated again.
fn released(progress: &Progress) -> u64 {
    match &progress.readmission {
        Some(readmission) if readmission.stage == Stage::RolledBack => progress.total,
        Some(_) | None => progress.done,
    }
}

fn next(terms: &Terms, progress: &Progress) -> Option<NextView> {
    let readmission = progress.readmission.as_ref().filter(|it| it.stage == Stage::Releasing)?;
    let number = readmission.waves.len() as u64 + 1;
    let wave = (readmission.begun() < progress.total).then_some(number);
    let at = readmission.next_at(terms, progress);
    let waits_for = match at {
        Some(_) => "time",
        None if progress.done < readmission.begun() => "wave",
        None => "keys",
    };
    Some(NextView { wave, waits_for, at: at.map(time) })
}

fn waves(terms: &Terms, readmission: &Readmission, adoption: Option<&[Adoption]>) -> Vec<WaveView> {
    let view = |(number, wave): (u64, &Wave)| WaveView {
        wave: number,
        canary: wave.from < terms.canaries,
        workers: wave.to - wave.from,
        position: wave.released,
        released_at: time(wave.released_at),
        refusals: wave.refusals,
        trips: wave.trips,
        adoption: adoption.and_then(|waves| {
            let at = usize::try_from(number).ok()?.checked_sub(1)?;
            waves.get(at).copied()
        }),
    };
    (1..).zip(&readmission.waves).map(view).collect()
}
