//! What became of commands, so that the same command asked for again gets the first answer and is never appended twice.

use std::collections::HashMap;

use tokio_postgres::Client;
use uuid::Uuid;

use super::LogFault;
use crate::domain::ids::CommandId;

/// A command's outcome as it was kept.
pub struct KeptOutcome {
    pub fingerprint: Vec<u8>,
    /// The head's position when it was decided.
    pub position: u64,
    pub outcome: Vec<u8>,
    /// The secret part, for a day.
    pub sealed: Option<Vec<u8>>,
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
            outcome: row.get("outcome"),
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
