//! Pools: created once, removed when empty, and a removed one's name is not used again.

use super::wish::{
    change_pool, create_pool, create_secret_in, create_worker_in, disable_secret, enroll, pool_id, remove_pool,
    remove_worker, rotate_secret, sharing, text, texts, update_pool,
};
use super::{World, admin, enrollee, outcome, seconds};
use crate::domain::enrollment::Limits;
use crate::domain::event::Event;
use crate::domain::pool::{PoolSettings, SCOPES_MAX, SettingsChange, TOKEN_TTL_MAX, TOKEN_TTL_MIN, TokenRecord};
use crate::domain::time::Seconds;

fn settings(change: impl FnOnce(&mut PoolSettings)) -> PoolSettings {
    let mut settings = PoolSettings::default();
    change(&mut settings);
    settings
}

#[test]
fn a_pool_is_created_once() {
    let world =
        World::new().given([create_pool("blue", sharing()), create_pool("gone", sharing()), remove_pool("gone")]);
    world.table(
        &admin(),
        &[
            (create_pool("green", PoolSettings::default()), "pool.created"),
            (create_pool("blue", sharing()), "nothing"),
            (create_pool("blue", PoolSettings::default()), "no: pool_exists"),
            (create_pool("gone", sharing()), "no: pool_removed"),
        ],
    );
    let created = world.decide(&admin(), &create_pool("green", sharing()));
    assert_eq!(created, Ok(vec![Event::PoolCreated { pool: pool_id("green"), settings: sharing() }]));
}

#[test]
fn a_pool_is_updated_while_it_stands() {
    let world =
        World::new().given([create_pool("blue", sharing()), create_pool("gone", sharing()), remove_pool("gone")]);
    world.table(
        &admin(),
        &[
            (update_pool("blue", PoolSettings::default()), "pool.updated"),
            (update_pool("blue", sharing()), "nothing"),
            (update_pool("gone", sharing()), "no: pool_removed"),
            (update_pool("none", sharing()), "no: pool_unknown"),
        ],
    );
}

/// Two operators each change one setting, neither knowing of the other.
#[test]
fn a_change_leaves_alone_what_it_does_not_name() {
    let described = SettingsChange { description: Some("blue".into()), ..SettingsChange::default() };
    let shared = SettingsChange { sharing: Some(true), ..SettingsChange::default() };
    let world = World::new().given([create_pool("blue", PoolSettings::default()), change_pool("blue", described)]);
    let expected = settings(|settings| {
        settings.description = "blue".into();
        settings.sharing = true;
    });
    let decided = world.decide(&admin(), &change_pool("blue", shared));
    assert_eq!(decided, Ok(vec![Event::PoolUpdated { pool: pool_id("blue"), settings: expected }]));
    world.table(&admin(), &[(change_pool("blue", SettingsChange::default()), "nothing")]);
}

#[test]
fn a_pool_is_removed_when_nothing_is_in_it_or_may_come() {
    let limits = |expires_at| Limits { expires_at, ..Limits::default() };
    let world = World::new().given([
        create_pool("empty", sharing()),
        create_pool("gone", sharing()),
        remove_pool("gone"),
        create_pool("peopled", sharing()),
        create_worker_in("peopled", "a"),
        create_pool("left", sharing()),
        create_worker_in("left", "b"),
        remove_worker("b"),
        create_pool("open", sharing()),
        create_secret_in("open", 1, 1, limits(None)),
        create_pool("shut", sharing()),
        create_secret_in("shut", 2, 2, limits(None)),
        disable_secret(2),
        create_pool("ended", sharing()),
        create_secret_in("ended", 3, 3, limits(Some(seconds(9)))),
        create_pool("overlapping", sharing()),
        create_secret_in("overlapping", 4, 4, limits(None)),
        rotate_secret(4, 5, 5, 10),
        disable_secret(5),
    ]);
    let table = |second: i64, overlapping: &str, ended: &str| {
        world.clone().at(second).table(
            &admin(),
            &[
                (remove_pool("empty"), "pool.removed"),
                (remove_pool("gone"), "nothing"),
                (remove_pool("none"), "no: pool_unknown"),
                (remove_pool("peopled"), "no: pool_not_empty"),
                (remove_pool("left"), "pool.removed"),
                (remove_pool("open"), "no: pool_not_empty"),
                (remove_pool("shut"), "pool.removed"),
                (remove_pool("overlapping"), overlapping),
                (remove_pool("ended"), ended),
            ],
        );
    };
    table(8, "no: pool_not_empty", "no: pool_not_empty");
    table(9, "no: pool_not_empty", "pool.removed");
    table(10, "pool.removed", "pool.removed");
}

