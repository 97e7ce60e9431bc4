//! `POST /oauth2/introspect` (RFC 7662): what a token is good for, for gateways, and for workers about their own.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Form, OauthProblem, OauthRefusals, invalid_request, no_store};
use crate::command::mint;
use crate::domain::operator::Permission;
use crate::domain::worker::Worker;
use crate::http::App;
use crate::http::attempts::Attempt;
use crate::http::credential::AnyCaller;
use crate::http::problem::Problem;
use crate::http::validate::outcome_of;
use crate::validate::{Accepted, Bearer, Presented, Token};

/// Which token (RFC 7662, section 2.1).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct IntrospectForm {
    /// An access token or an API key.
    #[schema(min_length = 1)]
    token: String,
    #[schema(value_type = String, required = false)]
    token_type_hint: Option<String>,
    /// The worker's or the operator's id, unless `Authorization` says who asks.
    #[schema(value_type = String, required = false)]
    client_id: Option<String>,
    #[schema(value_type = String, required = false)]
    client_secret: Option<String>,
    /// Whatever else is there is ignored (RFC 6749, section 3.2).
    #[serde(flatten)]
    others: BTreeMap<String, String>,
}

/// What is known of a token (RFC 7662, section 2.2). Of one that is not good, only that.
#[derive(Default, Serialize, ToSchema)]
pub(in crate::http) struct Introspected<'a> {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    scope: Option<&'a str>,
    /// The worker's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    client_id: Option<&'a str>,
    /// The worker's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    token_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pool: Option<&'a str>,
}

/// Tells what a token is good for.
#[utoipa::path(
    post, path = "/oauth2/introspect", tag = "standards",
    request_body(content = IntrospectForm, content_type = "application/x-www-form-urlencoded"),
    security((), ("bearer" = []), ("basic" = [])),
    responses((status = 200, body = Introspected<'static>), OauthRefusals)
)]
pub(in crate::http) async fn introspect(State(app): State<App>, form: Form) -> Result<Response, OauthProblem> {
    let caller = form.client(&app)?;
    if let AnyCaller::Operator(operator) = &caller
        && !operator.role.permits(Permission::Validate)
    {
        let detail = format!("the role {} may not validate credentials; ask an admin", operator.role);
        return Err(Problem::forbidden("not_permitted", detail).into());
    }
    let credential = form.fields.get("token").ok_or_else(|| invalid_request("`token` is missing"))?;
    let snapshot = app.node().current().map_err(Problem::from)?;
    let presented = Presented { credential, worker: None };
    // Nobody says from where it came: the asker is not its holder.
    let accepted = match app.check(&snapshot, presented, mint::now(), None) {
        Ok(accepted) => accepted,
        Err(denied) => {
            app.metrics().validated(outcome_of(denied.denial));
            // What somebody asks about is not an attempt of the asker's.
            app.attempts().count(&Attempt { denial: denied.denial, source: None, credential: denied.credential });
            return Ok(no_store(Introspected::default()));
        }
    };
    let Bearer::Worker { worker, token } = &accepted.bearer else { return Ok(no_store(Introspected::default())) };
    // A worker learns of its own tokens only: of others not even whether they are good.
    let asks_of_own = match &caller {
        AnyCaller::Worker(caller) => caller.worker == worker.id,
        AnyCaller::Operator(_) => true,
    };
    if !asks_of_own {
        return Ok(no_store(Introspected::default()));
    }
    app.metrics().validated(0);
    Ok(match token {
        Some(token) => no_store(of_token(worker, token)),
        None => no_store(of_key(worker, &accepted, &app.settings().public_url)),
    })
}

fn of_token<'a>(worker: &'a Worker, token: &'a Token) -> Introspected<'a> {
    let claims = &token.claims;
    Introspected {
        active: true,
        scope: Some(claims.scope.as_str()).filter(|scope| !scope.is_empty()),
        client_id: Some(worker.id.as_str()),
        username: worker.name.as_deref(),
        token_type: Some("Bearer"),
        exp: Some(claims.exp),
        iat: Some(claims.iat),
        sub: Some(worker.id.as_str()),
        aud: Some(&claims.aud),
        iss: Some(&claims.iss),
        jti: Some(claims.jti.to_string()),
        pool: Some(worker.pool.as_str()),
    }
}

/// An API key is presented as a bearer token too, and so may be asked about.
fn of_key<'a>(worker: &'a Worker, accepted: &Accepted<'_>, issuer: &'a str) -> Introspected<'a> {
    Introspected {
        active: true,
        client_id: Some(worker.id.as_str()),
        username: worker.name.as_deref(),
        token_type: Some("Bearer"),
        exp: accepted.expires_at.map(crate::domain::time::Timestamp::unix_seconds),
        sub: Some(worker.id.as_str()),
        iss: Some(issuer),
        pool: Some(worker.pool.as_str()),
        ..Introspected::default()
    }
}
