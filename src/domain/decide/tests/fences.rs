//! Fences as tables: who raises them over what, what each refuses to whom, and what is given out afterwards.

use super::wish::{
    create_key, create_operator_key, create_pool, create_secret, create_secret_in, create_static, create_worker,
    create_worker_in, disable_secret, enroll, expire, fence, isolate, issue, lineage, remove_worker, renew, revoke,
    rotate, rotate_secret, rotate_static, share, sharing,
};
use super::{World, admin, by_key, by_token, enrollee, kind, operator, outcome, seconds};
use crate::domain::admit::{Denial, admit_operator_key, admit_token, admit_worker_key};
use crate::domain::command::Command;
use crate::domain::enrollment::{EnrollmentStanding, Limits};
use crate::domain::event::Event;
use crate::domain::fence::{FenceScope, Reach};
use crate::domain::ids::{EnrollmentSecretId, KeyId};
use crate::domain::key::KeyStanding;
use crate::domain::operator::Role;
use crate::domain::worker::WORKER_KEYS_MAX;

const RAISED: &str = "fence.raised";

/// Worker `a` was let into `default` by secret 1, `b` by its rotation 2; an operator made `c` there and `d` in `blue`.
/// Their keys are 20 to 23.
fn fleet() -> World {
    let mut world = World::new().given([
        create_pool("blue", sharing()),
        create_worker("c"),
        create_worker_in("blue", "d"),
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

fn newest(world: &World) -> u64 {
    world.roll.next_position() - 1
}

/// What a verdict says of the key, for its first holder.
fn verdict(world: &World, key: u128) -> Result<(), Denial> {
    let key = world.roll.key(KeyId(key)).unwrap();
    let first = world.roll.worker_at(key.workers()[0]).unwrap();
    admit_worker_key(&world.roll, key, Some(first.id.as_str()), world.now).map(|_| ())
}

fn good_keys(world: &World, keys: impl IntoIterator<Item = u128>) -> Vec<u128> {
    keys.into_iter().filter(|key| verdict(world, *key).is_ok()).collect()
}

fn open_secrets(world: &World) -> Vec<u128> {
    let open = world.roll.enrollment_secrets().filter(|secret| {
        matches!(secret.standing(world.now), EnrollmentStanding::Live | EnrollmentStanding::Overlapping)
    });
    open.map(|secret| secret.id.0).collect()
}

#[test]
fn a_fence_refuses_what_is_in_its_scope_and_nothing_beside() {
    let world = fleet();
    assert_eq!((good_keys(&world, 20..=23), open_secrets(&world)), (vec![20, 21, 22, 23], vec![1, 2, 3]));
    let table: [(Command, &[u128], &[u128]); 8] = [
        (fence("everything", None), &[], &[]),
        (fence("pool:default", None), &[23], &[3]),
        (fence("pool:blue", None), &[20, 21, 22], &[1, 2]),
        // A secret's line goes down: what it was rotated from is not known to have leaked.
        (lineage(1, None), &[22, 23], &[3]),
        (lineage(2, None), &[20, 22, 23], &[1, 3]),
        (lineage(3, None), &[20, 21, 22, 23], &[1, 2]),
        (fence("worker:a", None), &[21, 22, 23], &[1, 2, 3]),
        (fence("worker:d", None), &[20, 21, 22], &[1, 2, 3]),
    ];
    for (wish, keys, secrets) in table {
        let reach = reach(&world, &wish);
        let mut fenced = world.clone();
        assert_eq!(outcome(&fenced.obey(&admin(), &wish)), RAISED, "{wish:?}");
        assert_eq!(
            (good_keys(&fenced, 20..=23).as_slice(), open_secrets(&fenced).as_slice()),
            (keys, secrets),
            "{wish:?}"
        );
        for key in (20..=23).filter(|key| !keys.contains(key)) {
            assert_eq!(verdict(&fenced, key), Err(Denial::Fenced));
            let key = fenced.roll.key(KeyId(key)).unwrap();
            assert_eq!(fenced.roll.key_standing(key, fenced.now), KeyStanding::Fenced);
        }
        let lost = 4 - keys.len() as u64;
        let expected = Reach { keys: lost, workers: lost, enrollment_secrets: 3 - secrets.len() as u64 };
        assert_eq!(reach, expected, "the plan of {wish:?}");
        for role in Role::ALL {
            let key = fenced.roll.key(KeyId(super::id_of(role))).unwrap();
            assert!(admit_operator_key(&fenced.roll, key, fenced.now).is_ok(), "operators stay: {wish:?}");
        }
    }
}

/// What the service counts before it raises the fence.
fn reach(world: &World, wish: &Command) -> Reach {
    let Command::RaiseFence { scope, up_to } = wish else { panic!("a fence: {wish:?}") };
    world.roll.reach(scope, up_to.unwrap_or(newest(world)), world.now)
}

#[test]
fn a_fence_is_over_what_there_is_and_never_in_the_future() {
    let world = fleet().given([fence("pool:blue", Some(5))]);
    let newest = newest(&world);
    world.table(
        &admin(),
        &[
            (fence("everything", Some(newest)), RAISED),
            (fence("everything", Some(0)), RAISED),
            (fence("everything", Some(newest + 1)), "no: invalid"),
            (fence("everything", Some(u64::MAX)), "no: invalid"),
            (fence("pool:green", None), "no: pool_unknown"),
            (fence("worker:z", None), "no: worker_unknown"),
            (lineage(9, None), "no: enrollment_secret_unknown"),
            // Each scope has its own: only what is above it is another fence.
            (fence("pool:blue", Some(4)), "nothing"),
            (fence("pool:blue", Some(5)), "nothing"),
            (fence("pool:blue", Some(6)), RAISED),
            (fence("pool:default", Some(4)), RAISED),
            (fence("pool:blue", None), RAISED),
        ],
    );
    let gone = world.given([remove_worker("a"), disable_secret(1)]);
    gone.table(&admin(), &[(fence("worker:a", None), RAISED), (lineage(1, None), RAISED)]);
}

#[test]
fn the_plain_wish_is_everything_that_was_issued_so_far() {
    let mut world = fleet();
    let newest = newest(&world);
    let events = world.must(&admin(), &fence("everything", None));
    assert_eq!(events, [Event::FenceRaised { scope: FenceScope::Everything, up_to: newest }]);
    let standing = *world.roll.fence(&FenceScope::Everything).unwrap();
    assert_eq!((standing.up_to, standing.raised), (newest, newest + 1));
    let events = world.must(&admin(), &fence("everything", None));
    assert_eq!(events, [Event::FenceRaised { scope: FenceScope::Everything, up_to: newest + 1 }]);
}

#[test]
fn of_the_fences_over_one_scope_the_highest_stands_in_the_list() {
    let world = fleet().given([
        fence("worker:a", Some(3)),
        fence("everything", Some(7)),
        lineage(1, Some(2)),
        fence("pool:default", Some(1)),
        fence("everything", Some(5)),
        fence("everything", Some(8)),
    ]);
    let listed = |cursor| {
        let fences = world.roll.fences_after(cursor);
        fences.map(|(scope, fence)| (scope.to_string(), fence.up_to)).collect::<Vec<_>>()
    };
    let secret = format!("enrollment_secret:{}", EnrollmentSecretId(1));
    let all = [("everything", 8), ("pool:default", 1), (&secret, 2), ("worker:a", 3)];
    let all = all.map(|(scope, up_to)| (scope.to_owned(), up_to));
    assert_eq!(listed(None), all);
    assert_eq!(listed(Some(&"pool:default".parse().unwrap())), all[2..]);
}

#[test]
fn what_is_issued_after_the_fence_is_good_at_once() {
    let mut world = fleet();
    let token = world.token("a", 20, 50);
    let mut world = world.given([fence("everything", None)]);
    world.table(
        &admin(),
        &[
            (create_key("a", 30), "key.created"),
            (create_secret(9, Limits::default()), "enrollment_secret.created"),
            // What a fence refuses is not made good by another's hand.
            (rotate(20, 30, 0), "no: key_fenced"),
            (rotate_secret(2, 9, 9, 0), "no: enrollment_secret_fenced"),
            (revoke(20), "key.revoked"),
            (disable_secret(2), "enrollment_secret.disabled"),
        ],
    );
    for (who, wish) in [
        (by_key("a", 20), issue(51, "a", 20)),
        (by_key("a", 20), rotate(20, 30, 0)),
        (by_token(&token), renew(51, &token)),
    ] {
        assert_eq!(outcome(&world.decide(&who, &wish)), "no: fenced", "{wish:?}");
    }
    assert_eq!(outcome(&world.decide(&enrollee(2), &enroll(2, "e", 30))), "no: enrollment_secret_fenced");
    assert_eq!(outcome(&world.decide(&by_key("a", 20), &revoke(20))), "key.revoked", "a key can always end itself");

    world = world.given([create_key("a", 30), create_secret(9, Limits::default())]);
    world.must(&enrollee(9), &enroll(9, "e", 31));
    let token = world.token("a", 30, 60);
    let token = world.renewed(&token, 61);
    assert!(admit_token(&world.roll, &token, world.now).is_ok());
    world.must(&by_key("a", 30), &rotate(30, 32, 0));
    assert_eq!(good_keys(&world, [20, 21, 22, 23, 30, 31, 32]), [31, 32]);
}

/// What is decided in one batch is decided in its order: the same positions, the same answers.
#[test]
fn between_two_commands_of_one_batch_the_position_tells() {
    let mut world = World::new().given([create_worker("a")]);
    for (step, wish) in [create_key("a", 20), fence("worker:a", None), create_key("a", 21)].iter().enumerate() {
        assert!(!world.must(&admin(), wish).is_empty(), "{step}");
    }
    assert_eq!((verdict(&world, 20), verdict(&world, 21)), (Err(Denial::Fenced), Ok(())));
    let positions = [20, 21].map(|key| world.roll.key(KeyId(key)).unwrap().issued);
    assert_eq!(positions[1], positions[0] + 2, "the fence is between them");
}

/// A key's own end is told before a fence, and a fence before what is true of the worker.
#[test]
fn a_verdict_names_one_reason() {
    let world = World::new().given([create_worker("a"), create_key("a", 20), fence("worker:a", None)]);
    for (wishes, expected) in [
        (vec![], Denial::Fenced),
        (vec![isolate("a", None)], Denial::Fenced),
        (vec![expire("a", Some(seconds(5)))], Denial::Fenced),
        (vec![revoke(20)], Denial::KeyRevoked),
        (vec![revoke(20), isolate("a", None)], Denial::KeyRevoked),
    ] {
        let world = world.clone().given(wishes.clone()).at(10);
        assert_eq!(verdict(&world, 20), Err(expected), "{wishes:?}");
    }
}

#[test]
fn a_worker_with_all_the_keys_it_may_have_can_be_given_another_after_a_fence() {
    let most = u128::try_from(WORKER_KEYS_MAX).unwrap();
    let world = World::new().given([create_worker("a")]).given((0..most).map(|n| create_key("a", 20 + n)));
    assert_eq!(outcome(&world.decide(&admin(), &create_key("a", 99))), "no: too_many_keys");
    let world = world.given([fence("worker:a", None)]);
    assert_eq!(outcome(&world.decide(&admin(), &create_key("a", 99))), "key.created");
}

#[test]
fn a_shared_key_is_refused_to_the_worker_behind_the_fence_and_made_nothing_of() {
    let world = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_worker_in("blue", "c"),
        create_key("a", 20),
        share(20, "b"),
        fence("worker:b", None),
    ]);
    let key = world.roll.key(KeyId(20)).unwrap();
    let admitted = |worker| admit_worker_key(&world.roll, key, Some(worker), world.now).map(|_| ());
    assert_eq!((admitted("a"), admitted("b")), (Ok(()), Err(Denial::Fenced)));
    assert_eq!(world.roll.key_standing(key, world.now), KeyStanding::Live, "for one of its workers it is good");
    world.table(&admin(), &[(rotate(20, 30, 0), "no: key_fenced"), (share(20, "c"), "no: key_fenced")]);
    assert_eq!(outcome(&world.decide(&by_key("a", 20), &rotate(20, 30, 0))), "no: key_fenced");
    // Nor is an old key given to a worker to whom it would be refused.
    let world = world.given([create_key("c", 21)]);
    let behind = world.clone().given([fence("worker:a", None)]);
    assert_eq!(outcome(&behind.decide(&admin(), &share(21, "a"))), "no: key_fenced");
    assert_eq!(outcome(&world.decide(&admin(), &share(21, "a"))), "key.shared");
}

#[test]
fn a_static_secret_behind_a_fence_never_comes_back() {
    let mut world = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_static("a", 20, 100),
    ]);
    let token = world.token("a", 20, 50);
    let world = world.given([fence("pool:blue", None)]);
    assert_eq!(verdict(&world, 20), Err(Denial::Fenced));
    assert_eq!(admit_token(&world.roll, &token, world.now).err(), Some(Denial::Fenced));
    world.table(
        &admin(),
        &[
            (create_static("a", 30, 100), "no: static_secret_revoked"),
            (create_static("b", 30, 100), "no: static_secret_revoked"),
            (rotate_static(20, 30, 101, 0), "no: key_fenced"),
            (create_static("a", 30, 101), "key.created"),
        ],
    );
}

