//! The credential that a request shows, read in one place, and whose it is.
//!
//! Workers come with `Authorization: Bearer …`, with `Authorization: Basic …` as worker id and secret, with `X-Api-Key`
//! (and `X-Worker-Id`), or with a body. Whatever is wrong with it, the answer is the same (H31).

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::App;
use super::attempts::Attempt;
use super::caller::{bearer, is_repeated};
use super::meta::Meta;
use super::problem::Problem;
use super::wish::Unanswered;
use crate::command::{CommandError, mint};
use crate::domain::actor::{Actor, Author, CredentialUsed};
use crate::domain::admit::{self, Denial};
use crate::domain::ids::{KeyId, OperatorId, WorkerId};
use crate::domain::key::{Key, KeyKind, KeyState};
use crate::domain::operator::Role;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::domain::worker::Worker;
use crate::node::NotCurrent;
use crate::validate::{self, Bearer, CredentialId, Denied, Presented, Snapshot, Token};

const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");
const WORKER_HEADER: HeaderName = HeaderName::from_static("x-worker-id");

/// What a request shows. No `Debug`: it would print the secret.
pub(super) struct Shown<'a> {
    pub credential: Cow<'a, str>,
    pub worker: Option<Cow<'a, str>>,
}

/// A worker that came with a credential of its own.
pub(super) struct WorkerCaller {
    pub worker: WorkerId,
    /// The key that was shown, or that the token was made from.
    pub key: KeyId,
    pub kind: KeyKind,
    pub token: Option<Box<Token>>,
    /// When the credential ends by itself.
    pub expires_at: Option<Timestamp>,
    pub meta: Meta,
}

/// An operator, on an endpoint that workers use too.
pub(super) struct OperatorCaller {
    pub operator: OperatorId,
    pub role: Role,
    pub key: KeyId,
    pub meta: Meta,
}

pub(super) enum AnyCaller {
    Worker(WorkerCaller),
    Operator(OperatorCaller),
}

// === impl Shown ===

impl<'a> Shown<'a> {
    /// What the headers show; nothing if they show two: which of them counts would be a guess (RFC 6750, section 2).
    pub(super) fn in_headers(headers: &'a HeaderMap) -> Option<Self> {
        if says_twice(headers) {
            return None;
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
        let worker = text(WORKER_HEADER).map(Cow::Borrowed);
        match (headers.contains_key(header::AUTHORIZATION), text(KEY_HEADER)) {
            (true, None) => match bearer(headers) {
                Some(credential) => Some(Self { credential: credential.into(), worker }),
                None => basic(headers),
            },
            (false, Some(key)) => Some(Self { credential: key.into(), worker }),
            (true, Some(_)) | (false, None) => None,
        }
    }

    /// What the headers show, or else the body.
    pub(super) fn of(
        headers: &'a HeaderMap,
        worker: Option<&'a str>,
        secret: Option<&'a str>,
    ) -> Result<Self, Problem> {
        // Nor does a credential in the body settle which of two was meant.
        if says_twice(headers) {
            return Err(Problem::unauthorized());
        }
        let mut shown = match (Self::in_headers(headers), secret) {
            (Some(_), Some(_)) => {
                let detail = "the headers show a credential already; send one of the two";
                return Err(Problem::invalid("secret", detail));
            }
            (Some(shown), None) => shown,
            (None, Some(secret)) => Self { credential: secret.into(), worker: None },
            (None, None) => return Err(Problem::unauthorized()),
        };
        match (&shown.worker, worker) {
            (Some(in_headers), Some(in_body)) if in_headers != in_body => {
                return Err(Problem::invalid("worker", "the headers name another worker"));
            }
            (None, Some(in_body)) => shown.worker = Some(in_body.into()),
            (Some(_) | None, _) => {}
        }
        Ok(shown)
    }

    pub(super) fn presented(&self) -> Presented<'_> {
        Presented { credential: &self.credential, worker: self.worker.as_deref() }
    }
}

/// Whether a header that says who asks stands there more than once.
fn says_twice(headers: &HeaderMap) -> bool {
    [header::AUTHORIZATION, KEY_HEADER, WORKER_HEADER].iter().any(|name| is_repeated(headers, name))
}

/// RFC 7617, with both parts form-encoded as RFC 6749 asks for (section 2.3.1). Ids and secrets of workers hold nothing
/// that decoding would change, so a client that does not encode them is understood too.
fn basic(headers: &HeaderMap) -> Option<Shown<'static>> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    let (worker, credential) = (form_decoded(user)?, form_decoded(password)?);
    Some(Shown { credential: credential.into(), worker: (!worker.is_empty()).then(|| worker.into()) })
}

