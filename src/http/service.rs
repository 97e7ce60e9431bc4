//! What keeps the service watched: health, readiness, metrics, and the answers to paths that are none.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::caller::{AnyOperator, Caller};
use super::openapi::Refusals;
use super::problem::Problem;
use crate::node::NotCurrent;

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "service", security(()), responses((status = 200, description = "The process lives", body = str)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the node is caught up and may answer: what a load balancer asks.
#[utoipa::path(
    get, path = "/readyz", tag = "service", security(()),
    responses((status = 200, description = "Caught up", body = str), (status = 503, description = "Not current", body = super::problem::ProblemBody))
)]
pub(super) async fn readyz(State(app): State<App>) -> Result<String, Problem> {
    match app.node().check_current() {
        Ok(()) => Ok(ready(&app)),
        Err(NotCurrent::Stopped(why)) => Err(Problem::stopped_because(&why)),
        Err(NotCurrent::Stale) => Err(Problem::stale()),
    }
}

/// A mirror that cannot be written is no reason to send clients elsewhere. Why it cannot is told in the log: the reason names
/// files, and anybody may ask here.
fn ready(app: &App) -> String {
    match app.mirror() {
        Some(mirror) if mirror.trouble().is_some() => {
            let behind = mirror.behind(app.node().snapshot().roll.next_position());
            format!("ready; the mirror of the log cannot be written, and is {behind} events behind\n")
        }
        _ => "ready\n".to_owned(),
    }
}

/// Metrics in the Prometheus text format, for any operator.
///
/// Not for everyone: the counts by reason would tell who tries credentials out what was wrong with the last one (H31).
#[utoipa::path(get, path = "/metrics", tag = "service", responses((status = 200, description = "Metrics", body = str), Refusals))]
pub(super) async fn metrics(State(app): State<App>, _caller: Caller<AnyOperator>) -> Result<Response, Problem> {
    let text = app.telemetry().render().map_err(Problem::internal)?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

pub(super) async fn no_such_path() -> Problem {
    Problem::not_found("there is nothing at this path; see /docs")
}

pub(super) async fn no_such_method() -> Problem {
    Problem::method_not_allowed()
}
