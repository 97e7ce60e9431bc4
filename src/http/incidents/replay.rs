//! `GET /v1/incidents/{id}/replay`: event by event, what was done, by whom, and what it changed.

use axum::Json as Reply;
use axum::extract::State;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::passing::{Made, Wanted, known, made};
use crate::domain::ids::IncidentId;
use crate::domain::time::Timestamp;
use crate::http::caller::{Caller, MayReadEvents};
use crate::http::openapi::Refusals;
use crate::http::page::REPLAY_LIMIT_MAX;
use crate::http::path::{Id, IncidentPath};
use crate::http::problem::Problem;
use crate::http::query::Pairs;
use crate::http::view::time;
use crate::http::{App, POSITION_HEADER, schema};
use crate::incident::replay::{Moment, Page};

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
    /// How many facts it holds: more than one where it is a list, as of the keys that a plan revokes.
    #[schema(schema_with = schema::position)]
    facts: u64,
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

/// Replays an incident: its events in order, each with what it changed, as of the position that the answer names. Every number is
/// counted by folding the log. Where that takes longer than a request may, it is a 503 `replay_underway` that says how far it
/// is: ask again, and the answer is there when it is made.
#[utoipa::path(
    get, path = "/v1/incidents/{id}/replay", tag = "incidents", params(IncidentPath, ReplayQuery),
    responses((status = 200, body = ReplayPage), Refusals)
)]
pub(in crate::http) async fn replay(
    State(app): State<App>,
    _caller: Caller<MayReadEvents>,
    Id(incident): Id<IncidentId>,
    uri: Uri,
    mut query: Pairs,
) -> Result<Response, Problem> {
    let paging = query.paging()?;
    query.end()?;
    let page = Page { after: paging.cursor_as()?, limit: paging.limit_up_to(REPLAY_LIMIT_MAX)? };
    let (end, since) = known(&app, &incident, |roll, found| {
        (roll.next_position(), found.description.first_sign.unwrap_or(found.opened_at))
    })?;
    let answer = made(&app, &uri, incident, Wanted::Page(page), end, false).await?;
    let Made::Page(moments, more) = answer.made else { return Err(Problem::internal("a page was asked for")) };
    let next_cursor = moments.last().filter(|_| more).map(|moment| moment.position.to_string());
    let items: Vec<MomentView> = moments.into_iter().map(|moment| MomentView::of(moment, since)).collect();
    let position = HeaderValue::from(answer.end.saturating_sub(1));
    Ok(([(POSITION_HEADER, position)], Reply(ReplayPage { items, next_cursor })).into_response())
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
            facts: moment.facts,
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
