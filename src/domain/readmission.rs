//! Readmissions: plans that let isolated workers back in wave by wave, the canary pool's first, with new keys.
//!
//! The list is the plan's, frozen when it is applied. What comes after, wave by wave, is decided on the Roll alone, so any node
//! can go on with it: a wave is due when the one before has stood for long enough, by the time of its record, and its workers
//! were not refused more often than the plan allows.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::PoolId;
use super::plan::{Delivery, Item, Progress};
use super::time::{Seconds, Timestamp};
use super::worker::WorkerIndex;

/// Past so many workers a wave is no trial any more.
pub const WAVE_SIZE_MAX: u32 = 10_000;
/// Each wave is shown with its adoption, and somebody has to look at them.
pub const WAVES_MAX: u64 = 200;
/// Whoever waits longer makes two plans.
pub const WAVE_EVERY_MAX: Seconds = Seconds(7 * Seconds::DAY);
/// A wave has to stand for a while, or nothing can be seen of it.
pub const WAVE_EVERY_MIN: Seconds = Seconds(1);
/// Bounds past any sum that could be reached; a log holds no greater numbers.
pub const BOUND_MAX: u64 = 1_000_000_000;

/// How the workers come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// When the plan was made: who is isolated then comes back, and an isolation that was over by then is none.
    pub as_of: Timestamp,
    /// The pool whose workers come first.
    pub canary: Option<PoolId>,
    /// How many of the list are its: the first ones. Counted when the plan is made.
    pub canaries: u64,
    pub wave_size: u32,
    /// How long a wave stands before the next one is released, and the last one before all is over.
    pub wave_every: Seconds,
    /// More refusals of workers that are back stop it: with `File` of what they were newly given, with `Fetch` of any key.
    pub refusals_max: u64,
    /// More tripwires of such keys do too, and of honey keys.
    pub trips_max: u64,
    /// `File`: nothing that a worker held before comes back with it. `Fetch`: each rotates its own key.
    pub delivery: Delivery,
    /// Of old keys, where workers fetch theirs.
    pub overlap: Seconds,
}

/// How far an applied plan has let its workers back in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readmission {
    pub stage: Stage,
    /// Those that were released, in their order.
    pub waves: Vec<Wave>,
    /// To how many of the list new keys were handed out, in order.
    pub keyed: u64,
    /// Since when the last wave stands: all of it released, its keys handed out, and nobody has stopped it since.
    pub stands_since: Timestamp,
    /// When it began, or was last resumed: what was seen in a window that began before counts for no bound.
    pub counted_since: Timestamp,
    /// What was counted since.
    pub refusals: u64,
    pub trips: u64,
    /// Where each worker is on the list, in the order of the workers.
    places: Arc<[(WorkerIndex, u32)]>,
    /// Which of the list have come with what they held before their release, and were refused.
    pub stale: Arc<BTreeSet<u32>>,
    /// The position at which it was rolled back.
    pub rolled_back: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    Releasing,
    /// By an operator.
    Paused,
    /// By a bound.
    Stopped,
    /// All are back, and the last wave has stood.
    Completed,
    /// All that were back are isolated again.
    RolledBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Which of the list: from, and up to but not with.
    pub from: u64,
    pub to: u64,
    /// The position of its event: what its workers were given later is new.
    pub released: u64,
    pub released_at: Timestamp,
    /// Refusals and tripwires of its workers since.
    pub refusals: u64,
    pub trips: u64,
}

/// What is recorded of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadmissionChange {
    /// The next workers come back from here on; the records of each follow.
    WaveReleased {
        /// The first is 1.
        wave: u64,
        workers: u64,
    },
    /// New keys were handed out to so many of the list, in order.
    KeysMade {
        done: u64,
    },
    Paused,
    Resumed,
    /// More was counted than its plan allows.
    Stopped {
        refusals: u64,
        trips: u64,
    },
    Completed,
    /// All workers that were back are isolated again from here on, and what they were given since is refused.
    RolledBack {
        workers: u64,
    },
}

/// What an operator can do about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    Pause,
    Resume,
    /// Release the wave of this number without waiting any longer.
    Next(u64),
    RollBack,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin the next wave.
    Wave,
    /// Release the next workers of the wave that was begun.
    Release,
    /// More was counted than is allowed.
    Stop,
    Complete,
    /// Record for the next workers that they are isolated again.
    Record,
}

impl ReadmissionChange {
    /// The kind of its event.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            ReadmissionChange::WaveReleased { .. } => "readmission.wave_released",
            ReadmissionChange::KeysMade { .. } => "readmission.keys_made",
            ReadmissionChange::Paused => "readmission.paused",
            ReadmissionChange::Resumed => "readmission.resumed",
            ReadmissionChange::Stopped { .. } => "readmission.stopped",
            ReadmissionChange::Completed => "readmission.completed",
            ReadmissionChange::RolledBack { .. } => "readmission.rolled_back",
        }
    }
}

