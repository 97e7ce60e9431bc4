//! Names are for people, ids for rules: workers of one name are several, shown as such, and never taken for each other
//! (H10, H23).

use super::wish::{
    approve, create_named_worker, create_secret, create_worker, enroll_named, isolate, remove_worker, rename,
};
use super::{World, enrollee, outcome};
use crate::domain::admit::admit_worker_key;
use crate::domain::enrollment::Limits;
use crate::domain::ids::KeyId;

fn named(world: &World, name: &str) -> Vec<String> {
    world.roll.workers_named(name).map(|worker| worker.id.to_string()).collect()
}

/// H10: one bad instance of ten thousand with the same pool and name.
#[test]
fn isolating_one_of_ten_thousand_namesakes_leaves_9_999() {
    const FLEET: u128 = 10_000;
    let mut world = World::new().given([create_secret(1, Limits::default())]);
    for number in 0..FLEET {
        let enroll = enroll_named(1, &format!("w{number}"), Some("runner"), 100 + number);
        world.must(&enrollee(1), &enroll);
    }
    let world = world.given([isolate("w5000", None)]);
    let refused: Vec<u128> = (0..FLEET)
        .filter(|number| {
            let key = world.roll.key(KeyId(100 + number)).unwrap();
            admit_worker_key(&world.roll, key, None, world.now).is_err()
        })
        .collect();
    assert_eq!(refused, [5_000]);
    assert_eq!(named(&world, "runner").len(), 10_000, "an isolated worker is still one of the name");
}

/// H23: approval goes to an id, and the collision is to be seen.
#[test]
fn two_of_one_name_are_two() {
    let approval = Limits { approval: true, ..Limits::default() };
    let mut world = World::new().given([create_secret(1, approval)]);
    for (worker, key) in [("a", 20), ("b", 21)] {
        let found = outcome(&world.obey(&enrollee(1), &enroll_named(1, worker, Some("web"), key)));
        assert_eq!(found, "worker.created(pending) key.created");
    }
    let world = world.given([approve("a")]);
    let admitted = |key| admit_worker_key(&world.roll, world.roll.key(KeyId(key)).unwrap(), None, world.now).is_ok();
    assert_eq!((admitted(20), admitted(21)), (true, false));
    assert_eq!(named(&world, "web"), ["a", "b"]);
}

#[test]
fn a_name_lists_the_members_that_have_it_now() {
    let mut world = World::new().given([
        create_named_worker("a", "web"),
        create_named_worker("b", "web"),
        create_named_worker("c", "db"),
        create_worker("d"),
    ]);
    assert_eq!(named(&world, "web"), ["a", "b"]);
    world = world.given([rename("c", Some("web")), rename("a", Some("db"))]);
    assert_eq!((named(&world, "web"), named(&world, "db")), (vec!["b".into(), "c".into()], vec!["a".into()]));
    world = world.given([rename("d", Some("web")), rename("b", None)]);
    assert_eq!(named(&world, "web"), ["c", "d"]);
    world = world.given([remove_worker("c"), isolate("d", None)]);
    assert_eq!(named(&world, "web"), ["d"]);
    world = world.given([remove_worker("d")]);
    assert_eq!(named(&world, "web"), Vec::<String>::new());
    // Nobody's id is anybody's name.
    assert_eq!(named(&world, "a"), Vec::<String>::new());
}
