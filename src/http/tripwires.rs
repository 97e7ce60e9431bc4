//! `/v1/tripwires`: what is done when somebody shows a key that nobody has any business to show.

use axum::Json as Reply;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::App;
use super::body::CommandJson;
use super::caller::{Caller, MayManageOperators, MayReadEvents};
use super::openapi::{IdempotencyKey, Refusals};
use super::problem::Problem;
use super::schema;
use super::view::{Changed, TripwireRuleView};
use super::wish::{Answered, Sending};
use crate::domain::command::Command;
use crate::domain::ids::{IdError, PoolId};
use crate::domain::tripwire::{Actions, Rule};

/// The whole rule of a pool, or of all pools that have none. What is not given is the rule of all; there: to record alone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRule {
    /// `null`: all pools that have no rule of their own.
    #[schema(schema_with = schema::chosen_id_or_null)]
    pool: Option<String>,
    /// When a honey key is shown. `isolate` is for the one worker whose own key was last seen from the same address.
    #[schema(schema_with = schema::tripwire_actions_or_null)]
    honey: Option<Vec<String>>,
    /// When a key is shown that was revoked, or that a fence refuses. `isolate` is for the worker whose key it is.
    #[schema(schema_with = schema::tripwire_actions_or_null)]
    revoked: Option<Vec<String>>,
    /// When a key is shown that was rotated away, after its overlap.
    #[schema(schema_with = schema::tripwire_actions_or_null)]
    rotated: Option<Vec<String>>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// Every rule that was set.
#[derive(Serialize, ToSchema)]
pub(super) struct TripwireRules {
    /// The first is that of all pools which have none of their own.
    items: Vec<TripwireRuleView>,
}

/// Lists the rules of tripwires: that of all, and those of pools that have their own.
#[utoipa::path(
    get, path = "/v1/tripwires", tag = "tripwires", responses((status = 200, body = TripwireRules), Refusals)
)]
pub(super) async fn list(State(app): State<App>, _caller: Caller<MayReadEvents>) -> Reply<TripwireRules> {
    let snapshot = app.node().snapshot();
    let of_all = snapshot.roll.tripwire_rule(None).copied().unwrap_or_default();
    let of_pools = snapshot.roll.tripwire_rules().filter_map(|(pool, rule)| Some((pool?, rule)));
    let of_pools = of_pools.map(|(pool, rule)| TripwireRuleView::of(Some(pool), *rule));
    Reply(TripwireRules { items: [TripwireRuleView::of(None, of_all)].into_iter().chain(of_pools).collect() })
}

/// Sets the whole rule of a pool, or of all that have none. Trips are recorded whatever it says.
#[utoipa::path(
    put, path = "/v1/tripwires", tag = "tripwires", request_body = Option<NewRule>, params(IdempotencyKey),
    responses((status = 200, body = Changed<TripwireRuleView>), Refusals)
)]
pub(super) async fn set(
    State(app): State<App>,
    caller: Caller<MayManageOperators>,
    CommandJson { value, asked }: CommandJson<NewRule>,
) -> Result<Answered, Problem> {
    let pool = value.pool.as_deref().map(str::parse::<PoolId>).transpose();
    let pool = pool.map_err(|error: IdError| Problem::invalid("pool", error.to_string()))?;
    let rule = Rule {
        honey: actions("honey", value.honey.as_deref())?,
        revoked: actions("revoked", value.revoked.as_deref())?,
        rotated: actions("rotated", value.rotated.as_deref())?,
    };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let answer = sending.send(Command::SetTripwireRule { pool: pool.clone(), rule }, move |roll, done| {
        let rule = roll.tripwire_rule(pool.as_ref()).copied().unwrap_or_default();
        json!(Changed::by(done, TripwireRuleView::of(pool.as_ref(), rule)))
    });
    answer.await
}

fn actions(field: &'static str, words: Option<&[String]>) -> Result<Option<Actions>, Problem> {
    let invalid = || Problem::invalid(field, "`record`, or `isolate`, `open_incident` or both");
    let Some(words) = words else { return Ok(None) };
    if words.len() > Actions::WORDS_MAX {
        return Err(invalid());
    }
    Actions::of(words.iter().map(String::as_str)).map(Some).map_err(|_| invalid())
}
