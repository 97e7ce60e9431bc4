//! What a fleet goes through once it is there: most of a log is not the making of keys.

use portcullis::command::mint;
use portcullis::domain::event::{Event, Recorded};
use portcullis::domain::ids::{KeyId, TokenId};
use portcullis::domain::time::Seconds;
use portcullis::domain::token::NewToken;

use super::fleet::{Fleet, worker_id};

/// The key that this event has made.
pub(crate) fn key_of(recorded: &Recorded) -> anyhow::Result<KeyId> {
    match &recorded.event {
        Event::KeyCreated(created) => Ok(created.key),
        other => anyhow::bail!("{other:?} makes no key"),
    }
}

/// The n-th event after the fleet was made: of ten, eight tokens and an isolation with its end.
pub(crate) fn event(fleet: &mut Fleet, nth: usize, keys: &[KeyId]) -> anyhow::Result<Recorded> {
    // One worker has ten events in a row, and then the next.
    let number = nth / 10 % keys.len();
    let worker = worker_id(number)?;
    let event = match nth % 10 {
        4 => Event::WorkerIsolated { worker, until: None },
        5 => Event::WorkerReleased { worker },
        _ => {
            let token = TokenId::from_uuid(mint::id());
            let (key, expires_at) = (keys[number], mint::now().after(Seconds(900)).whole_seconds());
            Event::TokenIssued(NewToken { token, session: token, worker, key, expires_at, scopes: [].into() })
        }
    };
    Ok(fleet.record(fleet.author(), event))
}
