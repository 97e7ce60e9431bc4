//! `POST /v1/enroll`: a worker that nobody has announced gets in by the enrollment secret, and gets a key of its own.

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::attempts::Attempt;
use super::body::{Asked, CommandJson};
use super::caller::{bearer, is_repeated};
use super::keys::refused_since;
use super::meta::Meta;
use super::openapi::{OwnIdempotencyKey, Refusals};
use super::problem::Problem;
use super::waiting::Wait;
use super::wish::{Answered, Sending, Unanswered};
use super::{App, schema};
use crate::command::{CommandError, mint};
use crate::credential::key::{self, KeyKind};
use crate::domain::actor::{Actor, Author, CredentialUsed};
use crate::domain::admit::Denial;
use crate::domain::command::{Command, Context, Enroll};
use crate::domain::decide::decide;
use crate::domain::ids::{EnrollmentSecretId, KeyId, WorkerId};
use crate::domain::key::Digest;
use crate::domain::refusal::Refusal;
use crate::domain::roll::Roll;
use crate::domain::worker::{Labels, WorkerState};
use crate::validate::CredentialId;

/// Below it a nonce could be a counter, and two workers with one nonce would be given one key.
const NONCE_CHARS_MIN: usize = 16;
const NONCE_CHARS_MAX: usize = 128;

/// A worker that wants to get in. The enrollment secret comes as `Authorization: Bearer …`, or in the body.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Enrollment {
    #[schema(value_type = Option<String>)]
    secret: Option<SecretString>,
    /// For people; it need not be unique.
    #[schema(schema_with = schema::name_or_null)]
    name: Option<String>,
    #[schema(schema_with = schema::labels_or_null)]
    labels: Option<Labels>,
    /// Random and this worker's alone, kept until the answer has arrived: who sends it again gets the same worker and the
    /// same key, for a day. Instead of it an `Idempotency-Key` will do.
    #[schema(min_length = 16, max_length = 128, pattern = "^[!-~]*$")]
    nonce: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    #[schema(ignore)]
    id: bool,
    #[serde(default, deserialize_with = "is_there")]
    #[schema(ignore)]
    worker: bool,
    #[serde(default, deserialize_with = "is_there")]
    #[schema(ignore)]
    worker_id: bool,
}

/// A worker that got in, or waits for approval.
#[derive(Serialize, ToSchema)]
pub(super) struct Enrolled {
    /// The worker's id.
    id: String,
    pool: String,
    #[schema(example = "active")]
    state: String,
    key_id: String,
    /// The worker's own API key, shown this once.
    key: String,
}

/// Lets a worker in.
#[utoipa::path(
    post, path = "/v1/enroll", tag = "workers", request_body = Option<Enrollment>, params(OwnIdempotencyKey),
    security((), ("enrollment_secret" = [])),
    responses((status = 201, body = Enrolled), Refusals)
)]
pub(super) async fn enroll(
    State(app): State<App>,
    Extension(meta): Extension<Meta>,
    headers: HeaderMap,
    CommandJson { value, asked }: CommandJson<Enrollment>,
) -> Result<Answered, Problem> {
    let chosen = [("id", value.id), ("worker", value.worker), ("worker_id", value.worker_id)];
    if let Some((field, _)) = chosen.into_iter().find(|(_, given)| *given) {
        return Err(Problem::worker_id_not_allowed(field));
    }
    let labels = value.labels.unwrap_or_default();
    let asked = idempotency(&app, asked, value.nonce, value.name.as_deref(), &labels)?;
    if is_repeated(&headers, &header::AUTHORIZATION) {
        return Err(Problem::unauthorized());
    }
    let secret = match (bearer(&headers), value.secret.as_ref().map(ExposeSecret::expose_secret)) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid(
                "secret",
                "the headers show the enrollment secret already; send one of the two",
            ));
        }
        (Some(secret), None) | (None, Some(secret)) => secret,
        (None, None) => return Err(Problem::unauthorized()),
    };
    let attempt = Attempting { app: &app, meta: &meta, secret };
    let secret_id = attempt.known()?;
    let fresh = mint::api_key(app.node().keys(), KeyKind::Worker);
    let (worker, key) = (mint::worker_id(), fresh.id);
    let command = Command::Enroll(Enroll {
        secret: secret_id,
        worker: worker.clone(),
        name: value.name.map(Into::into),
        labels,
        key,
        verifier: fresh.verifier,
    });
    let author = attempt.author(secret_id);
    // Who has a nonce may have lost the answer of an enrollment that would be refused by now: the secret was disabled since,
    // or has ended. Its worker has got in all the same, and is told so again (H13); the writer knows whether it did.
    if asked.idempotency_key.is_none() {
        attempt.look_ahead(&command, &author)?;
    }
    let sending = Sending::new(&app, author, asked).secret("key", fresh.text.expose_secret()).known_to_caller(secret);
    let answered = sending.try_send(command, move |roll, _| enrolled(roll, &worker, key)).await;
    let answered = answered.map_err(|unanswered| attempt.problem(unanswered))?;
    if answered.foreseen {
        tracing::warn!(secret = %secret_id, source = ?meta.source, "an enrollment secret is good, and was tried by a dry run");
    }
    // An answer that was lost is given again only while the key in it is worth having.
    if answered.repeated && refused_since(&app, &answered.body["key_id"]).is_some() {
        return Err(attempt.refuse("key_fenced"));
    }
    Ok(answered.created("/v1/worker".to_owned()))
}

