//! Plans that rotate: what they superseded gets its successors, from the operator who collects them, or from each worker.

use super::planned;
use crate::domain::actor::Actor;
use crate::domain::command::{Context, FreshSecret};
use crate::domain::decide::{Decision, keys, readmissions};
use crate::domain::enrollment::EnrollmentState;
use crate::domain::event::Event;
use crate::domain::ids::{EnrollmentSecretId, KeyId, PlanId};
use crate::domain::key::KeyState;
use crate::domain::plan::{CHUNK_ITEMS, Item, Progress};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;

/// What tells a worker that its key is to be rotated, where that was not done meanwhile.
pub(super) fn due(roll: &Roll, key: KeyId) -> Option<Event> {
    let until = roll.rotation_due(roll.key(key)?)?;
    Some(Event::KeyRotationDue { key, until })
}

/// Rotates the next items of the list, as many as there are successors. What somebody has revoked, fenced or rotated since
/// is left alone, and its successor is nobody's.
///
/// `done` says how far the caller has seen it come: what was handed over once is handed over again under the same
/// `Idempotency-Key`, and not made anew.
pub(in crate::domain::decide) fn collect(
    roll: &Roll,
    plan: PlanId,
    done: u64,
    successors: &[FreshSecret],
    context: &Context,
) -> Decision {
    let found = planned(roll, plan)?;
    let progress = found.progress.as_ref().ok_or(Refusal::PlanNotApplied(plan))?;
    if found.kind.terms().is_some() {
        return readmissions::hand_out(roll, found, progress, done, successors, context);
    }
    let until = found.collected_until().ok_or(Refusal::PlanNotCollected(plan))?;
    if progress.is_complete() {
        return Ok(vec![]);
    }
    of_whoever_applied(roll, plan, progress, context)?;
    if until <= context.now {
        return Err(Refusal::PlanExpired(plan));
    }
    if progress.done != done {
        return Err(Refusal::PlanProgressed { plan, done: progress.done });
    }
    let next = progress.next_items(CHUNK_ITEMS).iter().zip(successors);
    let mut events: Vec<Event> =
        next.clone().filter_map(|(item, successor)| rotated(roll, *item, successor, context)).collect();
    let (count, changed) = (next.count() as u64, events.len() as u64);
    events.push(Event::PlanProgressed { plan, done: done + count, changed: progress.changed + changed });
    Ok(events)
}

/// What it makes is handed to nobody else, unless whoever applied it is no operator any more.
pub(in crate::domain::decide) fn of_whoever_applied(
    roll: &Roll,
    plan: PlanId,
    progress: &Progress,
    context: &Context,
) -> Result<(), Refusal> {
    let is_there = progress.applied_by.and_then(|index| roll.operator_at(index)).is_some_and(|found| !found.removed);
    match context.author.actor {
        Actor::Operator(id) if is_there && roll.operator(id).map(|operator| operator.index) != progress.applied_by => {
            Err(Refusal::PlanOfAnother(plan))
        }
        Actor::Operator(_) | Actor::Worker(_) | Actor::Enrollee(_) | Actor::System => Ok(()),
    }
}

fn rotated(roll: &Roll, item: Item, successor: &FreshSecret, context: &Context) -> Option<Event> {
    match item {
        Item::Key(id) => {
            let key = roll.key(id)?;
            let KeyState::Superseded { until } = key.state else { return None };
            let lasts = key.expires_at.is_none_or(|at| at > context.now);
            let room = lasts && keys::can_be_succeeded(roll, key, context.now);
            let next = KeyId(successor.id);
            (room && keys::id_is_free(roll, next).is_ok()).then_some(Event::KeyRotated {
                key: id,
                successor: next,
                verifier: successor.verifier,
                expires_at: key.expires_at,
                overlap_until: until,
                derived: false,
            })
        }
        Item::EnrollmentSecret(id) => {
            let secret = roll.enrollment_secret(id)?;
            let EnrollmentState::Superseded { until } = secret.state else { return None };
            let next = EnrollmentSecretId(successor.id);
            let is_new = roll.enrollment_secret(next).is_none()
                && roll.enrollment_secret_by_verifier(&successor.verifier).is_none();
            let has_heir = roll.enrollment_secrets().any(|other| other.parent == Some(id));
            (is_new && !has_heir && !secret.is_fenced()).then_some(Event::EnrollmentSecretRotated {
                secret: id,
                successor: next,
                verifier: successor.verifier,
                overlap_until: until,
            })
        }
        Item::Worker(_) | Item::SigningKey(_) | Item::TlsCertificate(_) => None,
    }
}
