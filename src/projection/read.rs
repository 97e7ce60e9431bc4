//! Asking a projection: a page of rows, and the position that it is of.
//!
//! What a node knows when it is asked is in its answer: a list waits until the projection is where the node was at that
//! moment, so that whoever has made something finds it in the next list.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::Projection;
use super::cursor;
use crate::postgres::{Database, PoolError};

/// For how long a list waits for a projection to get to where the node is. A commit takes milliseconds, taking over
/// from a node that was killed a second or two.
pub const CATCH_UP_MAX: Duration = Duration::from_secs(5);
/// Filters that are null disappear from a plan only if it is made for these very parameters. What a state filter finds is not
/// known before it is asked, so that the planner may think all rows worth a look; in the order of an index it can stop at the
/// end of the page. It calls a plan without an index dear enough to be compiled, which takes longer than to run it.
pub const SETTINGS: &str =
    "set local plan_cache_mode to force_custom_plan; set local enable_seqscan to off; set local jit to off";
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(50);

/// A statement of `read/`, with what it asks for. Each row that it finds is one JSON text, or null where a row is only
/// counted.
pub struct Question {
    projection: &'static Projection,
    statement: &'static str,
    parameters: Vec<Parameter>,
}

pub type Parameter = Box<dyn ToSql + Sync + Send>;

/// What was found.
#[derive(Debug)]
pub struct Rows<R> {
    pub rows: Vec<R>,
    /// Whether there are more after them.
    pub more: bool,
    /// The position of the first event that they do not hold.
    pub next_position: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the projection {projection} holds the events before {reached:?}, and {wanted} were asked for")]
    Behind { projection: &'static str, wanted: u64, reached: Option<u64> },
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("the database failed: {}", super::chain(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error("a row of {projection} cannot be read: {source}")]
    Row { projection: &'static str, source: serde_json::Error },
}

/// One more than a page holds says whether there are more.
pub(super) fn rows_asked_for(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)
}

impl Question {
    pub(super) fn new(projection: &'static Projection, statement: &'static str, parameters: Vec<Parameter>) -> Self {
        Self { projection, statement, parameters }
    }

    pub fn projection(&self) -> &'static Projection {
        self.projection
    }

    pub fn statement(&self) -> &'static str {
        self.statement
    }

    pub fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect()
    }

    /// At most `limit` rows, once the projection holds all events before `wanted`; for that it is waited no longer than
    /// `patience`.
    pub async fn ask<R: DeserializeOwned>(
        &self,
        database: &Database,
        wanted: u64,
        limit: usize,
        patience: Duration,
    ) -> Result<Rows<R>, ReadError> {
        let give_up = Instant::now() + patience;
        let mut pause = LOOK_AGAIN_MIN;
        loop {
            let reached = match self.look(database, wanted).await? {
                Look::Found { texts, next_position } => return self.rows(texts, limit, next_position),
                Look::Behind(reached) => reached,
            };
            if Instant::now() + pause > give_up {
                return Err(ReadError::Behind { projection: self.projection.name, wanted, reached });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
    }

    async fn look(&self, database: &Database, wanted: u64) -> Result<Look, ReadError> {
        let mut pooled = database.client().await?;
        let client: &mut Client = &mut pooled;
        let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let transaction = transaction.read_only(true).start().await?;
        if !self.hold_tables(&transaction).await? {
            return Ok(Look::Behind(None));
        }
        let reached = cursor::read(&transaction, &self.projection.schema()).await?;
        let Some(next_position) = reached.filter(|reached| *reached >= wanted) else {
            return Ok(Look::Behind(reached));
        };
        let rows = transaction.query(self.statement, &self.parameters()).await?;
        let texts = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        transaction.commit().await?;
        Ok(Look::Found { texts, next_position })
    }

    /// Keeps another build from taking the tables' place before we have read them; false where there are none yet.
    ///
    /// It must come before whatever takes the transaction's snapshot: in an older snapshot the new table has no rows.
    async fn hold_tables(&self, transaction: &Transaction<'_>) -> Result<bool, tokio_postgres::Error> {
        let schema = self.projection.schema();
        let tables = self.projection.tables_in(&schema);
        let statements =
            format!("{SETTINGS}; set local search_path to {schema}, pg_temp; lock table {tables} in access share mode");
        match transaction.batch_execute(&statements).await {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn rows<R: DeserializeOwned>(
        &self,
        texts: Vec<Option<String>>,
        limit: usize,
        next_position: u64,
    ) -> Result<Rows<R>, ReadError> {
        let found = texts.len();
        let shown = texts.into_iter().take(limit).map_while(|text| text);
        let read = |text: String| {
            serde_json::from_str(&text).map_err(|source| ReadError::Row { projection: self.projection.name, source })
        };
        let rows = shown.map(read).collect::<Result<Vec<R>, _>>()?;
        Ok(Rows { more: rows.len() < found, rows, next_position })
    }
}

enum Look {
    Found { texts: Vec<Option<String>>, next_position: u64 },
    Behind(Option<u64>),
}

/// What is not there while the first build of a version is under way.
fn is_missing(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME].contains(code))
}
