//! Readmissions: waves in their order, with new keys, until they are all back, stand still, or are isolated again.

use std::sync::Arc;

use super::wish::{
    apply_plan, collect_plan, create_key, create_key_until, create_pool, create_static, create_worker,
    create_worker_in, honey, isolate, make_plan, pool_id, readmit, release, remove_operator, remove_worker, revoke,
    rotate, share, sharing, steer, trip,
};
use super::{World, admin, by_key, kind, operator, outcome, system};
use crate::domain::actor::Actor;
use crate::domain::admit::{Denial, admit_worker_key};
use crate::domain::command::Command;
use crate::domain::event::{Event, FailureCount};
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::key::KeyState;
use crate::domain::operator::Role;
use crate::domain::plan::{Delivery, PlanKind, Progress};
use crate::domain::readmission::{Readmission, Stage, Steering, Terms};
use crate::domain::time::Seconds;
use crate::domain::tripwire::Why;
use crate::domain::worker::WorkerState;

const WORKERS: [(&str, u128); 5] = [("a", 20), ("b", 21), ("c", 22), ("d", 23), ("e", 24)];

/// Workers `a` to `e` with keys 20 to 24, all isolated; `c` and `e` are of the pool `blue`.
fn fleet() -> World {
    let mut world = World::new().given([create_pool("blue", sharing())]);
    for (id, key) in WORKERS {
        let worker = if ["c", "e"].contains(&id) { create_worker_in("blue", id) } else { create_worker(id) };
        world = world.given([worker, create_key(id, key), isolate(id, None)]);
    }
    world
}

fn terms(kind: &PlanKind) -> Terms {
    kind.terms().unwrap().clone()
}

fn canary_first(delivery: Delivery) -> PlanKind {
    PlanKind::Readmit(Arc::new(Terms { canary: Some(pool_id("blue")), ..terms(&readmit(2, delivery)) }))
}

