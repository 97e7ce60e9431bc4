//! Plans as tables: what each selector comes to, that what was shown is done or nothing is, and that the record follows.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::wish::{
    apply_plan, approve_plan, collect_plan, create_key, create_pool, create_secret, create_secret_in, create_worker,
    create_worker_in, enroll, isolate, issue, label, make_plan, plan_policy, release, remove_worker, revoke, rotate,
    rotate_secret, share, sharing, update_pool,
};
use super::{World, admin, by_key, enrollee, from, kind, operator, outcome, seconds, system};
use crate::domain::admit::admit_worker_key;
use crate::domain::command::{Command, MakePlan};
use crate::domain::enrollment::Limits;
use crate::domain::event::{Event, REVOKED_KEYS_MAX, Recorded};
use crate::domain::ids::{EnrollmentSecretId, KeyId, OperatorId, PlanId, SigningKeyId};
use crate::domain::key::{Digest, Key, KeyState};
use crate::domain::operator::Role;
use crate::domain::plan::{
    CHUNK_ITEMS, Delivery, Item, LISTED_KEYS, PLAN_TTL, PlanKind, Progress, RECORDED_IN, Selector,
};
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::worker::{WorkerIndex, WorkerState};

const LINEAGE: &str = "enrollment_secret:0000000000000000000001";

/// Worker `a` was let into `default` by secret 1, `b` by its rotation 2; an operator made `c` there, with a label, and `d`
/// in `blue`, with the same one. Their keys are 20 to 23. Secret 3 lets into `blue`.
fn fleet() -> World {
    let mut world = World::new().given([
        create_pool("blue", sharing()),
        create_worker("c"),
        create_worker_in("blue", "d"),
        label("c", &[("os", "linux")]),
        label("d", &[("os", "linux")]),
        create_key("c", 22),
        create_key("d", 23),
        create_secret(1, Limits::default()),
        create_secret_in("blue", 3, 3, Limits::default()),
    ]);
    world.must(&enrollee(1), &enroll(1, "a", 20));
    let mut world = world.given([rotate_secret(1, 2, 2, 3_600)]);
    world.must(&enrollee(2), &enroll(2, "b", 21));
    world
}

const ISOLATE: PlanKind = PlanKind::Isolate { until: None };

/// The list in short: workers by their ids, keys and secrets by their numbers.
fn listed(world: &World, kind: &PlanKind, criteria: &[&str]) -> String {
    let criteria = criteria.iter().map(|text| text.parse().unwrap()).collect();
    let items = world.roll.select(kind, &Selector::new(criteria, None, None).unwrap());
    items.iter().map(|item| in_short(world, *item)).collect::<Vec<_>>().join(" ")
}

fn in_short(world: &World, item: Item) -> String {
    match item {
        Item::Worker(index) => world.roll.worker_at(index).unwrap().id.to_string(),
        Item::Key(KeyId(id)) => format!("k{id}"),
        Item::EnrollmentSecret(EnrollmentSecretId(id)) => format!("s{id}"),
        Item::SigningKey(SigningKeyId(id)) => format!("signing{id}"),
        Item::TlsCertificate(Digest([first, ..])) => format!("certificate{first}"),
    }
}

/// A log with plans in every state.
pub(crate) fn history() -> Vec<Recorded> {
    let mut world = fleet().given([
        make_plan(1, PlanKind::Isolate { until: Some(seconds(60)) }, &["label:os=linux", "pool:default"]),
        make_plan(2, PlanKind::RevokeAll, &["worker:a", "worker:b"]),
        make_plan(3, PlanKind::DisableEnrollment, &["pool:blue"]),
        make_plan(4, PlanKind::RevokeAll, &["pool:blue"]),
        make_plan(5, PlanKind::Release, &["everything"]),
    ]);
    for plan in [1, 2, 4] {
        world.must(&admin(), &apply_plan(&world.clone(), plan));
    }
    record(&mut world, 1);
    let overlap = Seconds(600);
    let mut world = world.given([
        create_key("c", 50),
        make_plan(6, PlanKind::RotateAll { overlap, delivery: Delivery::Fetch }, &["worker:c"]),
        make_plan(7, PlanKind::RotateEnrollment { overlap }, &["pool:default"]),
        make_plan(8, PlanKind::RotateSigningKeys { overlap }, &["everything"]),
        make_plan(9, PlanKind::Fence, &["worker:d"]),
        plan_policy(&["fence"], &["blue"]),
    ]);
    world.must(&operator(Role::Operator), &approve_plan(&world.clone(), 9));
    for plan in [6, 7, 8] {
        world.must(&admin(), &apply_plan(&world.clone(), plan));
    }
    world.must(&admin(), &collect_plan(7, 0, [60]));
    record(&mut world, 6);
    world.log
}

