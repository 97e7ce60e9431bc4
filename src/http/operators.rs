//! `/v1/operators`: who administers, and with which keys.

use axum::Json as Reply;
use axum::extract::State;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::App;
use super::body::{Asked, CommandJson, moment_if};
use super::caller::{Caller, MayManageOperators, MayReadFleet};
use super::keys::list::{Filter, KeyPage, page_of_keys};
use super::openapi::{IdempotencyKey, Reason, Refusals, WaitQuery};
use super::page::{Listed, PagingQuery, simple};
use super::path::{Id, MadePath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::view::{Changed, KeyMade, OperatorMade, OperatorView};
use super::wish::{Answered, Sending};
use super::{keys, schema};
use crate::command::mint;
use crate::credential::key::KeyKind as Prefix;
use crate::domain::command::{Command, CreateKey};
use crate::domain::event::KeyHolder;
use crate::domain::ids::OperatorId;
use crate::domain::key::KeyKind;
use crate::domain::operator::{Role, UnknownRole};
use crate::projection;
use crate::projection::operators::OperatorRow;

/// A new operator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOperator {
    #[schema(schema_with = schema::name)]
    name: String,
    #[schema(schema_with = schema::role)]
    role: String,
    /// When its first key expires.
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// What changes of an operator; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OperatorChange {
    #[schema(schema_with = schema::name_or_null)]
    name: Option<String>,
    #[schema(schema_with = schema::role_or_null)]
    role: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// A new key of an operator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOperatorKey {
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// A page of operators.
#[derive(Serialize, ToSchema)]
pub(super) struct OperatorPage {
    items: Vec<OperatorView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// Lists operators.
#[utoipa::path(
    get, path = "/v1/operators", tag = "operators", params(PagingQuery),
    responses((status = 200, body = OperatorPage), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    query: Pairs,
) -> Result<Listed, Problem> {
    let view = |row: &OperatorRow| OperatorView::from_row(row, mint::now());
    simple(&app, query, projection::operators::list, view, |row| &row.id).await
}

/// Creates an operator, with a first key.
#[utoipa::path(
    post, path = "/v1/operators", tag = "operators", request_body = NewOperator, params(IdempotencyKey),
    responses((status = 201, body = OperatorMade), Refusals)
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller<MayManageOperators>,
    CommandJson { value, asked }: CommandJson<NewOperator>,
) -> Result<Answered, Problem> {
    let operator = OperatorId::from_uuid(mint::id());
    let fresh = mint::api_key(app.node().keys(), Prefix::Operator);
    let (key, verifier) = (fresh.id, fresh.verifier);
    let command = Command::CreateOperator {
        operator,
        name: value.name.into(),
        role: role(&value.role)?,
        key,
        verifier,
        expires_at: moment_if("expires_at", value.expires_at.as_deref())?,
    };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let now = sending.now();
    let answer = sending.secret("key", fresh.text.expose_secret()).send(command, move |roll, _| {
        json!(roll.operator(operator).map(|operator| OperatorMade::of(roll, operator, key, now)))
    });
    Ok(answer.await?.created_in("/v1/operators"))
}

/// One operator.
#[utoipa::path(
    get, path = "/v1/operators/{id}", tag = "operators", params(MadePath),
    responses((status = 200, body = OperatorView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(operator): Id<OperatorId>,
) -> Result<Reply<OperatorView>, Problem> {
    let roll = &app.node().snapshot().roll;
    let operator = roll.operator(operator).ok_or_else(no_such::<OperatorId>)?;
    Ok(Reply(OperatorView::of(roll, operator, mint::now())))
}

/// Changes an operator's name or role.
#[utoipa::path(
    patch, path = "/v1/operators/{id}", tag = "operators", request_body = Option<OperatorChange>,
    params(MadePath, IdempotencyKey, WaitQuery), responses((status = 200, body = Changed<OperatorView>), Refusals)
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller<MayManageOperators>,
    Id(operator): Id<OperatorId>,
    CommandJson { value, asked }: CommandJson<OperatorChange>,
) -> Result<Answered, Problem> {
    let role = value.role.as_deref().map(role).transpose()?;
    let command = Command::UpdateOperator { operator, name: value.name.map(Into::into), role };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    send(sending, command, operator).await
}

/// Removes an operator, for ever: none of its keys works any more.
#[utoipa::path(
    delete, path = "/v1/operators/{id}", tag = "operators", params(MadePath, Reason, IdempotencyKey, WaitQuery),
    responses((status = 200, body = Changed<OperatorView>), Refusals)
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller<MayManageOperators>,
    Id(operator): Id<OperatorId>,
    mut query: Pairs,
    asked: Asked,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(query.one("reason")?)?;
    query.end()?;
    send(sending, Command::RemoveOperator { operator }, operator).await
}

/// Lists an operator's keys, whatever their state.
#[utoipa::path(
    get, path = "/v1/operators/{id}/keys", tag = "operators", params(MadePath, PagingQuery),
    responses((status = 200, body = KeyPage), Refusals)
)]
pub(super) async fn list_keys(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(operator): Id<OperatorId>,
    mut query: Pairs,
) -> Result<Listed, Problem> {
    let paging = query.paging()?;
    query.end()?;
    if app.node().snapshot().roll.operator(operator).is_none() {
        return Err(no_such::<OperatorId>());
    }
    page_of_keys(&app, Filter { operator: Some(operator), ..Filter::default() }, &paging).await
}

/// Gives an operator a further key.
#[utoipa::path(
    post, path = "/v1/operators/{id}/keys", tag = "operators", request_body = Option<NewOperatorKey>,
    params(MadePath, IdempotencyKey), responses((status = 201, body = KeyMade), Refusals)
)]
pub(super) async fn create_key(
    State(app): State<App>,
    caller: Caller<MayManageOperators>,
    Id(operator): Id<OperatorId>,
    CommandJson { value, asked }: CommandJson<NewOperatorKey>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let new = keys::NewSecret::minted(&app, Prefix::Operator);
    let (key, verifier) = (new.id, new.verifier);
    let command = Command::CreateKey(CreateKey {
        key,
        holder: KeyHolder::Operator(operator),
        kind: KeyKind::Api,
        verifier,
        expires_at: moment_if("expires_at", value.expires_at.as_deref())?,
    });
    keys::make(new.shown_by(sending), command, move |_| Some(key)).await
}

/// Sends a command about an operator that is there, and answers with what became of it.
async fn send(sending: Sending<'_>, command: Command, operator: OperatorId) -> Result<Answered, Problem> {
    let now = sending.now();
    let answer = sending.send(command, move |roll, done| {
        let found = roll.operator(operator);
        json!(found.map(|operator| Changed::by(done, OperatorView::of(roll, operator, now))))
    });
    answer.await
}

fn role(text: &str) -> Result<Role, Problem> {
    text.parse().map_err(|error: UnknownRole| Problem::invalid("role", error.to_string()))
}