/// A fence at an earlier position: what was made since with what it refuses is refused too, as far as no operator made it.
#[test]
fn what_came_of_a_refused_credential_by_its_own_power_is_refused() {
    let mut world = World::new().given([
        create_worker("a"),
        create_key("a", 20),
        create_key("a", 25),
        create_key("a", 40),
        create_secret(1, Limits::default()),
    ]);
    let leaked = newest(&world);
    for (key, successor) in [(20, 21), (21, 22), (25, 23)] {
        world.must(&by_key("a", key), &rotate(key, successor, 3_600));
    }
    let token = world.token("a", 22, 50);
    world.must(&admin(), &rotate(40, 41, 3_600));
    world.must(&by_key("a", 41), &rotate(41, 42, 3_600));
    world.must(&enrollee(1), &enroll(1, "e", 30));
    world.must(&by_key("e", 30), &rotate(30, 31, 3_600));
    let world = world.given([create_key("e", 33), revoke(23)]);
    let keys = [20, 21, 22, 23, 25, 30, 31, 33, 40, 41, 42];
    assert_eq!(good_keys(&world, keys), [20, 21, 22, 25, 30, 31, 33, 40, 41, 42]);

    let planned = reach(&world, &fence("everything", Some(leaked)));
    assert_eq!(planned, Reach { keys: 7, workers: 2, enrollment_secrets: 1 });
    let fenced = world.given([fence("everything", Some(leaked))]);
    assert_eq!(good_keys(&fenced, keys), [33, 41, 42], "what an operator made stays, with what came of it");
    assert_eq!(admit_token(&fenced.roll, &token, fenced.now).err(), Some(Denial::Fenced));
    for (key, expected) in [(21, Denial::Fenced), (22, Denial::Fenced), (23, Denial::KeyRevoked), (31, Denial::Fenced)]
    {
        assert_eq!(verdict(&fenced, key), Err(expected), "{key}");
    }
    // A second such fence takes nothing of what was issued after the first.
    let again = fenced.given([create_key("e", 34), fence("pool:default", Some(leaked + 1))]);
    assert_eq!(good_keys(&again, [33, 34, 41, 42]), [33, 34, 41, 42]);
}

#[test]
fn admins_and_operators_raise_fences_and_their_own_keys_are_in_none() {
    let world = fleet().given([create_operator_key(2, 30)]);
    for (role, expected) in [
        (Role::Admin, RAISED),
        (Role::Operator, RAISED),
        (Role::Auditor, "no: not_permitted"),
        (Role::Gateway, "no: not_permitted"),
    ] {
        assert_eq!(outcome(&world.decide(&operator(role), &fence("everything", None))), expected, "{role}");
    }
    let events = world.clone().must(&operator(Role::Operator), &fence("everything", None));
    assert_eq!(events.iter().map(kind).collect::<Vec<_>>(), [RAISED], "one event, whatever it refuses");
    let fenced = world.given([fence("everything", None)]);
    for key in [1, 2, 30] {
        let key = fenced.roll.key(KeyId(key)).unwrap();
        assert_eq!(fenced.roll.key_standing(key, fenced.now), KeyStanding::Live);
    }
}