#[test]
fn a_selector_comes_to_this_list() {
    let world = fleet().given([rotate(22, 30, 3_600), isolate("d", None)]);
    let key = |number: u128| format!("key:{}", KeyId(number));
    let (old, new) = (key(22), key(30));
    for (plan, criteria, expected) in [
        (ISOLATE, &["everything"][..], "c a b"),
        (ISOLATE, &["pool:default"], "c a b"),
        (ISOLATE, &["pool:blue"], ""),
        (PlanKind::Release, &["everything"], "d"),
        (PlanKind::Release, &["pool:default"], ""),
        (ISOLATE, &["worker:a", "worker:c"], "c a"),
        (ISOLATE, &["label:os=linux"], "c"),
        (ISOLATE, &["label:os=mac"], ""),
        (ISOLATE, &["label:os=linux", "label:os=mac"], "c"),
        (ISOLATE, &["label:os=linux", "worker:a"], ""),
        (ISOLATE, &["pool:default", "pool:blue", "label:os=linux"], "c"),
        (ISOLATE, &[LINEAGE], "a b"),
        (ISOLATE, &[&old], "c"),
        (PlanKind::RevokeAll, &["everything"], "k22 k23 k20 k21 k30 s1 s2 s3"),
        (PlanKind::RevokeAll, &["pool:blue"], "k23 s3"),
        (PlanKind::RevokeAll, &[LINEAGE], "k20 k21 s1 s2"),
        (PlanKind::RevokeAll, &["label:os=linux"], "k22 k23 k30"),
        (PlanKind::RevokeAll, &["worker:c"], "k22 k30"),
        (PlanKind::RevokeAll, &[&old], "k22 k30"),
        (PlanKind::RevokeAll, &[&new], "k30"),
        (PlanKind::RevokeAll, &[&new, "pool:blue"], ""),
        (PlanKind::DisableEnrollment, &["everything"], "s1 s2 s3"),
        (PlanKind::DisableEnrollment, &["pool:default"], "s1 s2"),
        (PlanKind::DisableEnrollment, &["worker:a"], ""),
    ] {
        assert_eq!(listed(&world, &plan, criteria), expected, "{plan:?} {criteria:?}");
    }
}

/// Operator 2, who is no admin, made worker `e`, key 40 of it, key 41 of `c`, and secret 4, which let in `f` with key 42;
/// admin 1 made operator 2, so all of it is the admin's too.
#[test]
fn what_an_operator_made_is_reached_in_any_depth() {
    let mut world = fleet();
    let maker = operator(Role::Operator);
    for wish in [create_worker("e"), create_key("e", 40), create_key("c", 41), create_secret(4, Limits::default())] {
        world.must(&maker, &wish);
    }
    world.must(&enrollee(4), &enroll(4, "f", 42));
    let world = world.given([rotate(41, 43, 3_600), create_key("e", 44), rotate_secret(4, 5, 5, 60)]);
    let made_by = |operator: u128| format!("operator:{}", OperatorId(operator));
    let (admin, maker, nobody) = (made_by(1), made_by(2), made_by(3));
    for (plan, criteria, expected) in [
        (ISOLATE, &[maker.as_str()][..], "c e f"),
        (ISOLATE, &[&admin], "c d a b e f"),
        (ISOLATE, &[&nobody], ""),
        (ISOLATE, &[&maker, "label:os=linux"], "c"),
        (PlanKind::RevokeAll, &[&maker], "k40 k41 k42 k43 k44 s4 s5"),
        (PlanKind::RevokeAll, &[&maker, "pool:blue"], ""),
        (PlanKind::RevokeAll, &[&maker, "worker:c"], "k41 k43"),
        (PlanKind::DisableEnrollment, &[&maker], "s4 s5"),
    ] {
        assert_eq!(listed(&world, &plan, criteria), expected, "{plan:?} {criteria:?}");
    }
    let unknown = format!("operator:{}", OperatorId(9));
    world.table(&super::admin(), &[(make_plan(1, ISOLATE, &[&unknown]), "no: operator_unknown")]);
}

