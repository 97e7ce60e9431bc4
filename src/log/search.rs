//! Searching the log by position, kind, subject and incident.
//!
//! Rows are found by columns that were copied out of the entries, and anyone who can write to the database can write
//! those too. So nothing is given out before its mac is checked against the event before it, and its columns against the
//! entry. What a search cannot show is an event that it was kept from finding: that takes the whole chain, which every
//! node reads when it starts.

use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::append::signed;
use super::columns::{Copied, named_column};
use super::entry;
use super::seal::{Hash, genesis_mac, next_mac};
use super::{LogFault, Tampered};
use crate::credential::root_key::DerivedKeys;
use crate::domain::event::{Event, Recorded};
use crate::domain::ids::{KeyId, LogId};

/// Entries of one answer. Each has up to 64 KiB, and a thousand of those would be an answer that nobody can take.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Where the copied columns begin in what each statement selects.
const FIRST_COPIED: usize = 3;

/// What is looked for. Every combination has an index to go by.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// The first position that may be found.
    pub from: u64,
    /// The first position that may not.
    pub to: u64,
    pub kind: Option<&'a str>,
    /// The kind and the id of the subject.
    pub subject: Option<(&'a str, &'a str)>,
    /// The incident that it was done for.
    pub incident: Option<&'a str>,
    pub newest_first: bool,
    pub limit: usize,
}

/// What was found, in the order asked for.
#[derive(Debug, Default)]
pub struct Found {
    pub entries: Vec<FoundEntry>,
    /// Whether there is more after the last one.
    pub more: bool,
}

/// An entry, as it was sealed.
#[derive(Debug)]
pub struct FoundEntry {
    pub position: u64,
    pub entry: Vec<u8>,
}

/// Reads one page, and believes none of it unchecked.
pub async fn search(client: &Client, keys: &DerivedKeys, search: &Search<'_>) -> Result<Found, LogFault> {
    let (from, to) = (signed(search.from), signed(search.to));
    // One more than asked for says whether there is more.
    let limit = i64::try_from(search.limit).unwrap_or(i64::MAX).saturating_add(1);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&from, &to, &limit];
    let (subject_kind, subject_id) = search.subject.unzip();
    // What is no id of a key stands on no list of them.
    let listed = search.subject.filter(|(kind, id)| *kind == "key" && id.parse::<KeyId>().is_ok()).map(|(_, id)| id);
    let statement = if search.incident.is_some() {
        parameters.extend([&search.incident as &(dyn ToSql + Sync), &search.kind, &subject_kind, &subject_id, &listed]);
        ordered(search, include_str!("search/incident_ascending.sql"), include_str!("search/incident_descending.sql"))
    } else if search.subject.is_some() {
        parameters.extend([&subject_kind as &(dyn ToSql + Sync), &subject_id, &search.kind, &listed]);
        ordered(search, include_str!("search/subject_ascending.sql"), include_str!("search/subject_descending.sql"))
    } else if search.kind.is_some() {
        parameters.push(&search.kind);
        ordered(search, include_str!("search/kind_ascending.sql"), include_str!("search/kind_descending.sql"))
    } else {
        ordered(search, include_str!("search/all_ascending.sql"), include_str!("search/all_descending.sql"))
    };
    let mut rows = pin!(client.query_raw(statement, parameters).await?);
    let (mut found, mut bytes) = (Found::default(), 0);
    while let Some(row) = rows.try_next().await? {
        let (recorded, entry) = checked(&row, keys, search.from)?;
        if search.subject.is_some_and(|subject| !is_about(&recorded, subject)) {
            continue;
        }
        let entry = FoundEntry { position: recorded.position, entry };
        bytes += entry.entry.len();
        // The first one always fits, or a page could be empty and the search without an end.
        if found.entries.len() == search.limit || (bytes > ANSWER_BYTES_MAX && !found.entries.is_empty()) {
            found.more = true;
            break;
        }
        found.entries.push(entry);
    }
    Ok(found)
}

/// Whether the event is about it. Of what stands in the entry alone, the database has found what only looks like it.
fn is_about(recorded: &Recorded, (kind, id): (&str, &str)) -> bool {
    let (its_kind, its_id) = recorded.event.about();
    let listed = || match &recorded.event {
        Event::KeysRevoked { keys, .. } => kind == "key" && id.parse().is_ok_and(|id: KeyId| keys.contains(&id)),
        _ => false,
    };
    (its_kind == kind && its_id.is(id)) || listed()
}

fn ordered(search: &Search<'_>, ascending: &'static str, descending: &'static str) -> &'static str {
    if search.newest_first { descending } else { ascending }
}

/// Shows events about any of these subjects, each a kind and an id, at positions below `to`: the newest `limit` of them, the
/// newest first. Answers whether there are more.
pub async fn about_any(
    client: &Client,
    keys: &DerivedKeys,
    subjects: &[(&str, String)],
    to: u64,
    limit: usize,
    mut see: impl FnMut(&Recorded),
) -> Result<bool, LogFault> {
    let kinds: Vec<&str> = subjects.iter().map(|(kind, _)| *kind).collect();
    let ids: Vec<&str> = subjects.iter().map(|(_, id)| id.as_str()).collect();
    let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let parameters: [&(dyn ToSql + Sync); 4] = [&signed(to), &most, &kinds, &ids];
    let mut rows = pin!(client.query_raw(include_str!("search/subjects_descending.sql"), parameters).await?);
    let mut seen = 0;
    while let Some(row) = rows.try_next().await? {
        if seen == limit {
            return Ok(true);
        }
        see(&checked(&row, keys, 0)?.0);
        seen += 1;
    }
    Ok(false)
}

/// What a row says, and its entry, if a node with the root key has written it at this position and the columns are its own. Where not
/// even its position can be read, the search `began` there.
fn checked(row: &Row, keys: &DerivedKeys, began: u64) -> Result<(Recorded, Vec<u8>), LogFault> {
    let position =
        named_column::<i64>(row, "position").map_err(|column| Tampered::Column { position: began, column })?;
    let position = position.unsigned_abs();
    let damaged = |column| Tampered::Column { position, column };
    let entry: Vec<u8> = named_column(row, "entry").map_err(damaged)?;
    let previous = previous_mac(row, keys, position)?;
    let mac: &[u8] = named_column(row, "mac").map_err(damaged)?;
    if next_mac(keys.log_chain(), &previous, &entry)[..] != *mac {
        return Err(Tampered::Mac { position }.into());
    }
    let recorded = entry::decode(&entry).map_err(|cause| LogFault::Unreadable { position, cause })?;
    if recorded.position != position {
        return Err(Tampered::Position { position, says: recorded.position }.into());
    }
    match Copied::of(&row, FIRST_COPIED).map_err(damaged)?.differing(&recorded) {
        None => Ok((recorded, entry)),
        Some(column) => Err(damaged(column).into()),
    }
}

/// What the mac of the event at `position` chains to.
fn previous_mac(row: &Row, keys: &DerivedKeys, position: u64) -> Result<Hash, LogFault> {
    let damaged = |column| Tampered::Column { position, column };
    if let Some(log) = named_column::<Option<Uuid>>(row, "log_id").map_err(damaged)? {
        return Ok(genesis_mac(keys.log_chain(), LogId::from_uuid(log)));
    }
    let before = Tampered::Missing { position: position.saturating_sub(1) };
    // The column of the event before is called so, and it is the one to look at.
    let mac = named_column::<Option<&[u8]>>(row, "previous_mac").map_err(|_| damaged("mac"))?;
    mac.and_then(|mac| mac.try_into().ok()).ok_or_else(|| before.into())
}
