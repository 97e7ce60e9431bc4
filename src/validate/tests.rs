//! Only the genuine secret of a key trips, and a honey key is refused like one that is unknown.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::*;
use crate::credential::key::mint;
use crate::credential::root_key::RootKey;
use crate::domain::actor::Author;
use crate::domain::event::{Event, KeyCreated, KeyHolder, Recorded, WorkerCreated};
use crate::domain::ids::{CommandId, PoolId, WorkerId};
use crate::domain::pool::PoolSettings;
use crate::domain::tripwire::TripwireEvent;
use crate::domain::worker::Labels;

/// The worker `w` with the keys 1, which is good, and 2, which was revoked; honey keys 3, and 4, which was removed. Each of
/// them has a secret that is its id over and over.
fn roll(keys: &DerivedKeys) -> Roll {
    let (pool, worker): (PoolId, WorkerId) = ("blue".parse().unwrap(), "w".parse().unwrap());
    let created = |key| {
        let (kind, verifier, holder) = (KeyKind::Api, verifier(keys, key), KeyHolder::Worker(worker.clone()));
        Event::KeyCreated(KeyCreated { key: KeyId(key), holder, kind, verifier, expires_at: None })
    };
    let honey = |key| {
        Event::Tripwire(TripwireEvent::HoneyKeyCreated {
            key: KeyId(key),
            pool: pool.clone(),
            verifier: verifier(keys, key),
            note: None,
        })
    };
    let member = WorkerCreated {
        worker: worker.clone(),
        pool: pool.clone(),
        name: None,
        labels: Labels::new(),
        expires_at: None,
        pending: false,
        enrolled_by: None,
    };
    let events = [
        Event::PoolCreated { pool: pool.clone(), settings: PoolSettings::default() },
        Event::WorkerCreated(member),
        created(1),
        created(2),
        Event::KeyRevoked { key: KeyId(2) },
        honey(3),
        honey(4),
        Event::Tripwire(TripwireEvent::HoneyKeyRemoved { key: KeyId(4) }),
    ];
    let mut roll = Roll::default();
    for (position, event) in (0..).zip(events) {
        let at = Timestamp(i64::try_from(position).unwrap());
        roll.apply(&Recorded {
            position,
            recorded_at: at,
            occurred_at: at,
            author: Author::system(),
            command: CommandId(0),
            cause: None,
            incident: None,
            reason: None,
            event,
        });
    }
    roll
}

fn text(prefix: Prefix, id: u128, secret: u8) -> String {
    mint(prefix, KeyId(id), &[secret; 32]).expose_secret().to_owned()
}

fn verifier(keys: &DerivedKeys, id: u128) -> Digest {
    let text = text(Prefix::Worker, id, u8::try_from(id).unwrap());
    Digest(*keys.api_key_verifier(&key::parse(&text).unwrap()).as_bytes())
}

#[test]
fn anonymous_noise_trips_nothing() {
    let keys = RootKey::from_bytes([7; 32]).derive();
    let roll = roll(&keys);
    let snapshot = Snapshot { ring: Arc::new(SigningRing::of(&roll, &keys).unwrap()), roll };
    let by = |prefix, id, secret| {
        let text = text(prefix, id, secret);
        let presented = Presented { credential: &text, worker: None };
        let verdict = check(&snapshot, &keys, presented, Timestamp(100));
        verdict.err().map(|denied| (denied.denial, denied.trip.map(|trip| trip.why), denied.genuine.is_some()))
    };
    let worker = |id, secret| by(Prefix::Worker, id, secret);
    assert_eq!(worker(1, 1), None);
    assert_eq!(worker(2, 2), Some((Denial::KeyRevoked, Some(Why::Revoked), true)));
    assert_eq!(worker(3, 3), Some((Denial::KeyUnknown, Some(Why::Honey), false)));
    // What has no secret, or the secret of another key, or stands for another kind of key.
    assert_eq!(worker(9, 9), Some((Denial::KeyUnknown, None, false)));
    assert_eq!(worker(4, 4), Some((Denial::KeyUnknown, None, false)));
    assert_eq!(by(Prefix::Operator, 3, 3), Some((Denial::KeyUnknown, None, false)));
    for secret in (0..=255).filter(|secret| *secret != 2) {
        assert_eq!(worker(2, secret), Some((Denial::SecretWrong, None, false)), "{secret}");
    }
    for secret in (0..=255).filter(|secret| *secret != 3) {
        assert_eq!(worker(3, secret), worker(9, secret), "{secret}: a guesser sees no difference");
    }
}
