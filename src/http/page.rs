//! Pages of lists: a limit, a cursor, and no silent end (H25).

use std::str::FromStr;

use axum::Json;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::Pairs;
use super::{App, POSITION_HEADER, schema};
use crate::node::Node;
use crate::projection::read::{CATCH_UP_MAX, Question};

pub(super) const LIMIT_DEFAULT: usize = 100;
/// A page that still fits a screen's patience and a gateway's buffer.
pub(super) const LIMIT_MAX: usize = 1_000;
/// Of a replay, each page of which costs a pass through the log: some 5 MB.
pub(super) const REPLAY_LIMIT_MAX: usize = 10_000;

/// Looking at more things than this takes longer than a thread that serves everyone should be held.
const INLINE_SCAN_MAX: usize = 2_000;

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
        self.limit_up_to(LIMIT_MAX)
    }

    pub(super) fn limit_up_to(&self, most: usize) -> Result<usize, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if (1..=most).contains(&limit) {
            Ok(limit)
        } else {
            Err(Problem::invalid("limit", format!("from 1 to {most}")))
        }
    }

    /// The cursor of a list that is in the order of its ids.
    pub(super) fn cursor_as<T: FromStr>(&self) -> Result<Option<T>, Problem> {
        let read = |text: &String| text.parse().map_err(|_| Problem::invalid("cursor", "the `next_cursor` of a page"));
        self.cursor.as_ref().map(read).transpose()
    }
}

/// A page of a list, and the position that it is of.
pub(super) struct Listed {
    page: Value,
    next_position: u64,
}

impl Listed {
    /// Where it is clear without asking that nothing fits.
    pub(super) fn nothing(node: &Node) -> Self {
        Self { page: json!({ "items": [] }), next_position: node.snapshot().roll.next_position() }
    }
}

/// Postgres keeps no NUL in a text; for the place of a cursor among ids, any other control character does as well.
pub(super) fn without_nul(cursor: &str) -> String {
    cursor.replace('\0', "\u{1}")
}

impl IntoResponse for Listed {
    fn into_response(self) -> Response {
        let position = HeaderValue::from(self.next_position.saturating_sub(1));
        ([(POSITION_HEADER, position)], Json(self.page)).into_response()
    }
}

/// A list without filters, in the order of its ids: `question` asks for so many rows after the cursor.
pub(super) async fn simple<R: DeserializeOwned, V: Serialize, C: FromStr>(
    app: &App,
    mut query: Pairs,
    question: impl Fn(Option<C>, usize) -> Question,
    view: impl Fn(&R) -> V,
    cursor_of: impl Fn(&R) -> &str,
) -> Result<Listed, Problem> {
    let paging = query.paging()?;
    query.end()?;
    let (after, limit) = (paging.cursor_as()?, paging.limit()?);
    listed(app, &question(after, limit), limit, view, cursor_of).await
}

/// Asks a projection for a page, of what this node knows now or newer. `cursor_of` names the last row for the next request.
pub(super) async fn listed<R: DeserializeOwned, V: Serialize>(
    app: &App,
    question: &Question,
    limit: usize,
    view: impl Fn(&R) -> V,
    cursor_of: impl Fn(&R) -> &str,
) -> Result<Listed, Problem> {
    let known = app.node().snapshot().roll.next_position();
    let found = question.ask::<R>(app.database(), known, limit, CATCH_UP_MAX).await?;
    let items: Vec<V> = found.rows.iter().map(view).collect();
    let page = match found.rows.last().filter(|_| found.more) {
        Some(last) => json!({ "items": items, "next_cursor": cursor_of(last) }),
        None => json!({ "items": items }),
    };
    Ok(Listed { page, next_position: found.next_position })
}

/// A page of what is kept in memory alone, from what lies after the cursor. `cursor_of` names the last item for the next
/// request.
pub(super) fn remembered<T>(
    items: impl Iterator<Item = T>,
    limit: usize,
    view: impl Fn(&T) -> Value,
    cursor_of: impl Fn(&T) -> String,
) -> Value {
    let mut items = items.peekable();
    let taken: Vec<T> = items.by_ref().take(limit).collect();
    let views: Vec<Value> = taken.iter().map(view).collect();
    match taken.last().filter(|_| items.peek().is_some()) {
        Some(last) => json!({ "items": views, "next_cursor": cursor_of(last) }),
        None => json!({ "items": views }),
    }
}

/// Looks through memory, at so many things at the most.
pub(super) async fn scanned<T: Send + 'static>(
    looks_at: usize,
    scan: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    if looks_at <= INLINE_SCAN_MAX {
        return scan();
    }
    tokio::task::spawn_blocking(scan).await.map_err(Problem::internal)?
}
