//! API keys: several a worker, shared where the pool says so, rotated with an overlap, revoked, and never revived.

use super::wish::{
    create_key, create_key_until, create_operator_key, create_pending_worker, create_pool, create_worker,
    create_worker_in, digest, isolate, plain_key, pool_id, reject, remove_operator, remove_worker, revoke,
    revoke_alone, rotate, rotate_static, rotate_until, share, sharing, update_pool, worker_id,
};
use super::workers::one_in_each_state;
use super::{World, admin, by_key, operator_by, outcome, seconds};
use crate::domain::admit::{Denial, admit_key};
use crate::domain::command::{Command, CreateKey};
use crate::domain::event::{Event, KeyCreated, WorkerCreated};
use crate::domain::ids::KeyId;
use crate::domain::key::{Holder, KeyKind, KeyStanding, KeyState, OVERLAP_MAX, SHARERS_MAX};
use crate::domain::operator::{OPERATOR_KEYS_MAX, Role};
use crate::domain::pool::PoolSettings;
use crate::domain::worker::{Labels, WORKER_KEYS_MAX};

/// Keys of worker `a` in each standing at second 10; 20 is live, 21 overlaps, 22 and 23 have ended, 24 is revoked.
fn one_in_each_standing() -> World {
    World::new()
        .given([
            create_worker("a"),
            create_key("a", 20),
            create_key("a", 21),
            rotate(21, 31, 20),
            create_key("a", 22),
            rotate(22, 32, 10),
            create_key_until("a", 23, seconds(10)),
            create_key("a", 24),
            revoke(24),
        ])
        .at(10)
}

#[test]
fn the_standing_is_the_state_at_a_moment() {
    let world = one_in_each_standing();
    for (key, standing, admitted) in [
        (20, KeyStanding::Live, Ok(())),
        (21, KeyStanding::Overlapping, Ok(())),
        (22, KeyStanding::Expired, Err(Denial::KeyExpired)),
        (23, KeyStanding::Expired, Err(Denial::KeyExpired)),
        (24, KeyStanding::Revoked, Err(Denial::KeyRevoked)),
        (31, KeyStanding::Live, Ok(())),
    ] {
        let key = world.roll.key(KeyId(key)).unwrap();
        assert_eq!((key.standing(world.now), admit_key(key, world.now)), (standing, admitted), "{key:?}");
        assert_eq!(key.is_good(world.now), admitted.is_ok(), "{key:?}");
    }
}

#[test]
fn a_key_is_created_for_a_member_of_the_fleet() {
    let mut world = one_in_each_state();
    world.table(
        &admin(),
        &[
            (create_key("pending", 20), "key.created"),
            (create_key("active", 20), "key.created"),
            (create_key("isolated", 20), "key.created"),
            (create_key("expired", 20), "key.created"),
            (create_key("rejected", 20), "no: worker_rejected"),
            (create_key("removed", 20), "no: worker_removed"),
            (create_key("unknown", 20), "no: worker_unknown"),
            (create_key("active", 1), "no: key_exists"),
            (create_key_until("active", 20, seconds(11)), "key.created"),
            (create_key_until("active", 20, seconds(10)), "no: invalid"),
        ],
    );
    let events = world.must(&admin(), &create_key_until("active", 20, seconds(11)));
    let CreateKey { key, holder, kind, verifier, .. } = plain_key("active", 20);
    let expected = KeyCreated { key, holder, kind, verifier, expires_at: Some(seconds(11)) };
    assert_eq!(events, [Event::KeyCreated(expected)]);
}

#[test]
fn a_worker_holds_so_many_live_keys() {
    let most = u128::try_from(WORKER_KEYS_MAX).unwrap();
    let world = World::new().given([create_worker("a")]).given((0..most).map(|n| create_key("a", 20 + n)));
    world.table(
        &admin(),
        &[
            (create_key("a", 99), "no: too_many_keys"),
            (rotate(20, 99, 60), "no: too_many_keys"),
            // One goes as the other comes: a leaked key can be rotated however many there are.
            (rotate(20, 99, 0), "key.rotated"),
        ],
    );
    let world = world.given([revoke(20)]);
    assert_eq!(outcome(&world.decide(&admin(), &create_key("a", 99))), "key.created");
}

