//! Whether the rows are what the log says: the log is folded anew, up to where the rows are, and every row compared.
//!
//! The Roll in memory is not asked, and neither are the events that were read to keep the rows: a mistake of either would
//! be on both sides of the comparison.

use std::fmt;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_postgres::Client;

use super::build::{Progress, hasten};
use super::model::Rendered;
use super::runner::Start;
use super::{Projection, ProjectionError, Table, cursor};
use crate::domain::roll::Roll;
use crate::node::replay;

const PAGE_ROWS: i64 = 1_000;
const CHUNKS_WAITING: usize = 4;

/// What was found.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// The position of the first event that the rows do not hold.
    pub next_position: u64,
    pub rows: u64,
    /// The first in the order of the ids.
    pub difference: Option<Difference>,
}

/// A row that is not what the log says.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub id: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Missing,
    /// No event speaks of it.
    TooMany,
    Column {
        name: String,
        expected: Value,
        found: Value,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.id;
        match &self.what {
            What::Missing => write!(f, "the row of {id} is missing"),
            What::TooMany => write!(f, "there is a row of {id}, of which the log says nothing"),
            What::Column { name, expected, found } => {
                write!(f, "in the row of {id} the column `{name}` is {found}, and the log says {expected}")
            }
        }
    }
}

/// Compares every row with the fold of the log at the position of the rows.
pub async fn verify(
    start: &Start,
    projection: &'static Projection,
    progress: &Progress,
) -> Result<Verdict, ProjectionError> {
    let session = start.database.session().await?;
    let client = &session.client;
    hasten(client).await?;
    let schema = projection.schema();
    let tables = projection.tables_in(&schema);
    // One state of rows, cursor and log, however long it takes; and no other build in its place meanwhile, as `read` says.
    client
        .batch_execute(&format!(
            "set idle_in_transaction_session_timeout to 0; set timezone to 'UTC'; \
             begin isolation level repeatable read read only; \
             set local search_path to {schema}, pg_temp; lock table {tables} in access share mode"
        ))
        .await?;
    let reached = cursor::read(client, &schema).await?;
    let next_position = reached.ok_or(ProjectionError::NotBuilt(projection.name))?;
    let roll = Arc::new(replay::fold_before(client, start.node.keys(), start.log, next_position).await?);
    progress.of(projection.count(&roll));
    let mut rows = 0;
    for table in projection.tables {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let (name, roll) = (projection.name, roll.clone());
        let comparing = tokio::task::spawn_blocking(move || compare(name, table, &roll, receiver));
        let sent = send_rows(client, table, &sender, progress).await;
        drop(sender);
        let difference = comparing.await??;
        rows += sent?;
        if difference.is_some() {
            return Ok(Verdict { next_position, rows, difference });
        }
    }
    Ok(Verdict { next_position, rows, difference: None })
}

/// Every row as Postgres writes it, in the order of the ids: a page at a time, so that neither side has to hold them all.
async fn send_rows(
    client: &Client,
    table: &Table,
    sender: &mpsc::Sender<Vec<String>>,
    progress: &Progress,
) -> Result<u64, ProjectionError> {
    let Table { name, key, .. } = table;
    let statement = format!("select {key}, to_json({name})::text from {name} where {key} > $1 order by {key} limit $2");
    let statement = client.prepare(&statement).await?;
    let (mut after, mut count) = (String::new(), 0);
    loop {
        let page = client.query(&statement, &[&after, &PAGE_ROWS]).await?;
        let Some(last) = page.last() else { return Ok(count) };
        after = last.try_get(0)?;
        count += page.len() as u64;
        progress.add(page.len());
        let rows = page.iter().map(|row| row.try_get(1)).collect::<Result<_, _>>()?;
        // Whoever compares has found a difference, and takes no more.
        if sender.send(rows).await.is_err() {
            return Ok(count);
        }
    }
}

/// The rows in the database, as they come.
struct Found {
    chunks: mpsc::Receiver<Vec<String>>,
    chunk: IntoIter<String>,
}

impl Iterator for Found {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            if let Some(row) = self.chunk.next() {
                return Some(row);
            }
            self.chunk = self.chunks.blocking_recv()?.into_iter();
        }
    }
}

fn compare(
    projection: &'static str,
    table: &Table,
    roll: &Roll,
    chunks: mpsc::Receiver<Vec<String>>,
) -> Result<Option<Difference>, ProjectionError> {
    let found = Found { chunks, chunk: Vec::new().into_iter() }
        .map(|text| (table.render.canonical)(&text).map_err(|source| ProjectionError::Row { projection, source }));
    first_difference((table.render.all)(roll).peekable(), found)
}

/// Both sides are in the order of their ids.
fn first_difference(
    mut expected: Peekable<impl Iterator<Item = Rendered>>,
    found: impl Iterator<Item = Result<Rendered, ProjectionError>>,
) -> Result<Option<Difference>, ProjectionError> {
    let missing = |row: Rendered| Ok(Some(Difference { id: row.id, what: What::Missing }));
    for found in found {
        let found = found?;
        match expected.next_if(|row| row.id <= found.id) {
            Some(row) if row == found => {}
            Some(row) if row.id == found.id => return Ok(Some(differing_column(&row, &found))),
            Some(row) => return missing(row),
            None => return Ok(Some(Difference { id: found.id, what: What::TooMany })),
        }
    }
    expected.next().map_or(Ok(None), missing)
}

fn differing_column(expected: &Rendered, found: &Rendered) -> Difference {
    let columns = |row: &Rendered| serde_json::from_str::<Map<String, Value>>(&row.json).unwrap_or_default();
    let (expected_columns, found_columns) = (columns(expected), columns(found));
    let differing = expected_columns.into_iter().find(|(name, value)| found_columns.get(name) != Some(value));
    let (name, expected_value) = differing.unwrap_or_default();
    let found_value = found_columns.get(&name).cloned().unwrap_or_default();
    let what = What::Column { name, expected: expected_value, found: found_value };
    Difference { id: expected.id.clone(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, value: u32) -> Rendered {
        Rendered { id: id.to_owned(), json: format!("{{\"id\":\"{id}\",\"value\":{value}}}") }
    }

    fn compared(expected: &[(&str, u32)], found: &[(&str, u32)]) -> Option<String> {
        let rows = |rows: &[(&str, u32)]| rows.iter().map(|(id, value)| row(id, *value)).collect::<Vec<_>>();
        let found = rows(found).into_iter().map(Ok);
        first_difference(rows(expected).into_iter().peekable(), found).unwrap().map(|found| found.to_string())
    }

    #[test]
    fn the_first_difference_is_named() {
        let both = [("a", 1), ("b", 2)];
        assert_eq!(compared(&both, &both), None);
        assert_eq!(compared(&[], &[]), None);
        let table: [(&[(&str, u32)], &str); 5] = [
            (&[("b", 2)], "the row of a is missing"),
            (&[("a", 1)], "the row of b is missing"),
            (&[("a", 1), ("aa", 1), ("b", 2)], "there is a row of aa, of which the log says nothing"),
            (&[("a", 1), ("b", 2), ("c", 3)], "there is a row of c, of which the log says nothing"),
            (&[("a", 1), ("b", 3)], "in the row of b the column `value` is 3, and the log says 2"),
        ];
        for (found, expected) in table {
            assert_eq!(compared(&both, found).as_deref(), Some(expected), "{found:?}");
        }
    }
}