fn form_decoded(text: &str) -> Option<String> {
    if text.contains(['&', '=']) {
        return None;
    }
    Some(form_urlencoded::parse(text.as_bytes()).next().map(|(decoded, _)| decoded.into_owned()).unwrap_or_default())
}

// === whose it is ===

/// Whoever shows the credential.
pub(super) fn anyone(app: &App, meta: &Meta, shown: &Shown<'_>) -> Result<AnyCaller, Problem> {
    let snapshot = app.node().current()?;
    let accepted = app
        .check(&snapshot, shown.presented(), mint::now(), meta.source)
        .map_err(|denied| app.attempts().refuse(&Attempt::denied(meta, &denied)))?;
    match accepted.bearer {
        Bearer::Worker { worker, token } => {
            let caller = WorkerCaller::new(worker, accepted.key, meta.clone());
            Ok(AnyCaller::Worker(WorkerCaller { token, expires_at: accepted.expires_at, ..caller }))
        }
        Bearer::Operator(operator) => {
            // Basic names the operator: a name that is not the key's is a mix-up that must not pass.
            if shown.worker.as_deref().is_some_and(|named| named != operator.id.to_string()) {
                let attempt = Attempt::of_key(meta, Denial::WorkerMismatch, accepted.key.id);
                return Err(app.attempts().refuse(&attempt));
            }
            let (operator, role) = (operator.id, operator.role);
            Ok(AnyCaller::Operator(OperatorCaller { operator, role, key: accepted.key.id, meta: meta.clone() }))
        }
    }
}

/// The worker that shows a credential of its own.
pub(super) fn worker(app: &App, meta: &Meta, shown: &Shown<'_>) -> Result<WorkerCaller, Problem> {
    match anyone(app, meta, shown)? {
        AnyCaller::Worker(caller) => Ok(caller),
        AnyCaller::Operator(operator) => {
            Err(app.attempts().refuse(&Attempt::of_key(meta, Denial::WrongKind, operator.key)))
        }
    }
}

/// The same for the repeat of a rotation, where the key may have ended by that very rotation: without an overlap its
/// worker could else never ask again for the answer that it lost (H13). Only an answer that was given before can come of
/// it, since every new command of such a key is refused when it is decided.
pub(super) fn worker_asking_again(app: &App, meta: &Meta, shown: &Shown<'_>) -> Result<WorkerCaller, Problem> {
    {
        let snapshot = app.node().current()?;
        let now = mint::now();
        // Not through `App::check`: whoever has lost an answer asks with a key that is over, and trips nothing.
        let verdict = validate::check(&snapshot, app.node().keys(), shown.presented(), now);
        if let Some((worker, key)) = verdict.err().and_then(|denied| rotated_away(&snapshot, &denied, now)) {
            app.used().refused(key.id, now, meta.source);
            return Ok(WorkerCaller::new(worker, key, meta.clone()));
        }
    }
    worker(app, meta, shown)
}

fn rotated_away<'s>(snapshot: &'s Snapshot, denied: &Denied<'s>, now: Timestamp) -> Option<(&'s Worker, &'s Key)> {
    let (Some(worker), Some(CredentialId::Key(key))) = (denied.worker, denied.credential) else { return None };
    let key = snapshot.roll.key(key)?;
    let superseded = denied.denial == Denial::KeyExpired && matches!(key.state, KeyState::Superseded { .. });
    // What the key was rotated into came of it, and a fence that refuses the one refuses the other: no such key is handed
    // out again as a good one.
    let good =
        || admit::admit_issued(&snapshot.roll, worker, key.issued).and_then(|()| admit::admit_worker(worker, now));
    (superseded && good().is_ok()).then_some((worker, key))
}

// === impl WorkerCaller ===

impl WorkerCaller {
    fn new(worker: &Worker, key: &Key, meta: Meta) -> Self {
        Self { worker: worker.id.clone(), key: key.id, kind: key.kind, token: None, expires_at: key.ends_at(), meta }
    }

    /// As the log will name this caller.
    pub(super) fn author(&self) -> Author {
        Author {
            actor: Actor::Worker(self.worker.clone()),
            credential: Some(self.credential()),
            source: self.meta.source,
            request_id: Some(self.meta.request_id.clone()),
        }
    }

    pub(super) fn credential(&self) -> CredentialUsed {
        match &self.token {
            None => CredentialUsed::Key(self.key),
            Some(token) => CredentialUsed::Token {
                token: token.facts.token,
                session: token.facts.session,
                key: self.key,
                issued: token.facts.issued,
            },
        }
    }

    /// The public text of what was shown: the answer to a command is given again to the same credential only.
    pub(super) fn credential_text(&self) -> String {
        match &self.token {
            None => format!("key:{}", self.key),
            Some(token) => format!("token:{}", token.facts.token),
        }
    }

