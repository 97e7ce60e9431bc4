//! Pool events on disk.
//!
//! 2026-11-22: `pool.created`, `pool.updated` and `pool.removed`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::Event;
use crate::domain::ids::PoolId;
use crate::domain::pool::{PoolSettings, TokenRecord};
use crate::domain::time::Seconds;
use crate::log::entry::EntryError;
use crate::log::text::Text;

/// All of a pool's settings, as they are from now on. `token_ttl` is in seconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SettledV1<'a> {
    #[serde(borrow)]
    audience: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
    #[serde(borrow)]
    pool: Text<'a>,
    #[serde(borrow)]
    scopes: Vec<Text<'a>>,
    sharing: bool,
    #[serde(borrow)]
    token_record: Text<'a>,
    token_ttl: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemovedV1<'a> {
    #[serde(borrow)]
    pool: Text<'a>,
}

impl<'a> SettledV1<'a> {
    pub(super) fn new(pool: &'a PoolId, settings: &'a PoolSettings) -> Self {
        Self {
            audience: Text::borrowed(&settings.audience),
            description: Text::borrowed(&settings.description),
            pool: Text::borrowed(pool.as_str()),
            scopes: settings.scopes.iter().map(|scope| Text::borrowed(scope)).collect(),
            sharing: settings.sharing,
            token_record: Text::borrowed(match settings.token_record {
                TokenRecord::Each => "each",
                TokenRecord::Counted => "counted",
            }),
            token_ttl: settings.token_ttl.0,
        }
    }

    pub(super) fn created(&self) -> Result<Event, EntryError> {
        Ok(Event::PoolCreated { pool: self.pool.parse("pool")?, settings: self.settings()? })
    }

    pub(super) fn updated(&self) -> Result<Event, EntryError> {
        Ok(Event::PoolUpdated { pool: self.pool.parse("pool")?, settings: self.settings()? })
    }

    fn settings(&self) -> Result<PoolSettings, EntryError> {
        Ok(PoolSettings {
            description: self.description.to_shared(),
            token_ttl: Seconds(self.token_ttl),
            token_record: match self.token_record.as_str() {
                "each" => TokenRecord::Each,
                "counted" => TokenRecord::Counted,
                _ => return Err(EntryError::Malformed { field: "token_record" }),
            },
            audience: self.audience.to_shared(),
            scopes: self.scopes.iter().map(Text::to_shared).collect(),
            sharing: self.sharing,
        })
    }
}

impl<'a> RemovedV1<'a> {
    pub(super) fn new(pool: &'a PoolId) -> Self {
        Self { pool: Text::borrowed(pool.as_str()) }
    }

    pub(super) fn removed(&self) -> Result<Event, EntryError> {
        Ok(Event::PoolRemoved { pool: self.pool.parse("pool")? })
    }
}

impl<'a> Frozen<'a> for SettledV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("pool", self.pool.as_str())
    }
}

impl<'a> Frozen<'a> for RemovedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("pool", self.pool.as_str())
    }
}
