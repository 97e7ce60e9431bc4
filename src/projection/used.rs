//! When each key was used and from where: noted in memory by whoever validates, kept in batches.
//!
//! It is no event, since a fleet's every request would be one, and so no part of what a rebuild makes the same. What was
//! not written down yet is lost with a node that is killed.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{self, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::ProjectionError;
use super::value;
use crate::domain::ids::KeyId;
use crate::domain::time::Timestamp;
use crate::node::background;
use crate::postgres::Database;

/// How often what was noted is written down.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Addresses that are remembered of one key, the newest. A worker has one, or a few where it moves; whoever shows a stolen
/// key from ever new ones fills no memory and no table.
pub const SOURCES_MAX: usize = 16;
/// Validations on as many cores as there are do not wait for each other.
const SHARDS: usize = 64;
/// Keys of one transaction.
const CHUNK_KEYS: usize = 5_000;
/// How often as long as a transaction took is rested after it, unless somebody wants to know: where each request shows another
/// key, to write down when they were used takes longer than to judge them, and would take the processors from that.
const REST: u32 = 3;

/// The uses that were not written down yet.
pub struct KeysUsed {
    shards: [sync::Mutex<HashMap<KeyId, Noted>>; SHARDS],
    /// Somebody wants to know now.
    wanted: Notify,
    /// Held while what was taken out is written down: whoever finds nothing here finds it in the table.
    writing: Mutex<()>,
}

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub first: Timestamp,
    pub last: Timestamp,
}

/// An address that a genuine credential came from, whether or not it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub address: IpAddr,
    pub seen: Span,
}

/// What was noted of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Noted {
    /// When it was accepted.
    used: Option<Span>,
    sources: Vec<Source>,
    forgotten: u64,
}

/// What is known of a key's use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Unknown for a key that was used before this was noted.
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// The newest first.
    pub sources: Vec<Source>,
    /// How often an address had to give way to a newer one.
    pub forgotten: u64,
}

// === impl KeysUsed ===

impl Default for KeysUsed {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| sync::Mutex::default()), wanted: Notify::new(), writing: Mutex::new(()) }
    }
}

impl KeysUsed {
    /// The key was accepted. A few nanoseconds, and no I/O (H18).
    pub fn accepted(&self, key: KeyId, now: Timestamp, source: Option<IpAddr>) {
        let seen = Span { first: now, last: now };
        self.with(key, |noted| noted.add(Some(seen), source.map(|address| Source { address, seen })));
    }

    /// The key was shown, is genuine, and was refused: from where is worth knowing.
    pub fn refused(&self, key: KeyId, now: Timestamp, source: Option<IpAddr>) {
        let Some(address) = source else { return };
        let seen = Span { first: now, last: now };
        self.with(key, |noted| noted.add(None, Some(Source { address, seen })));
    }

    fn with(&self, key: KeyId, note: impl FnOnce(&mut Noted)) {
        // Ids are random in their low digits.
        let shard = usize::try_from(key.0 % SHARDS as u128).unwrap_or_default();
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        note(shard.entry(key).or_default());
    }

    /// Has what was noted written down now, and not only when its time comes.
    pub fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// Writes down all that was noted until now. What cannot be written is noted again.
    pub async fn flush(&self, database: &Database) -> Result<(), ProjectionError> {
        // Somebody may be resting over it.
        self.hurry();
        self.write_down(database, false).await
    }

    async fn write_down(&self, database: &Database, mut rests: bool) -> Result<(), ProjectionError> {
        let _writing = self.writing.lock().await;
        let take = |shard: &sync::Mutex<HashMap<KeyId, Noted>>| {
            std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let taken: Vec<_> = self.shards.iter().map(take).collect();
        // A busy fleet's are hundreds of thousands, and this thread is for those who ask.
        let noted = background::aside(true, move || {
            let mut noted: Vec<(KeyId, Noted)> = taken.into_iter().flatten().collect();
            // In one order on every node, or two of them could wait for each other.
            noted.sort_unstable();
            noted
        });
        let mut rest = Unwritten { used: self, rest: &noted };
        while !rest.rest.is_empty() {
            let (chunk, after) = rest.rest.split_at(rest.rest.len().min(CHUNK_KEYS));
            let began = Instant::now();
            keep(database, chunk).await?;
            rest.rest = after;
            if rests && !after.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(began.elapsed() * REST) => {}
                    () = self.wanted.notified() => {
                        rests = false;
                        // What was noted since is wanted too.
                        self.wanted.notify_one();
                    }
                }
            }
        }
        Ok(())
    }

    /// Flushes now and then until `stopped` ends, and once more then.
    pub async fn run(&self, database: &Database, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let (last, rests) = tokio::select! {
                () = tokio::time::sleep(INTERVAL) => (false, true),
                () = self.wanted.notified() => (false, false),
                () = &mut stopped => (true, false),
            };
            if let Err(error) = self.write_down(database, rests).await {
                tracing::warn!(%error, "when keys were last used could not be written down");
            }
            if last {
                return;
            }
        }
    }
}

