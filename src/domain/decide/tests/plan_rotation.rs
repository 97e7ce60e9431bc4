//! Plans that rotate and fence: what is superseded at once, who gives it a successor, and what the record is.

use super::wish::{
    apply_plan, collect_plan, create_key, create_secret, create_static, create_worker, enroll, make_plan, revoke,
    rotate,
};
use super::{World, admin, by_key, enrollee, kind, operator, outcome, system};
use crate::domain::admit::admit_worker_key;
use crate::domain::command::Command;
use crate::domain::enrollment::{EnrollmentState, Limits};
use crate::domain::event::Event;
use crate::domain::ids::{EnrollmentSecretId, KeyId, PlanId};
use crate::domain::key::KeyState;
use crate::domain::operator::Role;
use crate::domain::plan::{Delivery, PlanKind};
use crate::domain::time::Seconds;

const HOUR: Seconds = Seconds(3_600);
const FILE: PlanKind = PlanKind::RotateAll { overlap: HOUR, delivery: Delivery::File };
const FETCH: PlanKind = PlanKind::RotateAll { overlap: HOUR, delivery: Delivery::Fetch };

/// Workers `a` and `b` with keys 20 and 21, and `c` with a static secret 22.
fn fleet() -> World {
    World::new().given([
        create_worker("a"),
        create_worker("b"),
        create_worker("c"),
        create_key("a", 20),
        create_key("b", 21),
        create_static("c", 22, 100),
    ])
}

