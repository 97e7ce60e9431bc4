//! Enrollment: who holds the secret gets a worker with a key of its own; past the secret's limits the worker waits, or
//! is refused.

use super::wish::{
    approve, create_secret, create_secret_in, digest, disable_secret, enroll, enroll_named, ensure_secret, pool_id,
    reject, remove_worker, rotate_secret, text, worker_id,
};
use super::{World, admin, enrollee, from, outcome, seconds};
use crate::domain::admit::{Denial, admit_worker_key};
use crate::domain::enrollment::{CIDRS_MAX, Limits, NamePattern, PENDING_MAX};
use crate::domain::event::{Event, KeyCreated, KeyHolder, WorkerCreated};
use crate::domain::ids::{EnrollmentSecretId, KeyId};
use crate::domain::key::{KeyKind, OVERLAP_MAX};
use crate::domain::worker::Labels;

const IN: &str = "worker.created key.created";
const WAITS: &str = "worker.created(pending) key.created";

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

fn waiting(world: &World, secret: u128) -> (u64, u64) {
    let secret = world.roll.enrollment_secret(EnrollmentSecretId(secret)).unwrap();
    (secret.uses, secret.pending)
}

#[test]
fn a_secret_is_created_rotated_and_disabled() {
    let world = World::new().given([
        create_secret(1, Limits::default()),
        create_secret(2, Limits::default()),
        disable_secret(2),
        create_secret(3, limits(|it| it.expires_at = Some(seconds(10)))),
        create_secret(4, Limits::default()),
        rotate_secret(4, 5, 5, 10),
    ]);
    world.clone().at(10).table(
        &admin(),
        &[
            (create_secret(9, Limits::default()), "enrollment_secret.created"),
            (create_secret_in("default", 1, 9, Limits::default()), "no: invalid"),
            (create_secret_in("default", 9, 1, Limits::default()), "no: enrollment_secret_in_use"),
            // Not even what was disabled comes back as another's.
            (create_secret_in("default", 9, 2, Limits::default()), "no: enrollment_secret_in_use"),
            (rotate_secret(1, 9, 9, 0), "enrollment_secret.rotated"),
            (rotate_secret(1, 9, 9, OVERLAP_MAX.0 + 1), "no: invalid"),
            (rotate_secret(1, 9, 1, 0), "no: enrollment_secret_in_use"),
            (rotate_secret(1, 2, 9, 0), "no: invalid"),
            (rotate_secret(2, 9, 9, 0), "no: enrollment_secret_ended"),
            (rotate_secret(3, 9, 9, 0), "no: enrollment_secret_ended"),
            (rotate_secret(4, 9, 9, 0), "no: enrollment_secret_ended"),
            (rotate_secret(99, 9, 9, 0), "no: enrollment_secret_unknown"),
            (disable_secret(1), "enrollment_secret.disabled"),
            (disable_secret(2), "nothing"),
            (disable_secret(3), "enrollment_secret.disabled"),
            (disable_secret(4), "enrollment_secret.disabled"),
            (disable_secret(99), "no: enrollment_secret_unknown"),
        ],
    );
    assert_eq!(outcome(&world.at(9).decide(&admin(), &rotate_secret(4, 9, 9, 0))), "enrollment_secret.rotated");
}

#[test]
fn limits_have_limits() {
    let world = World::new().at(5);
    let cidrs = |count| limits(|it| it.cidrs = vec!["10.0.0.0/8".parse().unwrap(); count].into());
    let uses = |most| limits(|it| it.uses_max = Some(most));
    let expires = |second| limits(|it| it.expires_at = Some(seconds(second)));
    world.table(
        &admin(),
        &[
            (create_secret(1, cidrs(CIDRS_MAX)), "enrollment_secret.created"),
            (create_secret(1, cidrs(CIDRS_MAX + 1)), "no: invalid"),
            (create_secret(1, uses(1)), "enrollment_secret.created"),
            (create_secret(1, uses(0)), "no: invalid"),
            (create_secret(1, expires(6)), "enrollment_secret.created"),
            (create_secret(1, expires(5)), "no: invalid"),
        ],
    );
}

/// What is asked for at every start: a value that is known holds already, even one that was disabled.
#[test]
fn ensuring_a_secret_never_revives_one() {
    let world = World::new().given([create_secret(1, Limits::default()), disable_secret(1)]);
    for (wish, expected) in [
        (ensure_secret("default", 9, 9), "enrollment_secret.created"),
        (ensure_secret("default", 9, 1), "nothing"),
        (ensure_secret("default", 1, 9), "no: invalid"),
        (ensure_secret("none", 9, 9), "no: pool_unknown"),
    ] {
        assert_eq!(outcome(&world.decide(&super::system(), &wish)), expected, "{wish:?}");
    }
}

#[test]
fn who_is_let_in_gets_a_key_and_carries_the_lineage() {
    let mut world = World::new().given([create_secret(1, Limits::default())]);
    let events = world.must(&enrollee(1), &enroll_named(1, "a", Some("web"), 10));
    let worker = WorkerCreated {
        worker: worker_id("a"),
        pool: pool_id("default"),
        name: Some(text("web")),
        labels: Labels::new(),
        expires_at: None,
        pending: false,
        enrolled_by: Some(EnrollmentSecretId(1)),
    };
    let key = KeyCreated {
        key: KeyId(10),
        holder: KeyHolder::Worker(worker_id("a")),
        kind: KeyKind::Api,
        verifier: digest(10),
        expires_at: None,
    };
    assert_eq!(events, [Event::WorkerCreated(worker), Event::KeyCreated(key)]);
    assert_eq!(waiting(&world, 1), (1, 0));
}

