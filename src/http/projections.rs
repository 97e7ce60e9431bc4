//! `/v1/projections`: the tables that lists are read from. Where they are, made anew, compared with the log.

use std::collections::HashMap;
use std::str::FromStr;

use axum::Json as Reply;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::caller::{Caller, MayManageFleet, MayReadEvents, MayReadFleet};
use super::foreseen::{DryRun, Foreseen};
use super::openapi::Refusals;
use super::path::{Id, Named};
use super::problem::Problem;
use super::{App, foreseen, schema};
use crate::projection::cursor::{self, Kept};
use crate::projection::job::{self, Job, Kind};
use crate::projection::{ALL, Projection};

/// A projection by its name.
pub(super) struct Name(&'static Projection);

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Projection::named(text).map(Self).ok_or(())
    }
}

impl Named for Name {
    const NOT_FOUND: &'static str = "there is no such projection";
}

/// The name of a projection.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by `Id`; here it is documented")]
pub(super) struct ProjectionPath {
    /// Its name, such as `workers`.
    #[param(schema_with = schema::projection)]
    id: String,
}

/// A projection.
#[derive(Serialize, ToSchema)]
pub(super) struct ProjectionView {
    #[schema(schema_with = schema::projection)]
    name: &'static str,
    /// Of its tables, and of what their rows mean.
    version: u32,
    /// The position of the last event that its rows hold; absent until it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::position, required = false)]
    position: Option<u64>,
    /// How many events this node knows that the rows do not hold.
    #[schema(schema_with = schema::position)]
    behind: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    built_at: Option<String>,
    /// The newest that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    rebuild: Option<JobView>,
    /// The newest that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    verification: Option<JobView>,
}

/// Something that was asked of a projection.
#[derive(Serialize, ToSchema)]
pub(super) struct JobView {
    id: String,
    #[schema(schema_with = schema::job_kind)]
    kind: &'static str,
    /// `differs`: the rows are not what the log says.
    #[schema(schema_with = schema::job_state)]
    state: String,
    #[schema(schema_with = schema::position)]
    rows_done: u64,
    /// 0 until it is known.
    #[schema(schema_with = schema::position)]
    rows_total: u64,
    /// The position of the last event that the rows held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::position, required = false)]
    position: Option<u64>,
    /// Why it failed, or the first difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    finding: Option<String>,
    #[schema(schema_with = schema::time)]
    requested_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    finished_at: Option<String>,
}

/// All projections.
#[derive(Serialize, ToSchema)]
pub(super) struct Projections {
    items: Vec<ProjectionView>,
}

/// Lists the projections.
#[utoipa::path(
    get, path = "/v1/projections", tag = "projections", responses((status = 200, body = Projections), Refusals)
)]
pub(super) async fn list(State(app): State<App>, _caller: Caller<MayReadFleet>) -> Result<Reply<Projections>, Problem> {
    let kept = kept(&app).await?;
    let mut items = Vec::with_capacity(ALL.len());
    for projection in &ALL {
        items.push(view(&app, projection, &kept).await?);
    }
    Ok(Reply(Projections { items }))
}

/// One projection.
#[utoipa::path(
    get, path = "/v1/projections/{id}", tag = "projections", params(ProjectionPath),
    responses((status = 200, body = ProjectionView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(Name(projection)): Id<Name>,
) -> Result<Reply<ProjectionView>, Problem> {
    Ok(Reply(view(&app, projection, &kept(&app).await?).await?))
}

/// Has a projection made anew, beside the rows that are read meanwhile. The answer is what was asked for; look at the
/// projection to see how far it is.
#[utoipa::path(
    post, path = "/v1/projections/{id}/rebuild", tag = "projections", params(ProjectionPath),
    responses((status = 202, description = "It will be done", body = JobView), Refusals)
)]
pub(super) async fn rebuild(
    State(app): State<App>,
    _caller: Caller<MayManageFleet>,
    Id(Name(projection)): Id<Name>,
    dry_run: DryRun,
) -> Result<Response, Problem> {
    if dry_run.is_asked() {
        let (subject, data) = (foreseen::subject("projection", &projection.name), json!({}));
        return Ok(Reply(Foreseen::deed(&app, "projection.rebuild", subject, data)).into_response());
    }
    Ok(request(&app, projection, Kind::Rebuild).await?.into_response())
}

/// Has every row of a projection compared with the log, which is folded anew for it. The answer is what was asked for; look
/// at the projection to see what was found.
#[utoipa::path(
    post, path = "/v1/projections/{id}/verify", tag = "projections", params(ProjectionPath),
    responses((status = 202, description = "It will be done", body = JobView), Refusals)
)]
pub(super) async fn verify(
    State(app): State<App>,
    _caller: Caller<MayReadEvents>,
    Id(Name(projection)): Id<Name>,
) -> Result<(StatusCode, Reply<JobView>), Problem> {
    request(&app, projection, Kind::Verify).await
}

async fn request(
    app: &App,
    projection: &'static Projection,
    kind: Kind,
) -> Result<(StatusCode, Reply<JobView>), Problem> {
    let job = job::request(app.database(), projection, kind).await?;
    Ok((StatusCode::ACCEPTED, Reply(JobView::from(job))))
}

/// Where each of this binary's versions is, by its schema.
async fn kept(app: &App) -> Result<HashMap<String, Kept>, Problem> {
    let kept = cursor::all(app.database()).await?;
    Ok(kept.into_iter().map(|kept| (kept.schema.clone(), kept)).collect())
}

async fn view(
    app: &App,
    projection: &'static Projection,
    kept: &HashMap<String, Kept>,
) -> Result<ProjectionView, Problem> {
    let jobs = job::newest(app.database(), projection).await?;
    let newest = |kind| jobs.iter().find(|job| job.kind == kind).cloned().map(JobView::from);
    let kept = kept.get(&projection.schema());
    let reached = kept.map_or(0, |kept| kept.next_position);
    Ok(ProjectionView {
        name: projection.name,
        version: projection.version,
        position: reached.checked_sub(1),
        behind: app.node().snapshot().roll.next_position().saturating_sub(reached),
        built_at: kept.map(|kept| moment(kept.built_at)),
        rebuild: newest(Kind::Rebuild),
        verification: newest(Kind::Verify),
    })
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            id: job.id.to_string(),
            kind: job.kind.as_str(),
            state: job.state,
            rows_done: job.rows_done,
            rows_total: job.rows_total,
            position: job.position,
            finding: job.finding,
            requested_at: moment(job.requested_at),
            finished_at: job.finished_at.map(moment),
        }
    }
}

fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
