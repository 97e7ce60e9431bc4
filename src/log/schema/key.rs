//! Key events on disk. A verifier is 64 hexadecimal digits.
//!
//! 2026-11-22: `key.created`, `key.shared`, `key.rotated` and `key.revoked`, schema 1. Later the same day: `key.rotation_due`, schema 1.
//! 2026-11-23: `key.revoked`, schema 2: those next on the list of a plan, about which the event is. A key that is revoked for
//! itself is written in schema 1 as before.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::{Event, KeyCreated, KeyHolder, REVOKED_KEYS_MAX};
use crate::domain::ids::{KeyId, PlanId, WorkerId};
use crate::domain::key::{Digest, KeyKind};
use crate::domain::time::Timestamp;
use crate::log::entry::EntryError;
use crate::log::text::{Text, optional};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreatedV1<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Text<'a>>,
    #[serde(borrow)]
    holder: HolderV1<'a>,
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    verifier: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HolderV1<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SharedV1<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    worker: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotatedV1<'a> {
    derived: bool,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Text<'a>>,
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    overlap_until: Text<'a>,
    #[serde(borrow)]
    successor: Text<'a>,
    #[serde(borrow)]
    verifier: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokedV1<'a> {
    #[serde(borrow)]
    key: Text<'a>,
}

/// What schema 1 cannot say.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokedV2<'a> {
    /// In the order of the plan's list, at least one.
    #[serde(borrow)]
    keys: Vec<Text<'a>>,
    #[serde(borrow)]
    plan: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotationDueV1<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    until: Text<'a>,
}

impl<'a> CreatedV1<'a> {
    pub(super) fn new(created: &'a KeyCreated) -> Result<Self, EntryError> {
        Ok(Self {
            expires_at: Text::time_if(created.expires_at, "expires_at")?,
            holder: match &created.holder {
                KeyHolder::Worker(id) => HolderV1 { id: Text::borrowed(id.as_str()), kind: Text::borrowed("worker") },
                KeyHolder::Operator(id) => HolderV1 { id: Text::of(id), kind: Text::borrowed("operator") },
            },
            key: Text::of(&created.key),
            kind: Text::borrowed(match created.kind {
                KeyKind::Api => "api_key",
                KeyKind::Static => "static_secret",
            }),
            verifier: Text::of(&created.verifier),
        })
    }

    pub(super) fn created(&self) -> Result<Event, EntryError> {
        Ok(Event::KeyCreated(KeyCreated {
            key: self.key.parse("key")?,
            holder: match self.holder.kind.as_str() {
                "worker" => KeyHolder::Worker(self.holder.id.parse("holder")?),
                "operator" => KeyHolder::Operator(self.holder.id.parse("holder")?),
                _ => return Err(EntryError::Malformed { field: "holder" }),
            },
            kind: match self.kind.as_str() {
                "api_key" => KeyKind::Api,
                "static_secret" => KeyKind::Static,
                _ => return Err(EntryError::Malformed { field: "the key's kind" }),
            },
            verifier: self.verifier.parse("verifier")?,
            expires_at: optional(self.expires_at.as_ref(), |at| at.parse_time("expires_at"))?,
        }))
    }
}

impl<'a> SharedV1<'a> {
    pub(super) fn new(key: KeyId, worker: &'a WorkerId) -> Self {
        Self { key: Text::of(&key), worker: Text::borrowed(worker.as_str()) }
    }

    pub(super) fn shared(&self) -> Result<Event, EntryError> {
        Ok(Event::KeyShared { key: self.key.parse("key")?, worker: self.worker.parse("worker")? })
    }
}

impl RotatedV1<'_> {
    pub(super) fn new(
        key: KeyId,
        successor: KeyId,
        verifier: &Digest,
        expires_at: Option<Timestamp>,
        overlap_until: Timestamp,
        derived: bool,
    ) -> Result<Self, EntryError> {
        Ok(Self {
            derived,
            expires_at: Text::time_if(expires_at, "expires_at")?,
            key: Text::of(&key),
            overlap_until: Text::time(overlap_until, "overlap_until")?,
            successor: Text::of(&successor),
            verifier: Text::of(verifier),
        })
    }

    pub(super) fn rotated(&self) -> Result<Event, EntryError> {
        Ok(Event::KeyRotated {
            key: self.key.parse("key")?,
            successor: self.successor.parse("successor")?,
            verifier: self.verifier.parse("verifier")?,
            expires_at: optional(self.expires_at.as_ref(), |at| at.parse_time("expires_at"))?,
            overlap_until: self.overlap_until.parse_time("overlap_until")?,
            derived: self.derived,
        })
    }
}

impl RevokedV1<'_> {
    pub(super) fn new(key: KeyId) -> Self {
        Self { key: Text::of(&key) }
    }

    pub(super) fn revoked(&self) -> Result<Event, EntryError> {
        Ok(Event::KeyRevoked { key: self.key.parse("key")? })
    }
}

impl RevokedV2<'_> {
    pub(super) fn new(plan: PlanId, keys: &[KeyId]) -> Result<Self, EntryError> {
        if keys.is_empty() || keys.len() > REVOKED_KEYS_MAX {
            return Err(EntryError::Unwritable { field: "keys" });
        }
        Ok(Self { keys: keys.iter().map(|key| Text::of(key)).collect(), plan: Text::of(&plan) })
    }

    pub(super) fn revoked(&self) -> Result<Event, EntryError> {
        if self.keys.is_empty() || self.keys.len() > REVOKED_KEYS_MAX {
            return Err(EntryError::Malformed { field: "keys" });
        }
        let keys = self.keys.iter().map(|key| key.parse("keys")).collect::<Result<_, _>>()?;
        Ok(Event::KeysRevoked { plan: self.plan.parse("plan")?, keys })
    }
}

impl<'a> Frozen<'a> for RevokedV2<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("plan", self.plan.as_str())
    }
}

impl RotationDueV1<'_> {
    pub(super) fn new(key: KeyId, until: Timestamp) -> Result<Self, EntryError> {
        Ok(Self { key: Text::of(&key), until: Text::time(until, "until")? })
    }

    pub(super) fn due(&self) -> Result<Event, EntryError> {
        Ok(Event::KeyRotationDue { key: self.key.parse("key")?, until: self.until.parse_time("until")? })
    }
}

impl<'a> Frozen<'a> for RotationDueV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("key", self.key.as_str())
    }
}

impl<'a> Frozen<'a> for CreatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("key", self.key.as_str())
    }
}

impl<'a> Frozen<'a> for SharedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("key", self.key.as_str())
    }
}

impl<'a> Frozen<'a> for RotatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("key", self.key.as_str())
    }
}

impl<'a> Frozen<'a> for RevokedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("key", self.key.as_str())
    }
}
