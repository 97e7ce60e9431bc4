//! What became of commands, so that the same command asked for again gets the first answer and is never appended twice.
//!
//! An outcome lies in the log behind a keyed mac, over all of its row. Nothing that a repeat is answered with, and no token
//! that is signed for it, comes of bytes that whoever can write to the database has put there (promise 8).

use std::collections::HashMap;

use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::append::signed;
use super::columns::named_column;
use super::{LogFault, Tampered};
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::CommandId;

const MAC_BYTES: usize = 32;

/// Among so many of the newest events those are looked for whose command has lost its outcome: in two partitions at most, for
/// each of them is looked into for every new command that can be repeated. Nobody repeats a command after a million others.
const SEARCHED_POSITIONS: u64 = 1 << 20;

/// What is found of a command that was asked for before.
pub enum Found {
    Kept(KeptOutcome),
    /// It was carried out, for the event at this position is its own; but its outcome is gone. To carry it out again would be
    /// to do twice what was asked for once.
    Lost {
        written_at: u64,
    },
    /// This column cannot be read.
    Damaged {
        column: &'static str,
    },
}

/// A command's outcome as it was kept.
pub struct KeptOutcome {
    pub fingerprint: Vec<u8>,
    /// The head's position when it was decided.
    pub position: u64,
    /// As [`protect`] made it; to be read through [`KeptOutcome::verified`] alone.
    pub protected: Vec<u8>,
    /// The secret part, for a day.
    pub sealed: Option<Vec<u8>>,
}

/// The outcome with its mac in front, as it is kept.
#[must_use]
pub fn protect(keys: &DerivedKeys, command: CommandId, fingerprint: &[u8], position: u64, outcome: &[u8]) -> Vec<u8> {
    let mac = keys.outcome_mac(command, fingerprint, position, outcome);
    [mac.as_bytes(), outcome].concat()
}

impl KeptOutcome {
    /// The outcome, if it is the one that was kept of this command.
    pub fn verified(&self, keys: &DerivedKeys, command: CommandId) -> Result<&[u8], Tampered> {
        let forged = Tampered::Outcome { command };
        let (mac, outcome) = self.protected.split_first_chunk::<MAC_BYTES>().ok_or_else(|| forged.clone())?;
        // Hashes of blake3 are compared in constant time.
        let genuine = keys.outcome_mac(command, &self.fingerprint, self.position, outcome) == *mac;
        if genuine { Ok(outcome) } else { Err(forged) }
    }
}

/// Prepares the statement of [`find`] on a connection.
pub async fn prepare(client: &Client) -> Result<Statement, tokio_postgres::Error> {
    client.prepare(include_str!("outcomes.sql")).await
}

/// What there is of those of the commands that were asked for before.
pub async fn find(
    client: &Client,
    statement: &Statement,
    commands: &[CommandId],
    next_position: u64,
) -> Result<HashMap<CommandId, Found>, LogFault> {
    if commands.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = commands.iter().map(|command| Uuid::from_u128(command.0)).collect();
    let since = signed(next_position.saturating_sub(SEARCHED_POSITIONS));
    let rows = client.query(statement, &[&ids, &since]).await?;
    let mut all = HashMap::new();
    for row in &rows {
        let found = Found::of(row).unwrap_or_else(|column| Some(Found::Damaged { column }));
        if let Some(found) = found {
            all.insert(CommandId::from_uuid(row.try_get("command_id")?), found);
        }
    }
    Ok(all)
}

impl Found {
    /// Whoever can change a table can change the types of its columns: where one cannot be read, its name is the error.
    fn of(row: &Row) -> Result<Option<Self>, &'static str> {
        if !named_column::<bool>(row, "is_kept")? {
            let written_at: Option<i64> = named_column(row, "written_at")?;
            return Ok(written_at.map(|position| Self::Lost { written_at: position.unsigned_abs() }));
        }
        Ok(Some(Self::Kept(KeptOutcome {
            fingerprint: named_column(row, "fingerprint")?,
            position: named_column::<i64>(row, "position")?.unsigned_abs(),
            protected: named_column(row, "outcome")?,
            sealed: named_column(row, "sealed")?,
        })))
    }
}

/// Removes the sealed outcomes whose day is over.
pub async fn forget_sealed(client: &Client) -> Result<u64, LogFault> {
    Ok(client.execute(include_str!("forget_outcomes.sql"), &[]).await?)
}
