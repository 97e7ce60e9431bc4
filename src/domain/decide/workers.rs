//! Workers: created → (pending) → active → isolated ⇄ active → removed.

use std::sync::Arc;

use super::{Decision, keys, limits, pools};
use crate::domain::command::CreateWorker;
use crate::domain::event::{Event, KeyCreated, KeyHolder, WorkerCreated};
use crate::domain::ids::WorkerId;
use crate::domain::key::KeyKind;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{Labels, Standing, Worker, WorkerState};

/// The worker, whatever its state.
pub(super) fn known<'a>(roll: &'a Roll, worker: &WorkerId) -> Result<&'a Worker, Refusal> {
    let found = roll.worker(worker.as_str()).ok_or_else(|| Refusal::WorkerUnknown(worker.clone()))?;
    Ok(found)
}

/// The worker, if it belongs to the fleet: rejected and removed ones are past any change.
pub(super) fn member<'a>(roll: &'a Roll, worker: &WorkerId) -> Result<&'a Worker, Refusal> {
    let found = known(roll, worker)?;
    let gone = |standing| Err(Refusal::WorkerState { worker: worker.clone(), standing });
    match found.state {
        WorkerState::Rejected => gone(Standing::Rejected),
        WorkerState::Removed => gone(Standing::Removed),
        WorkerState::Pending | WorkerState::Active | WorkerState::Isolated { .. } => Ok(found),
    }
}

pub(super) fn create(roll: &Roll, create: &CreateWorker, now: Timestamp) -> Decision {
    pools::existing(roll, &create.pool)?;
    limits::labels(&create.labels)?;
    create.name.as_deref().map_or(Ok(()), limits::name)?;
    if let Some(found) = roll.worker(create.worker.as_str()) {
        return if is_as_described(roll, found, create) {
            Ok(vec![])
        } else {
            Err(Refusal::WorkerExists(create.worker.clone()))
        };
    }
    limits::future("expires_at", create.expires_at, now)?;
    let mut events = vec![Event::WorkerCreated(WorkerCreated {
        worker: create.worker.clone(),
        pool: create.pool.clone(),
        name: create.name.clone(),
        labels: create.labels.clone(),
        expires_at: create.expires_at,
        pending: create.pending,
        enrolled_by: None,
    })];
    if let Some((key, verifier)) = create.static_secret {
        keys::id_is_free(roll, key)?;
        keys::static_secret_is_free(roll, &verifier, &create.pool, 1, now)?;
        events.push(Event::KeyCreated(KeyCreated {
            key,
            holder: KeyHolder::Worker(create.worker.clone()),
            kind: KeyKind::Static,
            verifier,
            expires_at: None,
        }));
    }
    Ok(events)
}

/// Creating what is there, exactly as it is, is a retry; with anything different it is a conflict (H27).
fn is_as_described(roll: &Roll, found: &Worker, create: &CreateWorker) -> bool {
    let no_labels = Labels::new();
    let has_secret = |verifier| roll.static_secrets(verifier).any(|key| found.keys.contains(&key.id));
    let has_any_secret = || {
        let is_static = |key| roll.key(key).is_some_and(|key| key.kind == KeyKind::Static);
        found.keys.iter().copied().any(is_static)
    };
    found.is_member()
        && found.pool == create.pool
        && found.name == create.name
        && *found.labels.as_deref().unwrap_or(&no_labels) == create.labels
        && found.expires_at == create.expires_at
        && match create.static_secret {
            Some((_, verifier)) => has_secret(&verifier),
            None => !has_any_secret(),
        }
}

pub(super) fn update(
    roll: &Roll,
    worker: &WorkerId,
    name: Option<&Option<Arc<str>>>,
    labels: Option<&Labels>,
    expires_at: Option<Option<Timestamp>>,
) -> Decision {
    let found = member(roll, worker)?;
    let before = found.labels.as_deref().cloned().unwrap_or_default();
    let name = name.unwrap_or(&found.name);
    let labels = labels.unwrap_or(&before);
    let expires_at = expires_at.unwrap_or(found.expires_at);
    name.as_deref().map_or(Ok(()), limits::name)?;
    limits::labels(labels)?;
    if (name, labels, expires_at) == (&found.name, &before, found.expires_at) {
        return Ok(vec![]);
    }
    let (worker, name, labels) = (worker.clone(), name.clone(), labels.clone());
    Ok(vec![Event::WorkerUpdated { worker, name, labels, expires_at }])
}

pub(super) fn approve(roll: &Roll, worker: &WorkerId, now: Timestamp) -> Decision {
    let found = member(roll, worker)?;
    match found.state {
        WorkerState::Pending if found.standing(now) == Standing::Expired => {
            Err(Refusal::WorkerState { worker: worker.clone(), standing: Standing::Expired })
        }
        WorkerState::Pending => Ok(vec![Event::WorkerApproved { worker: worker.clone() }]),
        WorkerState::Active | WorkerState::Isolated { .. } | WorkerState::Rejected | WorkerState::Removed => Ok(vec![]),
    }
}

pub(super) fn reject(roll: &Roll, worker: &WorkerId) -> Decision {
    let refuse = |standing| Err(Refusal::WorkerState { worker: worker.clone(), standing });
    match known(roll, worker)?.state {
        WorkerState::Pending => Ok(vec![Event::WorkerRejected { worker: worker.clone() }]),
        WorkerState::Rejected => Ok(vec![]),
        WorkerState::Active => refuse(Standing::Active),
        WorkerState::Isolated { .. } => refuse(Standing::Isolated),
        WorkerState::Removed => refuse(Standing::Removed),
    }
}

/// Isolating what is isolated until then, or for longer, changes nothing: of two responders, the one who isolates for an
/// hour must not let out what the other shut away for good. Whoever wants an earlier end releases first.
pub(super) fn isolate(roll: &Roll, worker: &WorkerId, until: Option<Timestamp>, now: Timestamp) -> Decision {
    let found = member(roll, worker)?;
    limits::future("until", until, now)?;
    match found.state {
        WorkerState::Pending => Err(Refusal::WorkerState { worker: worker.clone(), standing: Standing::Pending }),
        WorkerState::Isolated { until: before } if ends_at(before) >= ends_at(until) => Ok(vec![]),
        WorkerState::Active | WorkerState::Isolated { .. } | WorkerState::Rejected | WorkerState::Removed => {
            Ok(vec![Event::WorkerIsolated { worker: worker.clone(), until }])
        }
    }
}

/// The end of an isolation; one without an end ends after every other.
fn ends_at(until: Option<Timestamp>) -> Timestamp {
    until.unwrap_or(Timestamp::MAX)
}

pub(super) fn release(roll: &Roll, worker: &WorkerId, now: Timestamp) -> Decision {
    let found = member(roll, worker)?;
    match found.state {
        WorkerState::Isolated { until } if until.is_none_or(|until| now < until) => {
            Ok(vec![Event::WorkerReleased { worker: worker.clone() }])
        }
        WorkerState::Pending => Err(Refusal::WorkerState { worker: worker.clone(), standing: Standing::Pending }),
        WorkerState::Isolated { .. } | WorkerState::Active | WorkerState::Rejected | WorkerState::Removed => Ok(vec![]),
    }
}

pub(super) fn remove(roll: &Roll, worker: &WorkerId) -> Decision {
    match known(roll, worker)?.state {
        WorkerState::Removed => Ok(vec![]),
        WorkerState::Pending | WorkerState::Active | WorkerState::Isolated { .. } | WorkerState::Rejected => {
            Ok(vec![Event::WorkerRemoved { worker: worker.clone() }])
        }
    }
}
