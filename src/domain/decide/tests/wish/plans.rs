//! Wishes about plans and readmissions.

use std::sync::Arc;

use super::super::World;
use super::{digest, pool_id, signing_key, texts};
use crate::domain::command::{Command, FreshSecret, MakePlan, PolicyChange};
use crate::domain::ids::PlanId;
use crate::domain::plan::{Delivery, PlanKind, Selector};
use crate::domain::readmission::{Steering, Terms};
use crate::domain::time::{Seconds, Timestamp};

pub(in super::super) fn make_plan(plan: u128, kind: PlanKind, select: &[&str]) -> Command {
    let criteria = select.iter().map(|text| text.parse().unwrap()).collect();
    let selector = Selector::new(criteria, None, None).unwrap();
    Command::MakePlan(MakePlan { plan: PlanId(plan), kind, selector, replaces: None })
}

pub(in super::super) fn approve_plan(world: &World, plan: u128) -> Command {
    let digest = world.roll.plan(PlanId(plan)).unwrap().digest;
    Command::ApprovePlan { plan: PlanId(plan), digest }
}

/// With successors of these ids.
pub(in super::super) fn collect_plan(plan: u128, done: u64, ids: impl IntoIterator<Item = u128>) -> Command {
    let successors = ids.into_iter().map(|id| FreshSecret { id, verifier: digest(id) }).collect();
    Command::CollectPlan { plan: PlanId(plan), done, successors }
}

/// Waves of so many, ten seconds apart, stopped by more than two refusals.
pub(in super::super) fn readmit(wave_size: u32, delivery: Delivery) -> PlanKind {
    PlanKind::Readmit(Arc::new(Terms {
        as_of: Timestamp(0),
        canary: None,
        canaries: 0,
        wave_size,
        wave_every: Seconds(10),
        refusals_max: 2,
        trips_max: 0,
        delivery,
        overlap: Seconds(if delivery == Delivery::Fetch { 600 } else { 0 }),
    }))
}

pub(in super::super) fn steer(plan: u128, steering: Steering) -> Command {
    Command::SteerReadmission { plan: PlanId(plan), steering }
}

pub(in super::super) fn plan_policy(kinds: &[&str], pools: &[&str]) -> Command {
    let pools = pools.iter().map(|pool| pool_id(pool)).collect();
    Command::SetPlanPolicy(PolicyChange { kinds: Some(texts(kinds)), pools: Some(pools) })
}

/// With the digest that it was shown with.
pub(in super::super) fn apply_plan(world: &World, plan: u128) -> Command {
    let digest = world.roll.plan(PlanId(plan)).unwrap().digest;
    Command::ApplyPlan { plan: PlanId(plan), digest, signing_key: Some(signing_key(1_000 + plan)) }
}
