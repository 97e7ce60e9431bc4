//! `GET /v1/whoami`: whose credential this is.

use axum::Json as Reply;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::attempts::Attempt;
use super::caller::bearer;
use super::meta::Meta;
use super::openapi::Refusals;
use super::problem::Problem;
use super::schema;
use super::view::OperatorView;
use crate::command::mint;
use crate::validate::{Bearer, Presented};

/// Whose credential it is: an operator's or a worker's.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Whoami {
    Operator(OperatorView),
    Worker(WorkerName),
}

/// What a worker is told of itself here; `/v1/worker` tells it more.
#[derive(Serialize, ToSchema)]
pub(super) struct WorkerName {
    #[schema(schema_with = schema::chosen_id)]
    id: String,
    #[schema(schema_with = schema::chosen_id)]
    pool: String,
    #[schema(schema_with = schema::name_or_null)]
    name: Option<String>,
}

/// Whose credential this is.
#[utoipa::path(
    get, path = "/v1/whoami", tag = "operators", responses((status = 200, body = Whoami), Refusals)
)]
pub(super) async fn whoami(
    State(app): State<App>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Reply<Whoami>, Problem> {
    let credential = bearer(&headers).ok_or_else(Problem::unauthorized)?;
    let meta = Meta::of(&extensions);
    let snapshot = app.node().current()?;
    let (presented, now) = (Presented { credential, worker: None }, mint::now());
    let accepted = app
        .check(&snapshot, presented, now, meta.source)
        .map_err(|denied| app.attempts().refuse(&Attempt::denied(&meta, &denied)))?;
    Ok(Reply(match accepted.bearer {
        Bearer::Operator(operator) => Whoami::Operator(OperatorView::of(&snapshot.roll, operator, now)),
        Bearer::Worker { worker, .. } => Whoami::Worker(WorkerName {
            id: worker.id.to_string(),
            pool: worker.pool.to_string(),
            name: worker.name.as_deref().map(str::to_owned),
        }),
    }))
}
