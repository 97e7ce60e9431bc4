//! `/v1/workers/{id}/isolate`, `/release`, `/approve` and `/reject`. Each may be asked for again: it holds already then.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::App;
use super::super::body::{CommandJson, duration, moment_if};
use super::super::caller::{Caller, MayManageFleet};
use super::super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::super::path::{Id, WorkerPath};
use super::super::problem::Problem;
use super::super::schema;
use super::super::view::{Changed, WorkerView};
use super::super::wish::{Answered, Sending};
use super::send;
use crate::domain::command::Command;
use crate::domain::ids::WorkerId;
use crate::domain::time::Timestamp;

/// How long; without an end, until released.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Isolation {
    /// When it ends by itself. Not together with `for`.
    #[schema(schema_with = schema::time_or_null)]
    until: Option<String>,
    /// After how long it ends by itself. Not together with `until`.
    #[serde(rename = "for")]
    #[schema(schema_with = schema::duration_or_null)]
    span: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// Why, for the log. The body may be left out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Why {
    #[schema(schema_with = schema::reason_or_null)]
    pub(in crate::http) reason: Option<String>,
}

/// Refuses a worker everything, reversibly.
#[utoipa::path(
    post, path = "/v1/workers/{id}/isolate", tag = "workers", request_body = Option<Isolation>,
    params(WorkerPath, IdempotencyKey, WaitQuery), responses((status = 200, body = Changed<WorkerView>), Refusals)
)]
pub(in crate::http) async fn isolate(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(worker): Id<WorkerId>,
    CommandJson { value, asked }: CommandJson<Isolation>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let until = end(value.until.as_deref(), value.span.as_deref(), sending.now())?;
    send(sending, Command::IsolateWorker { worker: worker.clone(), until }, worker).await
}

/// Ends a worker's isolation.
#[utoipa::path(
    post, path = "/v1/workers/{id}/release", tag = "workers", request_body = Option<Why>,
    params(WorkerPath, IdempotencyKey), responses((status = 200, body = Changed<WorkerView>), Refusals)
)]
pub(in crate::http) async fn release(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(worker): Id<WorkerId>,
    why: CommandJson<Why>,
) -> Result<Answered, Problem> {
    act(&app, &caller, why, Command::ReleaseWorker { worker: worker.clone() }, worker).await
}

/// Lets a pending worker in.
#[utoipa::path(
    post, path = "/v1/workers/{id}/approve", tag = "workers", request_body = Option<Why>,
    params(WorkerPath, IdempotencyKey), responses((status = 200, body = Changed<WorkerView>), Refusals)
)]
pub(in crate::http) async fn approve(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(worker): Id<WorkerId>,
    why: CommandJson<Why>,
) -> Result<Answered, Problem> {
    act(&app, &caller, why, Command::ApproveWorker { worker: worker.clone() }, worker).await
}

/// Turns a pending worker away, for ever.
#[utoipa::path(
    post, path = "/v1/workers/{id}/reject", tag = "workers", request_body = Option<Why>,
    params(WorkerPath, IdempotencyKey, WaitQuery), responses((status = 200, body = Changed<WorkerView>), Refusals)
)]
pub(in crate::http) async fn reject(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(worker): Id<WorkerId>,
    why: CommandJson<Why>,
) -> Result<Answered, Problem> {
    act(&app, &caller, why, Command::RejectWorker { worker: worker.clone() }, worker).await
}

/// What needs no more than a reason.
async fn act(
    app: &App,
    caller: &Caller<MayManageFleet>,
    CommandJson { value, asked }: CommandJson<Why>,
    command: Command,
    worker: WorkerId,
) -> Result<Answered, Problem> {
    send(Sending::new(app, caller.author(), asked).reason(value.reason)?, command, worker).await
}

fn end(until: Option<&str>, span: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    match (moment_if("until", until)?, span) {
        (Some(_), Some(_)) => Err(Problem::invalid("for", "give `until` or `for`, not both")),
        (until, None) => Ok(until),
        (None, Some(span)) => Ok(Some(now.after(duration("for", span)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_isolation_ends_at_a_time_or_after_a_span_or_never() {
        let now = Timestamp(0);
        let table = [
            (None, None, Some(None)),
            (Some("1970-01-01T00:00:02Z"), None, Some(Some(Timestamp(2_000_000)))),
            (None, Some("2h"), Some(Some(Timestamp(7_200_000_000)))),
            (Some("1970-01-01T00:00:02Z"), Some("2h"), None),
            (Some("tomorrow"), None, None),
            (None, Some("2 fortnights"), None),
        ];
        for (until, span, expected) in table {
            assert_eq!(end(until, span, now).ok(), expected, "{until:?} {span:?}");
        }
    }
}
