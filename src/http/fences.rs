//! `/v1/fences`: refuses at once all that was issued to a scope so far, however much that is.

use axum::Json as Reply;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{CommandJson, count};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::page::{Listed, scanned, simple};
use super::problem::Problem;
use super::query::Pairs;
use super::schema;
use super::view::{Changed, FencePlan, FenceView};
use super::wish::Sending;
use crate::command::mint;
use crate::domain::actor::Author;
use crate::domain::command::{Command, Context};
use crate::domain::decide;
use crate::domain::event::Event;
use crate::domain::fence::{FenceScope, NotAScope};
use crate::projection;
use crate::projection::fences::FenceRow;

/// A fence to be raised.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFence {
    /// `everything`, or `pool:`, `enrollment_secret:` or `worker:` and an id. An enrollment secret stands for its lineage:
    /// itself, what it was rotated into, and every worker that these let in. Operators' keys are in no scope.
    #[schema(schema_with = schema::fence_scope)]
    scope: String,
    /// The newest position that is refused: the newest of all if not given, which is everything that was issued so far.
    #[serde(default, deserialize_with = "count")]
    #[schema(schema_with = schema::position_or_null)]
    up_to: Option<u64>,
    /// Whether only to count what the fence would refuse, and change nothing.
    dry_run: Option<bool>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// The fence that stands over the scope now; with `dry_run` what would come of it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documentation")]
pub(super) enum Raised {
    Fence(Changed<FenceView>),
    Plan(FencePlan),
}

/// How much of the list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(super) struct FenceQuery {
    #[param(schema_with = schema::limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(schema_with = schema::fence_scope, required = false)]
    cursor: Option<String>,
}

/// A page of fences.
#[derive(Serialize, ToSchema)]
pub(super) struct FencePage {
    items: Vec<FenceView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// Lists the fences that stand: of each scope the highest.
#[utoipa::path(
    get, path = "/v1/fences", tag = "fences", params(FenceQuery),
    responses((status = 200, body = FencePage), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    query: Pairs,
) -> Result<Listed, Problem> {
    let question = |after: Option<FenceScope>, limit| projection::fences::list(after.as_ref(), limit);
    simple(&app, query, question, |row: &FenceRow| FenceView::from(row), |row| &row.scope).await
}

/// Refuses what was issued to a scope at or before a position: keys, static secrets, tokens and enrollment secrets, with
/// what these made by themselves since. What is issued afterwards is good.
///
/// A fence that is not above the one that stands changes nothing. None is ever taken down.
#[utoipa::path(
    post, path = "/v1/fences", tag = "fences", request_body = NewFence, params(IdempotencyKey, WaitQuery),
    responses((status = 200, body = Raised), Refusals)
)]
pub(super) async fn raise(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewFence>,
) -> Result<Response, Problem> {
    let scope: FenceScope =
        value.scope.parse().map_err(|error: NotAScope| Problem::invalid("scope", error.to_string()))?;
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let command = Command::RaiseFence { scope: scope.clone(), up_to: value.up_to };
    if value.dry_run == Some(true) {
        return Ok(plan(&app, caller.author(), &command, scope).await?.into_response());
    }
    let answer = sending.send(command, move |roll, done| {
        json!(roll.fence(&scope).map(|fence| Changed::by(done, FenceView::of(&scope, fence))))
    });
    Ok(answer.await?.into_response())
}

/// Decided as the command would be, so that a plan is refused for whatever the fence would be refused for.
async fn plan(app: &App, author: Author, command: &Command, scope: FenceScope) -> Result<Reply<Value>, Problem> {
    drop(app.node().current()?);
    let (snapshot, now) = (app.node().snapshot(), mint::now());
    let events = decide(&snapshot.roll, command, &Context { now, author, reason: None, incident: None })?;
    let up_to = match events.as_slice() {
        [Event::FenceRaised { up_to, .. }] => *up_to,
        _ => snapshot.roll.fence(&scope).map_or(0, |standing| standing.up_to),
    };
    let looks_at = snapshot.roll.key_count();
    let count = move || Ok(Reply(json!(FencePlan::of(&scope, up_to, snapshot.roll.reach(&scope, up_to, now)))));
    scanned(looks_at, count).await
}
