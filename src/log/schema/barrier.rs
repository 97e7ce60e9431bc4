//! Barriers on disk: up to which position all nodes had applied the log.
//!
//! 2026-11-22: `barrier.passed`, schema 1.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::Event;
use crate::log::entry::EntryError;
use crate::log::text::{Text, read_count, written_count};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PassedV1<'a> {
    #[serde(borrow)]
    confirmed: Vec<Text<'a>>,
    through: u64,
    #[serde(borrow)]
    waited_out: Vec<Text<'a>>,
}

impl<'a> PassedV1<'a> {
    pub(super) fn new(through: u64, confirmed: &'a [Arc<str>], waited_out: &'a [Arc<str>]) -> Result<Self, EntryError> {
        let texts = |names: &'a [Arc<str>]| names.iter().map(|name| Text::borrowed(name)).collect();
        Ok(Self {
            confirmed: texts(confirmed),
            through: written_count(through, "through")?,
            waited_out: texts(waited_out),
        })
    }

    pub(super) fn passed(&self) -> Result<Event, EntryError> {
        let names = |texts: &[Text<'_>]| texts.iter().map(Text::to_shared).collect();
        Ok(Event::BarrierPassed {
            through: read_count(self.through, "through")?,
            confirmed: names(&self.confirmed),
            waited_out: names(&self.waited_out),
        })
    }
}

impl<'a> Frozen<'a> for PassedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("log", "barrier")
    }
}
