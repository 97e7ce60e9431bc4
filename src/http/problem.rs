//! The one shape of an error on the wire: RFC 9457 problem details.
//!
//! A [`Problem`] has two audiences. The caller gets `status`, `code` and `detail`, chosen here and nowhere else. The operator
//! gets the cause, logged once, where the response is made. Neither ever sees the other's text.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::command::CommandError;
use crate::domain::admit::Denial;
use crate::domain::refusal::Refusal;
use crate::log::LogFault;
use crate::postgres::PoolError;
use crate::projection::ProjectionError;
use crate::projection::read::ReadError;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What the caller is told.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    retry_after_seconds: Option<u64>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// For the operators' log: of one failure, however many are told of it.
fn told(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Arc<dyn Error + Send + Sync> {
    Arc::from(cause.into())
}

/// Problem details (RFC 9457). `code` is stable, and so is `type`, which is made of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    #[schema(example = "urn:portcullis:problem:pool_unknown")]
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    /// The stable reason code.
    code: &'a str,
    /// The field that is wrong, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    field: Option<&'a str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code: code.into(), detail: detail.into(), field: None, retry_after_seconds: None, cause: None }
    }

    /// Bad input: names the field and the remedy.
    pub fn invalid(field: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..Self::new(StatusCode::BAD_REQUEST, "invalid", detail) }
    }

    /// A worker that enrolls is given its id. One that could choose would take another's place.
    pub fn worker_id_not_allowed(field: &'static str) -> Self {
        let detail = "a worker that enrolls does not choose its id; leave it out, and keep the id of the answer";
        Self { field: Some(field.into()), ..Self::new(StatusCode::BAD_REQUEST, "worker_id_not_allowed", detail) }
    }

    /// Bad input that is no single field's fault.
    pub fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// The one answer to every credential that is not accepted: it tells nobody why (H31).
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "the credential is missing or not accepted")
    }

    pub fn forbidden(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes other methods; see /docs")
    }

    pub fn payload_too_large(bytes_max: usize) -> Self {
        let detail = format!("the body has more than {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    }

    /// The body stopped on its way: nothing was done.
    pub fn body_timeout(patience: Duration) -> Self {
        let detail = format!("the body did not arrive whole within {patience:?}; nothing was done, send it again");
        Self::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
    }

    pub fn unsupported_media_type(remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", remedy)
    }

    pub fn too_many_attempts(retry_after_seconds: u64) -> Self {
        let problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_attempts",
            "too many failed attempts; wait for as long as Retry-After says",
        );
        Self { retry_after_seconds: Some(retry_after_seconds), ..problem }
    }

    /// The node cannot confirm that it knows the newest state, so it refuses (promise 5).
    pub fn stale() -> Self {
        let detail = "this node cannot confirm that it knows the newest state; ask another, or again";
        Self { retry_after_seconds: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "stale", detail) }
    }

    /// The node was stopped, and does not come back by itself. Why is told at `/readyz` and in the log.
    pub fn stopped() -> Self {
        let detail = "this node has stopped and refuses everything; its /readyz and its log say why. Ask another";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", detail)
    }

    /// The same for those who watch the node.
    pub fn stopped_because(why: &str) -> Self {
        Self { detail: format!("this node has stopped and refuses everything: {why}").into(), ..Self::stopped() }
    }

    /// What somebody without the root key has done to the log is told to those who read it.
    fn log_tampered(damage: impl Error + Send + Sync + 'static) -> Self {
        let detail = damage.to_string();
        let problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "log_tampered", detail);
        Self { cause: Some(told(damage)), ..problem }
    }

    pub fn timeout() -> Self {
        let detail = "the answer took too long; a command may still be carried out: ask again with its Idempotency-Key";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail)
    }

    /// It is done, and may not yet be in force on other nodes.
    pub fn not_everywhere(position: u64, why: &str) -> Self {
        let detail = format!(
            "done at position {position}, but not known to be in force on every node: {why}; \
             ask `GET /v1/in-force/{position}?timeout=10s`, or again with the same Idempotency-Key"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "not_in_force_everywhere", detail)
    }

    /// The node does not hold the position that a read asks for.
    pub fn position_not_reached(asked: u64, newest: u64) -> Self {
        let detail = format!("this node holds the log up to position {newest}, and not yet {asked}; ask again");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "position_not_reached", detail)
    }

    /// The log cannot be read to find out whether the command is in it.
    fn outcome_unknown(cause: String) -> Self {
        let detail = "whether the command was carried out is not known, and it may still be; \
                      ask again with its Idempotency-Key, or look";
        Self { cause: Some(told(cause)), ..Self::new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", detail) }
    }

    /// A list that is not yet where this node is.
    fn projection_behind(behind: impl Error + Send + Sync + 'static) -> Self {
        let detail = "this list has not caught up yet with what the node knows; ask again, or look at /v1/projections";
        let problem = Self::new(StatusCode::GATEWAY_TIMEOUT, "projection_behind", detail);
        Self { retry_after_seconds: Some(1), cause: Some(told(behind)), ..problem }
    }

    pub fn secret_gone() -> Self {
        let detail =
            "this command was carried out before, and its secret is kept for a day only; rotate to get another";
        Self::new(StatusCode::GONE, "secret_gone", detail)
    }

    /// Our own failure: the caller learns that, the operator reads why.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let problem = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the service failed; its log says why");
        Self { cause: Some(told(cause)), ..problem }
    }

    /// The log cannot be read or written at the moment. Nothing was changed.
    pub fn log_unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let detail = "the log cannot be reached or written; nothing was changed, try again";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "log_unavailable", detail);
        Self { retry_after_seconds: Some(1), cause: Some(told(cause)), ..problem }
    }

    /// What is counted by folding the log is not counted where that would keep a node busy for too long.
    pub(super) fn replay_too_long(events: u64, most: u64) -> Self {
        let detail = format!(
            "the log has {events} events up to there, and at most {most} are folded for one answer; \
             `GET /v1/events?incident=` lists those of the incident without"
        );
        Self::new(StatusCode::CONFLICT, "replay_too_long", detail)
    }

    /// It takes longer than a request, and goes on without one.
    pub(super) fn replay_underway(at: u64, end: u64) -> Self {
        let detail = format!(
            "it is being made: {at} of {end} events of the log were gone through; ask the same of this node again, within a \
             minute, until the answer is there"
        );
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "replay_underway", detail);
        Self { retry_after_seconds: Some(2), ..problem }
    }

    /// One replay at a time: each reads the whole log.
    pub(super) fn replay_busy() -> Self {
        let detail = "another replay or report is being made; try again in a moment";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "replay_busy", detail);
        Self { retry_after_seconds: Some(5), ..problem }
    }

    /// Each reads many events of the log.
    pub(super) fn scope_busy() -> Self {
        let detail = "other scopes are being looked at; try again in a moment";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "scope_busy", detail);
        Self { retry_after_seconds: Some(2), ..problem }
    }

    /// It takes longer than a request, and goes on without one.
    pub(super) fn scope_underway(at: u64, end: u64) -> Self {
        let detail = format!(
            "it is being read: the events of {at} of {end} things; ask the same of this node again, within a minute, until the \
             answer is there"
        );
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "scope_underway", detail);
        Self { retry_after_seconds: Some(2), ..problem }
    }

    /// The list of a plan that is recorded to its end is not kept beside the log.
    pub(super) fn plan_recorded(applied: u64) -> Self {
        let detail = format!(
            "its items are recorded after position {applied}, with that as their cause, and keys that were revoked by lists: \
             `GET /v1/events?from={}`",
            applied + 1
        );
        Self::new(StatusCode::CONFLICT, "plan_recorded", detail)
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The field that is wrong, where one is.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    pub fn code(&self) -> &str {
        &self.code
    }

    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_seconds
    }
}

