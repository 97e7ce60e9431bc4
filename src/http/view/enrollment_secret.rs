//! An enrollment secret, as answers show it: everything but the secret.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::domain::enrollment::{EnrollmentSecret, EnrollmentState};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::http::schema;
use crate::projection::enrollment_secrets::EnrollmentSecretRow;

/// An enrollment secret.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct EnrollmentSecretView {
    #[schema(schema_with = schema::made_id)]
    id: String,
    #[schema(schema_with = schema::chosen_id)]
    pool: String,
    #[schema(schema_with = schema::enrollment_state)]
    state: &'static str,
    /// Sources outside of all of these are refused; empty means anywhere.
    cidrs: Vec<String>,
    #[schema(schema_with = schema::name_pattern_or_null)]
    name_pattern: Option<String>,
    #[schema(schema_with = schema::count_or_null)]
    uses_max: Option<u64>,
    /// Workers that it let in.
    #[schema(schema_with = schema::position)]
    uses: u64,
    /// Of these, how many wait for approval.
    #[schema(schema_with = schema::position)]
    pending: u64,
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    /// Whether every worker waits for approval.
    approval: bool,
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// The secret that it succeeded.
    #[schema(schema_with = schema::made_id_or_null)]
    parent: Option<String>,
}

/// An enrollment secret just made.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct EnrollmentSecretMade {
    #[serde(flatten)]
    view: EnrollmentSecretView,
    /// The secret itself, shown once. Absent where the caller chose it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, pattern = "^ptc_en_[0-9A-Za-z]{22}_[0-9A-Za-z]{44}_[0-9A-Za-z]{6}$")]
    secret: Option<String>,
    /// Until when the secret before it still works.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    overlap_until: Option<String>,
}

impl EnrollmentSecretView {
    pub(in crate::http) fn of(secret: &EnrollmentSecret, now: Timestamp) -> Self {
        Self::from_row(&EnrollmentSecretRow::from(secret), now)
    }

    pub(in crate::http) fn from_row(row: &EnrollmentSecretRow, now: Timestamp) -> Self {
        Self {
            id: row.id.clone(),
            pool: row.pool.clone(),
            state: row.standing(now).as_str(),
            cidrs: row.cidrs.clone(),
            name_pattern: row.name_pattern.clone(),
            uses_max: row.uses_max,
            uses: row.uses,
            pending: row.pending,
            expires_at: row.expires_at.map(|at| time(at.0)),
            approval: row.approval,
            created_at: time(row.created_at.0),
            parent: row.parent.clone(),
        }
    }
}

impl EnrollmentSecretMade {
    /// Without the secret itself: that is no part of what the log keeps of an answer.
    pub(in crate::http) fn of(roll: &Roll, secret: &EnrollmentSecret, now: Timestamp) -> Self {
        let until = match secret.parent.and_then(|id| roll.enrollment_secret(id)).map(|parent| parent.state) {
            Some(EnrollmentState::Superseded { until }) => Some(until),
            Some(EnrollmentState::Live | EnrollmentState::Disabled) | None => None,
        };
        Self { view: EnrollmentSecretView::of(secret, now), secret: None, overlap_until: until.map(time) }
    }
}
