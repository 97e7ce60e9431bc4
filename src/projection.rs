//! Projections: the Roll as tables, for lists, for reports, and for anyone with a SQL client.
//!
//! A row is rendered from the Roll ([`model`]), so that there is no second implementation of the rules; an event only says
//! which rows to look at (`touched`). Rows and cursor change in one transaction, by whichever node keeps the projection
//! ([`runner`]). What ends by itself stands in a row as a time, and what a fence refuses as the position at which it was
//! issued: both are asked for when it is read ([`read`], `floors`). Each version lives in a schema of its own,
//! `<name>_<version>`, that is never migrated: another is built beside it and put in its place ([`build`]).

use tokio_postgres::error::SqlState;

use crate::domain::roll::Roll;
use crate::log::LogFault;
use crate::node::NotCurrent;
use crate::postgres::{DatabaseError, PoolError};

pub mod build;
pub mod cursor;
pub mod enrollment_secrets;
pub mod fences;
mod floors;
pub mod job;
pub mod keys;
pub mod lag;
mod lane;
pub mod model;
pub mod operators;
pub mod pools;
pub mod read;
pub mod runner;
pub mod silence;
mod touched;
pub mod used;
mod value;
pub mod verify;
pub mod workers;

use model::{Model, Render};

pub use value::Moment;

/// All of them, in the order in which they are listed.
pub static ALL: [Projection; 6] = [
    pools::PROJECTION,
    workers::PROJECTION,
    keys::PROJECTION,
    enrollment_secrets::PROJECTION,
    operators::PROJECTION,
    fences::PROJECTION,
];

/// One read model in SQL.
pub struct Projection {
    /// The name of its folder, of its view, and in the API.
    pub name: &'static str,
    /// Whatever changes the tables or the meaning of a row makes it one more. `tests/golden/projections.txt` has all that there
    /// were, and a change without a new version fails a test.
    pub version: u32,
    /// The one that it is named for, and what its lists ask beside.
    tables: &'static [Table],
    /// Made once the rows are in, which is quicker than row by row.
    indexes: &'static str,
    /// What people see of it, as a query of its tables.
    view: &'static str,
}

/// A table, and what its rows are.
struct Table {
    name: &'static str,
    /// The column by which a row is known.
    key: &'static str,
    definition: &'static str,
    upsert: &'static str,
    render: Render,
}

/// The rows that some events have changed, for each table of a projection.
type Changes = Vec<Vec<String>>;

/// Why a projection cannot be kept, built or compared.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error(transparent)]
    Connect(#[from] DatabaseError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("the database failed: {}", chain(.0))]
    Database(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Log(#[from] LogFault),
    #[error("the database did not answer in time")]
    Silent,
    #[error(transparent)]
    NotCurrent(#[from] NotCurrent),
    /// Two at work: the one that came first has moved it.
    #[error("the cursor of {schema} is not at {expected}, where this node left it")]
    CursorMoved { schema: String, expected: u64 },
    #[error("another node builds {schema}")]
    Building { schema: String },
    #[error("a row of {projection} cannot be read: {source}")]
    Row { projection: &'static str, source: serde_json::Error },
    #[error("the rendering broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
    #[error("{0} has no cursor: it is not built yet")]
    NotBuilt(&'static str),
}

impl ProjectionError {
    /// Whether somebody reads what was to be replaced, so that it has to wait.
    fn is_of_readers(&self) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }
}

impl Projection {
    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|projection| projection.name == name)
    }

    /// Where its rows are.
    pub fn schema(&self) -> String {
        format!("{}_{}", self.name, self.version)
    }

    /// Where those of another build are until they take their place.
    fn next_schema(&self) -> String {
        format!("{}_next", self.schema())
    }

    /// Its tables as somebody locks them.
    fn tables_in(&self, schema: &str) -> String {
        let names: Vec<String> = self.tables.iter().map(|table| format!("{schema}.{}", table.name)).collect();
        names.join(", ")
    }

    /// How many rows it has.
    fn count(&self, roll: &Roll) -> usize {
        self.tables.iter().map(|table| (table.render.count)(roll)).sum()
    }

    /// The names and the statements that make its tables, and then those that make their indexes.
    pub fn definition(&self) -> (Vec<(&'static str, &'static str)>, &'static str) {
        (self.tables.iter().map(|table| (table.name, table.definition)).collect(), self.indexes)
    }

    /// What its version stands for: all of its files but the questions.
    #[cfg(test)]
    fn digest(&self) -> blake3::Hash {
        let tables = self.tables.iter().flat_map(|table| [table.definition, table.upsert]);
        let texts: Vec<&str> = tables.chain([self.indexes, self.view]).collect();
        blake3::hash(texts.concat().as_bytes())
    }
}

impl Table {
    const fn of<M: Model>(
        name: &'static str,
        key: &'static str,
        definition: &'static str,
        upsert: &'static str,
    ) -> Self {
        Self { name, key, definition, upsert, render: Render::of::<M>() }
    }
}

/// An error with its causes in one line: the driver's own text stops at "db error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of another shape in a schema of the same name would not be made: the older one is there.
    #[test]
    fn a_changed_projection_has_a_new_version() {
        let golden = include_str!("../tests/golden/projections.txt");
        let mut complaints = Vec::new();
        for projection in &ALL {
            let digest = projection.digest();
            let version = format!("{} {} ", projection.name, projection.version);
            match golden.lines().find(|line| line.starts_with(&version)) {
                None => complaints.push(format!("add the line `{version}{digest}` to tests/golden/projections.txt")),
                Some(line) if line == format!("{version}{digest}") => {}
                Some(_) => complaints.push(format!("projections/{}: count its version up", projection.name)),
            }
        }
        assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    }

    #[test]
    fn every_projection_is_found_by_its_name_and_lies_in_a_schema_of_its_own() {
        for projection in &ALL {
            assert!(Projection::named(projection.name).is_some_and(|found| std::ptr::eq(found, projection)));
            // What `projection.make_schema` accepts, with a version of six digits.
            assert!(projection.name.len() <= 40 && projection.version < 1_000_000);
        }
        let schemas: std::collections::BTreeSet<_> = ALL.iter().map(Projection::schema).collect();
        assert_eq!(schemas.len(), ALL.len());
        assert!(Projection::named("none").is_none());
    }
}
