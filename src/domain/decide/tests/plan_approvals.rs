//! The rule of two persons as a table: who can approve what, and what an approval is worth.

use super::wish::{
    apply_plan, approve_plan, create_key, create_operator, create_operator_key, create_pool, create_worker,
    create_worker_in, make_plan, plan_policy, remove_operator, revoke, rotate, sharing, update_operator,
};
use super::{World, admin, operator, operator_by, outcome};
use crate::domain::command::{Command, PolicyChange};
use crate::domain::ids::PlanId;
use crate::domain::key::Digest;
use crate::domain::operator::Role;
use crate::domain::plan::{PLAN_TTL, PlanKind};
use crate::domain::time::Seconds;

const ISOLATE: PlanKind = PlanKind::Isolate { until: None };

/// Operators 10 and 11 may do the same as each other, 12 is an admin; worker `a` is in `default`, `b` in `blue`. Isolating
/// needs two, and so does whatever touches `blue`. Operator 10 has made a plan to isolate `a`.
fn guarded() -> World {
    let mut world = World::new().given([
        create_operator(10, Role::Operator),
        create_operator(11, Role::Operator),
        create_operator(12, Role::Admin),
        create_pool("blue", sharing()),
        create_worker("a"),
        create_worker_in("blue", "b"),
        create_key("b", 20),
        plan_policy(&["isolate"], &["blue"]),
    ]);
    world.must(&operator_by(10, 10), &make_plan(1, ISOLATE, &["worker:a"]));
    world
}

/// What applying plan 1 comes to for operators 10 and 11.
fn applying(world: &World) -> [String; 2] {
    [10, 11].map(|by| outcome(&world.decide(&operator_by(by, by), &apply_plan(world, 1))))
}

const NO: &str = "no: approval_required";
const YES: &str = "plan.applied";

fn approved(by: u128, key: u128) -> World {
    let mut world = guarded();
    if key != by {
        world.must(&operator_by(by, by), &rotate(by, key, 600));
    }
    let wish = approve_plan(&world, 1);
    world.must(&operator_by(by, key), &wish);
    world
}

#[test]
fn a_plan_needs_somebody_else_who_would_do_the_same() {
    assert_eq!(applying(&guarded()), [NO, NO], "whoever applies it, nobody has approved it");
    let world = guarded();
    let wish = approve_plan(&world, 1);
    assert_eq!(outcome(&world.decide(&operator_by(10, 10), &wish)), "no: approval_own");
    assert_eq!(outcome(&world.decide(&operator(Role::Auditor), &wish)), "no: not_permitted");
    assert_eq!(outcome(&world.decide(&operator_by(11, 11), &wish)), "plan.approved");
    let other = Command::ApprovePlan { plan: PlanId(1), digest: Digest([0; 32]) };
    assert_eq!(outcome(&world.decide(&operator_by(11, 11), &other)), "no: plan_digest");
    assert_eq!(applying(&approved(11, 11)), [YES, NO], "who approved it does not apply it on that");
    assert_eq!(applying(&approved(12, 12)), [YES, YES]);
    let world = approved(12, 12);
    assert_eq!(outcome(&world.decide(&operator_by(12, 12), &approve_plan(&world, 1))), "nothing", "once");
    let late = approved(12, 12).at(i64::from(PLAN_TTL.0));
    assert_eq!(outcome(&late.decide(&operator_by(11, 11), &approve_plan(&late, 1))), "no: plan_expired");
}

