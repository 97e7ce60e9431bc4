//! `/v1/register` and `/v1/renew`: an access token for a key or a static secret, and for a token that runs out.
//!
//! A token is signed after its event is in the log, since it carries that event's position. What is kept as the command's
//! outcome is the claims, never the token: whoever repeats the request gets the same claims signed again.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::{Asked, CommandJson, duration};
use super::credential::{self, Shown, WorkerCaller};
use super::foreseen::Foreseen;
use super::meta::Meta;
use super::openapi::{OwnIdempotencyKey, Refusals};
use super::problem::Problem;
use super::wish::{Sending, Unanswered};
use super::{App, POSITION_HEADER, schema, view};
use crate::command::{Done, mint};
use crate::credential::token::{self, Claims};
use crate::domain::admit::Denial;
use crate::domain::command::{Command, IssueToken};
use crate::domain::decide;
use crate::domain::event::Event;
use crate::domain::ids::TokenId;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::time::{Seconds, Timestamp};
use crate::domain::token::NewToken;

/// Who wants a token. The credential comes in a header, or as `worker` and `secret`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Registration {
    /// The worker's id: needed with a static secret, and with a key that several workers share.
    #[schema(example = "runner-17")]
    worker: Option<String>,
    /// An API key or a static secret.
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
    /// How long the token is to live, at most as long as the pool says.
    #[schema(schema_with = schema::token_ttl_or_null)]
    ttl: Option<String>,
    /// Scopes with a space between any two; all of the pool's if not given.
    #[schema(schema_with = schema::scope_list_or_null)]
    scope: Option<String>,
}

/// How the next token is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    /// How long the token is to live, at most as long as the pool says.
    #[schema(schema_with = schema::token_ttl_or_null)]
    ttl: Option<String>,
    /// Scopes with a space between any two; those of the token that is renewed, if not given.
    #[schema(schema_with = schema::scope_list_or_null)]
    scope: Option<String>,
}

/// A fresh access token.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenView {
    /// A JWT (RFC 9068).
    token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    #[schema(format = DateTime)]
    expires_at: String,
    /// In seconds from now.
    expires_in: i64,
    worker: String,
    pool: String,
    /// Scopes with a space between any two.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    scope: String,
    /// The key that this token comes of ends then: the worker has to rotate it before, at `/v1/worker/key/rotate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    rotate_by: Option<String>,
}

/// What is asked of a token.
#[derive(Default)]
pub(super) struct TokenWish {
    ttl: Option<Seconds>,
    scopes: Option<Arc<[Arc<str>]>>,
}

/// A token that is in force.
pub(super) struct Issued {
    pub token: SecretString,
    pub claims: Claims,
    pub position: u64,
    /// By when the key has to be rotated.
    rotate_by: Option<Timestamp>,
}

/// Gives a worker an access token.
///
/// With an `Idempotency-Key` a lost answer can be asked for again: it is the same token.
#[utoipa::path(
    post, path = "/v1/register", tag = "workers", request_body = Option<Registration>, params(OwnIdempotencyKey),
    security((), ("bearer" = []), ("basic" = []), ("api_key" = [])),
    responses((status = 200, body = TokenView), Refusals)
)]
pub(super) async fn register(
    State(app): State<App>,
    Extension(meta): Extension<Meta>,
    headers: HeaderMap,
    CommandJson { value, asked }: CommandJson<Registration>,
) -> Result<Response, Problem> {
    let wish = TokenWish::of(value.ttl.as_deref(), value.scope.as_deref())?;
    let shown = Shown::of(&headers, value.worker.as_deref(), value.secret.as_ref().map(ExposeSecret::expose_secret))?;
    let caller = credential::worker(&app, &meta, &shown)?;
    if caller.token.is_some() {
        return Err(caller.denied(&app, Denial::WrongKind));
    }
    answer(&app, &caller, wish, asked).await
}

/// Gives the holder of an access token the next one. It descends from the first: whoever revokes a token revokes what was
/// renewed from it.
#[utoipa::path(
    post, path = "/v1/renew", tag = "workers", request_body = Option<Renewal>, params(OwnIdempotencyKey),
    responses((status = 200, body = TokenView), Refusals)
)]
pub(super) async fn renew(
    State(app): State<App>,
    Extension(meta): Extension<Meta>,
    headers: HeaderMap,
    CommandJson { value, asked }: CommandJson<Renewal>,
) -> Result<Response, Problem> {
    let wish = TokenWish::of(value.ttl.as_deref(), value.scope.as_deref())?;
    let shown = Shown::of(&headers, None, None)?;
    let caller = credential::worker(&app, &meta, &shown)?;
    answer(&app, &caller, wish, asked).await
}

