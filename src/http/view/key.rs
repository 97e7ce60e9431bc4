//! A key or a static secret, as answers show it. Its value is shown once, when it is made, and never here.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::domain::key::{Holder, Key, KeyKind, KeyState};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::WorkerIndex;
use crate::http::schema;

/// An API key or a static secret.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct KeyView {
    #[schema(schema_with = schema::made_id)]
    id: String,
    #[schema(schema_with = schema::key_kind)]
    kind: &'static str,
    /// The worker that it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::chosen_id, required = false)]
    worker: Option<String>,
    /// Every worker that may present it, where it is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    workers: Option<Vec<String>>,
    /// The operator whose key it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::made_id, required = false)]
    operator: Option<String>,
    #[schema(schema_with = schema::key_state)]
    state: &'static str,
    /// The expiry that it was given.
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    /// When it ends by itself: its expiry, or the end of its overlap if that is earlier.
    #[schema(schema_with = schema::time_or_null)]
    ends_at: Option<String>,
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// The position at which it was issued.
    #[schema(schema_with = schema::position)]
    issued: u64,
    /// The key that it succeeded.
    #[schema(schema_with = schema::made_id_or_null)]
    parent: Option<String>,
    /// Whether its holder made it, with the parent itself. Then it is revoked with the parent.
    derived: bool,
    /// Whether several workers have it, or have its value: a risk.
    shared: bool,
}

/// A key just made.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct KeyMade {
    #[serde(flatten)]
    view: KeyView,
    /// The key itself, shown once. Absent for a value that the caller chose and for a key that is shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, pattern = "^ptc_(wk|op)_[0-9A-Za-z]{22}_[0-9A-Za-z]{44}_[0-9A-Za-z]{6}$")]
    key: Option<String>,
    /// Until when the key before it still works.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    overlap_until: Option<String>,
}

impl KeyView {
    pub(in crate::http) fn of(roll: &Roll, key: &Key, now: Timestamp) -> Self {
        let id_of = |index: &WorkerIndex| roll.worker_at(*index).map(|worker| worker.id.to_string());
        let workers = key.workers();
        let operator = match &key.holder {
            Holder::Operator(operator) => Some(operator.to_string()),
            Holder::Worker(_) | Holder::Workers(_) => None,
        };
        Self {
            id: key.id.to_string(),
            kind: key.kind.as_str(),
            worker: workers.first().and_then(id_of),
            workers: (workers.len() > 1).then(|| workers.iter().filter_map(id_of).collect()),
            operator,
            state: roll.key_standing(key, now).as_str(),
            expires_at: key.expires_at.map(time),
            ends_at: key.ends_at().map(time),
            created_at: time(key.created_at),
            issued: key.issued,
            parent: key.parent.map(|parent| parent.to_string()),
            derived: key.derived,
            shared: is_shared(roll, key),
        }
    }
}

impl KeyMade {
    /// Without the key itself: that is no part of what the log keeps of an answer.
    pub(in crate::http) fn of(roll: &Roll, key: &Key, now: Timestamp) -> Self {
        Self { view: KeyView::of(roll, key, now), key: None, overlap_until: overlap_until(roll, key).map(time) }
    }
}

/// Until when the key before this one still works.
pub(in crate::http) fn overlap_until(roll: &Roll, key: &Key) -> Option<Timestamp> {
    match roll.key(key.parent?)?.state {
        KeyState::Superseded { until } => Some(until),
        KeyState::Live | KeyState::Revoked | KeyState::Fenced => None,
    }
}

/// Whether more than one worker has the key, or its value.
pub(in crate::http) fn is_shared(roll: &Roll, key: &Key) -> bool {
    key.workers().len() > 1 || (key.kind == KeyKind::Static && roll.static_secrets(&key.verifier).nth(1).is_some())
}
