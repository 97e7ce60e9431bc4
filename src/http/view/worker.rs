//! A worker, as answers show it to operators.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{Standing, Worker};
use crate::http::schema;
use crate::projection::workers::ListedWorker;

/// A worker.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WorkerView {
    #[schema(schema_with = schema::chosen_id)]
    id: String,
    #[schema(schema_with = schema::chosen_id)]
    pool: String,
    #[schema(schema_with = schema::name_or_null)]
    name: Option<String>,
    #[schema(schema_with = schema::labels)]
    labels: BTreeMap<String, String>,
    #[schema(schema_with = schema::worker_state)]
    state: &'static str,
    /// Where the isolation ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    isolated_until: Option<String>,
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// The enrollment secret that let it in.
    #[schema(schema_with = schema::made_id_or_null)]
    enrolled_by: Option<String>,
    /// How many workers of the fleet have this name, where it is more than one; counted up to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    name_shared_by: Option<usize>,
    /// Keys and static secrets that work.
    keys: usize,
    /// Whether another worker has one of its keys, or the value of one of its static secrets: a risk.
    shared_keys: bool,
}

impl WorkerView {
    pub(in crate::http) fn of(roll: &Roll, worker: &Worker, now: Timestamp) -> Self {
        Self::from_row(&ListedWorker::of(roll, worker), now)
    }

    pub(in crate::http) fn from_row(listed: &ListedWorker, now: Timestamp) -> Self {
        let row = &listed.row;
        let state = row.standing(now);
        let until = row.isolated_until.filter(|_| state == Standing::Isolated);
        Self {
            id: row.id.clone(),
            pool: row.pool.clone(),
            name: row.name.clone(),
            labels: row.labels.clone(),
            state: state.as_str(),
            isolated_until: until.map(|at| time(at.0)),
            expires_at: row.expires_at.map(|at| time(at.0)),
            created_at: time(row.created_at.0),
            enrolled_by: row.enrolled_by.clone(),
            name_shared_by: (listed.name_shared_by > 1).then_some(listed.name_shared_by),
            keys: listed.good_keys(now),
            shared_keys: row.shared_keys,
        }
    }
}
