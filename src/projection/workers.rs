//! The projection `workers`: every worker there ever was.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model::{Model, is_shared};
use super::read::{Question, rows_asked_for};
use super::touched::Touched;
use super::value::{self, Moment, signed, text};
use super::{Projection, Table, floors};
use crate::domain::ids::{PoolId, WorkerId};
use crate::domain::key::KeyState;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{Standing, Worker, WorkerState};

pub const PROJECTION: Projection = Projection {
    name: "workers",
    version: 1,
    tables: &[
        Table::of::<Workers>(
            "worker",
            "id",
            include_str!("../../projections/workers/tables.sql"),
            include_str!("../../projections/workers/upsert.sql"),
        ),
        floors::TABLE,
    ],
    indexes: include_str!("../../projections/workers/indexes.sql"),
    view: "select * from worker",
};

/// How far workers of one name are counted. A whole fleet can be called `runner`, and a page of it would count it a
/// thousand times.
pub const SHARERS_COUNTED_MAX: usize = 1_000;

struct Workers;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerRow {
    pub id: String,
    pub pool: String,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub state: Decided,
    pub isolated_until: Option<Moment>,
    pub expires_at: Option<Moment>,
    pub member: bool,
    pub created_at: Moment,
    pub created: u64,
    pub enrolled_by: Option<String>,
    /// Of each key that nobody has ended: the position at which it was issued.
    pub keys_issued: Vec<u64>,
    /// And when it ends by itself.
    pub keys_end_at: Vec<Option<Moment>>,
    /// Whether another worker has one of its keys, or the value of one of its static secrets.
    pub shared_keys: bool,
}

/// What was decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decided {
    Pending,
    Active,
    Isolated,
    Rejected,
    Removed,
}

/// A row of a list, with what is counted when it is read.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedWorker {
    #[serde(flatten)]
    pub row: WorkerRow,
    /// What was issued to it at a lower position is refused by a fence.
    pub refused_below: u64,
    /// Members of the fleet with its name, counted up to [`SHARERS_COUNTED_MAX`].
    pub name_shared_by: usize,
}

/// Which workers; all that is given has to fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub after: Option<String>,
    pub pool: Option<PoolId>,
    pub labels: BTreeMap<String, String>,
    /// The whole name; of those who left the fleet only together with `state`.
    pub name: Option<String>,
    pub state: Option<Standing>,
}

impl WorkerRow {
    pub fn of(roll: &Roll, worker: &Worker) -> Self {
        let (state, isolated_until) = match worker.state {
            WorkerState::Pending => (Decided::Pending, None),
            WorkerState::Active => (Decided::Active, None),
            WorkerState::Isolated { until } => (Decided::Isolated, until),
            WorkerState::Rejected => (Decided::Rejected, None),
            WorkerState::Removed => (Decided::Removed, None),
        };
        let labels = worker.labels.iter().flat_map(|labels| labels.iter());
        let keys = || worker.keys.iter().filter_map(|id| roll.key(*id));
        let going = keys().filter(|key| match key.state {
            KeyState::Live | KeyState::Superseded { .. } => true,
            KeyState::Revoked | KeyState::Fenced => false,
        });
        let (keys_issued, keys_end_at) = going.map(|key| (key.issued, key.ends_at().map(Moment))).unzip();
        Self {
            id: worker.id.to_string(),
            pool: worker.pool.to_string(),
            name: worker.name.as_deref().map(text),
            labels: labels.map(|(name, value)| (text(name), text(value))).collect(),
            state,
            isolated_until: isolated_until.map(Moment),
            expires_at: worker.expires_at.map(Moment),
            member: worker.is_member(),
            created_at: Moment(worker.created_at),
            created: worker.created,
            enrolled_by: worker.enrolled_by.map(|secret| secret.to_string()),
            keys_issued,
            keys_end_at,
            shared_keys: keys().any(|key| is_shared(roll, key)),
        }
    }

    pub fn standing(&self, now: Timestamp) -> Standing {
        let state = match self.state {
            Decided::Pending => WorkerState::Pending,
            Decided::Active => WorkerState::Active,
            Decided::Isolated => WorkerState::Isolated { until: self.isolated_until.map(|at| at.0) },
            Decided::Rejected => WorkerState::Rejected,
            Decided::Removed => WorkerState::Removed,
        };
        state.standing(self.expires_at.map(|at| at.0), now)
    }
}

impl ListedWorker {
    /// As the Roll has it.
    pub fn of(roll: &Roll, worker: &Worker) -> Self {
        let named = worker.name.as_deref().into_iter().flat_map(|name| roll.workers_named(name));
        Self {
            row: WorkerRow::of(roll, worker),
            refused_below: roll.floor_of(worker).first_good(),
            name_shared_by: named.take(SHARERS_COUNTED_MAX).count(),
        }
    }

    /// How many of its keys work at `now`.
    pub fn good_keys(&self, now: Timestamp) -> usize {
        let keys = self.row.keys_issued.iter().zip(&self.row.keys_end_at);
        keys.filter(|(issued, ends)| **issued >= self.refused_below && ends.is_none_or(|at| at.0 > now)).count()
    }
}

impl Model for Workers {
    type Id = WorkerId;
    type Row = WorkerRow;

    fn touched(touched: &Touched) -> &BTreeSet<WorkerId> {
        &touched.workers
    }

    fn row(roll: &Roll, id: &WorkerId) -> Option<WorkerRow> {
        roll.worker(id.as_str()).map(|worker| WorkerRow::of(roll, worker))
    }

    fn all(roll: &Roll) -> impl Iterator<Item = WorkerRow> {
        roll.workers_after(None).map(|worker| WorkerRow::of(roll, worker))
    }

    fn count(roll: &Roll) -> usize {
        roll.worker_count()
    }

    fn id(row: &WorkerRow) -> &str {
        &row.id
    }
}

/// A page of workers in the order of their ids.
pub fn list(filter: &Filter, now: Timestamp, limit: usize) -> Question {
    let labels = (!filter.labels.is_empty()).then(|| serde_json::json!(filter.labels).to_string());
    let limit = rows_asked_for(limit);
    Question::new(
        &PROJECTION,
        include_str!("../../projections/workers/read/list.sql"),
        vec![
            Box::new(filter.after.clone()),
            Box::new(filter.pool.as_ref().map(ToString::to_string)),
            Box::new(labels),
            Box::new(filter.name.clone()),
            Box::new(filter.state.map(Standing::as_str)),
            Box::new(filter.state.map(decided_before)),
            Box::new(value::parameter(now)),
            Box::new(signed(limit)),
            Box::new(signed(SHARERS_COUNTED_MAX as u64)),
        ],
    )
}

/// What can have been decided about a worker that stands so: what an index finds.
fn decided_before(standing: Standing) -> Vec<&'static str> {
    match standing {
        Standing::Pending => vec!["pending"],
        Standing::Active => vec!["active", "isolated"],
        Standing::Isolated => vec!["isolated"],
        Standing::Rejected => vec!["rejected"],
        Standing::Removed => vec!["removed"],
        Standing::Expired => vec!["pending", "active", "isolated"],
    }
}