async fn answer(app: &App, caller: &WorkerCaller, wish: TokenWish, asked: Asked) -> Result<Response, Problem> {
    if asked.dry_run.is_asked() {
        return foresee(app, caller, wish, asked).await;
    }
    Ok(issue(app, caller, wish, asked).await?.into_response())
}

/// What would be issued. Where tokens are counted, none leaves an event of its own.
async fn foresee(app: &App, caller: &WorkerCaller, wish: TokenWish, asked: Asked) -> Result<Response, Problem> {
    let issue = wanted(app, caller, wish)?;
    if !decide::counts_tokens(&app.node().current()?.roll, &caller.worker) {
        let sent = Sending::new(app, caller.author(), asked).try_send(Command::IssueToken(issue), |_, _| Value::Null);
        let foreseen = sent.await.map_err(|unanswered: Unanswered| caller.problem(app, unanswered))?;
        return Ok(foreseen.into_response());
    }
    let now = mint::now();
    let token = decide::token(&app.node().current()?.roll, &issue, now);
    let token = token.map_err(|refusal| caller.refused(app, refusal))?;
    let event = Event::TokenIssued(token);
    let foreseen = Foreseen::unrecorded(app, caller.author(), now, event)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(foreseen)).into_response())
}

fn wanted(app: &App, caller: &WorkerCaller, wish: TokenWish) -> Result<IssueToken, Problem> {
    Ok(IssueToken {
        token: TokenId::from_uuid(mint::id()),
        worker: caller.worker.clone(),
        key: caller.key,
        renews: caller.token.as_ref().map(|token| token.facts.clone()),
        ttl: wish.ttl,
        scopes: scopes_for(app, caller, wish.scopes).map_err(|refusal| caller.refused(app, refusal))?,
    })
}

/// Issues the token and signs it.
pub(super) async fn issue(app: &App, caller: &WorkerCaller, wish: TokenWish, asked: Asked) -> Result<Issued, Problem> {
    let issue = wanted(app, caller, wish)?;
    // What is to be answered again has to be kept, and so goes through the log, event or not.
    if asked.idempotency_key.is_none() && decide::counts_tokens(&app.node().current()?.roll, &caller.worker) {
        issue_counted(app, caller, &issue)
    } else {
        issue_by_command(app, caller, issue, asked).await
    }
}

/// A renewal grants no more than the token that it renews: one that was narrowed for a program stays narrow.
fn scopes_for(
    app: &App,
    caller: &WorkerCaller,
    asked: Option<Arc<[Arc<str>]>>,
) -> Result<Option<Arc<[Arc<str>]>>, Refusal> {
    let Some(renewed) = &caller.token else { return Ok(asked) };
    let held = |scope: &Arc<str>| renewed.claims.scope.split(' ').any(|held| held == &**scope);
    match asked {
        Some(asked) if asked.iter().all(held) => Ok(Some(asked)),
        Some(_) => Err(Refusal::ScopeNotAllowed),
        None => {
            // Without those that the pool has lost since: they are no reason to let the worker's renewal fail.
            let snapshot = app.node().snapshot();
            let worker = snapshot.roll.worker(caller.worker.as_str());
            let pool = worker.and_then(|worker| snapshot.roll.pool(worker.pool.as_str()));
            Ok(pool.map(|pool| pool.settings.scopes.iter().filter(|scope| held(scope)).cloned().collect()))
        }
    }
}

/// With an event of its own, whose position the token carries; in a pool that counts, with a kept outcome alone.
async fn issue_by_command(
    app: &App,
    caller: &WorkerCaller,
    issue: IssueToken,
    asked: Asked,
) -> Result<Issued, Problem> {
    // The first answer is for the credential that asked for it: another one of the same worker has another command.
    let fingerprint = app.node().keys().fingerprint(&[&asked.fingerprint, caller.credential_text().as_bytes()]);
    let sending = Sending::new(app, caller.author(), Asked { fingerprint, ..asked });
    let (issuer, now, wanted) = (app.settings().public_url.clone(), sending.now(), issue.clone());
    let answered = sending
        .try_send(Command::IssueToken(issue), move |roll, done| kept_claims(&issuer, roll, done, &wanted, now))
        .await
        .map_err(|unanswered: Unanswered| caller.problem(app, unanswered))?;
    let claims: Claims = serde_json::from_value(answered.body).map_err(Problem::internal)?;
    let issued = sign(app, claims, answered.position)?;
    if !answered.changed && !answered.repeated {
        app.issued().count(&caller.worker);
    }
    Ok(issued)
}

