//! The projection `keys`: every API key and static secret there ever was, but for their values.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::model::{Model, is_shared};
use super::read::{Question, rows_asked_for};
use super::touched::Touched;
use super::value::{self, Moment, signed};
use super::{Projection, Table, floors};
use crate::domain::ids::{KeyId, OperatorId, PoolId, WorkerId};
use crate::domain::key::{Holder, Key, KeyKind, KeyStanding, KeyState, SHARERS_MAX};
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;
use crate::domain::worker::{Worker, WorkerIndex};

pub const PROJECTION: Projection = Projection {
    name: "keys",
    version: 1,
    tables: &[
        Table::of::<Keys>(
            "key",
            "id",
            include_str!("../../projections/keys/tables.sql"),
            include_str!("../../projections/keys/upsert.sql"),
        ),
        floors::TABLE,
    ],
    indexes: include_str!("../../projections/keys/indexes.sql"),
    view: include_str!("../../projections/keys/view.sql"),
};

struct Keys;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRow {
    pub id: String,
    pub issued: u64,
    pub kind: String,
    /// The worker that it was made for.
    pub worker: Option<String>,
    /// Every worker that may present it, where it is more than one.
    pub sharers: Option<Vec<String>>,
    /// The enrollment secret that let the worker in, of which its fences come too; and those of the sharers, in their order.
    pub enrolled_by: Option<String>,
    pub sharers_by: Option<Vec<Option<String>>>,
    pub operator: Option<String>,
    pub pool: Option<String>,
    pub state: Decided,
    /// For a superseded one: until when it still works.
    pub overlap_until: Option<Moment>,
    pub expires_at: Option<Moment>,
    pub ends_at: Option<Moment>,
    pub created_at: Moment,
    pub parent: Option<String>,
    pub derived: bool,
    pub shared: bool,
}

/// What was decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decided {
    Live,
    Superseded,
    Revoked,
    /// It came of what a fence refuses, by that one's own power.
    Refused,
}

/// A row of a list, with what is no part of the log.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedKey {
    #[serde(flatten)]
    pub row: KeyRow,
    /// Whether a fence refuses it to all who have it.
    pub fenced: bool,
    pub last_used_at: Option<Moment>,
}

/// Which keys; all that is given has to fit.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those issued after this position.
    pub after: Option<u64>,
    pub worker: Option<WorkerId>,
    pub operator: Option<OperatorId>,
    pub shared: bool,
    pub pool: Option<PoolId>,
    pub kind: Option<KeyKind>,
    pub state: Option<KeyStanding>,
}

impl KeyRow {
    pub fn of(roll: &Roll, key: &Key) -> Self {
        let worker_at = |index: &WorkerIndex| roll.worker_at(*index);
        let first = key.workers().first().and_then(worker_at);
        let several = || (key.workers().len() > 1).then(|| key.workers().iter().filter_map(worker_at));
        let secret_of = |worker: &Worker| worker.enrolled_by.map(|secret| secret.to_string());
        let (state, overlap_until) = match key.state {
            KeyState::Live => (Decided::Live, None),
            KeyState::Superseded { until } => (Decided::Superseded, Some(until)),
            KeyState::Revoked => (Decided::Revoked, None),
            KeyState::Fenced => (Decided::Refused, None),
        };
        let operator = match &key.holder {
            Holder::Operator(operator) => Some(operator.to_string()),
            Holder::Worker(_) | Holder::Workers(_) => None,
        };
        Self {
            id: key.id.to_string(),
            issued: key.issued,
            kind: key.kind.as_str().to_owned(),
            worker: first.map(|worker| worker.id.to_string()),
            sharers: several().map(|all| all.map(|worker| worker.id.to_string()).collect()),
            enrolled_by: first.and_then(secret_of),
            sharers_by: several().map(|all| all.map(secret_of).collect()),
            operator,
            pool: first.map(|worker| worker.pool.to_string()),
            state,
            overlap_until: overlap_until.map(Moment),
            expires_at: key.expires_at.map(Moment),
            ends_at: key.ends_at().map(Moment),
            created_at: Moment(key.created_at),
            parent: key.parent.map(|parent| parent.to_string()),
            derived: key.derived,
            shared: is_shared(roll, key),
        }
    }

    fn standing(&self, now: Timestamp) -> KeyStanding {
        let state = match (self.state, self.overlap_until) {
            (Decided::Superseded, Some(Moment(until))) => KeyState::Superseded { until },
            (Decided::Live | Decided::Superseded, _) => KeyState::Live,
            (Decided::Revoked, _) => KeyState::Revoked,
            (Decided::Refused, _) => KeyState::Fenced,
        };
        state.standing(self.expires_at.map(|at| at.0), now)
    }
}

impl ListedKey {
    /// As the Roll has it, which does not know when it was used.
    pub fn of(roll: &Roll, key: &Key) -> Self {
        Self { row: KeyRow::of(roll, key), fenced: roll.is_fenced_for_all(key), last_used_at: None }
    }

    pub fn standing(&self, now: Timestamp) -> KeyStanding {
        self.row.standing(now).fenced_if(self.fenced)
    }
}

impl Model for Keys {
    type Id = KeyId;
    type Row = KeyRow;

    fn touched(touched: &Touched) -> &BTreeSet<KeyId> {
        &touched.keys
    }

    fn row(roll: &Roll, id: &KeyId) -> Option<KeyRow> {
        roll.key(*id).map(|key| KeyRow::of(roll, key))
    }

    fn all(roll: &Roll) -> impl Iterator<Item = KeyRow> {
        // Ids begin with the time of their making, and commands are not decided in the order in which they were made.
        let mut keys: Vec<&Key> = roll.keys_after(None).into_iter().flatten().collect();
        keys.sort_unstable_by_key(|key| key.id);
        keys.into_iter().map(|key| KeyRow::of(roll, key))
    }

    fn count(roll: &Roll) -> usize {
        roll.key_count()
    }

    fn id(row: &KeyRow) -> &str {
        &row.id
    }
}

/// A page of keys, oldest first.
pub fn list(filter: &Filter, now: Timestamp, limit: usize) -> Question {
    let limit = rows_asked_for(limit);
    Question::new(
        &PROJECTION,
        include_str!("../../projections/keys/read/list.sql"),
        vec![
            Box::new(filter.after.map(signed)),
            Box::new(filter.worker.as_ref().map(ToString::to_string)),
            Box::new(filter.operator.map(|operator| operator.to_string())),
            Box::new(filter.shared),
            Box::new(filter.pool.as_ref().map(ToString::to_string)),
            Box::new(filter.kind.map(KeyKind::as_str)),
            Box::new(filter.state.map(KeyStanding::as_str)),
            Box::new(filter.state.map(decided_before)),
            Box::new(value::parameter(now)),
            Box::new(signed(limit)),
            Box::new(signed(SHARERS_MAX as u64)),
        ],
    )
}

/// What can have been decided about a key that stands so: what an index finds.
fn decided_before(standing: KeyStanding) -> Vec<&'static str> {
    match standing {
        KeyStanding::Live => vec!["live"],
        KeyStanding::Overlapping => vec!["superseded"],
        KeyStanding::Expired | KeyStanding::Fenced => vec!["live", "superseded", "refused"],
        KeyStanding::Revoked => vec!["revoked"],
    }
}
