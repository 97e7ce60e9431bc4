//! Access tokens: as long as the pool says or as short as asked, and never longer than what they were made from.

use super::wish::{
    create_key, create_key_until, create_pool, create_worker, create_worker_in, expire, issue, plain_token, rename,
    renew, revoke, revoke_token, rotate, share, sharing, texts, update_pool, worker_id,
};
use super::{World, admin, by_key, by_token, operator, outcome, seconds, system, unknown_token};
use crate::domain::admit::{Denial, admit_token};
use crate::domain::command::{Command, IssueToken};
use crate::domain::event::Event;
use crate::domain::ids::{KeyId, TokenId};
use crate::domain::operator::Role;
use crate::domain::pool::{PoolSettings, TOKEN_TTL_DEFAULT, TOKEN_TTL_MAX, TOKEN_TTL_MIN, TokenRecord};
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::token::{NewToken, SESSION_CUT_KEPT, TokenFacts};

fn token_settings(ttl: Seconds, scopes: &[&str]) -> PoolSettings {
    PoolSettings { token_ttl: ttl, scopes: texts(scopes), ..PoolSettings::default() }
}

fn asked(ttl: Option<u32>, scopes: Option<&[&str]>) -> Command {
    let (ttl, scopes) = (ttl.map(Seconds), scopes.map(texts));
    Command::IssueToken(IssueToken { ttl, scopes, ..plain_token(50, "a", 20) })
}

#[track_caller]
fn granted(world: &World, wish: &Command) -> NewToken {
    match world.decide(&by_key("a", 20), wish).as_deref() {
        Ok([Event::TokenIssued(new)]) => new.clone(),
        other => panic!("one token: {other:?}"),
    }
}

fn world() -> World {
    World::new().given([create_worker("a"), create_key("a", 20)])
}

#[test]
fn a_token_says_whose_it_is_and_until_when() {
    let expected = NewToken {
        token: TokenId(50),
        session: TokenId(50),
        worker: worker_id("a"),
        key: KeyId(20),
        expires_at: seconds(100 + i64::from(TOKEN_TTL_DEFAULT.0)),
        scopes: texts(&[]),
    };
    assert_eq!(granted(&world().at(100), &asked(None, None)), expected);
}

#[test]
fn a_pool_that_counts_its_tokens_records_none_and_refuses_as_ever() {
    let counting = PoolSettings { token_record: TokenRecord::Counted, ..PoolSettings::default() };
    let world = world().given([update_pool("default", counting)]);
    assert_eq!(world.decide(&by_key("a", 20), &asked(None, None)), Ok(vec![]));
    assert_eq!(outcome(&world.decide(&by_key("a", 20), &asked(Some(0), None))), "no: invalid");
    let revoked = world.given([revoke(20)]);
    assert_eq!(outcome(&revoked.decide(&by_key("a", 20), &asked(None, None))), "no: key_revoked");
}

#[test]
fn a_lifetime_is_the_pools_or_a_shorter_one() {
    let hour = 3_600;
    let world = world().given([update_pool("default", token_settings(Seconds(hour), &[]))]).at(100);
    let lives = |ttl| granted(&world, &asked(ttl, None)).expires_at.unix_seconds() - 100;
    assert_eq!(lives(None), 3_600);
    assert_eq!(lives(Some(60)), 60);
    assert_eq!(lives(Some(TOKEN_TTL_MIN.0)), i64::from(TOKEN_TTL_MIN.0));
    assert_eq!(lives(Some(hour + 1)), 3_600, "longer than the pool's is the pool's");
    assert_eq!(lives(Some(TOKEN_TTL_MAX.0)), 3_600);
    for ttl in [0, TOKEN_TTL_MIN.0 - 1, TOKEN_TTL_MAX.0 + 1] {
        assert_eq!(outcome(&world.decide(&by_key("a", 20), &asked(Some(ttl), None))), "no: invalid", "{ttl}");
    }
}

/// JWTs count in seconds: whoever verifies one offline must compare the same moment as we do.
#[test]
fn a_token_ends_on_a_whole_second_and_not_after_its_time() {
    let mut world = world();
    world.now = Timestamp(10_999_999);
    assert_eq!(granted(&world, &asked(Some(5), None)).expires_at, seconds(15));
}

