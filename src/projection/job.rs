//! What operators ask of a projection: to be made anew, or to be compared with the log. Asked on any node, done by the one
//! that keeps it, and looked at on any.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use tokio_postgres::{Error, GenericClient, Row};
use uuid::Uuid;

use super::build::Progress;
use super::value::signed;
use super::{Projection, ProjectionError};
use crate::postgres::Database;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rebuild,
    Verify,
}

/// A job, as it is now.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: Uuid,
    pub kind: Kind,
    /// `waiting`, `running`, `done`, `differs` or `failed`.
    pub state: String,
    pub rows_done: u64,
    pub rows_total: u64,
    /// The position of the last event that the rows hold which were made, or compared.
    pub position: Option<u64>,
    /// Why it failed, or the first difference.
    pub finding: Option<String>,
    pub requested_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A job that this node does.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
}

/// What a job has come to.
pub(super) struct Ended {
    state: &'static str,
    position: Option<u64>,
    finding: Option<String>,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Rebuild => "rebuild",
            Kind::Verify => "verify",
        }
    }

    fn read(text: &str) -> Self {
        if text == "verify" { Kind::Verify } else { Kind::Rebuild }
    }
}

impl Ended {
    pub(super) fn done(next_position: u64) -> Self {
        Self { state: "done", position: next_position.checked_sub(1), finding: None }
    }

    pub(super) fn differs(next_position: u64, difference: &impl Display) -> Self {
        Self { state: "differs", finding: Some(difference.to_string()), ..Self::done(next_position) }
    }

    pub(super) fn failed(error: &ProjectionError) -> Self {
        Self { state: "failed", position: None, finding: Some(error.to_string()) }
    }
}

/// Asks for it, and answers with it; where it is asked for already, with that one.
pub async fn request(database: &Database, projection: &Projection, kind: Kind) -> Result<Job, ProjectionError> {
    let client = database.client().await?;
    let schema = projection.schema();
    client.execute(include_str!("job/forget.sql"), &[&schema]).await?;
    client.execute(include_str!("job/request.sql"), &[&Uuid::now_v7(), &schema, &kind.as_str()]).await?;
    let newest = newest_of(&**client, projection).await?;
    newest.into_iter().find(|job| job.kind == kind).ok_or(ProjectionError::NotBuilt(projection.name))
}

/// The newest of each kind.
pub async fn newest(database: &Database, projection: &Projection) -> Result<Vec<Job>, ProjectionError> {
    Ok(newest_of(&**database.client().await?, projection).await?)
}

async fn newest_of(client: &impl GenericClient, projection: &Projection) -> Result<Vec<Job>, Error> {
    let rows = client.query(include_str!("job/newest.sql"), &[&projection.schema()]).await?;
    rows.iter().map(job).collect()
}

fn job(row: &Row) -> Result<Job, Error> {
    let count = |name: &str| row.try_get::<_, i64>(name).map(i64::unsigned_abs);
    Ok(Job {
        id: row.try_get("job_id")?,
        kind: Kind::read(row.try_get("kind")?),
        state: row.try_get("state")?,
        rows_done: count("rows_done")?,
        rows_total: count("rows_total")?,
        position: row.try_get::<_, Option<i64>>("position")?.map(i64::unsigned_abs),
        finding: row.try_get("finding")?,
        requested_at: row.try_get("requested_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}

/// The next one to do.
pub(super) async fn claim(client: &impl GenericClient, schema: &str) -> Result<Option<Claimed>, Error> {
    let row = client.query_opt(include_str!("job/claim.sql"), &[&schema]).await?;
    row.map(|row| Ok(Claimed { id: row.try_get("job_id")?, kind: Kind::read(row.try_get("kind")?) })).transpose()
}

/// Says how far it is.
pub(super) async fn tell(client: &impl GenericClient, job: &Claimed, progress: &Progress) -> Result<(), Error> {
    let (done, total) = progress.rows();
    client.execute(include_str!("job/tell.sql"), &[&job.id, &signed(done), &signed(total)]).await.map(drop)
}

pub(super) async fn end(
    client: &impl GenericClient,
    job: &Claimed,
    progress: &Progress,
    ended: &Ended,
) -> Result<(), Error> {
    let (position, (done, total)) = (ended.position.map(signed), progress.rows());
    let (done, total) = (signed(done), signed(total));
    let end = include_str!("job/end.sql");
    client.execute(end, &[&job.id, &ended.state, &position, &ended.finding, &done, &total]).await.map(drop)
}
