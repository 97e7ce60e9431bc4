//! The projection `pools`: every pool there ever was.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::model::Model;
use super::read::{Question, rows_asked_for};
use super::touched::Touched;
use super::value::{Moment, signed, text};
use super::{Projection, Table};
use crate::domain::ids::PoolId;
use crate::domain::pool::Pool;
use crate::domain::roll::Roll;

pub const PROJECTION: Projection = Projection {
    name: "pools",
    version: 1,
    tables: &[Table::of::<Pools>(
        "pool",
        "id",
        include_str!("../../projections/pools/tables.sql"),
        include_str!("../../projections/pools/upsert.sql"),
    )],
    indexes: "",
    view: "select * from pool",
};

struct Pools;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolRow {
    pub id: String,
    pub description: String,
    pub token_ttl_seconds: u32,
    pub token_record: String,
    pub audience: String,
    pub scopes: Vec<String>,
    pub sharing: bool,
    pub workers: u64,
    pub created_at: Moment,
    pub removed: bool,
}

impl From<&Pool> for PoolRow {
    fn from(pool: &Pool) -> Self {
        let settings = &pool.settings;
        Self {
            id: pool.id.to_string(),
            description: text(&settings.description),
            token_ttl_seconds: settings.token_ttl.0,
            token_record: settings.token_record.as_str().to_owned(),
            audience: text(&settings.audience),
            scopes: settings.scopes.iter().map(|scope| text(scope)).collect(),
            sharing: settings.sharing,
            workers: pool.workers,
            created_at: Moment(pool.created_at),
            removed: pool.removed,
        }
    }
}

impl Model for Pools {
    type Id = PoolId;
    type Row = PoolRow;

    fn touched(touched: &Touched) -> &BTreeSet<PoolId> {
        &touched.pools
    }

    fn row(roll: &Roll, id: &PoolId) -> Option<PoolRow> {
        roll.pool(id.as_str()).map(|pool| PoolRow::from(&**pool))
    }

    fn all(roll: &Roll) -> impl Iterator<Item = PoolRow> {
        roll.pools().map(|pool| PoolRow::from(&**pool))
    }

    fn count(roll: &Roll) -> usize {
        roll.pools().count()
    }

    fn id(row: &PoolRow) -> &str {
        &row.id
    }
}

/// A page of pools in the order of their ids.
pub fn list(after: Option<String>, limit: usize) -> Question {
    let limit = rows_asked_for(limit);
    let statement = include_str!("../../projections/pools/read/list.sql");
    Question::new(&PROJECTION, statement, vec![Box::new(after), Box::new(signed(limit))])
}
