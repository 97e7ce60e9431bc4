//! What one event changed: which workers were accepted before it and after it, and which credentials it ended.
//!
//! Counted on the state right before and right after the event, both at the moment of its record, so that time alone changes
//! nothing. Where an event can only touch some workers, only they are looked at.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::domain::admit::admit_worker_key;
use crate::domain::enrollment::{EnrollmentSecret, EnrollmentStanding};
use crate::domain::event::{Event, KeyHolder, Recorded};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{EnrollmentSecretId, KeyId, WorkerId};
use crate::domain::readmission::ReadmissionChange;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::Worker;

/// How many workers were accepted with at least one of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// How many were looked at: the whole fleet, or those that the event is about.
    pub looked_at: u64,
    pub fleet: bool,
    pub before: u64,
    pub after: u64,
}

/// Whom an event can touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Nobody,
    Workers(BTreeSet<WorkerId>),
    Fleet,
}

/// Credentials that were good.
#[derive(Clone, Debug, Default)]
pub struct Good {
    workers: u64,
    looked_at: u64,
    keys: BTreeSet<KeyId>,
    secrets: BTreeSet<EnrollmentSecretId>,
}

/// Credentials that were good right before an event and are not right after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub keys: BTreeSet<KeyId>,
    pub secrets: BTreeSet<EnrollmentSecretId>,
}

impl Reach {
    /// On the state right before the event.
    #[must_use]
    pub fn of(roll: &Roll, event: &Event) -> Self {
        let one = |worker: &WorkerId| Self::Workers(BTreeSet::from([worker.clone()]));
        match event {
            Event::WorkerCreated(created) => one(&created.worker),
            Event::WorkerUpdated { worker, .. }
            | Event::WorkerApproved { worker }
            | Event::WorkerRejected { worker }
            | Event::WorkerIsolated { worker, .. }
            | Event::WorkerReleased { worker }
            | Event::WorkerRemoved { worker }
            | Event::KeyShared { worker, .. }
            | Event::FenceRaised { scope: FenceScope::Worker(worker), .. } => one(worker),
            Event::KeyCreated(created) => match &created.holder {
                KeyHolder::Worker(worker) => one(worker),
                KeyHolder::Operator(_) => Self::Nobody,
            },
            Event::KeyRotated { key, .. } | Event::KeyRevoked { key } => Self::of_keys(roll, &[*key]),
            Event::KeysRevoked { keys, .. } => Self::of_keys(roll, keys),
            Event::FenceRaised { .. }
            | Event::PlanApplied { .. }
            | Event::Readmission { change: ReadmissionChange::RolledBack { .. }, .. } => Self::Fleet,
            // What lets workers in later, and what is said of them, changes nothing for those that are there.
            _ => Self::Nobody,
        }
    }

    fn of_keys(roll: &Roll, keys: &[KeyId]) -> Self {
        let holders = keys.iter().filter_map(|key| roll.key(*key)).flat_map(|key| key.workers().to_vec());
        let workers = holders.filter_map(|index| roll.worker_at(index));
        let workers: BTreeSet<WorkerId> = workers.map(|worker| worker.id.clone()).collect();
        if workers.is_empty() { Self::Nobody } else { Self::Workers(workers) }
    }
}

impl Good {
    /// Of those in reach, at this moment.
    #[must_use]
    pub fn at(roll: &Roll, reach: &Reach, event: &Event, now: Timestamp) -> Self {
        let mut good = Self::default();
        match reach {
            Reach::Nobody => {}
            Reach::Workers(ids) => {
                ids.iter().filter_map(|id| roll.worker(id.as_str())).for_each(|worker| good.count(roll, worker, now));
                // One that is only made now is looked at too.
                good.looked_at = ids.len() as u64;
            }
            Reach::Fleet => {
                roll.workers_after(None).filter(|worker| worker.is_member()).for_each(|it| good.count(roll, it, now));
            }
        }
        let secrets = roll.enrollment_secrets().filter(|secret| concerns(event, secret));
        good.secrets = secrets.filter(|secret| lets_in(secret, now)).map(|secret| secret.id).collect();
        good
    }

    fn count(&mut self, roll: &Roll, worker: &Worker, now: Timestamp) {
        let keys = worker.keys.iter().filter_map(|id| roll.key(*id));
        let good = keys.filter(|key| admit_worker_key(roll, key, Some(worker.id.as_str()), now).is_ok());
        let mut any = false;
        for key in good {
            any = true;
            self.keys.insert(key.id);
        }
        self.looked_at += 1;
        self.workers += u64::from(any);
    }

    /// What became of it.
    #[must_use]
    pub fn became(self, after: &Self, reach: &Reach) -> (Option<Effect>, Ended) {
        let fleet = *reach == Reach::Fleet;
        let effect = Effect { looked_at: self.looked_at, fleet, before: self.workers, after: after.workers };
        let ended = Ended {
            keys: self.keys.difference(&after.keys).copied().collect(),
            secrets: self.secrets.difference(&after.secrets).copied().collect(),
        };
        ((*reach != Reach::Nobody).then_some(effect), ended)
    }
}

/// Only such events end an enrollment secret; there are few of either.
fn concerns(event: &Event, secret: &EnrollmentSecret) -> bool {
    match event {
        Event::EnrollmentSecretRotated { secret: id, .. } | Event::EnrollmentSecretDisabled { secret: id } => {
            *id == secret.id
        }
        Event::FenceRaised { .. } | Event::PlanApplied { .. } => true,
        _ => false,
    }
}

fn lets_in(secret: &EnrollmentSecret, now: Timestamp) -> bool {
    match secret.standing(now) {
        EnrollmentStanding::Live | EnrollmentStanding::Overlapping => true,
        EnrollmentStanding::Expired | EnrollmentStanding::Disabled | EnrollmentStanding::Fenced => false,
    }
}

/// Folds in the event, and says what it changed.
pub fn apply(roll: &mut Roll, recorded: &Recorded) -> (Option<Effect>, Ended) {
    let (event, now) = (&recorded.event, recorded.recorded_at);
    let reach = Reach::of(roll, event);
    let before = Good::at(roll, &reach, event, now);
    roll.apply(recorded);
    before.became(&Good::at(roll, &reach, event, now), &reach)
}
