//! What the other nodes can know of this one, and this one of the others: leases, and what each has applied.
//!
//! A node writes two things to its row: that it is there (a renewal), and how far it has applied the log. Whoever wants to
//! know that a revocation is in force everywhere reads the rows of all. The statements say what makes that safe; in short:
//! a lease is given only to a node that has applied the head, and is ended by others only after its renewals have stood
//! still for longer than one lasts.

use std::time::Duration;

use tokio_postgres::Client;
use uuid::Uuid;

use crate::log::LogFault;

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

/// Renews the lease of a node that has applied all below `applied`. `false` where it holds none: then [`grant`] helps.
pub async fn renew(client: &Client, node: Uuid, applied: u64) -> Result<bool, LogFault> {
    let row = client.query_opt(include_str!("presence/renew.sql"), &[&node, &signed(applied)]).await?;
    Ok(row.is_some())
}

/// Gives a lease to a node that holds none. `false` where it has not applied the head.
pub async fn grant(client: &Client, node: &Identity, applied: u64, lease: Duration) -> Result<bool, LogFault> {
    let lease_ms = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
    let row = client
        .query_opt(
            include_str!("presence/grant.sql"),
            &[&node.id, &node.name, &node.version, &node.address, &signed(applied), &lease_ms],
        )
        .await?;
    Ok(row.is_some())
}

/// Tells what the node has applied, between two renewals.
pub async fn acknowledge(client: &Client, node: Uuid, applied: u64) -> Result<(), LogFault> {
    client.execute(include_str!("presence/acknowledge.sql"), &[&node, &signed(applied)]).await?;
    Ok(())
}

/// Takes the node off the list. It must have stopped answering.
pub async fn leave(client: &Client, node: Uuid) -> Result<(), LogFault> {
    client.execute(include_str!("presence/leave.sql"), &[&node]).await?;
    Ok(())
}

/// The nodes whose lease may still be good.
pub async fn holders(client: &Client) -> Result<Vec<Holder>, LogFault> {
    let rows = client.query(include_str!("presence/holders.sql"), &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Holder {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                applied: u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or_default(),
                renewals: row.try_get(3)?,
                lease: Duration::from_millis(u64::try_from(row.try_get::<_, i64>(4)?).unwrap_or_default()),
            })
        })
        .collect()
}

/// Ends the lease of a node whose renewals have stood still at `renewals` for longer than a lease lasts. `false` where it
/// has renewed after all.
pub async fn retire(client: &Client, node: Uuid, renewals: i64) -> Result<bool, LogFault> {
    let row = client.query_opt(include_str!("presence/retire.sql"), &[&node, &renewals]).await?;
    Ok(row.is_some())
}

fn signed(position: u64) -> i64 {
    i64::try_from(position).expect("a log holds fewer than 2^63 events")
}
