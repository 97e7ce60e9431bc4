//! The entry: one event as the bytes that the log keeps, seals and never writes again.
//!
//! It is RFC 8785 canonical JSON. Every entry has one spelling, and [`decode`] refuses all others: what it reads,
//! [`encode`] would write to the byte. So whoever holds an event can check its seals, and nobody can hide a second
//! meaning in a field that our reader skips and another's does not.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::canonical::{self, Raw, ReadError};
use super::schema;
use super::text::{Text, optional, read_count, written_count};
use crate::domain::actor::{Actor, Author, CredentialUsed};
use crate::domain::event::{Event, Recorded};
use crate::domain::fence::FenceScope;
use crate::domain::ids::{IncidentId, PoolId};
use crate::domain::time::Timestamp;
use crate::domain::tripwire::TripwireEvent;

pub use super::text::NUMBER_MAX;

/// C2SP tlog-tiles writes the length of an entry with two bytes. Events are small; what would be longer is refused.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// Why an event cannot be written, or an entry not be read.
///
/// It names fields, never their values: an entry that is damaged may hold anything, and errors end up in logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("an event of kind {kind} would take more than {ENTRY_BYTES_MAX} bytes")]
    TooLarge { kind: &'static str },
    #[error("`{field}` is out of the range that an entry can hold")]
    Unwritable { field: &'static str },
    #[error("no reader for events of kind {kind}, schema {schema}: a newer release may have written them")]
    Unknown { kind: String, schema: u32 },
    #[error("the entry is malformed: {field}")]
    Malformed { field: &'static str },
    #[error("the entry is not the canonical JSON (RFC 8785) of what it says")]
    NotCanonical,
}

/// What is copied out of an entry for search. The log's table keeps these beside it, and verification compares them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns<'a> {
    pub position: u64,
    pub recorded_at: Timestamp,
    pub kind: &'static str,
    /// The newest schema of the kind: the one that the event is written in.
    pub schema: u32,
    pub subject_kind: &'static str,
    pub subject_id: String,
    pub pool: Option<&'a PoolId>,
    /// `operator:<id>`, `worker:<id>`, `enrollee:<id of the secret>` or `system`.
    pub actor: String,
    pub incident: Option<&'a str>,
    pub command_id: Uuid,
}

/// Everything around the data. Fields stand in the order of their names: serde writes them so, and RFC 8785 wants it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a, Data> {
    #[serde(borrow)]
    actor: ActorText<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<u64>,
    #[serde(borrow)]
    command_id: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    credential: Option<CredentialText<'a>>,
    data: Data,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    incident: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    occurred_at: Text<'a>,
    position: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    recorded_at: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    request_id: Option<Text<'a>>,
    schema: u32,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    source: Option<Text<'a>>,
    #[serde(borrow)]
    subject: SubjectText<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActorText<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Text<'a>,
}

/// One struct for all kinds of credential: serde would copy a tagged enum into a tree first, once for every entry.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialText<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    session: Option<Text<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectText<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) kind: Text<'a>,
}

/// Writes an event as its entry, always in the newest schema of its kind.
pub fn encode(recorded: &Recorded) -> Result<Vec<u8>, EntryError> {
    let (kind, schema) = schema::kind(&recorded.event);
    let data = schema::write(&recorded.event)?;
    let subject = recorded.event.subject();
    let envelope = Envelope {
        actor: ActorText::new(&recorded.author.actor),
        cause: recorded.cause.map(|cause| written_count(cause, "cause")).transpose()?,
        command_id: Text::of(&recorded.command),
        credential: recorded.author.credential.map(CredentialText::new).transpose()?,
        data,
        incident: recorded.incident.as_ref().map(|incident| Text::borrowed(incident.as_str())),
        kind: Text::borrowed(kind),
        occurred_at: Text::time(recorded.occurred_at, "occurred_at")?,
        position: written_count(recorded.position, "position")?,
        reason: recorded.reason.as_deref().map(Text::borrowed),
        recorded_at: Text::time(recorded.recorded_at, "recorded_at")?,
        request_id: recorded.author.request_id.as_deref().map(Text::borrowed),
        schema,
        source: recorded.author.source.as_ref().map(Text::of),
        subject: SubjectText { id: Text::borrowed(&subject.id), kind: Text::borrowed(subject.kind) },
    };
    let entry = serde_json::to_vec(&envelope).map_err(|_| EntryError::Unwritable { field: "entry" })?;
    if entry.len() > ENTRY_BYTES_MAX { Err(EntryError::TooLarge { kind }) } else { Ok(entry) }
}

