//! The rule of two persons: which plans need the approval of a second operator, and what counts as one.

use std::collections::BTreeSet;

use super::planned;
use crate::domain::actor::Actor;
use crate::domain::command::Context;
use crate::domain::decide::author::of_plan;
use crate::domain::decide::{Decision, limits, pools};
use crate::domain::event::Event;
use crate::domain::ids::{PlanId, PoolId};
use crate::domain::key::{Digest, KeyState};
use crate::domain::operator::OperatorIndex;
use crate::domain::plan::{Approval, ApprovalPolicy, Item, Plan, PlanKind};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;

/// Whether the policy asks for a second operator: for the kind, or for a pool of which something is on the list.
pub(super) fn is_needed(roll: &Roll, kind: &PlanKind, items: &[Item]) -> bool {
    let policy = roll.plan_policy();
    if policy.kinds.iter().any(|name| **name == *kind.name()) {
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
        Item::SigningKey(_) => false,
    }
}

/// Refuses a plan that needs another operator and has none. The policy of the time of its making counts, and that of now: to
/// lift it in between is no way around it.
pub(super) fn given(roll: &Roll, plan: &Plan, items: &[Item], context: &Context) -> Result<(), Refusal> {
    if !plan.approval && !is_needed(roll, &plan.kind, items) {
        return Ok(());
    }
    let involved = [plan.made_by, index_of(roll, &context.author.actor)];
    if plan.approvals.iter().any(|approval| counts(roll, plan, approval, involved)) {
        Ok(())
    } else {
        Err(Refusal::ApprovalRequired(plan.id))
    }
}

/// Whether it is somebody else's, who may still do the same: there when the plan was made, so that nobody makes an approver
/// for the occasion, and with a key that neither of those involved has made for them since.
fn counts(roll: &Roll, plan: &Plan, approval: &Approval, involved: [Option<OperatorIndex>; 2]) -> bool {
    let Some(operator) = roll.operator_at(approval.by) else { return false };
    let Some(key) = roll.key(approval.key) else { return false };
    let made_for_it = key.issued > plan.made && key.created_by.is_some() && involved.contains(&key.created_by);
    !involved.contains(&Some(approval.by))
        && !operator.removed
        && operator.role.permits(of_plan(&plan.kind))
        && operator.created < plan.made
        && key.state != KeyState::Revoked
        && !made_for_it
}

fn index_of(roll: &Roll, actor: &Actor) -> Option<OperatorIndex> {
    match actor {
        Actor::Operator(id) => roll.operator(*id).map(|operator| operator.index),
        Actor::Worker(_) | Actor::Enrollee(_) | Actor::System => None,
    }
}

/// Approves exactly what was shown. That of the plan's maker would count for nothing, and is refused.
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
    if found.approvals.iter().any(|approval| Some(approval.by) == by) {
        return Ok(vec![]);
    }
    Ok(vec![Event::PlanApproved { plan }])
}

pub(in crate::domain::decide) fn set_policy(roll: &Roll, policy: &ApprovalPolicy) -> Decision {
    limits::approval_policy(policy)?;
    policy.pools.iter().try_for_each(|pool| pools::existing(roll, pool).map(|_| ()))?;
    if roll.plan_policy() == policy {
        return Ok(vec![]);
    }
    Ok(vec![Event::PlanPolicySet(policy.clone())])
}
