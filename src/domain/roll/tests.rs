//! The fold itself: what `decide` would not write leaves the state standing, a snapshot never moves, and lists are in
//! order. The rules that lead to events are tested beside `decide`.

use std::sync::Arc;

use super::Roll;
use crate::domain::actor::Author;
use crate::domain::event::{Event, KeyCreated, KeyHolder, Recorded, WorkerCreated};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{CommandId, EnrollmentSecretId, KeyId, OperatorId, PoolId, SigningKeyId, TokenId, WorkerId};
use crate::domain::key::{Digest, KeyKind};
use crate::domain::operator::Role;
use crate::domain::pool::PoolSettings;
use crate::domain::signing_key::{NewSigningKey, SigningAlgorithm};
use crate::domain::time::Timestamp;
use crate::domain::worker::Labels;

fn recorded(position: u64, event: Event) -> Recorded {
    let at = Timestamp(i64::try_from(position).unwrap());
    Recorded {
        position,
        recorded_at: at,
        occurred_at: at,
        author: Author::system(),
        command: CommandId(0),
        cause: None,
        incident: None,
        reason: None,
        event,
    }
}

fn fold(events: impl IntoIterator<Item = Event>) -> Roll {
    let mut roll = Roll::default();
    for (position, event) in (0..).zip(events) {
        roll.apply(&recorded(position, event));
    }
    roll
}

fn pool() -> PoolId {
    "blue".parse().unwrap()
}

fn worker(id: &str) -> WorkerId {
    id.parse().unwrap()
}

fn pool_created() -> Event {
    Event::PoolCreated { pool: pool(), settings: PoolSettings::default() }
}

fn worker_created(id: &str) -> Event {
    Event::WorkerCreated(WorkerCreated {
        worker: worker(id),
        pool: pool(),
        name: Some("web".into()),
        labels: Labels::new(),
        expires_at: None,
        pending: false,
        enrolled_by: None,
    })
}

fn key_created(id: u128, holder: KeyHolder) -> Event {
    let (key, verifier) = (KeyId(id), Digest([7; 32]));
    Event::KeyCreated(KeyCreated { key, holder, kind: KeyKind::Static, verifier, expires_at: None })
}

fn signing_key(id: u128) -> NewSigningKey {
    let (public_jwk, sealed) = ("{}".into(), Arc::new([0]));
    NewSigningKey { id: SigningKeyId(id), algorithm: SigningAlgorithm::EdDsa, public_jwk, sealed }
}

/// Every event that speaks of something, in a log where that something is not.
fn events_about_nothing() -> Vec<Event> {
    let nobody = || worker("nobody");
    let at = Timestamp(9);
    vec![
        Event::PoolUpdated { pool: pool(), settings: PoolSettings::default() },
        Event::PoolRemoved { pool: pool() },
        Event::WorkerUpdated { worker: nobody(), name: Some("web".into()), labels: Labels::new(), expires_at: None },
        Event::WorkerApproved { worker: nobody() },
        Event::WorkerRejected { worker: nobody() },
        Event::WorkerIsolated { worker: nobody(), until: None },
        Event::WorkerReleased { worker: nobody() },
        Event::WorkerRemoved { worker: nobody() },
        key_created(1, KeyHolder::Worker(nobody())),
        Event::KeyShared { key: KeyId(1), worker: nobody() },
        Event::KeyRotated {
            key: KeyId(1),
            successor: KeyId(2),
            verifier: Digest([0; 32]),
            expires_at: None,
            overlap_until: at,
            derived: false,
        },
        Event::KeyRevoked { key: KeyId(1) },
        Event::EnrollmentSecretRotated {
            secret: EnrollmentSecretId(1),
            successor: EnrollmentSecretId(2),
            verifier: Digest([0; 32]),
            overlap_until: at,
        },
        Event::EnrollmentSecretDisabled { secret: EnrollmentSecretId(1) },
        Event::TokensIssued { worker: nobody(), count: 1, from: at, to: at },
        Event::OperatorUpdated { operator: OperatorId(1), name: "ada".into(), role: Role::Admin },
        Event::OperatorRemoved { operator: OperatorId(1) },
        Event::FenceRaised { scope: FenceScope::Pool(pool()), up_to: 3 },
        Event::FenceRaised { scope: FenceScope::Lineage(EnrollmentSecretId(1)), up_to: 3 },
        Event::FenceRaised { scope: FenceScope::Worker(nobody()), up_to: 3 },
        Event::BarrierPassed { through: 0, confirmed: vec![], waited_out: vec![] },
        Event::AuthFailuresObserved { from: at, to: at, failures: vec![] },
    ]
}

/// The past is not ours to refuse: the state stands, and the position moves on.
#[test]
fn an_event_about_nothing_changes_nothing() {
    for event in events_about_nothing() {
        let mut roll = Roll::default();
        roll.apply(&recorded(6, event.clone()));
        // That it took access away is true of the event, whoever had any.
        let reduced = if event.reduces_access() { 6 } else { 0 };
        let untouched = Roll { next_position: 7, recorded_at: Timestamp(6), reduced, ..Roll::default() };
        assert_eq!(roll, untouched, "{event:?}");
    }
}

