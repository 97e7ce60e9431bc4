//! A pool, as answers show it.

use serde::Serialize;
use utoipa::ToSchema;

use super::{duration, time};
use crate::domain::pool::Pool;

/// A pool.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct PoolView {
    #[schema(example = "default")]
    id: String,
    name: String,
    description: String,
    #[schema(example = "15m")]
    token_ttl: String,
    #[schema(example = "each")]
    token_record: &'static str,
    audience: String,
    scopes: Vec<String>,
    sharing: bool,
    /// Workers that are not removed or rejected.
    workers: u64,
    #[schema(format = DateTime)]
    created_at: String,
    removed: bool,
}

impl From<&Pool> for PoolView {
    fn from(pool: &Pool) -> Self {
        let settings = &pool.settings;
        Self {
            id: pool.id.to_string(),
            name: pool.id.to_string(),
            description: settings.description.to_string(),
            token_ttl: duration(settings.token_ttl),
            token_record: settings.token_record.as_str(),
            audience: settings.audience.to_string(),
            scopes: settings.scopes.iter().map(ToString::to_string).collect(),
            sharing: settings.sharing,
            workers: pool.workers,
            created_at: time(pool.created_at),
            removed: pool.removed,
        }
    }
}
