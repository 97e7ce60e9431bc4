//! Where each projection stands, and which session may move it.

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, GenericClient};

use super::value::signed;
use super::{Projection, ProjectionError};
use crate::postgres::Database;

/// A projection in the database, of this version or of another.
#[derive(Clone, Debug)]
pub struct Kept {
    pub schema: String,
    pub name: String,
    pub version: i32,
    /// The position of the first event that it does not hold.
    pub next_position: u64,
    pub built_at: DateTime<Utc>,
}

/// Every projection that there is.
pub async fn all(database: &Database) -> Result<Vec<Kept>, ProjectionError> {
    Ok(all_in(&**database.client().await?).await?)
}

pub(super) async fn all_in(client: &impl GenericClient) -> Result<Vec<Kept>, Error> {
    let rows = client.query(include_str!("cursor/all.sql"), &[]).await?;
    let kept = |row: &tokio_postgres::Row| {
        Ok(Kept {
            schema: row.try_get("schema_name")?,
            name: row.try_get("name")?,
            version: row.try_get("version")?,
            next_position: row.try_get::<_, i64>("position")?.unsigned_abs(),
            built_at: row.try_get("built_at")?,
        })
    };
    rows.iter().map(kept).collect()
}

/// `None`: there is no such projection yet.
pub(super) async fn read(client: &impl GenericClient, schema: &str) -> Result<Option<u64>, Error> {
    let row = client.query_opt(include_str!("cursor/read.sql"), &[&schema]).await?;
    row.map(|row| row.try_get::<_, i64>(0).map(i64::unsigned_abs)).transpose()
}

/// Moves projections that are all at `from`. False: one of them is not there, and somebody else is at work.
pub(super) async fn advance(
    client: &impl GenericClient,
    schemas: &[String],
    from: u64,
    to: u64,
) -> Result<bool, Error> {
    // With their types, so that it is not prepared first: one round trip and not two, for each batch of events.
    let (from, to) = (signed(from), signed(to));
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&schemas, Type::TEXT_ARRAY), (&from, Type::INT8), (&to, Type::INT8)];
    let moved = client.execute_typed(include_str!("cursor/advance.sql"), &parameters).await?;
    Ok(usize::try_from(moved) == Ok(schemas.len()))
}

pub(super) async fn set(client: &impl GenericClient, projection: &Projection, at: u64) -> Result<(), Error> {
    let version = i32::try_from(projection.version).unwrap_or(i32::MAX);
    client
        .execute(include_str!("cursor/set.sql"), &[&projection.schema(), &projection.name, &version, &signed(at)])
        .await
        .map(drop)
}

/// The schemas of this projection's other versions.
pub(super) async fn other_versions(client: &impl GenericClient, projection: &Projection) -> Result<Vec<String>, Error> {
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&projection.name, &projection.schema()];
    let rows = client.query(include_str!("cursor/other_versions.sql"), &parameters).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

pub(super) async fn forget(client: &impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute(include_str!("cursor/forget.sql"), &[&schema]).await.map(drop)
}

/// Whether this session is the one that keeps what lies in `schema`. It is until it ends.
pub(super) async fn lock(client: &impl GenericClient, schema: &str) -> Result<bool, Error> {
    client.query_one(include_str!("cursor/lock.sql"), &[&schema]).await?.try_get(0)
}

pub(super) async fn unlock(client: &impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute(include_str!("cursor/unlock.sql"), &[&schema]).await.map(drop)
}