/// Reads an entry. Unknown kinds, schemas and fields are errors, and so is any spelling but the canonical one.
pub fn decode(entry: &[u8]) -> Result<Recorded, EntryError> {
    let malformed = |field| EntryError::Malformed { field };
    if entry.len() > ENTRY_BYTES_MAX {
        return Err(malformed("longer than an entry can be"));
    }
    let text = str::from_utf8(entry).map_err(|_| malformed("not UTF-8"))?;
    let envelope: Envelope<'_, Raw<'_>> = canonical::read(text).map_err(|error| error.of("not an entry's fields"))?;
    Ok(Recorded {
        position: read_count(envelope.position, "position")?,
        recorded_at: envelope.recorded_at.parse_time("recorded_at")?,
        occurred_at: envelope.occurred_at.parse_time("occurred_at")?,
        author: Author {
            actor: envelope.actor.read()?,
            credential: envelope.credential.as_ref().map(CredentialText::read).transpose()?,
            source: optional(envelope.source.as_ref(), |source| source.parse_address("source"))?,
            request_id: envelope.request_id.as_ref().map(Text::to_shared),
        },
        command: envelope.command_id.parse("command_id")?,
        cause: envelope.cause.map(|cause| read_count(cause, "cause")).transpose()?,
        incident: optional(envelope.incident.as_ref(), |incident| incident.parse("incident"))?,
        reason: envelope.reason.as_ref().map(Text::to_shared),
        event: schema::read(envelope.kind.as_str(), envelope.schema, &envelope.subject, envelope.data)?,
    })
}

/// The columns that stand beside the entry of `recorded`.
pub fn columns(recorded: &Recorded) -> Columns<'_> {
    let (kind, schema) = schema::kind(&recorded.event);
    let subject = recorded.event.subject();
    let actor = match &recorded.author.actor {
        Actor::Operator(id) => format!("operator:{id}"),
        Actor::Worker(id) => format!("worker:{id}"),
        Actor::Enrollee(id) => format!("enrollee:{id}"),
        Actor::System => "system".to_owned(),
    };
    Columns {
        position: recorded.position,
        recorded_at: recorded.recorded_at,
        kind,
        schema,
        subject_kind: subject.kind,
        subject_id: subject.id,
        pool: pool(&recorded.event),
        actor,
        incident: recorded.incident.as_ref().map(IncidentId::as_str),
        command_id: Uuid::from_u128(recorded.command.0),
    }
}

