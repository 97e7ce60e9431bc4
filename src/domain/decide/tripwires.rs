//! Tripwires: honey keys planted and removed, rules set, and what a rule has done about a trip.

use std::sync::Arc;

use super::{Decision, incidents, keys, limits, pools, workers};
use crate::domain::command::{Command, NewHoneyKey, RecordTrip};
use crate::domain::event::{Event, IncidentOpened};
use crate::domain::ids::{KeyId, PoolId, WorkerId};
use crate::domain::incident::{Description, Severity};
use crate::domain::key::Holder;
use crate::domain::plan::Criterion;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::tripwire::{
    ACTED_ON_WITHIN, Answer, HONEY_KEYS_MAX, Hindrance, ISOLATIONS_MAX, Rule, Tripped, TripwireEvent, Why,
};
use crate::domain::worker::WorkerState;

/// The commands that are about tripwires; of any other nothing comes.
pub(super) fn decide(roll: &Roll, command: &Command, now: Timestamp) -> Decision {
    match command {
        Command::CreateHoneyKey(new) => create(roll, new),
        Command::RemoveHoneyKey { key } => remove(roll, *key),
        Command::SetTripwireRule { pool, rule } => set(roll, pool.as_ref(), *rule),
        Command::RecordTrip(trip) => Ok(record(roll, trip, now)),
        _ => Ok(vec![]),
    }
}

fn create(roll: &Roll, new: &NewHoneyKey) -> Decision {
    let NewHoneyKey { key, pool, verifier, note } = new;
    keys::id_is_free(roll, *key)?;
    pools::existing(roll, pool)?;
    note.as_deref().map_or(Ok(()), limits::honey_note)?;
    if roll.honey_key_count() >= HONEY_KEYS_MAX {
        return Err(Refusal::TooManyHoneyKeys);
    }
    Ok(vec![Event::Tripwire(TripwireEvent::HoneyKeyCreated {
        key: *key,
        pool: pool.clone(),
        verifier: *verifier,
        note: note.clone(),
    })])
}

fn remove(roll: &Roll, key: KeyId) -> Decision {
    let found = roll.honey_key(key).ok_or(Refusal::HoneyKeyUnknown(key))?;
    Ok(if found.removed { vec![] } else { vec![Event::Tripwire(TripwireEvent::HoneyKeyRemoved { key })] })
}

fn set(roll: &Roll, pool: Option<&PoolId>, rule: Rule) -> Decision {
    if let Some(pool) = pool {
        pools::existing(roll, pool)?;
    }
    if roll.tripwire_rule(pool).copied().unwrap_or_default() == rule {
        return Ok(vec![]);
    }
    Ok(vec![Event::Tripwire(TripwireEvent::RuleSet { pool: pool.cloned(), rule })])
}

/// The trip, and what the rule makes of it, in one decision: of two trips of one worker the second finds it isolated, and
/// of those of one pool the second finds its incident open.
fn record(roll: &Roll, trip: &RecordTrip, now: Timestamp) -> Vec<Event> {
    let pool = pool(roll, trip);
    let actions = roll.tripwire_actions(pool.as_ref(), trip.why);
    let (mut answers, mut follow) = (Vec::new(), Vec::new());
    if actions.open_incident {
        if let Some(open) = roll.tripwire_incident(pool.as_ref()) {
            answers.push(Answer::IncidentJoined(open.clone()));
        } else {
            let opened = opened(roll, trip, pool.as_ref());
            answers.push(Answer::IncidentOpened(opened.incident.clone()));
            follow.push(Event::IncidentOpened(opened));
        }
    }
    if actions.isolate {
        match isolated(roll, trip, now) {
            Ok((worker, isolated)) => {
                answers.push(Answer::Isolated(worker));
                follow.push(isolated);
            }
            Err(hindrance) => answers.push(Answer::NotIsolated(hindrance)),
        }
    }
    let RecordTrip { key, why, worker, source, count, from, to, presenters: _, checklist: _ } = trip;
    let (key, why, source, count, from, to) = (*key, *why, *source, *count, *from, *to);
    let tripped = Tripped { key, why, worker: worker.clone(), pool, source, count, from, to, answers };
    [Event::Tripwire(TripwireEvent::Tripped(tripped))].into_iter().chain(follow).collect()
}