#[test]
fn an_operator_holds_so_many_live_keys() {
    let most = u128::try_from(OPERATOR_KEYS_MAX).unwrap();
    let world = World::new().given((1..most).map(|n| create_operator_key(2, 20 + n)));
    world.table(
        &admin(),
        &[
            (create_operator_key(2, 99), "no: too_many_keys"),
            (rotate(2, 99, 60), "no: too_many_keys"),
            (rotate(2, 99, 0), "key.rotated"),
            (create_operator_key(3, 99), "key.created"),
            (create_operator_key(99, 99), "no: operator_unknown"),
        ],
    );
    let world = world.given([remove_operator(3)]);
    world.table(
        &admin(),
        &[(create_operator_key(3, 99), "no: operator_removed"), (rotate(3, 99, 0), "no: operator_removed")],
    );
}

/// Nobody types an operator's key; a value that people choose is guessed by people.
#[test]
fn an_operator_has_no_static_secret() {
    let Command::CreateKey(create) = create_operator_key(2, 99) else { panic!("it creates a key") };
    let wish = Command::CreateKey(CreateKey { kind: KeyKind::Static, ..create });
    assert_eq!(outcome(&World::new().decide(&admin(), &wish)), "no: invalid");
}

#[test]
fn rotating_a_key_in_each_standing() {
    let world = one_in_each_standing();
    world.table(
        &admin(),
        &[
            (rotate(20, 40, 0), "key.rotated"),
            (rotate(20, 40, OVERLAP_MAX.0), "key.rotated"),
            (rotate(20, 40, OVERLAP_MAX.0 + 1), "no: invalid"),
            (rotate(20, 21, 0), "no: key_exists"),
            (rotate(20, 20, 0), "no: key_exists"),
            (rotate(21, 40, 0), "no: key_already_rotated"),
            (rotate(22, 40, 0), "no: key_expired"),
            (rotate(23, 40, 0), "no: key_expired"),
            (rotate(24, 40, 0), "no: key_revoked"),
            (rotate(99, 40, 0), "no: key_unknown"),
            (rotate_static(20, 40, 40, 0), "no: key_kind"),
            (rotate_until(20, 40, 0, Some(seconds(10))), "no: invalid"),
            (rotate_until(20, 40, 0, Some(seconds(11))), "key.rotated"),
        ],
    );
    let expected = Event::KeyRotated {
        key: KeyId(20),
        successor: KeyId(40),
        verifier: digest(40),
        expires_at: None,
        overlap_until: seconds(70),
        derived: false,
    };
    assert_eq!(world.decide(&admin(), &rotate(20, 40, 60)), Ok(vec![expected]));
}

#[test]
fn rotating_the_key_of_a_worker_in_each_state() {
    let mut world = World::new().given([create_pending_worker("pending"), create_pending_worker("rejected")]);
    world = world.given(["active", "isolated", "removed"].map(create_worker));
    let workers = ["pending", "rejected", "active", "isolated", "removed"];
    world = world.given(workers.into_iter().zip(20..).map(|(worker, key)| create_key(worker, key)));
    world = world.given([reject("rejected"), isolate("isolated", None), remove_worker("removed")]);
    world.table(
        &admin(),
        &[
            (rotate(20, 40, 0), "key.rotated"),
            (rotate(21, 40, 0), "no: worker_rejected"),
            (rotate(22, 40, 0), "key.rotated"),
            (rotate(23, 40, 0), "key.rotated"),
            (rotate(24, 40, 0), "no: worker_removed"),
        ],
    );
}

/// Two who rotate one key at once would each deploy another successor, and one of them would be nobody's.
#[test]
fn a_key_has_one_successor_that_works() {
    let world = World::new().given([create_worker("a"), create_key("a", 20), rotate(20, 21, 10), rotate(21, 22, 5)]);
    world.table(
        &admin(),
        &[(rotate(20, 40, 0), "no: key_already_rotated"), (rotate(21, 40, 0), "no: key_already_rotated")],
    );
    let by_itself = world.decide(&by_key("a", 20), &rotate(20, 40, 0)).unwrap_err();
    assert!(by_itself.to_string().contains(&KeyId(21).to_string()), "{by_itself}");
    // Its successor's end, by time or by hand, opens it again: the overlap is there to be recovered in.
    assert_eq!(outcome(&world.clone().at(6).decide(&admin(), &rotate(20, 40, 0))), "key.rotated");
    assert_eq!(outcome(&world.given([revoke_alone(21)]).decide(&admin(), &rotate(20, 40, 0))), "key.rotated");
}

