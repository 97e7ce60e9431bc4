//! Operators, the first start, and the rule that somebody must be left who can administer.

use super::wish::{
    bootstrap, create_operator, digest, remove_operator, remove_pool, revoke, revoke_alone, rotate, rotate_until, text,
    update_operator,
};
use super::{World, admin, operator, operator_by, outcome, seconds, system};
use crate::domain::admit::{Denial, admit_operator_key};
use crate::domain::command::Command;
use crate::domain::ids::{KeyId, OperatorId};
use crate::domain::operator::Role;

#[test]
fn creating_updating_and_removing() {
    let world = World::new().given([create_operator(9, Role::Gateway), remove_operator(9)]);
    let expiring = |second| {
        let Command::CreateOperator { operator, name, role, key, verifier, .. } = create_operator(10, Role::Auditor)
        else {
            panic!("it creates an operator")
        };
        Command::CreateOperator { operator, name, role, key, verifier, expires_at: Some(seconds(second)) }
    };
    world.table(
        &admin(),
        &[
            (create_operator(10, Role::Auditor), "operator.created key.created"),
            (create_operator(9, Role::Auditor), "no: invalid"),
            (expiring(1), "operator.created key.created"),
            (expiring(0), "no: invalid"),
            (update_operator(2, None, None), "nothing"),
            (update_operator(2, Some("operator"), Some(Role::Operator)), "nothing"),
            (update_operator(2, Some("ada"), None), "operator.updated"),
            (update_operator(2, Some(""), None), "no: invalid"),
            (update_operator(2, None, Some(Role::Admin)), "operator.updated"),
            (update_operator(9, Some("ada"), None), "no: operator_removed"),
            (update_operator(99, Some("ada"), None), "no: operator_unknown"),
            (remove_operator(2), "operator.removed"),
            (remove_operator(9), "nothing"),
            (remove_operator(99), "no: operator_unknown"),
        ],
    );
    let key = world.roll.key(KeyId(9)).unwrap();
    assert_eq!(admit_operator_key(&world.roll, key, world.now), Err(Denial::OperatorRemoved));
    // A key's id is nobody else's, whoever asks.
    let taken = Command::CreateOperator {
        operator: OperatorId(10),
        name: text("thief"),
        role: Role::Auditor,
        key: KeyId(2),
        verifier: digest(99),
        expires_at: None,
    };
    assert_eq!(outcome(&world.decide(&admin(), &taken)), "no: key_exists");
}

#[test]
fn the_last_admin_stays() {
    let world = World::new();
    let lines = [
        (update_operator(1, None, Some(Role::Operator)), "no: last_admin", "operator.updated"),
        (update_operator(1, Some("root"), None), "operator.updated", "operator.updated"),
        (remove_operator(1), "no: last_admin", "operator.removed"),
        (revoke(1), "no: last_admin", "key.revoked"),
        (revoke_alone(1), "no: last_admin", "key.revoked"),
        (rotate(1, 30, 0), "key.rotated", "key.rotated"),
    ];
    // Asked by the service, so that it is not the author's own key that ends.
    for (wish, alone, _) in &lines {
        assert_eq!(outcome(&world.decide(&system(), wish)), *alone, "{wish:?}");
    }
    let two = world.given([create_operator(10, Role::Admin)]);
    for (wish, _, with_another) in &lines {
        assert_eq!(outcome(&two.decide(&operator_by(10, 10), wish)), *with_another, "{wish:?}");
    }
}

/// An admin counts if its key works: one that was removed, or whose keys have ended, saves nobody.
#[test]
fn an_admin_without_a_working_key_is_no_other_admin() {
    let base = World::new().given([create_operator(10, Role::Admin)]);
    let refused = |world: &World| outcome(&world.decide(&system(), &remove_operator(1)));
    assert_eq!(refused(&base), "operator.removed");
    assert_eq!(refused(&base.clone().given([revoke(10)])), "no: last_admin");
    assert_eq!(refused(&base.clone().given([remove_operator(10)])), "no: last_admin");
    assert_eq!(refused(&base.clone().given([update_operator(10, None, Some(Role::Auditor))])), "no: last_admin");
    let rotated = base.given([rotate_until(10, 11, 5, Some(seconds(9)))]);
    assert_eq!(refused(&rotated.clone().at(8)), "operator.removed");
    assert_eq!(refused(&rotated.at(9)), "no: last_admin");
}

/// With two keys, one may go; with both doomed by lineage, none.
#[test]
fn the_last_admins_keys_end_one_by_one() {
    let mut world = World::new();
    world.must(&admin(), &rotate(1, 20, 60));
    assert_eq!(outcome(&world.decide(&system(), &revoke_alone(1))), "key.revoked");
    assert_eq!(outcome(&world.decide(&system(), &revoke(1))), "no: last_admin");
    assert_eq!(outcome(&world.decide(&operator_by(1, 20), &revoke(1))), "no: last_admin");
    // A leaked key must not be kept alive by a rule: whoever holds it may end it, and what was made with it.
    assert_eq!(outcome(&world.decide(&admin(), &revoke(1))), "key.revoked key.revoked");
    assert_eq!(outcome(&world.decide(&admin(), &revoke_alone(1))), "key.revoked");
}

#[test]
fn a_key_of_somebody_without_rights_is_no_concern_of_the_last_admin() {
    let world = World::new();
    assert_eq!(outcome(&world.decide(&admin(), &revoke(3))), "key.revoked");
    assert_eq!(outcome(&world.decide(&operator(Role::Auditor), &revoke(3))), "key.revoked");
    let locked_out = {
        let mut world = world;
        world.must(&admin(), &revoke(1));
        world
    };
    assert_eq!(outcome(&locked_out.decide(&system(), &revoke(3))), "key.revoked", "nothing is left to protect");
}

#[test]
fn the_first_start_happens_once() {
    let mut world = World::empty();
    let first = world.must(&system(), &bootstrap(1, 1));
    assert_eq!(outcome(&Ok(first)), "signing_keys.installed pool.created operator.created key.created");
    // Another service that starts at the same moment mints other ids, and finds it done.
    assert_eq!(outcome(&world.decide(&system(), &bootstrap(2, 2))), "nothing");
}

/// Whoever can restart the service and read its data directory needs no other proof.
#[test]
fn a_start_without_a_working_admin_makes_one() {
    let lost = |wish: Command| {
        let mut world = World::new();
        world.must(&admin(), &wish);
        world
    };
    let recovered = "operator.created key.created";
    assert_eq!(outcome(&lost(revoke(1)).decide(&system(), &bootstrap(9, 9))), recovered);
    let expiring = lost(rotate_until(1, 20, 5, Some(seconds(10))));
    assert_eq!(outcome(&expiring.clone().at(9).decide(&system(), &bootstrap(9, 9))), "nothing");
    assert_eq!(outcome(&expiring.at(10).decide(&system(), &bootstrap(9, 9))), recovered);
    // A removed default pool was removed by somebody; a restart does not bring it back.
    assert_eq!(outcome(&lost(remove_pool("default")).decide(&system(), &bootstrap(9, 9))), "nothing");
}