fn pool(roll: &Roll, trip: &RecordTrip) -> Option<PoolId> {
    match trip.why {
        Why::Honey => roll.honey_key(trip.key).map(|key| key.pool.clone()),
        // Whoever it was of a key that several share: all are of one pool.
        Why::Revoked | Why::Rotated => {
            let first = roll.key(trip.key).and_then(|key| key.workers().first().copied());
            first.and_then(|index| roll.worker_at(index)).map(|worker| worker.pool.clone())
        }
    }
}

/// The event that isolates whoever has shown the key, or why it is nobody.
fn isolated(roll: &Roll, trip: &RecordTrip, now: Timestamp) -> Result<(WorkerId, Event), Hindrance> {
    let presenter = presenter(roll, trip)?;
    let found = roll.worker(presenter.as_str()).ok_or(Hindrance::Gone)?;
    match found.state {
        WorkerState::Removed | WorkerState::Rejected => return Err(Hindrance::Gone),
        WorkerState::Pending => return Err(Hindrance::Pending),
        WorkerState::Active | WorkerState::Isolated { .. } => {}
    }
    let events = workers::isolate(roll, &presenter, None, now).map_err(|_| Hindrance::Gone)?;
    let event = events.into_iter().next().ok_or(Hindrance::Already)?;
    if trip.to.after(ACTED_ON_WITHIN) <= now {
        return Err(Hindrance::Late);
    }
    if roll.tripwire_isolations(trip.why, now) >= ISOLATIONS_MAX {
        return Err(Hindrance::Limit);
    }
    Ok((presenter, event))
}

/// Who has shown the key, as far as can be known.
fn presenter(roll: &Roll, trip: &RecordTrip) -> Result<WorkerId, Hindrance> {
    match trip.why {
        Why::Revoked | Why::Rotated => match (&trip.worker, roll.key(trip.key).map(|key| &key.holder)) {
            (Some(worker), _) => Ok(worker.clone()),
            (None, Some(Holder::Workers(_))) => Err(Hindrance::Ambiguous),
            (None, Some(Holder::Worker(_) | Holder::Operator(_)) | None) => Err(Hindrance::Nobody),
        },
        Why::Honey => match trip.presenters.as_slice() {
            [] => Err(Hindrance::Nobody),
            [only] => Ok(only.clone()),
            [_, _, ..] => Err(Hindrance::Ambiguous),
        },
    }
}

fn opened(roll: &Roll, trip: &RecordTrip, pool: Option<&PoolId>) -> IncidentOpened {
    let (what, severity) = match trip.why {
        Why::Honey => ("a honey key was used", Severity::High),
        Why::Revoked => ("a revoked key was used", Severity::Medium),
        Why::Rotated => ("a key was used that had been rotated away", Severity::Low),
    };
    // The worker is known by more than this key; where there is none, the pool is all that is known.
    let worker = trip.worker.as_ref().map(|worker| Criterion::Worker(worker.clone()));
    let scope = worker.or_else(|| pool.map(|pool| Criterion::Pool(pool.clone())));
    let title: Arc<str> = match pool {
        Some(pool) => format!("Tripwire: {what}, pool {pool}").into(),
        None => format!("Tripwire: {what}").into(),
    };
    IncidentOpened {
        incident: incidents::next_id(roll),
        description: Description {
            title,
            severity,
            scope: scope.into_iter().collect(),
            people: Vec::new(),
            first_sign: Some(trip.from),
        },
        drill: false,
        checklist: trip.checklist.clone(),
    }
}