/// Where a worker's own last event came from; what operators do to it from elsewhere is nobody's whereabouts.
#[test]
fn workers_are_found_where_they_were_last_seen() {
    let mut world = World::new().given([create_secret(1, Limits::default()), create_worker("b"), create_key("b", 21)]);
    world.must(&from("::ffff:10.1.2.3", enrollee(1)), &enroll(1, "a", 20));
    world.must(&from("10.9.0.1", by_key("b", 21)), &issue(1, "b", 21));
    world.must(&from("192.0.2.1", admin()), &label("b", &[("os", "linux")]));
    for (criteria, expected) in [
        (&["source:10.1.0.0/16"][..], "a"),
        (&["source:10.0.0.0/8"], "b a"),
        (&["source:192.0.2.0/24"], ""),
        (&["source:10.1.2.3/32", "source:10.9.0.1/32"], "b a"),
        (&["source:10.0.0.0/8", "label:os=linux"], "b"),
    ] {
        assert_eq!(listed(&world, &ISOLATE, criteria), expected, "{criteria:?}");
    }
    assert_eq!(listed(&world, &PlanKind::RevokeAll, &["source:10.1.0.0/16"]), "k20");
    world.must(&from("2001:db8::1", by_key("a", 20)), &issue(2, "a", 20));
    assert_eq!(listed(&world, &ISOLATE, &["source:10.1.0.0/16"]), "");
}