/// The pool that an event names itself. Where it names none, finding it would take the state of that moment.
pub(super) fn pool(event: &Event) -> Option<&PoolId> {
    match event {
        Event::PoolCreated { pool, .. }
        | Event::PoolUpdated { pool, .. }
        | Event::PoolRemoved { pool }
        | Event::EnrollmentSecretCreated { pool, .. }
        | Event::FenceRaised { scope: FenceScope::Pool(pool), .. } => Some(pool),
        Event::WorkerCreated(created) => Some(&created.pool),
        Event::Tripwire(TripwireEvent::HoneyKeyCreated { pool, .. }) => Some(pool),
        Event::Tripwire(TripwireEvent::Tripped(tripped)) => tripped.pool.as_ref(),
        Event::Tripwire(TripwireEvent::RuleSet { pool, .. }) => pool.as_ref(),
        Event::WorkerUpdated { .. }
        | Event::WorkerApproved { .. }
        | Event::WorkerRejected { .. }
        | Event::WorkerIsolated { .. }
        | Event::WorkerReleased { .. }
        | Event::WorkerRemoved { .. }
        | Event::KeyCreated(_)
        | Event::KeyShared { .. }
        | Event::KeyRotated { .. }
        | Event::KeyRevoked { .. }
        | Event::KeysRevoked { .. }
        | Event::EnrollmentSecretRotated { .. }
        | Event::EnrollmentSecretDisabled { .. }
        | Event::TokenIssued(_)
        | Event::TokensIssued { .. }
        | Event::TokenRevoked { .. }
        | Event::SigningKeysInstalled { .. }
        | Event::SigningKeysRotated { .. }
        | Event::OperatorCreated { .. }
        | Event::OperatorUpdated { .. }
        | Event::OperatorRemoved { .. }
        | Event::FenceRaised { .. }
        | Event::TlsCertificateServed(_)
        | Event::BarrierPassed { .. }
        | Event::LogRestored(_)
        | Event::PlanMade(_)
        | Event::PlanApplied { .. }
        | Event::PlanProgressed { .. }
        | Event::Netguard(_)
        | Event::PlanApproved { .. }
        | Event::PlanPolicySet(_)
        | Event::KeyRotationDue { .. }
        | Event::Readmission { .. }
        | Event::IncidentOpened(_)
        | Event::IncidentUpdated { .. }
        | Event::IncidentNoted { .. }
        | Event::IncidentReviewed { .. }
        | Event::IncidentStepDone { .. }
        | Event::IncidentStepWaived { .. }
        | Event::IncidentStepReopened { .. }
        | Event::IncidentClosed { .. }
        | Event::Tripwire(TripwireEvent::HoneyKeyRemoved { .. })
        | Event::Webhook(_)
        | Event::AuthFailuresObserved { .. } => None,
    }
}

impl ReadError {
    pub(super) fn of(self, field: &'static str) -> EntryError {
        match self {
            ReadError::NotCanonical => EntryError::NotCanonical,
            ReadError::Shape => EntryError::Malformed { field },
        }
    }
}

impl ActorText<'_> {
    fn new(actor: &Actor) -> Self {
        let (kind, id) = match actor {
            Actor::Operator(id) => ("operator", Some(Text::of(id))),
            Actor::Worker(id) => ("worker", Some(Text::of(id))),
            Actor::Enrollee(id) => ("enrollee", Some(Text::of(id))),
            Actor::System => ("system", None),
        };
        Self { id, kind: Text::borrowed(kind) }
    }

    fn read(&self) -> Result<Actor, EntryError> {
        match (self.kind.as_str(), &self.id) {
            ("operator", Some(id)) => id.parse("actor").map(Actor::Operator),
            ("worker", Some(id)) => id.parse("actor").map(Actor::Worker),
            ("enrollee", Some(id)) => id.parse("actor").map(Actor::Enrollee),
            ("system", None) => Ok(Actor::System),
            _ => Err(EntryError::Malformed { field: "actor" }),
        }
    }
}

impl CredentialText<'_> {
    fn new(credential: CredentialUsed) -> Result<Self, EntryError> {
        let plain = |kind, id| Self { id, issued: None, key: None, kind: Text::borrowed(kind), session: None };
        Ok(match credential {
            CredentialUsed::Key(key) => plain("key", Text::of(&key)),
            CredentialUsed::EnrollmentSecret(secret) => plain("enrollment_secret", Text::of(&secret)),
            CredentialUsed::Token { token, session, key, issued } => Self {
                issued: Some(written_count(issued, "credential.issued")?),
                key: Some(Text::of(&key)),
                session: Some(Text::of(&session)),
                ..plain("token", Text::of(&token))
            },
        })
    }

    fn read(&self) -> Result<CredentialUsed, EntryError> {
        let field = "credential";
        match (self.kind.as_str(), self.issued, &self.key, &self.session) {
            ("key", None, None, None) => self.id.parse(field).map(CredentialUsed::Key),
            ("enrollment_secret", None, None, None) => self.id.parse(field).map(CredentialUsed::EnrollmentSecret),
            ("token", Some(issued), Some(key), Some(session)) => Ok(CredentialUsed::Token {
                token: self.id.parse(field)?,
                session: session.parse(field)?,
                key: key.parse(field)?,
                issued: read_count(issued, field)?,
            }),
            _ => Err(EntryError::Malformed { field }),
        }
    }
}

#[cfg(test)]
mod tests;
