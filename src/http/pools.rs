//! `/v1/pools`

use axum::Json as Reply;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Asked, CommandJson, duration};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Reason, Refusals, WaitQuery};
use super::page::{Listed, simple, without_nul};
use super::path::{Id, PoolPath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::schema;
use super::view::{Changed, PoolView};
use super::wish::{Answered, Sending};
use crate::command::Done;
use crate::domain::command::Command;
use crate::domain::ids::{IdError, PoolId};
use crate::domain::pool::{PoolSettings, SettingsChange, TokenRecord};
use crate::domain::roll::Roll;
use crate::projection;
use crate::projection::pools::PoolRow;

/// A new pool.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPool {
    /// Its id: ASCII letters, digits, `.`, `-`, `_`, at most 64; never used again.
    #[schema(schema_with = schema::chosen_id)]
    name: String,
    #[schema(schema_with = schema::description_or_null)]
    description: Option<String>,
    /// From 5s to 30d; 15m if not given.
    #[schema(schema_with = schema::token_ttl_or_null)]
    token_ttl: Option<String>,
    /// `each`: an event for each token. `counted`: one count a worker and minute.
    #[schema(schema_with = schema::token_record_or_null)]
    token_record: Option<String>,
    #[schema(schema_with = schema::audience_or_null)]
    audience: Option<String>,
    #[schema(schema_with = schema::scopes_or_null)]
    scopes: Option<Vec<String>>,
    /// Whether one key or static secret may serve several workers.
    sharing: Option<bool>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// What changes of a pool; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolChange {
    #[schema(schema_with = schema::description_or_null)]
    description: Option<String>,
    #[schema(schema_with = schema::token_ttl_or_null)]
    token_ttl: Option<String>,
    #[schema(schema_with = schema::token_record_or_null)]
    token_record: Option<String>,
    #[schema(schema_with = schema::audience_or_null)]
    audience: Option<String>,
    #[schema(schema_with = schema::scopes_or_null)]
    scopes: Option<Vec<String>>,
    sharing: Option<bool>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// How much of the list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(super) struct PoolQuery {
    #[param(schema_with = schema::limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(required = false)]
    cursor: Option<String>,
}

/// A page of pools.
#[derive(Serialize, ToSchema)]
pub(super) struct PoolPage {
    items: Vec<PoolView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Lists pools.
#[utoipa::path(
    get, path = "/v1/pools", tag = "pools", params(PoolQuery),
    responses((status = 200, body = PoolPage), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    query: Pairs,
) -> Result<Listed, Problem> {
    let question = |after: Option<String>, limit| projection::pools::list(after.as_deref().map(without_nul), limit);
    simple(&app, query, question, |row: &PoolRow| PoolView::from(row), |row| &row.id).await
}

/// Creates a pool. The same pool again is a success; with other settings it is a conflict.
#[utoipa::path(
    post, path = "/v1/pools", tag = "pools", request_body = NewPool, params(IdempotencyKey),
    responses((status = 201, body = PoolView), (status = 200, description = "It is there already", body = PoolView), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewPool>,
) -> Result<Answered, Problem> {
    let pool: PoolId = value.name.parse().map_err(|error: IdError| Problem::invalid("name", error.to_string()))?;
    let change = PoolChange {
        description: value.description,
        token_ttl: value.token_ttl,
        token_record: value.token_record,
        audience: value.audience,
        scopes: value.scopes,
        sharing: value.sharing,
        reason: None,
    };
    let settings = change.read()?.onto(&PoolSettings::default());
    let command = Command::CreatePool { pool: pool.clone(), settings };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let place = format!("/v1/pools/{pool}");
    Ok(sending.send(command, move |roll, _| view(roll, &pool)).await?.created(place))
}

/// One pool.
#[utoipa::path(
    get, path = "/v1/pools/{pool}", tag = "pools", params(PoolPath),
    responses((status = 200, body = PoolView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(pool): Id<PoolId>,
) -> Result<Reply<PoolView>, Problem> {
    let snapshot = app.node().snapshot();
    let pool = snapshot.roll.pool(pool.as_str()).ok_or_else(no_such::<PoolId>)?;
    Ok(Reply(PoolView::from(&PoolRow::from(&**pool))))
}

/// Changes a pool's settings.
#[utoipa::path(
    patch, path = "/v1/pools/{pool}", tag = "pools", request_body = Option<PoolChange>, params(PoolPath, IdempotencyKey),
    responses((status = 200, body = Changed<PoolView>), Refusals)
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(pool): Id<PoolId>,
    CommandJson { value, asked }: CommandJson<PoolChange>,
) -> Result<Answered, Problem> {
    let reason = value.reason.clone();
    let command = Command::UpdatePool { pool: pool.clone(), change: value.read()? };
    let sending = Sending::new(&app, caller.author(), asked).reason(reason)?;
    sending.send(command, move |roll, done| changed(roll, done, &pool)).await
}

/// Removes an empty pool. Its name is not used again.
#[utoipa::path(
    delete, path = "/v1/pools/{pool}", tag = "pools", params(PoolPath, Reason, IdempotencyKey, WaitQuery),
    responses((status = 200, body = Changed<PoolView>), Refusals)
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(pool): Id<PoolId>,
    mut query: Pairs,
    asked: Asked,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(query.one("reason")?)?;
    query.end()?;
    let command = Command::RemovePool { pool: pool.clone() };
    sending.send(command, move |roll, done| changed(roll, done, &pool)).await
}

fn view(roll: &Roll, pool: &PoolId) -> Value {
    json!(roll.pool(pool.as_str()).map(|pool| PoolView::from(&PoolRow::from(&**pool))))
}

fn changed(roll: &Roll, done: &Done<'_>, pool: &PoolId) -> Value {
    json!(roll.pool(pool.as_str()).map(|pool| Changed::by(done, PoolView::from(&PoolRow::from(&**pool)))))
}

impl PoolChange {
    fn read(self) -> Result<SettingsChange, Problem> {
        let record = |text: String| match text.as_str() {
            "each" => Ok(TokenRecord::Each),
            "counted" => Ok(TokenRecord::Counted),
            _ => Err(Problem::invalid("token_record", "one of `each`, `counted`")),
        };
        Ok(SettingsChange {
            description: self.description.map(Into::into),
            token_ttl: self.token_ttl.map(|text| duration("token_ttl", &text)).transpose()?,
            token_record: self.token_record.map(record).transpose()?,
            audience: self.audience.map(Into::into),
            scopes: self.scopes.map(|scopes| scopes.into_iter().map(Into::into).collect()),
            sharing: self.sharing,
        })
    }
}
