//! What keeps the log append-only in the database itself: triggers, and rights that the service's role does not have.
//!
//! They stop no superuser; the seals show what one has changed. They stop slips and the service itself, for as long as they
//! are there, and who has switched them off for a moment may have forgotten them since.

use tokio_postgres::Client;

use super::LogFault;

/// Refuses a database in which some of that is missing, and says how to bring it back.
pub async fn check(client: &Client) -> Result<(), LogFault> {
    let row = client.query_one(include_str!("unguarded.sql"), &[]).await?;
    match (row.try_get("what")?, row.try_get("remedy")?) {
        (Some(what), Some(remedy)) => Err(LogFault::Unguarded { what, remedy }),
        _ => Ok(()),
    }
}
