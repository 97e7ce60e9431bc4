//! `/v1/plans/{id}/collect`: the new secrets of an applied plan, a page at a time, to whoever applied it.
//!
//! They are made as they are collected, and the log has their verifiers alone. Whoever loses an answer gets it again with the
//! same `Idempotency-Key`, within a day; what is not collected in time is left to the workers, or ends.

use axum::extract::State;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::command::{Done, mint};
use crate::credential::key::KeyKind as Prefix;
use crate::domain::command::{Command, FreshSecret};
use crate::domain::event::{Event, KeyCreated, KeyHolder};
use crate::domain::ids::PlanId;
use crate::domain::plan::{COLLECTED_MAX, PlanKind};
use crate::domain::roll::Roll;
use crate::http::body::CommandJson;
use crate::http::caller::{Caller, MayManageFleet};
use crate::http::openapi::{IdempotencyKey, Refusals, WaitQuery};
use crate::http::path::{Id, MadePath, no_such};
use crate::http::problem::Problem;
use crate::http::wish::{Answered, Sending};
use crate::http::{App, chosen, schema};

/// Which secrets.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Collection {
    /// How many items have been dealt with, as the plan's progress or the page before has it.
    #[schema(schema_with = schema::position)]
    done: u64,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// A page of new secrets, shown this once.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Collected {
    /// To go on from.
    #[schema(schema_with = schema::position)]
    done: u64,
    #[schema(schema_with = schema::position)]
    total: u64,
    /// Fewer than were dealt with, where somebody has rotated or revoked some since.
    items: Vec<NewCredential>,
    changed: bool,
}

/// One new credential.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct NewCredential {
    /// `key` or `enrollment_secret`.
    kind: &'static str,
    #[schema(schema_with = schema::made_id)]
    id: String,
    /// The id of the one that it succeeds; null for a worker that comes back, of which nothing is good any more.
    #[schema(schema_with = schema::made_id_or_null)]
    replaces: Option<String>,
    pool: String,
    /// Of a key: those that it is for.
    workers: Vec<String>,
    secret: String,
}

/// Makes and hands over the next new keys or enrollment secrets of an applied plan. Needs an `Idempotency-Key`, since the
/// answer holds secrets.
#[utoipa::path(
    post, path = "/v1/plans/{id}/collect", tag = "plans", request_body = Collection,
    params(MadePath, IdempotencyKey, WaitQuery), responses((status = 200, body = Collected), Refusals)
)]
pub(in crate::http) async fn collect(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(plan): Id<PlanId>,
    CommandJson { value, asked }: CommandJson<Collection>,
) -> Result<Answered, Problem> {
    if asked.idempotency_key.is_none() {
        return Err(Problem::invalid(
            "Idempotency-Key",
            "needed, since the answer holds secrets; send one, such as a UUID",
        ));
    }
    let prefix = prefix(&app.node().snapshot().roll, plan)?;
    let (mut secrets, mut successors) = (Map::new(), Vec::with_capacity(COLLECTED_MAX));
    for _ in 0..COLLECTED_MAX {
        let fresh = mint::api_key(app.node().keys(), prefix);
        // An enrollment secret is looked up by its whole value, as those are that people chose.
        let verifier = match prefix {
            Prefix::Enrollment => chosen::enrollment_verifier(&app, &fresh.text),
            Prefix::Worker | Prefix::Operator => fresh.verifier,
        };
        secrets.insert(fresh.id.to_string(), Value::from(fresh.text.expose_secret()));
        successors.push(FreshSecret { id: fresh.id.0, verifier });
    }
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?.secrets("secrets", secrets);
    let command = Command::CollectPlan { plan, done: value.done, successors };
    let mut answer = sending.send(command, move |roll, done| rendered(roll, plan, done)).await?;
    hand_over(&mut answer.body);
    Ok(answer)
}

fn prefix(roll: &Roll, plan: PlanId) -> Result<Prefix, Problem> {
    let plan = roll.plan(plan).ok_or_else(no_such::<PlanId>)?;
    Ok(match plan.kind {
        PlanKind::RotateEnrollment { .. } => Prefix::Enrollment,
        PlanKind::RotateAll { .. }
        | PlanKind::Isolate { .. }
        | PlanKind::Release
        | PlanKind::RevokeAll
        | PlanKind::DisableEnrollment
        | PlanKind::RotateSigningKeys { .. }
        | PlanKind::RotateTlsCertificates
        | PlanKind::Fence
        | PlanKind::Readmit(_) => Prefix::Worker,
    })
}

fn rendered(roll: &Roll, plan: PlanId, done: &Done<'_>) -> Value {
    let items: Vec<Value> = done.events.iter().filter_map(|recorded| made(roll, &recorded.event)).collect();
    let progress = roll.plan(plan).and_then(|plan| plan.progress.as_ref());
    let (count, total) = progress.map_or((0, 0), |progress| match &progress.readmission {
        Some(readmission) => (readmission.keyed, progress.total),
        None => (progress.done, progress.total),
    });
    json!({ "done": count, "total": total, "items": items, "changed": !done.events.is_empty() })
}

fn made(roll: &Roll, event: &Event) -> Option<Value> {
    match event {
        Event::KeyRotated { key, successor, .. } => {
            let holders: Vec<_> =
                roll.key(*successor)?.workers().iter().filter_map(|index| roll.worker_at(*index)).collect();
            let workers: Vec<&str> = holders.iter().map(|worker| worker.id.as_str()).collect();
            let pool = holders.first().map(|worker| worker.pool.as_str());
            Some(json!({
                "kind": "key", "id": successor.to_string(), "replaces": key.to_string(), "pool": pool, "workers": workers
            }))
        }
        Event::KeyCreated(KeyCreated { key, holder: KeyHolder::Worker(worker), .. }) => {
            let pool = roll.worker(worker.as_str())?.pool.as_str();
            Some(json!({
                "kind": "key", "id": key.to_string(), "replaces": null, "pool": pool, "workers": [worker.as_str()]
            }))
        }
        Event::EnrollmentSecretRotated { secret, successor, .. } => {
            let pool = roll.enrollment_secret(*successor)?.pool.to_string();
            Some(json!({
                "kind": "enrollment_secret", "id": successor.to_string(), "replaces": secret.to_string(), "pool": pool,
                "workers": []
            }))
        }
        _ => None,
    }
}

/// Puts each secret beside what it is of. Those that were made for nothing are no credentials, and are dropped.
fn hand_over(body: &mut Value) {
    let Some(Value::Object(mut secrets)) = body.as_object_mut().and_then(|body| body.remove("secrets")) else { return };
    for item in body["items"].as_array_mut().into_iter().flatten() {
        let secret = item["id"].as_str().and_then(|id| secrets.remove(id));
        item["secret"] = secret.unwrap_or_default();
    }
}
