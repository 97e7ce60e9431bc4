//! What became of commands, so that the same command asked for again gets the first answer and is never appended twice.
//!
//! An outcome lies in the log behind a keyed mac, over all of its row. Nothing that a repeat is answered with, and no token
//! that is signed for it, comes of bytes that whoever can write to the database has put there (promise 8).

use std::collections::HashMap;

use tokio_postgres::Client;
use uuid::Uuid;

use super::{LogFault, Tampered};
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::CommandId;

const MAC_BYTES: usize = 32;

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

/// The outcomes of those of the commands that have one.
pub async fn find(client: &Client, commands: &[CommandId]) -> Result<HashMap<CommandId, KeptOutcome>, LogFault> {
    if commands.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = commands.iter().map(|command| Uuid::from_u128(command.0)).collect();
    let rows = client.query(include_str!("outcomes.sql"), &[&ids]).await?;
    let kept = rows.iter().map(|row| {
        let command = CommandId::from_uuid(row.get("command_id"));
        let kept = KeptOutcome {
            fingerprint: row.get("fingerprint"),
            position: row.get::<_, i64>("position").unsigned_abs(),
            protected: row.get("outcome"),
            sealed: row.get("sealed"),
        };
        (command, kept)
    });
    Ok(kept.collect())
}

/// Removes the sealed outcomes whose day is over.
pub async fn forget_sealed(client: &Client) -> Result<u64, LogFault> {
    Ok(client.execute(include_str!("forget_outcomes.sql"), &[]).await?)
}
