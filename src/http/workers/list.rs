//! `GET /v1/workers`: by pool, state, label and name, in the order of the ids.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::super::App;
use super::super::caller::{Caller, MayReadFleet};
use super::super::openapi::Refusals;
use super::super::page::{Listed, listed, without_nul};
use super::super::problem::Problem;
use super::super::query::Pairs;
use super::super::schema;
use super::super::view::WorkerView;
use crate::command::mint;
use crate::domain::ids::{IdError, PoolId};
use crate::domain::worker::{NAME_CHARS_MAX, Standing};
use crate::projection;
use crate::projection::workers::{Filter, ListedWorker};

/// Which workers; all filters have to fit.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `read`; here it is documented")]
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

/// Lists workers.
#[utoipa::path(
    get, path = "/v1/workers", tag = "workers", params(WorkerQuery),
    responses((status = 200, body = WorkerPage), Refusals)
)]
pub(in crate::http) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    query: Pairs,
) -> Result<Listed, Problem> {
    let (filter, limit) = read(query)?;
    let now = mint::now();
    // A worker cannot have one label with two values.
    let Some(filter) = filter else { return Ok(Listed::nothing(app.node())) };
    let question = projection::workers::list(&filter, now, limit);
    listed(&app, &question, limit, |row: &ListedWorker| WorkerView::from_row(row, now), |row| &row.row.id).await
}

/// `None`: nothing can fit.
fn read(mut query: Pairs) -> Result<(Option<Filter>, usize), Problem> {
    let paging = query.paging()?;
    let limit = paging.limit()?;
    let labels = query.all("label").iter().map(|text| label(text)).collect::<Result<Vec<_>, _>>()?;
    let mut filter = Filter {
        after: paging.cursor.as_deref().map(without_nul),
        pool: query.one("pool")?.map(|text| pool(&text)).transpose()?,
        state: query.one("state")?.map(|text| state(&text)).transpose()?,
        labels: BTreeMap::new(),
        name: query.one("name")?.map(name).transpose()?,
    };
    query.end()?;
    let mut possible = true;
    for (name, value) in labels {
        let earlier = filter.labels.insert(name, value.clone());
        // Names and values hold no control character, so that nothing has a label that does.
        possible &= earlier.is_none_or(|earlier| earlier == value) && !value.contains('\0');
    }
    possible &= !filter.labels.keys().any(|name| name.contains('\0'));
    Ok((possible.then_some(filter), limit))
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
