//! Keys and static secrets: `/v1/workers/{id}/keys` and `/v1/keys`. Created, shared, rotated, revoked; never revived.

use axum::Json as Reply;
use axum::extract::State;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::body::{CommandJson, duration, moment_if};
use super::caller::{AnyOperator, Caller, MayManageFleet, MayReadFleet};
use super::openapi::{IdempotencyKey, Refusals, WaitQuery};
use super::path::{Id, MadePath, WorkerPath, no_such};
use super::problem::Problem;
use super::view::{Changed, KeyMade, KeyView};
use super::wish::{Answered, Sending};
use super::{chosen, schema};
use crate::command::mint;
use crate::credential::key::KeyKind as Prefix;
use crate::domain::command::{Command, CreateKey};
use crate::domain::event::{Event, KeyHolder};
use crate::domain::ids::{KeyId, WorkerId};
use crate::domain::key::{Digest, Holder, KeyKind, OVERLAP_DEFAULT};
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::projection::used;

pub(super) mod list;

/// A new key of a worker: made by us, or with `static_secret` chosen by the caller, or with `share` one that is there.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    #[schema(schema_with = schema::static_secret_or_null)]
    static_secret: Option<SecretString>,
    /// The id of a key of another worker of the pool, which this one may present from now on. Alone.
    #[schema(schema_with = schema::made_id_or_null)]
    share: Option<String>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// How a key is rotated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRotation {
    /// How long the old key still works: 24h if not given, 0s for not at all, at most 90d.
    #[schema(schema_with = schema::overlap_or_null)]
    overlap: Option<String>,
    /// When the new key expires.
    #[schema(schema_with = schema::time_or_null)]
    expires_at: Option<String>,
    /// The new value, where a static secret is rotated.
    #[schema(schema_with = schema::static_secret_or_null)]
    static_secret: Option<SecretString>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// How far a revocation goes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRevocation {
    /// Whether every key that was made with this one by its own holder goes with it. True if not given.
    descendants: Option<bool>,
    #[schema(schema_with = schema::reason_or_null)]
    reason: Option<String>,
}

/// A key after it was revoked.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyRevoked {
    #[serde(flatten)]
    view: Changed<KeyView>,
    /// The keys that this command revoked.
    revoked: Vec<String>,
}

/// Gives a worker a key.
#[utoipa::path(
    post, path = "/v1/workers/{id}/keys", tag = "keys", request_body = Option<NewKey>, params(WorkerPath, IdempotencyKey),
    responses(
        (status = 201, body = KeyMade),
        (status = 200, description = "The worker has it already", body = KeyMade),
        Refusals,
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller<MayManageFleet>,
    Id(worker): Id<WorkerId>,
    CommandJson { value, asked }: CommandJson<NewKey>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let expires_at = moment_if("expires_at", value.expires_at.as_deref())?;
    if let Some(shared) = value.share {
        if value.static_secret.is_some() || expires_at.is_some() {
            return Err(Problem::invalid("share", "a shared key stays as it is: give `share` alone"));
        }
        let key = shared.parse().map_err(|_| Problem::invalid("share", "the id of a key: 22 base62 digits"))?;
        return make(sending, Command::ShareKey { key, worker }, move |_| Some(key)).await;
    }
    let new = match &value.static_secret {
        Some(secret) => NewSecret::chosen(&app, secret).await?,
        None => NewSecret::minted(&app, Prefix::Worker),
    };
    let (id, verifier) = (new.id, new.verifier);
    let command = Command::CreateKey(CreateKey {
        key: id,
        holder: KeyHolder::Worker(worker.clone()),
        kind: new.kind,
        verifier,
        expires_at,
    });
    // A static secret that the worker has already keeps the id that it was given then.
    let find = move |roll: &Roll| roll.key(id).map(|key| key.id).or_else(|| own_secret(roll, &worker, &verifier));
    make(new.shown_by(sending), command, find).await
}

/// One key.
#[utoipa::path(
    get, path = "/v1/keys/{id}", tag = "keys", params(MadePath),
    responses((status = 200, body = KeyView), Refusals)
)]
pub(super) async fn read(
    State(app): State<App>,
    _caller: Caller<MayReadFleet>,
    Id(key): Id<KeyId>,
) -> Result<Reply<KeyView>, Problem> {
    let snapshot = app.node().snapshot();
    let found = snapshot.roll.key(key).ok_or_else(no_such::<KeyId>)?;
    let view = KeyView::of(&snapshot.roll, found, mint::now());
    // The key is answered from memory, and shown without its uses rather than not at all.
    Ok(Reply(match used::of_key(app.database(), key).await {
        Ok(used) => view.used(&used),
        Err(error) => {
            tracing::warn!(%error, "when a key was used cannot be read");
            view
        }
    }))
}

