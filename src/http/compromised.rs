//! `POST /v1/compromised`: whoever holds a credential can end exactly that one, and needs nothing else to do so.
//!
//! A key found in a public place must be dead within the minute, whoever finds it. The answer says nothing, and comes when
//! it would have come anyway: this must not be the place where a stolen credential is tried out unseen (H31).
//!
//! A static secret can be the value of many keys. They end in a task of its own, all at once and past every error: neither
//! a time limit nor a caller who hangs up may leave the last of them alive (H26).

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Reply;
use axum::extract::{Extension, State};
use futures_util::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;
use utoipa::ToSchema;

use super::App;
use super::attempts::Attempt;
use super::body::CommandJson;
use super::meta::Meta;
use super::openapi::{OwnIdempotencyKey, Refusals};
use super::problem::Problem;
use crate::command::{CommandError, Wish, mint};
use crate::credential::key::looks_like_key;
use crate::credential::token::looks_like_token;
use crate::domain::actor::{Actor, Author, CredentialUsed};
use crate::domain::admit::Denial;
use crate::domain::command::{Command, Context};
use crate::domain::ids::CommandId;
use crate::domain::key::{Digest, Holder, Key};
use crate::domain::roll::Roll;
use crate::validate::{self, Denied, Snapshot};

/// Longer than a commit takes on any disk that is well.
const ANSWERED_AFTER: Duration = Duration::from_millis(100);
/// For how long it is tried to end a credential while the log cannot be written.
const ENDED_WITHIN: Duration = Duration::from_mins(10);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Keys that wait for the writer at a time, of one report: enough for its batches, and a small part of the queue.
const ENDED_AT_ONCE: usize = 64;
/// Reports that are being carried out. They outlive their requests, and so need a bound of their own: while the log cannot
/// be written, whoever has one credential could pile them up.
static UNDER_WAY: Semaphore = Semaphore::const_new(256);
const REASON: &str = "reported as compromised by whoever holds it";

/// A credential that is in wrong hands.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    /// An API key, an access token, a static secret, or an enrollment secret.
    #[schema(value_type = String)]
    credential: SecretString,
    /// With a static secret: end this worker's only, instead of every key with this value.
    worker: Option<String>,
}

/// The same for a credential that was good, one that was not, and none at all.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    #[schema(example = true)]
    accepted: bool,
}

/// One thing to end, and by whose right.
struct End {
    /// What ends, by its public name.
    what: String,
    command: Command,
    actor: Actor,
    credential: Option<CredentialUsed>,
}

/// Ends a credential: a key with what it was itself rotated into, a token with what was renewed from it, every key with
/// this static secret, an enrollment secret.
///
/// Nobody needs more than the credential for it, and the answer tells nobody whether it was one: so it does not wait for other
/// nodes either, where it would be told how that went. An `Idempotency-Key` names
/// a report of this one credential, for no other caller is known here: the same key with another credential is another report.
#[utoipa::path(
    post, path = "/v1/compromised", tag = "anyone", request_body = Report, params(OwnIdempotencyKey), security(()),
    responses((status = 200, body = Accepted), Refusals)
)]
pub(super) async fn compromised(
    State(app): State<App>,
    Extension(meta): Extension<Meta>,
    CommandJson { value: report, asked }: CommandJson<Report>,
) -> Result<Reply<Accepted>, Problem> {
    let answer_at = Instant::now() + ANSWERED_AFTER;
    // Before anything is known of the credential, so that a refusal tells nothing of it.
    let under_way = UNDER_WAY.try_acquire().map_err(|_| CommandError::QueueFull)?;
    let ends = {
        let snapshot = app.node().current()?;
        ends(&app, &snapshot, &report)
    };
    match ends {
        Ok(ends) => {
            let (app, span) = (app.clone(), tracing::Span::current());
            let patience = app.settings().request_timeout / 2;
            let ending = async move {
                end_all(&app, &meta, asked.idempotency_key.as_deref(), ends).await;
                drop(under_way);
            };
            let ending = tokio::spawn(ending.instrument(span));
            // As a rule all of it is in force before the answer. Where the log is not well the task goes on without us, and
            // the answer is the same: a failure would be told to the holder of a genuine credential alone.
            drop(tokio::time::timeout(patience, ending).await);
        }
        Err(attempt) => {
            drop(under_way);
            let attempt = Attempt { source: meta.source, ..attempt };
            let problem = app.attempts().refuse(&attempt);
            if problem.retry_after_seconds().is_some() {
                return Err(problem);
            }
        }
    }
    tokio::time::sleep_until(answer_at).await;
    Ok(Reply(Accepted { accepted: true }))
}

async fn end_all(app: &App, meta: &Meta, idempotency_key: Option<&str>, ends: Vec<End>) {
    let each = |it| end(app, meta, idempotency_key, it);
    futures_util::stream::iter(ends).for_each_concurrent(ENDED_AT_ONCE, each).await;
}