#[test]
fn a_token_outlives_neither_its_key_nor_its_worker() {
    let ends = |world: &World| granted(world, &asked(None, None)).expires_at;
    let base = world();
    assert_eq!(ends(&base), seconds(900));
    assert_eq!(ends(&base.clone().given([rotate(20, 21, 60)])), seconds(60), "the overlap of its key");
    assert_eq!(ends(&base.clone().given([expire("a", Some(seconds(70)))])), seconds(70), "its worker");
    assert_eq!(ends(&base.clone().given([rotate(20, 21, 60), expire("a", Some(seconds(30)))])), seconds(30));
    let expiring = World::new().given([create_worker("a"), create_key_until("a", 20, seconds(80))]);
    assert_eq!(ends(&expiring), seconds(80), "its key");
    assert_eq!(ends(&expiring.given([rotate(20, 21, 60)])), seconds(60));
}

#[test]
fn scopes_are_the_pools_or_fewer() {
    let world = world().given([update_pool("default", token_settings(TOKEN_TTL_DEFAULT, &["read", "run", "write"]))]);
    let scopes = |asked_for| granted(&world, &asked(None, asked_for)).scopes;
    assert_eq!(scopes(None), texts(&["read", "run", "write"]));
    assert_eq!(scopes(Some(&[])), texts(&[]));
    assert_eq!(scopes(Some(&["run"])), texts(&["run"]));
    assert_eq!(scopes(Some(&["write", "read"])), texts(&["read", "write"]), "in the pool's order");
    assert_eq!(scopes(Some(&["run", "run"])), texts(&["run"]), "each once");
    for more in [&["admin"][..], &["run", "admin"], &["RUN"], &[""]] {
        let found = outcome(&world.decide(&by_key("a", 20), &asked(None, Some(more))));
        assert_eq!(found, "no: scope_not_allowed", "{more:?}");
    }
}

#[test]
fn a_token_is_made_from_a_good_key_of_that_worker() {
    let world = world()
        .given([
            create_worker("b"),
            create_key("a", 21),
            revoke(21),
            create_key_until("a", 22, seconds(10)),
            create_pool("blue", sharing()),
            create_worker_in("blue", "c"),
            create_worker_in("blue", "d"),
            create_key("c", 23),
            share(23, "d"),
        ])
        .at(10);
    for (worker, key, expected) in [
        ("a", 20, "token.issued"),
        ("b", 20, "no: worker_mismatch"),
        ("unknown", 20, "no: worker_mismatch"),
        ("a", 21, "no: key_revoked"),
        ("a", 22, "no: key_expired"),
        ("a", 99, "no: key_unknown"),
        ("a", 1, "no: wrong_kind"),
        ("c", 23, "token.issued"),
        ("d", 23, "token.issued"),
        ("a", 23, "no: worker_mismatch"),
    ] {
        let wish = issue(50, worker, key);
        assert_eq!(outcome(&world.decide(&by_key(worker, key), &wish)), expected, "{worker} {key}");
        // The rule does not lean on the author's being checked: the service itself gets the same answer.
        assert_eq!(outcome(&world.decide(&system(), &wish)), expected, "{worker} {key}");
    }
}

#[test]
fn without_a_signing_key_there_is_no_token() {
    let mut world = World::empty();
    for wish in [create_pool("default", PoolSettings::default()), create_worker("a"), create_key("a", 20)] {
        world.must(&system(), &wish);
    }
    assert_eq!(outcome(&world.decide(&by_key("a", 20), &issue(50, "a", 20))), "no: no_signing_key");
}

#[test]
fn a_token_is_renewed_within_its_session() {
    let mut world = world().given([create_key("a", 21), create_worker("b"), create_key("b", 22)]);
    let first = world.token("a", 20, 50);
    let second = world.renewed(&first, 51);
    assert_eq!((second.session, second.token), (TokenId(50), TokenId(51)));
    let renewing = |key: u128, worker: &str| {
        Command::IssueToken(IssueToken { renews: Some(first.clone()), ..plain_token(52, worker, key) })
    };
    let other_key = (by_key("a", 21), renewing(21, "a"));
    let other_worker = (by_key("b", 22), renewing(22, "b"));
    for (who, wish) in [other_key, other_worker] {
        assert_eq!(outcome(&world.decide(&who, &wish)), "no: worker_mismatch", "{who:?}");
    }
    // The key itself may renew too: it could have a new token anyway.
    assert_eq!(outcome(&world.decide(&by_key("a", 20), &renew(52, &second))), "token.issued");
    let expired = world.clone().at(900);
    assert_eq!(outcome(&expired.decide(&by_token(&first), &renew(52, &first))), "no: token_expired");
}

