//! Pages of lists: a limit, a cursor, and no silent end (H25).

use std::str::FromStr;

use serde_json::{Value, json};

use super::problem::Problem;
use super::schema;

pub(super) const LIMIT_DEFAULT: usize = 100;
/// A page that still fits a screen's patience and a gateway's buffer.
pub(super) const LIMIT_MAX: usize = 1_000;

/// How much of a list, and from where.
#[derive(Clone, Debug, Default)]
pub(super) struct Paging {
    pub limit: Option<usize>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// The parameters of a list that has no filters.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(super) struct PagingQuery {
    #[param(schema_with = schema::limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(schema_with = schema::made_id_cursor, required = false)]
    cursor: Option<String>,
}

impl Paging {
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(LIMIT_DEFAULT) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            _ => Err(Problem::invalid("limit", format!("from 1 to {LIMIT_MAX}"))),
        }
    }

    /// The cursor of a list that is in the order of its ids.
    pub(super) fn cursor_as<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let read = |text: &String| text.parse().map_err(|_| Problem::invalid("cursor", "the `next_cursor` of a page"));
        self.cursor.as_ref().map(read).transpose()
    }
}

/// Takes one page from what lies after the cursor. `cursor_of` names the last item for the next request.
pub(super) fn page<T>(
    items: impl Iterator<Item = T>,
    limit: usize,
    render: impl Fn(&T) -> Value,
    cursor_of: impl Fn(&T) -> String,
) -> Value {
    let mut items = items.peekable();
    let taken: Vec<T> = items.by_ref().take(limit).collect();
    let rendered: Vec<Value> = taken.iter().map(render).collect();
    match (items.peek(), taken.last()) {
        (Some(_), Some(last)) => json!({ "items": rendered, "next_cursor": cursor_of(last) }),
        _ => json!({ "items": rendered }),
    }
}
