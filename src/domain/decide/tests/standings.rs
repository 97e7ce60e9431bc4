//! H8: a stopped or expired identity can do nothing with any credential: not register, renew, rotate or be validated.

use super::wish::{
    approve, create_key, create_pending_worker, create_pool, create_worker, create_worker_in, expire, isolate, issue,
    reject, remove_worker, renew, rotate, share, sharing,
};
use super::{World, by_key, by_token, outcome, seconds};
use crate::domain::admit::{Denial, admit_token, admit_worker_key};
use crate::domain::ids::KeyId;
use crate::domain::token::TokenFacts;
use crate::domain::worker::Standing;

/// Worker `a` with key 20 and a token from its active days, brought into a standing. Nothing but approval makes a
/// worker that waits an active one, so its token is one that a forger could only wish for.
fn in_standing(standing: Standing) -> (World, TokenFacts) {
    let begun = match standing {
        Standing::Pending | Standing::Rejected => create_pending_worker("a"),
        Standing::Active | Standing::Isolated | Standing::Removed | Standing::Expired => create_worker("a"),
    };
    let mut world = World::new().given([begun, create_key("a", 20)]);
    let active = {
        let mut approved = world.clone().given([approve("a")]);
        approved.token("a", 20, 50)
    };
    world = match standing {
        Standing::Pending => world,
        Standing::Active => world,
        Standing::Isolated => world.given([isolate("a", None)]),
        Standing::Rejected => world.given([reject("a")]),
        Standing::Removed => world.given([remove_worker("a")]),
        Standing::Expired => world.given([expire("a", Some(seconds(10)))]),
    };
    (world.at(10), active)
}

#[test]
fn only_an_active_worker_passes_anywhere() {
    for standing in Standing::ALL {
        let (world, token) = in_standing(standing);
        assert_eq!(world.roll.worker("a").unwrap().standing(world.now), standing);
        let key = world.roll.key(KeyId(20)).unwrap();
        let code =
            |refused: Result<(), &str>| refused.map_or_else(|code| format!("no: {code}"), |()| "good".to_owned());
        let validated_key = admit_worker_key(&world.roll, key, None, world.now);
        let validated_token = admit_token(&world.roll, &token, world.now);
        let answers = [
            ("register", outcome(&world.decide(&by_key("a", 20), &issue(60, "a", 20)))),
            ("renew", outcome(&world.decide(&by_token(&token), &renew(61, &token)))),
            ("rotate", outcome(&world.decide(&by_key("a", 20), &rotate(20, 21, 0)))),
            ("validate the key", code(validated_key.map(drop).map_err(Denial::code))),
            ("validate the token", code(validated_token.map(drop).map_err(Denial::code))),
        ];
        let refused = format!("no: worker_{}", standing.as_str());
        let expected = match standing {
            Standing::Active => ["token.issued", "token.issued", "key.rotated(derived)", "good", "good"],
            Standing::Pending | Standing::Isolated | Standing::Rejected | Standing::Removed | Standing::Expired => {
                [refused.as_str(); 5]
            }
        };
        for ((asked, found), expected) in answers.into_iter().zip(expected) {
            assert_eq!(found, expected, "{standing:?}: {asked}");
        }
    }
}

/// What ended by time can come back by the same clock only where the state says so: an isolation with an end.
#[test]
fn an_isolation_with_an_end_is_over_at_that_moment() {
    let mut world = World::new().given([create_worker("a"), create_key("a", 20)]);
    let token = world.token("a", 20, 50);
    let world = world.given([isolate("a", Some(seconds(10)))]);
    for (second, expected) in [(9, false), (10, true)] {
        let world = world.clone().at(second);
        let key = world.roll.key(KeyId(20)).unwrap();
        assert_eq!(admit_worker_key(&world.roll, key, None, world.now).is_ok(), expected, "at {second}");
        assert_eq!(admit_token(&world.roll, &token, world.now).is_ok(), expected, "at {second}");
    }
}

/// A shared key stands for each of its workers apart: one that is isolated takes no other along.
#[test]
fn a_shared_key_is_admitted_for_the_worker_that_is_named() {
    let world = World::new().given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_worker_in("blue", "c"),
        create_key("a", 20),
        share(20, "b"),
        isolate("b", None),
    ]);
    let key = world.roll.key(KeyId(20)).unwrap();
    for (named, expected) in [
        (None, "worker_required"),
        (Some("a"), "a"),
        (Some("b"), "worker_isolated"),
        (Some("c"), "worker_mismatch"),
        (Some("unknown"), "worker_mismatch"),
    ] {
        let found = admit_worker_key(&world.roll, key, named, world.now);
        let found = found.map_or_else(|denial| denial.code().to_owned(), |worker| worker.id.to_string());
        assert_eq!(found, expected, "{named:?}");
    }
}