#[test]
fn a_credential_is_found_by_how_its_id_begins() {
    let world = fleet();
    let found = |fragment: &str| {
        world.roll.credentials_beginning_with(fragment).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let key = KeyId(20).to_string();
    assert_eq!(found(&key), [format!("key:{key}")]);
    assert_eq!(found(&key[..21]).len(), 11, "eight keys and three secrets");
    assert_eq!(found(&KeyId(2).to_string()).first(), Some(&format!("operator:{}", OperatorId(2))));
    assert_eq!(found("zzzzzz"), [""; 0], "there is no such number");
    assert_eq!(found("00-000"), [""; 0]);
}

#[test]
fn who_came_when_can_be_asked_for() {
    let world = World::new().at(10).given([create_worker("early")]).at(20).given([create_worker("late")]);
    for (since, before, expected) in
        [(None, None, "early late"), (Some(15), None, "late"), (None, Some(15), "early"), (Some(21), None, "")]
    {
        let everything = vec!["everything".parse().unwrap()];
        let selector = Selector::new(everything, since.map(seconds), before.map(seconds)).unwrap();
        let items = world.roll.select(&ISOLATE, &selector);
        let found: Vec<String> = items.iter().map(|item| in_short(&world, *item)).collect();
        assert_eq!(found.join(" "), expected, "{since:?} {before:?}");
    }
}

#[test]
fn a_plan_counts_who_is_left_without_a_key() {
    let world = fleet().given([
        create_key("a", 40),
        make_plan(1, PlanKind::RevokeAll, &["everything"]),
        make_plan(2, PlanKind::RevokeAll, &[&format!("key:{}", KeyId(20))]),
        make_plan(3, PlanKind::RevokeAll, &[LINEAGE]),
        make_plan(4, ISOLATE, &["everything"]),
    ]);
    let left = |plan: u128| world.roll.plan(PlanId(plan)).unwrap().left_without_key;
    assert_eq!([1, 2, 3, 4].map(left), [4, 0, 2, 0]);
}

#[test]
fn what_is_not_known_is_not_planned_for() {
    let world = fleet();
    let operators_key = format!("key:{}", KeyId(1));
    world.table(
        &admin(),
        &[
            (make_plan(1, ISOLATE, &["pool:green"]), "no: pool_unknown"),
            (make_plan(1, ISOLATE, &["worker:nobody"]), "no: worker_unknown"),
            (make_plan(1, ISOLATE, &["enrollment_secret:0000000000000000000009"]), "no: enrollment_secret_unknown"),
            (make_plan(1, PlanKind::RevokeAll, &["key:0000000000000000000099"]), "no: key_unknown"),
            (make_plan(1, PlanKind::RevokeAll, &[&operators_key]), "no: key_of_operator"),
            (make_plan(1, PlanKind::Isolate { until: Some(seconds(0)) }, &["everything"]), "no: invalid"),
            (make_plan(1, ISOLATE, &["label:no=body"]), "plan.made"),
            (Command::ApplyPlan { plan: PlanId(9), digest: Digest([0; 32]), signing_key: None }, "no: plan_unknown"),
        ],
    );
}

/// Whatever comes between the plan and its application and touches its list has it refused; all else has not.
#[test]
fn what_was_shown_is_applied_or_nothing_is() {
    let planned =
        fleet().given([make_plan(1, PlanKind::RevokeAll, &["pool:default"]), make_plan(2, ISOLATE, &["pool:default"])]);
    let key_made = create_key("a", 40);
    for (between, revokes, isolates) in [
        (vec![], "fence.raised plan.applied", "plan.applied"),
        (vec![create_key("d", 40)], "fence.raised plan.applied", "plan.applied"),
        (vec![key_made.clone()], "no: plan_changed", "plan.applied"),
        (vec![key_made, revoke(40)], "fence.raised plan.applied", "plan.applied"),
        (vec![revoke(20)], "no: plan_changed", "plan.applied"),
        (vec![rotate(20, 40, 0)], "no: plan_changed", "plan.applied"),
        (vec![create_worker("e")], "fence.raised plan.applied", "no: plan_changed"),
        (vec![isolate("a", None)], "fence.raised plan.applied", "no: plan_changed"),
        (vec![isolate("a", None), release("a")], "fence.raised plan.applied", "plan.applied"),
        (vec![remove_worker("a")], "no: plan_changed", "no: plan_changed"),
        (vec![rotate_secret(2, 5, 5, 0)], "no: plan_changed", "plan.applied"),
    ] {
        let world = planned.clone().given(between.clone());
        let found = [1, 2].map(|plan| outcome(&world.decide(&admin(), &apply_plan(&world, plan))));
        assert_eq!(found, [revokes, isolates], "{between:?}");
    }
    let wrong = Command::ApplyPlan { plan: PlanId(1), digest: Digest([0; 32]), signing_key: None };
    planned.table(&admin(), &[(wrong, "no: plan_digest")]);
    let late = planned.clone().at(i64::from(PLAN_TTL.0));
    late.table(&admin(), &[(apply_plan(&late, 1), "no: plan_expired")]);
    let mut applied = planned;
    applied.must(&admin(), &apply_plan(&applied.clone(), 1));
    applied.table(&admin(), &[(apply_plan(&applied, 1), "nothing")]);
    let later = applied.at(i64::from(PLAN_TTL.0));
    later.table(&operator(Role::Operator), &[(apply_plan(&later, 1), "nothing")]);
}

/// Which key works for whom.
fn accepted(world: &World) -> BTreeSet<(u128, WorkerIndex)> {
    let keys = world.roll.keys_after(None).into_iter().flatten();
    let pairs = keys.flat_map(|key| key.workers().iter().map(move |index| (key, *index)));
    let works = |(key, index): &(&Key, WorkerIndex)| {
        let holder = world.roll.worker_at(*index).unwrap();
        admit_worker_key(&world.roll, key, Some(holder.id.as_str()), world.now).is_ok()
    };
    pairs.filter(works).map(|(key, index)| (key.id.0, index)).collect()
}

/// The keys that work for somebody.
fn good(world: &World) -> BTreeSet<u128> {
    accepted(world).into_iter().map(|(key, _)| key).collect()
}

fn progress(world: &World, plan: u128) -> &Progress {
    world.roll.plan(PlanId(plan)).unwrap().progress.as_ref().unwrap()
}

/// Goes on with the plan to its end.
fn record(world: &mut World, plan: u128) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let go_on = Command::ContinuePlan { plan: PlanId(plan), done: progress(world, plan).done };
        let events = world.must(&system(), &go_on);
        if events.is_empty() {
            return all;
        }
        all.extend(events);
    }
}

