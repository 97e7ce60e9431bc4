//! Lists of keys: a worker's, and those that are a risk because several workers have them.

use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::caller::{Caller, MayReadFleet};
use super::super::openapi::Refusals;
use super::super::page::{Paging, PagingQuery, page};
use super::super::path::{Id, WorkerPath, no_such};
use super::super::problem::Problem;
use super::super::query::Pairs;
use super::super::schema;
use super::super::view::{KeyView, is_shared};
use crate::command::mint;
use crate::domain::ids::{KeyId, WorkerId};
use crate::domain::key::{Key, SHARERS_MAX};
use crate::domain::roll::Roll;
use crate::domain::worker::Worker;

/// Which keys: `worker`, or `shared=true`, or both.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `list`; here it is documented")]
pub(in crate::http) struct KeyQuery {
    /// Those that this worker may present.
    #[param(schema_with = schema::chosen_id, required = false)]
    worker: Option<String>,
    /// The risks: keys that several workers share, and static secrets of the same value.
    #[param(required = false)]
    shared: Option<bool>,
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

/// Lists keys of one worker, or the risks of the fleet.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", params(KeyQuery),
    responses((status = 200, body = KeyPage), Refusals)
)]
pub(in crate::http) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    mut query: Pairs,
) -> Result<Reply<Value>, Problem> {
    let worker = query.one("worker")?;
    let shared: bool = query.parsed("shared", "`true` or `false`")?.unwrap_or(false);
    let paging = query.paging()?;
    query.end()?;
    let roll = &app.node().snapshot().roll;
    let keys: Vec<&Arc<Key>> = match (worker, shared) {
        (Some(worker), shared) => {
            let worker = roll.worker(&worker).ok_or_else(no_such::<WorkerId>)?;
            let risks = |key: &&Arc<Key>| !shared || is_shared(roll, key);
            keys_of(roll, worker).filter(risks).collect()
        }
        (None, true) => roll.shared().collect(),
        (None, false) => return Err(Problem::invalid("worker", "give a `worker`, or `shared=true`")),
    };
    one_page(roll, keys, &paging).map(Reply)
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

fn keys_of<'a>(roll: &'a Roll, worker: &'a Worker) -> impl Iterator<Item = &'a Arc<Key>> {
    worker.keys.iter().filter_map(|id| roll.key(*id))
}

/// One page in the order of the ids, which is that of creation.
pub(in crate::http) fn one_page(roll: &Roll, mut keys: Vec<&Arc<Key>>, paging: &Paging) -> Result<Value, Problem> {
    let limit = paging.limit()?;
    let after: Option<KeyId> = paging.cursor_as()?;
    keys.retain(|key| after.is_none_or(|after| key.id > after));
    keys.sort_unstable_by_key(|key| key.id);
    // A key can be both shared and of the same value as another.
    keys.dedup_by_key(|key| key.id);
    let limit = limit.min(fits(keys.iter().map(|key| key.workers().len())));
    let now = mint::now();
    let render = |key: &&Arc<Key>| json!(KeyView::of(roll, key, now));
    Ok(page(keys.into_iter(), limit, render, |key| key.id.to_string()))
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
