//! A worker, as answers show it to operators.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::key::is_shared;
use super::time;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{Standing, Worker, WorkerState};
use crate::http::schema;

/// How far workers of one name are counted. A whole fleet can be called `runner`, and a page of it would count it a
/// thousand times.
const SHARERS_COUNTED_MAX: usize = 1_000;

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
        let state = worker.standing(now);
        let until = match worker.state {
            WorkerState::Isolated { until } if state == Standing::Isolated => until,
            _ => None,
        };
        let labels = worker.labels.iter().flat_map(|labels| labels.iter());
        let named = worker.name.as_deref().into_iter().flat_map(|name| roll.workers_named(name));
        let sharers = named.take(SHARERS_COUNTED_MAX).count();
        let keys = || worker.keys.iter().filter_map(|id| roll.key(*id));
        Self {
            id: worker.id.to_string(),
            pool: worker.pool.to_string(),
            name: worker.name.as_deref().map(str::to_owned),
            labels: labels.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            state: state.as_str(),
            isolated_until: until.map(time),
            expires_at: worker.expires_at.map(time),
            created_at: time(worker.created_at),
            enrolled_by: worker.enrolled_by.map(|secret| secret.to_string()),
            name_shared_by: (sharers > 1).then_some(sharers),
            keys: keys().filter(|key| roll.is_good_for(key, worker, now)).count(),
            shared_keys: keys().any(|key| is_shared(roll, key)),
        }
    }
}
