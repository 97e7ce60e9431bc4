//! `/v1/worker`: what a worker can see of itself, and the rotation of its own key.

use std::collections::BTreeMap;

use axum::Json as Reply;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::body::{Asked, CommandJson, duration};
use super::credential::{self, Shown, WorkerCaller};
use super::meta::Meta;
use super::openapi::{OwnIdempotencyKey, Refusals, WaitQuery};
use super::problem::Problem;
use super::wish::{Answered, Sending};
use super::{App, chosen, schema, view};
use crate::command::{Done, mint};
use crate::credential::key::KeyKind as Prefix;
use crate::domain::admit::Denial;
use crate::domain::command::Command;
use crate::domain::event::Event;
use crate::domain::ids::KeyId;
use crate::domain::key::{Digest, KeyKind, OVERLAP_DEFAULT};
use crate::domain::roll::Roll;

/// A worker, as it sees itself.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnWorker {
    id: String,
    pool: String,
    name: Option<String>,
    labels: BTreeMap<String, String>,
    #[schema(example = "active")]
    state: &'static str,
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    credential: OwnCredential,
}

/// The credential that the worker came with.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnCredential {
    /// `api_key`, `static_secret` or `token`.
    #[schema(example = "api_key")]
    kind: &'static str,
    /// The id of the key, or of the key that the token was made from.
    key: String,
    /// When it ends by itself.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// An operator wants the key rotated: it ends then, and nothing has taken its place yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::time, required = false)]
    rotate_by: Option<String>,
    /// Of a token: its scopes, with a space between any two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    scope: Option<String>,
}

/// How a worker's own key is rotated. A static secret may be shown here, as `worker` and `secret`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnRotation {
    worker: Option<String>,
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
    /// How long the old key stays good: 24h if not given, `0s` for not at all.
    #[schema(schema_with = schema::overlap_or_null)]
    overlap: Option<String>,
    /// The new value, where the old key is a static secret: at least 44 characters of `[A-Za-z0-9_-]`.
    #[schema(schema_with = schema::static_secret_or_null)]
    static_secret: Option<SecretString>,
    /// Why, for the log.
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// A worker's new key.
#[derive(Serialize, ToSchema)]
pub(super) struct OwnRotated {
    id: String,
    /// The new API key, shown this once; absent where the caller chose the value.
    #[schema(required = false)]
    key: Option<String>,
    #[schema(format = DateTime)]
    overlap_until: String,
}

/// The worker that asks.
#[utoipa::path(
    get, path = "/v1/worker", tag = "workers",
    security(("bearer" = []), ("basic" = []), ("api_key" = [])),
    responses((status = 200, body = OwnWorker), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    Extension(meta): Extension<Meta>,
    headers: HeaderMap,
) -> Result<Reply<OwnWorker>, Problem> {
    let caller = credential::worker(&app, &meta, &Shown::of(&headers, None, None)?)?;
    let snapshot = app.node().current()?;
    let worker = snapshot.roll.worker(caller.worker.as_str());
    let worker = worker.ok_or_else(|| caller.denied(&app, Denial::WorkerUnknown))?;
    let labels = worker.labels.as_deref().into_iter().flatten();
    Ok(Reply(OwnWorker {
        id: worker.id.to_string(),
        pool: worker.pool.to_string(),
        name: worker.name.as_deref().map(str::to_owned),
        labels: labels.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        state: worker.standing(mint::now()).as_str(),
        expires_at: worker.expires_at.map(view::time),
        created_at: view::time(worker.created_at),
        credential: OwnCredential {
            kind: caller.token.as_ref().map_or_else(|| caller.kind.as_str(), |_| "token"),
            key: caller.key.to_string(),
            expires_at: caller.expires_at.map(view::time),
            rotate_by: snapshot.roll.key(caller.key).and_then(|key| snapshot.roll.rotation_due(key)).map(view::time),
            scope: caller.token.as_ref().map(|token| token.claims.scope.clone()),
        },
    }))
}

