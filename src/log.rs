//! The log: append-only, in one order, sealed so that the database cannot lie about it (design, section 5).
//!
//! [`entry`] is an event as bytes, [`schema`] every shape that events ever had, [`seal`] the keyed chain and the Merkle tree.
//! [`append`] adds a batch in one statement, [`read`] and [`search`] believe nothing that is not
//! sealed, [`raw`] is what is read and not yet believed. [`mirror`] is a copy of the entries outside of the database.

use crate::domain::ids::{CommandId, SigningKeyId};
use crate::log::entry::EntryError;

pub mod append;
mod canonical;
mod columns;
pub mod entry;
pub mod guard;
pub mod head;
pub mod mirror;
pub mod outcome;
pub mod raw;
pub mod read;
pub mod schema;
pub mod seal;
pub mod search;
pub mod seen;
mod text;
pub(crate) mod time;

/// The channel on which an append says that there is more to read, once a batch.
pub const CHANNEL: &str = "portcullis_log";

/// Why the log cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    #[error("the database failed: {0}")]
    Database(#[from] tokio_postgres::Error),
    #[error("the database stopped answering")]
    Silent,
    #[error(
        "this root key is not the one that the log was begun with; nothing was changed. \
         Give the right one: `--root-key-file`, or `root.key` in the data directory"
    )]
    WrongRootKey,
    #[error("the row that says where the log ends is damaged: {0}")]
    Head(&'static str),
    #[error("the log was tampered with: {0}")]
    Tampered(#[from] Tampered),
    #[error(
        "the log is not kept append-only: {what}. A service does not start on such a log; find out who has changed that, and \
         have a superuser say `{remedy}`"
    )]
    Unguarded { what: String, remedy: String },
    #[error("the event at position {position} cannot be read: {cause}")]
    Unreadable { position: u64, cause: EntryError },
    #[error("signing key `{key}` cannot be used: {why}")]
    SigningKey { key: SigningKeyId, why: &'static str },
    #[error("the event cannot be written: {0}")]
    Unwritable(#[from] EntryError),
}

/// What someone without the root key has done to the log, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Tampered {
    #[error("the event at position {position} was changed, moved, or not written by a node (its mac is wrong)")]
    Mac { position: u64 },
    #[error("the leaf hash of the event at position {position} is wrong")]
    LeafHash { position: u64 },
    #[error("the event at position {position} is missing")]
    Missing { position: u64 },
    #[error(
        "an event stands at position {position}, past the end of the log, and no node has put it there; it was never part of \
         the log: keep a copy of the row, and have a superuser remove it"
    )]
    PastEnd { position: u64 },
    #[error("the event at position {position} says that it stands at {says}")]
    Position { position: u64, says: u64 },
    #[error("the column `{column}` beside the event at position {position} is not what its entry says")]
    Column { position: u64, column: &'static str },
    #[error(
        "the column `{column}` of the log is of another type than it was made with: nothing is read, from position {position} on"
    )]
    ColumnType { position: u64, column: &'static str },
    #[error("the event at position {position} is not later than the one before it")]
    Time { position: u64 },
    #[error("the head, at position {position}, was not written by a node (its seals are wrong)")]
    HeadSeals { position: u64 },
    #[error("the outcome that is kept of command {} was not written by a node (its mac is wrong)", uuid::Uuid::from_u128(.command.0))]
    Outcome { command: CommandId },
    #[error("the column `{column}` of the outcome that is kept of command {} cannot be read", uuid::Uuid::from_u128(.command.0))]
    OutcomeColumn { command: CommandId, column: &'static str },
    #[error("the log ends at position {found}, and this node has seen {known}: an older database was put in its place")]
    WentBack { known: u64, found: u64 },
    #[error("the log up to position {position} is not the one that this node has seen: another was put in its place")]
    OtherHistory { position: u64 },
}
