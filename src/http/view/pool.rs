//! A pool, as answers show it.

use serde::Serialize;
use utoipa::ToSchema;

use super::{duration, time};
use crate::domain::time::Seconds;
use crate::projection::pools::PoolRow;

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
    token_record: String,
    audience: String,
    scopes: Vec<String>,
    sharing: bool,
    /// Workers that are not removed or rejected.
    workers: u64,
    #[schema(format = DateTime)]
    created_at: String,
    removed: bool,
}

impl From<&PoolRow> for PoolView {
    fn from(pool: &PoolRow) -> Self {
        Self {
            id: pool.id.clone(),
            name: pool.id.clone(),
            description: pool.description.clone(),
            token_ttl: duration(Seconds(pool.token_ttl_seconds)),
            token_record: pool.token_record.clone(),
            audience: pool.audience.clone(),
            scopes: pool.scopes.clone(),
            sharing: pool.sharing,
            workers: pool.workers,
            created_at: time(pool.created_at.0),
            removed: pool.removed,
        }
    }
}