/// The nonce is an idempotency key by another name. What is asked is compared as it was meant, and not as it was written:
/// a client that tries again may write its body anew.
fn idempotency(
    app: &App,
    asked: Asked,
    nonce: Option<String>,
    name: Option<&str>,
    labels: &Labels,
) -> Result<Asked, Problem> {
    let fits = |nonce: &String| {
        (NONCE_CHARS_MIN..=NONCE_CHARS_MAX).contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let idempotency_key = match (nonce, asked.idempotency_key) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("nonce", "the header Idempotency-Key says the same; send one of the two"));
        }
        (Some(nonce), None) if !fits(&nonce) => {
            let detail = format!("{NONCE_CHARS_MIN} to {NONCE_CHARS_MAX} visible ASCII characters; make a random one");
            return Err(Problem::invalid("nonce", detail));
        }
        (nonce, key) => nonce.or(key),
    };
    let labels = serde_json::to_vec(labels).map_err(Problem::internal)?;
    let name = name.map_or(&b"unnamed"[..], |_| b"named").iter().chain(name.unwrap_or_default().as_bytes());
    let name: Vec<u8> = name.copied().collect();
    Ok(Asked {
        idempotency_key,
        wait: Wait::Local,
        incident: None,
        dry_run: asked.dry_run,
        fingerprint: app.node().keys().fingerprint(&[b"enroll", &name, &labels]),
    })
}

fn enrolled(roll: &Roll, worker: &WorkerId, key: KeyId) -> Value {
    let Some(worker) = roll.worker(worker.as_str()) else { return Value::Null };
    let state = match worker.state {
        WorkerState::Pending => "pending",
        WorkerState::Active | WorkerState::Isolated { .. } | WorkerState::Rejected | WorkerState::Removed => "active",
    };
    json!({
        "id": worker.id.to_string(),
        "pool": worker.pool.to_string(),
        "state": state,
        "key_id": key.to_string(),
    })
}

/// Somebody who shows what may be an enrollment secret. However it fails, the answer is the same (H31).
struct Attempting<'a> {
    app: &'a App,
    meta: &'a Meta,
    secret: &'a str,
}

impl Attempting<'_> {
    fn known(&self) -> Result<EnrollmentSecretId, Problem> {
        let snapshot = self.app.node().current()?;
        let verifier = Digest(*self.app.node().keys().enrollment_verifier(self.secret).as_bytes());
        let found = snapshot.roll.enrollment_secret_by_verifier(&verifier);
        found.map(|secret| secret.id).ok_or_else(|| self.refuse("enrollment_secret_unknown"))
    }

    fn author(&self, secret: EnrollmentSecretId) -> Author {
        Author {
            actor: Actor::Enrollee(secret),
            credential: Some(CredentialUsed::EnrollmentSecret(secret)),
            source: self.meta.source,
            request_id: Some(self.meta.request_id.clone()),
        }
    }

    /// Refuses at once what would be refused: it takes as long as an unknown secret does, and does not trouble the writer.
    fn look_ahead(&self, command: &Command, author: &Author) -> Result<(), Problem> {
        let snapshot = self.app.node().current()?;
        let context = Context { now: mint::now(), author: author.clone(), reason: None, incident: None };
        match decide(&snapshot.roll, command, &context) {
            Ok(_) => Ok(()),
            Err(refusal) if is_closed(&refusal) => Err(self.refuse(refusal.code())),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn problem(&self, unanswered: Unanswered) -> Problem {
        match &unanswered {
            Unanswered::Command(CommandError::Refused(refusal)) if is_closed(refusal) => self.refuse(refusal.code()),
            _ => unanswered.into(),
        }
    }

    fn refuse(&self, code: &str) -> Problem {
        tracing::info!(code, source = ?self.meta.source, "an enrollment was refused");
        let credential = key::parse(self.secret).ok().map(|parsed| CredentialId::Key(parsed.id));
        self.app.attempts().refuse(&Attempt { denial: Denial::EnrollmentSecret, source: self.meta.source, credential })
    }
}

/// Refusals that say something about the secret or its pool.
fn is_closed(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::EnrollmentUnknown(_)
            | Refusal::EnrollmentEnded(_)
            | Refusal::EnrollmentFenced(_)
            | Refusal::EnrollmentSource(_)
            | Refusal::EnrollmentName(_)
            | Refusal::EnrollmentCrowded(_)
            | Refusal::PoolUnknown(_)
            | Refusal::PoolRemoved(_)
    )
}

/// Whether a field is given at all, `null` and all.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
