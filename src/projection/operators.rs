//! The projection `operators`: everyone who ever administered.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::model::Model;
use super::read::{Question, rows_asked_for};
use super::touched::Touched;
use super::value::{Moment, signed, text};
use super::{Projection, Table};
use crate::domain::ids::OperatorId;
use crate::domain::key::KeyState;
use crate::domain::operator::Operator;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;

pub const PROJECTION: Projection = Projection {
    name: "operators",
    version: 1,
    tables: &[Table::of::<Operators>(
        "operator",
        "id",
        include_str!("../../projections/operators/tables.sql"),
        include_str!("../../projections/operators/upsert.sql"),
    )],
    indexes: "",
    view: "select * from operator",
};

struct Operators;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorRow {
    pub id: String,
    pub name: String,
    pub role: String,
    pub removed: bool,
    pub created_at: Moment,
    /// Those that nobody has ended.
    pub keys: Vec<String>,
    /// When each of them ends by itself.
    pub keys_end_at: Vec<Option<Moment>>,
}

impl OperatorRow {
    pub fn of(roll: &Roll, operator: &Operator) -> Self {
        let keys = operator.keys.iter().filter(|_| !operator.removed).filter_map(|id| roll.key(*id));
        let keys = keys.filter(|key| match key.state {
            KeyState::Live | KeyState::Superseded { .. } => true,
            KeyState::Revoked | KeyState::Fenced => false,
        });
        let (keys, keys_end_at) = keys.map(|key| (key.id.to_string(), key.ends_at().map(Moment))).unzip();
        Self {
            id: operator.id.to_string(),
            name: text(&operator.name),
            role: operator.role.as_str().to_owned(),
            removed: operator.removed,
            created_at: Moment(operator.created_at),
            keys,
            keys_end_at,
        }
    }

    /// The ids of the keys that work at `now`.
    pub fn good_keys(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().zip(&self.keys_end_at);
        keys.filter(move |(_, ends)| ends.is_none_or(|at| at.0 > now)).map(|(key, _)| key.as_str())
    }
}

impl Model for Operators {
    type Id = OperatorId;
    type Row = OperatorRow;

    fn touched(touched: &Touched) -> &BTreeSet<OperatorId> {
        &touched.operators
    }

    fn row(roll: &Roll, id: &OperatorId) -> Option<OperatorRow> {
        roll.operator(*id).map(|operator| OperatorRow::of(roll, operator))
    }

    fn all(roll: &Roll) -> impl Iterator<Item = OperatorRow> {
        roll.operators().map(|operator| OperatorRow::of(roll, operator))
    }

    fn count(roll: &Roll) -> usize {
        roll.operators().count()
    }

    fn id(row: &OperatorRow) -> &str {
        &row.id
    }
}

/// A page of operators in the order of their ids.
pub fn list(after: Option<OperatorId>, limit: usize) -> Question {
    let after = after.map(|id| id.to_string());
    let limit = rows_asked_for(limit);
    let statement = include_str!("../../projections/operators/read/list.sql");
    Question::new(&PROJECTION, statement, vec![Box::new(after), Box::new(signed(limit))])
}