/// Puts a new key in a key's place; the old one works for the overlap. Any operator may rotate a key of their own.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", tag = "keys", request_body = Option<KeyRotation>,
    params(MadePath, IdempotencyKey, WaitQuery), responses((status = 201, body = KeyMade), Refusals)
)]
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller<AnyOperator>,
    Id(key): Id<KeyId>,
    CommandJson { value, asked }: CommandJson<KeyRotation>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let overlap = value.overlap.as_deref().map_or(Ok(OVERLAP_DEFAULT), |text| duration("overlap", text))?;
    let expires_at = moment_if("expires_at", value.expires_at.as_deref())?;
    // Whose key it is decides how the new one looks. That never changes, so a state that is not the newest will do.
    let prefix = match app.node().snapshot().roll.key(key).ok_or_else(no_such::<KeyId>)?.holder {
        Holder::Operator(_) => Prefix::Operator,
        Holder::Worker(_) | Holder::Workers(_) => Prefix::Worker,
    };
    let new = match &value.static_secret {
        Some(secret) => NewSecret::chosen(&app, secret).await?,
        None => NewSecret::minted(&app, prefix),
    };
    let (successor, verifier, kind) = (new.id, new.verifier, new.kind);
    let command = Command::RotateKey { key, successor, verifier, kind, expires_at, overlap };
    make(new.shown_by(sending), command, move |_| Some(successor)).await
}

/// Ends a key, for ever. Any operator may revoke the key that they present.
#[utoipa::path(
    post, path = "/v1/keys/{id}/revoke", tag = "keys", request_body = Option<KeyRevocation>,
    params(MadePath, IdempotencyKey, WaitQuery), responses((status = 200, body = KeyRevoked), Refusals)
)]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller<AnyOperator>,
    Id(key): Id<KeyId>,
    CommandJson { value, asked }: CommandJson<KeyRevocation>,
) -> Result<Answered, Problem> {
    let sending = Sending::new(&app, caller.author(), asked).reason(value.reason)?;
    let command = Command::RevokeKey { key, descendants: value.descendants.unwrap_or(true) };
    let now = sending.now();
    let answer = sending.send(command, move |roll, done| {
        let revoked = done.events.iter().filter_map(|recorded| match recorded.event {
            Event::KeyRevoked { key } => Some(key.to_string()),
            _ => None,
        });
        let revoked: Vec<String> = revoked.collect();
        json!(roll.key(key).map(|key| KeyRevoked { view: Changed::by(done, KeyView::of(roll, key, now)), revoked }))
    });
    answer.await
}

/// A key about to be: one of ours, or a value that the caller chose.
pub(super) struct NewSecret {
    pub(super) id: KeyId,
    pub(super) verifier: Digest,
    kind: KeyKind,
    /// To be shown, where it is ours.
    text: Option<SecretString>,
}

impl NewSecret {
    pub(super) fn minted(app: &App, prefix: Prefix) -> Self {
        let fresh = mint::api_key(app.node().keys(), prefix);
        Self { id: fresh.id, verifier: fresh.verifier, kind: KeyKind::Api, text: Some(fresh.text) }
    }

    async fn chosen(app: &App, secret: &SecretString) -> Result<Self, Problem> {
        let verifier = chosen::static_secret(app, secret).await?;
        Ok(Self { id: KeyId::from_uuid(mint::id()), verifier, kind: KeyKind::Static, text: None })
    }

    pub(super) fn shown_by<'a>(&self, sending: Sending<'a>) -> Sending<'a> {
        match &self.text {
            Some(text) => sending.secret("key", text.expose_secret()),
            None => sending,
        }
    }
}

/// Sends a command that makes a key, and answers with the key that `find` names.
pub(super) async fn make(
    sending: Sending<'_>,
    command: Command,
    find: impl Fn(&Roll) -> Option<KeyId> + Send + Sync + 'static,
) -> Result<Answered, Problem> {
    let (app, now) = (sending.app(), sending.now());
    let answer = sending.send(command, move |roll, _| {
        let key = find(roll).and_then(|key| roll.key(key));
        json!(key.map(|key| KeyMade::of(roll, key, now)))
    });
    let answer = answer.await?;
    if answer.repeated
        && let Some(key) = refused_since(app, &answer.body["id"])
    {
        return Err(Refusal::KeyFenced(key).into());
    }
    Ok(answer.created_in("/v1/keys"))
}

/// The key, if a fence refuses it by now. A first answer that is given again calls it good, and whoever lost that answer
/// would deploy a key that nobody accepts.
pub(super) fn refused_since(app: &App, id: &Value) -> Option<KeyId> {
    let roll = &app.node().snapshot().roll;
    let key = id.as_str().and_then(|id| id.parse().ok()).and_then(|id| roll.key(id))?;
    roll.is_fenced_for_any(key).then_some(key.id)
}

/// The worker's own key with this value.
fn own_secret(roll: &Roll, worker: &WorkerId, verifier: &Digest) -> Option<KeyId> {
    let worker = roll.worker(worker.as_str())?;
    roll.static_secrets(verifier).map(|key| key.id).find(|id| worker.keys.contains(id))
}
