//! Signing keys: next, active, retired; rotated without an outage, or at once when one leaked.

use super::wish::rotate_signing_keys;
use super::{World, admin, outcome, seconds, system};
use crate::domain::ids::SigningKeyId;
use crate::domain::key::OVERLAP_MAX;
use crate::domain::roll::Roll;
use crate::domain::signing_key::SigningKeyState::{self, Active, Next, Retired};

fn states(roll: &Roll) -> Vec<(u128, SigningKeyState)> {
    roll.signing_keys().map(|key| (key.id.0, key.state)).collect()
}

fn retired(second: i64) -> SigningKeyState {
    Retired { verify_until: seconds(second) }
}

#[test]
fn rotating_moves_every_key_on_by_one() {
    let world = World::new();
    assert_eq!(states(&world.roll), [(1, Active), (2, Next)]);
    let world = world.at(10).given([rotate_signing_keys(3, 100)]);
    assert_eq!(states(&world.roll), [(1, retired(110)), (2, Active), (3, Next)]);
    assert_eq!(world.roll.active_signing_key().map(|key| key.id), Some(SigningKeyId(2)));
    let world = world.at(20).given([rotate_signing_keys(4, 1_000)]);
    assert_eq!(states(&world.roll), [(1, retired(110)), (2, retired(1_020)), (3, Active), (4, Next)]);
}

/// A rotation without an overlap is for a key that leaked: what older ones signed ends too.
#[test]
fn rotating_without_an_overlap_ends_the_overlaps_of_before() {
    let world = World::new().at(10).given([rotate_signing_keys(3, 100)]).at(20).given([rotate_signing_keys(4, 0)]);
    assert_eq!(states(&world.roll), [(1, retired(20)), (2, retired(20)), (3, Active), (4, Next)]);
}

#[test]
fn what_a_retired_key_signed_is_good_until_its_overlap_ends() {
    for (state, second, expected) in
        [(Next, 0, true), (Active, 0, true), (retired(5), 4, true), (retired(5), 5, false), (retired(5), 6, false)]
    {
        assert_eq!(state.verifies(seconds(second)), expected, "{state:?} at {second}");
    }
}

#[test]
fn rotating_has_limits() {
    World::new().table(
        &admin(),
        &[
            (rotate_signing_keys(3, OVERLAP_MAX.0), "signing_keys.rotated"),
            (rotate_signing_keys(3, OVERLAP_MAX.0 + 1), "no: invalid"),
            (rotate_signing_keys(2, 0), "no: invalid"),
        ],
    );
    let unstarted = World::empty();
    assert_eq!(outcome(&unstarted.decide(&system(), &rotate_signing_keys(3, 0))), "no: no_signing_key");
}
