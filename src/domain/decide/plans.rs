//! Plans: made, applied as they were shown or not at all, and recorded item by item.

use std::sync::Arc;

use super::{Decision, enrollment, limits, readmissions, workers};
use crate::domain::command::{Command, Context, MakePlan};
use crate::domain::enrollment::EnrollmentState;
use crate::domain::event::{Event, PlanMade};
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::key::{Digest, KeyState};
use crate::domain::plan::{Counts, Criterion, Delivery, Item, PLAN_TTL, Plan, PlanKind, Progress, Selector};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::signing_key::NewSigningKey;
use crate::domain::time::Timestamp;
use crate::domain::worker::{WorkerIndex, WorkerState};

pub(super) mod approvals;
pub(super) mod rotation;

/// The commands that are about plans; of any other nothing comes.
pub(super) fn decide(roll: &Roll, command: &Command, context: &Context) -> Decision {
    match command {
        Command::MakePlan(wish) => make(roll, wish, context.now),
        Command::ApplyPlan { plan, digest, signing_key } => apply(roll, *plan, digest, signing_key.as_ref(), context),
        Command::ApprovePlan { plan, digest } => approvals::approve(roll, *plan, digest, context),
        Command::CollectPlan { plan, done, successors } => rotation::collect(roll, *plan, *done, successors, context),
        Command::SetPlanPolicy(policy) => approvals::set_policy(roll, policy),
        Command::SteerReadmission { plan, steering } => readmissions::steer(roll, *plan, *steering),
        Command::ContinuePlan { plan, done } => Ok(go_on(roll, *plan, *done, context.now)),
        _ => Ok(vec![]),
    }
}

/// What is planned for nothing is planned all the same: whoever asks learns that there is nothing to do.
pub(super) fn make(roll: &Roll, make: &MakePlan, now: Timestamp) -> Decision {
    limits::unused("plan", roll.plan(make.plan).is_none())?;
    is_known(roll, &make.selector)?;
    fits(&make.kind, &make.selector, now)?;
    if let Some(replaced) = make.replaces {
        planned(roll, replaced)?;
    }
    let kind = readmissions::as_of(&make.kind, now);
    let items = roll.select(&kind, &make.selector);
    let kind = readmissions::counted(roll, kind, &items)?;
    Ok(vec![Event::PlanMade(PlanMade {
        plan: make.plan,
        kind,
        selector: make.selector.clone(),
        digest: roll.plan_digest(&make.kind, &make.selector, &items),
        counts: Counts::of(&items),
        left_without_key: left_without_key(roll, &make.kind, &items, now),
        replaces: make.replaces,
        approval: approvals::is_needed(roll, &make.kind, &items),
        expires_at: now.after(PLAN_TTL),
    })])
}

/// How many have no key any more once it is applied: where the old ones overlap, nobody.
fn left_without_key(roll: &Roll, kind: &PlanKind, items: &[Item], now: Timestamp) -> u64 {
    match kind {
        PlanKind::RotateAll { overlap, .. } if overlap.0 > 0 => 0,
        _ => roll.left_without_key(items, now),
    }
}

/// Whether what the kind asks for, beside what is selected, can be.
fn fits(kind: &PlanKind, selector: &Selector, now: Timestamp) -> Result<(), Refusal> {
    limits::future("until", kind.until(), now)?;
    kind.overlap().map_or(Ok(()), limits::overlap)?;
    let is_everything = selector.criteria() == [Criterion::Everything] && selector.fence_scope().is_some();
    match kind {
        PlanKind::RotateAll { overlap, delivery: Delivery::Fetch } => limits::time_to_fetch(*overlap),
        PlanKind::RotateSigningKeys { .. } | PlanKind::RotateTlsCertificates => limits::is_everybodys(is_everything),
        PlanKind::Fence => limits::fences_cover(selector.fence_scopes().is_some()),
        PlanKind::Isolate { .. }
        | PlanKind::Release
        | PlanKind::RevokeAll
        | PlanKind::DisableEnrollment
        | PlanKind::RotateAll { delivery: Delivery::File, .. }
        | PlanKind::RotateEnrollment { .. } => Ok(()),
        PlanKind::Readmit(terms) if terms.delivery == Delivery::Fetch => limits::time_to_fetch(terms.overlap),
        PlanKind::Readmit(_) => Ok(()),
    }
}

