//! Restores on disk: from which backup, and what was brought back after it.
//!
//! 2026-11-22: `log.restored`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::{Event, GivenUp, LogRestored};
use crate::log::entry::EntryError;
use crate::log::text::{Text, read_count, written_count};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoredV1<'a> {
    backup: u64,
    brought_back: u64,
    #[serde(borrow)]
    dump: Text<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_up: Option<GivenUpV1>,
    reductions: u64,
}

/// Without `known_to`, nobody could say how much it was.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenUpV1 {
    #[serde(skip_serializing_if = "Option::is_none")]
    known_to: Option<u64>,
}

impl RestoredV1<'static> {
    pub(super) fn new(restored: &LogRestored) -> Result<Self, EntryError> {
        let given_up = |given_up: GivenUp| {
            let known_to = given_up.known_to.map(|known_to| written_count(known_to, "given_up")).transpose()?;
            Ok(GivenUpV1 { known_to })
        };
        Ok(Self {
            backup: written_count(restored.backup, "backup")?,
            brought_back: written_count(restored.brought_back, "brought_back")?,
            dump: Text::of(&restored.dump),
            given_up: restored.given_up.map(given_up).transpose()?,
            reductions: written_count(restored.reductions, "reductions")?,
        })
    }
}

impl RestoredV1<'_> {
    pub(super) fn restored(&self) -> Result<Event, EntryError> {
        let given_up = |given_up: GivenUpV1| {
            let known_to = given_up.known_to.map(|known_to| read_count(known_to, "given_up")).transpose()?;
            Ok(GivenUp { known_to })
        };
        Ok(Event::LogRestored(LogRestored {
            backup: read_count(self.backup, "backup")?,
            dump: self.dump.parse("dump")?,
            brought_back: read_count(self.brought_back, "brought_back")?,
            reductions: read_count(self.reductions, "reductions")?,
            given_up: self.given_up.map(given_up).transpose()?,
        }))
    }
}

impl<'a> Frozen<'a> for RestoredV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("log", "restore")
    }
}
