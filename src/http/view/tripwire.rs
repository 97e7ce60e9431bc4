//! Honey keys and the rules of tripwires, as answers show them.

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::domain::ids::PoolId;
use crate::domain::roll::Roll;
use crate::domain::tripwire::{Actions, HoneyKey, Rule};
use crate::http::schema;

/// A key that nobody was given.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct HoneyKeyView {
    #[schema(schema_with = schema::made_id)]
    id: String,
    #[schema(schema_with = schema::chosen_id)]
    pool: String,
    /// Where it was planted.
    note: Option<String>,
    #[schema(schema_with = schema::time)]
    created_at: String,
    removed: bool,
    /// How many times it was shown, as far as the log says.
    uses: u64,
    /// The position of the last `tripwire.tripped` about it.
    last_trip: Option<u64>,
}

/// A honey key just made.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct HoneyKeyMade {
    #[serde(flatten)]
    view: HoneyKeyView,
    /// The key itself, shown this once: to be planted where nobody should look.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, pattern = "^ptc_wk_[0-9A-Za-z]{22}_[0-9A-Za-z]{44}_[0-9A-Za-z]{6}$")]
    key: Option<String>,
}

/// What is done when a tripwire of the pool trips, beside recording it. `null`: as the rule of all says.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct TripwireRuleView {
    /// `null`: of all pools that have no rule of their own.
    #[schema(schema_with = schema::chosen_id_or_null)]
    pool: Option<String>,
    #[schema(schema_with = schema::tripwire_actions_or_null)]
    honey: Option<Vec<&'static str>>,
    #[schema(schema_with = schema::tripwire_actions_or_null)]
    revoked: Option<Vec<&'static str>>,
    #[schema(schema_with = schema::tripwire_actions_or_null)]
    rotated: Option<Vec<&'static str>>,
}

impl HoneyKeyView {
    pub(in crate::http) fn of(roll: &Roll, key: &HoneyKey) -> Self {
        let trips = roll.trips(key.id);
        Self {
            id: key.id.to_string(),
            pool: key.pool.to_string(),
            note: key.note.as_deref().map(str::to_owned),
            created_at: time(key.created_at),
            removed: key.removed,
            uses: trips.map_or(0, |trips| trips.uses),
            last_trip: trips.map(|trips| trips.last),
        }
    }
}

impl HoneyKeyMade {
    pub(in crate::http) fn of(roll: &Roll, key: &HoneyKey) -> Self {
        Self { view: HoneyKeyView::of(roll, key), key: None }
    }
}

impl TripwireRuleView {
    pub(in crate::http) fn of(pool: Option<&PoolId>, rule: Rule) -> Self {
        // The rule of all has none above it: what it does not say is to record alone.
        let standing = pool.is_none().then_some(Actions::RECORD);
        let words = |actions: Option<Actions>| actions.or(standing).map(Actions::words);
        Self {
            pool: pool.map(ToString::to_string),
            honey: words(rule.honey),
            revoked: words(rule.revoked),
            rotated: words(rule.rotated),
        }
    }
}
