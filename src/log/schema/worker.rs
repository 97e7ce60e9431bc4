//! Worker events on disk.
//!
//! 2026-11-22: `worker.created`, `.updated`, `.approved`, `.rejected`, `.isolated`, `.released` and `.removed`, schema 1.

mod labels;

use serde::{Deserialize, Serialize};

use self::labels::LabelsV1;
use super::Frozen;
use crate::domain::event::{Event, WorkerCreated};
use crate::domain::ids::WorkerId;
use crate::domain::time::Timestamp;
use crate::domain::worker::Labels;
use crate::log::entry::EntryError;
use crate::log::text::{Text, optional};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreatedV1<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    enrolled_by: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Text<'a>>,
    #[serde(borrow)]
    labels: LabelsV1<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<Text<'a>>,
    pending: bool,
    #[serde(borrow)]
    pool: Text<'a>,
    #[serde(borrow)]
    worker: Text<'a>,
}

/// The whole of what can be updated: what is absent is none from now on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdatedV1<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Text<'a>>,
    #[serde(borrow)]
    labels: LabelsV1<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    worker: Text<'a>,
}

/// Without `until`: until released.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IsolatedV1<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    until: Option<Text<'a>>,
    #[serde(borrow)]
    worker: Text<'a>,
}

/// The kind says it all.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedV1<'a> {
    #[serde(borrow)]
    worker: Text<'a>,
}

impl<'a> CreatedV1<'a> {
    pub(super) fn new(created: &'a WorkerCreated) -> Result<Self, EntryError> {
        Ok(Self {
            enrolled_by: created.enrolled_by.as_ref().map(Text::of),
            expires_at: Text::time_if(created.expires_at, "expires_at")?,
            labels: LabelsV1::new(&created.labels),
            name: created.name.as_deref().map(Text::borrowed),
            pending: created.pending,
            pool: Text::borrowed(created.pool.as_str()),
            worker: Text::borrowed(created.worker.as_str()),
        })
    }

    pub(super) fn created(&self) -> Result<Event, EntryError> {
        Ok(Event::WorkerCreated(WorkerCreated {
            worker: self.worker.parse("worker")?,
            pool: self.pool.parse("pool")?,
            name: self.name.as_ref().map(Text::to_shared),
            labels: self.labels.read(),
            expires_at: optional(self.expires_at.as_ref(), |at| at.parse_time("expires_at"))?,
            pending: self.pending,
            enrolled_by: optional(self.enrolled_by.as_ref(), |secret| secret.parse("enrolled_by"))?,
        }))
    }
}

impl<'a> UpdatedV1<'a> {
    pub(super) fn new(
        worker: &'a WorkerId,
        name: Option<&'a str>,
        labels: &'a Labels,
        expires_at: Option<Timestamp>,
    ) -> Result<Self, EntryError> {
        Ok(Self {
            expires_at: Text::time_if(expires_at, "expires_at")?,
            labels: LabelsV1::new(labels),
            name: name.map(Text::borrowed),
            worker: Text::borrowed(worker.as_str()),
        })
    }

    pub(super) fn updated(&self) -> Result<Event, EntryError> {
        Ok(Event::WorkerUpdated {
            worker: self.worker.parse("worker")?,
            name: self.name.as_ref().map(Text::to_shared),
            labels: self.labels.read(),
            expires_at: optional(self.expires_at.as_ref(), |at| at.parse_time("expires_at"))?,
        })
    }
}

impl<'a> IsolatedV1<'a> {
    pub(super) fn new(worker: &'a WorkerId, until: Option<Timestamp>) -> Result<Self, EntryError> {
        Ok(Self { until: Text::time_if(until, "until")?, worker: Text::borrowed(worker.as_str()) })
    }

    pub(super) fn isolated(&self) -> Result<Event, EntryError> {
        Ok(Event::WorkerIsolated {
            worker: self.worker.parse("worker")?,
            until: optional(self.until.as_ref(), |until| until.parse_time("until"))?,
        })
    }
}

impl<'a> NamedV1<'a> {
    pub(super) fn new(worker: &'a WorkerId) -> Self {
        Self { worker: Text::borrowed(worker.as_str()) }
    }

    pub(super) fn approved(&self) -> Result<Event, EntryError> {
        Ok(Event::WorkerApproved { worker: self.worker.parse("worker")? })
    }

    pub(super) fn rejected(&self) -> Result<Event, EntryError> {
        Ok(Event::WorkerRejected { worker: self.worker.parse("worker")? })
    }

    pub(super) fn released(&self) -> Result<Event, EntryError> {
        Ok(Event::WorkerReleased { worker: self.worker.parse("worker")? })
    }

    pub(super) fn removed(&self) -> Result<Event, EntryError> {
        Ok(Event::WorkerRemoved { worker: self.worker.parse("worker")? })
    }
}

impl<'a> Frozen<'a> for CreatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("worker", self.worker.as_str())
    }
}

impl<'a> Frozen<'a> for UpdatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("worker", self.worker.as_str())
    }
}

impl<'a> Frozen<'a> for IsolatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("worker", self.worker.as_str())
    }
}

impl<'a> Frozen<'a> for NamedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("worker", self.worker.as_str())
    }
}
