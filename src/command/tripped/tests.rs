//! How many events come of how many uses.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::*;

/// A clock that is moved by hand.
struct World {
    trips: Tripwires,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { trips: Tripwires::default(), now: Instant::now() }
    }

    fn show(&self, key: u128, why: Why, source: Option<u32>, at: i64) {
        let source = source.and_then(|last| address(last).1);
        self.trips.note_at(&Trip { key: KeyId(key), why, worker: None }, source, Timestamp(at), self.now);
    }

    fn take(&self, end: bool) -> Vec<Due> {
        self.trips.take_at(self.now, end)
    }
}

fn address(last: u32) -> Place {
    (KeyId(1), Some(IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 | last))))
}

/// How often each was counted.
fn counts(due: &[Due]) -> HashMap<Place, u64> {
    let counts: HashMap<Place, u64> = due.iter().map(|due| (due.place, due.count)).collect();
    assert_eq!(counts.len(), due.len(), "one event a key and address");
    counts
}

#[test]
fn the_first_use_of_a_key_is_recorded_at_once_and_the_rest_when_the_window_has_ended() {
    let mut world = World::new();
    for second in 0..10_000 {
        world.show(1, Why::Revoked, Some(1), second);
    }
    let first = world.take(false);
    assert_eq!(counts(&first), HashMap::from([(address(1), 10_000)]));
    assert_eq!((first[0].from, first[0].to), (Timestamp(0), Timestamp(9_999)));

    world.show(1, Why::Revoked, Some(1), 20_000);
    world.show(1, Why::Revoked, Some(2), 20_000);
    assert!(world.take(false).is_empty(), "the window is not over");
    world.now += WINDOW;
    let second = world.take(false);
    assert_eq!(counts(&second), HashMap::from([(address(1), 1), (address(2), 1)]));
    assert!(second.iter().all(|due| due.from == Timestamp(20_000)), "each window is of its own uses");

    // Silent for a window: what comes then is news again.
    world.now += WINDOW;
    assert!(world.take(false).is_empty());
    world.show(1, Why::Revoked, Some(3), 30_000);
    assert_eq!(world.take(false).len(), 1);
}

#[test]
fn neither_many_addresses_nor_many_keys_fill_the_log_and_no_kind_hides_another() {
    let mut world = World::new();
    for source in 0..1_000 {
        world.show(1, Why::Revoked, Some(source), 1);
    }
    for key in 2..20_000 {
        world.show(key, Why::Revoked, None, 1);
    }
    world.show(1, Why::Honey, None, 1);
    let due = world.take(false);
    assert_eq!(due[0].why, Why::Honey, "it comes first");
    assert_eq!(due.len(), 1 + EVENTS_PER_WINDOW_MAX as usize);
    assert!(world.take(false).is_empty(), "no more within the window");
    let of_one: usize = world.trips.with(Why::Revoked, |kind| kind.of_key[&KeyId(1)]);
    assert_eq!(of_one, SOURCES_MAX + 1, "the others are counted together");
    assert_eq!(world.trips.with(Why::Revoked, |kind| kind.rows.len()), ROWS_MAX);

    world.now += WINDOW;
    assert_eq!(world.take(false).len(), EVENTS_PER_WINDOW_MAX as usize);
}

#[test]
fn what_could_not_be_recorded_is_counted_on_and_the_last_is_recorded_before_the_end() {
    let world = World::new();
    world.show(1, Why::Rotated, None, 5);
    let due = world.take(false);
    world.trips.with(Why::Rotated, |kind| kind.put_back(&due[0], world.now));
    world.show(1, Why::Rotated, None, 9);
    let again = world.take(false);
    assert_eq!((again.len(), again[0].count, again[0].from, again[0].to), (1, 2, Timestamp(5), Timestamp(9)));
    world.show(1, Why::Rotated, None, 11);
    assert!(world.take(false).is_empty());
    assert_eq!(world.take(true).len(), 1);
}