#[test]
fn all_of_it_is_in_force_when_it_is_applied_and_recorded_after() {
    for (plan, criteria, works, records) in [
        (ISOLATE, &["label:os=linux"][..], vec![20, 21], "worker.isolated worker.isolated plan.progressed"),
        (PlanKind::RevokeAll, &["worker:a"], vec![21, 22, 23], "key.revoked plan.progressed"),
        (PlanKind::RevokeAll, &["label:os=linux"], vec![20, 21], "key.revoked plan.progressed"),
        (
            PlanKind::RevokeAll,
            &[LINEAGE],
            vec![22, 23],
            "key.revoked enrollment_secret.disabled enrollment_secret.disabled plan.progressed",
        ),
        (
            PlanKind::DisableEnrollment,
            &["pool:blue"],
            vec![20, 21, 22, 23],
            "enrollment_secret.disabled plan.progressed",
        ),
    ] {
        let mut world = fleet().given([make_plan(1, plan.clone(), criteria)]);
        world.must(&admin(), &apply_plan(&world.clone(), 1));
        assert_eq!(good(&world), works.iter().copied().collect(), "{plan:?} {criteria:?}");
        let recorded = record(&mut world, 1);
        assert_eq!(recorded.iter().map(kind).collect::<Vec<_>>().join(" "), records, "{plan:?} {criteria:?}");
        assert_eq!(good(&world), works.into_iter().collect(), "the record changes nothing: {plan:?} {criteria:?}");
        let Progress { total, done, changed, ref items, .. } = *progress(&world, 1);
        assert_eq!((done, changed, items.len()), (total, total, 0));
    }
}

