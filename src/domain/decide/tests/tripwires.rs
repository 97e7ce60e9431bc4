//! Tripwires: which keys trip, who may plant what, and what a rule makes of a trip.

use super::wish::{
    close, create_key, create_operator_key, create_pending_worker, create_pool, create_worker, create_worker_in,
    expire, fence, honey, isolate, pool_id, release, remove_honey, remove_operator, remove_worker, revoke, rotate,
    settle, share, sharing, trip, tripwire_rule, worker_id,
};
use super::{World, admin, kind, operator, outcome, seconds, system};
use crate::domain::command::{Command, RecordTrip, Settling};
use crate::domain::event::Event;
use crate::domain::ids::{IncidentId, KeyId};
use crate::domain::operator::Role;
use crate::domain::pool::PoolSettings;
use crate::domain::tripwire::{
    self, ACTED_ON_WITHIN, Actions, Answer, HONEY_KEYS_MAX, HONEY_NOTE_CHARS_MAX, Hindrance, ISOLATIONS_MAX,
    ISOLATIONS_WINDOW, Rule, Tripped, TripwireEvent, Why,
};

const ISOLATE: Actions = Actions { isolate: true, open_incident: false };
const OPEN: Actions = Actions { isolate: false, open_incident: true };
const BOTH: Actions = Actions { isolate: true, open_incident: true };

fn all(actions: Actions) -> Rule {
    Rule { honey: Some(actions), revoked: Some(actions), rotated: Some(actions) }
}