/// What was taken out and is not in the table yet. It is noted again, whether the database refuses it or whoever asked for it
/// has gone away.
struct Unwritten<'u> {
    used: &'u KeysUsed,
    rest: &'u [(KeyId, Noted)],
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        for (key, lost) in self.rest {
            self.used.with(*key, |noted| noted.add_all(lost));
        }
    }
}

// === impl Noted ===

impl Noted {
    fn add(&mut self, used: Option<Span>, source: Option<Source>) {
        self.used = match (self.used, used) {
            (Some(known), Some(new)) => Some(known.with(new)),
            (known, new) => known.or(new),
        };
        let Some(source) = source else { return };
        if let Some(known) = self.sources.iter_mut().find(|known| known.address == source.address) {
            known.seen = known.seen.with(source.seen);
            return;
        }
        if self.sources.len() < SOURCES_MAX {
            // Most keys come from one address, and a first push would make room for four.
            self.sources.reserve_exact(1);
            self.sources.push(source);
            return;
        }
        self.forgotten += 1;
        if let Some(oldest) = self.sources.iter_mut().min_by_key(|known| known.seen.last)
            && oldest.seen.last <= source.seen.last
        {
            *oldest = source;
        }
    }

    fn add_all(&mut self, earlier: &Noted) {
        self.forgotten += earlier.forgotten;
        self.add(earlier.used, None);
        for source in &earlier.sources {
            self.add(None, Some(*source));
        }
    }
}

