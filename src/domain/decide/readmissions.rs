//! Readmissions: wave after wave of workers back in, keys for them, and the brakes.

use std::sync::Arc;

use super::plans::planned;
use super::plans::rotation::of_whoever_applied;
use super::{Decision, keys, limits};
use crate::domain::command::{Context, FreshSecret};
use crate::domain::event::{Event, KeyCreated, KeyHolder};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::key::{Key, KeyKind, KeyState};
use crate::domain::plan::{CHUNK_ITEMS, Delivery, Item, Plan, PlanKind, Progress};
use crate::domain::readmission::{Readmission, ReadmissionChange, Stage, Steering, Step, Terms};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{Worker, WorkerState};

/// What is asked for, as of now; of any other kind it stays what it is.
pub(super) fn as_of(kind: &PlanKind, now: Timestamp) -> PlanKind {
    match kind.terms() {
        Some(terms) => PlanKind::Readmit(Arc::new(Terms { as_of: now, ..terms.clone() })),
        None => kind.clone(),
    }
}

/// The same with its canaries counted, if the list can come back in such waves.
pub(super) fn counted(roll: &Roll, kind: PlanKind, items: &[Item]) -> Result<PlanKind, Refusal> {
    let Some(terms) = kind.terms() else { return Ok(kind) };
    if let Some(pool) = &terms.canary {
        _ = roll.pool(pool.as_str()).ok_or_else(|| Refusal::PoolUnknown(pool.clone()))?;
    }
    let terms = Terms { canaries: roll.canaries(terms, items), ..terms.clone() };
    limits::waves(&terms, items.len() as u64)?;
    Ok(PlanKind::Readmit(Arc::new(terms)))
}

/// What is due, by whichever node asks; of two that ask, the later one finds another state.
pub(super) fn go_on(roll: &Roll, plan: PlanId, terms: &Terms, progress: &Progress, now: Timestamp) -> Vec<Event> {
    let Some(readmission) = &progress.readmission else { return vec![] };
    match readmission.step(terms, progress, now) {
        None => vec![],
        Some(Step::Wave) => vec![wave(plan, terms, progress, readmission)],
        Some(Step::Stop) => {
            let Readmission { refusals, trips, .. } = *readmission;
            vec![Event::Readmission { plan, change: ReadmissionChange::Stopped { refusals, trips } }]
        }
        Some(Step::Complete) => vec![Event::Readmission { plan, change: ReadmissionChange::Completed }],
        Some(Step::Release) => recorded(plan, progress, |item| released(roll, terms, readmission, item, now)),
        Some(Step::Record) => recorded(plan, progress, |item| isolated(roll, readmission, item)),
    }
}

fn wave(plan: PlanId, terms: &Terms, progress: &Progress, readmission: &Readmission) -> Event {
    let from = readmission.begun();
    let workers = terms.wave_end(from, progress.total) - from;
    let wave = readmission.waves.len() as u64 + 1;
    Event::Readmission { plan, change: ReadmissionChange::WaveReleased { wave, workers } }
}

/// The events of the next items, and how far that goes.
fn recorded(plan: PlanId, progress: &Progress, of: impl Fn(Item) -> Vec<Event>) -> Vec<Event> {
    let next = progress.next_items(CHUNK_ITEMS);
    let (mut events, mut changed) = (Vec::new(), progress.changed);
    for item in next {
        let own = of(*item);
        changed += u64::from(!own.is_empty());
        events.extend(own);
    }
    events.push(Event::PlanProgressed { plan, done: progress.done + next.len() as u64, changed });
    events
}

/// A worker comes back, if it is isolated still. What it held may be what leaked: either a fence ends all of that with its
/// return, and it comes back with nothing, or each of its API keys has to be rotated by itself.
fn released(roll: &Roll, terms: &Terms, readmission: &Readmission, item: Item, now: Timestamp) -> Vec<Event> {
    let Item::Worker(index) = item else { return vec![] };
    let isolated = |worker: &&Worker| matches!(worker.state, WorkerState::Isolated { .. });
    let Some(worker) = roll.worker_at(index).filter(isolated) else { return vec![] };
    let mut events = match terms.delivery {
        Delivery::File => {
            let scope = FenceScope::Worker(worker.id.clone());
            vec![Event::FenceRaised { scope, up_to: roll.next_position().saturating_sub(1) }]
        }
        Delivery::Fetch => {
            let until = now.after(terms.overlap);
            let is_due = |key: &&Key| {
                let lasts = match key.state {
                    KeyState::Live => true,
                    KeyState::Superseded { until: earlier } => earlier > until,
                    KeyState::Revoked | KeyState::Fenced => false,
                };
                // Whoever else holds it would have to rotate it for no reason, and could not where it is fenced for another.
                key.kind == KeyKind::Api
                    && lasts
                    && readmission.lists_all(key.workers())
                    && !roll.is_fenced_for_any(key)
            };
            let held = worker.keys.iter().filter_map(|id| roll.key(*id));
            held.filter(is_due).map(|key| Event::KeyRotationDue { key: key.id, until }).collect()
        }
    };
    events.push(Event::WorkerReleased { worker: worker.id.clone() });
    events
}

