//! When each key was last used: noted in memory by whoever validates, kept in batches.
//!
//! It is no event, since a fleet's every request would be one, and so no part of what a rebuild makes the same. What was
//! noted since the last batch is lost with a node that is killed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::ProjectionError;
use super::value;
use crate::domain::ids::KeyId;
use crate::domain::time::Timestamp;
use crate::postgres::Database;

/// How often what was noted is written down.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Validations on as many cores as there are do not wait for each other.
const SHARDS: usize = 64;
/// Keys of one statement.
const CHUNK_KEYS: usize = 5_000;

/// The uses that were not written down yet.
pub struct KeysUsed {
    shards: [Mutex<HashMap<KeyId, Timestamp>>; SHARDS],
}

impl Default for KeysUsed {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl KeysUsed {
    /// The key was accepted. A few nanoseconds, and no I/O (H18).
    pub fn note(&self, key: KeyId, now: Timestamp) {
        // Ids are random in their low digits.
        let shard = usize::try_from(key.0 % SHARDS as u128).unwrap_or_default();
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let used = shard.entry(key).or_insert(now);
        *used = now.max(*used);
    }

    /// Writes down what was noted since the last time. What cannot be written is noted again.
    pub async fn flush(&self, database: &Database) -> Result<(), ProjectionError> {
        let mut noted: Vec<(KeyId, Timestamp)> = Vec::new();
        for shard in &self.shards {
            noted.extend(std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner)));
        }
        // In one order on every node, or two of them could wait for each other.
        noted.sort_unstable();
        for (number, chunk) in noted.chunks(CHUNK_KEYS).enumerate() {
            if let Err(error) = keep(database, chunk).await {
                noted[number * CHUNK_KEYS..].iter().for_each(|(key, used)| self.note(*key, *used));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Flushes now and then until `stopped` ends, and once more then.
    pub async fn run(&self, database: &Database, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let last = tokio::select! {
                () = tokio::time::sleep(INTERVAL) => false,
                () = &mut stopped => true,
            };
            if let Err(error) = self.flush(database).await {
                tracing::warn!(%error, "when keys were last used could not be written down");
            }
            if last {
                return;
            }
        }
    }
}

async fn keep(database: &Database, used: &[(KeyId, Timestamp)]) -> Result<(), ProjectionError> {
    let (keys, times): (Vec<String>, Vec<DateTime<Utc>>) =
        used.iter().map(|(key, at)| (key.to_string(), value::parameter(*at))).unzip();
    database.client().await?.execute(include_str!("used/keep.sql"), &[&keys, &times]).await?;
    Ok(())
}

/// When the key was last used, as far as it was written down.
pub async fn last(database: &Database, key: KeyId) -> Result<Option<Timestamp>, ProjectionError> {
    let row = database.client().await?.query_opt(include_str!("used/last.sql"), &[&key.to_string()]).await?;
    let at = row.map(|row| row.try_get::<_, DateTime<Utc>>(0)).transpose()?;
    Ok(at.map(|at| Timestamp(at.timestamp_micros())))
}

/// The same of many keys; of those that were used.
pub async fn last_of(database: &Database, keys: &[KeyId]) -> Result<HashMap<KeyId, Timestamp>, ProjectionError> {
    let ids: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let rows = database.client().await?.query(include_str!("used/last_of.sql"), &[&ids]).await?;
    let mut used = HashMap::with_capacity(rows.len());
    for row in rows {
        // What is no id was written by somebody else, and is no key's.
        if let Ok(key) = row.try_get::<_, &str>(0)?.parse() {
            used.insert(key, Timestamp(row.try_get::<_, DateTime<Utc>>(1)?.timestamp_micros()));
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_use_of_a_key_is_the_one_that_counts() {
        let used = KeysUsed::default();
        let (one, other) = (KeyId(7), KeyId(7 + SHARDS as u128));
        for (key, at) in [(one, 5), (other, 1), (one, 9), (one, 6)] {
            used.note(key, Timestamp(at));
        }
        let mut noted: Vec<_> = used.shards.iter().flat_map(|shard| shard.lock().unwrap().clone()).collect();
        noted.sort_unstable();
        assert_eq!(noted, [(one, Timestamp(9)), (other, Timestamp(1))]);
    }
}