fn applied(kind: PlanKind) -> World {
    let mut world = fleet().given([make_plan(1, kind, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    world
}

fn kinds(events: &[Event]) -> String {
    events.iter().map(kind).collect::<Vec<_>>().join(" ")
}

fn works(world: &World, worker: &str, key: u128) -> bool {
    admit_worker_key(&world.roll, world.roll.key(KeyId(key)).unwrap(), Some(worker), world.now).is_ok()
}

fn due(world: &World, key: u128) -> bool {
    world.roll.rotation_due(world.roll.key(KeyId(key)).unwrap()).is_some()
}

fn go_on(world: &World) -> Command {
    let progress = world.roll.plan(PlanId(1)).unwrap().progress.as_ref().unwrap();
    Command::ContinuePlan { plan: PlanId(1), done: progress.done }
}

#[test]
fn api_keys_overlap_from_when_the_plan_is_applied_and_end_then() {
    for kind in [FILE, FETCH] {
        let world = applied(kind);
        assert!(works(&world, "a", 20) && due(&world, 20) && due(&world, 21));
        assert!(!due(&world, 22), "who chose a static secret chooses the next");
        let later = world.at(3_700);
        assert!(!works(&later, "a", 20) && works(&later, "c", 22));
    }
}

#[test]
fn a_worker_that_is_told_rotates_its_own_key_and_has_it_no_longer_than_the_plan_says() {
    let mut world = applied(FETCH).at(60);
    let events = world.must(&by_key("a", 20), &rotate(20, 30, 86_400));
    assert_eq!(kinds(&events), "key.rotated(derived)");
    assert!(!due(&world, 20) && works(&world, "a", 20) && works(&world, "a", 30));
    let recorded = world.must(&system(), &go_on(&world.clone()));
    assert_eq!(kinds(&recorded), "key.rotation_due plan.progressed", "of the one that is still to be rotated");
    let world = world.at(3_700);
    assert!(!works(&world, "a", 20) && works(&world, "a", 30));
}

#[test]
fn new_keys_are_collected_once_by_whoever_applied_the_plan() {
    let mut world = applied(FILE).given([revoke(21)]);
    assert_eq!(outcome(&world.decide(&operator(Role::Operator), &collect_plan(1, 0, [40, 41]))), "no: plan_of_another");
    assert_eq!(outcome(&world.decide(&admin(), &collect_plan(1, 1, [40]))), "no: plan_progressed");
    let first = world.must(&admin(), &collect_plan(1, 0, [40]));
    assert_eq!(kinds(&first), "key.rotated plan.progressed");
    assert!(works(&world, "a", 20) && works(&world, "a", 40) && !due(&world, 20));
    assert_eq!(outcome(&world.decide(&admin(), &collect_plan(1, 0, [40]))), "no: plan_progressed");
    let second = world.must(&admin(), &collect_plan(1, 1, [41, 42]));
    assert_eq!(kinds(&second), "plan.progressed", "what was revoked since stays revoked");
    assert_eq!(outcome(&world.decide(&admin(), &collect_plan(1, 2, [43]))), "nothing");
    // A successor that an operator made was not made with the key: whoever stole that has not got it.
    assert!(!world.roll.key(KeyId(40)).unwrap().derived);
}

#[test]
fn what_is_not_collected_in_time_is_left_to_end() {
    let mut world = applied(FILE).at(3_700);
    assert_eq!(outcome(&world.decide(&admin(), &collect_plan(1, 0, [40]))), "no: plan_expired");
    assert_eq!(kinds(&world.must(&system(), &go_on(&world.clone()))), "plan.progressed");
    assert!(world.roll.plan(PlanId(1)).unwrap().progress.as_ref().unwrap().is_complete());
    let now = PlanKind::RotateAll { overlap: Seconds(0), delivery: Delivery::File };
    let mut world = applied(now);
    assert!(!works(&world, "a", 20), "at once");
    world.must(&admin(), &collect_plan(1, 0, [40, 41]));
    assert!(works(&world, "a", 40));
}

#[test]
fn enrollment_secrets_are_rotated_with_their_limits() {
    let mut world = World::new().given([create_secret(1, Limits::default())]);
    world = world.given([make_plan(1, PlanKind::RotateEnrollment { overlap: Seconds(0) }, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    assert_eq!(outcome(&world.decide(&enrollee(1), &enroll(1, "a", 20))), "no: enrollment_secret_ended");
    let made = world.must(&admin(), &collect_plan(1, 0, [7]));
    assert_eq!(kinds(&made), "enrollment_secret.rotated plan.progressed");
    let heir = world.roll.enrollment_secret(EnrollmentSecretId(7)).unwrap();
    assert_eq!((heir.parent, heir.state), (Some(EnrollmentSecretId(1)), EnrollmentState::Live));
    world.must(&enrollee(7), &enroll(7, "a", 20));
}

#[test]
fn signing_keys_are_rotated_by_the_plan_that_has_shown_which() {
    let rotation = PlanKind::RotateSigningKeys { overlap: HOUR };
    let world =
        World::new().given([make_plan(1, rotation.clone(), &["everything"]), make_plan(2, rotation, &["everything"])]);
    assert_eq!(world.roll.plan(PlanId(1)).unwrap().counts.signing_keys, 1);
    let before = world.clone();
    let world = before.given([apply_plan(&world, 1)]);
    assert_eq!(outcome(&world.decide(&admin(), &apply_plan(&world, 2))), "no: plan_changed");
    let events = World::new().given([make_plan(1, PlanKind::RotateSigningKeys { overlap: HOUR }, &["everything"])]);
    assert_eq!(outcome(&events.decide(&admin(), &apply_plan(&events, 1))), "plan.applied signing_keys.rotated");
    assert!(world.roll.plan(PlanId(1)).unwrap().progress.as_ref().unwrap().is_complete(), "there is nothing to record");
}

#[test]
fn a_fence_by_plan_is_over_what_was_shown_and_records_nothing_more() {
    let mut world = fleet().given([make_plan(1, PlanKind::Fence, &["worker:a", "worker:b"])]);
    assert_eq!(world.roll.plan(PlanId(1)).unwrap().counts.keys, 2);
    let events = world.must(&admin(), &apply_plan(&world.clone(), 1));
    assert_eq!(kinds(&events), "fence.raised fence.raised plan.applied");
    assert!(!works(&world, "a", 20) && !works(&world, "b", 21) && works(&world, "c", 22));
    assert_eq!(world.decide(&system(), &go_on(&world)), Ok(vec![]));
    assert_eq!(world.roll.key(KeyId(20)).unwrap().state, KeyState::Live, "a position tells, and no mark");
}

#[test]
fn what_a_kind_cannot_do_is_not_planned() {
    let fetch = |overlap| PlanKind::RotateAll { overlap: Seconds(overlap), delivery: Delivery::Fetch };
    let sign = PlanKind::RotateSigningKeys { overlap: HOUR };
    fleet().table(
        &admin(),
        &[
            (make_plan(1, fetch(299), &["everything"]), "no: invalid"),
            (make_plan(1, fetch(300), &["everything"]), "plan.made"),
            (make_plan(1, fetch(91 * 86_400), &["everything"]), "no: invalid"),
            (make_plan(1, sign, &["pool:default"]), "no: invalid"),
            (make_plan(1, PlanKind::Fence, &["label:os=linux"]), "no: invalid"),
            (make_plan(1, PlanKind::Fence, &["worker:a", "pool:default"]), "no: invalid"),
            (make_plan(1, PlanKind::Fence, &["worker:a", "worker:b"]), "plan.made"),
        ],
    );
}

/// What came to nothing is forgotten after a day, what was applied after a month, and what is under way never.
#[test]
fn plans_are_forgotten_by_the_time_of_the_record() {
    let day = 86_400;
    let mut world = fleet().given([
        make_plan(1, FETCH, &["worker:a"]),
        make_plan(2, PlanKind::Release, &["everything"]),
        make_plan(3, PlanKind::Isolate { until: None }, &["worker:b"]),
    ]);
    for plan in [1, 3] {
        world.must(&admin(), &apply_plan(&world.clone(), plan));
    }
    world.must(&system(), &Command::ContinuePlan { plan: PlanId(3), done: 0 });
    let there = |world: &World| [1, 2, 3].map(|plan| world.roll.plan(PlanId(plan)).is_some());
    for (at, expected) in [
        (day, [true, true, true]),
        (day + 3_601, [true, false, true]),
        (30 * day - 1, [true, false, true]),
        (30 * day + 1, [true, false, false]),
    ] {
        world = world.at(at).given([create_worker(&format!("at-{at}"))]);
        assert_eq!(there(&world), expected, "at {at}");
    }
}
