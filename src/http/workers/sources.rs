//! `GET /v1/workers/{id}/sources`: the addresses that a worker's credentials came from.

use axum::Json as Reply;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::ids::WorkerId;
use crate::http::caller::{Caller, MayReadFleet};
use crate::http::openapi::Refusals;
use crate::http::path::{Id, WorkerPath, no_such};
use crate::http::problem::Problem;
use crate::http::view::SourceView;
use crate::http::{App, schema};
use crate::projection::used;

/// Addresses in one answer, the newest: of a worker that has changed its key every day for years, each key has some.
const SHOWN_MAX: usize = 256;

/// From where a worker came.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WorkerSources {
    /// The newest first. Noted every ten seconds; of a key the last 16 are kept.
    sources: Vec<WorkerSource>,
    /// Whether there are older ones, which are not shown.
    more: bool,
}

/// An address, and the key that was shown from there, or that a token which was shown was made from.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WorkerSource {
    #[serde(flatten)]
    source: SourceView,
    #[schema(schema_with = schema::made_id)]
    key: String,
}

/// The addresses that a worker's credentials came from.
#[utoipa::path(
    get, path = "/v1/workers/{id}/sources", tag = "workers", params(WorkerPath),
    responses((status = 200, body = WorkerSources), Refusals)
)]
pub(in crate::http) async fn sources(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(worker): Id<WorkerId>,
) -> Result<Reply<WorkerSources>, Problem> {
    let keys = {
        let snapshot = app.node().snapshot();
        snapshot.roll.worker(worker.as_str()).ok_or_else(no_such::<WorkerId>)?.keys.clone()
    };
    let mut found = used::sources(app.database(), &keys, SHOWN_MAX + 1).await?;
    let more = found.len() > SHOWN_MAX;
    found.truncate(SHOWN_MAX);
    let sources = found.iter().map(|(key, source)| WorkerSource { source: source.into(), key: key.clone() });
    Ok(Reply(WorkerSources { sources: sources.collect(), more }))
}