/// Refuses a selector with a name that is not known: it is a typing error, and must not pass as a plan for nothing.
pub fn is_known(roll: &Roll, selector: &Selector) -> Result<(), Refusal> {
    limits::selector(selector)?;
    for criterion in selector.criteria() {
        match criterion {
            Criterion::Everything => {}
            Criterion::Label { name, value } => limits::label("select", name, value)?,
            Criterion::Pool(id) => _ = roll.pool(id.as_str()).ok_or_else(|| Refusal::PoolUnknown(id.clone()))?,
            Criterion::Lineage(id) => _ = enrollment::known(roll, *id)?,
            Criterion::Worker(id) => _ = workers::known(roll, id)?,
            Criterion::Operator(id) => _ = roll.operator(*id).ok_or(Refusal::OperatorUnknown(*id))?,
            Criterion::Source(_) => {}
            Criterion::Key(id) => {
                let key = roll.key(*id).ok_or(Refusal::KeyUnknown(*id))?;
                if key.workers().is_empty() {
                    return Err(Refusal::KeyOfOperator(*id));
                }
            }
        }
    }
    Ok(())
}

/// What was shown, or nothing.
///
/// The fence comes first where one covers the list: it is in force at its event, however long the list is.
pub(super) fn apply(
    roll: &Roll,
    plan: PlanId,
    digest: &Digest,
    signing_key: Option<&NewSigningKey>,
    context: &Context,
) -> Decision {
    let found = planned(roll, plan)?;
    if found.digest != *digest {
        return Err(Refusal::PlanDigest(plan));
    }
    if found.progress.is_some() {
        return Ok(vec![]);
    }
    if found.expires_at <= context.now {
        return Err(Refusal::PlanExpired(plan));
    }
    limits::future("until", found.kind.until(), context.now)?;
    let items = roll.select(&found.kind, &found.selector);
    if roll.plan_digest(&found.kind, &found.selector, &items) != *digest {
        return Err(Refusal::PlanChanged(plan));
    }
    approvals::given(roll, found, &items, context)?;
    let newest = roll.next_position().saturating_sub(1);
    let raised = |scope| Event::FenceRaised { scope, up_to: newest };
    let mut events: Vec<Event> = match found.kind {
        PlanKind::RevokeAll => found.selector.fence_scope().map(raised).into_iter().collect(),
        PlanKind::Fence => found.selector.fence_scopes().into_iter().flatten().map(raised).collect(),
        PlanKind::Isolate { .. }
        | PlanKind::Release
        | PlanKind::DisableEnrollment
        | PlanKind::RotateAll { .. }
        | PlanKind::RotateEnrollment { .. }
        | PlanKind::RotateSigningKeys { .. }
        | PlanKind::RotateTlsCertificates
        | PlanKind::Readmit(_) => vec![],
    };
    events.push(Event::PlanApplied { plan, items: items.len() as u64 });
    if let PlanKind::RotateSigningKeys { overlap } = found.kind {
        // Of one that was planned for nothing, since there are no signing keys, nothing comes.
        let next = signing_key.ok_or(Refusal::PlanUnknown(plan))?;
        events.extend(super::tokens::rotate_signing_keys(roll, next, overlap, context.now)?);
    }
    Ok(events)
}

pub(super) fn planned(roll: &Roll, plan: PlanId) -> Result<&Plan, Refusal> {
    roll.plan(plan).map(AsRef::as_ref).ok_or(Refusal::PlanUnknown(plan))
}

