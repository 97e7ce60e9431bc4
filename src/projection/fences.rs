//! The projection `fences`: of each scope the highest fence that was raised over it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::model::Model;
use super::read::{Question, rows_asked_for};
use super::touched::Touched;
use super::value::{Moment, signed};
use super::{Projection, Table};
use crate::domain::fence::{Fence, FenceScope};
use crate::domain::roll::Roll;

pub const PROJECTION: Projection = Projection {
    name: "fences",
    version: 1,
    tables: &[Table::of::<Fences>(
        "fence",
        "scope",
        include_str!("../../projections/fences/tables.sql"),
        include_str!("../../projections/fences/upsert.sql"),
    )],
    indexes: "",
    view: "select * from fence",
};

struct Fences;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FenceRow {
    pub scope: String,
    pub up_to: u64,
    pub raised: u64,
    pub raised_at: Moment,
}

impl FenceRow {
    pub fn of(scope: &FenceScope, fence: &Fence) -> Self {
        let raised_at = Moment(fence.raised_at);
        Self { scope: scope.to_string(), up_to: fence.up_to, raised: fence.raised, raised_at }
    }
}

impl Model for Fences {
    type Id = FenceScope;
    type Row = FenceRow;

    fn touched(touched: &Touched) -> &BTreeSet<FenceScope> {
        &touched.fences
    }

    fn row(roll: &Roll, scope: &FenceScope) -> Option<FenceRow> {
        roll.fence(scope).map(|fence| FenceRow::of(scope, fence))
    }

    fn all(roll: &Roll) -> impl Iterator<Item = FenceRow> {
        // The Roll has them in an order of its own, and not in that of their texts.
        let mut rows: Vec<FenceRow> =
            roll.fences_after(None).map(|(scope, fence)| FenceRow::of(scope, fence)).collect();
        rows.sort_unstable_by(|one, other| one.scope.cmp(&other.scope));
        rows.into_iter()
    }

    fn count(roll: &Roll) -> usize {
        roll.fences_after(None).count()
    }

    fn id(row: &FenceRow) -> &str {
        &row.scope
    }
}

/// A page of fences in the order of their scopes.
pub fn list(after: Option<&FenceScope>, limit: usize) -> Question {
    let after = after.map(ToString::to_string);
    let limit = rows_asked_for(limit);
    let statement = include_str!("../../projections/fences/read/list.sql");
    Question::new(&PROJECTION, statement, vec![Box::new(after), Box::new(signed(limit))])
}
