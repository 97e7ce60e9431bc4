//! `/v1/readmissions`: isolated workers on their way back, wave by wave. They are planned, applied, approved and collected from
//! as plans of the kind `readmit` are; here is how they fare, and the brakes.

use axum::Json as Reply;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::body::{Asked, CommandJson, needed_count};
use super::caller::{Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::page::{PagingQuery, remembered};
use super::path::{Id, MadePath, no_such};
use super::problem::Problem;
use super::query::Pairs;
use super::schema;
use super::view::{Adoption, Changed, ReadmissionView};
use super::wish::{Answered, Sending};
use super::workers::actions::Why;
use crate::command::mint;
use crate::domain::command::Command;
use crate::domain::ids::{KeyId, PlanId};
use crate::domain::plan::{Item, Plan};
use crate::domain::readmission::{Readmission, Steering, Wave};
use crate::domain::roll::Roll;
use crate::projection::used;

/// Workers of one question to the database: their keys are a few.
const ASKED_WORKERS: usize = 2_000;

/// Which wave, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NextWave {
    /// Its number, as `next.wave` has it: of two who ask for the same one only one does something.
    #[serde(deserialize_with = "needed_count")]
    #[schema(schema_with = schema::wave_number)]
    wave: u64,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// A page of readmissions.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadmissionPage {
    items: Vec<ReadmissionView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    next_cursor: Option<String>,
}

/// Lists readmissions, oldest first, those too that were not applied.
#[utoipa::path(
    get, path = "/v1/readmissions", tag = "plans", params(PagingQuery),
    responses((status = 200, body = ReadmissionPage), Refusals)
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
    let roll = &snapshot.roll;
    Ok(Reply(remembered(
        roll.readmissions_after(after),
        paging.limit()?,
        |plan| json!(ReadmissionView::of(roll, plan, None, now)),
        |plan| plan.id.to_string(),
    )))
}

/// Shows a readmission: its waves, how their workers use their new keys, and what comes next.
#[utoipa::path(
    get, path = "/v1/readmissions/{id}", tag = "plans", params(MadePath),
    responses((status = 200, body = ReadmissionView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(id): Id<PlanId>,
) -> Result<Reply<ReadmissionView>, Problem> {
    let snapshot = app.node().snapshot();
    let plan = snapshot.roll.plan(id).ok_or_else(no_such::<PlanId>)?;
    let adoption = adoption(&app, &snapshot.roll, plan).await?;
    let view = ReadmissionView::of(&snapshot.roll, plan, Some(&adoption), mint::now());
    view.map(Reply).ok_or_else(no_such::<PlanId>)
}

/// How the workers of each wave come back: from when keys were last accepted, and from what the log says was refused.
async fn adoption(app: &App, roll: &Roll, plan: &Plan) -> Result<Vec<Adoption>, Problem> {
    let Some(progress) = &plan.progress else { return Ok(vec![]) };
    let Some(readmission) = &progress.readmission else { return Ok(vec![]) };
    let mut waves = Vec::with_capacity(readmission.waves.len());
    for wave in &readmission.waves {
        let place = |count: u64| usize::try_from(count).unwrap_or(usize::MAX).min(progress.items.len());
        let mut adoption = Adoption::default();
        for items in progress.items[place(wave.from)..place(wave.to)].chunks(ASKED_WORKERS) {
            adoption.add(adopted(app, roll, readmission, wave, items).await?);
        }
        waves.push(adoption);
    }
    Ok(waves)
}

async fn adopted(
    app: &App,
    roll: &Roll,
    readmission: &Readmission,
    wave: &Wave,
    items: &[Item],
) -> Result<Adoption, Problem> {
    let worker = |item: &Item| match item {
        Item::Worker(index) => roll.worker_at(*index).map(|worker| (*index, worker)),
        Item::Key(_) | Item::EnrollmentSecret(_) | Item::SigningKey(_) | Item::TlsCertificate(_) => None,
    };
    let keys: Vec<KeyId> =
        items.iter().filter_map(worker).flat_map(|(_, worker)| worker.keys.iter().copied()).collect();
    let used = used::spans_of(app.database(), &keys).await?;
    let mut adoption = Adoption::default();
    for (index, worker) in items.iter().filter_map(worker) {
        // Of a shared key nobody knows who has used it.
        let keys = worker.keys.iter().filter_map(|id| roll.key(*id)).filter(|key| key.workers().len() == 1);
        let since = |key: KeyId| used.get(&key).is_some_and(|used| used.last >= wave.released_at);
        let is_stale = readmission.wave_of(index).is_some_and(|(_, place)| readmission.stale.contains(&place));
        let (new, old): (Vec<_>, Vec<_>) = keys.filter(|key| since(key.id)).partition(|key| key.issued > wave.released);
        let (new, old) = (!new.is_empty(), !old.is_empty() || is_stale);
        adoption.new_key_used += u64::from(new);
        adoption.old_key_used += u64::from(old);
        adoption.silent += u64::from(!new && !old);
    }
    Ok(adoption)
}

/// Lets no further workers back in until it is resumed.
#[utoipa::path(
    post, path = "/v1/readmissions/{id}/pause", tag = "plans", request_body = Option<Why>,
    params(MadePath, IdempotencyKey), responses((status = 200, body = Changed<ReadmissionView>), Refusals)
)]
pub(super) async fn pause(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(plan): Id<PlanId>,
    CommandJson { value, asked }: CommandJson<Why>,
) -> Result<Answered, Problem> {
    steer(&app, &caller, asked, value.reason, plan, Steering::Pause).await
}

