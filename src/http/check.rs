//! `/v1/check`: forward authentication. A proxy sends the headers of the request that it holds, and lets it pass on 204.
//!
//! nginx's `auth_request` and Traefik ask with `GET`, Envoy's `ext_authz` with the method, and under the path, of the
//! request itself: so any method will do, and whatever path follows. Bodies are empty, since no client reads them.

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::attempts::Attempt;
use super::body::Params;
use super::credential::Shown;
use super::meta::Meta;
use super::validate::outcome_of;
use super::{App, POSITION_HEADER, view};
use crate::command::mint;
use crate::domain::admit::Denial;
use crate::domain::worker::Worker;
use crate::validate::{Accepted, Bearer, Snapshot, Token};

const WORKER_HEADER: HeaderName = HeaderName::from_static("portcullis-worker");
const POOL_HEADER: HeaderName = HeaderName::from_static("portcullis-pool");
const KEY_HEADER: HeaderName = HeaderName::from_static("portcullis-key");
const EXPIRES_HEADER: HeaderName = HeaderName::from_static("portcullis-expires");
/// What applications behind a proxy already read.
const USER_HEADER: HeaderName = HeaderName::from_static("x-auth-request-user");

/// What the credential must be good for.
#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Needed {
    /// Only workers of this pool will do.
    #[param(required = false)]
    pool: Option<String>,
    /// Scopes that are all needed, with a space between any two.
    #[param(required = false)]
    scope: Option<String>,
}

/// Lets a worker's request pass, or not. For the forward authentication of nginx, Traefik and Envoy; any method will do.
#[utoipa::path(
    get, path = "/v1/check", tag = "gateways", params(Needed),
    security((), ("bearer" = []), ("basic" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "Let it pass", headers(
            ("Portcullis-Worker" = String, description = "The worker's id"),
            ("Portcullis-Pool" = String, description = "Its pool"),
            ("Portcullis-Key" = String, description = "The id of its key"),
            ("Portcullis-Expires" = String, description = "When the credential ends by itself; absent for never"),
            ("X-Auth-Request-User" = String, description = "The worker's id"),
        )),
        (status = 400, description = "An unknown query parameter", body = super::problem::ProblemBody<'static>,
         content_type = "application/problem+json"),
        (status = 401, description = "The credential is missing or not accepted"),
        (status = 403, description = "It is good, but not for this"),
        (status = 503, description = "This node is not current"),
    )
)]
pub(super) async fn check(
    State(app): State<App>,
    Extension(meta): Extension<Meta>,
    Params(needed): Params<Needed>,
    headers: HeaderMap,
) -> Response {
    answer(&app, &meta, &needed, &headers)
}

/// The same under any path that follows, for Envoy, which appends the path and the query of the request. They are the
/// client's own words, and say nothing of what is needed.
pub(super) async fn check_under_path(
    State(app): State<App>,
    Extension(meta): Extension<Meta>,
    headers: HeaderMap,
) -> Response {
    answer(&app, &meta, &Needed::default(), &headers)
}

fn answer(app: &App, meta: &Meta, needed: &Needed, headers: &HeaderMap) -> Response {
    let Ok(snapshot) = app.node().current() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
    };
    let Some(shown) = Shown::in_headers(headers) else { return unauthorized() };
    let verdict = app.check(&snapshot, shown.presented(), mint::now(), meta.forwarded());
    let attempt = match verdict {
        Ok(accepted) => match &accepted.bearer {
            Bearer::Worker { worker, token } => {
                let pass = needed.is_met(&snapshot, worker, token.as_deref());
                app.metrics().validated(usize::from(!pass));
                return if pass { let_pass(&snapshot, worker, &accepted) } else { forbidden() };
            }
            // Who operates has no business behind a gateway of the fleet.
            Bearer::Operator(_) => Attempt::of_key(meta, Denial::WrongKind, accepted.key.id),
        },
        Err(denied) => Attempt::denied(meta, &denied),
    };
    // Counted, and not limited: the address is the proxy's, and it speaks for many.
    app.attempts().count(&attempt);
    app.metrics().validated(outcome_of(attempt.denial));
    unauthorized()
}

impl Needed {
    fn is_met(&self, snapshot: &Snapshot, worker: &Worker, token: Option<&Token>) -> bool {
        let in_pool = self.pool.as_deref().is_none_or(|pool| pool == worker.pool.as_str());
        let pool = snapshot.roll.pool(worker.pool.as_str());
        let has = |scope: &str| match (token, pool) {
            (Some(token), _) => token.claims.scope.split(' ').any(|held| held == scope),
            // A key is good for whatever a token made from it could carry.
            (None, Some(pool)) => pool.settings.scopes.iter().any(|held| **held == *scope),
            (None, None) => false,
        };
        let scopes = self.scope.as_deref().unwrap_or_default();
        in_pool && scopes.split(' ').filter(|scope| !scope.is_empty()).all(has)
    }
}

fn let_pass(snapshot: &Snapshot, worker: &Worker, accepted: &Accepted<'_>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(POSITION_HEADER, HeaderValue::from(snapshot.roll.next_position().saturating_sub(1)));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut say = |name: HeaderName, text: &str| {
        // Ids are ASCII letters, digits and marks, so each of them is a header's value.
        headers.extend(HeaderValue::from_str(text).ok().map(|value| (name, value)));
    };
    say(WORKER_HEADER, worker.id.as_str());
    say(USER_HEADER, worker.id.as_str());
    say(POOL_HEADER, worker.pool.as_str());
    say(KEY_HEADER, &accepted.key.id.to_string());
    if let Some(at) = accepted.expires_at {
        say(EXPIRES_HEADER, &view::time(at));
    }
    response
}

fn unauthorized() -> Response {
    let headers = [(header::WWW_AUTHENTICATE, "Bearer"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::UNAUTHORIZED, headers).into_response()
}

fn forbidden() -> Response {
    (StatusCode::FORBIDDEN, [(header::CACHE_CONTROL, "no-store")]).into_response()
}
