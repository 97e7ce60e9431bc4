//! Reading the log in order, and believing none of it before its seals are checked.

use std::pin::pin;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::{FutureExt as _, Stream, TryStreamExt as _};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Column, Statement};

use super::append::signed;
use super::entry;
use super::head::Head;
use super::raw::{self, RawEvent, RawEvents};
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

const STATEMENT: &str = include_str!("read.sql");

/// How much is handed on at a time: so many events, or fewer once they have so many bytes.
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
/// `hand_on` answers with an empty buffer for those that follow, or with nothing where it wants no more.
pub async fn stream<F, Fut>(client: &Client, from: u64, to: u64, chunk: ChunkMax, hand_on: F) -> Result<(), LogFault>
where
    F: FnMut(RawEvents) -> Fut,
    Fut: Future<Output = Option<RawEvents>>,
{
    let statement = prepared(client, from).await?;
    let rows = begun(client.query_raw(&statement, [signed(from), signed(to)])).await?;
    gather(rows, chunk, RawEvents::push_row, hand_on).await
}

/// The same by a COPY, which takes less time for each event. But it takes no parameters, so that it is another statement each
/// time, and whoever keeps statistics of statements would keep them for every page: for what is read from end to end.
pub async fn stream_copied<F, Fut>(
    client: &Client,
    from: u64,
    to: u64,
    chunk: ChunkMax,
    hand_on: F,
) -> Result<(), LogFault>
where
    F: FnMut(RawEvents) -> Fut,
    Fut: Future<Output = Option<RawEvents>>,
{
    // What a COPY sends has no types with it.
    prepared(client, from).await?;
    let (first, end) = (signed(from).to_string(), signed(to).to_string());
    let selected = STATEMENT.replace("$1", &first).replace("$2", &end);
    let messages = begun(client.copy_out(&format!("copy ({selected}) to stdout (format binary)"))).await?;
    let push = |events: &mut RawEvents, message: &Bytes| {
        events.push_message(message);
        Ok(())
    };
    gather(messages, chunk, push, hand_on).await
}

async fn prepared(client: &Client, from: u64) -> Result<Statement, LogFault> {
    let statement = begun(client.prepare(STATEMENT)).await?;
    check_columns(&statement, from)?;
    Ok(statement)
}

async fn begun<T>(asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, LogFault> {
    Ok(tokio::time::timeout(BEGIN_PATIENCE, Box::pin(asked)).await.map_err(|_| LogFault::Silent)??)
}

/// Everything that is read is read as what the migrations have made of the columns.
fn check_columns(statement: &Statement, from: u64) -> Result<(), Tampered> {
    let differing = raw::differing_column(statement.columns().iter().map(Column::type_));
    differing.map_or(Ok(()), |column| Err(Tampered::ColumnType { position: from, column }))
}

async fn gather<T, F, Fut>(
    rows: impl Stream<Item = Result<T, tokio_postgres::Error>>,
    chunk: ChunkMax,
    push: impl Fn(&mut RawEvents, &T) -> Result<(), tokio_postgres::Error>,
    mut hand_on: F,
) -> Result<(), LogFault>
where
    F: FnMut(RawEvents) -> Fut,
    Fut: Future<Output = Option<RawEvents>>,
{
    let (mut rows, mut pending) = (pin!(rows), RawEvents::default());
    loop {
        // Most are there already, and need no timer.
        let next = match rows.try_next().now_or_never() {
            Some(next) => next?,
            // A link that was cut silently would be waited for for ever.
            None => tokio::time::timeout(ROW_PATIENCE, rows.try_next()).await.map_err(|_| LogFault::Silent)??,
        };
        let Some(row) = next else { break };
        push(&mut pending, &row)?;
        if pending.len() == chunk.events || pending.bytes() >= chunk.bytes {
            match hand_on(pending).await {
                Some(empty) => pending = empty,
                None => return Ok(()),
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
    pub async fn at(&self, client: &Client, from: u64) -> Result<(Head, Option<RawEvents>), LogFault> {
        check_columns(&self.next, from)?;
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
        if count > NEAR_EVENTS || count > rows.len() as u64 {
            return Ok((head, None));
        }
        let mut events = RawEvents::default();
        for row in rows.iter().take(usize::try_from(count).unwrap_or_default()) {
            events.push_row(row)?;
        }
        Ok((head, Some(events)))
    }
}

/// The next event, if everything about it is as a node with the root key would have written it after `head`.
///
/// Moves `head` past it.
pub fn unseal(raw: &RawEvent<'_>, head: &mut Head, keys: &DerivedKeys) -> Result<Recorded, LogFault> {
    check_seals(raw, head.next_position, &mut head.seals, keys)?;
    understand(raw, head)
}

/// The first half of [`unseal`]: whether it stands where it belongs, and both seals are those of its entry after `seals`, which
/// are moved past it. What it says is not looked at.
pub fn check_seals(raw: &RawEvent<'_>, position: u64, seals: &mut Seals, keys: &DerivedKeys) -> Result<(), LogFault> {
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
pub fn understand(raw: &RawEvent<'_>, head: &mut Head) -> Result<Recorded, LogFault> {
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
pub fn check_link<'r>(raw: &RawEvent<'r>, at: &mut Seen, keys: &DerivedKeys) -> Result<&'r [u8], LogFault> {
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
