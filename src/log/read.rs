//! Reading the log in order, and believing none of it before its seals are checked.

use std::pin::pin;
use std::time::Duration;

use futures_util::{FutureExt as _, TryStreamExt as _};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::append::signed;
use super::columns::{Copied, column};
use super::entry;
use super::head::Head;
use super::seal::{Sealed, Seals, next_mac};
use super::seen::Seen;
use super::{LogFault, Tampered};
use crate::credential::root_key::DerivedKeys;
use crate::domain::event::Recorded;

/// How long the database may take to begin: a server that was frozen in the middle of a question never answers it.
const BEGIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long the database may take for the next row.
const ROW_PATIENCE: Duration = Duration::from_secs(30);

/// So many events are read with the head, and folded where they are read: they take less than a millisecond.
const NEAR_EVENTS: u64 = 128;

/// Entries of so many bytes are lists of hundreds of ids.
const LONG_BYTES: usize = 8_192;

/// An event as it lies there, not yet believed. Its bytes stay in the buffer that they were received in: to copy them out
/// would be three allocations for each event of a log that may hold millions.
pub struct RawEvent(Row);

impl RawEvent {
    fn position(&self) -> Result<i64, &'static str> {
        column(&self.0, 0, "position")
    }

    fn entry(&self) -> Result<&[u8], &'static str> {
        column(&self.0, 1, "entry")
    }

    /// Whether to check it takes as long as many others: a list, mostly. What cannot be read is said where it is checked.
    pub fn is_long(&self) -> bool {
        self.entry().is_ok_and(|entry| entry.len() >= LONG_BYTES)
    }

    fn mac(&self) -> Result<&[u8], &'static str> {
        column(&self.0, 2, "mac")
    }

    fn leaf_hash(&self) -> Result<&[u8], &'static str> {
        column(&self.0, 3, "leaf_hash")
    }

    fn copied(&self) -> Result<Copied<'_>, &'static str> {
        Copied::of(&self.0, 4)
    }
}

/// How much is handed on at a time: so many events, or fewer once their entries have so many bytes.
#[derive(Clone, Copy, Debug)]
pub struct ChunkMax {
    pub events: usize,
    pub bytes: usize,
}

impl ChunkMax {
    /// All of a page, whatever stands in it.
    pub fn events(events: u64) -> Self {
        Self { events: usize::try_from(events).unwrap_or(usize::MAX), bytes: usize::MAX }
    }
}

/// Streams the events from `from` up to, and without, `to`, handing them on in chunks.
///
/// `hand_on` answers whether to go on.
pub async fn stream<F, Fut>(
    client: &Client,
    from: u64,
    to: u64,
    chunk: ChunkMax,
    mut hand_on: F,
) -> Result<(), LogFault>
where
    F: FnMut(Vec<RawEvent>) -> Fut,
    Fut: Future<Output = bool>,
{
    let asked = Box::pin(client.query_raw(include_str!("read.sql"), [signed(from), signed(to)]));
    let rows = tokio::time::timeout(BEGIN_PATIENCE, asked).await.map_err(|_| LogFault::Silent)??;
    let mut rows = pin!(rows);
    let (mut pending, mut bytes) = (Vec::with_capacity(chunk.events), 0);
    loop {
        // Most are there already, and need no timer.
        let next = match rows.try_next().now_or_never() {
            Some(next) => next?,
            // A link that was cut silently would be waited for for ever.
            None => tokio::time::timeout(ROW_PATIENCE, rows.try_next()).await.map_err(|_| LogFault::Silent)??,
        };
        let Some(row) = next else { break };
        let event = RawEvent(row);
        // What cannot be read is said where it is checked.
        bytes += event.entry().map_or(0, <[u8]>::len);
        pending.push(event);
        if pending.len() == chunk.events || bytes >= chunk.bytes {
            bytes = 0;
            if !hand_on(std::mem::replace(&mut pending, Vec::with_capacity(chunk.events))).await {
                return Ok(());
            }
        }
    }
    if !pending.is_empty() {
        hand_on(pending).await;
    }
    Ok(())
}

/// The statements that look whether the log has moved, prepared on a connection: a node does so at each append of another.
#[derive(Clone)]
pub struct Look {
    head: Statement,
    next: Statement,
}