/// The status of a refusal, by its code: so that a refusal that was kept gets the status that it had the first time.
pub(super) fn refusal_status(code: &str) -> StatusCode {
    match code {
        "invalid" | "scope_not_allowed" | "key_kind" => StatusCode::BAD_REQUEST,
        "not_permitted" => StatusCode::FORBIDDEN,
        "pool_unknown"
        | "worker_unknown"
        | "key_unknown"
        | "enrollment_secret_unknown"
        | "operator_unknown"
        | "plan_unknown"
        | "honey_key_unknown"
        | "webhook_unknown"
        | "incident_unknown"
        | "step_unknown" => StatusCode::NOT_FOUND,
        _ => StatusCode::CONFLICT,
    }
}

impl From<LogFault> for Problem {
    /// For those who may read the log: where it is damaged, they are told the position.
    fn from(fault: LogFault) -> Self {
        match fault {
            LogFault::Database(error) => Self::log_unavailable(error),
            LogFault::Tampered(tampered) => Self::log_tampered(tampered),
            damage @ (LogFault::Unreadable { .. } | LogFault::Head(_)) => Self::log_tampered(damage),
            damage => Self { detail: damage.to_string().into(), ..Self::internal(damage) },
        }
    }
}

impl From<PoolError> for Problem {
    /// A database that is down is another thing than one that is asked too much at once: who waits for the one should not be
    /// told of the other.
    fn from(error: PoolError) -> Self {
        if !error.is_exhausted() {
            return Self::log_unavailable(error);
        }
        let detail = "too many reads of the database are under way; nothing was changed, try again";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_busy", detail);
        Self { retry_after_seconds: Some(1), cause: Some(told(error)), ..problem }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            behind @ ReadError::Behind { .. } => Self::projection_behind(behind),
            ReadError::Pool(error) => error.into(),
            down @ ReadError::Database(_) => Self::log_unavailable(down),
            damage @ ReadError::Row { .. } => Self::internal(damage),
        }
    }
}

