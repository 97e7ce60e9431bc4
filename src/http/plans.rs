//! `/v1/plans`: what a batch command would touch is shown first; then exactly that is done, or nothing (promise 12).

use axum::Json as Reply;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{CommandJson, moment_if};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::page::{PagingQuery, remembered, scanned};
use super::path::{Id, MadePath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::view::{Changed, CountsView, PlanView, item_view};
use super::wish::{Answered, Sending};
use super::{schema, select};
use crate::command::mint;
use crate::domain::command::{Command, Context, MakePlan};
use crate::domain::decide;
use crate::domain::event::Event;
use crate::domain::ids::PlanId;
use crate::domain::key::Digest;
use crate::domain::plan::{Item, Plan, PlanKind};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;

/// A plan to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPlan {
    /// `isolate` and `release` touch workers; `revoke_all` keys, static secrets, with their tokens, and the enrollment secrets
    /// of the scopes selected; `disable_enrollment` only those.
    #[schema(schema_with = schema::plan_kind)]
    kind: String,
    /// What is known: `everything`; or `pool:`, `enrollment_secret:` (all that it let in), `worker:`, `key:` (with all that it
    /// was rotated into) or `operator:` (all that it made, in any depth) and an id; `label:NAME=VALUE`; `source:` and the
    /// CIDR that workers were last seen from; or `credential:` and the first digits of a public id. Of one kind, or of one
    /// label, any is enough; of different ones all are needed.
    #[schema(schema_with = schema::criteria)]
    select: Vec<String>,
    /// Only workers that came at this time or later.
    #[schema(schema_with = schema::time_or_null)]
    since: Option<String>,
    /// Only workers that came before this time.
    #[schema(schema_with = schema::time_or_null)]
    before: Option<String>,
    /// When isolations end by themselves; for `isolate` alone.
    #[schema(schema_with = schema::time_or_null)]
    until: Option<String>,
    /// Whether only to count, and to keep no plan.
    dry_run: Option<bool>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// What is to be applied.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    /// The digest that the plan was shown with.
    #[schema(schema_with = schema::digest)]
    digest: String,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// With `dry_run` the counts alone.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "documentation: there is never one")]
pub(super) enum Made {
    Plan(Changed<PlanView>),
    DryRun(Preview),
}

/// What a plan would come to. Nothing was kept.
#[derive(Serialize, ToSchema)]
pub(super) struct Preview {
    #[schema(example = true)]
    dry_run: bool,
    #[schema(schema_with = schema::digest)]
    digest: String,
    counts: CountsView,
    /// Members of the fleet that have a working key now, and would have none.
    #[schema(schema_with = schema::position)]
    left_without_key: u64,
}

/// A page of plans.
#[derive(Serialize, ToSchema)]
pub(super) struct PlanPage {
    items: Vec<PlanView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// A page of a plan's list.
#[derive(Serialize, ToSchema)]
pub(super) struct ItemPage {
    items: Vec<PlanItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// One item of a plan's list: a worker, a key or an enrollment secret.
#[derive(Serialize, ToSchema)]
pub(super) struct PlanItem {
    kind: String,
    id: String,
    /// Of a key: the worker that it was made for.
    worker: Option<String>,
    pool: Option<String>,
    /// Of a worker.
    name: Option<String>,
}

/// How much of a plan's list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by `query::Pairs`; here it is documented")]
pub(super) struct ItemQuery {
    #[param(schema_with = schema::limit, required = false)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(schema_with = schema::position_cursor, required = false)]
    cursor: Option<String>,
}

/// Lists plans, oldest first.
#[utoipa::path(
    get, path = "/v1/plans", tag = "plans", params(PagingQuery), responses((status = 200, body = PlanPage), Refusals)
)]
pub(super) async fn list(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    mut query: Pairs,
) -> Result<Reply<Value>, Problem> {
    let paging = query.paging()?;
    query.end()?;
    let after: Option<PlanId> = paging.cursor_as()?;
    let (snapshot, now) = (app.node().snapshot(), mint::now());
    let plans = snapshot.roll.plans_after(after);
    Ok(Reply(remembered(plans, paging.limit()?, |plan| json!(PlanView::of(plan, now)), |plan| plan.id.to_string())))
}

/// Makes a plan: selects, counts, and names the exact list by a digest. Nothing is touched.
#[utoipa::path(
    post, path = "/v1/plans", tag = "plans", request_body = NewPlan, params(IdempotencyKey),
    responses((status = 200, body = Made), (status = 201, body = Changed<PlanView>), Refusals)
)]
pub(super) async fn make(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewPlan>,
) -> Result<Response, Problem> {
    let kind = kind(&value)?;
    let selector = select::selector(&app, &value.select, value.since.as_deref(), value.before.as_deref()).await?;
    let plan = PlanId::from_uuid(mint::id());
    let command = Command::MakePlan(MakePlan { plan, kind, selector });
    let author = caller.author();
    if value.dry_run == Some(true) {
        let context = Context { now: mint::now(), author, reason: None, incident: None };
        return Ok(preview(&app, command, context).await?.into_response());
    }
    let sending = Sending::new(&app, author, asked).reason(value.reason)?;
    let now = sending.now();
    let answer = sending
        .send(command, move |roll, done| json!(roll.plan(plan).map(|plan| Changed::by(done, PlanView::of(plan, now)))));
    Ok(answer.await?.created_in("/v1/plans").into_response())
}