/// The old key is good for the overlap, both are then; a second rotation never makes the overlap longer.
#[test]
fn an_overlap_ends_by_itself_and_is_never_prolonged() {
    let mut world = World::new().given([create_worker("a"), create_key("a", 20), rotate(20, 21, 10)]);
    let good =
        |world: &World| [20, 21, 22].map(|key| world.roll.key(KeyId(key)).is_some_and(|key| key.is_good(world.now)));
    world = world.at(9);
    assert_eq!(good(&world), [true, true, false]);
    let again = world.clone().given([revoke_alone(21)]);
    let prolonged = again.clone().given([rotate(20, 22, 100)]);
    assert_eq!(good(&prolonged), [true, false, true]);
    assert_eq!(good(&prolonged.at(10)), [false, false, true]);
    assert_eq!(good(&again.given([rotate(20, 22, 0)])), [false, false, true]);
    assert_eq!(good(&world.at(10)), [false, true, false]);
}

#[test]
fn a_successor_keeps_the_holders_the_kind_and_the_lineage() {
    let world = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_key("a", 20),
        share(20, "b"),
        rotate(20, 21, 60),
    ]);
    let (parent, successor) = (world.roll.key(KeyId(20)).unwrap(), world.roll.key(KeyId(21)).unwrap());
    assert_eq!(parent.state, KeyState::Superseded { until: seconds(60) });
    assert_eq!((&successor.holder, successor.kind), (&parent.holder, parent.kind));
    assert!(matches!(&successor.holder, Holder::Workers(all) if all.len() == 2));
    assert_eq!((successor.parent, successor.derived), (Some(KeyId(20)), false));
    assert!(successor.issued > parent.issued);
    for worker in ["a", "b"] {
        assert_eq!(world.roll.worker(worker).unwrap().keys, [KeyId(20), KeyId(21)]);
    }
}

/// A key that was lent for a month must not become one for ever by its holder's own rotation. An operator may prolong it.
#[test]
fn a_key_rotated_with_itself_does_not_outlive_itself() {
    let world = World::new().given([create_worker("a"), create_key_until("a", 20, seconds(50))]);
    let expires_at = |who, asked| match world.decide(&who, &rotate_until(20, 21, 0, asked)).as_deref() {
        Ok([Event::KeyRotated { expires_at, .. }]) => *expires_at,
        other => panic!("one rotation: {other:?}"),
    };
    for (asked, by_itself, by_operator) in
        [(None, Some(50), None), (Some(40), Some(40), Some(40)), (Some(60), Some(50), Some(60))]
    {
        let asked = asked.map(seconds);
        assert_eq!(expires_at(by_key("a", 20), asked), by_itself.map(seconds), "{asked:?}");
        assert_eq!(expires_at(admin(), asked), by_operator.map(seconds), "{asked:?}");
    }
}

#[test]
fn revoking_a_key_in_each_standing() {
    let world = one_in_each_standing();
    world.table(
        &admin(),
        &[
            (revoke_alone(20), "key.revoked"),
            (revoke_alone(21), "key.revoked"),
            (revoke_alone(22), "key.revoked"),
            (revoke_alone(23), "key.revoked"),
            (revoke_alone(24), "nothing"),
            (revoke_alone(99), "no: key_unknown"),
            (revoke(20), "key.revoked"),
            (revoke(24), "nothing"),
            // Its successor was made by an operator, and stays.
            (revoke(21), "key.revoked"),
        ],
    );
}

