//! An operator, as answers show it.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::domain::ids::KeyId;
use crate::domain::operator::Operator;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::http::schema;
use crate::projection::operators::OperatorRow;

/// A person or a service that administers.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct OperatorView {
    #[schema(schema_with = schema::made_id)]
    id: String,
    #[schema(schema_with = schema::name)]
    name: String,
    #[schema(schema_with = schema::role)]
    role: String,
    removed: bool,
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// The ids of the keys that work.
    keys: Vec<String>,
}

/// An operator just made, with its first key.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct OperatorMade {
    #[serde(flatten)]
    view: OperatorView,
    #[schema(schema_with = schema::made_id)]
    key_id: String,
    /// The key itself, shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, pattern = "^ptc_op_[0-9A-Za-z]{22}_[0-9A-Za-z]{44}_[0-9A-Za-z]{6}$")]
    key: Option<String>,
}

impl OperatorView {
    pub(in crate::http) fn of(roll: &Roll, operator: &Operator, now: Timestamp) -> Self {
        Self::from_row(&OperatorRow::of(roll, operator), now)
    }

    pub(in crate::http) fn from_row(row: &OperatorRow, now: Timestamp) -> Self {
        Self {
            id: row.id.clone(),
            name: row.name.clone(),
            role: row.role.clone(),
            removed: row.removed,
            created_at: time(row.created_at.0),
            keys: row.good_keys(now).map(str::to_owned).collect(),
        }
    }
}

impl OperatorMade {
    /// Without the key itself: that is no part of what the log keeps of an answer.
    pub(in crate::http) fn of(roll: &Roll, operator: &Operator, key: KeyId, now: Timestamp) -> Self {
        Self { view: OperatorView::of(roll, operator, now), key_id: key.to_string(), key: None }
    }
}
