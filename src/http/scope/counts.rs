//! How much a scope holds, all of it, by state.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::roll::Roll;
use crate::domain::roll::scope::Scope;
use crate::domain::time::Timestamp;
use crate::http::schema;

/// How many of each, and how they stand.
#[derive(Clone, Serialize, ToSchema)]
pub(in crate::http) struct ScopeCounts {
    #[schema(schema_with = schema::position)]
    workers: usize,
    /// API keys and static secrets.
    #[schema(schema_with = schema::position)]
    keys: usize,
    #[schema(schema_with = schema::position)]
    enrollment_secrets: usize,
    #[schema(schema_with = schema::position)]
    operators: usize,
    /// How many in which state; a state that none is in is left out.
    workers_by_state: BTreeMap<&'static str, u64>,
    keys_by_state: BTreeMap<&'static str, u64>,
    enrollment_secrets_by_state: BTreeMap<&'static str, u64>,
}

impl ScopeCounts {
    pub(super) fn of(roll: &Roll, scope: &Scope, now: Timestamp) -> Self {
        let workers = scope.workers.iter().filter_map(|index| roll.worker_at(*index));
        let keys = scope.keys.iter().filter_map(|id| roll.key(*id));
        let secrets = scope.enrollment_secrets.iter().filter_map(|id| roll.enrollment_secret(*id));
        Self {
            workers: scope.workers.len(),
            keys: scope.keys.len(),
            enrollment_secrets: scope.enrollment_secrets.len(),
            operators: scope.operators.len(),
            workers_by_state: tallied(workers.map(|worker| worker.standing(now).as_str())),
            keys_by_state: tallied(keys.map(|key| roll.key_standing(key, now).as_str())),
            enrollment_secrets_by_state: tallied(secrets.map(|secret| secret.standing(now).as_str())),
        }
    }
}

fn tallied(states: impl Iterator<Item = &'static str>) -> BTreeMap<&'static str, u64> {
    states.fold(BTreeMap::new(), |mut tally, state| {
        *tally.entry(state).or_default() += 1;
        tally
    })
}
