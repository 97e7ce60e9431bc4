//! Where the fences stand, beside the rows of a projection whose lists ask for them: a table of its own in each, so that
//! rows and fences are of one position.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Table;
use super::model::Model;
use super::touched::Touched;
use crate::domain::fence::{FenceScope, Floor};
use crate::domain::roll::Roll;

pub(super) const TABLE: Table = Table::of::<Floors>(
    "floor",
    "scope",
    include_str!("../../projections/floors/tables.sql"),
    include_str!("../../projections/floors/upsert.sql"),
);

struct Floors;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FloorRow {
    pub scope: String,
    pub refused_below: u64,
}

impl Model for Floors {
    type Id = FenceScope;
    type Row = FloorRow;

    fn touched(touched: &Touched) -> &BTreeSet<FenceScope> {
        &touched.floors
    }

    fn row(roll: &Roll, scope: &FenceScope) -> Option<FloorRow> {
        let floor = match scope {
            FenceScope::Everything => roll.floor_of_everything(),
            FenceScope::Pool(id) => roll.pool(id.as_str())?.fence,
            FenceScope::Lineage(id) => roll.enrollment_secret(*id)?.fence,
            FenceScope::Worker(id) => roll.worker(id.as_str())?.fence,
        };
        (floor > Floor::default()).then(|| FloorRow { scope: scope.to_string(), refused_below: floor.first_good() })
    }

    fn all(roll: &Roll) -> impl Iterator<Item = FloorRow> {
        let raised = roll.fences_after(None).map(|(scope, _)| scope.clone());
        let scopes = roll.enrollment_secrets().map(|secret| FenceScope::Lineage(secret.id)).chain(raised);
        let scopes: BTreeSet<FenceScope> = scopes.collect();
        let mut rows: Vec<FloorRow> = scopes.iter().filter_map(|scope| Self::row(roll, scope)).collect();
        rows.sort_unstable_by(|one, other| one.scope.cmp(&other.scope));
        rows.into_iter()
    }

    fn count(roll: &Roll) -> usize {
        Self::all(roll).count()
    }

    fn id(row: &FloorRow) -> &str {
        &row.scope
    }
}