impl From<ProjectionError> for Problem {
    fn from(error: ProjectionError) -> Self {
        match error {
            ProjectionError::Log(fault) => fault.into(),
            ProjectionError::NotCurrent(not_current) => not_current.into(),
            ProjectionError::Pool(error) => error.into(),
            down @ (ProjectionError::Connect(_) | ProjectionError::Database(_) | ProjectionError::Silent) => {
                Self::log_unavailable(down)
            }
            other => Self::internal(other),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(Denial::Stale) => Self::stale(),
            Refusal::Denied(_) => Self::unauthorized(),
            Refusal::Invalid { field, message } => Self::invalid(field, message),
            refusal => {
                let code = refusal.code();
                Self::new(refusal_status(code), code, refusal.to_string())
            }
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::RefusedBefore { code, detail } => {
                let status = refusal_status(&code);
                Self { code: code.into(), ..Self::new(status, "", detail) }
            }
            CommandError::OtherContent => {
                let detail = CommandError::OtherContent.to_string();
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
            }
            error @ (CommandError::QueueFull | CommandError::Stopping) => Self {
                retry_after_seconds: Some(1),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "queue_full", error.to_string())
            },
            CommandError::Tampered(tampered) => Self::log_tampered(tampered),
            error @ CommandError::OutcomeLost { .. } => {
                Self::new(StatusCode::CONFLICT, "outcome_lost", error.to_string())
            }
            CommandError::Fault(cause) => Self::log_unavailable(cause.to_string()),
            CommandError::Unknown(cause) => Self::outcome_unknown(cause.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if let Some(cause) = &self.cause {
            tracing::error!(code = %self.code, error = cause.as_ref(), "a request failed");
        }
        let body = ProblemBody {
            r#type: format!("urn:portcullis:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: &self.code,
            field: self.field.as_deref(),
        };
        let body = serde_json::to_vec(&body).expect("a problem is JSON");
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests;