/// Goes on with one that was paused, or that a bound has stopped. Counting begins anew, and the last wave stands anew.
#[utoipa::path(
    post, path = "/v1/readmissions/{id}/resume", tag = "plans", request_body = Option<Why>,
    params(MadePath, IdempotencyKey), responses((status = 200, body = Changed<ReadmissionView>), Refusals)
)]
pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(plan): Id<PlanId>,
    CommandJson { value, asked }: CommandJson<Why>,
) -> Result<Answered, Problem> {
    steer(&app, &caller, asked, value.reason, plan, Steering::Resume).await
}

/// Releases the next wave without waiting any longer.
#[utoipa::path(
    post, path = "/v1/readmissions/{id}/next", tag = "plans", request_body = NextWave,
    params(MadePath, IdempotencyKey), responses((status = 200, body = Changed<ReadmissionView>), Refusals)
)]
pub(super) async fn next(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(plan): Id<PlanId>,
    CommandJson { value, asked }: CommandJson<NextWave>,
) -> Result<Answered, Problem> {
    steer(&app, &caller, asked, value.reason, plan, Steering::Next(value.wave)).await
}

/// Isolates all again that it has let in, at once, and refuses what they were given since. The single ones are recorded after
/// it, each by an event.
#[utoipa::path(
    post, path = "/v1/readmissions/{id}/rollback", tag = "plans", request_body = Option<Why>,
    params(MadePath, IdempotencyKey, WaitQuery), responses((status = 200, body = Changed<ReadmissionView>), Refusals)
)]
pub(super) async fn rollback(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(plan): Id<PlanId>,
    CommandJson { value, asked }: CommandJson<Why>,
) -> Result<Answered, Problem> {
    steer(&app, &caller, asked, value.reason, plan, Steering::RollBack).await
}

async fn steer(
    app: &App,
    caller: &Caller<MayManageFleet>,
    asked: Asked,
    reason: Option<String>,
    plan: PlanId,
    steering: Steering,
) -> Result<Answered, Problem> {
    let sending = Sending::new(app, caller.author(), asked).reason(reason)?;
    let now = sending.now();
    let command = Command::SteerReadmission { plan, steering };
    sending
        .send(command, move |roll, done| {
            let view = roll.plan(plan).and_then(|plan| ReadmissionView::of(roll, plan, None, now));
            json!(view.map(|view| Changed::by(done, view)))
        })
        .await
}