/// Plan 1, applied a second ago.
fn applied(kind: PlanKind) -> World {
    let mut world = fleet().given([make_plan(1, kind, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    world.at(1)
}

fn progress(world: &World) -> &Progress {
    world.roll.plan(PlanId(1)).unwrap().progress.as_ref().unwrap()
}

fn readmission(world: &World) -> &Readmission {
    progress(world).readmission.as_ref().unwrap()
}

/// What any node does when it looks, until nothing is due.
fn go_on(world: &mut World) -> String {
    let mut all = Vec::new();
    loop {
        let wish = Command::ContinuePlan { plan: PlanId(1), done: progress(world).done };
        let events = world.must(&system(), &wish);
        if events.is_empty() {
            return all.join(" ");
        }
        all.extend(events.iter().map(kind));
    }
}

fn collect(world: &mut World, ids: impl IntoIterator<Item = u128>) -> Vec<Event> {
    let keyed = readmission(world).keyed;
    world.must(&admin(), &collect_plan(1, keyed, ids))
}

fn back(world: &World) -> String {
    WORKERS
        .iter()
        .filter(|(id, _)| world.roll.worker(id).unwrap().state == WorkerState::Active)
        .map(|(id, _)| *id)
        .collect()
}

fn denial(world: &World, worker: &str, key: u128) -> Option<Denial> {
    admit_worker_key(&world.roll, world.roll.key(KeyId(key)).unwrap(), Some(worker), world.now).err()
}

fn refused(from: i64, key: u128, reason: &str, count: u64) -> Command {
    let credential = Some(format!("key:{}", KeyId(key)).into());
    let failures = vec![FailureCount { reason: reason.into(), source: None, credential, count }];
    let (from, to) = (super::seconds(from), super::seconds(from + 60));
    Command::RecordAuthFailures { from, to, failures }
}

#[test]
fn canaries_come_first_and_nothing_old_comes_back_with_a_worker() {
    let mut world = applied(canary_first(Delivery::File));
    assert_eq!(
        go_on(&mut world),
        "readmission.wave_released fence.raised worker.released fence.raised worker.released plan.progressed"
    );
    assert_eq!(back(&world), "ce");
    assert_eq!(denial(&world, "c", 22), Some(Denial::Fenced), "a release gives no old key back");
    // Whoever has applied it gets the new keys, of those that are back and of nobody else.
    let other = operator(Role::Operator);
    assert_eq!(outcome(&world.decide(&other, &collect_plan(1, 0, [40]))), "no: plan_of_another");
    let made = collect(&mut world, 40..50);
    assert_eq!(made.iter().map(kind).collect::<Vec<_>>().join(" "), "key.created key.created readmission.keys_made");
    assert_eq!((denial(&world, "c", 40), denial(&world, "e", 41)), (None, None));
    assert_eq!(outcome(&world.decide(&admin(), &collect_plan(1, 0, [50]))), "no: plan_progressed");

    let mut world = world.at(9);
    assert_eq!(go_on(&mut world), "", "the wave has to stand for ten seconds");
    let mut world = world.at(12);
    go_on(&mut world);
    assert_eq!(back(&world), "abce", "two more, in the order of their arrival");
    let mut world = world.at(60);
    assert_eq!(go_on(&mut world), "", "not before the last wave has its keys");
    collect(&mut world, 50..60);
    let mut world = world.at(71);
    go_on(&mut world);
    collect(&mut world, [60]);
    assert_eq!(back(&world), "abcde");
    let mut world = world.at(82);
    assert_eq!(go_on(&mut world), "readmission.completed");
    assert_eq!((readmission(&world).stage, progress(&world).is_complete()), (Stage::Completed, true));
    assert_eq!(go_on(&mut world), "");
}

#[test]
fn where_workers_fetch_their_keys_the_old_ones_last_for_the_overlap() {
    let mut world = applied(readmit(5, Delivery::Fetch));
    go_on(&mut world);
    assert_eq!(back(&world), "abcde");
    assert_eq!(outcome(&world.decide(&admin(), &collect_plan(1, 0, [40]))), "no: plan_not_collected");
    assert_eq!(denial(&world, "a", 20), None);
    world.must(&by_key("a", 20), &rotate(20, 30, 60));
    let world = world.at(602);
    assert_eq!((denial(&world, "a", 20), denial(&world, "a", 30)), (Some(Denial::KeyExpired), None));
    assert_eq!(denial(&world, "b", 21), Some(Denial::KeyExpired), "it did not rotate in time");
}

#[test]
fn a_shared_key_ends_for_the_worker_that_comes_back_and_for_nobody_else() {
    let mut world = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_key("a", 20),
        share(20, "b"),
        create_static("a", 25, 100),
        isolate("a", None),
        make_plan(1, readmit(1, Delivery::File), &["worker:a"]),
    ]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    let mut world = world.at(1);
    go_on(&mut world);
    assert_eq!((denial(&world, "a", 20), denial(&world, "b", 20)), (Some(Denial::Fenced), None));
    assert_eq!(denial(&world, "a", 25), Some(Denial::Fenced), "a static secret is as old");
}

#[test]
fn refusals_of_workers_that_are_back_stop_it_and_noise_does_not() {
    let mut world = applied(readmit(2, Delivery::File));
    go_on(&mut world);
    collect(&mut world, 40..42);
    let noise = [
        refused(1, 20, "secret_wrong", 9),
        refused(1, 23, "fenced", 9),
        refused(-1, 20, "fenced", 9),
        refused(1, 1, "key_revoked", 9),
    ];
    for observed in &noise {
        world.must(&system(), observed);
    }
    assert_eq!(readmission(&world).refusals, 0, "without the secret, of another wave, of before, of an operator");
    world.must(&system(), &refused(1, 20, "fenced", 9));
    world.must(&system(), &refused(1, 40, "worker_isolated", 9));
    assert_eq!(readmission(&world).refusals, 0, "a host has no new key yet; and somebody has isolated its worker");
    assert_eq!(readmission(&world).stale.len(), 1);
    world.must(&system(), &refused(1, 40, "key_revoked", 2));
    let mut world = world.at(5);
    assert_eq!(go_on(&mut world), "", "two are allowed");
    world.must(&system(), &refused(1, 40, "key_expired", 1));
    assert_eq!(readmission(&world).stale.len(), 1, "the new key is none of before");
    assert_eq!(go_on(&mut world), "readmission.stopped");
    let mut world = world.at(1_000);
    assert_eq!((go_on(&mut world).as_str(), readmission(&world).stage), ("", Stage::Stopped));
    assert_eq!(readmission(&world).waves[0].refusals, 3);
    world.must(&admin(), &steer(1, Steering::Resume));
    assert_eq!((go_on(&mut world).as_str(), readmission(&world).refusals), ("", 0), "counted anew, and it stands anew");
    world.must(&system(), &refused(999, 40, "key_revoked", 9));
    assert_eq!(go_on(&mut world), "", "what another node has seen before it was resumed");
    let mut world = world.at(1_011);
    go_on(&mut world);
    assert_eq!(back(&world), "abcd");
}

#[test]
fn tripwires_of_workers_that_are_back_stop_it() {
    let tripped = |key, why, worker, from: i64| {
        let Command::RecordTrip(mut trip) = trip(key, why, worker) else { unreachable!() };
        (trip.from, trip.to) = (super::seconds(from), super::seconds(from));
        Command::RecordTrip(trip)
    };
    let mut world = fleet().given([
        revoke(20),
        revoke(23),
        honey(70, "blue"),
        make_plan(1, readmit(2, Delivery::File), &["everything"]),
    ]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    let mut world = world.at(1);
    go_on(&mut world);
    collect(&mut world, 40..42);
    world.must(&admin(), &revoke(40));
    let before = [
        tripped(40, Why::Revoked, Some("a"), 0),
        tripped(70, Why::Honey, None, 0),
        // Of a wave that was not released, and of keys whose hosts have no new one yet.
        tripped(23, Why::Revoked, Some("d"), 2),
        tripped(20, Why::Revoked, Some("a"), 2),
        tripped(21, Why::Revoked, Some("b"), 2),
    ];
    for other in &before {
        world.must(&system(), other);
    }
    assert_eq!(readmission(&world).trips, 0);
    world.must(&system(), &tripped(40, Why::Revoked, Some("a"), 2));
    assert_eq!((readmission(&world).trips, readmission(&world).waves[0].trips), (1, 1));
    assert_eq!(go_on(&mut world), "readmission.stopped");
    world.must(&admin(), &steer(1, Steering::Resume));
    assert_eq!((go_on(&mut world).as_str(), readmission(&world).trips), ("", 0));
    world.must(&system(), &tripped(70, Why::Honey, None, 3));
    assert_eq!((readmission(&world).trips, readmission(&world).waves[0].trips), (1, 1), "nobody knows of which wave");
    assert_eq!(go_on(&mut world), "readmission.stopped");
}

#[test]
fn an_operator_pauses_hurries_and_goes_on() {
    let mut world = applied(readmit(2, Delivery::File));
    assert_eq!(outcome(&world.decide(&admin(), &steer(1, Steering::Next(2)))), "no: readmission_wave");
    go_on(&mut world);
    let table = |world: &World, lines: &[(Steering, &str)]| {
        let lines: Vec<(Command, &str)> = lines.iter().map(|(it, expected)| (steer(1, *it), *expected)).collect();
        world.table(&admin(), &lines);
    };
    table(
        &world,
        &[
            (Steering::Pause, "readmission.paused"),
            (Steering::Resume, "nothing"),
            (Steering::Next(1), "nothing"),
            (Steering::Next(2), "no: readmission_keys_wait"),
            (Steering::Next(3), "no: readmission_wave"),
            (Steering::RollBack, "readmission.rolled_back"),
        ],
    );
    collect(&mut world, 40..42);
    table(&world, &[(Steering::Next(2), "readmission.wave_released")]);
    world.must(&admin(), &steer(1, Steering::Next(2)));
    table(&world, &[(Steering::Next(2), "nothing")]);
    world.must(&admin(), &steer(1, Steering::Pause));
    assert_eq!((go_on(&mut world).as_str(), back(&world).as_str()), ("", "ab"), "also in the middle of a wave");
    table(
        &world,
        &[
            (Steering::Pause, "nothing"),
            (Steering::Next(3), "no: readmission_stands"),
            (Steering::Resume, "readmission.resumed"),
        ],
    );
    world.must(&admin(), &steer(1, Steering::Resume));
    go_on(&mut world);
    assert_eq!(back(&world), "abcd");
    let auditor = world.decide(&operator(Role::Auditor), &steer(1, Steering::Pause));
    assert_eq!(outcome(&auditor), "no: not_permitted");
    assert_eq!(outcome(&world.decide(&admin(), &steer(2, Steering::Pause))), "no: plan_unknown");
    let world = world.given([
        make_plan(2, PlanKind::Release, &["everything"]),
        make_plan(3, readmit(1, Delivery::File), &["worker:e"]),
    ]);
    assert_eq!(outcome(&world.decide(&admin(), &steer(2, Steering::Pause))), "no: readmission_none");
    assert_eq!(outcome(&world.decide(&admin(), &steer(3, Steering::Pause))), "no: plan_not_applied");
}

#[test]
fn a_rollback_isolates_at_once_whom_it_had_let_in_and_ends_what_they_were_given() {
    let mut world = applied(readmit(2, Delivery::File));
    go_on(&mut world);
    collect(&mut world, 40..42);
    // Somebody made another key for one of them since.
    let mut world = world.given([create_key("a", 60), create_worker("late"), create_key("late", 61)]);
    world.must(&admin(), &steer(1, Steering::RollBack));
    assert_eq!(back(&world), "");
    for (worker, key) in [("a", 40), ("b", 41), ("a", 60)] {
        assert_eq!(world.roll.key(KeyId(key)).unwrap().state, KeyState::Fenced, "{worker}");
    }
    assert_eq!(denial(&world, "late", 61), None);
    assert_eq!(
        go_on(&mut world),
        "key.revoked key.revoked worker.isolated key.revoked worker.isolated plan.progressed"
    );
    assert!(progress(&world).is_complete());
    assert_eq!(outcome(&world.decide(&admin(), &steer(1, Steering::Resume))), "no: readmission_over");
    assert_eq!(outcome(&world.decide(&admin(), &steer(1, Steering::RollBack))), "nothing");
    assert_eq!(outcome(&world.decide(&admin(), &collect_plan(1, 2, [70]))), "no: readmission_over");
}

#[test]
fn what_is_shared_with_somebody_who_stayed_is_left_to_both() {
    // `a` and `b` share key 20; only `a` was isolated.
    let shared = || {
        let world = World::new().given([create_pool("blue", sharing())]);
        let made = ["a", "b"].map(|id| create_worker_in("blue", id));
        world.given(made).given([create_key("a", 20), share(20, "b"), create_key("a", 21), isolate("a", None)])
    };
    let begun = |delivery| {
        let mut world = shared().given([make_plan(1, readmit(1, delivery), &["worker:a"])]);
        world.must(&admin(), &apply_plan(&world.clone(), 1));
        let mut world = world.at(1);
        assert!(go_on(&mut world).contains("worker.released"));
        world
    };
    let world = begun(Delivery::Fetch);
    assert_eq!(world.roll.key(KeyId(20)).unwrap().state, KeyState::Live, "b has nothing to do with it");
    assert!(matches!(world.roll.key(KeyId(21)).unwrap().state, KeyState::Superseded { .. }));

    // A key that was made for `b`, and given to `a` since.
    let mut world = begun(Delivery::File).given([create_key("b", 30), share(30, "a")]);
    world.must(&admin(), &steer(1, Steering::RollBack));
    go_on(&mut world);
    assert_eq!((denial(&world, "a", 30), denial(&world, "b", 30)), (Some(Denial::WorkerIsolated), None));
}

#[test]
fn an_isolation_that_is_long_over_is_none_and_a_key_for_a_while_is_not_made_one_for_ever() {
    let mut world = World::new().given([create_worker("a"), create_worker("b")]);
    let ends = Some(super::seconds(500));
    world = world.given([create_key("a", 20), create_key_until("b", 21, super::seconds(500))]);
    world = world.given([isolate("a", Some(super::seconds(5))), isolate("b", None)]).at(10);
    world = world.given([make_plan(1, readmit(2, Delivery::File), &["everything"])]);
    assert_eq!(world.roll.plan(PlanId(1)).unwrap().counts.workers, 1);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    let mut world = world.at(11);
    go_on(&mut world);
    assert_eq!(denial(&world, "a", 20), None, "it came back by itself, with what it had");
    collect(&mut world, [40]);
    assert_eq!(world.roll.key(KeyId(40)).unwrap().expires_at, ends);
}

#[test]
fn another_collects_where_whoever_applied_it_is_no_operator_any_more() {
    let maker = operator(Role::Operator);
    let mut world = fleet().given([make_plan(1, readmit(2, Delivery::File), &["everything"])]);
    world.must(&maker, &apply_plan(&world.clone(), 1));
    let mut world = world.at(1);
    go_on(&mut world);
    assert_eq!(outcome(&world.decide(&admin(), &collect_plan(1, 0, [40]))), "no: plan_of_another");
    let Actor::Operator(id) = maker.actor else { unreachable!() };
    world.must(&admin(), &remove_operator(id.0));
    assert_eq!(collect(&mut world, [40]).len(), 2);
}

#[test]
fn who_is_not_back_yet_counts_for_nothing() {
    let mut world = applied(readmit(2, Delivery::Fetch));
    let begin = Command::ContinuePlan { plan: PlanId(1), done: 0 };
    world.must(&system(), &begin);
    world.must(&system(), &refused(1, 20, "key_revoked", 9));
    assert_eq!(readmission(&world).waves[0].refusals, 0, "its wave is begun, and it is isolated still");
    go_on(&mut world);
    world.must(&system(), &refused(1, 20, "key_revoked", 9));
    assert_eq!(readmission(&world).waves[0].refusals, 9);
}

#[test]
fn whom_somebody_has_released_or_removed_since_is_left_alone() {
    let mut world = applied(readmit(5, Delivery::File)).given([release("a"), remove_worker("b")]);
    let events = go_on(&mut world);
    assert_eq!(events.matches("worker.released").count(), 3, "{events}");
    assert_eq!(denial(&world, "a", 20), None, "whoever released it has let its key in");
    let made = collect(&mut world, 40..50);
    assert_eq!(made.len(), 5, "a key each for those that are there, and one for whom somebody else let in");
    assert_eq!((progress(&world).changed, readmission(&world).keyed), (3, 5));
}

#[test]
fn a_plan_says_what_cannot_be() {
    let with = |change: &dyn Fn(&mut Terms)| {
        let mut terms = terms(&readmit(2, Delivery::File));
        change(&mut terms);
        make_plan(9, PlanKind::Readmit(Arc::new(terms)), &["everything"])
    };
    let world = fleet().given([create_pool("green", sharing())]);
    let lines = [
        (with(&|_| {}), "plan.made"),
        (with(&|terms| terms.wave_size = 0), "no: invalid"),
        (with(&|terms| terms.wave_size = 10_001), "no: invalid"),
        (with(&|terms| terms.wave_every = Seconds(0)), "no: invalid"),
        (with(&|terms| terms.wave_every = Seconds(8 * Seconds::DAY)), "no: invalid"),
        (with(&|terms| terms.refusals_max = u64::MAX), "no: invalid"),
        (with(&|terms| terms.canary = Some(pool_id("green"))), "no: invalid"),
        (with(&|terms| terms.canary = Some(pool_id("red"))), "no: pool_unknown"),
        (with(&|terms| (terms.delivery, terms.overlap) = (Delivery::Fetch, Seconds(60))), "no: invalid"),
    ];
    world.table(&admin(), &lines);
    let many = |size| Terms { wave_size: size, ..terms(&readmit(1, Delivery::File)) };
    assert_eq!(
        [many(1).waves(200), many(10).waves(201), Terms { canaries: 3, ..many(10) }.waves(10)],
        [200, 21, 2],
        "no wave has canaries and others"
    );
}
