//! A key or a static secret, as answers show it. Its value is shown once, when it is made, and never here.

use serde::Serialize;
use utoipa::ToSchema;

use super::{SourceView, time};
use crate::domain::key::{Key, KeyState};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::http::schema;
use crate::projection::keys::ListedKey;
use crate::projection::used::Used;

/// An API key or a static secret.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct KeyView {
    #[schema(schema_with = schema::made_id)]
    id: String,
    #[schema(schema_with = schema::key_kind)]
    kind: String,
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
    /// When it was last accepted, to within some ten seconds; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    last_used_at: Option<String>,
    /// When it was first accepted. Of one key alone, and where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    first_used_at: Option<String>,
    /// From where it was shown, the newest first, 16 at the most. Of one key alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    sources: Option<Vec<SourceView>>,
    /// How often an address had to give way to a newer one. Of one key alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    sources_forgotten: Option<u64>,
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
        Self::from_row(&ListedKey::of(roll, key), now)
    }

    pub(in crate::http) fn from_row(listed: &ListedKey, now: Timestamp) -> Self {
        let row = &listed.row;
        Self {
            id: row.id.clone(),
            kind: row.kind.clone(),
            worker: row.worker.clone(),
            workers: row.sharers.clone(),
            operator: row.operator.clone(),
            state: listed.standing(now).as_str(),
            expires_at: row.expires_at.map(|at| time(at.0)),
            ends_at: row.ends_at.map(|at| time(at.0)),
            created_at: time(row.created_at.0),
            issued: row.issued,
            parent: row.parent.clone(),
            derived: row.derived,
            shared: row.shared,
            last_used_at: listed.last_used_at.map(|at| time(at.0)),
            first_used_at: None,
            sources: None,
            sources_forgotten: None,
        }
    }

    /// With when and from where it was used, which no state knows.
    pub(in crate::http) fn used(self, used: &Used) -> Self {
        Self {
            last_used_at: used.last.map(time),
            first_used_at: used.first.map(time),
            sources: Some(used.sources.iter().map(SourceView::from).collect()),
            sources_forgotten: Some(used.forgotten),
            ..self
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
