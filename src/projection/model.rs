//! What makes a table: its rows, rendered from the Roll, and which of them some events can have changed.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::touched::Touched;
use crate::domain::key::{Key, KeyKind};
use crate::domain::roll::Roll;

/// A table of a read model.
pub trait Model: 'static {
    type Id;
    /// In JSON its fields are the columns.
    type Row: Serialize + DeserializeOwned;

    fn touched(touched: &Touched) -> &BTreeSet<Self::Id>;

    /// The row as the Roll has it. No row is ever removed: what was there once is listed for ever.
    fn row(roll: &Roll, id: &Self::Id) -> Option<Self::Row>;

    /// Every row, in the order of their ids as text.
    fn all(roll: &Roll) -> impl Iterator<Item = Self::Row>;

    fn count(roll: &Roll) -> usize;

    fn id(row: &Self::Row) -> &str;
}

/// A row as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub id: String,
    pub json: String,
}

/// A [`Model`] whose types nobody needs to name.
pub(super) struct Render {
    /// The rows that were touched, as they are in the Roll.
    pub(super) touched: fn(&Roll, &Touched) -> Vec<String>,
    pub(super) all: for<'r> fn(&'r Roll) -> Box<dyn Iterator<Item = Rendered> + 'r>,
    pub(super) count: fn(&Roll) -> usize,
    /// A row as Postgres writes it, written as we do: so that equal rows are equal texts.
    pub(super) canonical: fn(&str) -> Result<Rendered, serde_json::Error>,
}

impl Render {
    pub(super) const fn of<M: Model>() -> Self {
        Self { touched: touched::<M>, all: all::<M>, count: M::count, canonical: canonical::<M> }
    }
}

fn touched<M: Model>(roll: &Roll, touched: &Touched) -> Vec<String> {
    M::touched(touched).iter().filter_map(|id| M::row(roll, id)).map(|row| json(&row)).collect()
}

fn all<'r, M: Model>(roll: &'r Roll) -> Box<dyn Iterator<Item = Rendered> + 'r> {
    Box::new(M::all(roll).map(|row| rendered::<M>(&row)))
}

fn canonical<M: Model>(text: &str) -> Result<Rendered, serde_json::Error> {
    Ok(rendered::<M>(&serde_json::from_str(text)?))
}

fn rendered<M: Model>(row: &M::Row) -> Rendered {
    Rendered { id: M::id(row).to_owned(), json: json(row) }
}

fn json(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("a row is JSON")
}

/// Whether more than one worker has the key, or its value.
pub(super) fn is_shared(roll: &Roll, key: &Key) -> bool {
    key.workers().len() > 1 || (key.kind == KeyKind::Static && roll.static_secrets(&key.verifier).nth(1).is_some())
}
