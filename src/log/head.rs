//! Where the log ends: its row, and the genesis that says which log it is.

use tokio_postgres::types::FromSql;
use tokio_postgres::{Client, GenericClient, Row};
use uuid::Uuid;

use super::seal::{Frontier, Seals, genesis_mac};
use super::seen::Seen;
use super::time::timestamp;
use super::{LogFault, Tampered};
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::domain::time::Timestamp;

/// The end of the log, as one node believes it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counts append statements: what an append compares and swaps.
    pub version: i64,
    pub next_position: u64,
    pub seals: Seals,
    /// Of the last event.
    pub recorded_at: Timestamp,
}

impl Head {
    /// The head of a log without events.
    pub fn genesis(keys: &DerivedKeys, log: LogId) -> Self {
        let seals = Seals { mac: genesis_mac(keys.log_chain(), log), frontier: Frontier::default() };
        Self { version: 0, next_position: 0, seals, recorded_at: Timestamp::default() }
    }

    /// As the database has it now.
    pub async fn read(client: &Client) -> Result<Self, LogFault> {
        Self::from_row(&client.query_typed_one(include_str!("head.sql"), &[]).await?)
    }

    /// The same, held until the transaction ends.
    pub async fn lock(client: &impl GenericClient) -> Result<Self, LogFault> {
        Self::from_row(&client.query_one(include_str!("head_for_update.sql"), &[]).await?)
    }

    pub(super) fn from_row(row: &Row) -> Result<Self, LogFault> {
        let position: i64 = column(row, "next_position", "its position cannot be read")?;
        let next_position = u64::try_from(position).map_err(|_| LogFault::Head("its position is negative"))?;
        let mac: &[u8] = column(row, "mac", "its mac cannot be read")?;
        let mac = mac.try_into().map_err(|_| LogFault::Head("its mac has not 32 bytes"))?;
        let frontier = Frontier::from_bytes(next_position, column(row, "frontier", "its frontier cannot be read")?)
            .map_err(|_| LogFault::Head("its frontier does not fit its position"))?;
        let root: &[u8] = column(row, "merkle_root", "its Merkle root cannot be read")?;
        if frontier.root()[..] != *root {
            return Err(LogFault::Head("its Merkle root is not that of its frontier"));
        }
        let recorded_at: Option<_> = column(row, "recorded_at", "its time is not one that a node writes")?;
        Ok(Self {
            version: column(row, "version", "its version cannot be read")?,
            next_position,
            seals: Seals { mac, frontier },
            recorded_at: recorded_at.map(timestamp).unwrap_or_default(),
        })
    }
}

/// Whoever can write to the row can write what no node would, such as the time `infinity`.
fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &str, otherwise: &'static str) -> Result<T, LogFault> {
    row.try_get(name).map_err(|_| LogFault::Head(otherwise))
}

/// Finds out which log this is, and begins one where there is none.
///
/// A root key that is not the log's is refused here, before anything is written: everything that it would seal or digest
/// could never be checked again. So is a database without a log where one was `seen`.
pub async fn open(client: &Client, keys: &DerivedKeys, seen: Option<&Seen>) -> Result<LogId, LogFault> {
    if let Some(log) = find(client, keys).await? {
        return Ok(log);
    }
    if let Some(seen) = seen {
        return Err(Tampered::WentBack { known: seen.next_position, found: 0 }.into());
    }
    let fresh = LogId::from_uuid(Uuid::now_v7());
    let empty = Head::genesis(keys, fresh);
    let (mac, root) = (&empty.seals.mac[..], empty.seals.frontier.root());
    let check = keys.root_key_check();
    client.execute(include_str!("begin.sql"), &[&Uuid::from_u128(fresh.0), &&check[..], &mac, &&root[..]]).await?;
    find(client, keys).await?.ok_or(LogFault::Head("it was not there after it was made"))
}

/// Which log this is, if there is one, and it was begun with this root key.
pub async fn find(client: &Client, keys: &DerivedKeys) -> Result<Option<LogId>, LogFault> {
    let Some(row) = client.query_opt(include_str!("genesis.sql"), &[]).await? else { return Ok(None) };
    check_root_key(row.try_get("root_key_check")?, keys)?;
    Ok(Some(LogId::from_uuid(row.try_get("log_id")?)))
}

/// Compares what the database says of its root key with the key at hand.
pub fn check_root_key(found: &[u8], keys: &DerivedKeys) -> Result<(), LogFault> {
    if found == keys.root_key_check() { Ok(()) } else { Err(LogFault::WrongRootKey) }
}