#[test]
fn nothing_comes_into_a_removed_pool() {
    let mut world =
        World::new().given([create_pool("gone", sharing()), create_secret_in("gone", 1, 1, Limits::default())]);
    let open = world.clone();
    world = world.given([disable_secret(1), remove_pool("gone")]);
    world.table(
        &admin(),
        &[
            (create_worker_in("gone", "a"), "no: pool_removed"),
            (create_secret_in("gone", 2, 2, Limits::default()), "no: pool_removed"),
            (create_worker_in("none", "a"), "no: pool_unknown"),
            (create_secret_in("none", 2, 2, Limits::default()), "no: pool_unknown"),
        ],
    );
    assert_eq!(outcome(&open.decide(&enrollee(1), &enroll(1, "a", 10))), "worker.created key.created");
    assert_eq!(outcome(&world.decide(&enrollee(1), &enroll(1, "a", 10))), "no: enrollment_secret_ended");
}

#[test]
fn settings_have_limits() {
    let world = World::new();
    let line = |change: &dyn Fn(&mut PoolSettings), expected| (create_pool("green", settings(change)), expected);
    let many: Vec<String> = (0..=SCOPES_MAX).map(|number| format!("s{number}")).collect();
    let scopes = |count: usize| texts(&many[..count].iter().map(String::as_str).collect::<Vec<_>>());
    world.table(
        &admin(),
        &[
            line(&|it| it.token_ttl = TOKEN_TTL_MIN, "pool.created"),
            line(&|it| it.token_ttl = Seconds(TOKEN_TTL_MIN.0 - 1), "no: invalid"),
            line(&|it| it.token_ttl = TOKEN_TTL_MAX, "pool.created"),
            line(&|it| it.token_ttl = Seconds(TOKEN_TTL_MAX.0 + 1), "no: invalid"),
            line(&|it| it.token_record = TokenRecord::Counted, "pool.created"),
            line(&|it| it.audience = text(""), "no: invalid"),
            line(&|it| it.audience = text(&"a".repeat(256)), "pool.created"),
            line(&|it| it.audience = text(&"a".repeat(257)), "no: invalid"),
            line(&|it| it.audience = text("a\u{7}"), "no: invalid"),
            line(&|it| it.description = text(&"ä".repeat(1024)), "pool.created"),
            line(&|it| it.description = text(&"ä".repeat(1025)), "no: invalid"),
            line(&|it| it.scopes = scopes(SCOPES_MAX), "pool.created"),
            line(&|it| it.scopes = scopes(SCOPES_MAX + 1), "no: invalid"),
            line(&|it| it.scopes = texts(&[&"s".repeat(64)]), "pool.created"),
            line(&|it| it.scopes = texts(&[&"s".repeat(65)]), "no: invalid"),
            line(&|it| it.scopes = texts(&[""]), "no: invalid"),
            line(&|it| it.scopes = texts(&["a b"]), "no: invalid"),
            line(&|it| it.scopes = texts(&["a\"b"]), "no: invalid"),
            line(&|it| it.scopes = texts(&["a\\b"]), "no: invalid"),
            line(&|it| it.scopes = texts(&["jobs:read", "jobs:write"]), "pool.created"),
        ],
    );
    let broken = settings(|it| it.token_ttl = Seconds(0));
    assert_eq!(outcome(&world.decide(&admin(), &update_pool("default", broken))), "no: invalid");
}
