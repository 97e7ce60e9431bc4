//! Events of fences on disk.
//!
//! 2026-11-22: `fence.raised`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::Event;
use crate::domain::fence::FenceScope;
use crate::log::entry::EntryError;
use crate::log::text::{Text, read_count, written_count};

/// `up_to` is the newest position that is refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RaisedV1<'a> {
    #[serde(borrow)]
    scope: ScopeV1<'a>,
    up_to: u64,
}

/// Without an id, everything.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeV1<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    kind: Text<'a>,
}

impl<'a> RaisedV1<'a> {
    pub(super) fn new(scope: &'a FenceScope, up_to: u64) -> Result<Self, EntryError> {
        let (kind, id) = match scope {
            FenceScope::Everything => ("everything", None),
            FenceScope::Pool(id) => ("pool", Some(Text::borrowed(id.as_str()))),
            FenceScope::Lineage(id) => ("enrollment_secret", Some(Text::of(id))),
            FenceScope::Worker(id) => ("worker", Some(Text::borrowed(id.as_str()))),
        };
        Ok(Self { scope: ScopeV1 { id, kind: Text::borrowed(kind) }, up_to: written_count(up_to, "up_to")? })
    }

    pub(super) fn raised(&self) -> Result<Event, EntryError> {
        let scope = match (self.scope.kind.as_str(), &self.scope.id) {
            ("everything", None) => FenceScope::Everything,
            ("pool", Some(id)) => FenceScope::Pool(id.parse("scope")?),
            ("enrollment_secret", Some(id)) => FenceScope::Lineage(id.parse("scope")?),
            ("worker", Some(id)) => FenceScope::Worker(id.parse("scope")?),
            _ => return Err(EntryError::Malformed { field: "scope" }),
        };
        Ok(Event::FenceRaised { scope, up_to: read_count(self.up_to, "up_to")? })
    }
}

impl<'a> Frozen<'a> for RaisedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        let kind = match self.scope.kind.as_str() {
            "pool" => "pool",
            "enrollment_secret" => "enrollment_secret",
            "worker" => "worker",
            _ => "log",
        };
        (kind, self.scope.id.as_ref().map_or("everything", Text::as_str))
    }
}