/// An approval is of who approves, at the time of applying, and not of whoever has one of their keys.
#[test]
fn no_way_leads_around_the_second_person() {
    // The maker's own second key is the maker.
    let mut world = guarded();
    world.must(&operator_by(10, 10), &rotate(10, 30, 600));
    assert_eq!(outcome(&world.decide(&operator_by(10, 30), &approve_plan(&world, 1))), "no: approval_own");

    // Who has lost the right since, or is gone, approves nothing any more.
    for ending in [remove_operator(11), update_operator(11, None, Some(Role::Auditor)), revoke(11)] {
        assert_eq!(
            applying(&approved(11, 11).given([ending.clone()])),
            [NO.to_owned(), applying(&guarded().given([ending]))[1].clone()]
        );
    }
    // A rotation of the approver's own is no such thing.
    assert_eq!(applying(&approved(11, 31))[0], YES);

    // An operator made for the occasion, by whomever.
    let mut world = guarded().given([create_operator(13, Role::Operator)]);
    let wish = approve_plan(&world, 1);
    world.must(&operator_by(13, 13), &wish);
    assert_eq!(applying(&world), [NO, NO]);

    // The applying admin makes a key for somebody who has not asked for one.
    let mut world = guarded().given([create_operator_key(11, 32)]);
    let wish = approve_plan(&world, 1);
    world.must(&operator_by(11, 32), &wish);
    assert_eq!(outcome(&world.decide(&admin(), &apply_plan(&world, 1))), NO);
    assert_eq!(applying(&world)[0], NO, "it was made for the occasion, whoever applies it");
    // Nor if they rotate it as the one whom they made it for, or rotate that one's own.
    world.must(&operator_by(11, 32), &rotate(32, 33, 600));
    let wish = approve_plan(&world, 1);
    world.must(&operator_by(11, 33), &wish);
    assert_eq!(applying(&world)[0], NO);
    let mut world = guarded().given([rotate(11, 34, 600)]);
    let wish = approve_plan(&world, 1);
    world.must(&operator_by(11, 34), &wish);
    assert_eq!(applying(&world)[0], NO, "the admin has that key");

    // A key that was rotated at once, since it leaked, approves nothing; with the new one it can be said again.
    let mut world = approved(11, 11);
    world.must(&operator_by(11, 11), &rotate(11, 35, 0));
    assert_eq!(applying(&world)[0], NO);
    let wish = approve_plan(&world, 1);
    assert_eq!(outcome(&world.decide(&operator_by(11, 35), &wish)), "plan.approved");
    world.must(&operator_by(11, 35), &wish);
    assert_eq!(applying(&world)[0], YES);

    // What needed a second operator when it was made needs one after the policy was lifted; and the other way round.
    let lifted = guarded().given([plan_policy(&[], &[])]);
    assert_eq!(applying(&lifted), [NO, NO]);
    let mut later = World::new().given([create_operator(10, Role::Operator), create_worker("a")]);
    later.must(&operator_by(10, 10), &make_plan(1, ISOLATE, &["worker:a"]));
    let world = later.given([plan_policy(&["isolate"], &[])]);
    assert_eq!(outcome(&world.decide(&operator_by(10, 10), &apply_plan(&world, 1))), NO);
}

#[test]
fn the_policy_is_of_kinds_and_of_pools_and_an_admins_to_set() {
    let mut world = guarded();
    for (plan, kind, select, needs) in [
        (2, PlanKind::Release, "worker:a", false),
        (3, PlanKind::RevokeAll, "worker:b", true),
        (4, PlanKind::RevokeAll, "worker:a", false),
        (5, PlanKind::RevokeAll, "everything", true),
        (6, ISOLATE, "label:no=body", true),
    ] {
        world.must(&admin(), &make_plan(plan, kind, &[select]));
        assert_eq!(world.roll.plan(PlanId(plan)).unwrap().approval, needs, "{plan}");
    }
    world.table(
        &admin(),
        &[
            (plan_policy(&["isolate"], &["blue"]), "nothing"),
            (plan_policy(&["isolate", "revoke_all"], &[]), "plan_policy.set"),
            (plan_policy(&["burn"], &[]), "no: invalid"),
            (plan_policy(&[], &["green"]), "no: pool_unknown"),
        ],
    );
    assert_eq!(outcome(&world.decide(&operator_by(10, 10), &plan_policy(&[], &[]))), "no: not_permitted");
    // What is not named stays as it stands when it is decided.
    let kinds_alone = PolicyChange { kinds: Some(["release".into()].into()), pools: None };
    world.must(&admin(), &Command::SetPlanPolicy(kinds_alone));
    let policy = world.roll.plan_policy();
    assert_eq!((&*policy.kinds, &*policy.pools), (&["release".into()][..], &["blue".parse().unwrap()][..]));
    // Who may not rotate signing keys approves no such plan.
    let rotation = PlanKind::RotateSigningKeys { overlap: Seconds(600) };
    world.must(&admin(), &make_plan(7, rotation, &["everything"]));
    for (by, expected) in [(10, "no: not_permitted"), (12, "plan.approved")] {
        assert_eq!(outcome(&world.decide(&operator_by(by, by), &approve_plan(&world, 7))), expected, "{by}");
    }
}
