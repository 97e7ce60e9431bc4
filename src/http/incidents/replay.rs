//! `GET /v1/incidents/{id}/replay`: event by event, what was done, by whom, and what it changed.

use std::time::Duration;

use axum::Json as Reply;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use crate::domain::event::Recorded;
use crate::domain::ids::IncidentId;
use crate::domain::incident::Incident;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::http::App;
use crate::http::caller::{Caller, MayReadEvents};
use crate::http::openapi::Refusals;
use crate::http::page::REPLAY_LIMIT_MAX;
use crate::http::path::{Id, IncidentPath, no_such};
use crate::http::problem::Problem;
use crate::http::query::Pairs;
use crate::http::schema;
use crate::http::view::time;
use crate::incident::replay::{EVENTS_MAX, Moment, Page, Replay, Replayed};
use crate::node::replay::look_through;

/// Each reads the whole log, and keeps a connection and two threads as long.
static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

/// How much of the replay.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(in crate::http) struct ReplayQuery {
    #[param(schema_with = schema::replay_limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(schema_with = schema::position_cursor, required = false)]
    cursor: Option<String>,
}

/// A page of a replay.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ReplayPage {
    items: Vec<MomentView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::position_cursor, required = false)]
    next_cursor: Option<String>,
}

/// One event that carries the incident.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct MomentView {
    #[schema(schema_with = schema::position)]
    position: u64,
    #[schema(schema_with = schema::event_kind)]
    kind: &'static str,
    /// What it is about: a kind, a colon, and its id.
    subject: String,
    #[schema(schema_with = schema::time)]
    recorded_at: String,
    /// How long after the first sign, or after the opening where none is known.
    after_seconds: f64,
    /// `operator:`, `worker:` or `enrollee:` and an id, or `system`.
    actor: String,
    /// The operator's name at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    reason: Option<String>,
    /// A note, a finding, a summary, or the step that was settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    text: Option<String>,
    /// The position of the event that led to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::position, required = false)]
    cause: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    workers: Option<EffectView>,
    /// Of what took access away: since when it is known to be gone on every node. Null while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<InForceAt>)]
    in_force: Option<Option<InForceAt>>,
}

/// How many workers were accepted with at least one of their keys, right before the event and right after it.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct EffectView {
    /// `fleet`: all were looked at. `workers`: those that the event is about.
    of: &'static str,
    #[schema(schema_with = schema::position)]
    looked_at: u64,
    #[schema(schema_with = schema::position)]
    before: u64,
    #[schema(schema_with = schema::position)]
    after: u64,
}

/// Since when something was in force on every node.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct InForceAt {
    /// The position of the `barrier.passed` that says so.
    #[schema(schema_with = schema::position)]
    position: u64,
    #[schema(schema_with = schema::time)]
    at: String,
    /// How long after the event.
    after_seconds: f64,
}

/// Replays an incident: its events in order, each with what it changed. Every number is counted by folding the log from its
/// beginning, which takes a while on a long one.
#[utoipa::path(
    get, path = "/v1/incidents/{id}/replay", tag = "incidents", params(IncidentPath, ReplayQuery),
    responses((status = 200, body = ReplayPage), Refusals)
)]
pub(in crate::http) async fn replay(
    State(app): State<App>,
    _caller: Caller<MayReadEvents>,
    Id(incident): Id<IncidentId>,
    mut query: Pairs,
) -> Result<Reply<Value>, Problem> {
    let paging = query.paging()?;
    query.end()?;
    let page = Page { after: paging.cursor_as()?, limit: paging.limit_up_to(REPLAY_LIMIT_MAX)? };
    let end = known(&app, &incident, |roll, _| roll.next_position())?;
    let pass = folded(&app, end, Replay::new(incident.clone(), page), Replay::see).await?;
    let Replayed { roll, moments, more } = pass.end();
    let found = roll.incident(incident.as_str()).ok_or_else(no_such::<IncidentId>)?;
    let since = found.description.first_sign.unwrap_or(found.opened_at);
    let next = moments.last().filter(|_| more).map(|moment| moment.position.to_string());
    let items: Vec<MomentView> = moments.into_iter().map(|moment| MomentView::of(moment, since)).collect();
    Ok(Reply(json!(ReplayPage { items, next_cursor: next })))
}

/// What is asked of the incident as this node knows it.
pub(super) fn known<T>(app: &App, id: &IncidentId, ask: impl Fn(&Roll, &Incident) -> T) -> Result<T, Problem> {
    let snapshot = app.node().snapshot();
    let found = snapshot.roll.incident(id.as_str()).ok_or_else(no_such::<IncidentId>)?;
    Ok(ask(&snapshot.roll, found))
}

/// Shows every event before `end` to `see`, if that can be done within a request.
pub(super) async fn folded<S: Send + 'static>(
    app: &App,
    end: u64,
    state: S,
    see: impl FnMut(&mut S, &Recorded) + Send + 'static,
) -> Result<S, Problem> {
    if end > EVENTS_MAX {
        return Err(Problem::replay_too_long(end, EVENTS_MAX));
    }
    let patience: Duration = app.settings().request_timeout / 4;
    let place = tokio::time::timeout(patience, ONE_AT_A_TIME.acquire()).await;
    let _place = place.map_err(|_| Problem::replay_busy())?.map_err(Problem::internal)?;
    let client = app.database().client().await?;
    Ok(look_through(&client, app.node().keys(), app.log(), end, state, see).await?)
}

impl MomentView {
    fn of(moment: Moment, since: Timestamp) -> Self {
        let at = moment.recorded_at;
        let in_force = moment.in_force.map(|it| InForceAt {
            position: it.position,
            at: time(it.at),
            after_seconds: seconds(at, it.at),
        });
        Self {
            position: moment.position,
            kind: moment.kind,
            subject: moment.subject,
            recorded_at: time(at),
            after_seconds: seconds(since, at),
            actor: moment.actor,
            name: moment.name,
            reason: moment.reason,
            text: moment.text,
            cause: moment.cause,
            workers: moment.workers.map(|effect| EffectView {
                of: if effect.fleet { "fleet" } else { "workers" },
                looked_at: effect.looked_at,
                before: effect.before,
                after: effect.after,
            }),
            in_force: moment.reduces.then_some(in_force),
        }
    }
}

/// From one moment to the other, to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of a century are exact")]
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    ((to.0 - from.0) / 1_000) as f64 / 1_000.0
}
