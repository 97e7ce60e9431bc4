//! Lists of keys: all that there are, a worker's, and those that are a risk because several workers have them.

use axum::extract::State;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::caller::{Caller, MayReadFleet};
use super::super::openapi::Refusals;
use super::super::page::{Listed, Paging, PagingQuery, listed};
use super::super::path::{Id, WorkerPath, no_such};
use super::super::problem::Problem;
use super::super::query::Pairs;
use super::super::schema;
use super::super::view::KeyView;
use super::super::waiting::hold;
use crate::command::mint;
use crate::domain::ids::{IdError, KeyId, WorkerId};
use crate::domain::key::{KeyKind, KeyStanding};
use crate::log::head::Head;
use crate::projection;
pub(in crate::http) use crate::projection::keys::Filter;
use crate::projection::keys::ListedKey;

/// Which keys; all filters have to fit. They come oldest first.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `read`; here it is documented")]
pub(in crate::http) struct KeyQuery {
    /// Those that this worker may present.
    #[param(schema_with = schema::chosen_id, required = false)]
    worker: Option<String>,
    /// The risks: keys that several workers share, and static secrets of the same value.
    #[param(required = false)]
    shared: Option<bool>,
    /// Those of workers of this pool.
    #[param(schema_with = schema::chosen_id, required = false)]
    pool: Option<String>,
    #[param(schema_with = schema::key_state, required = false)]
    state: Option<String>,
    #[param(schema_with = schema::key_kind, required = false)]
    kind: Option<String>,
    #[param(schema_with = schema::limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(schema_with = schema::made_id_cursor, required = false)]
    cursor: Option<String>,
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct KeyPage {
    items: Vec<KeyView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// Lists keys, of workers and of operators, whatever their state.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", params(KeyQuery),
    responses((status = 200, body = KeyPage), Refusals)
)]
pub(in crate::http) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    query: Pairs,
) -> Result<Listed, Problem> {
    let (filter, paging) = read(query)?;
    if let Some(worker) = &filter.worker {
        known(&app, worker)?;
    }
    page_of_keys(&app, filter, &paging).await
}

/// Lists a worker's keys and static secrets, whatever their state.
#[utoipa::path(
    get, path = "/v1/workers/{id}/keys", tag = "keys", params(WorkerPath, PagingQuery),
    responses((status = 200, body = KeyPage), Refusals)
)]
pub(in crate::http) async fn of_worker(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(worker): Id<WorkerId>,
    mut query: Pairs,
) -> Result<Listed, Problem> {
    let paging = query.paging()?;
    query.end()?;
    known(&app, &worker)?;
    page_of_keys(&app, Filter { worker: Some(worker), ..Filter::default() }, &paging).await
}

fn known(app: &App, worker: &WorkerId) -> Result<(), Problem> {
    app.node().snapshot().roll.worker(worker.as_str()).map(drop).ok_or_else(no_such::<WorkerId>)
}

fn read(mut query: Pairs) -> Result<(Filter, Paging), Problem> {
    let pool = |text: String| text.parse().map_err(|error: IdError| Problem::invalid("pool", error.to_string()));
    // A text that is no id is nobody's.
    let worker = |text: String| text.parse().map_err(|_: IdError| no_such::<WorkerId>());
    let filter = Filter {
        after: None,
        operator: None,
        worker: query.one("worker")?.map(worker).transpose()?,
        shared: query.parsed("shared", "`true` or `false`")?.unwrap_or(false),
        pool: query.one("pool")?.map(pool).transpose()?,
        state: query.one("state")?.map(|text| state(&text)).transpose()?,
        kind: query.one("kind")?.map(|text| kind(&text)).transpose()?,
    };
    let paging = query.paging()?;
    query.end()?;
    Ok((filter, paging))
}

/// A page of the keys that fit, oldest first.
pub(in crate::http) async fn page_of_keys(app: &App, filter: Filter, paging: &Paging) -> Result<Listed, Problem> {
    let (limit, now) = (paging.limit()?, mint::now());
    let after = match paging.cursor_as()? {
        Some(cursor) => Some(issued(app, cursor).await?),
        None => None,
    };
    let question = projection::keys::list(&Filter { after, ..filter }, now, limit);
    listed(app, &question, limit, |row: &ListedKey| KeyView::from_row(row, now), |row| &row.row.id).await
}

/// Where the key was issued that the last page ended with. Keys are not forgotten, so one that this node does not know never
/// was; or another node has given out that page, which is ahead of this one.
async fn issued(app: &App, cursor: KeyId) -> Result<u64, Problem> {
    let known = || app.node().snapshot().roll.key(cursor).map(|key| key.issued);
    if let Some(issued) = known() {
        return Ok(issued);
    }
    let end = Head::read(&*app.database().client().await?).await?.next_position;
    if let Some(newest) = end.checked_sub(1) {
        hold(app, newest).await?;
    }
    known().ok_or_else(no_such::<KeyId>)
}

fn state(text: &str) -> Result<KeyStanding, Problem> {
    let found = KeyStanding::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| Problem::invalid("state", "one of `live`, `overlapping`, `expired`, `revoked`, `fenced`"))
}

fn kind(text: &str) -> Result<KeyKind, Problem> {
    let found = [KeyKind::Api, KeyKind::Static].into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| Problem::invalid("kind", "one of `api_key`, `static_secret`"))
}