fn kind(value: &NewPlan) -> Result<PlanKind, Problem> {
    let until = moment_if("until", value.until.as_deref())?;
    match (value.kind.as_str(), until) {
        ("isolate", until) => Ok(PlanKind::Isolate { until }),
        ("release", None) => Ok(PlanKind::Release),
        ("revoke_all", None) => Ok(PlanKind::RevokeAll),
        ("disable_enrollment", None) => Ok(PlanKind::DisableEnrollment),
        ("release" | "revoke_all" | "disable_enrollment", Some(_)) => {
            Err(Problem::invalid("until", "only with the kind `isolate`: nothing else ends by itself"))
        }
        _ => Err(Problem::invalid("kind", "one of isolate, release, revoke_all, disable_enrollment")),
    }
}

/// Decided as the command would be, so that it is refused for whatever the plan would be refused for.
async fn preview(app: &App, command: Command, context: Context) -> Result<Reply<Value>, Problem> {
    drop(app.node().current()?);
    let snapshot = app.node().snapshot();
    let looks_at = snapshot.roll.key_count().max(snapshot.roll.worker_count());
    scanned(looks_at, move || {
        let events = decide(&snapshot.roll, &command, &context)?;
        let preview = events.iter().find_map(|event| match event {
            Event::PlanMade(made) => Some(Preview {
                dry_run: true,
                digest: made.digest.to_string(),
                counts: CountsView::of(made.counts),
                left_without_key: made.left_without_key,
            }),
            _ => None,
        });
        Ok(Reply(json!(preview)))
    })
    .await
}

/// Shows a plan.
#[utoipa::path(
    get, path = "/v1/plans/{id}", tag = "plans", params(MadePath), responses((status = 200, body = PlanView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(id): Id<PlanId>,
) -> Result<Reply<PlanView>, Problem> {
    let snapshot = app.node().snapshot();
    let plan = snapshot.roll.plan(id).ok_or_else(no_such::<PlanId>)?;
    Ok(Reply(PlanView::of(plan, mint::now())))
}

/// Shows a plan's list: what applying it would touch, or is touching. Of a plan that is recorded to its end the list is in the
/// log: an event each.
#[utoipa::path(
    get, path = "/v1/plans/{id}/items", tag = "plans", params(MadePath, ItemQuery),
    responses((status = 200, body = ItemPage), Refusals)
)]
pub(super) async fn items(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(id): Id<PlanId>,
    mut query: Pairs,
) -> Result<Reply<Value>, Problem> {
    let paging = query.paging()?;
    query.end()?;
    let (from, limit) = (paging.cursor_as::<usize>()?.unwrap_or_default(), paging.limit()?);
    let snapshot = app.node().snapshot();
    let plan = snapshot.roll.plan(id).ok_or_else(no_such::<PlanId>)?.clone();
    let looks_at = snapshot.roll.key_count().max(snapshot.roll.worker_count());
    scanned(looks_at, move || {
        let roll = &snapshot.roll;
        let items = listed(roll, &plan)?;
        let rest = items.iter().enumerate().skip(from);
        Ok(Reply(remembered(rest, limit, |(_, item)| item_view(roll, **item), |(at, _)| (at + 1).to_string())))
    })
    .await
}

fn listed(roll: &Roll, plan: &Plan) -> Result<Vec<Item>, Problem> {
    match &plan.progress {
        Some(progress) if progress.is_complete() && progress.total > 0 => Err(Problem::plan_recorded(progress.applied)),
        Some(progress) => Ok(progress.items.to_vec()),
        None => {
            let items = roll.select(&plan.kind, &plan.selector);
            let same = roll.plan_digest(&plan.kind, &plan.selector, &items) == plan.digest;
            if same { Ok(items) } else { Err(Refusal::PlanChanged(plan.id).into()) }
        }
    }
}

/// Does exactly what the plan has shown, all at once, or refuses when what it selects has changed since. The single items are
/// recorded after it, each by an event.
#[utoipa::path(
    post, path = "/v1/plans/{id}/apply", tag = "plans", request_body = Application,
    params(MadePath, IdempotencyKey, WaitQuery), responses((status = 200, body = Changed<PlanView>), Refusals)
)]
pub(super) async fn apply(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(plan): Id<PlanId>,
    CommandJson { value, asked }: CommandJson<Application>,
) -> Result<Answered, Problem> {
    let digest: Digest = value
        .digest
        .parse()
        .map_err(|_| Problem::invalid("digest", "the `digest` of the plan: 64 hexadecimal digits"))?;
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let now = sending.now();
    sending
        .send(Command::ApplyPlan { plan, digest }, move |roll, done| {
            json!(roll.plan(plan).map(|plan| Changed::by(done, PlanView::of(plan, now))))
        })
        .await
}