/// Records the next items of a plan, each by an event of its own, but for keys that are revoked: they are listed. All are in force
/// already, since the plan was applied.
///
/// `done` says how far whoever asks has seen the plan come: of two nodes that go on with it, one is late and does nothing.
/// What somebody has changed since is left as they changed it.
fn go_on(roll: &Roll, plan: PlanId, done: u64, now: Timestamp) -> Vec<Event> {
    // What an operator can still collect is theirs to go on with.
    let is_due = |plan: &&Arc<Plan>| plan.collected_until().is_none_or(|until| until <= now);
    let Some(found) = roll.plan(plan).filter(is_due) else { return vec![] };
    let waits = |progress: &&Progress| progress.done == done && !progress.is_complete();
    let Some(progress) = found.progress.as_ref().filter(waits) else { return vec![] };
    if let Some(terms) = found.kind.terms() {
        return readmissions::go_on(roll, plan, terms, progress, now);
    }
    let next = progress.next_items(progress.chunk(&found.kind, now));
    let keys: Box<[KeyId]> = next.iter().filter_map(|item| revoked(roll, &found.kind, *item)).collect();
    let mut events: Vec<Event> = next.iter().filter_map(|item| record(roll, &found.kind, *item)).collect();
    if !keys.is_empty() {
        events.insert(0, Event::KeysRevoked { plan, keys });
    }
    let changed = progress.changed + events.iter().map(Event::facts).sum::<u64>();
    events.push(Event::PlanProgressed { plan, done: done + next.len() as u64, changed });
    events
}

/// The key, if the plan has revoked it and nobody else has.
fn revoked(roll: &Roll, kind: &PlanKind, item: Item) -> Option<KeyId> {
    match (kind, item) {
        (PlanKind::RevokeAll, Item::Key(id)) => {
            roll.key(id).filter(|key| key.state != KeyState::Revoked).map(|key| key.id)
        }
        _ => None,
    }
}

/// What the plan has made of it, if it still stands.
fn record(roll: &Roll, kind: &PlanKind, item: Item) -> Option<Event> {
    match (kind, item) {
        (PlanKind::Isolate { .. } | PlanKind::Release, Item::Worker(index)) => record_worker(roll, kind, index),
        (PlanKind::RevokeAll | PlanKind::DisableEnrollment, Item::EnrollmentSecret(id)) => {
            let secret = roll.enrollment_secret(id)?;
            (secret.state == EnrollmentState::Disabled || secret.is_fenced())
                .then_some(Event::EnrollmentSecretDisabled { secret: id })
        }
        (PlanKind::RotateAll { delivery: Delivery::Fetch, .. }, Item::Key(id)) => rotation::due(roll, id),
        // Keys that are revoked are on a list of their own; what was not collected in time is rotated by nobody; and no list
        // of these kinds has other items.
        (
            PlanKind::Isolate { .. }
            | PlanKind::Release
            | PlanKind::RevokeAll
            | PlanKind::DisableEnrollment
            | PlanKind::RotateAll { .. }
            | PlanKind::RotateEnrollment { .. }
            | PlanKind::RotateSigningKeys { .. }
            | PlanKind::RotateTlsCertificates
            | PlanKind::Fence
            | PlanKind::Readmit(_),
            Item::Worker(_) | Item::Key(_) | Item::EnrollmentSecret(_) | Item::SigningKey(_) | Item::TlsCertificate(_),
        ) => None,
    }
}

fn record_worker(roll: &Roll, kind: &PlanKind, index: WorkerIndex) -> Option<Event> {
    let worker = roll.worker_at(index)?;
    match (kind, worker.state) {
        (PlanKind::Isolate { until }, WorkerState::Isolated { until: stands }) if *until == stands => {
            Some(Event::WorkerIsolated { worker: worker.id.clone(), until: *until })
        }
        (PlanKind::Release, WorkerState::Active) => Some(Event::WorkerReleased { worker: worker.id.clone() }),
        _ => None,
    }
}
