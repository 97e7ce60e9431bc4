//! `POST /oauth2/revoke` (RFC 7009): ends a token with what was renewed from it, or an API key with what it was rotated
//! into.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Form, OauthProblem, OauthRefusals, invalid_request, no_store};
use crate::command::mint;
use crate::credential::key;
use crate::domain::actor::{Author, CredentialUsed};
use crate::domain::command::Command;
use crate::domain::ids::WorkerId;
use crate::domain::roll::Roll;
use crate::http::credential::{AnyCaller, WorkerCaller};
use crate::http::foreseen::Foreseen;
use crate::http::openapi::{OwnIdempotencyKey, WaitQuery};
use crate::http::problem::Problem;
use crate::http::wish::{Sending, Unanswered};
use crate::http::{App, POSITION_HEADER};
use crate::validate;

/// Which token (RFC 7009, section 2.1).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct RevokeForm {
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

/// Nothing: that it is refused from now on is said by the status, and clients ignore the body (RFC 7009, section 2.2).
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Revoked {}

/// What is to end: the command, the workers that hold it, and the author that it would be by itself.
struct Found {
    command: Command,
    workers: Vec<WorkerId>,
    itself: CredentialUsed,
}

/// Revokes a token or an API key. What is not known is not good, so there is nothing to revoke.
#[utoipa::path(
    post, path = "/oauth2/revoke", tag = "standards", params(OwnIdempotencyKey, WaitQuery),
    request_body(content = RevokeForm, content_type = "application/x-www-form-urlencoded"),
    security((), ("bearer" = []), ("basic" = [])),
    responses((status = 200, description = "It is refused from now on", body = Revoked), OauthRefusals)
)]
pub(in crate::http) async fn revoke(State(app): State<App>, form: Form) -> Result<Response, OauthProblem> {
    let caller = form.client(&app)?;
    let token = form.fields.get("token").ok_or_else(|| invalid_request("`token` is missing"))?;
    let is_dry = form.asked.dry_run.is_asked();
    let Some(found) = find(&app, token)? else {
        return Ok(if is_dry { no_store(Foreseen::nothing(&app)) } else { no_store(Revoked {}) });
    };
    let author = match &caller {
        AnyCaller::Operator(operator) => operator.author(),
        AnyCaller::Worker(caller) => author(caller, &found)?,
    };
    let sending = Sending::new(&app, author, form.asked);
    let answered = sending.try_send(found.command, |_, _| Value::Null).await;
    let answered = answered.map_err(|unanswered: Unanswered| match &caller {
        AnyCaller::Operator(_) => Problem::from(unanswered),
        AnyCaller::Worker(caller) => caller.problem(&app, unanswered),
    })?;
    if is_dry {
        return Ok(answered.into_response());
    }
    let mut response = no_store(Revoked {});
    response.headers_mut().insert(POSITION_HEADER, HeaderValue::from(answered.position));
    Ok(response)
}

fn find(app: &App, text: &str) -> Result<Option<Found>, Problem> {
    let snapshot = app.node().current()?;
    if key::looks_like_key(text) {
        let key = validate::genuine_key(&snapshot.roll, app.node().keys(), text).ok();
        return Ok(key.map(|key| Found {
            command: Command::RevokeKey { key: key.id, descendants: true },
            workers: holders(&snapshot.roll, key),
            itself: CredentialUsed::Key(key.id),
        }));
    }
    let facts = validate::genuine_token(&snapshot, text, mint::now()).ok();
    Ok(facts.filter(|facts| snapshot.roll.key(facts.key).is_some()).map(|facts| Found {
        workers: vec![facts.worker.clone()],
        itself: CredentialUsed::Token {
            token: facts.token,
            session: facts.session,
            key: facts.key,
            issued: facts.issued,
        },
        command: Command::RevokeToken(facts),
    }))
}

fn holders(roll: &Roll, key: &crate::domain::key::Key) -> Vec<WorkerId> {
    key.workers().iter().filter_map(|index| roll.worker_at(*index)).map(|worker| worker.id.clone()).collect()
}

/// A worker ends what is its own. It has shown the very thing, and that is the credential that ends it: the one that it
/// came with may be another of its keys, which is not the other's to end by itself.
fn author(caller: &WorkerCaller, found: &Found) -> Result<Author, Problem> {
    if !found.workers.contains(&caller.worker) {
        return Err(Problem::forbidden("not_own", "this token was not issued to the client that asks"));
    }
    Ok(Author { credential: Some(found.itself), ..caller.author() })
}