/// What the rollback has made of a worker, where it still stands.
fn isolated(roll: &Roll, readmission: &Readmission, item: Item) -> Vec<Event> {
    let Item::Worker(index) = item else { return vec![] };
    let keys = roll.new_keys(readmission, item).into_iter().filter_map(|id| roll.key(id));
    let ended = keys.filter(|key| key.state == KeyState::Fenced).map(|key| Event::KeyRevoked { key: key.id });
    let mut events: Vec<Event> = ended.collect();
    if let Some(worker) = roll.worker_at(index).filter(|it| it.state == (WorkerState::Isolated { until: None })) {
        events.push(Event::WorkerIsolated { worker: worker.id.clone(), until: None });
    }
    events
}

/// Makes the next new keys, as many as there are: for workers that are back, in the order of the list. Whoever has left or was
/// isolated again since gets none.
pub(super) fn hand_out(
    roll: &Roll,
    plan: &Plan,
    progress: &Progress,
    done: u64,
    fresh: &[FreshSecret],
    context: &Context,
) -> Decision {
    let id = plan.id;
    let (Some(terms), Some(readmission)) = (plan.kind.terms(), &progress.readmission) else { return Ok(vec![]) };
    if terms.delivery != Delivery::File {
        return Err(Refusal::PlanNotCollected(id));
    }
    of_whoever_applied(roll, id, progress, context)?;
    if readmission.stage == Stage::RolledBack {
        return Err(Refusal::ReadmissionOver(id));
    }
    if readmission.keyed != done {
        return Err(Refusal::PlanProgressed { plan: id, done: readmission.keyed });
    }
    let place = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).min(progress.items.len());
    let waiting = &progress.items[place(done).min(place(progress.done))..place(progress.done)];
    let next = waiting.iter().take(CHUNK_ITEMS).zip(fresh);
    let mut events: Vec<Event> =
        next.clone().filter_map(|(item, fresh)| key_for(roll, readmission, *item, fresh, context.now)).collect();
    let count = next.count() as u64;
    if count > 0 {
        events.push(Event::Readmission { plan: id, change: ReadmissionChange::KeysMade { done: done + count } });
    }
    Ok(events)
}

fn key_for(roll: &Roll, readmission: &Readmission, item: Item, fresh: &FreshSecret, now: Timestamp) -> Option<Event> {
    let Item::Worker(index) = item else { return None };
    let worker = roll.worker_at(index).filter(|worker| worker.state == WorkerState::Active)?;
    let expires_at = roll.old_keys_end(readmission, index);
    if expires_at.is_some_and(|at| at <= now) {
        return None;
    }
    let key = KeyId(fresh.id);
    keys::id_is_free(roll, key).is_ok().then(|| {
        Event::KeyCreated(KeyCreated {
            key,
            holder: KeyHolder::Worker(worker.id.clone()),
            kind: KeyKind::Api,
            verifier: fresh.verifier,
            expires_at,
        })
    })
}

/// What an operator does about one that is under way.
pub(super) fn steer(roll: &Roll, plan: PlanId, steering: Steering) -> Decision {
    let found = planned(roll, plan)?;
    let terms = found.kind.terms().ok_or(Refusal::ReadmissionNone(plan))?;
    let progress = found.progress.as_ref().ok_or(Refusal::PlanNotApplied(plan))?;
    let readmission = progress.readmission.as_ref().ok_or(Refusal::ReadmissionNone(plan))?;
    let changed = |change| vec![Event::Readmission { plan, change }];
    match (steering, readmission.stage) {
        (Steering::RollBack, Stage::RolledBack)
        | (Steering::Pause, Stage::Paused | Stage::Stopped)
        | (Steering::Resume, Stage::Releasing) => Ok(vec![]),
        (_, Stage::Completed | Stage::RolledBack) => Err(Refusal::ReadmissionOver(plan)),
        (Steering::Pause, Stage::Releasing) => Ok(changed(ReadmissionChange::Paused)),
        (Steering::Resume, Stage::Paused | Stage::Stopped) => Ok(changed(ReadmissionChange::Resumed)),
        (Steering::RollBack, Stage::Releasing | Stage::Paused | Stage::Stopped) => {
            Ok(changed(ReadmissionChange::RolledBack { workers: progress.done }))
        }
        (Steering::Next(_), Stage::Paused | Stage::Stopped) => Err(Refusal::ReadmissionStands(plan)),
        (Steering::Next(number), Stage::Releasing) => hurry(plan, number, terms, progress, readmission),
    }
}

/// The wave of this number, at once. A number, so that of two who are in a hurry only one is.
fn hurry(plan: PlanId, number: u64, terms: &Terms, progress: &Progress, readmission: &Readmission) -> Decision {
    let begun = readmission.waves.len() as u64;
    if (1..=begun).contains(&number) {
        return Ok(vec![]);
    }
    if number != begun + 1 {
        return Err(Refusal::ReadmissionWave { plan, next: begun + 1 });
    }
    if readmission.exceeds(terms) {
        return Err(Refusal::ReadmissionStands(plan));
    }
    if readmission.waits_for_keys(terms, progress.done) {
        return Err(Refusal::ReadmissionKeysWait(plan));
    }
    // The wave before comes first; and after the last one there is nothing to hurry.
    if progress.done < readmission.begun() || progress.done == progress.total {
        return Ok(vec![]);
    }
    Ok(vec![wave(plan, terms, progress, readmission)])
}
