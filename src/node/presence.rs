//! What the other nodes can know of this one, and this one of the others: leases, and what each has applied.
//!
//! A node writes two things to its row: that it is there (a renewal), and how far it has applied the log. Whoever wants to
//! know that a revocation is in force everywhere reads the rows of all. The statements say what makes that safe; in short:
//! a node that is on the list counts a lease only once it has applied the head as it was after it had come on the list, and
//! is taken off by others only after its renewals have stood still for longer than one lasts.
//!
//! All of it is as durable as the log: a renewal that a database could forget, in a crash or a failover, would be one that
//! somebody else has not seen.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::log::LogFault;

/// On which it is said that somebody waits for a position.
const CHANNEL: &str = "portcullis_wait";

/// After so long Postgres ends a statement of these by itself; whoever sends one waits longer.
const STATEMENT_MS: u32 = 800;

/// A parameter with its type, so that the statement is not prepared first: one round trip and not two, where many nodes do the
/// same at one moment.
type Typed<'a> = (&'a (dyn ToSql + Sync), Type);

/// Who a node is, for the eyes of people and of other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Made at each start: a node that comes back has applied nothing yet, and is another one.
    pub id: Uuid,
    /// The host's, unless configured.
    pub name: String,
    /// Of this program.
    pub version: String,
    /// Where it answers requests.
    pub address: String,
}

impl Identity {
    /// Of a node that starts now.
    #[must_use]
    pub fn new(name: String, address: String) -> Self {
        Self { id: Uuid::now_v7(), name, version: env!("CARGO_PKG_VERSION").to_owned(), address }
    }
}

/// A node whose lease may still be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub id: Uuid,
    pub name: String,
    /// Every position below is in its state.
    pub applied: u64,
    pub renewals: i64,
    pub lease: Duration,
}

/// A node as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub identity: Identity,
    /// Every position below is in its state: as of its last renewal, or later.
    pub applied: u64,
    /// Where the log ends.
    pub next_position: u64,
    /// False once it was waited out.
    pub leased: bool,
    /// Whether its lease would have had to be renewed by now, as far as the clock of the database tells.
    pub silent: bool,
    pub lease: Duration,
    pub started_at: DateTime<Utc>,
    /// By the database's clock.
    pub renewed_at: DateTime<Utc>,
}

/// Prepares a connection for what follows. Postgres gives up a statement before its sender does: a backend that waits for a
/// lock does not notice that nobody listens to it any more, and each retry would leave another one behind.
pub async fn limit_statements(client: &Client) -> Result<(), LogFault> {
    Ok(client.batch_execute(&format!("set statement_timeout = {STATEMENT_MS}")).await?)
}

/// Has this connection hear what others wait for. Only one that takes notice: each append wakes the backends of all that listen
/// in this database, on whatever channel.
pub async fn listen(client: &Client) -> Result<(), LogFault> {
    Ok(client.batch_execute(&format!("listen {CHANNEL}")).await?)
}

/// Renews the lease of a node that has applied all below `applied`. `false` where it is not on the list: then [`enlist`]
/// helps.
pub async fn renew(client: &Client, node: Uuid, applied: u64) -> Result<bool, LogFault> {
    let applied = signed(applied);
    let parameters: [Typed<'_>; 2] = [(&node, Type::UUID), (&applied, Type::INT8)];
    Ok(client.query_typed_opt(include_str!("presence/renew.sql"), &parameters).await?.is_some())
}

/// Puts a node on the list of those that others wait for. It may count a lease once it has applied the head that is read
/// after this: what was appended before is in that head, and whoever waits for what is appended later finds the node.
pub async fn enlist(client: &Client, node: &Identity, applied: u64, lease: Duration) -> Result<(), LogFault> {
    let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    client
        .execute(
            include_str!("presence/enlist.sql"),
            &[&node.id, &node.name, &node.version, &node.address, &signed(applied), &lease_ms],
        )
        .await?;
    Ok(())
}

/// Tells what the node has applied, between two renewals.
pub async fn acknowledge(client: &Client, node: Uuid, applied: u64) -> Result<(), LogFault> {
    let applied = signed(applied);
    let parameters: [Typed<'_>; 2] = [(&node, Type::UUID), (&applied, Type::INT8)];
    client.execute_typed(include_str!("presence/acknowledge.sql"), &parameters).await?;
    Ok(())
}

/// Takes the node off the list. It must have stopped answering.
pub async fn leave(client: &Client, node: Uuid) -> Result<(), LogFault> {
    client.execute(include_str!("presence/leave.sql"), &[&node]).await?;
    Ok(())
}

/// Removes the rows of nodes that ended long ago without leaving.
pub async fn forget(client: &Client) -> Result<u64, LogFault> {
    Ok(client.execute(include_str!("presence/forget.sql"), &[]).await?)
}

/// Asks every node to tell when it has applied the position.
pub async fn ask(client: &Client, position: u64) -> Result<(), LogFault> {
    let position = position.to_string();
    client.execute_typed("select pg_notify($1, $2)", &[(&CHANNEL, Type::TEXT), (&position, Type::TEXT)]).await?;
    Ok(())
}

/// The nodes whose lease may still be good, and where the log ends: both as of one moment of one database.
pub async fn holders(client: &Client) -> Result<(Vec<Holder>, u64), LogFault> {
    let rows = client.query_typed(include_str!("presence/holders.sql"), &[]).await?;
    let holder = |row: &Row| {
        Ok(Holder {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            applied: unsigned(row.try_get(2)?),
            renewals: row.try_get(3)?,
            lease: Duration::from_millis(unsigned(row.try_get(4)?)),
        })
    };
    let end = rows.first().map(|row| row.try_get(5)).transpose()?.unwrap_or_default();
    let holders = rows.iter().map(holder).collect::<Result<_, LogFault>>()?;
    Ok((holders, unsigned(end)))
}

/// Ends the lease of a node whose renewals have stood still at `renewals` for longer than a lease lasts. `false` where it
/// has renewed after all.
pub async fn retire(client: &Client, node: Uuid, renewals: i64) -> Result<bool, LogFault> {
    let row = client.query_opt(include_str!("presence/retire.sql"), &[&node, &renewals]).await?;
    Ok(row.is_some())
}

/// All nodes that are or were there lately.
pub async fn list(client: &Client) -> Result<Vec<Listed>, LogFault> {
    let listed = |row: &Row| {
        let (name, version, address) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok(Listed {
            identity: Identity { id: row.try_get(0)?, name, version, address },
            applied: unsigned(row.try_get(4)?),
            leased: row.try_get(5)?,
            lease: Duration::from_millis(unsigned(row.try_get(6)?)),
            started_at: row.try_get(7)?,
            renewed_at: row.try_get(8)?,
            next_position: unsigned(row.try_get(9)?),
            silent: row.try_get(10)?,
        })
    };
    client.query(include_str!("presence/list.sql"), &[]).await?.iter().map(listed).collect()
}

fn signed(position: u64) -> i64 {
    i64::try_from(position).expect("a log holds fewer than 2^63 events")
}

/// The table's own checks keep these from being negative; to whoever got round them a node has applied nothing.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
