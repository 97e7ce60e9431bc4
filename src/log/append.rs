//! Adding a batch to the log: one statement, that does all of it or nothing.

use chrono::{DateTime, Utc};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::entry;
use super::head::Head;
use super::seal::Sealed;
use super::time::date_time;
use super::{LogFault, Tampered};
use crate::credential::root_key::DerivedKeys;
use crate::domain::event::Recorded;
use crate::domain::ids::CommandId;
use crate::domain::time::Timestamp;

/// What one append adds: events, the outcomes of their commands, and the head that it leaves.
pub struct Batch {
    expected_version: i64,
    head: Head,
    events: Vec<SealedEvent>,
    outcomes: Vec<CommandOutcome>,
    secrets: Vec<SealedOutcome>,
}

struct SealedEvent {
    entry: Vec<u8>,
    mac: [u8; 32],
    leaf_hash: [u8; 32],
    /// What is copied out of the entry for search.
    position: i64,
    recorded_at: DateTime<Utc>,
    kind: &'static str,
    schema: i32,
    subject_kind: &'static str,
    subject_id: String,
    pool: Option<String>,
    actor: String,
    incident: Option<String>,
    command: Uuid,
}

/// What became of a command, kept so that a repeat gets the first answer.
pub struct CommandOutcome {
    pub command: CommandId,
    /// Digest of the request's content; empty where nobody can repeat it.
    pub fingerprint: Vec<u8>,
    /// The head's position when it was decided.
    pub position: u64,
    /// As [`super::outcome::protect`] made it.
    pub protected: Vec<u8>,
}

/// The secret part of an outcome, under a key that only the caller can derive.
pub struct SealedOutcome {
    pub command: CommandId,
    pub sealed: Vec<u8>,
    pub expires_at: Timestamp,
}

/// How an append ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    Done,
    /// Another node has moved the head. Nothing was written.
    HeadMoved,
}

/// Why an append failed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Postgres said no, so nothing was written.
    #[error("the log did not take the batch: {0}")]
    Refused(#[source] tokio_postgres::Error),
    /// Nothing was written for want of a partition.
    #[error("no partition of the log covers the batch")]
    NoPartition,
    /// A command of the batch has an outcome already. Nothing was written.
    #[error("a command of the batch was appended before")]
    Repeated,
    /// An event stands already where the batch belongs, though the head has not moved past it. Nothing was written.
    #[error("an event stands where the batch belongs, and no node has put it there")]
    PositionTaken,
    /// The connection died, or the answer did not come in time: it may be in the log, or not, or still get there.
    #[error("whether the batch is in the log is unknown: {0}")]
    Unknown(String),
}

impl Batch {
    /// An empty batch to follow `head`.
    pub fn after(head: &Head) -> Self {
        let mut next = head.clone();
        next.version += 1;
        Self {
            expected_version: head.version,
            head: next,
            events: Vec::new(),
            outcomes: Vec::new(),
            secrets: Vec::new(),
        }
    }