/// Tries until it is in the log or refused, for as long as makes sense. Nobody waits any more, so the log lines say it all.
async fn end(app: &App, meta: &Meta, idempotency_key: Option<&str>, end: End) {
    let give_up = Instant::now() + ENDED_WITHIN;
    let named = idempotency_key.map(|key| named(app, key, &end));
    let (id, fingerprint) = named.unzip();
    let id = id.unwrap_or_else(|| CommandId::from_uuid(mint::id()));
    loop {
        let Err(error) = app.queue().submit(wish(meta, id, fingerprint, &end)).await else { return };
        let is_final =
            matches!(error, CommandError::Refused(_) | CommandError::RefusedBefore { .. } | CommandError::Stopping);
        if is_final || Instant::now() > give_up {
            tracing::error!(%error, command = ?end.command, "a credential that was reported as compromised is still alive");
            return;
        }
        tracing::warn!(%error, command = ?end.command, "a credential that was reported as compromised could not be ended yet");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// The command's id, of the key that the caller named and of what ends; with the fingerprint that goes with it. So each of
/// many keys with one value has an id of its own; and no id is used for anything else, which would have to be refused and
/// so would tell that the credential was genuine.
fn named(app: &App, idempotency_key: &str, end: &End) -> (CommandId, [u8; 32]) {
    let keys = app.node().keys();
    let scope = format!("compromised:{}", end.what);
    (keys.command_id(&scope, idempotency_key), keys.fingerprint(&[scope.as_bytes()]))
}

fn wish(meta: &Meta, id: CommandId, fingerprint: Option<[u8; 32]>, end: &End) -> Wish {
    let author = Author {
        actor: end.actor.clone(),
        credential: end.credential,
        source: meta.source,
        request_id: Some(meta.request_id.clone()),
    };
    Wish {
        id,
        fingerprint,
        command: end.command.clone(),
        context: Context { now: mint::now(), author, reason: Some(REASON.into()), incident: None },
        answer: Arc::new(|_, _| Value::Null),
        sealed: None,
        dry_run: false,
    }
}

/// What the credential is, whatever has become of it. A text can be an enrollment secret and a static secret at once,
/// since both are chosen: then both end.
fn ends(app: &App, snapshot: &Snapshot, report: &Report) -> Result<Vec<End>, Attempt> {
    let (roll, keys, text) = (&snapshot.roll, app.node().keys(), report.credential.expose_secret());
    let verifier = Digest(*keys.enrollment_verifier(text).as_bytes());
    let mut ends: Vec<End> = roll
        .enrollment_secret_by_verifier(&verifier)
        .map(|secret| End {
            what: format!("enrollment_secret:{}", secret.id),
            command: Command::DisableEnrollmentSecret { secret: secret.id },
            actor: Actor::System,
            credential: Some(CredentialUsed::EnrollmentSecret(secret.id)),
        })
        .into_iter()
        .collect();
    let mut why = Denied { denial: Denial::Malformed, credential: None, worker: None, genuine: None, trip: None };
    if looks_like_key(text) {
        match validate::genuine_key(roll, keys, text) {
            Ok(key) => ends.extend(end_of_key(roll, key)),
            Err(denied) => why = denied,
        }
    } else if looks_like_token(text) {
        match end_of_token(snapshot, text) {
            Ok(end) => ends.push(end),
            Err(denied) => why = denied,
        }
    } else {
        let index = report.worker.as_deref().map(|worker| roll.worker_index(worker));
        let meant = |key: &Key| index.is_none_or(|index| index.is_some_and(|index| key.workers().contains(&index)));
        let same = validate::genuine_static_secret(roll, keys, text).filter(|key| meant(key));
        ends.extend(same.filter_map(|key| end_of_key(roll, key)));
    }
    if ends.is_empty() {
        return Err(Attempt { denial: why.denial, source: None, credential: why.credential });
    }
    Ok(ends)
}

/// By the right of its holder, who need not be good any more: not even an isolated worker's key should stay alive.
fn end_of_key(roll: &Roll, key: &Key) -> Option<End> {
    let actor = match &key.holder {
        Holder::Operator(operator) => Actor::Operator(*operator),
        Holder::Worker(_) | Holder::Workers(_) => {
            let first = key.workers().first().and_then(|index| roll.worker_at(*index))?;
            Actor::Worker(first.id.clone())
        }
    };
    let command = Command::RevokeKey { key: key.id, descendants: true };
    Some(End { what: format!("key:{}", key.id), command, actor, credential: Some(CredentialUsed::Key(key.id)) })
}

fn end_of_token<'s>(snapshot: &'s Snapshot, text: &str) -> Result<End, Denied<'s>> {
    let facts = validate::genuine_token(snapshot, text, mint::now())?;
    Ok(End {
        what: format!("token:{}", facts.token),
        actor: Actor::Worker(facts.worker.clone()),
        credential: Some(CredentialUsed::Token {
            token: facts.token,
            session: facts.session,
            key: facts.key,
            issued: facts.issued,
        }),
        command: Command::RevokeToken(facts),
    })
}
