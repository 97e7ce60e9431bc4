//! Whoever stole a credential may have renewed it: revoking it takes what came of it along, and nothing else (H7).

use super::wish::{
    create_key, create_operator, create_pool, create_worker, create_worker_in, issue, renew, revoke, revoke_alone,
    revoke_token, rotate, share, sharing,
};
use super::{World, admin, by_key, operator_by, outcome};
use crate::domain::admit::admit_token;
use crate::domain::ids::KeyId;
use crate::domain::operator::Role;
use crate::domain::token::TokenFacts;

const DEPTH: u128 = 10;

fn good_keys(world: &World, keys: impl IntoIterator<Item = u128>) -> Vec<u128> {
    keys.into_iter().filter(|key| world.roll.key(KeyId(*key)).is_some_and(|key| key.is_good(world.now))).collect()
}

/// Key 20, rotated with itself to 21, that with itself to 22, and so on.
fn chain() -> World {
    let mut world = World::new().given([create_worker("a"), create_key("a", 20)]);
    for key in 20..20 + DEPTH {
        assert_eq!(outcome(&world.obey(&by_key("a", key), &rotate(key, key + 1, 3_600))), "key.rotated(derived)");
    }
    world
}

#[test]
fn revoking_a_key_refuses_ten_generations_of_its_own_rotations() {
    let mut world = chain();
    assert_eq!(good_keys(&world, 20..=30).len(), 11);
    let events = world.must(&admin(), &revoke(20));
    assert_eq!(events.len(), 11, "each key's end is a fact of its own");
    assert_eq!(good_keys(&world, 20..=30), []);
}

#[test]
fn revoking_in_the_middle_leaves_what_came_before() {
    for key in 20..=20 + DEPTH {
        let world = chain().given([revoke(key)]);
        assert_eq!(good_keys(&world, 20..=30), (20..key).collect::<Vec<_>>(), "revoked {key}");
    }
}

#[test]
fn revoking_a_key_takes_every_branch_of_its_own_rotations() {
    let mut world = World::new().given([create_worker("a"), create_key("a", 20), create_key("a", 40)]);
    // A key is rotated again only where its successor has ended; what came of that one before may still be good.
    for (key, successor, ended) in [(20, 21, 0), (21, 23, 21), (20, 22, 0), (22, 24, 22), (20, 25, 0), (40, 41, 0)] {
        world.must(&by_key("a", key), &rotate(key, successor, 3_600));
        if ended != 0 {
            world.must(&admin(), &revoke_alone(ended));
        }
    }
    assert_eq!(good_keys(&world, 20..=41), [20, 23, 24, 25, 40, 41]);
    let world = world.given([revoke(20)]);
    assert_eq!(good_keys(&world, 20..=41), [40, 41], "the worker's other keys stay");
}

/// An operator gave that key to the worker anew: the thief of the first never had it.
#[test]
fn what_an_operator_made_stays() {
    let mut world = World::new().given([create_worker("a"), create_key("a", 20)]);
    for key in 20..25 {
        world.must(&by_key("a", key), &rotate(key, key + 1, 3_600));
    }
    world.must(&admin(), &rotate(25, 26, 3_600));
    for key in 26..30 {
        world.must(&by_key("a", key), &rotate(key, key + 1, 3_600));
    }
    let world = world.given([revoke(20)]);
    assert_eq!(good_keys(&world, 20..=30), [26, 27, 28, 29, 30]);
}

#[test]
fn revoking_again_completes_what_was_revoked_alone() {
    let mut world = chain();
    assert_eq!(world.must(&admin(), &revoke_alone(20)).len(), 1);
    assert_eq!(good_keys(&world, 20..=30).len(), 10);
    assert_eq!(world.must(&admin(), &revoke(20)).len(), 10, "what is revoked is not revoked twice");
    assert_eq!(outcome(&world.decide(&admin(), &revoke(20))), "nothing");
}

#[test]
fn the_holder_of_a_stolen_key_ends_it_with_what_came_of_it() {
    let mut world = chain();
    world.must(&by_key("a", 20), &revoke(20));
    assert_eq!(good_keys(&world, 20..=30), []);
}

#[test]
fn an_operators_own_rotations_go_with_its_key() {
    let mut world = World::new().given([create_operator(9, Role::Gateway)]);
    world.must(&operator_by(9, 9), &rotate(9, 20, 3_600));
    world.must(&operator_by(9, 20), &rotate(20, 21, 3_600));
    let world = world.given([revoke(9)]);
    assert_eq!(good_keys(&world, [9, 20, 21]), []);
}

#[test]
fn a_shared_keys_rotations_go_with_it_for_every_sharer() {
    let mut world = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_key("a", 20),
        share(20, "b"),
    ]);
    world.must(&by_key("b", 20), &rotate(20, 21, 3_600));
    world.must(&by_key("a", 21), &rotate(21, 22, 3_600));
    let world = world.given([revoke(20)]);
    assert_eq!(good_keys(&world, 20..=22), []);
}

/// A session of ten renewals, and another one of the same key.
fn sessions() -> (World, Vec<TokenFacts>, Vec<TokenFacts>) {
    let mut world = World::new().given([create_worker("a"), create_key("a", 20)]);
    let (mut session, mut other) = (vec![world.token("a", 20, 50)], vec![world.token("a", 20, 80)]);
    for number in 1..=DEPTH {
        let (last, last_other) = (session[session.len() - 1].clone(), other[other.len() - 1].clone());
        session.push(world.renewed(&last, 50 + number));
        other.push(world.renewed(&last_other, 80 + number));
    }
    (world, session, other)
}

#[test]
fn revoking_a_token_refuses_its_renewals_and_nothing_before_or_beside() {
    let (world, session, other) = sessions();
    let good = |world: &World, facts: &TokenFacts| admit_token(&world.roll, facts, world.now).is_ok();
    assert!(session.iter().chain(&other).all(|facts| good(&world, facts)));
    for cut in 0..session.len() {
        let world = world.clone().given([revoke_token(&session[cut])]);
        let admitted: Vec<usize> = (0..session.len()).filter(|nth| good(&world, &session[*nth])).collect();
        assert_eq!(admitted, (0..cut).collect::<Vec<_>>(), "revoked {cut}");
        assert!(other.iter().all(|facts| good(&world, facts)), "another session stays");
        assert_eq!(good_keys(&world, [20]), [20], "the key stays");
    }
}

/// The earlier of two cuts holds, in whatever order they were made.
#[test]
fn a_session_is_cut_at_the_earliest_revocation() {
    let (world, session, _) = sessions();
    for first in 0..session.len() {
        for second in 0..session.len() {
            let world = world.clone().given([revoke_token(&session[first]), revoke_token(&session[second])]);
            let refused = session.iter().filter(|facts| world.roll.is_token_revoked(facts.session, facts.issued));
            assert_eq!(refused.count(), session.len() - first.min(second), "{first} then {second}");
        }
    }
}

/// A revoked token renews no more, and its key starts another session.
#[test]
fn a_revoked_token_is_not_renewed() {
    let (world, session, _) = sessions();
    let world = world.given([revoke_token(&session[3])]);
    for (nth, facts) in session.iter().enumerate() {
        let expected = if nth < 3 { "token.issued" } else { "no: token_revoked" };
        assert_eq!(outcome(&world.decide(&super::by_token(facts), &renew(70, facts))), expected, "{nth}");
    }
    assert_eq!(outcome(&world.decide(&by_key("a", 20), &issue(70, "a", 20))), "token.issued");
}