    /// The head that the batch leaves.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// An empty batch that follows this one, to be [joined](Batch::join) to it or dropped.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { head: self.head.clone(), ..Self::after(&self.head) }
    }

    /// Adds what a fork has gathered.
    pub fn join(&mut self, fork: Self) {
        self.head = fork.head;
        self.events.extend(fork.events);
        self.outcomes.extend(fork.outcomes);
        self.secrets.extend(fork.secrets);
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.outcomes.is_empty()
    }

    pub fn event_count(&self) -> usize {
        self.events.len()
    }

    /// The entries, in order: for whoever keeps a copy of them.
    pub fn into_entries(self) -> Vec<Vec<u8>> {
        self.events.into_iter().map(|event| event.entry).collect()
    }

    /// Seals the event and adds it, and answers how many bytes its entry has. Its position must be the next one.
    pub fn push(&mut self, recorded: &Recorded, keys: &DerivedKeys) -> Result<usize, LogFault> {
        debug_assert_eq!(recorded.position, self.head.next_position);
        debug_assert!(recorded.recorded_at > self.head.recorded_at);
        let entry = entry::encode(recorded)?;
        let bytes = entry.len();
        self.seal(entry, recorded, keys);
        Ok(bytes)
    }

    fn seal(&mut self, entry: Vec<u8>, recorded: &Recorded, keys: &DerivedKeys) {
        let Sealed { mac, leaf_hash } = self.head.seals.advance(keys.log_chain(), &entry);
        let columns = entry::columns(recorded);
        self.head.next_position += 1;
        self.head.recorded_at = recorded.recorded_at;
        self.events.push(SealedEvent {
            entry,
            mac,
            leaf_hash,
            position: signed(columns.position),
            recorded_at: date_time(columns.recorded_at),
            kind: columns.kind,
            schema: i32::try_from(columns.schema).expect("schemas are few"),
            subject_kind: columns.subject_kind,
            subject_id: columns.subject_id,
            pool: columns.pool.map(ToString::to_string),
            actor: columns.actor,
            incident: columns.incident.map(str::to_owned),
            command: columns.command_id,
        });
    }

    /// Adds an entry that was in the log before, just as it was. It must say that it stands where the batch goes on.
    pub fn push_again(&mut self, entry: Vec<u8>, keys: &DerivedKeys) -> Result<Recorded, LogFault> {
        let position = self.head.next_position;
        let recorded = entry::decode(&entry).map_err(|cause| LogFault::Unreadable { position, cause })?;
        if recorded.position != position {
            return Err(Tampered::Position { position, says: recorded.position }.into());
        }
        self.seal(entry, &recorded, keys);
        Ok(recorded)
    }

    pub fn push_outcome(&mut self, outcome: CommandOutcome, secret: Option<SealedOutcome>) {
        self.outcomes.push(outcome);
        self.secrets.extend(secret);
    }

    /// Sends it.
    pub async fn append(&self, client: &Client, statement: &Statement) -> Result<Appended, AppendError> {
        fn column<'a, E, T>(rows: &'a [E], get: impl Fn(&'a E) -> T) -> Vec<T> {
            rows.iter().map(get).collect()
        }
        let (events, outcomes, secrets) = (&self.events, &self.outcomes, &self.secrets);
        let root = self.head.seals.frontier.root();
        let rows = client
            .query(
                statement,
                &[
                    &self.expected_version,
                    &signed(self.head.next_position),
                    &&self.head.seals.mac[..],
                    &&root[..],
                    &self.head.seals.frontier.to_bytes(),
                    &date_time(self.head.recorded_at),
                    &column(events, |event| event.position),
                    &column(events, |event| event.entry.as_slice()),
                    &column(events, |event| &event.mac[..]),
                    &column(events, |event| &event.leaf_hash[..]),
                    &column(events, |event| event.recorded_at),
                    &column(events, |event| event.kind),
                    &column(events, |event| event.schema),
                    &column(events, |event| event.subject_kind),
                    &column(events, |event| event.subject_id.as_str()),
                    &column(events, |event| event.pool.as_deref()),
                    &column(events, |event| event.actor.as_str()),
                    &column(events, |event| event.incident.as_deref()),
                    &column(events, |event| event.command),
                    &column(outcomes, |outcome| Uuid::from_u128(outcome.command.0)),
                    &column(outcomes, |outcome| outcome.fingerprint.as_slice()),
                    &column(outcomes, |outcome| signed(outcome.position)),
                    &column(outcomes, |outcome| outcome.protected.as_slice()),
                    &column(secrets, |secret| Uuid::from_u128(secret.command.0)),
                    &column(secrets, |secret| secret.sealed.as_slice()),
                    &column(secrets, |secret| date_time(secret.expires_at)),
                ],
            )
            .await
            .map_err(classify)?;
        Ok(if rows.is_empty() { Appended::HeadMoved } else { Appended::Done })
    }
}

/// Prepares the statement of [`Batch::append`] on a connection.
pub async fn prepare(client: &Client) -> Result<Statement, tokio_postgres::Error> {
    client.prepare(include_str!("append.sql")).await
}

/// Makes the partitions that positions up to `through` need. They are made ahead: an append finds its own.
pub async fn make_partitions(client: &Client, through: u64) -> Result<(), LogFault> {
    client.execute(include_str!("make_partitions.sql"), &[&signed(through)]).await?;
    Ok(())
}

/// Positions come from a `bigint`, and go back into one.
pub(super) fn signed(position: u64) -> i64 {
    i64::try_from(position).expect("a log holds fewer than 2^63 events")
}

fn classify(error: tokio_postgres::Error) -> AppendError {
    let Some(database) = error.as_db_error() else {
        return AppendError::Unknown(error.to_string());
    };
    let code = database.code();
    // Class 57: the server is going down or was told to end this session. It may have committed before it said so.
    if code.code().starts_with("57") || code.code().starts_with("08") {
        return AppendError::Unknown(database.message().to_owned());
    }
    if *code == SqlState::UNIQUE_VIOLATION && database.constraint() == Some("command_pkey") {
        return AppendError::Repeated;
    }
    // Whoever moves the head from the expected version is alone at these positions. Each partition has a key of its own.
    if *code == SqlState::UNIQUE_VIOLATION && database.table().is_some_and(|table| table.starts_with("event")) {
        return AppendError::PositionTaken;
    }
    if *code == SqlState::CHECK_VIOLATION && database.constraint().is_none() && database.table() == Some("event") {
        return AppendError::NoPartition;
    }
    AppendError::Refused(error)
}