impl Span {
    fn with(self, other: Span) -> Span {
        Span { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

// === in the database ===

async fn keep(database: &Database, noted: &[(KeyId, Noted)]) -> Result<(), ProjectionError> {
    let mut client = database.client().await?;
    let transaction = client.transaction().await?;
    let keys: Vec<String> = noted.iter().map(|(key, _)| key.to_string()).collect();
    let used = |time: fn(Span) -> Timestamp| -> Vec<Option<DateTime<Utc>>> {
        noted.iter().map(|(_, noted)| noted.used.map(|used| value::parameter(time(used)))).collect()
    };
    let (first, last) = (used(|used| used.first), used(|used| used.last));
    let forgotten: Vec<i64> = noted.iter().map(|(_, noted)| value::signed(noted.forgotten)).collect();
    transaction.execute(include_str!("used/keep.sql"), &[&keys, &first, &last, &forgotten]).await?;

    let sources = || noted.iter().flat_map(|(key, noted)| noted.sources.iter().map(move |source| (key, source)));
    let of: Vec<String> = sources().map(|(key, _)| key.to_string()).collect();
    if !of.is_empty() {
        let addresses: Vec<IpAddr> = sources().map(|(_, source)| source.address).collect();
        let first: Vec<_> = sources().map(|(_, source)| value::parameter(source.seen.first)).collect();
        let last: Vec<_> = sources().map(|(_, source)| value::parameter(source.seen.last)).collect();
        transaction.execute(include_str!("used/keep_sources.sql"), &[&of, &addresses, &first, &last]).await?;
        let limit = value::signed(SOURCES_MAX as u64);
        transaction.execute(include_str!("used/forget_sources.sql"), &[&keys, &limit]).await?;
    }
    Ok(transaction.commit().await?)
}

/// When the key was used and from where, as far as it was written down.
pub async fn of_key(database: &Database, key: KeyId) -> Result<Used, ProjectionError> {
    let client = database.client().await?;
    let id = key.to_string();
    let Some(row) = client.query_opt(include_str!("used/of_key.sql"), &[&id]).await? else {
        return Ok(Used::default());
    };
    let moment =
        |column| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<DateTime<Utc>>>(column)?.map(timestamp));
    let (first, last, forgotten) = (moment(0)?, moment(1)?, row.try_get::<_, i64>(2)?);
    let all = i64::MAX;
    let rows = client.query(include_str!("used/sources.sql"), &[&vec![id], &all]).await?;
    let sources = rows.iter().map(source).collect::<Result<_, _>>()?;
    Ok(Used { first, last, sources, forgotten: forgotten.unsigned_abs() })
}

/// From where these keys came, the newest first and so many at the most; each with its key.
pub async fn sources(
    database: &Database,
    keys: &[KeyId],
    limit: usize,
) -> Result<Vec<(String, Source)>, ProjectionError> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let limit = value::signed(limit as u64);
    let rows = database.client().await?.query(include_str!("used/sources.sql"), &[&keys, &limit]).await?;
    Ok(rows.iter().map(|row| Ok((row.try_get(0)?, source(row)?))).collect::<Result<_, tokio_postgres::Error>>()?)
}

/// The keys that were last shown from this address since `after`, the newest first and so many at the most.
pub async fn last_seen_from(
    database: &Database,
    address: IpAddr,
    after: Timestamp,
    limit: usize,
) -> Result<Vec<KeyId>, ProjectionError> {
    let (after, limit) = (value::parameter(after), value::signed(limit as u64));
    let question = include_str!("used/last_seen_from.sql");
    let rows = database.client().await?.query(question, &[&address, &after, &limit]).await?;
    let ids = rows.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<Vec<_>, _>>()?;
    // What is no id was written by somebody else, and is no key's.
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
}

/// The keys that were ever shown from these networks, as far as it was written down and is remembered.
pub async fn seen_within(database: &Database, networks: &[IpNet]) -> Result<BTreeSet<KeyId>, ProjectionError> {
    let first: Vec<IpAddr> = networks.iter().map(IpNet::network).collect();
    let last: Vec<IpAddr> = networks.iter().map(IpNet::broadcast).collect();
    let rows = database.client().await?.query(include_str!("used/seen_within.sql"), &[&first, &last]).await?;
    let ids = rows.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<Vec<_>, _>>()?;
    // What is no id is nobody's key.
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
}

/// Which other keys came from these addresses since then, and from which: of each address the newest, so many at the most.
pub async fn others(
    database: &Database,
    addresses: &[IpAddr],
    but: &[KeyId],
    since: Timestamp,
    limit: usize,
) -> Result<Vec<(KeyId, IpAddr)>, ProjectionError> {
    let but: Vec<String> = but.iter().map(ToString::to_string).collect();
    let (since, limit) = (value::parameter(since), value::signed(limit as u64));
    let client = database.client().await?;
    let rows = client.query(include_str!("used/others.sql"), &[&addresses, &but, &since, &limit]).await?;
    let mut others = Vec::with_capacity(rows.len());
    for row in rows {
        let (key, address): (String, IpAddr) = (row.try_get(0)?, row.try_get(1)?);
        // What is no id is nobody's key.
        others.extend(key.parse().ok().map(|key| (key, address)));
    }
    Ok(others)
}

fn source(row: &tokio_postgres::Row) -> Result<Source, tokio_postgres::Error> {
    let seen = Span { first: timestamp(row.try_get(2)?), last: timestamp(row.try_get(3)?) };
    Ok(Source { address: row.try_get(1)?, seen })
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp(at.timestamp_micros())
}

/// The same of many keys; of those that were used.
pub async fn spans_of(database: &Database, keys: &[KeyId]) -> Result<HashMap<KeyId, Span>, ProjectionError> {
    let ids: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let rows = database.client().await?.query(include_str!("used/spans_of.sql"), &[&ids]).await?;
    let mut used = HashMap::with_capacity(rows.len());
    for row in rows {
        // What is no id was written by somebody else, and is no key's.
        if let Ok(key) = row.try_get::<_, &str>(0)?.parse() {
            used.insert(key, Span { first: timestamp(row.try_get(1)?), last: timestamp(row.try_get(2)?) });
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(used: &KeysUsed, key: KeyId) -> Noted {
        let shard = usize::try_from(key.0 % SHARDS as u128).unwrap();
        used.shards[shard].lock().unwrap()[&key].clone()
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_first_and_the_latest_use_of_a_key_count_and_a_refusal_is_no_use() {
        let used = KeysUsed::default();
        let (one, other) = (KeyId(7), KeyId(7 + SHARDS as u128));
        for (key, at) in [(one, 5), (other, 1), (one, 9), (one, 6)] {
            used.accepted(key, Timestamp(at), None);
        }
        used.refused(one, Timestamp(11), Some(address(1)));
        assert_eq!(noted(&used, one).used, Some(Span { first: Timestamp(5), last: Timestamp(9) }));
        assert_eq!(noted(&used, other).used, Some(Span { first: Timestamp(1), last: Timestamp(1) }));
        let seen = Span { first: Timestamp(11), last: Timestamp(11) };
        assert_eq!(noted(&used, one).sources, [Source { address: address(1), seen }]);
    }

    #[test]
    fn a_key_from_ever_new_addresses_is_remembered_by_its_newest() {
        let used = KeysUsed::default();
        for at in 0..40 {
            used.accepted(KeyId(1), Timestamp(i64::from(at)), Some(address(at)));
        }
        // The one that comes again stays.
        used.accepted(KeyId(1), Timestamp(50), Some(address(24)));
        used.accepted(KeyId(1), Timestamp(51), Some(address(40)));
        let noted = noted(&used, KeyId(1));
        let mut kept: Vec<IpAddr> = noted.sources.iter().map(|source| source.address).collect();
        kept.sort_unstable();
        let expected: Vec<IpAddr> = [24].into_iter().chain(26..=40).map(address).collect();
        assert_eq!((kept, noted.forgotten), (expected, 25));
    }
}
