//! Lists of keys: all that there are, a worker's, and those that are a risk because several workers have them.

use axum::Json as Reply;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::caller::{Caller, MayReadFleet};
use super::super::openapi::Refusals;
use super::super::page::{Paging, PagingQuery, page, scanned};
use super::super::path::{Id, WorkerPath, no_such};
use super::super::problem::Problem;
use super::super::query::Pairs;
use super::super::schema;
use super::super::view::{KeyView, is_shared};
use crate::command::mint;
use crate::domain::ids::{IdError, KeyId, PoolId, WorkerId};
use crate::domain::key::{Key, KeyKind, KeyStanding, SHARERS_MAX};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::Worker;

const STANDINGS: [KeyStanding; 5] =
    [KeyStanding::Live, KeyStanding::Overlapping, KeyStanding::Expired, KeyStanding::Revoked, KeyStanding::Fenced];

/// Which keys; all filters have to fit. Without `worker` or `shared=true` they come oldest first.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `Filter`; here it is documented")]
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

#[derive(Debug)]
struct Filter {
    worker: Option<String>,
    shared: bool,
    pool: Option<PoolId>,
    state: Option<KeyStanding>,
    kind: Option<KeyKind>,
    paging: Paging,
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
) -> Result<Reply<Value>, Problem> {
    let filter = Filter::read(query)?;
    let snapshot = app.node().snapshot();
    let now = mint::now();
    let looks_at = match filter.worker {
        Some(_) => 0,
        // Filters may fit none, and workers may have no key: a page can take a look at all there is.
        None => snapshot.roll.key_count() + snapshot.roll.worker_count(),
    };
    scanned(looks_at, move || filter.page(&snapshot.roll, now)).await
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
) -> Result<Reply<Value>, Problem> {
    let paging = query.paging()?;
    query.end()?;
    let roll = &app.node().snapshot().roll;
    let worker = roll.worker(worker.as_str()).ok_or_else(no_such::<WorkerId>)?;
    one_page(roll, keys_of(roll, worker).collect(), &paging).map(Reply)
}

impl Filter {
    fn read(mut query: Pairs) -> Result<Self, Problem> {
        let pool = |text: String| text.parse().map_err(|error: IdError| Problem::invalid("pool", error.to_string()));
        let filter = Self {
            worker: query.one("worker")?,
            shared: query.parsed("shared", "`true` or `false`")?.unwrap_or(false),
            pool: query.one("pool")?.map(pool).transpose()?,
            state: query.one("state")?.map(|text| state(&text)).transpose()?,
            kind: query.one("kind")?.map(|text| kind(&text)).transpose()?,
            paging: query.paging()?,
        };
        query.end()?;
        Ok(filter)
    }

    fn page(&self, roll: &Roll, now: Timestamp) -> Result<Value, Problem> {
        let keep = |key: &&Key| self.fits(roll, key, now);
        match &self.worker {
            Some(worker) => {
                let worker = roll.worker(worker).ok_or_else(no_such::<WorkerId>)?;
                one_page(roll, keys_of(roll, worker).filter(keep).collect(), &self.paging)
            }
            None if self.shared => one_page(roll, roll.shared().filter(keep).collect(), &self.paging),
            None => {
                let limit = self.paging.limit()?;
                let cursor: Option<KeyId> = self.paging.cursor_as()?;
                // Keys are not forgotten, so the one that the last page ended with is there.
                let keys = roll.keys_after(cursor).ok_or_else(no_such::<KeyId>)?.filter(keep);
                // One more than asked for says whether there is more.
                Ok(rendered(roll, keys.take(limit + 1).collect(), limit, now))
            }
        }
    }

    fn fits(&self, roll: &Roll, key: &Key, now: Timestamp) -> bool {
        // Keys are shared within one pool only.
        let worker = || key.workers().first().and_then(|index| roll.worker_at(*index));
        self.pool.as_ref().is_none_or(|pool| worker().is_some_and(|worker| worker.pool == *pool))
            && self.state.is_none_or(|state| roll.key_standing(key, now) == state)
            && self.kind.is_none_or(|kind| key.kind == kind)
            && (!self.shared || is_shared(roll, key))
    }
}

fn state(text: &str) -> Result<KeyStanding, Problem> {
    let found = STANDINGS.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| Problem::invalid("state", "one of `live`, `overlapping`, `expired`, `revoked`, `fenced`"))
}

fn kind(text: &str) -> Result<KeyKind, Problem> {
    let found = [KeyKind::Api, KeyKind::Static].into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| Problem::invalid("kind", "one of `api_key`, `static_secret`"))
}

fn keys_of<'a>(roll: &'a Roll, worker: &'a Worker) -> impl Iterator<Item = &'a Key> {
    worker.keys.iter().filter_map(|id| roll.key(*id))
}

/// One page in the order of the ids, which is that of creation.
pub(in crate::http) fn one_page(roll: &Roll, mut keys: Vec<&Key>, paging: &Paging) -> Result<Value, Problem> {
    let limit = paging.limit()?;
    let after: Option<KeyId> = paging.cursor_as()?;
    keys.retain(|key| after.is_none_or(|after| key.id > after));
    keys.sort_unstable_by_key(|key| key.id);
    // A key can be both shared and of the same value as another.
    keys.dedup_by_key(|key| key.id);
    Ok(rendered(roll, keys, limit, mint::now()))
}

fn rendered(roll: &Roll, keys: Vec<&Key>, limit: usize, now: Timestamp) -> Value {
    let limit = limit.min(fits(keys.iter().map(|key| key.workers().len())));
    let render = |key: &&Key| json!(KeyView::of(roll, key, now));
    page(keys.into_iter(), limit, render, |key| key.id.to_string())
}

/// How many keys fit a page by the workers that they name: a key can have ten thousand, a thousand such keys would be an
/// answer that nobody can take. At least one.
fn fits(sharers: impl Iterator<Item = usize>) -> usize {
    let mut named = 0;
    let counted = sharers.take_while(|workers| {
        named += workers;
        named <= SHARERS_MAX
    });
    counted.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_keys_names_no_more_workers_than_one_key_can_have() {
        let table: [(&[usize], usize); 5] =
            [(&[], 1), (&[1, 1, 1], 3), (&[SHARERS_MAX], 1), (&[SHARERS_MAX, 1], 1), (&[SHARERS_MAX - 1, 1, 1], 2)];
        for (sharers, expected) in table {
            assert_eq!(fits(sharers.iter().copied()), expected, "{sharers:?}");
        }
    }
}
