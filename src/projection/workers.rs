//! The projection `workers`: every worker there ever was.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model::{Model, is_shared, workers_by_key};
use super::read::{Question, rows_asked_for};
use super::value::{self, Moment, signed, text};
use super::{Projection, Sql};
use crate::domain::event::Event;
use crate::domain::ids::{PoolId, WorkerId};
use crate::domain::key::KeyState;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{Standing, Worker, WorkerState};

pub const PROJECTION: Projection = Projection::of::<Workers>(
    "workers",
    1,
    "worker",
    Sql {
        tables: include_str!("../../projections/workers/tables.sql"),
        indexes: include_str!("../../projections/workers/indexes.sql"),
        upsert: include_str!("../../projections/workers/upsert.sql"),
    },
);

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
    /// Of each key that is not revoked: when it ends by itself.
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
        let not_revoked = keys().filter(|key| key.state != KeyState::Revoked);
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
            keys_end_at: not_revoked.map(|key| key.ends_at().map(Moment)).collect(),
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

    /// How many of its keys work at `now`.
    pub fn good_keys(&self, now: Timestamp) -> usize {
        self.keys_end_at.iter().filter(|ends| ends.is_none_or(|at| at.0 > now)).count()
    }
}

impl Model for Workers {
    type Id = WorkerId;
    type Row = WorkerRow;

    fn touched(roll: &Roll, event: &Event, ids: &mut BTreeSet<WorkerId>) {
        match event {
            Event::WorkerCreated(created) => {
                ids.insert(created.worker.clone());
            }
            Event::WorkerUpdated { worker, .. }
            | Event::WorkerApproved { worker }
            | Event::WorkerRejected { worker }
            | Event::WorkerIsolated { worker, .. }
            | Event::WorkerReleased { worker }
            | Event::WorkerRemoved { worker } => {
                ids.insert(worker.clone());
            }
            _ => ids.extend(workers_by_key(roll, event)),
        }
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