    /// What the caller is told of a command that failed. That its credential ended while the command waited is told like
    /// every other refusal of a credential, and counted.
    pub(super) fn problem(&self, app: &App, unanswered: Unanswered) -> Problem {
        match unanswered {
            Unanswered::Command(CommandError::Refused(refusal)) => self.refused(app, refusal),
            other => other.into(),
        }
    }

    pub(super) fn refused(&self, app: &App, refusal: Refusal) -> Problem {
        match refusal {
            Refusal::Denied(denial) if denial != Denial::Stale => self.denied(app, denial),
            other => other.into(),
        }
    }

    pub(super) fn denied(&self, app: &App, denial: Denial) -> Problem {
        self.trip(app);
        app.attempts().refuse(&Attempt::of_key(&self.meta, denial, self.key))
    }

    /// Notes a key that was over when its command was decided: who asks with one for what was never asked before is no worker
    /// that has lost an answer.
    fn trip(&self, app: &App) {
        let (snapshot, now) = (app.node().snapshot(), mint::now());
        let (roll, source) = (&snapshot.roll, self.meta.source);
        let shown = roll.key(self.key).filter(|_| self.token.is_none());
        let worker = roll.worker(self.worker.as_str());
        if let Some(trip) = shown.and_then(|key| validate::trip(roll, key, worker, now)) {
            app.trips().note(&trip, source, now);
        }
    }
}

impl OperatorCaller {
    /// As the log will name this caller.
    pub(super) fn author(&self) -> Author {
        Author {
            actor: Actor::Operator(self.operator),
            credential: Some(CredentialUsed::Key(self.key)),
            source: self.meta.source,
            request_id: Some(self.meta.request_id.clone()),
        }
    }
}

impl From<NotCurrent> for Problem {
    fn from(why: NotCurrent) -> Self {
        match why {
            NotCurrent::Stale => Problem::stale(),
            NotCurrent::Stopped(_) => Problem::stopped(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn found(pairs: &[(&'static str, &str)]) -> Option<(String, Option<String>)> {
        let headers = headers(pairs);
        Shown::in_headers(&headers).map(|shown| (shown.credential.into_owned(), shown.worker.map(Cow::into_owned)))
    }

    #[test]
    fn a_credential_is_read_from_each_place_and_from_one_only() {
        let of = |credential: &str, worker: Option<&str>| Some((credential.to_owned(), worker.map(str::to_owned)));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let table: [(&[(&'static str, &str)], _); 16] = [
            (&[], None),
            (&[("authorization", "Bearer k")], of("k", None)),
            (&[("authorization", "bearer k"), ("x-worker-id", "w")], of("k", Some("w"))),
            (&[("authorization", &basic("w:k"))], of("k", Some("w"))),
            (&[("authorization", &basic(":k"))], of("k", None)),
            (&[("authorization", &basic("w%2E1:k%2B+"))], of("k+ ", Some("w.1"))),
            (&[("authorization", &basic("w:k&a=b"))], None),
            (&[("authorization", "Basic !")], None),
            (&[("authorization", "Digest k")], None),
            (&[("x-api-key", "k")], of("k", None)),
            (&[("x-api-key", "k"), ("x-worker-id", "w")], of("k", Some("w"))),
            (&[("authorization", "Bearer k"), ("x-api-key", "k")], None),
            (&[("authorization", "Bearer k"), ("authorization", "Bearer k")], None),
            (&[("authorization", &basic("w:k")), ("authorization", "Bearer k")], None),
            (&[("x-api-key", "k"), ("x-api-key", "l")], None),
            (&[("x-api-key", "k"), ("x-worker-id", "v"), ("x-worker-id", "w")], None),
        ];
        for (pairs, expected) in table {
            assert_eq!(found(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_body_may_show_what_the_headers_do_not() {
        let bearer = headers(&[("authorization", "Bearer k"), ("x-worker-id", "w")]);
        let none = HeaderMap::new();
        let worker = |shown: Result<Shown<'_>, Problem>| shown.ok().and_then(|shown| shown.worker.map(Cow::into_owned));
        assert_eq!(worker(Shown::of(&none, Some("w"), Some("s"))).as_deref(), Some("w"));
        assert_eq!(worker(Shown::of(&bearer, Some("w"), None)).as_deref(), Some("w"));
        assert!(Shown::of(&bearer, Some("other"), None).is_err(), "two workers");
        assert!(Shown::of(&bearer, None, Some("s")).is_err(), "two credentials");
        let twice = headers(&[("authorization", "Bearer k"), ("authorization", "Bearer l")]);
        assert_eq!(Shown::of(&twice, None, Some("s")).err().map(|problem| problem.status().as_u16()), Some(401));
        assert_eq!(Shown::of(&none, Some("w"), None).err().map(|problem| problem.status().as_u16()), Some(401));
    }
}
