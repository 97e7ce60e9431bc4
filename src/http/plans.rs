//! `/v1/plans`: what a batch command would touch is shown first; then exactly that is done, or nothing (promise 12).

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json as Reply;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use self::difference::Difference;
use super::App;
use super::body::{CommandJson, duration, moment_if};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::page::{PagingQuery, remembered, scanned};
use super::path::{Id, MadePath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::view::{Changed, CountsView, PlanView, WavesView, item_view, time};
use super::wish::{Answered, Sending};
use super::{schema, select, signing_keys};
use crate::command::mint;
use crate::domain::command::{Command, Context, MakePlan};
use crate::domain::decide;
use crate::domain::event::Event;
use crate::domain::ids::PlanId;
use crate::domain::key::{Digest, OVERLAP_DEFAULT};
use crate::domain::plan::{Delivery, Item, PLAN_KINDS, Plan, PlanKind};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::signing_key::NewSigningKey;
use crate::node::Node;

pub(super) mod approvals;
pub(super) mod collect;
mod difference;
mod readmit;

/// Items that a dry run shows: a screen. Whoever wants all of them makes the plan, which touches nothing either.
const PREVIEW_ITEMS: usize = 20;

/// A scope shows it, and says so; a plan acts.
const UNPROVEN: &str = "it is not genuine, or cannot be shown to be any more, and says what anybody can write; see where it leads with \
                        `/v1/scope`, and select `key:` and the id if you believe it";

/// A plan to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPlan {
    /// `isolate` and `release` touch workers; `revoke_all` keys, static secrets, with their tokens, and the enrollment secrets
    /// of the scopes selected; `disable_enrollment` only those; `fence` all of these by fences alone, without a record of each.
    /// `rotate_all` gives API keys successors, `rotate_enrollment` enrollment secrets; `rotate_signing_keys`
    /// and `rotate_tls_certificates` are for `everything`. `readmit` lets isolated workers back in wave by wave: see `/v1/readmissions`.
    #[schema(schema_with = schema::plan_kind)]
    kind: String,
    /// What is known: `everything`; or `pool:`, `enrollment_secret:` (all that it let in), `worker:`, `key:` (with all that it
    /// was rotated into) or `operator:` (all that it made, in any depth) and an id; `label:NAME=VALUE`; `source:` and the
    /// CIDR of the last event of a worker's own (what validations have noted is no part of the log: a scope knows it too); or `credential:` and the first digits of a public id. Of one kind, or of one
    /// label, any is enough; of different ones all are needed.
    #[serde(default)]
    #[schema(schema_with = schema::criteria)]
    select: Vec<String>,
    /// A whole credential that was found: what `key:` or `enrollment_secret:` and its id select, or `operator:` and its
    /// operator's. An access token selects the key that it was made from; one whose signature is not good is refused.
    #[schema(value_type = Option<String>)]
    credential: Option<SecretString>,
    /// Only workers that came at this time or later.
    #[schema(schema_with = schema::time_or_null)]
    since: Option<String>,
    /// Only workers that came before this time.
    #[schema(schema_with = schema::time_or_null)]
    before: Option<String>,
    /// When isolations end by themselves; for `isolate` alone.
    #[schema(schema_with = schema::time_or_null)]
    until: Option<String>,
    /// How long what is rotated stays good: 24h if not given, and for signing keys as long as tokens live.
    #[schema(schema_with = schema::overlap_or_null)]
    overlap: Option<String>,
    /// How workers come back; for `readmit` alone.
    waves: Option<readmit::NewWaves>,
    /// For `rotate_all` and `readmit`: `file`, where whoever applies the plan collects the new keys; or `fetch`, where each worker rotates
    /// its own key within the overlap.
    #[schema(schema_with = schema::delivery_or_null)]
    delivery: Option<String>,
    /// The plan that this one takes the place of: the answer says what is on the one list and not on the other.
    #[schema(schema_with = schema::made_id_or_null)]
    replaces: Option<String>,
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

/// With `dry_run` the counts and the first items.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "documentation: there is never one")]
pub(super) enum Made {
    Plan(MadePlan),
    DryRun(Preview),
}

/// What a plan would come to. Nothing was kept.
#[derive(Serialize, ToSchema)]
pub(super) struct Preview {
    #[schema(example = true)]
    dry_run: bool,
    /// The position of the state that it was worked out on.
    #[schema(schema_with = schema::position)]
    position: u64,
    /// When it would expire, were it made now.
    #[schema(schema_with = schema::time)]
    expires_at: String,
    #[schema(schema_with = schema::digest)]
    digest: String,
    counts: CountsView,
    /// The first ones of its list. A plan that is made shows the whole of it.
    #[schema(value_type = Vec<PlanItem>)]
    items: Vec<Value>,
    #[schema(schema_with = schema::position)]
    items_in_all: usize,
    /// Members of the fleet that have a working key now, and would have none.
    #[schema(schema_with = schema::position)]
    left_without_key: u64,
    /// Whether an operator would have to approve it who neither makes nor applies it.
    approval_required: bool,
    /// Of a plan that lets workers back in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    waves: Option<WavesView>,
    /// Where it would take another's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    difference: Option<Difference>,
}

/// A plan that was made, and how it differs from the one whose place it takes.
#[derive(Serialize, ToSchema)]
pub(super) struct MadePlan {
    #[serde(flatten)]
    plan: Changed<PlanView>,
    #[schema(required = false)]
    difference: Option<Difference>,
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
    Ok(Reply(remembered(
        plans,
        paging.limit()?,
        |plan| json!(PlanView::of(&snapshot.roll, plan, now)),
        |plan| plan.id.to_string(),
    )))
}

/// Makes a plan: selects, counts, and names the exact list by a digest. Nothing is touched.
#[utoipa::path(
    post, path = "/v1/plans", tag = "plans", request_body = NewPlan, params(IdempotencyKey),
    responses((status = 200, body = Made), (status = 201, body = MadePlan), Refusals)
)]
pub(super) async fn make(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<NewPlan>,
) -> Result<Response, Problem> {
    let kind = kind(&app, &value)?;
    let replaces = value.replaces.as_deref().map(str::parse).transpose();
    let replaces: Option<PlanId> = replaces.map_err(|_| Problem::invalid("replaces", "the id of a plan"))?;
    let (since, before) = (value.since.as_deref(), value.before.as_deref());
    let known = select::Asked { select: &value.select, credential: value.credential.as_ref(), since, before };
    let (selector, found) = select::selector(&app, known).await?;
    if found.is_some_and(|found| !found.proven) {
        return Err(Problem::invalid("credential", UNPROVEN));
    }
    let plan = PlanId::from_uuid(mint::id());
    let command = Command::MakePlan(MakePlan { plan, kind, selector, replaces });
    let author = caller.author();
    if value.dry_run == Some(true) {
        let context = Context { now: mint::now(), author, reason: None, incident: None };
        return Ok(preview(&app, command, context, replaces).await?.into_response());
    }
    let sending = Sending::new(&app, author, asked).reason(value.reason)?;
    let now = sending.now();
    let after = Arc::new(Mutex::new(None));
    let kept = after.clone();
    let answer = sending.send(command, move |roll, done| {
        // A copy costs a few pointers, and what the plan selects on it is what was shown. The last one counts: of what was
        // decided before, and lost its place to another node, nothing was shown.
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(roll.clone());
        json!(roll.plan(plan).map(|plan| Changed::by(done, PlanView::of(roll, plan, now))))
    });
    let mut answer = answer.await?;
    if answer.foreseen {
        return Ok(answer.created_in("/v1/plans").into_response());
    }
    let roll = after.lock().unwrap_or_else(PoisonError::into_inner).take();
    let new = answer.body["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or(plan);
    match (replaces, roll) {
        (Some(replaced), roll) => {
            let roll = roll.unwrap_or_else(|| app.node().snapshot().roll.clone());
            answer.body["difference"] = difference::between(&app, roll, replaced, new).await?;
        }
        (None, Some(roll)) => remember(&app, roll, new),
        (None, None) => {}
    }
    Ok(answer.created_in("/v1/plans").into_response())
}

/// Keeps what the plan has shown. Other commands of the same commit may have changed what it selects, and then nobody who looks
/// at what was published finds out its list any more.
fn remember(app: &App, roll: Roll, plan: PlanId) {
    let node = app.node().clone();
    // Not waited for: nobody needs it who has only just been shown the plan.
    drop(tokio::task::spawn_blocking(move || {
        roll.plan(plan).cloned().and_then(|plan| node.plan_lists().find(&roll, &plan))
    }));
}

fn kind(app: &App, value: &NewPlan) -> Result<PlanKind, Problem> {
    let until = moment_if("until", value.until.as_deref())?;
    let overlap = value.overlap.as_deref().map(|text| duration("overlap", text)).transpose()?;
    let delivery = value.delivery.as_deref().map(delivery).transpose()?;
    let kind = match value.kind.as_str() {
        "isolate" => PlanKind::Isolate { until },
        "release" => PlanKind::Release,
        "revoke_all" => PlanKind::RevokeAll,
        "disable_enrollment" => PlanKind::DisableEnrollment,
        "fence" => PlanKind::Fence,
        "rotate_all" => PlanKind::RotateAll {
            overlap: overlap.unwrap_or(OVERLAP_DEFAULT),
            delivery: delivery.ok_or_else(no_delivery)?,
        },
        "rotate_enrollment" => PlanKind::RotateEnrollment { overlap: overlap.unwrap_or(OVERLAP_DEFAULT) },
        "rotate_signing_keys" => PlanKind::RotateSigningKeys {
            overlap: overlap.unwrap_or_else(|| signing_keys::overlap_of(&app.node().snapshot().roll)),
        },
        "readmit" => {
            readmit::kind(value.waves.as_ref(), delivery.ok_or_else(no_delivery)?, overlap.unwrap_or(OVERLAP_DEFAULT))?
        }
        "rotate_tls_certificates" => PlanKind::RotateTlsCertificates,
        _ => return Err(Problem::invalid("kind", format!("one of {}", PLAN_KINDS.join(", ")))),
    };
    if until.is_some() && kind.until().is_none() {
        return Err(Problem::invalid("until", "only with the kind `isolate`: nothing else ends by itself"));
    }
    if overlap.is_some() && kind.overlap().is_none() {
        return Err(Problem::invalid("overlap", "only with kinds that rotate, and where workers fetch their keys"));
    }
    if delivery.is_some() && !matches!(kind, PlanKind::RotateAll { .. } | PlanKind::Readmit(_)) {
        return Err(Problem::invalid("delivery", "only with the kinds `rotate_all` and `readmit`"));
    }
    if value.waves.is_some() && kind.terms().is_none() {
        return Err(Problem::invalid("waves", "only with the kind `readmit`"));
    }
    Ok(kind)
}

fn no_delivery() -> Problem {
    Problem::invalid("delivery", "needed with this kind: `file` or `fetch`")
}

fn delivery(text: &str) -> Result<Delivery, Problem> {
    let found = Delivery::ALL.into_iter().find(|delivery| delivery.as_str() == text);
    found.ok_or_else(|| Problem::invalid("delivery", "`file` or `fetch`"))
}

/// Decided as the command would be, so that it is refused for whatever the plan would be refused for.
async fn preview(
    app: &App,
    command: Command,
    context: Context,
    replaces: Option<PlanId>,
) -> Result<Reply<Value>, Problem> {
    drop(app.node().current()?);
    let snapshot = app.node().snapshot();
    let looks_at = snapshot.roll.key_count().max(snapshot.roll.worker_count());
    let node = app.node().clone();
    scanned(looks_at, move || {
        let events = decide(&snapshot.roll, &command, &context)?;
        let preview = events.iter().find_map(|event| match event {
            Event::PlanMade(made) => {
                let items = snapshot.roll.select(&made.kind, &made.selector);
                let first = items.iter().take(PREVIEW_ITEMS);
                Some(Preview {
                    dry_run: true,
                    position: snapshot.roll.next_position().saturating_sub(1),
                    expires_at: time(made.expires_at),
                    digest: made.digest.to_string(),
                    counts: CountsView::of(made.counts),
                    items: first.map(|item| item_view(&snapshot.roll, *item)).collect(),
                    items_in_all: items.len(),
                    left_without_key: made.left_without_key,
                    approval_required: made.approval,
                    waves: made.kind.terms().map(|terms| WavesView::of(terms, made.counts.workers)),
                    difference: replaces.map(|replaced| {
                        Difference::of(&snapshot.roll, node.plan_lists().get(replaced).as_deref(), &items)
                    }),
                })
            }
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
    Ok(Reply(PlanView::of(&snapshot.roll, plan, mint::now())))
}

/// Shows a plan's list: what applying it would touch, or is touching. Of a plan that is recorded to its end the list is in the
/// log.
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
    let node = app.node().clone();
    scanned(looks_at, move || {
        let roll = &snapshot.roll;
        let items = listed(&node, roll, &plan)?;
        let rest = items.iter().enumerate().skip(from);
        Ok(Reply(remembered(rest, limit, |(_, item)| item_view(roll, **item), |(at, _)| (at + 1).to_string())))
    })
    .await
}

fn listed(node: &Node, roll: &Roll, plan: &Plan) -> Result<Arc<[Item]>, Problem> {
    match &plan.progress {
        Some(progress) if progress.is_complete() && progress.total > 0 => Err(Problem::plan_recorded(progress.applied)),
        Some(progress) => Ok(progress.items.clone()),
        None => node.plan_lists().find(roll, plan).ok_or_else(|| Refusal::PlanChanged(plan.id).into()),
    }
}

/// Does exactly what the plan has shown, all at once, or refuses when what it selects has changed since. The single items are
/// recorded after it, each by an event, but for keys that are revoked: those by lists.
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
    let digest = digest(&value.digest)?;
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let now = sending.now();
    let signing_key = next_signing_key(&app, plan).await?;
    sending
        .send(Command::ApplyPlan { plan, digest, signing_key }, move |roll, done| {
            json!(roll.plan(plan).map(|plan| Changed::by(done, PlanView::of(roll, plan, now))))
        })
        .await
}

fn digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::invalid("digest", "the `digest` of the plan: 64 hexadecimal digits"))
}

/// The key that would sign after the next one, for a plan that rotates signing keys, or may: this node may not have heard of
/// it yet.
async fn next_signing_key(app: &App, plan: PlanId) -> Result<Option<NewSigningKey>, Problem> {
    let snapshot = app.node().snapshot();
    let kind = snapshot.roll.plan(plan).map(|plan| &plan.kind);
    if kind.is_some_and(|kind| !matches!(kind, PlanKind::RotateSigningKeys { .. })) {
        return Ok(None);
    }
    let algorithm = snapshot.roll.active_signing_key().map(|key| key.algorithm).unwrap_or_default();
    let keys = app.node().keys().clone();
    // An RSA key takes up to a second of one core.
    let next = tokio::task::spawn_blocking(move || mint::signing_key(&keys, algorithm)).await;
    Ok(Some(next.map_err(Problem::internal)?.map_err(Problem::internal)?))
}
