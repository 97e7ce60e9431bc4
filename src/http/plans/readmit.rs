//! Plans of the kind `readmit`: how isolated workers come back, as it is asked for.

use std::sync::Arc;

use serde::Deserialize;
use utoipa::ToSchema;

use crate::domain::ids::PoolId;
use crate::domain::plan::{Delivery, PlanKind};
use crate::domain::readmission::Terms;
use crate::domain::time::{Seconds, Timestamp};
use crate::http::body::{duration, needed_count};
use crate::http::problem::Problem;
use crate::http::schema;

/// How workers come back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewWaves {
    /// The pool whose workers come first.
    #[schema(schema_with = schema::chosen_id_or_null)]
    canary_pool: Option<String>,
    /// How many come back at once, at the most.
    #[serde(deserialize_with = "needed_count")]
    #[schema(schema_with = schema::wave_size)]
    size: u64,
    /// How long a wave stands before the next one, such as `5m`. Refusals are counted by the minute, so less than two tell
    /// little.
    #[schema(schema_with = schema::duration)]
    every: String,
    /// It stops once workers that are back were refused more often than so with their keys: with those that were handed out, where
    /// they get them from a file.
    #[serde(deserialize_with = "needed_count")]
    #[schema(schema_with = schema::bound)]
    stop_after_refusals: u64,
    /// It stops once more tripwires were touched with such keys, or with honey keys.
    #[serde(deserialize_with = "needed_count")]
    #[schema(schema_with = schema::bound)]
    stop_after_trips: u64,
}

pub(super) fn kind(waves: Option<&NewWaves>, delivery: Delivery, overlap: Seconds) -> Result<PlanKind, Problem> {
    let waves = waves.ok_or_else(|| Problem::invalid("waves", "needed with the kind `readmit`"))?;
    let canary: Option<PoolId> = waves.canary_pool.as_deref().map(str::parse).transpose().map_err(|_| no_pool())?;
    Ok(PlanKind::Readmit(Arc::new(Terms {
        // What is known only when it is decided.
        as_of: Timestamp(0),
        canaries: 0,
        canary,
        // What is too large is refused where the others are.
        wave_size: u32::try_from(waves.size).unwrap_or(u32::MAX),
        wave_every: duration("every", &waves.every)?,
        refusals_max: waves.stop_after_refusals,
        trips_max: waves.stop_after_trips,
        delivery,
        overlap: match delivery {
            Delivery::File => Seconds(0),
            Delivery::Fetch => overlap,
        },
    })))
}

fn no_pool() -> Problem {
    Problem::invalid("canary_pool", "the id of a pool")
}