#[test]
fn a_secret_lets_in_while_it_stands() {
    let mut world = World::new().given([
        create_secret(1, Limits::default()),
        create_secret(2, Limits::default()),
        rotate_secret(2, 3, 3, 10),
        create_secret(4, limits(|it| it.expires_at = Some(seconds(10)))),
        create_secret(5, Limits::default()),
        disable_secret(5),
        create_secret(6, Limits::default()),
        rotate_secret(6, 7, 7, 0),
    ]);
    world.must(&enrollee(1), &enroll(1, "taken", 10));
    let table = |second, lines: &[(u128, &str)]| {
        let world = world.clone().at(second);
        for (secret, expected) in lines {
            let found = outcome(&world.decide(&enrollee(*secret), &enroll(*secret, "a", 11)));
            assert_eq!(found, *expected, "secret {secret} at {second}");
        }
    };
    let ended = "no: enrollment_secret_ended";
    table(9, &[(1, IN), (2, IN), (3, IN), (4, IN), (5, ended), (6, ended), (7, IN)]);
    table(10, &[(1, IN), (2, ended), (3, IN), (4, ended), (5, ended), (99, "no: enrollment_secret_unknown")]);
    world.table(
        &enrollee(1),
        &[
            (enroll(1, "taken", 11), "no: worker_exists"),
            (enroll(1, "a", 10), "no: key_exists"),
            (enroll_named(1, "a", Some(""), 11), "no: invalid"),
            (enroll(2, "a", 11), "no: enrollment_secret"),
        ],
    );
}

#[test]
fn a_source_and_a_name_must_fit() {
    let narrow = limits(|it| {
        it.cidrs = vec!["10.0.0.0/8".parse().unwrap()].into();
        it.name_pattern = Some(NamePattern::new("web-[0-9]+").unwrap());
    });
    let world = World::new().given([create_secret(1, narrow)]);
    for (source, name, expected) in [
        (Some("10.1.2.3"), Some("web-1"), IN),
        (Some("11.1.2.3"), Some("web-1"), "no: enrollment_source"),
        (None, Some("web-1"), "no: enrollment_source"),
        (Some("10.1.2.3"), Some("db-1"), "no: enrollment_name"),
        (Some("10.1.2.3"), None, "no: enrollment_name"),
    ] {
        let who = source.map_or(enrollee(1), |source| from(source, enrollee(1)));
        let found = outcome(&world.decide(&who, &enroll_named(1, "a", name, 10)));
        assert_eq!(found, expected, "{name:?} from {source:?}");
    }
}

#[test]
fn past_its_uses_everyone_waits() {
    let mut world = World::new().given([create_secret(1, limits(|it| it.uses_max = Some(2)))]);
    for (worker, key, expected) in [("a", 10, IN), ("b", 11, IN), ("c", 12, WAITS), ("d", 13, WAITS)] {
        assert_eq!(outcome(&world.obey(&enrollee(1), &enroll(1, worker, key))), expected, "{worker}");
    }
    assert_eq!(waiting(&world, 1), (4, 2));
    // Who left was let in all the same: a use is not given back.
    let world = world.given([remove_worker("a"), approve("c"), reject("d")]);
    assert_eq!(waiting(&world, 1), (4, 0));
    assert_eq!(outcome(&world.decide(&enrollee(1), &enroll(1, "e", 14))), WAITS);
}

#[test]
fn who_waits_is_let_in_by_approval_alone() {
    let mut world = World::new().given([create_secret(1, limits(|it| it.approval = true))]);
    for (worker, key) in [("a", 10), ("b", 11), ("c", 12), ("d", 13)] {
        assert_eq!(outcome(&world.obey(&enrollee(1), &enroll(1, worker, key))), WAITS);
    }
    let world = world.given([approve("a"), reject("b"), remove_worker("c")]);
    assert_eq!(waiting(&world, 1), (4, 1));
    for (key, expected) in [
        (10, None),
        (11, Some(Denial::WorkerRejected)),
        (12, Some(Denial::WorkerRemoved)),
        (13, Some(Denial::WorkerPending)),
    ] {
        let key = world.roll.key(KeyId(key)).unwrap();
        assert_eq!(admit_worker_key(&world.roll, key, None, world.now).err(), expected);
    }
    // A rejected worker that is removed too waits no less for it.
    assert_eq!(waiting(&world.given([remove_worker("b")]), 1), (4, 1));
}

/// Whoever has a leaked secret must not be able to fill the log with workers that nobody approves.
#[test]
fn the_waiting_room_has_so_many_seats() {
    let mut world =
        World::new().given([create_secret(1, limits(|it| it.approval = true)), create_secret(2, Limits::default())]);
    for number in 0..PENDING_MAX {
        let worker = format!("w{number}");
        assert_eq!(outcome(&world.obey(&enrollee(1), &enroll(1, &worker, 100 + u128::from(number)))), WAITS);
    }
    let next = enroll(1, "next", 10);
    assert_eq!(outcome(&world.decide(&enrollee(1), &next)), "no: enrollment_crowded");
    assert_eq!(outcome(&world.decide(&enrollee(2), &enroll(2, "next", 10))), IN, "another secret's room is empty");
    for free in [approve("w1"), reject("w2"), remove_worker("w3")] {
        assert_eq!(outcome(&world.clone().given([free]).decide(&enrollee(1), &next)), WAITS);
    }
}