/// A token is good for its own renewal. For a session of its own, that would outlive its revocation, it takes the key.
#[test]
fn a_token_starts_no_session_and_renews_no_other_token() {
    let mut world = world();
    let (mine, other) = (world.token("a", 20, 50), world.token("a", 20, 60));
    let newer = world.renewed(&mine, 51);
    for (presented, wish, expected) in [
        (&mine, renew(70, &mine), "token.issued"),
        (&mine, issue(70, "a", 20), "no: wrong_kind"),
        (&mine, renew(70, &other), "no: wrong_kind"),
        (&mine, renew(70, &newer), "no: wrong_kind"),
        (&newer, renew(70, &mine), "no: wrong_kind"),
    ] {
        assert_eq!(outcome(&world.decide(&by_token(presented), &wish)), expected, "{wish:?}");
    }
}

#[test]
fn revoking_tokens() {
    let mut world = world().given([create_worker("b"), create_key("b", 21)]);
    let (mine, sibling, strange) = (world.token("a", 20, 50), world.token("a", 20, 60), world.token("b", 21, 70));
    let newer = world.renewed(&mine, 51);
    let revoked = world.token("a", 20, 80);
    world.must(&by_token(&revoked), &revoke_token(&revoked));
    for (who, facts, expected) in [
        (by_token(&mine), &mine, "token.revoked"),
        (by_token(&mine), &newer, "token.revoked"),
        // Exactly itself and what came of it: a stolen renewal must not end the token that it was stolen beside.
        (by_token(&newer), &mine, "no: wrong_kind"),
        (by_token(&mine), &sibling, "no: wrong_kind"),
        (by_token(&mine), &strange, "no: wrong_kind"),
        (by_key("a", 20), &mine, "token.revoked"),
        (by_key("a", 20), &strange, "no: wrong_kind"),
        (admin(), &strange, "token.revoked"),
        (operator(Role::Operator), &strange, "token.revoked"),
        (operator(Role::Auditor), &strange, "no: not_permitted"),
        (by_token(&revoked), &revoked, "nothing"),
        (admin(), &revoked, "nothing"),
    ] {
        assert_eq!(outcome(&world.decide(&who, &revoke_token(facts))), expected, "{who:?} on {facts:?}");
    }
    // An expired token can still be ended: what was renewed from it may be unexpired.
    let later = world.at(900);
    assert_eq!(outcome(&later.decide(&by_token(&mine), &revoke_token(&mine))), "token.revoked");
}

#[test]
fn a_genuine_token_is_admitted_or_says_why_not() {
    let mut world = world().given([create_worker("b")]);
    let token = world.token("a", 20, 50);
    let verdict = |world: &World, facts: &TokenFacts| admit_token(&world.roll, facts, world.now).err();
    assert_eq!(verdict(&world, &token), None);
    assert_eq!(verdict(&world.clone().at(899), &token), None);
    assert_eq!(verdict(&world.clone().at(900), &token), Some(Denial::TokenExpired));
    assert_eq!(verdict(&world, &unknown_token("a", 99, 1)), Some(Denial::KeyUnknown));
    assert_eq!(verdict(&world, &unknown_token("b", 20, 1)), Some(Denial::WorkerMismatch));
    assert_eq!(verdict(&world, &unknown_token("unknown", 20, 1)), Some(Denial::WorkerMismatch));
    assert_eq!(verdict(&world.clone().given([revoke(20)]), &token), Some(Denial::KeyRevoked));
    assert_eq!(verdict(&world.clone().given([rotate(20, 21, 0)]), &token), Some(Denial::KeyExpired));
    assert_eq!(verdict(&world.given([revoke_token(&token)]), &token), Some(Denial::TokenRevoked));
}

/// What is forgotten of a revocation is what no unexpired token can meet any more.
#[test]
fn a_revocation_is_kept_until_the_longest_lifetime_is_over() {
    let mut world = world();
    let token = world.token("a", 20, 50);
    let world = world.given([revoke_token(&token)]);
    let revoked = |world: &World| world.roll.is_token_revoked(token.session, token.issued);
    let touch = |second: i64| world.clone().at(second).given([rename("a", Some("touched"))]);
    assert!(revoked(&touch(i64::from(TOKEN_TTL_MAX.0))));
    assert!(revoked(&touch(i64::from(SESSION_CUT_KEPT.0))));
    assert!(!revoked(&touch(i64::from(SESSION_CUT_KEPT.0) + 1)));
}