/// Workers a and b in `blue`, with the keys 20 and 21 that were revoked; honey key 80 there.
fn world() -> World {
    World::new().given([
        create_pool("blue", PoolSettings::default()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_key("a", 20),
        create_key("b", 21),
        revoke(20),
        revoke(21),
        honey(80, "blue"),
    ])
}

fn of_honey(presenters: &[&str]) -> Command {
    let Command::RecordTrip(plain) = trip(80, Why::Honey, None) else { unreachable!() };
    let presenters = presenters.iter().map(|id| worker_id(id)).collect();
    Command::RecordTrip(Box::new(RecordTrip { presenters, ..*plain }))
}

/// The same trip, of a use at another time.
fn used_at(trip: &Command, at: i64) -> Command {
    let Command::RecordTrip(plain) = trip.clone() else { unreachable!() };
    Command::RecordTrip(Box::new(RecordTrip { from: seconds(at), to: seconds(at), ..*plain }))
}

/// The kinds of the events, with the answers behind the first.
#[track_caller]
fn told(world: &mut World, wish: &Command) -> String {
    let events = world.must(&system(), wish);
    let Some(Event::Tripwire(TripwireEvent::Tripped(Tripped { answers, .. }))) = events.first() else {
        panic!("{events:?}")
    };
    let answers = answers.iter().map(|answer| match answer {
        Answer::Isolated(worker) => format!("isolated {worker}"),
        Answer::NotIsolated(why) => format!("not isolated: {}", why.as_str()),
        Answer::IncidentOpened(id) => format!("opened {id}"),
        Answer::IncidentJoined(id) => format!("joined {id}"),
    });
    let follow = events.iter().skip(1).map(|event| kind(event).to_owned());
    answers.chain(follow).collect::<Vec<_>>().join("; ")
}

/// A key that is good trips nothing, and so does one whose time ended by itself; nor does a worker that is shut away, since
/// it goes on asking.
#[test]
fn a_key_trips_once_it_was_taken_away() {
    let world = World::new().at(10).given([
        create_pool("blue", sharing()),
        create_worker_in("blue", "a"),
        create_worker_in("blue", "b"),
        create_key("a", 20),
    ]);
    let table: [(&str, Vec<Command>, Option<Why>); 11] = [
        ("good", vec![], None),
        ("revoked", vec![revoke(20)], Some(Why::Revoked)),
        ("within its overlap", vec![rotate(20, 30, 60)], None),
        ("rotated away", vec![rotate(20, 30, 0)], Some(Why::Rotated)),
        ("rotated away, then revoked", vec![rotate(20, 30, 0), revoke(20)], Some(Why::Revoked)),
        ("fenced", vec![fence("pool:blue", None)], Some(Why::Revoked)),
        ("within its overlap, and fenced", vec![rotate(20, 30, 60), fence("worker:a", None)], Some(Why::Revoked)),
        ("of an isolated worker", vec![isolate("a", None)], None),
        ("of an expired worker", vec![expire("a", Some(seconds(10)))], None),
        ("of a worker that is gone", vec![remove_worker("a")], Some(Why::Revoked)),
        ("shared with another", vec![share(20, "b")], None),
    ];
    for (what, wishes, expected) in table {
        let world = world.clone().given(wishes);
        let key = world.roll.key(KeyId(20)).unwrap();
        for worker in [world.roll.worker("a"), None] {
            // Whether the worker is still there is known where it is known who it is.
            let expected = expected.filter(|_| worker.is_some() || !what.ends_with("gone"));
            assert_eq!(tripwire::why(&world.roll, key, worker, world.now), expected, "{what}");
        }
    }
    let operators = World::new().given([create_operator_key(2, 12)]);
    let why = |world: &World| tripwire::why(&world.roll, world.roll.key(KeyId(12)).unwrap(), None, world.now);
    assert_eq!(why(&operators), None);
    assert_eq!(why(&operators.clone().given([revoke(12)])), Some(Why::Revoked));
    assert_eq!(why(&operators.given([remove_operator(2)])), Some(Why::Revoked));
}

#[test]
fn honey_keys_and_rules_are_wished_for_like_all_else() {
    let world = world().given([create_pool("gone", sharing()), Command::RemovePool { pool: pool_id("gone") }]);
    let rule = |pool, rule| tripwire_rule(pool, rule);
    let noted = |chars: usize| {
        let Command::CreateHoneyKey(plain) = honey(90, "blue") else { unreachable!() };
        Command::CreateHoneyKey(crate::domain::command::NewHoneyKey { note: Some("x".repeat(chars).into()), ..plain })
    };
    world.table(
        &admin(),
        &[
            (honey(90, "blue"), "honey_key.created"),
            (honey(80, "blue"), "no: key_exists"),
            (honey(20, "blue"), "no: key_exists"),
            (create_key("a", 80), "no: key_exists"),
            (honey(90, "none"), "no: pool_unknown"),
            (honey(90, "gone"), "no: pool_removed"),
            (noted(HONEY_NOTE_CHARS_MAX), "honey_key.created"),
            (noted(HONEY_NOTE_CHARS_MAX + 1), "no: invalid"),
            (noted(0), "no: invalid"),
            (remove_honey(80), "honey_key.removed"),
            (remove_honey(20), "no: honey_key_unknown"),
            (rule(None, Rule::default()), "nothing"),
            (rule(None, all(ISOLATE)), "tripwire.rule_set"),
            (rule(Some("blue"), Rule::default()), "nothing"),
            (rule(Some("blue"), all(Actions::RECORD)), "tripwire.rule_set"),
            (rule(Some("none"), all(ISOLATE)), "no: pool_unknown"),
            (rule(Some("gone"), all(ISOLATE)), "no: pool_removed"),
            // A honey key is none of the keys.
            (revoke(80), "no: key_unknown"),
            (rotate(80, 30, 0), "no: key_unknown"),
            (trip(20, Why::Revoked, Some("a")), "no: wrong_kind"),
        ],
    );
    world.table(&operator(Role::Operator), &[(rule(None, all(ISOLATE)), "no: not_permitted")]);
    let removed = world.given([remove_honey(80)]);
    removed.table(&admin(), &[(remove_honey(80), "nothing"), (honey(80, "blue"), "no: key_exists")]);
    assert_eq!(removed.roll.honey_key_count(), 0);
    let crowded = removed.given((0..HONEY_KEYS_MAX as u128).map(|key| honey(1_000 + key, "blue")));
    crowded.table(&admin(), &[(honey(90, "blue"), "no: too_many_honey_keys")]);
    crowded.given([remove_honey(1_000)]).table(&admin(), &[(honey(90, "blue"), "honey_key.created")]);
}

#[test]
fn a_rule_says_what_is_done_and_the_trip_what_became_of_it() {
    let shared = [create_pool("red", sharing()), create_worker_in("red", "r"), create_worker_in("red", "s")];
    let shared = shared.into_iter().chain([create_key("r", 22), share(22, "s"), revoke(22)]);
    let base = world().given(shared).given([create_operator_key(2, 12), revoke(12)]);
    let revoked = || trip(20, Why::Revoked, Some("a"));
    let with = |rule: Rule| base.clone().given([tripwire_rule(None, rule)]);
    let table: Vec<(World, Command, &str)> = vec![
        (base.clone(), revoked(), ""),
        (with(all(ISOLATE)), revoked(), "isolated a; worker.isolated"),
        (with(Rule { honey: Some(ISOLATE), ..Rule::default() }), revoked(), ""),
        (with(all(OPEN)), revoked(), "opened INC-1; incident.opened"),
        (with(all(BOTH)), revoked(), "opened INC-1; isolated a; incident.opened; worker.isolated"),
        (with(all(ISOLATE)).given([isolate("a", None)]), revoked(), "not isolated: already"),
        (with(all(ISOLATE)).given([isolate("a", Some(seconds(60)))]), revoked(), "isolated a; worker.isolated"),
        (with(all(ISOLATE)).given([remove_worker("a")]), revoked(), "not isolated: gone"),
        (with(all(ISOLATE)), trip(22, Why::Revoked, None), "not isolated: ambiguous"),
        (with(all(ISOLATE)), trip(22, Why::Revoked, Some("s")), "isolated s; worker.isolated"),
        (with(all(BOTH)), trip(12, Why::Revoked, None), "opened INC-1; not isolated: nobody; incident.opened"),
        (with(all(ISOLATE)), of_honey(&[]), "not isolated: nobody"),
        (with(all(ISOLATE)), of_honey(&["b"]), "isolated b; worker.isolated"),
        (with(all(ISOLATE)), of_honey(&["a", "b"]), "not isolated: ambiguous"),
        (with(all(ISOLATE)).given([create_pending_worker("p")]), of_honey(&["p"]), "not isolated: pending"),
    ];
    for (line, (mut world, wish, expected)) in table.into_iter().enumerate() {
        assert_eq!(told(&mut world, &wish), expected, "line {line}: {wish:?}");
    }
}

#[test]
fn the_rule_of_the_pool_goes_before_the_rule_of_all_each_kind_by_itself() {
    let mut world = world().given([
        create_worker("w"),
        create_key("w", 23),
        revoke(23),
        tripwire_rule(None, all(ISOLATE)),
        tripwire_rule(Some("blue"), Rule { honey: Some(Actions::RECORD), revoked: Some(OPEN), rotated: None }),
    ]);
    assert_eq!(told(&mut world, &of_honey(&["a"])), "");
    assert_eq!(told(&mut world, &trip(20, Why::Revoked, Some("a"))), "opened INC-1; incident.opened");
    assert_eq!(told(&mut world, &trip(20, Why::Rotated, Some("a"))), "isolated a; worker.isolated");
    assert_eq!(told(&mut world, &trip(23, Why::Revoked, Some("w"))), "isolated w; worker.isolated");
    let world = world.given([tripwire_rule(Some("blue"), Rule::default())]);
    assert_eq!(world.roll.tripwire_actions(Some(&pool_id("blue")), Why::Honey), ISOLATE);
}

/// However many keys trip, there is one open incident for each pool, which carries them all but the first: that came before
/// it.
#[test]
fn trips_of_one_pool_are_one_incident_while_it_is_open() {
    let mut world = world().given([tripwire_rule(None, all(OPEN))]);
    assert_eq!(told(&mut world, &trip(20, Why::Revoked, Some("a"))), "opened INC-1; incident.opened");
    assert_eq!(told(&mut world, &trip(21, Why::Revoked, Some("b"))), "joined INC-1");
    let carried: Vec<Option<&str>> =
        world.log.iter().rev().take(3).map(|recorded| recorded.incident.as_ref().map(IncidentId::as_str)).collect();
    assert_eq!(carried, [Some("INC-1"), Some("INC-1"), None]);
    let incident = world.roll.incident("INC-1").unwrap();
    assert_eq!(
        (incident.events, incident.description.title.as_ref()),
        (2, "Tripwire: a revoked key was used, pool blue")
    );
    assert_eq!(incident.description.scope, ["worker:a".parse().unwrap()]);

    world.reason = Some("seen".into());
    let mut world = world.given([settle("INC-1", "isolate", Settling::Waived), close("INC-1")]);
    assert_eq!(told(&mut world, &of_honey(&[])), "opened INC-2; incident.opened");
}

/// Whoever holds the old keys of many workers can have so many of them shut away, and no more, until the window has passed.
#[test]
fn rules_isolate_so_many_in_a_window() {
    let workers: Vec<String> = (0..ISOLATIONS_MAX + 2).map(|number| format!("w-{number}")).collect();
    let mut world = World::new().at(100).given([tripwire_rule(None, all(ISOLATE))]);
    for (worker, key) in workers.iter().zip(100..) {
        world = world.given([create_worker(worker), create_key(worker, key), revoke(key)]);
    }
    let mut trips = workers.iter().zip(100..).map(|(worker, key)| trip(key, Why::Revoked, Some(worker)));
    for _ in 0..ISOLATIONS_MAX {
        assert!(told(&mut world, &trips.next().unwrap()).starts_with("isolated w-"));
    }
    let next = trips.next().unwrap();
    assert_eq!(told(&mut world, &next), "not isolated: limit");
    // They use up nothing of what a honey key has.
    assert!(told(&mut world.clone(), &of_honey(&["w-11"])).starts_with("isolated w-11"));
    // What an operator does counts for nothing, and takes nothing.
    let mut world = world.given([isolate("w-11", None), release("w-11")]);
    assert_eq!(told(&mut world, &next), "not isolated: limit");
    let over = 100 + i64::from(ISOLATIONS_WINDOW.0) + 1;
    let mut world = world.at(over);
    assert!(told(&mut world, &used_at(&next, over)).starts_with("isolated w-10"));
    assert_eq!(world.roll.tripwire_isolations(Why::Revoked, seconds(over)), 1);
}

/// Where so many keys trip that they queue, the worker of one may be back with another key when its turn comes.
#[test]
fn nobody_is_isolated_for_a_use_of_long_ago() {
    let within = i64::from(ACTED_ON_WITHIN.0);
    for (recorded, expected) in [(100 + within - 1, "isolated a"), (100 + within, "not isolated: late")] {
        let mut world = world().given([tripwire_rule(None, all(ISOLATE))]).at(recorded);
        let trip = used_at(&trip(20, Why::Revoked, Some("a")), 100);
        assert!(told(&mut world, &trip).starts_with(expected), "{recorded}");
    }
}

#[test]
fn what_has_tripped_is_told_by_key_and_by_worker() {
    let mut world = world();
    assert_eq!(told(&mut world, &trip(20, Why::Revoked, Some("a"))), "");
    let first = world.roll.next_position() - 1;
    assert_eq!(told(&mut world, &trip(20, Why::Revoked, Some("a"))), "");
    let trips = world.roll.trips(KeyId(20)).unwrap();
    assert_eq!((trips.events, trips.uses, trips.last), (2, 2, first + 1));
    let since = |worker: &str, position| world.roll.trips_since(world.roll.worker(worker).unwrap(), position).count();
    assert_eq!((since("a", 0), since("a", first + 1), since("a", first + 2), since("b", 0)), (1, 1, 0, 0));
    assert_eq!(outcome(&world.decide(&system(), &of_honey(&[]))), "tripwire.tripped");
}

#[test]
fn words_are_read_as_they_are_written() {
    for actions in [Actions::RECORD, ISOLATE, OPEN, BOTH] {
        assert_eq!(Actions::of(actions.words()), Ok(actions));
    }
    assert_eq!(Actions::of(["record", "isolate"]), Ok(ISOLATE));
    assert!(Actions::of(["shout"]).is_err());
    for why in Why::ALL {
        assert_eq!(why.as_str().parse(), Ok(why));
    }
    for hindrance in Hindrance::ALL {
        assert_eq!(hindrance.as_str().parse(), Ok(hindrance));
    }
}