impl Stage {
    pub const ALL: [Stage; 5] = [Stage::Releasing, Stage::Paused, Stage::Stopped, Stage::Completed, Stage::RolledBack];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Releasing => "releasing",
            Stage::Paused => "paused",
            Stage::Stopped => "stopped",
            Stage::Completed => "completed",
            Stage::RolledBack => "rolled_back",
        }
    }

    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Stage::Completed | Stage::RolledBack => true,
            Stage::Releasing | Stage::Paused | Stage::Stopped => false,
        }
    }
}

impl Terms {
    /// How many waves a list of so many comes to.
    #[must_use]
    pub fn waves(&self, total: u64) -> u64 {
        let size = u64::from(self.wave_size.max(1));
        self.canaries.div_ceil(size) + total.saturating_sub(self.canaries).div_ceil(size)
    }

    /// Where the wave ends that begins here: no wave has canaries and others.
    #[must_use]
    pub fn wave_end(&self, from: u64, total: u64) -> u64 {
        let group = if from < self.canaries { self.canaries } else { total };
        group.min(from + u64::from(self.wave_size.max(1)))
    }
}

impl Readmission {
    #[must_use]
    pub fn new(items: &[Item], at: Timestamp) -> Self {
        let place = |(place, item): (u32, &Item)| match item {
            Item::Worker(index) => Some((*index, place)),
            Item::Key(_) | Item::EnrollmentSecret(_) | Item::SigningKey(_) | Item::TlsCertificate(_) => None,
        };
        let mut places: Vec<(WorkerIndex, u32)> = (0..).zip(items).filter_map(place).collect();
        places.sort_unstable();
        Self {
            stage: Stage::Releasing,
            waves: Vec::new(),
            keyed: 0,
            stands_since: at,
            counted_since: at,
            refusals: 0,
            trips: 0,
            places: places.into(),
            stale: Arc::default(),
            rolled_back: None,
        }
    }

    /// How many of the list belong to waves that were begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.waves.last().map_or(0, |wave| wave.to)
    }

    /// The wave in which a worker was released, and its place on the list.
    #[must_use]
    pub fn wave_of(&self, worker: WorkerIndex) -> Option<(usize, u32)> {
        let at = self.places.binary_search_by_key(&worker, |(index, _)| *index).ok()?;
        let (_, place) = self.places[at];
        let wave = self.waves.partition_point(|wave| wave.to <= u64::from(place));
        (wave < self.waves.len()).then_some((wave, place))
    }

    /// The wave and the place of one of these holders of a key, if it was back by this time; `done` of the list are back. Of a
    /// shared key it is not known who came with it, and one of them is enough.
    #[must_use]
    pub fn back_by(&self, holders: &[WorkerIndex], time: Timestamp, done: u64) -> Option<(usize, u32)> {
        let mut found = holders.iter().filter_map(|index| self.wave_of(*index));
        found.find(|(wave, place)| u64::from(*place) < done && self.waves[*wave].released_at <= time)
    }

    /// Whether all of these are on the list.
    #[must_use]
    pub fn lists_all(&self, workers: &[WorkerIndex]) -> bool {
        workers.iter().all(|worker| self.places.binary_search_by_key(worker, |(index, _)| *index).is_ok())
    }

    /// Whether more was counted than the plan allows.
    #[must_use]
    pub fn exceeds(&self, terms: &Terms) -> bool {
        self.refusals > terms.refusals_max || self.trips > terms.trips_max
    }

    /// Whether somebody still has to collect keys for workers that are back.
    #[must_use]
    pub fn waits_for_keys(&self, terms: &Terms, done: u64) -> bool {
        terms.delivery == Delivery::File && self.keyed < done
    }

    /// From when on the next wave can be released, or all is over; `None` where something else has to happen first.
    #[must_use]
    pub fn next_at(&self, terms: &Terms, progress: &Progress) -> Option<Timestamp> {
        if self.stage != Stage::Releasing || progress.done < self.begun() || self.waits_for_keys(terms, progress.done) {
            return None;
        }
        // Nobody has to wait for the first.
        Some(if self.waves.is_empty() { self.stands_since } else { self.stands_since.after(terms.wave_every) })
    }

    /// What is to be done at this time, by whichever node.
    #[must_use]
    pub fn step(&self, terms: &Terms, progress: &Progress, now: Timestamp) -> Option<Step> {
        match self.stage {
            Stage::Paused | Stage::Stopped | Stage::Completed => None,
            Stage::RolledBack => (progress.done < progress.total).then_some(Step::Record),
            Stage::Releasing if self.exceeds(terms) => Some(Step::Stop),
            Stage::Releasing if progress.done < self.begun() => Some(Step::Release),
            Stage::Releasing => {
                let is_due = self.next_at(terms, progress).is_some_and(|at| at <= now);
                is_due.then_some(if progress.done < progress.total { Step::Wave } else { Step::Complete })
            }
        }
    }
}