fn kept_claims(issuer: &str, roll: &Roll, done: &Done<'_>, issue: &IssueToken, now: Timestamp) -> Value {
    let recorded = done.events.iter().find_map(|recorded| match &recorded.event {
        Event::TokenIssued(token) => claims(issuer, roll, token, recorded.position, recorded.occurred_at),
        _ => None,
    });
    // Without an event nothing has changed since it was decided, and deciding once more comes to the same token.
    let counted = || claims(issuer, roll, &decide::token(roll, issue, now).ok()?, done.position, now);
    json!(recorded.or_else(counted))
}

/// Without an event: decided on the state as it is, and counted.
fn issue_counted(app: &App, caller: &WorkerCaller, issue: &IssueToken) -> Result<Issued, Problem> {
    let now = mint::now();
    let (claims, position) = {
        let snapshot = app.node().current()?;
        let token = decide::token(&snapshot.roll, issue, now).map_err(|refusal| caller.refused(app, refusal))?;
        // Whatever refuses tokens up to a position that is still to come refuses this one.
        let position = snapshot.roll.next_position().saturating_sub(1);
        (claims(&app.settings().public_url, &snapshot.roll, &token, position, now), position)
    };
    let claims = claims.ok_or_else(|| Problem::internal("a token was issued to a worker without a pool"))?;
    let issued = sign(app, claims, position)?;
    app.issued().count(&caller.worker);
    Ok(issued)
}

/// What the token says. `iat` is cut to whole seconds, and so lies at or before the moment of the command.
fn claims(issuer: &str, roll: &Roll, token: &NewToken, position: u64, at: Timestamp) -> Option<Claims> {
    let worker = roll.worker(token.worker.as_str())?;
    let pool = roll.pool(worker.pool.as_str())?;
    Some(Claims {
        iss: issuer.to_owned(),
        aud: pool.settings.audience.to_string(),
        sub: token.worker.clone(),
        exp: token.expires_at.unix_seconds(),
        iat: at.unix_seconds(),
        nbf: None,
        jti: token.token,
        scope: token.scopes.join(" "),
        pool: pool.id.clone(),
        pos: position,
        sid: token.session,
        key: token.key,
    })
}

fn sign(app: &App, claims: Claims, position: u64) -> Result<Issued, Problem> {
    let snapshot = app.node().snapshot();
    let signer = snapshot.ring.active().ok_or(Refusal::NoSigningKey)?;
    let token = token::sign(signer, &claims).map_err(Problem::internal)?;
    let rotate_by = snapshot.roll.key(claims.key).and_then(|key| snapshot.roll.rotation_due(key));
    Ok(Issued { token, claims, position, rotate_by })
}

impl TokenWish {
    pub(super) fn of(ttl: Option<&str>, scope: Option<&str>) -> Result<Self, Problem> {
        let scopes = scope.map(|scope| scope.split(' ').filter(|scope| !scope.is_empty()).map(Into::into).collect());
        Ok(Self { ttl: ttl.map(|ttl| duration("ttl", ttl)).transpose()?, scopes })
    }
}

impl Issued {
    pub(super) fn put_position(&self, response: &mut Response) {
        response.headers_mut().insert(POSITION_HEADER, HeaderValue::from(self.position));
    }

    /// In seconds from now; a repeat can come when it is over.
    pub(super) fn expires_in(&self) -> i64 {
        (self.claims.exp - mint::now().unix_seconds()).max(0)
    }
}

impl IntoResponse for Issued {
    fn into_response(self) -> Response {
        let expires_in = self.expires_in();
        let body = TokenView {
            token: self.token.expose_secret().to_owned(),
            token_type: "Bearer",
            expires_at: view::time(Timestamp::from_unix_seconds(self.claims.exp)),
            expires_in,
            worker: self.claims.sub.to_string(),
            pool: self.claims.pool.to_string(),
            scope: self.claims.scope,
            rotate_by: self.rotate_by.map(view::time),
        };
        let mut response = axum::Json(body).into_response();
        let headers = response.headers_mut();
        headers.insert(POSITION_HEADER, HeaderValue::from(self.position));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