/// Whatever became of the worker, its keys can be ended: that must never wait for another wish.
#[test]
fn revoking_the_key_of_a_worker_in_each_state() {
    let mut world = World::new().given([create_pending_worker("pending"), create_pending_worker("rejected")]);
    world = world.given(["active", "isolated", "removed"].map(create_worker));
    let workers = ["pending", "rejected", "active", "isolated", "removed"];
    world = world.given(workers.into_iter().zip(20..).map(|(worker, key)| create_key(worker, key)));
    world = world.given([reject("rejected"), isolate("isolated", None), remove_worker("removed")]);
    for (worker, key) in workers.into_iter().zip(20..) {
        assert_eq!(outcome(&world.decide(&admin(), &revoke(key))), "key.revoked", "{worker}");
        assert_eq!(outcome(&world.decide(&by_key(worker, key), &revoke(key))), "key.revoked", "{worker}");
    }
}

#[test]
fn sharing_is_within_a_pool_that_allows_it() {
    let world = World::new()
        .given([
            create_pool("blue", sharing()),
            create_pool("green", sharing()),
            create_worker_in("blue", "a"),
            create_worker_in("blue", "b"),
            create_worker_in("blue", "isolated"),
            isolate("isolated", None),
            create_worker_in("blue", "removed"),
            remove_worker("removed"),
            create_worker_in("green", "c"),
            create_worker("d"),
            create_worker("e"),
            create_key("a", 20),
            create_key("d", 21),
            create_key("a", 22),
            revoke(22),
            create_key_until("a", 23, seconds(10)),
            create_key("a", 24),
            rotate(24, 25, 20),
        ])
        .at(10);
    world.table(
        &admin(),
        &[
            (share(20, "b"), "key.shared"),
            (share(20, "a"), "nothing"),
            (share(20, "isolated"), "key.shared"),
            (share(20, "removed"), "no: worker_removed"),
            (share(20, "unknown"), "no: worker_unknown"),
            (share(20, "c"), "no: shared_across_pools"),
            (share(21, "e"), "no: sharing_off"),
            (share(22, "b"), "no: key_revoked"),
            (share(23, "b"), "no: key_expired"),
            (share(24, "b"), "key.shared"),
            (share(2, "b"), "no: key_of_operator"),
            (share(99, "b"), "no: key_unknown"),
        ],
    );
    let shared = world.given([share(20, "b")]);
    assert_eq!(outcome(&shared.decide(&admin(), &share(20, "b"))), "nothing");
    let risks: Vec<KeyId> = shared.roll.shared().map(|key| key.id).collect();
    assert_eq!(risks, [KeyId(20)], "sharing is listed as a risk");
    // What is shared stays so when the pool stops to allow it; nothing more is.
    let stopped = shared.given([update_pool("blue", PoolSettings::default())]);
    stopped.table(&admin(), &[(share(20, "b"), "nothing"), (share(20, "isolated"), "no: sharing_off")]);
}

#[test]
fn sharing_has_limits() {
    let most = u128::try_from(WORKER_KEYS_MAX).unwrap();
    let full = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_key("a", 20),
        create_worker_in("blue", "b"),
    ]);
    let full = full.given((0..most).map(|n| create_key("b", 30 + n)));
    assert_eq!(outcome(&full.decide(&admin(), &share(20, "b"))), "no: too_many_keys");
}

#[test]
fn a_key_serves_so_many_workers() {
    let mut world = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "next"),
        create_key("a", 20),
    ]);
    // Recorded without being decided: deciding them one by one would be most of this test.
    for number in 1..SHARERS_MAX {
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
        world.record(&admin(), None, Event::KeyShared { key: KeyId(20), worker });
    }
    let lines = [(share(20, "next"), "no: too_many_sharers"), (share(20, "w1"), "nothing")];
    world.table(&admin(), &lines);
}

/// A rotation takes what the key's own holder needs: another's key of the same operator is another's matter.
#[test]
fn an_operator_rotates_the_very_key_that_it_presents() {
    for role in [Role::Operator, Role::Auditor, Role::Gateway] {
        let number = super::id_of(role);
        let world = World::new().given([create_operator_key(number, 20)]);
        world.table(
            &operator_by(number, 20),
            &[(rotate(20, 30, 0), "key.rotated(derived)"), (rotate(number, 30, 0), "no: not_permitted")],
        );
    }
}
