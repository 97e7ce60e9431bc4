//! The rule of two persons: which plans need the approval of a second operator, and what counts as one.

use std::collections::BTreeSet;

use super::planned;
use crate::domain::actor::Actor;
use crate::domain::command::{Context, PolicyChange};
use crate::domain::decide::author::of_plan;
use crate::domain::decide::{Decision, limits, pools};
use crate::domain::event::Event;
use crate::domain::ids::{PlanId, PoolId};
use crate::domain::key::Digest;
use crate::domain::operator::OperatorIndex;
use crate::domain::plan::{Approval, Item, Plan, PlanKind};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;

/// Whether the policy asks for a second operator: for the kind, or for a pool of which something is on the list.
pub(super) fn is_needed(roll: &Roll, kind: &PlanKind, items: &[Item]) -> bool {
    let policy = roll.plan_policy();
    // Whoever lets workers back in wave by wave releases them all the same.
    let names = |name: &str| name == kind.name() || (kind.terms().is_some() && name == PlanKind::Release.name());
    if policy.kinds.iter().any(|name| names(name)) {
        return true;
    }
    let guarded: BTreeSet<&PoolId> = policy.pools.iter().collect();
    !guarded.is_empty() && items.iter().any(|item| touches(roll, *item, &guarded))
}

fn touches(roll: &Roll, item: Item, guarded: &BTreeSet<&PoolId>) -> bool {
    let of_worker = |index| roll.worker_at(index).is_some_and(|worker| guarded.contains(&worker.pool));
    match item {
        Item::Worker(index) => of_worker(index),
        Item::Key(id) => roll.key(id).is_some_and(|key| key.workers().iter().copied().any(of_worker)),
        Item::EnrollmentSecret(id) => roll.enrollment_secret(id).is_some_and(|secret| guarded.contains(&secret.pool)),
        Item::SigningKey(_) | Item::TlsCertificate(_) => false,
    }
}

/// Refuses a plan that needs another operator and has none. The policy of the time of its making counts, and that of now: to
/// lift it in between is no way around it.
pub(super) fn given(roll: &Roll, plan: &Plan, items: &[Item], context: &Context) -> Result<(), Refusal> {
    if !plan.approval && !is_needed(roll, &plan.kind, items) {
        return Ok(());
    }
    let involved = [plan.made_by, index_of(roll, &context.author.actor)];
    if plan.approvals.iter().any(|approval| counts(roll, plan, approval, involved, context.now)) {
        Ok(())
    } else {
        Err(Refusal::ApprovalRequired(plan.id))
    }
}

/// Whether it is somebody else's, who may still do the same: an operator who was there when the plan was made, with a key of
/// then that still works. So nobody makes an approver, or a key of one, for the occasion.
fn counts(roll: &Roll, plan: &Plan, approval: &Approval, involved: [Option<OperatorIndex>; 2], now: Timestamp) -> bool {
    let Some(operator) = roll.operator_at(approval.by) else { return false };
    !involved.contains(&Some(approval.by))
        && !operator.removed
        && operator.role.permits(of_plan(&plan.kind))
        && operator.created < plan.made
        && roll.key(approval.key).is_some_and(|key| key.is_good(now))
        && is_from_before(roll, plan, approval)
}

/// Whether the key was there when the plan was made, or comes of such a one by rotations of the approver's own.
fn is_from_before(roll: &Roll, plan: &Plan, approval: &Approval) -> bool {
    let mut next = roll.key(approval.key);
    while let Some(key) = next {
        if key.issued < plan.made {
            return true;
        }
        if key.created_by != Some(approval.by) {
            return false;
        }
        next = key.parent.and_then(|parent| roll.key(parent));
    }
    false
}

fn index_of(roll: &Roll, actor: &Actor) -> Option<OperatorIndex> {
    match actor {
        Actor::Operator(id) => roll.operator(*id).map(|operator| operator.index),
        Actor::Worker(_) | Actor::Enrollee(_) | Actor::System => None,
    }
}

/// Approves exactly what was shown. That of the plan's maker would count for nothing, and is refused; one that counts no more,
/// since its key has ended, can be given again.
pub(in crate::domain::decide) fn approve(roll: &Roll, plan: PlanId, digest: &Digest, context: &Context) -> Decision {
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
    let by = index_of(roll, &context.author.actor);
    if by.is_some() && by == found.made_by {
        return Err(Refusal::ApprovalOwn(plan));
    }
    let own = |approval: &&Approval| Some(approval.by) == by;
    if found.approvals.iter().find(own).is_some_and(|own| counts(roll, found, own, [found.made_by, None], context.now))
    {
        return Ok(vec![]);
    }
    Ok(vec![Event::PlanApproved { plan }])
}

/// What is not named stays as it stands now, and not as whoever asks has last seen it.
pub(in crate::domain::decide) fn set_policy(roll: &Roll, change: &PolicyChange) -> Decision {
    let standing = roll.plan_policy();
    let policy = change.onto(standing);
    limits::approval_policy(&policy)?;
    policy.pools.iter().try_for_each(|pool| pools::existing(roll, pool).map(|_| ()))?;
    if *standing == policy {
        return Ok(vec![]);
    }
    Ok(vec![Event::PlanPolicySet(policy)])
}