impl Look {
    pub async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let head = client.prepare(include_str!("head.sql"));
        let next = client.prepare(include_str!("next.sql"));
        let (head, next) = tokio::try_join!(head, next)?;
        Ok(Self { head, next })
    }

    /// Where the log ends, and the events from `from` up to there, if they are few: otherwise none of them. In one round trip,
    /// since all nodes ask at the same moment, and until they have the answer they accept what was revoked.
    pub async fn at(&self, client: &Client, from: u64) -> Result<(Head, Option<Vec<RawEvent>>), LogFault> {
        let (first, limit) = (signed(from), signed(NEAR_EVENTS));
        let parameters: [&(dyn ToSql + Sync); 2] = [&first, &limit];
        let (head, rows) = tokio::try_join!(
            biased;
            client.query_one(&self.head, &[]),
            client.query(&self.next, &parameters),
        )?;
        let head = Head::from_row(&head)?;
        // The events are as of a moment after the head, so that there may be more of them.
        let count = head.next_position.saturating_sub(from);
        let are_here = count <= NEAR_EVENTS && count <= rows.len() as u64;
        let events = are_here.then(|| rows.into_iter().take(usize::try_from(count).unwrap_or_default()));
        Ok((head, events.map(|rows| rows.map(RawEvent).collect())))
    }
}

/// The next event, if everything about it is as a node with the root key would have written it after `head`.
///
/// Moves `head` past it.
pub fn unseal(raw: &RawEvent, head: &mut Head, keys: &DerivedKeys) -> Result<Recorded, LogFault> {
    check_seals(raw, head.next_position, &mut head.seals, keys)?;
    understand(raw, head)
}

/// The first half of [`unseal`]: whether it stands where it belongs, and both seals are those of its entry after `seals`, which
/// are moved past it. What it says is not looked at.
pub fn check_seals(raw: &RawEvent, position: u64, seals: &mut Seals, keys: &DerivedKeys) -> Result<(), LogFault> {
    let damaged = |column| Tampered::Column { position, column };
    if raw.position().map_err(damaged)? != signed(position) {
        return Err(Tampered::Missing { position }.into());
    }
    let Sealed { mac, leaf_hash } = seals.advance(keys.log_chain(), raw.entry().map_err(damaged)?);
    if mac[..] != *raw.mac().map_err(damaged)? {
        return Err(Tampered::Mac { position }.into());
    }
    if leaf_hash[..] != *raw.leaf_hash().map_err(damaged)? {
        return Err(Tampered::LeafHash { position }.into());
    }
    Ok(())
}

/// The second half: what an entry says whose seals are right, and whether the columns beside it say the same.
///
/// Moves `head` past it, but for the seals.
pub fn understand(raw: &RawEvent, head: &mut Head) -> Result<Recorded, LogFault> {
    let position = head.next_position;
    let damaged = |column| Tampered::Column { position, column };
    let entry = raw.entry().map_err(damaged)?;
    let recorded = entry::decode(entry).map_err(|cause| LogFault::Unreadable { position, cause })?;
    // The chain proves the order; these prove that the entry stands where it says it does.
    if recorded.position != position {
        return Err(Tampered::Position { position, says: recorded.position }.into());
    }
    if recorded.recorded_at <= head.recorded_at && position > 0 {
        return Err(Tampered::Time { position }.into());
    }
    if let Some(column) = raw.copied().map_err(damaged)?.differing(&recorded) {
        return Err(damaged(column).into());
    }
    head.next_position += 1;
    head.recorded_at = recorded.recorded_at;
    Ok(recorded)
}

/// The bytes of the next entry, for a copy of the log: its place and its mac are those that a node has written after `at`,
/// which is moved past it. What else stands beside it is not looked at.
pub fn check_link<'r>(raw: &'r RawEvent, at: &mut Seen, keys: &DerivedKeys) -> Result<&'r [u8], LogFault> {
    let position = at.next_position;
    let damaged = |column| Tampered::Column { position, column };
    if raw.position().map_err(damaged)? != signed(position) {
        return Err(Tampered::Missing { position }.into());
    }
    let entry = raw.entry().map_err(damaged)?;
    at.mac = next_mac(keys.log_chain(), &at.mac, entry);
    if at.mac[..] != *raw.mac().map_err(damaged)? {
        return Err(Tampered::Mac { position }.into());
    }
    at.next_position += 1;
    Ok(entry)
}

/// Looks for events where there can be none yet. One that a superuser has put there keeps its place from the event that will
/// belong there, and every append that comes to it fails.
pub async fn check_nothing_past_end(client: &Client) -> Result<(), LogFault> {
    match client.query_opt(include_str!("past_end.sql"), &[]).await? {
        None => Ok(()),
        Some(row) => Err(Tampered::PastEnd { position: row.try_get::<_, i64>("position")?.unsigned_abs() }.into()),
    }
}

/// After the last event before `head`: what was folded must end where the head says that the log ends.
pub fn check_end(folded: &Head, head: &Head) -> Result<(), LogFault> {
    let position = folded.next_position;
    if folded.next_position < head.next_position {
        return Err(Tampered::Missing { position }.into());
    }
    if folded.seals != head.seals {
        return Err(Tampered::HeadSeals { position }.into());
    }
    Ok(())
}
