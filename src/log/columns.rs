//! The columns that stand beside an entry for search, compared with what the entry says.
//!
//! Whoever can write to the database can write those too, and a search by a wrong column misses what it should find. The
//! entry is what is sealed, so it is right where they differ. At start this is done for every event of the log, so it makes
//! no text to compare with: what is an id in the entry is read as one from the column.

use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use super::entry::pool;
use super::schema;
use super::time::timestamp;
use crate::domain::actor::Actor;
use crate::domain::event::Recorded;
use crate::domain::ids::{IncidentId, PoolId};
use crate::domain::time::Timestamp;

/// What a row says.
pub(super) struct Copied<'a> {
    recorded_at: Timestamp,
    kind: &'a str,
    schema: i32,
    subject_kind: &'a str,
    subject_id: &'a str,
    pool: Option<&'a str>,
    actor: &'a str,
    incident: Option<&'a str>,
    command_id: Uuid,
}

impl<'a> Copied<'a> {
    /// They stand in this order in every statement; `first` is the place of the first. By place, since finding a column by
    /// its name takes longer than comparing it.
    ///
    /// The database can hold what no entry says, such as the time `infinity`: then the column that does is the error.
    pub(super) fn of(row: &impl Cells<'a>, first: usize) -> Result<Self, &'static str> {
        Ok(Self {
            recorded_at: timestamp(row.cell::<DateTime<Utc>>(first, "recorded_at")?),
            kind: row.cell(first + 1, "kind")?,
            schema: row.cell(first + 2, "schema")?,
            subject_kind: row.cell(first + 3, "subject_kind")?,
            subject_id: row.cell(first + 4, "subject_id")?,
            pool: row.cell(first + 5, "pool")?,
            actor: row.cell(first + 6, "actor")?,
            incident: row.cell(first + 7, "incident")?,
            command_id: row.cell(first + 8, "command_id")?,
        })
    }

    /// The first column that is not what the entry says.
    pub(super) fn differing(&self, recorded: &Recorded) -> Option<&'static str> {
        let (kind, schema) = schema::kind(&recorded.event);
        let (subject_kind, subject_id) = recorded.event.about();
        let agree = [
            ("recorded_at", self.recorded_at == recorded.recorded_at),
            ("kind", self.kind == kind),
            ("schema", u32::try_from(self.schema) == Ok(schema)),
            ("subject_kind", self.subject_kind == subject_kind),
            ("subject_id", subject_id.is(self.subject_id)),
            ("pool", self.pool == pool(&recorded.event).map(PoolId::as_str)),
            ("actor", is_actor(self.actor, &recorded.author.actor)),
            ("incident", self.incident == recorded.incident.as_ref().map(IncidentId::as_str)),
            ("command_id", self.command_id.as_u128() == recorded.command.0),
        ];
        agree.into_iter().find(|(_, agrees)| !agrees).map(|(column, _)| column)
    }
}

/// A row, however it came.
pub(super) trait Cells<'a> {
    /// The value at `place`; where there is none that can be read, the column's name.
    fn cell<T: FromSql<'a>>(&self, place: usize, name: &'static str) -> Result<T, &'static str>;
}

impl<'a> Cells<'a> for &'a Row {
    fn cell<T: FromSql<'a>>(&self, place: usize, name: &'static str) -> Result<T, &'static str> {
        self.try_get(place).map_err(|_| name)
    }
}

/// The value of the column of this name, where no more rows are read than anyone asks for; where none can be read, the name.
pub(super) fn named_column<'a, T: FromSql<'a>>(row: &'a Row, name: &'static str) -> Result<T, &'static str> {
    row.try_get(name).map_err(|_| name)
}

/// Ids have one spelling, so whatever reads as this one is written like it.
fn is_actor(text: &str, actor: &Actor) -> bool {
    match actor {
        Actor::Operator(id) => text.strip_prefix("operator:").is_some_and(|text| text.parse() == Ok(*id)),
        Actor::Worker(id) => text.strip_prefix("worker:").is_some_and(|text| text == id.as_str()),
        Actor::Enrollee(id) => text.strip_prefix("enrollee:").is_some_and(|text| text.parse() == Ok(*id)),
        Actor::System => text == "system",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::log::entry::{Columns, columns, decode};

    /// An event of every kind in every schema.
    fn golden() -> Vec<Recorded> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/events");
        let files = fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
        files.map(|entry| decode(&entry).unwrap()).collect()
    }

    fn copied<'a>(written: &'a Columns<'a>) -> Copied<'a> {
        Copied {
            recorded_at: written.recorded_at,
            kind: written.kind,
            schema: i32::try_from(written.schema).unwrap(),
            subject_kind: written.subject_kind,
            subject_id: &written.subject_id,
            pool: written.pool.map(PoolId::as_str),
            actor: &written.actor,
            incident: written.incident,
            command_id: written.command_id,
        }
    }

    #[test]
    fn what_is_written_agrees_and_every_change_of_it_differs() {
        let later = Timestamp(1);
        for recorded in golden() {
            let written = columns(&recorded);
            let same = || copied(&written);
            assert_eq!(same().differing(&recorded), None, "{written:?}");
            let other_subject = format!("{}x", written.subject_id);
            let other_actor = format!("{}x", written.actor);
            let table = [
                (Copied { recorded_at: later, ..same() }, "recorded_at"),
                (Copied { kind: "worker.deleted", ..same() }, "kind"),
                (Copied { schema: -1, ..same() }, "schema"),
                (Copied { subject_kind: "gate", ..same() }, "subject_kind"),
                (Copied { subject_id: &other_subject, ..same() }, "subject_id"),
                (Copied { pool: Some("other"), ..same() }, "pool"),
                (Copied { actor: &other_actor, ..same() }, "actor"),
                (Copied { actor: "operator:", ..same() }, "actor"),
                (Copied { incident: Some("INC-0"), ..same() }, "incident"),
                (Copied { command_id: Uuid::nil(), ..same() }, "command_id"),
            ];
            for (changed, column) in table {
                assert_eq!(changed.differing(&recorded), Some(column), "{written:?}");
            }
        }
    }
}
