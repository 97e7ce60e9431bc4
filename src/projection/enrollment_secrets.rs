//! The projection `enrollment_secrets`: every enrollment secret there ever was, but for the secret.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::model::Model;
use super::read::{Question, rows_asked_for};
use super::touched::Touched;
use super::value::{Moment, signed, text};
use super::{Projection, Table};
use crate::domain::enrollment::{EnrollmentSecret, EnrollmentStanding, EnrollmentState, NamePattern};
use crate::domain::ids::EnrollmentSecretId;
use crate::domain::roll::Roll;
use crate::domain::time::Timestamp;

pub const PROJECTION: Projection = Projection {
    name: "enrollment_secrets",
    version: 1,
    tables: &[Table::of::<EnrollmentSecrets>(
        "enrollment_secret",
        "id",
        include_str!("../../projections/enrollment_secrets/tables.sql"),
        include_str!("../../projections/enrollment_secrets/upsert.sql"),
    )],
    indexes: "",
    view: "select * from enrollment_secret",
};

struct EnrollmentSecrets;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnrollmentSecretRow {
    pub id: String,
    pub pool: String,
    pub state: Decided,
    /// For a superseded one: until when it still lets in.
    pub overlap_until: Option<Moment>,
    pub cidrs: Vec<String>,
    pub name_pattern: Option<String>,
    pub uses_max: Option<u64>,
    pub uses: u64,
    pub pending: u64,
    pub expires_at: Option<Moment>,
    pub approval: bool,
    pub created_at: Moment,
    pub issued: u64,
    /// By all fences over it: it is refused if it was issued at a lower position.
    pub refused_below: u64,
    pub parent: Option<String>,
}

/// What was decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decided {
    Live,
    Superseded,
    Disabled,
}

impl From<&EnrollmentSecret> for EnrollmentSecretRow {
    fn from(secret: &EnrollmentSecret) -> Self {
        let limits = &secret.limits;
        let (state, overlap_until) = match secret.state {
            EnrollmentState::Live => (Decided::Live, None),
            EnrollmentState::Superseded { until } => (Decided::Superseded, Some(until)),
            EnrollmentState::Disabled => (Decided::Disabled, None),
        };
        Self {
            id: secret.id.to_string(),
            pool: secret.pool.to_string(),
            state,
            overlap_until: overlap_until.map(Moment),
            cidrs: limits.cidrs.iter().map(ToString::to_string).collect(),
            name_pattern: limits.name_pattern.as_ref().map(NamePattern::as_str).map(text),
            uses_max: limits.uses_max,
            uses: secret.uses,
            pending: secret.pending,
            expires_at: limits.expires_at.map(Moment),
            approval: limits.approval,
            created_at: Moment(secret.created_at),
            issued: secret.issued,
            refused_below: secret.fence.first_good(),
            parent: secret.parent.map(|parent| parent.to_string()),
        }
    }
}

impl EnrollmentSecretRow {
    pub fn standing(&self, now: Timestamp) -> EnrollmentStanding {
        let state = match (self.state, self.overlap_until) {
            (Decided::Superseded, Some(Moment(until))) => EnrollmentState::Superseded { until },
            (Decided::Live | Decided::Superseded, _) => EnrollmentState::Live,
            (Decided::Disabled, _) => EnrollmentState::Disabled,
        };
        state.standing(self.expires_at.map(|at| at.0), self.issued < self.refused_below, now)
    }
}

impl Model for EnrollmentSecrets {
    type Id = EnrollmentSecretId;
    type Row = EnrollmentSecretRow;

    fn touched(touched: &Touched) -> &BTreeSet<EnrollmentSecretId> {
        &touched.enrollment_secrets
    }

    fn row(roll: &Roll, id: &EnrollmentSecretId) -> Option<EnrollmentSecretRow> {
        roll.enrollment_secret(*id).map(|secret| EnrollmentSecretRow::from(&**secret))
    }

    fn all(roll: &Roll) -> impl Iterator<Item = EnrollmentSecretRow> {
        roll.enrollment_secrets().map(|secret| EnrollmentSecretRow::from(&**secret))
    }

    fn count(roll: &Roll) -> usize {
        roll.enrollment_secrets().count()
    }

    fn id(row: &EnrollmentSecretRow) -> &str {
        &row.id
    }
}

/// A page of enrollment secrets in the order of their ids.
pub fn list(after: Option<EnrollmentSecretId>, limit: usize) -> Question {
    let after = after.map(|id| id.to_string());
    let limit = rows_asked_for(limit);
    let statement = include_str!("../../projections/enrollment_secrets/read/list.sql");
    Question::new(&PROJECTION, statement, vec![Box::new(after), Box::new(signed(limit))])
}