#[test]
fn a_snapshot_stays_as_it_was_while_the_roll_moves_on() {
    let mut roll = fold([pool_created(), worker_created("a"), key_created(1, KeyHolder::Worker(worker("a")))]);
    let snapshot = roll.clone();
    for (position, event) in [
        (3, Event::WorkerIsolated { worker: worker("a"), until: None }),
        (4, Event::KeyRevoked { key: KeyId(1) }),
        (5, Event::TokenRevoked { token: TokenId(1), session: TokenId(1), worker: worker("a"), issued: 2 }),
        (6, worker_created("b")),
    ] {
        roll.apply(&recorded(position, event));
    }
    assert_eq!(snapshot, fold([pool_created(), worker_created("a"), key_created(1, KeyHolder::Worker(worker("a")))]),);
    assert_eq!((snapshot.next_position(), roll.next_position()), (3, 7));
    assert_eq!((snapshot.worker_count(), roll.worker_count()), (1, 2));
    assert!(!snapshot.is_token_revoked(TokenId(1), 2) && roll.is_token_revoked(TokenId(1), 2));
}

/// Among them a key of the worker that came last, one of another, and one of nobody.
#[test]
fn many_events_are_taken_in_as_each_of_them_would_be() {
    let key = |number, id| key_created(number, KeyHolder::Worker(worker(id)));
    let events = [
        pool_created(),
        worker_created("a"),
        key(1, "a"),
        worker_created("b"),
        key(2, "b"),
        key(3, "a"),
        key(4, "nobody"),
        Event::KeyRevoked { key: KeyId(3) },
        key(5, "b"),
    ];
    let records: Vec<Recorded> = (0..).zip(events.clone()).map(|(position, event)| recorded(position, event)).collect();
    for chunk in 1..=records.len() {
        let mut roll = Roll::default();
        records.chunks(chunk).for_each(|records| roll.apply_all(records));
        assert_eq!(roll, fold(events.clone()), "{chunk} at a time");
        let keys = |id: &str| roll.worker(id).map(|worker| worker.keys.clone());
        assert_eq!(keys("a"), Some(vec![KeyId(1), KeyId(3)]));
        assert_eq!(keys("b"), Some(vec![KeyId(2), KeyId(5)]));
        assert!(roll.key(KeyId(4)).is_none(), "it is nobody's");
    }
}

/// Paging goes by the id, so that a worker which comes or goes between two pages hides no other.
#[test]
fn workers_are_listed_in_the_order_of_their_ids_from_any_cursor() {
    let roll = fold([pool_created(), worker_created("c"), worker_created("a"), worker_created("b")]);
    let from = |cursor| roll.workers_after(cursor).map(|worker| worker.id.to_string()).collect::<Vec<_>>();
    assert_eq!(from(None), ["a", "b", "c"]);
    assert_eq!(from(Some("a")), ["b", "c"]);
    assert_eq!(from(Some("aa")), ["b", "c"]);
    assert_eq!(from(Some("c")), Vec::<String>::new());
}

#[test]
fn the_active_signing_key_is_found_and_so_is_none() {
    assert_eq!(Roll::default().active_signing_key(), None);
    let mut events = vec![Event::SigningKeysInstalled { active: signing_key(1), next: signing_key(2) }];
    for number in 1..=3 {
        assert_eq!(fold(events.clone()).active_signing_key().map(|key| key.id), Some(SigningKeyId(number)));
        let next = signing_key(number + 2);
        events.push(Event::SigningKeysRotated { next, retired_verifies_until: Timestamp(99) });
    }
}

/// Two nodes may cut one session, and a later cut must not give back what an earlier one took.
#[test]
fn of_two_cuts_of_a_session_the_earlier_one_holds() {
    let cut = |issued: u64| Event::TokenRevoked {
        token: TokenId(u128::from(issued)),
        session: TokenId(1),
        worker: worker("a"),
        issued,
    };
    for cuts in [[cut(5), cut(9)], [cut(9), cut(5)]] {
        let roll = fold(cuts);
        assert_eq!([4, 5, 9].map(|issued| roll.is_token_revoked(TokenId(1), issued)), [false, true, true]);
    }
}

/// Removed and rejected, a worker left once: the pool's count is of those who are there.
#[test]
fn who_left_already_is_not_counted_out_again() {
    let gone = [Event::WorkerRejected { worker: worker("a") }, Event::WorkerRemoved { worker: worker("a") }];
    let roll = fold([pool_created(), worker_created("a"), worker_created("b")].into_iter().chain(gone));
    assert_eq!(roll.pool("blue").unwrap().workers, 1);
    assert_eq!(roll.workers_named("web").count(), 1);
}
