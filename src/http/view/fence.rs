//! A fence, as answers show it, and the plan of one that is not raised yet.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::domain::fence::{Fence, FenceScope, Reach};
use crate::http::schema;
use crate::projection::fences::FenceRow;

/// A fence that stands. What was issued after `up_to` is none of its concern.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct FenceView {
    #[schema(schema_with = schema::fence_scope)]
    scope: String,
    /// All that was issued to the scope at this position or before it is refused.
    #[schema(schema_with = schema::position)]
    up_to: u64,
    /// The position of its event.
    #[schema(schema_with = schema::position)]
    raised: u64,
    #[schema(schema_with = schema::time)]
    raised_at: String,
}

/// What a fence would do. Nothing was changed.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct FencePlan {
    #[schema(schema_with = schema::fence_scope)]
    scope: String,
    /// All that was issued to the scope at this position or before it would be refused.
    #[schema(schema_with = schema::position)]
    up_to: u64,
    #[schema(example = true)]
    dry_run: bool,
    would_refuse: ReachView,
}

/// What is good now and would be refused. Tokens are not counted, since nothing is kept of each: they go with the keys
/// that they were made from.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ReachView {
    /// API keys and static secrets.
    #[schema(schema_with = schema::position)]
    keys: u64,
    /// Workers that would lose at least one of them.
    #[schema(schema_with = schema::position)]
    workers: u64,
    #[schema(schema_with = schema::position)]
    enrollment_secrets: u64,
}

impl FenceView {
    pub(in crate::http) fn of(scope: &FenceScope, fence: &Fence) -> Self {
        Self::from(&FenceRow::of(scope, fence))
    }
}

impl From<&FenceRow> for FenceView {
    fn from(row: &FenceRow) -> Self {
        Self { scope: row.scope.clone(), up_to: row.up_to, raised: row.raised, raised_at: time(row.raised_at.0) }
    }
}

impl FencePlan {
    pub(in crate::http) fn of(scope: &FenceScope, up_to: u64, reach: Reach) -> Self {
        let Reach { keys, workers, enrollment_secrets } = reach;
        let would_refuse = ReachView { keys, workers, enrollment_secrets };
        Self { scope: scope.to_string(), up_to, dry_run: true, would_refuse }
    }
}