#[test]
fn an_isolation_that_was_planned_ends_by_itself_or_by_a_plan() {
    let mut world = fleet().given([make_plan(1, PlanKind::Isolate { until: Some(seconds(60)) }, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    assert_eq!(good(&world), BTreeSet::new());
    assert_eq!(good(&world.clone().at(60)), BTreeSet::from([20, 21, 22, 23]));
    record(&mut world, 1);
    let mut world = world.given([make_plan(2, PlanKind::Release, &["pool:blue"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 2));
    assert_eq!(good(&world), BTreeSet::from([23]));
    assert_eq!(record(&mut world, 2).iter().map(kind).collect::<Vec<_>>(), ["worker.released", "plan.progressed"]);
}

/// Of a longer isolation a shorter one takes nothing back, and it is not on the list.
#[test]
fn the_longer_isolation_stands() {
    let world = fleet().given([isolate("a", None), isolate("b", Some(seconds(60)))]);
    assert_eq!(listed(&world, &PlanKind::Isolate { until: Some(seconds(90)) }, &["pool:default"]), "c b");
    assert_eq!(listed(&world, &PlanKind::Isolate { until: Some(seconds(30)) }, &["pool:default"]), "c");
}

#[test]
fn what_somebody_changed_since_stays_as_they_changed_it() {
    let mut world = fleet().given([make_plan(1, ISOLATE, &["pool:default"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    let mut world = world.given([release("a"), remove_worker("b")]);
    let recorded = record(&mut world, 1);
    assert_eq!(recorded.iter().map(kind).collect::<Vec<_>>(), ["worker.isolated", "plan.progressed"]);
    assert_eq!((progress(&world, 1).done, progress(&world, 1).changed), (3, 1));
    assert_eq!(world.roll.worker("a").unwrap().state, WorkerState::Active);
}

#[test]
fn two_that_go_on_with_one_plan_record_each_item_once() {
    let many = CHUNK_ITEMS + 3;
    let mut world = World::new().given((0..many).map(|number| create_worker(&format!("w{number}"))));
    world = world.given([make_plan(1, ISOLATE, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    let go_on = |done| Command::ContinuePlan { plan: PlanId(1), done };
    assert_eq!(world.must(&system(), &go_on(0)).len(), CHUNK_ITEMS + 1);
    assert_eq!(world.must(&system(), &go_on(0)), [], "the other node is late");
    assert_eq!(world.must(&system(), &go_on(CHUNK_ITEMS as u64)).len(), 4);
    assert_eq!(world.must(&system(), &go_on(many as u64)), []);
    assert_eq!((progress(&world, 1).done, progress(&world, 1).changed), (many as u64, many as u64));
}

#[test]
fn keys_are_revoked_by_lists_each_key_once() {
    let many = LISTED_KEYS + 3;
    let mut world = World::new().given((0..many).map(|number| create_worker(&format!("w{number}"))));
    world = world.given((0..many).map(|number| create_key(&format!("w{number}"), 1_000 + number as u128)));
    world = world.given([revoke(1_001), make_plan(1, PlanKind::RevokeAll, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    // Somebody is quicker with one of them: it is left out, and not counted.
    world.must(&admin(), &revoke(1_002));
    let recorded = record(&mut world, 1);
    let lists: Vec<&[KeyId]> = recorded
        .iter()
        .filter_map(|event| match event {
            Event::KeysRevoked { plan: PlanId(1), keys } => Some(&**keys),
            Event::PlanProgressed { .. } => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lists.iter().map(|list| list.len()).collect::<Vec<_>>(), [LISTED_KEYS - 1, 2]);
    let keys: BTreeSet<KeyId> = lists.concat().into_iter().collect();
    let expected = (1_000..1_000 + many as u128).filter(|id| ![1_001, 1_002].contains(id)).map(KeyId);
    assert_eq!(keys, expected.collect());
    assert_eq!((progress(&world, 1).done, progress(&world, 1).changed), (many as u64 - 1, many as u64 - 2));
    assert!(keys.iter().all(|key| world.roll.key(*key).unwrap().state == KeyState::Revoked));
}

#[test]
fn a_plan_that_is_late_is_recorded_by_longer_lists() {
    let many = REVOKED_KEYS_MAX + 500;
    let mut world = World::new().given((0..many).map(|number| create_worker(&format!("w{number}"))));
    world = world.given((0..many).map(|number| create_key(&format!("w{number}"), 1_000 + number as u128)));
    world = world.given([make_plan(1, PlanKind::RevokeAll, &["everything"])]);
    world.must(&admin(), &apply_plan(&world.clone(), 1));
    let applied_at = progress(&world, 1).applied_at;
    let begins = i64::try_from(RECORDED_IN.as_secs()).unwrap() / 6;
    // (seconds since, keys of the next list): a sixth of the plan is due after a sixth of the time, and some seconds more.
    for (seconds, length) in [(begins - 2, LISTED_KEYS), (begins + 4, LISTED_KEYS), (2 * begins + 8, REVOKED_KEYS_MAX)]
    {
        world.now = Timestamp(applied_at.0 + seconds * 1_000_000);
        let go_on = Command::ContinuePlan { plan: PlanId(1), done: progress(&world, 1).done };
        let listed: u64 =
            world.must(&system(), &go_on).iter().filter(|event| event.facts() > 1).map(Event::facts).sum();
        assert_eq!(listed, length as u64, "after {seconds} s");
    }
}

const CRITERIA: [&str; 8] = [
    "pool:default",
    "pool:blue",
    "worker:a",
    "worker:d",
    "label:os=linux",
    LINEAGE,
    "enrollment_secret:0000000000000000000002",
    "key:000000000000000000000M",
];

proptest! {
    /// Exactly what is on the list is refused, from the event on that applies it: no more, no less.
    #[test]
    fn a_plan_reaches_its_list_and_nothing_else(
        criteria in prop_oneof![Just(vec!["everything"]), subsequence(CRITERIA.to_vec(), 1..=3)],
        plan in select(vec![ISOLATE, PlanKind::RevokeAll]),
        before in subsequence(vec![isolate("a", None), share(22, "a"), rotate(20, 30, 60), create_key("d", 31), revoke(21)], 0..=5),
    ) {
        let mut world = fleet().given([update_pool("default", sharing())]).given(before);
        let criteria = criteria.iter().map(|text| text.parse().unwrap()).collect();
        let selector = Selector::new(criteria, None, None).unwrap();
        let items = world.roll.select(&plan, &selector);
        let reached = |(key, holder): &(u128, WorkerIndex)| {
            items.contains(&Item::Key(KeyId(*key))) || items.contains(&Item::Worker(*holder))
        };
        let expected: BTreeSet<_> = accepted(&world).into_iter().filter(|pair| !reached(pair)).collect();
        world.must(&admin(), &Command::MakePlan(MakePlan { plan: PlanId(1), kind: plan.clone(), selector, replaces: None }));
        world.must(&admin(), &apply_plan(&world.clone(), 1));
        prop_assert_eq!(accepted(&world), expected.clone());
        let recorded = record(&mut world, 1);
        prop_assert_eq!(accepted(&world), expected);
        let records = recorded.iter().filter(|event| !matches!(event, Event::PlanProgressed { .. }));
        prop_assert_eq!(records.map(Event::facts).sum::<u64>(), items.len() as u64);
        let revoked = |id: KeyId| world.roll.key(id).unwrap().state == KeyState::Revoked;
        prop_assert!(items.iter().all(|item| !matches!(item, Item::Key(id) if !revoked(*id))));
    }
}