/// Gives the worker a new key in place of the one that it shows. A token is not enough: a stolen one must not become a
/// key.
#[utoipa::path(
    post, path = "/v1/worker/key/rotate", tag = "workers", request_body = Option<OwnRotation>, params(OwnIdempotencyKey, WaitQuery),
    security((), ("bearer" = []), ("basic" = []), ("api_key" = [])),
    responses((status = 201, body = OwnRotated), Refusals)
)]
pub(super) async fn rotate(
    State(app): State<App>,
    Extension(meta): Extension<Meta>,
    headers: HeaderMap,
    CommandJson { value, asked }: CommandJson<OwnRotation>,
) -> Result<Answered, Problem> {
    let overlap = value.overlap.as_deref().map_or(Ok(OVERLAP_DEFAULT), |text| duration("overlap", text))?;
    let shown = Shown::of(&headers, value.worker.as_deref(), value.secret.as_ref().map(ExposeSecret::expose_secret))?;
    let caller = match &asked.idempotency_key {
        Some(_) => credential::worker_asking_again(&app, &meta, &shown)?,
        None => credential::worker(&app, &meta, &shown)?,
    };
    if caller.token.is_some() {
        return Err(caller.denied(&app, Denial::WrongKind));
    }
    let successor = Successor::make(&app, &caller, value.static_secret).await?;
    let command = Command::RotateKey {
        key: caller.key,
        successor: successor.id,
        verifier: successor.verifier,
        kind: successor.kind,
        // The key's own end holds for its successor too; `decide` sees to it.
        expires_at: None,
        overlap,
    };
    // The answer is for the key that asked, and opens for nobody who does not have it.
    let key = caller.credential_text();
    let fingerprint = app.node().keys().fingerprint(&[&asked.fingerprint, key.as_bytes()]);
    let mut sending = Sending::new(&app, caller.author(), Asked { fingerprint, ..asked })
        .reason(value.reason)?
        .known_to_caller(&shown.credential);
    if let Some(text) = &successor.text {
        sending = sending.secret("key", text.expose_secret());
    }
    let answered = sending.try_send(command, rotated).await;
    Ok(answered.map_err(|unanswered| caller.problem(&app, unanswered))?.created("/v1/worker".to_owned()))
}

/// What takes the key's place.
struct Successor {
    id: KeyId,
    kind: KeyKind,
    verifier: Digest,
    /// Made here, and so to be shown.
    text: Option<SecretString>,
}

impl Successor {
    async fn make(app: &App, caller: &WorkerCaller, chosen: Option<SecretString>) -> Result<Self, Problem> {
        let keys = app.node().keys();
        let Some(chosen) = chosen else {
            if caller.kind == KeyKind::Static {
                let detail = "the key is a static secret; send the new value, of at least 44 characters";
                return Err(Problem::invalid("static_secret", detail));
            }
            let fresh = mint::api_key(keys, Prefix::Worker);
            return Ok(Self { id: fresh.id, kind: KeyKind::Api, verifier: fresh.verifier, text: Some(fresh.text) });
        };
        let verifier = chosen::static_secret(app, &chosen).await?;
        Ok(Self { id: KeyId::from_uuid(mint::id()), kind: KeyKind::Static, verifier, text: None })
    }
}

/// The end of the overlap is the one that holds: a key that was overlapping already does not live longer by another
/// rotation, whatever it asks for.
fn rotated(roll: &Roll, done: &Done<'_>) -> Value {
    let rotated = done.events.iter().find_map(|recorded| match &recorded.event {
        Event::KeyRotated { successor, overlap_until, .. } => {
            let holds = roll.key(*successor).and_then(|successor| view::overlap_until(roll, successor));
            let until = holds.unwrap_or(*overlap_until);
            Some(json!({ "id": successor.to_string(), "overlap_until": view::time(until) }))
        }
        _ => None,
    });
    rotated.unwrap_or_default()
}
