//! `/v1/workers` and `/v1/workers/{id}`: created, read, updated, removed. Lists are in `list`, states in `actions`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::body::{Asked, CommandJson, given, moment, moment_if};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Reason, Refusals, WaitQuery};
use super::path::{Id, WorkerPath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::view::{Changed, WorkerView};
use super::wish::{Answered, Sending};
use super::{chosen, schema};
use crate::command::{Done, mint};
use crate::domain::command::{Command, CreateWorker};
use crate::domain::ids::{IdError, KeyId, PoolId, WorkerId};
use crate::domain::pool::DEFAULT_POOL;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::Labels;

pub(super) mod actions;
pub(super) mod list;
pub(super) mod sources;

/// A new worker. All of it may be left out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWorker {
    /// `default` if not given.
    #[schema(schema_with = schema::chosen_id_or_null)]
    pool: Option<String>,
    /// Its id, unique for ever: ASCII letters, digits, `.`, `-`, `_`, at most 64. Made if not given.
    #[schema(schema_with = schema::chosen_id_or_null)]
    id: Option<String>,
    #[schema(schema_with = schema::name_or_null)]
    name: Option<String>,
    #[schema(schema_with = schema::labels_or_null)]
    labels: Option<BTreeMap<String, String>>,
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    /// Whether it waits for approval.
    pending: Option<bool>,
    /// A key value that the caller chose, presented together with the worker's id.
    #[schema(schema_with = schema::static_secret_or_null)]
    static_secret: Option<SecretString>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// What changes of a worker; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkerChange {
    /// Null: none from now on.
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = schema::name_or_null, required = false)]
    name: Option<Option<String>>,
    /// All labels, as they are from now on.
    #[schema(schema_with = schema::labels_or_null)]
    labels: Option<BTreeMap<String, String>>,
    /// Null: never.
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = schema::time_or_null, required = false)]
    expires_at: Option<Option<String>>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// Creates a worker. The same worker again, by its id, is a success; with anything different it is a conflict.
#[utoipa::path(
    post, path = "/v1/workers", tag = "workers", request_body = Option<NewWorker>, params(IdempotencyKey),
    responses(
        (status = 201, body = WorkerView),
        (status = 200, description = "It is there already", body = WorkerView),
        Refusals,
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewWorker>,
) -> Result<Answered, Problem> {
    let pool = value.pool.as_deref().unwrap_or(DEFAULT_POOL).parse::<PoolId>();
    let worker = value.id.as_deref().map_or_else(|| Ok(mint::worker_id()), str::parse::<WorkerId>);
    let worker = worker.map_err(|error: IdError| Problem::invalid("id", error.to_string()))?;
    let static_secret = match &value.static_secret {
        Some(secret) => Some((KeyId::from_uuid(mint::id()), chosen::static_secret(&app, secret).await?)),
        None => None,
    };
    let command = Command::CreateWorker(CreateWorker {
        worker: worker.clone(),
        pool: pool.map_err(|error| Problem::invalid("pool", error.to_string()))?,
        name: value.name.map(Into::into),
        labels: shared(value.labels.unwrap_or_default()),
        expires_at: moment_if("expires_at", value.expires_at.as_deref())?,
        pending: value.pending.unwrap_or(false),
        static_secret,
    });
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let now = sending.now();
    Ok(sending.send(command, move |roll, _| view(roll, &worker, now)).await?.created_in("/v1/workers"))
}

/// One worker.
#[utoipa::path(
    get, path = "/v1/workers/{id}", tag = "workers", params(WorkerPath),
    responses((status = 200, body = WorkerView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(worker): Id<WorkerId>,
) -> Result<Reply<WorkerView>, Problem> {
    let roll = &app.node().snapshot().roll;
    let worker = roll.worker(worker.as_str()).ok_or_else(no_such::<WorkerId>)?;
    Ok(Reply(WorkerView::of(roll, worker, mint::now())))
}

/// Changes a worker's name, labels or expiry.
#[utoipa::path(
    patch, path = "/v1/workers/{id}", tag = "workers", request_body = Option<WorkerChange>, params(WorkerPath, IdempotencyKey, WaitQuery),
    responses((status = 200, body = Changed<WorkerView>), Refusals)
)]
pub(super) async fn update(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(worker): Id<WorkerId>,
    CommandJson { value, asked }: CommandJson<WorkerChange>,
) -> Result<Answered, Problem> {
    let expires_at = value.expires_at.map(|at| at.map(|at| moment("expires_at", &at)).transpose()).transpose()?;
    let command = Command::UpdateWorker {
        worker: worker.clone(),
        name: value.name.map(|name| name.map(Into::into)),
        labels: value.labels.map(shared),
        expires_at,
    };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    send(sending, command, worker).await
}

/// Removes a worker, for ever: none of its credentials works any more, and its id is not used again.
#[utoipa::path(
    delete, path = "/v1/workers/{id}", tag = "workers", params(WorkerPath, Reason, IdempotencyKey, WaitQuery),
    responses((status = 200, body = Changed<WorkerView>), Refusals)
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(worker): Id<WorkerId>,
    mut query: Pairs,
    asked: Asked,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(query.one("reason")?)?;
    query.end()?;
    send(sending, Command::RemoveWorker { worker: worker.clone() }, worker).await
}

/// Sends a command about a worker that is there, and answers with what became of it.
async fn send(sending: Sending<'_>, command: Command, worker: WorkerId) -> Result<Answered, Problem> {
    let now = sending.now();
    sending.send(command, move |roll, done| changed(roll, done, &worker, now)).await
}

fn view(roll: &Roll, worker: &WorkerId, now: Timestamp) -> Value {
    json!(roll.worker(worker.as_str()).map(|worker| WorkerView::of(roll, worker, now)))
}

fn changed(roll: &Roll, done: &Done<'_>, worker: &WorkerId, now: Timestamp) -> Value {
    json!(roll.worker(worker.as_str()).map(|worker| Changed::by(done, WorkerView::of(roll, worker, now))))
}

fn shared(labels: BTreeMap<String, String>) -> Labels {
    labels.into_iter().map(|(name, value)| (Arc::from(name), Arc::from(value))).collect()
}
