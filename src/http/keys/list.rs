//! Lists of keys: all that there are, a worker's, and those that are a risk because several workers have them.

use axum::extract::State;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::super::App;
use super::super::caller::{Caller, MayReadFleet};
use super::super::openapi::Refusals;
use super::super::page::{Listed, Paging, PagingQuery, listed};
use super::super::path::{Id, WorkerPath, no_such};
use super::super::problem::Problem;
use super::super::query::Pairs;
use super::super::schema;
use super::super::view::KeyView;
use crate::command::mint;
use crate::domain::ids::{IdError, KeyId, WorkerId};
use crate::domain::key::{KeyKind, KeyStanding};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::projection;
pub(in crate::http) use crate::projection::keys::Filter;
use crate::projection::keys::ListedKey;

/// By how much: a node whose clock is further ahead makes no keys.
const CLOCKS_DIFFER_SECONDS: u64 = 300;

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
    let after = paging.cursor_as()?.map(|cursor| issued(&app.node().snapshot().roll, cursor)).transpose()?;
    let question = projection::keys::list(&Filter { after, ..filter }, now, limit);
    listed(app, &question, limit, |row: &ListedKey| KeyView::from_row(row, now), |row| &row.row.id).await
}

/// Where the key was issued that the last page ended with. Keys are not forgotten, so one that this node does not know never
/// was; or another node has given out that page, which is ahead of this one.
fn issued(roll: &Roll, cursor: KeyId) -> Result<u64, Problem> {
    match roll.key(cursor) {
        Some(key) => Ok(key.issued),
        None if may_be_newer(cursor, roll.recorded_at()) => {
            Err(Problem::cursor_not_reached(roll.next_position().saturating_sub(1)))
        }
        None => Err(no_such::<KeyId>()),
    }
}

/// Whether an id was made after this moment, as far as the clocks of nodes agree. It is a UUIDv7, and holds its own time.
fn may_be_newer(id: KeyId, moment: Timestamp) -> bool {
    let made = Uuid::from_u128(id.0).get_timestamp().map(|made| made.to_unix());
    made.is_some_and(|(seconds, _)| {
        seconds.saturating_add(CLOCKS_DIFFER_SECONDS) >= u64::try_from(moment.unix_seconds()).unwrap_or_default()
    })
}

fn state(text: &str) -> Result<KeyStanding, Problem> {
    let found = KeyStanding::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| Problem::invalid("state", "one of `live`, `overlapping`, `expired`, `revoked`, `fenced`"))
}

fn kind(text: &str) -> Result<KeyKind, Problem> {
    let found = [KeyKind::Api, KeyKind::Static].into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| Problem::invalid("kind", "one of `api_key`, `static_secret`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_only_a_later_state_can_know_is_waited_for_and_any_other_is_nobodys() {
        let now = mint::now();
        let minutes = |minutes: i64| Timestamp(now.0 + minutes * 60_000_000);
        let made_now = KeyId::from_uuid(mint::id());
        for (id, moment, newer) in [
            (made_now, now, true),
            (made_now, minutes(-60), true),
            // The clock of the node that made it may be behind.
            (made_now, minutes(4), true),
            (made_now, minutes(6), false),
            (KeyId(1), minutes(-60), false),
            (KeyId::from_uuid(Uuid::new_v4()), minutes(-60), false),
        ] {
            assert_eq!(may_be_newer(id, moment), newer, "{id} at {moment:?}");
        }
    }
}
