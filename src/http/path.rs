//! The id in a path. A text that is no id names nothing, so it is a 404 like any other id that is not there.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use utoipa::IntoParams;

use super::App;
use super::problem::Problem;
use super::schema;
use crate::domain::ids::{EnrollmentSecretId, IncidentId, KeyId, OperatorId, PlanId, PoolId, WebhookId, WorkerId};

/// The one id in the path of a request.
#[derive(Debug)]
pub(super) struct Id<T>(pub(super) T);

/// What can be named in a path.
pub(super) trait Named: FromStr {
    const NOT_FOUND: &'static str;
}

impl Named for PoolId {
    const NOT_FOUND: &'static str = "there is no such pool";
}

impl Named for WorkerId {
    const NOT_FOUND: &'static str = "there is no such worker";
}

impl Named for KeyId {
    const NOT_FOUND: &'static str = "there is no such key";
}

impl Named for EnrollmentSecretId {
    const NOT_FOUND: &'static str = "there is no such enrollment secret";
}

impl Named for PlanId {
    const NOT_FOUND: &'static str = "there is no such plan";
}

impl Named for IncidentId {
    const NOT_FOUND: &'static str = "there is no such incident";
}

impl Named for WebhookId {
    const NOT_FOUND: &'static str = "there is no such webhook";
}

impl Named for OperatorId {
    const NOT_FOUND: &'static str = "there is no such operator";
}

/// That there is nothing of this name.
pub(super) fn no_such<T: Named>() -> Problem {
    Problem::not_found(T::NOT_FOUND)
}

impl<T: Named> FromRequestParts<App> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        // What is not UTF-8 once its percent signs are decoded is no id either.
        let Path(text) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| no_such::<T>())?;
        text.parse().map(Self).map_err(|_| no_such::<T>())
    }
}

/// The id of a pool.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by `Id`; here it is documented")]
pub(super) struct PoolPath {
    /// The pool's id, which is its name.
    #[param(schema_with = schema::chosen_id)]
    pool: String,
}

/// The id of a worker.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by `Id`; here it is documented")]
pub(super) struct WorkerPath {
    /// The worker's id.
    #[param(schema_with = schema::chosen_id)]
    id: String,
}

/// The id of an incident.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by `Id`; here it is documented")]
pub(super) struct IncidentPath {
    /// The incident's id, such as `INC-7`.
    #[param(schema_with = schema::chosen_id)]
    id: String,
}

/// The id of what we named ourselves.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by `Id`; here it is documented")]
pub(super) struct MadePath {
    /// Its id: 22 base62 digits.
    #[param(schema_with = schema::made_id)]
    id: String,
}
