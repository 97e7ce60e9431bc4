//! What makes a projection: its rows, rendered from the Roll, and which of them an event can change.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::event::{Event, KeyCreated, KeyHolder, Recorded};
use crate::domain::ids::{EnrollmentSecretId, KeyId, PoolId, WorkerId};
use crate::domain::key::{Key, KeyKind};
use crate::domain::roll::Roll;
use crate::domain::worker::Worker;

/// A read model.
pub trait Model: 'static {
    type Id: Ord + Display;
    /// In JSON its fields are the columns.
    type Row: Serialize + DeserializeOwned;

    /// Adds the rows that the event can change. One too many is work for nothing, one too few is a wrong list.
    ///
    /// `roll` holds the event, and perhaps later ones.
    fn touched(roll: &Roll, event: &Event, ids: &mut BTreeSet<Self::Id>);

    /// The row as the Roll has it. No row is ever removed: what was there once is listed for ever.
    fn row(roll: &Roll, id: &Self::Id) -> Option<Self::Row>;

    /// Every row, in the order of their ids as text.
    fn all(roll: &Roll) -> impl Iterator<Item = Self::Row>;

    fn count(roll: &Roll) -> usize;

    fn id(row: &Self::Row) -> &str;
}

/// A row as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub id: String,
    pub json: String,
}

/// The rows that these events change, as they are in `roll`.
pub(super) fn touched<M: Model>(roll: &Roll, events: &[Recorded]) -> Vec<String> {
    let mut ids = BTreeSet::new();
    for recorded in events {
        M::touched(roll, &recorded.event, &mut ids);
    }
    ids.iter().filter_map(|id| M::row(roll, id)).map(|row| json(&row)).collect()
}

pub(super) fn all<'r, M: Model>(roll: &'r Roll) -> Box<dyn Iterator<Item = Rendered> + 'r> {
    Box::new(M::all(roll).map(|row| rendered::<M>(&row)))
}

/// A row as Postgres writes it, written as we do: so that equal rows are equal texts.
pub(super) fn canonical<M: Model>(text: &str) -> Result<Rendered, serde_json::Error> {
    Ok(rendered::<M>(&serde_json::from_str(text)?))
}

fn rendered<M: Model>(row: &M::Row) -> Rendered {
    Rendered { id: M::id(row).to_owned(), json: json(row) }
}

fn json(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("a row is JSON")
}

// What an event is about beyond its subject.

/// Keys whose row this event can change.
pub(super) fn keys_of(roll: &Roll, event: &Event) -> Vec<KeyId> {
    match event {
        Event::KeyCreated(KeyCreated { key, .. }) => with_first_of_value(roll, *key),
        Event::KeyRotated { key, successor, .. } => {
            let mut keys = with_first_of_value(roll, *successor);
            keys.push(*key);
            keys
        }
        Event::KeyShared { key, .. } | Event::KeyRevoked { key } => vec![*key],
        _ => Vec::new(),
    }
}

/// A new key, and the oldest of the same static value: from the second one on both are a risk, and of those between them
/// it is known.
fn with_first_of_value(roll: &Roll, id: KeyId) -> Vec<KeyId> {
    let Some(key) = roll.key(id).filter(|key| key.kind == KeyKind::Static) else { return vec![id] };
    let first = roll.static_secrets(&key.verifier).next().map(|first| first.id);
    first.into_iter().filter(|first| *first != id).chain([id]).collect()
}

/// Workers whose keys this event changes, or makes a risk.
pub(super) fn workers_by_key(roll: &Roll, event: &Event) -> Vec<WorkerId> {
    let id_of = |index| roll.worker_at(index).map(|worker| worker.id.clone());
    if let Event::KeyShared { key, worker } = event {
        // The first was alone with it until now; those between have been told when they came.
        let first = roll.key(*key).and_then(|key| key.workers().first().copied());
        return first.and_then(id_of).into_iter().chain([worker.clone()]).collect();
    }
    let keys = keys_of(roll, event);
    let workers = keys.iter().filter_map(|id| roll.key(*id)).flat_map(Key::workers);
    workers.copied().filter_map(id_of).collect()
}

/// The operator whose keys this event changes.
pub(super) fn operator_by_key(roll: &Roll, event: &Event) -> Option<crate::domain::ids::OperatorId> {
    match event {
        Event::KeyCreated(KeyCreated { holder: KeyHolder::Operator(operator), .. }) => Some(*operator),
        Event::KeyRotated { key, .. } | Event::KeyRevoked { key } => match roll.key(*key)?.holder {
            crate::domain::key::Holder::Operator(operator) => Some(operator),
            _ => None,
        },
        _ => None,
    }
}

/// The worker that came, left, or waits no longer: it is counted in its pool and by the secret that let it in.
pub(super) fn counted_worker<'r>(roll: &'r Roll, event: &Event) -> Option<&'r Worker> {
    match event {
        Event::WorkerCreated(created) => roll.worker(created.worker.as_str()),
        Event::WorkerApproved { worker } | Event::WorkerRejected { worker } | Event::WorkerRemoved { worker } => {
            roll.worker(worker.as_str())
        }
        _ => None,
    }
}

pub(super) fn pool_by_worker(roll: &Roll, event: &Event) -> Option<PoolId> {
    counted_worker(roll, event).map(|worker| worker.pool.clone())
}

pub(super) fn enrollment_secret_by_worker(roll: &Roll, event: &Event) -> Option<EnrollmentSecretId> {
    counted_worker(roll, event).and_then(|worker| worker.enrolled_by)
}

/// Whether more than one worker has the key, or its value.
pub(super) fn is_shared(roll: &Roll, key: &Key) -> bool {
    key.workers().len() > 1 || (key.kind == KeyKind::Static && roll.static_secrets(&key.verifier).nth(1).is_some())
}
