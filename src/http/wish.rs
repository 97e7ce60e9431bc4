//! From a request to a command and back to an answer: idempotency, secrets that are shown once, the position.

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::body::Asked;
use super::problem::Problem;
use super::waiting::Wait;
use super::{App, foreseen};
use crate::command::{CommandError, Done, Outcome, SealedAnswer, Wish, mint};
use crate::credential::idempotency::OutcomeKey;
use crate::domain::actor::{Actor, Author};
use crate::domain::command::{Command, Context};
use crate::domain::ids::CommandId;
use crate::domain::roll::Roll;
use crate::domain::time::{Seconds, Timestamp};

/// An outcome that holds a secret can be asked for again for a day.
const SECRET_KEPT: Seconds = Seconds(Seconds::DAY);
/// The author's own words, in one line of a report.
pub(super) const REASON_CHARS_MAX: usize = 500;

/// The answer to a command that succeeded.
pub(super) struct Answered {
    pub body: Value,
    pub position: u64,
    pub changed: bool,
    /// Whether this is the answer to an earlier request with the same `Idempotency-Key`.
    pub repeated: bool,
    /// Whether it was a dry run: then the body is what would be recorded.
    pub foreseen: bool,
    status: StatusCode,
    location: Option<String>,
}

/// A command about to be sent.
pub(super) struct Sending<'a> {
    app: &'a App,
    author: Author,
    asked: Asked,
    now: Timestamp,
    reason: Option<Arc<str>>,
    secrets: Map<String, Value>,
    /// What the sealing of the secrets depends on beside the idempotency key: what only this caller knows.
    known_to_caller: Option<Zeroizing<String>>,
}

/// Why there is no answer.
pub enum Unanswered {
    /// The command was refused, or could not be written.
    Command(CommandError),
    /// It was carried out before, and the secrets of its answer cannot be shown again.
    Secrets(Problem),
    /// It was carried out, and is not known to be in force on every node.
    Elsewhere(Problem),
}

impl<'a> Sending<'a> {
    pub(super) fn new(app: &'a App, author: Author, asked: Asked) -> Self {
        let secrets = Map::new();
        Self { app, author, asked, now: mint::now(), reason: None, secrets, known_to_caller: None }
    }

    pub(super) fn reason(mut self, reason: Option<String>) -> Result<Self, Problem> {
        let fits = |text: &str| text.chars().count() <= REASON_CHARS_MAX && !text.chars().any(char::is_control);
        if reason.as_deref().is_some_and(|text| !fits(text)) {
            let detail = format!("at most {REASON_CHARS_MAX} characters, none of them control characters");
            return Err(Problem::invalid("reason", detail));
        }
        self.reason = reason.map(Into::into);
        Ok(self)
    }

    /// A secret that the answer shows, once: `field` of the answer's body.
    #[must_use]
    pub(super) fn secret(mut self, field: &str, secret: &str) -> Self {
        self.secrets.insert(field.to_owned(), Value::from(secret));
        self
    }

    /// Several of them, by their names, in one field.
    #[must_use]
    pub(super) fn secrets(mut self, field: &str, secrets: Map<String, Value>) -> Self {
        self.secrets.insert(field.to_owned(), Value::Object(secrets));
        self
    }

    /// Seals the secrets under this text too.
    #[must_use]
    pub(super) fn known_to_caller(mut self, text: &str) -> Self {
        self.known_to_caller = Some(Zeroizing::new(text.to_owned()));
        self
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn app(&self) -> &'a App {
        self.app
    }

