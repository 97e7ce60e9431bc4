//! `POST /oauth2/token`: client credentials, where the client is a worker and its secret an API key or a static secret.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Form, OauthProblem, OauthRefusals, invalid_request, no_store};
use crate::domain::admit::Denial;
use crate::http::App;
use crate::http::attempts::Attempt;
use crate::http::credential::AnyCaller;
use crate::http::openapi::OwnIdempotencyKey;
use crate::http::schema;
use crate::http::tokens::{self, TokenWish};

/// A request for a token (RFC 6749, section 4.4.2).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct TokenForm {
    #[schema(schema_with = schema::grant_type)]
    grant_type: String,
    /// The worker's id, unless `Authorization: Basic` has it.
    #[schema(value_type = String, required = false)]
    client_id: Option<String>,
    /// An API key or a static secret, unless `Authorization: Basic` has it.
    #[schema(value_type = String, required = false)]
    client_secret: Option<String>,
    /// Scopes with a space between any two; all of the pool's if not given.
    #[schema(required = false, schema_with = schema::scope_list)]
    scope: Option<String>,
    /// Whatever else is there is ignored (RFC 6749, section 3.2).
    #[serde(flatten)]
    others: BTreeMap<String, String>,
}

/// A token (RFC 6749, section 5.1).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct TokenAnswer<'a> {
    access_token: &'a str,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    expires_in: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schema(required = false)]
    scope: &'a str,
}

/// Gives a worker an access token by the client credentials grant.
#[utoipa::path(
    post, path = "/oauth2/token", tag = "standards", params(OwnIdempotencyKey),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    security((), ("basic" = [])),
    responses((status = 200, body = TokenAnswer<'static>), OauthRefusals)
)]
pub(in crate::http) async fn token(State(app): State<App>, form: Form) -> Result<Response, OauthProblem> {
    match form.fields.get("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            let problem = invalid_request("the one grant type is client_credentials");
            return Err(OauthProblem { error: "unsupported_grant_type", ..problem });
        }
        None => return Err(invalid_request("`grant_type` is missing")),
    }
    let wish = TokenWish::of(None, form.fields.get("scope"))?;
    let caller = match form.client(&app)? {
        AnyCaller::Worker(caller) if caller.token.is_none() => caller,
        AnyCaller::Worker(caller) => return Err(caller.denied(&app, Denial::WrongKind).into()),
        AnyCaller::Operator(operator) => {
            let attempt = Attempt::of_key(&operator.meta, Denial::WrongKind, operator.key);
            return Err(app.attempts().refuse(&attempt).into());
        }
    };
    let issued = tokens::issue(&app, &caller, wish, form.asked).await?;
    let mut response = no_store(TokenAnswer {
        access_token: issued.token.expose_secret(),
        token_type: "Bearer",
        expires_in: issued.expires_in(),
        scope: &issued.claims.scope,
    });
    issued.put_position(&mut response);
    Ok(response)
}
