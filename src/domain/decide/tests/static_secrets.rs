//! Static secrets: values that callers chose. A value is somebody's for ever: in use it is refused, but where the pool
//! allows sharing; ended it is refused everywhere.

use super::wish::{
    create_pool, create_static, create_worker, create_worker_in, create_worker_with, digest, plain_key, pool_id,
    revoke, rotate, rotate_static, share, sharing, worker_id,
};
use super::{World, admin, outcome, seconds};
use crate::domain::command::{Command, CreateKey};
use crate::domain::event::{Event, KeyCreated, KeyHolder, WorkerCreated};
use crate::domain::ids::KeyId;
use crate::domain::key::{KeyKind, SECRET_SHARERS_MAX};
use crate::domain::worker::Labels;

/// Value 100 is in use in `blue`, which allows sharing; 101 in `default`, which does not; 102 was revoked in `blue`.
fn world() -> World {
    World::new().given([
        create_pool("blue", sharing()),
        create_pool("green", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_worker_in("green", "c"),
        create_worker("d"),
        create_worker("e"),
        create_static("a", 20, 100),
        create_static("d", 21, 101),
        create_static("a", 22, 102),
        revoke(22),
    ])
}

#[test]
fn a_value_is_free_in_use_shared_or_ended() {
    let world = world();
    world.table(
        &admin(),
        &[
            (create_static("b", 30, 999), "key.created"),
            (create_static("a", 30, 100), "nothing"),
            (create_static("b", 30, 100), "key.created"),
            (create_static("c", 30, 100), "no: static_secret_in_use"),
            (create_static("e", 30, 100), "no: static_secret_in_use"),
            (create_static("d", 30, 101), "nothing"),
            (create_static("e", 30, 101), "no: static_secret_in_use"),
            (create_static("b", 30, 101), "no: static_secret_in_use"),
            (create_static("a", 30, 102), "no: static_secret_revoked"),
            (create_static("b", 30, 102), "no: static_secret_revoked"),
            (create_static("e", 30, 102), "no: static_secret_revoked"),
            (create_worker_with("f", 30, 999), "worker.created key.created"),
            (create_worker_with("f", 30, 101), "no: static_secret_in_use"),
            (create_worker_with("f", 30, 102), "no: static_secret_revoked"),
            (create_worker_with("f", 20, 999), "no: key_exists"),
        ],
    );
    let both = world.given([create_static("b", 30, 100)]);
    let risks: Vec<KeyId> = both.roll.shared().map(|key| key.id).collect();
    assert_eq!(risks, [KeyId(20), KeyId(30)], "sharing is listed as a risk");
    // Shared in both ways it is still one risk, listed once.
    let twice = both.given([share(20, "b")]);
    let risks: Vec<KeyId> = twice.roll.shared().map(|key| key.id).collect();
    assert_eq!(risks, [KeyId(20), KeyId(30)]);
    let same: Vec<KeyId> = twice.roll.static_secrets(&digest(100)).map(|key| key.id).collect();
    assert_eq!(same, [KeyId(20), KeyId(30)]);
}

#[test]
fn a_rotation_brings_another_value() {
    let world = world();
    world.table(
        &admin(),
        &[
            (rotate_static(20, 30, 999, 0), "key.rotated"),
            (rotate_static(20, 30, 101, 0), "no: static_secret_in_use"),
            (rotate_static(20, 30, 102, 0), "no: static_secret_revoked"),
            // Its own value again would be no rotation, in a pool that allows sharing neither.
            (rotate_static(20, 30, 100, 0), "no: static_secret_in_use"),
            (rotate_static(21, 30, 101, 0), "no: static_secret_in_use"),
            (rotate_static(22, 30, 999, 0), "no: key_revoked"),
            (rotate(20, 30, 0), "no: key_kind"),
        ],
    );
}

/// A value that was rotated away because it leaked must not come back as another worker's, whoever allows sharing.
#[test]
fn a_value_that_ended_is_never_revived() {
    let expiring =
        CreateKey { kind: KeyKind::Static, verifier: digest(103), expires_at: Some(seconds(10)), ..plain_key("a", 23) };
    let world = world().given([rotate_static(20, 30, 200, 10), Command::CreateKey(expiring)]);
    let table = |second: i64, expected: &str| {
        let world = world.clone().at(second);
        world.table(&admin(), &[(create_static("b", 40, 100), expected), (create_static("b", 40, 103), expected)]);
    };
    table(9, "key.created");
    table(10, "no: static_secret_revoked");
    let world = world.at(10);
    assert_eq!(outcome(&world.decide(&admin(), &create_static("a", 40, 100))), "no: static_secret_revoked");
}

/// Through however many keys: each is looked at whenever the value is shown.
#[test]
fn a_value_serves_so_many_workers() {
    let mut world = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "next"),
        create_worker_in("blue", "other"),
        create_static("other", 20, 101),
    ]);
    // Recorded without being decided: deciding them one by one would be most of this test.
    for number in 1..SECRET_SHARERS_MAX {
        let worker = worker_id(&format!("w{number}"));
        let created = WorkerCreated {
            worker: worker.clone(),
            pool: pool_id("blue"),
            name: None,
            labels: Labels::new(),
            expires_at: None,
            pending: false,
            enrolled_by: None,
        };
        world.record(&admin(), None, Event::WorkerCreated(created));
        let (key, holder) = (KeyId(1_000 + number as u128), KeyHolder::Worker(worker));
        let (kind, verifier) = (KeyKind::Static, digest(100));
        world.record(&admin(), None, Event::KeyCreated(KeyCreated { key, holder, kind, verifier, expires_at: None }));
    }
    let lines = [(create_static("next", 30, 100), "key.created"), (share(1_001, "next"), "key.shared")];
    world.table(&admin(), &lines);
    for last in [create_static("next", 30, 100), share(1_001, "next")] {
        world.clone().given([last]).table(
            &admin(),
            &[
                (create_static("other", 31, 100), "no: too_many_sharers"),
                (share(1_001, "other"), "no: too_many_sharers"),
                (rotate_static(20, 31, 100, 0), "no: too_many_sharers"),
                (create_static("w1", 31, 100), "nothing"),
                (share(1_001, "w1"), "nothing"),
            ],
        );
    }
}
