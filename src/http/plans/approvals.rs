//! The rule of two persons: `/v1/plans/{id}/approve`, and `/v1/plan-policy`, which says where it holds.

use std::sync::Arc;

use axum::Json as Reply;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Application;
use crate::domain::command::{self, Command};
use crate::domain::ids::{PlanId, PoolId};
use crate::domain::key::Digest;
use crate::domain::plan::{ApprovalPolicy, PLAN_KINDS, POLICY_POOLS_MAX};
use crate::http::App;
use crate::http::body::CommandJson;
use crate::http::caller::{Caller, MayManageFleet, MayManageOperators, MayReadFleet};
use crate::http::openapi::{IdempotencyKey, Refusals};
use crate::http::path::{Id, MadePath};
use crate::http::problem::Problem;
use crate::http::schema;
use crate::http::view::{Changed, PlanView};
use crate::http::wish::{Answered, Sending};

/// Which plans need an operator beside the one who makes and the one who applies them.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct PolicyView {
    /// These kinds.
    #[schema(schema_with = schema::plan_kinds)]
    kinds: Vec<String>,
    /// Plans with anything of these pools on their lists.
    #[schema(schema_with = schema::pools)]
    pools: Vec<String>,
}

/// What is given is set anew, the whole of it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PolicyChange {
    #[schema(schema_with = schema::plan_kinds_or_null)]
    kinds: Option<Vec<String>>,
    #[schema(schema_with = schema::pools_or_null)]
    pools: Option<Vec<String>>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

impl PolicyView {
    fn of(policy: &ApprovalPolicy) -> Self {
        Self {
            kinds: policy.kinds.iter().map(ToString::to_string).collect(),
            pools: policy.pools.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Approves exactly what a plan has shown. An approval counts if it is not that of the plan's maker or of who applies it,
/// and while its author may still do the same.
#[utoipa::path(
    post, path = "/v1/plans/{id}/approve", tag = "plans", request_body = Application,
    params(MadePath, IdempotencyKey), responses((status = 200, body = Changed<PlanView>), Refusals)
)]
pub(in crate::http) async fn approve(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(plan): Id<PlanId>,
    CommandJson { value, asked }: CommandJson<Application>,
) -> Result<Answered, Problem> {
    let digest: Digest = super::digest(&value.digest)?;
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let now = sending.now();
    let command = Command::ApprovePlan { plan, digest };
    let view = move |roll: &crate::domain::roll::Roll, done: &crate::command::Done<'_>| {
        json!(roll.plan(plan).map(|plan| Changed::by(done, PlanView::of(roll, plan, now))))
    };
    sending.send(command, view).await
}

/// Shows which plans need a second operator.
#[utoipa::path(
    get, path = "/v1/plan-policy", tag = "plans", responses((status = 200, body = PolicyView), Refusals)
)]
pub(in crate::http) async fn read_policy(State(app): State<App>, _caller: Caller<MayReadFleet>) -> Reply<PolicyView> {
    Reply(PolicyView::of(app.node().snapshot().roll.plan_policy()))
}

/// Sets which plans need a second operator. Plans that were made before need one if either policy says so.
#[utoipa::path(
    patch, path = "/v1/plan-policy", tag = "plans", request_body = Option<PolicyChange>, params(IdempotencyKey),
    responses((status = 200, body = Changed<PolicyView>), Refusals)
)]
pub(in crate::http) async fn change_policy(
    State(app): State<App>,
    caller: Caller<MayManageOperators>,
    CommandJson { value, asked }: CommandJson<PolicyChange>,
) -> Result<Answered, Problem> {
    let policy = command::PolicyChange {
        kinds: value.kinds.map(kinds).transpose()?,
        pools: value.pools.as_deref().map(pools).transpose()?,
    };
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let answer = sending.send(Command::SetPlanPolicy(policy), |roll, done| {
        json!(Changed::by(done, PolicyView::of(roll.plan_policy())))
    });
    answer.await
}

fn kinds(kinds: Vec<String>) -> Result<Arc<[Arc<str>]>, Problem> {
    if kinds.len() > PLAN_KINDS.len() {
        return Err(Problem::invalid("kinds", format!("each once: there are {}", PLAN_KINDS.len())));
    }
    Ok(kinds.into_iter().map(Arc::from).collect())
}

fn pools(texts: &[String]) -> Result<Arc<[PoolId]>, Problem> {
    if texts.len() > POLICY_POOLS_MAX {
        return Err(Problem::invalid("pools", format!("at most {POLICY_POOLS_MAX}")));
    }
    let read = |text: &String| text.parse().map_err(|_| Problem::invalid("pools", "ids of pools"));
    texts.iter().map(read).collect()
}
