//! Failed authentications on disk, counted by reason, source and credential.
//!
//! 2026-11-22: `auth.failures_observed`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::{Event, FailureCount};
use crate::domain::time::Timestamp;
use crate::log::entry::EntryError;
use crate::log::text::{Text, optional, read_count, written_count};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailuresV1<'a> {
    #[serde(borrow)]
    failures: Vec<FailureV1<'a>>,
    #[serde(borrow)]
    from: Text<'a>,
    #[serde(borrow)]
    to: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureV1<'a> {
    count: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    credential: Option<Text<'a>>,
    #[serde(borrow)]
    reason: Text<'a>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    source: Option<Text<'a>>,
}

impl<'a> FailuresV1<'a> {
    pub(super) fn new(from: Timestamp, to: Timestamp, failures: &'a [FailureCount]) -> Result<Self, EntryError> {
        Ok(Self {
            failures: failures.iter().map(FailureV1::new).collect::<Result<_, _>>()?,
            from: Text::time(from, "from")?,
            to: Text::time(to, "to")?,
        })
    }

    pub(super) fn observed(&self) -> Result<Event, EntryError> {
        Ok(Event::AuthFailuresObserved {
            from: self.from.parse_time("from")?,
            to: self.to.parse_time("to")?,
            failures: self.failures.iter().map(FailureV1::read).collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> FailureV1<'a> {
    fn new(failure: &'a FailureCount) -> Result<Self, EntryError> {
        Ok(Self {
            count: written_count(failure.count, "count")?,
            credential: failure.credential.as_deref().map(Text::borrowed),
            reason: Text::borrowed(&failure.reason),
            source: failure.source.as_ref().map(Text::of),
        })
    }

    fn read(&self) -> Result<FailureCount, EntryError> {
        Ok(FailureCount {
            reason: self.reason.to_shared(),
            source: optional(self.source.as_ref(), |source| source.parse_address("source"))?,
            credential: self.credential.as_ref().map(Text::to_shared),
            count: read_count(self.count, "count")?,
        })
    }
}

impl<'a> Frozen<'a> for FailuresV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("log", "auth")
    }
}
