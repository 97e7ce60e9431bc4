//! How things of the domain look in answers.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::pool::Pool;
use crate::domain::time::{Seconds, Timestamp};

/// RFC 3339, in UTC, to the microsecond.
pub fn time(at: Timestamp) -> String {
    let at = DateTime::from_timestamp_micros(at.0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// As `15m` or `1h 30m`.
pub fn duration(span: Seconds) -> String {
    humantime::format_duration(std::time::Duration::from_secs(span.0.into())).to_string()
}

/// A pool.
#[derive(Serialize, ToSchema)]
pub struct PoolView {
    #[schema(example = "default")]
    pub id: String,
    pub name: String,
    pub description: String,
    #[schema(example = "15m")]
    pub token_ttl: String,
    #[schema(example = "each")]
    pub token_record: &'static str,
    pub audience: String,
    pub scopes: Vec<String>,
    pub sharing: bool,
    /// Workers that are not removed or rejected.
    pub workers: u64,
    #[schema(format = DateTime)]
    pub created_at: String,
    pub removed: bool,
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
