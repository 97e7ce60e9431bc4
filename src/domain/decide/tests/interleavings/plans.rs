//! What is asked of plans among everything else: of every kind, for whatever is there, applied, gone on with and collected.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::wish::{apply_plan, collect_plan, make_plan, readmit, steer};
use super::super::{World, admin, system};
use crate::domain::actor::Author;
use crate::domain::command::Command;
use crate::domain::plan::{Delivery, Plan, PlanKind};
use crate::domain::readmission::Steering;
use crate::domain::time::Seconds;

/// Of the plans that there are then, the n-th, counted around.
#[derive(Clone, Debug)]
pub(super) enum AskOfPlans {
    Make(PlanKind, &'static str),
    Apply(usize),
    GoOn(usize),
    Collect(usize),
    Steer(usize, Steering),
}

pub(super) fn ask() -> BoxedStrategy<AskOfPlans> {
    let rotation = (select(&[0, 20, 300][..]), select(Delivery::ALL.to_vec()))
        .prop_map(|(overlap, delivery)| PlanKind::RotateAll { overlap: Seconds(overlap), delivery });
    let kind = prop_oneof![
        super::moment().prop_map(|until| PlanKind::Isolate { until }),
        Just(PlanKind::Release),
        Just(PlanKind::RevokeAll),
        Just(PlanKind::DisableEnrollment),
        Just(PlanKind::Fence),
        (1_u32..3, select(Delivery::ALL.to_vec())).prop_map(|(size, delivery)| readmit(size, delivery)),
        rotation,
        select(&[0, 20][..]).prop_map(|overlap| PlanKind::RotateEnrollment { overlap: Seconds(overlap) }),
        Just(PlanKind::RotateSigningKeys { overlap: Seconds(20) }),
        Just(PlanKind::RotateTlsCertificates),
    ];
    let steering =
        select(vec![Steering::Pause, Steering::Resume, Steering::Next(1), Steering::Next(2), Steering::RollBack]);
    let criterion =
        select(&["everything", "pool:blue", "pool:default", "worker:a", "worker:b", "source:10.0.0.0/8"][..]);
    prop_oneof![
        3 => (kind, criterion).prop_map(|(kind, criterion)| AskOfPlans::Make(kind, criterion)),
        3 => any::<usize>().prop_map(AskOfPlans::Apply),
        2 => any::<usize>().prop_map(AskOfPlans::GoOn),
        1 => any::<usize>().prop_map(AskOfPlans::Collect),
        1 => (any::<usize>(), steering).prop_map(|(number, steering)| AskOfPlans::Steer(number, steering)),
    ]
    .boxed()
}

/// `None` where there is no plan to ask about.
pub(super) fn meant(world: &World, ask: &AskOfPlans, minted: u128) -> Option<(Author, Command)> {
    let nth = |nth: usize, of: &dyn Fn(&Plan) -> bool| {
        let plans: Vec<_> = world.roll.plans_after(None).filter(|plan| of(plan)).cloned().collect();
        (!plans.is_empty()).then(|| plans[nth % plans.len()].clone())
    };
    let running = |plan: &Plan| plan.progress.as_ref().is_some_and(|progress| !progress.is_complete());
    let done = |plan: &Plan| plan.progress.as_ref().map_or(0, |progress| progress.done);
    let keyed = |plan: &Plan| Some(plan.progress.as_ref()?.readmission.as_ref()?.keyed);
    match ask {
        AskOfPlans::Make(kind, criterion) => Some((admin(), make_plan(minted, kind.clone(), &[criterion]))),
        AskOfPlans::Apply(number) => {
            let plan = nth(*number, &|plan| plan.progress.is_none())?;
            Some((admin(), apply_plan(world, plan.id.0)))
        }
        AskOfPlans::GoOn(number) => {
            let plan = nth(*number, &running)?;
            Some((system(), Command::ContinuePlan { plan: plan.id, done: done(&plan) }))
        }
        AskOfPlans::Collect(number) => {
            let plan = nth(*number, &running)?;
            let done = keyed(&plan).unwrap_or_else(|| done(&plan));
            Some((admin(), collect_plan(plan.id.0, done, [1_000_000 + 2 * minted, 1_000_001 + 2 * minted])))
        }
        AskOfPlans::Steer(number, steering) => {
            let plan = nth(*number, &|plan| plan.kind.terms().is_some())?;
            Some((admin(), steer(plan.id.0, *steering)))
        }
    }
}