    /// Sends the command and waits for its end. `answer` renders the body, without its secrets, from the state right after.
    pub(super) async fn send(
        self,
        command: Command,
        answer: impl Fn(&Roll, &Done<'_>) -> Value + Send + Sync + 'static,
    ) -> Result<Answered, Problem> {
        Ok(self.try_send(command, answer).await?)
    }

    /// The same, for those who look at a refusal before the caller does.
    pub(super) async fn try_send(
        self,
        command: Command,
        answer: impl Fn(&Roll, &Done<'_>) -> Value + Send + Sync + 'static,
    ) -> Result<Answered, Unanswered> {
        let idempotency = self.idempotency();
        // The command may be done and the wait fail: without a key the secret could never be asked for again.
        if self.asked.wait != Wait::Local && !self.secrets.is_empty() && idempotency.is_none() {
            let detail = "needed with `wait=everywhere`, since the answer holds a secret; send one, such as a UUID";
            return Err(Unanswered::Elsewhere(Problem::invalid("Idempotency-Key", detail)));
        }
        if self.asked.dry_run.is_asked() {
            return self.foresee(command).await;
        }
        let names = matches!(self.author.actor, Actor::Operator(_));
        let sealed = idempotency.as_ref().and_then(|(id, key)| self.seal(*id, key));
        let wish = Wish {
            id: idempotency.as_ref().map_or_else(|| CommandId::from_uuid(mint::id()), |(id, _)| *id),
            fingerprint: idempotency.as_ref().map(|_| self.asked.fingerprint),
            command,
            context: Context { now: self.now, author: self.author, reason: self.reason, incident: self.asked.incident },
            answer: Arc::new(answer),
            sealed,
            dry_run: false,
        };
        let outcome = self.app.queue().submit(wish).await?;
        let mut body = outcome.body;
        let secrets = match (&idempotency, outcome.repeated) {
            (Some(_), true) if outcome.secrets_gone => return Err(Unanswered::Secrets(Problem::secret_gone())),
            (Some((id, key)), true) => outcome.sealed.map(|sealed| open(*id, key, &sealed)).transpose()?,
            // A wish that held already has made nothing: what was minted for it is no credential.
            (_, _) => outcome.changed.then_some(self.secrets),
        };
        let in_force = self.asked.wait.wait(self.app, outcome.position, names).await.map_err(Unanswered::Elsewhere)?;
        if let Value::Object(body) = &mut body {
            body.extend(secrets.unwrap_or_default());
            body.extend(in_force.map(|nodes| ("in_force".to_owned(), nodes)));
        }
        Ok(Answered {
            body,
            position: outcome.position,
            changed: outcome.changed,
            repeated: outcome.repeated,
            foreseen: false,
            status: StatusCode::OK,
            location: None,
        })
    }

    /// Has it decided as if it were new, under an id of its own: an `Idempotency-Key` is there for the command itself. Neither
    /// its secrets nor an outcome are kept, and there is nothing to wait for.
    async fn foresee(self, command: Command) -> Result<Answered, Unanswered> {
        let wish = Wish {
            id: CommandId::from_uuid(mint::id()),
            fingerprint: None,
            command,
            context: Context { now: self.now, author: self.author, reason: self.reason, incident: self.asked.incident },
            answer: Arc::new(|_, done| foreseen::rendered(done)),
            sealed: None,
            dry_run: true,
        };
        let Outcome { body, position, .. } = self.app.queue().submit(wish).await?;
        let (status, location) = (StatusCode::OK, None);
        Ok(Answered { body, position, changed: false, repeated: false, foreseen: true, status, location })
    }

    fn idempotency(&self) -> Option<(CommandId, OutcomeKey)> {
        let text = self.asked.idempotency_key.as_deref()?;
        let keys = self.app.node().keys();
        let known = self.known_to_caller.as_deref().map_or("", String::as_str);
        let id = keys.command_id(&actor_text(&self.author.actor), text);
        Some((id, keys.outcome_key(&[text.as_bytes(), known.as_bytes()])))
    }

    fn seal(&self, id: CommandId, key: &OutcomeKey) -> Option<SealedAnswer> {
        if self.secrets.is_empty() {
            return None;
        }
        let text = Zeroizing::new(serde_json::to_vec(&self.secrets).expect("secrets are JSON"));
        Some(SealedAnswer { sealed: key.seal(id, &text), expires_at: self.now.after(SECRET_KEPT) })
    }
}

fn open(id: CommandId, key: &OutcomeKey, sealed: &[u8]) -> Result<Map<String, Value>, Unanswered> {
    let unreadable = |problem| Unanswered::Secrets(problem);
    let text = key.open(id, sealed).map_err(|error| unreadable(Problem::internal(error)))?;
    serde_json::from_slice(&text).map_err(|error| unreadable(Problem::internal(error)))
}

impl From<CommandError> for Unanswered {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Command(error) => error.into(),
            Unanswered::Secrets(problem) | Unanswered::Elsewhere(problem) => problem,
        }
    }
}

fn actor_text(actor: &Actor) -> String {
    match actor {
        Actor::Operator(id) => format!("operator:{id}"),
        Actor::Worker(id) => format!("worker:{id}"),
        Actor::Enrollee(id) => format!("enrollee:{id}"),
        Actor::System => "system".to_owned(),
    }
}

impl Answered {
    /// 201, with the place where the new thing is to be found, if something was made now.
    #[must_use]
    pub(super) fn created(mut self, location: String) -> Self {
        if self.changed {
            self.status = StatusCode::CREATED;
        }
        // Of what is only foreseen there is no place yet.
        self.location = Some(location).filter(|_| !self.foreseen);
        self
    }

    /// The same for a thing whose id was made. The place is that of the thing in the answer: a repeat has minted another
    /// id, of which nothing came.
    #[must_use]
    pub(super) fn created_in(self, folder: &str) -> Self {
        let location = format!("{folder}/{}", self.body["id"].as_str().unwrap_or_default());
        self.created(location)
    }
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(super::POSITION_HEADER, HeaderValue::from(self.position));
        // Answers to commands can hold a secret, and are nobody else's.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(location) = self.location.and_then(|place| HeaderValue::try_from(place).ok()) {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}
