//! `GET /v1/workers`: by pool, state, label and name, in the order of the ids.

use axum::Json as Reply;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::caller::{Caller, MayReadFleet};
use super::super::openapi::Refusals;
use super::super::page::{INLINE_SCAN_MAX, page, scanned};
use super::super::problem::Problem;
use super::super::query::Pairs;
use super::super::schema;
use super::super::view::WorkerView;
use crate::command::mint;
use crate::domain::ids::{IdError, PoolId};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{NAME_CHARS_MAX, Standing, Worker};

/// Which workers; all filters have to fit.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `Filter`; here it is documented")]
pub(in crate::http) struct WorkerQuery {
    #[param(schema_with = schema::chosen_id, required = false)]
    pool: Option<String>,
    #[param(schema_with = schema::worker_state, required = false)]
    state: Option<String>,
    /// `name=value`; may be repeated, and all of them have to fit.
    #[param(schema_with = schema::label_filter, required = false)]
    label: Option<Vec<String>>,
    /// The whole name. Of removed and rejected workers only together with `state`.
    #[param(schema_with = schema::name, required = false)]
    name: Option<String>,
    #[param(schema_with = schema::limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(required = false)]
    cursor: Option<String>,
}

/// A page of workers.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WorkerPage {
    items: Vec<WorkerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

#[derive(Debug, Default, PartialEq)]
struct Filter {
    pool: Option<PoolId>,
    state: Option<Standing>,
    labels: Vec<(String, String)>,
    name: Option<String>,
    limit: usize,
    cursor: Option<String>,
}

/// Lists workers.
#[utoipa::path(
    get, path = "/v1/workers", tag = "workers", params(WorkerQuery),
    responses((status = 200, body = WorkerPage), Refusals)
)]
pub(in crate::http) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    query: Pairs,
) -> Result<Reply<Value>, Problem> {
    let filter = Filter::read(query)?;
    let snapshot = app.node().snapshot();
    let now = mint::now();
    let looks_at = filter.looks_at(&snapshot.roll);
    scanned(looks_at, move || Ok(filter.page(&snapshot.roll, now))).await
}

impl Filter {
    fn read(mut query: Pairs) -> Result<Self, Problem> {
        let paging = query.paging()?;
        let filter = Self {
            pool: query.one("pool")?.map(|text| pool(&text)).transpose()?,
            state: query.one("state")?.map(|text| state(&text)).transpose()?,
            labels: query.all("label").iter().map(|text| label(text)).collect::<Result<_, _>>()?,
            name: query.one("name")?.map(name).transpose()?,
            limit: paging.limit()?,
            cursor: paging.cursor,
        };
        query.end()?;
        Ok(filter)
    }

    /// The name to look up, if the index of names can answer: it holds the members of the fleet.
    fn indexed_name(&self) -> Option<&str> {
        match self.state {
            Some(Standing::Removed | Standing::Rejected) => None,
            Some(Standing::Pending | Standing::Active | Standing::Isolated | Standing::Expired) | None => {
                self.name.as_deref()
            }
        }
    }

    /// How many workers a page can take a look at.
    fn looks_at(&self, roll: &Roll) -> usize {
        match self.indexed_name() {
            Some(name) => roll.workers_named(name).take(INLINE_SCAN_MAX + 1).count(),
            None if self.pool.is_none() && self.state.is_none() && self.labels.is_empty() => self.limit + 1,
            None => roll.worker_count(),
        }
    }

    fn page(&self, roll: &Roll, now: Timestamp) -> Value {
        let render = |worker: &&Worker| json!(WorkerView::of(roll, worker, now));
        let cursor = |worker: &&Worker| worker.id.to_string();
        let fits = |worker: &&Worker| self.fits(worker, now);
        match self.indexed_name() {
            None => page(roll.workers_after(self.cursor.as_deref()).filter(fits), self.limit, render, cursor),
            // Those of one name are few, and in no order.
            Some(name) => {
                let after = |worker: &&Worker| self.cursor.as_deref().is_none_or(|id| worker.id.as_str() > id);
                let mut named: Vec<_> = roll.workers_named(name).filter(after).filter(fits).collect();
                named.sort_unstable_by(|a, b| a.id.cmp(&b.id));
                page(named.into_iter(), self.limit, render, cursor)
            }
        }
    }

    fn fits(&self, worker: &Worker, now: Timestamp) -> bool {
        let has = |(name, value): &(String, String)| {
            let labels = worker.labels.as_deref();
            labels.and_then(|labels| labels.get(name.as_str())).is_some_and(|found| **found == **value)
        };
        self.pool.as_ref().is_none_or(|pool| worker.pool == *pool)
            && self.state.is_none_or(|state| worker.standing(now) == state)
            && self.name.as_deref().is_none_or(|name| worker.name.as_deref() == Some(name))
            && self.labels.iter().all(has)
    }
}

fn pool(text: &str) -> Result<PoolId, Problem> {
    text.parse().map_err(|error: IdError| Problem::invalid("pool", error.to_string()))
}

/// As strict as where names are given: a text that is no name finds nothing, and is a mistake.
fn name(text: String) -> Result<String, Problem> {
    if text.is_empty() || text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control) {
        let detail = format!("1 to {NAME_CHARS_MAX} characters, none of them control characters");
        return Err(Problem::invalid("name", detail));
    }
    Ok(text)
}

fn state(text: &str) -> Result<Standing, Problem> {
    let found = Standing::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| {
        let states = Standing::ALL.map(|state| format!("`{}`", state.as_str()));
        Problem::invalid("state", format!("one of {}", states.join(", ")))
    })
}

fn label(text: &str) -> Result<(String, String), Problem> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) =
        parts.ok_or_else(|| Problem::invalid("label", "a label and its value, such as `site=berlin`"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_name_and_a_value() {
        let table = [
            ("site=berlin", Some(("site", "berlin"))),
            ("site=", Some(("site", ""))),
            ("a=b=c", Some(("a", "b=c"))),
            ("site", None),
            ("=berlin", None),
            ("", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(label(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_state_is_one_that_a_worker_can_have() {
        assert_eq!(state("isolated").ok(), Some(Standing::Isolated));
        assert!(state("Isolated").is_err());
        assert!(state("").is_err());
    }
}
