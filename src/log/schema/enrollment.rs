//! Events of enrollment secrets on disk. A verifier is 64 hexadecimal digits.
//!
//! 2026-11-22: `enrollment_secret.created`, `.rotated` and `.disabled`, schema 1.

use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::enrollment::{Limits, NamePattern};
use crate::domain::event::Event;
use crate::domain::ids::{EnrollmentSecretId, PoolId};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::log::entry::EntryError;
use crate::log::text::{Text, optional, read_count, written_count};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreatedV1<'a> {
    #[serde(borrow)]
    limits: LimitsV1<'a>,
    #[serde(borrow)]
    pool: Text<'a>,
    #[serde(borrow)]
    secret: Text<'a>,
    #[serde(borrow)]
    verifier: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsV1<'a> {
    approval: bool,
    #[serde(borrow)]
    cidrs: Vec<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Text<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    name_pattern: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uses_max: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotatedV1<'a> {
    #[serde(borrow)]
    overlap_until: Text<'a>,
    #[serde(borrow)]
    secret: Text<'a>,
    #[serde(borrow)]
    successor: Text<'a>,
    #[serde(borrow)]
    verifier: Text<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DisabledV1<'a> {
    #[serde(borrow)]
    secret: Text<'a>,
}

impl<'a> CreatedV1<'a> {
    pub(super) fn new(
        secret: EnrollmentSecretId,
        pool: &'a PoolId,
        verifier: &Digest,
        limits: &'a Limits,
    ) -> Result<Self, EntryError> {
        Ok(Self {
            limits: LimitsV1::new(limits)?,
            pool: Text::borrowed(pool.as_str()),
            secret: Text::of(&secret),
            verifier: Text::of(verifier),
        })
    }

    pub(super) fn created(&self) -> Result<Event, EntryError> {
        Ok(Event::EnrollmentSecretCreated {
            secret: self.secret.parse("secret")?,
            pool: self.pool.parse("pool")?,
            verifier: self.verifier.parse("verifier")?,
            limits: self.limits.read()?,
        })
    }
}

impl<'a> LimitsV1<'a> {
    fn new(limits: &'a Limits) -> Result<Self, EntryError> {
        Ok(Self {
            approval: limits.approval,
            cidrs: limits.cidrs.iter().map(Text::of).collect(),
            expires_at: Text::time_if(limits.expires_at, "expires_at")?,
            name_pattern: limits.name_pattern.as_ref().map(|pattern| Text::borrowed(pattern.as_str())),
            uses_max: limits.uses_max.map(|uses| written_count(uses, "uses_max")).transpose()?,
        })
    }

    fn read(&self) -> Result<Limits, EntryError> {
        let pattern = |text: &Text<'_>| {
            NamePattern::new(text.as_str()).map_err(|_| EntryError::Malformed { field: "name_pattern" })
        };
        Ok(Limits {
            cidrs: self.cidrs.iter().map(|cidr| cidr.parse_exact("cidrs")).collect::<Result<_, _>>()?,
            name_pattern: optional(self.name_pattern.as_ref(), pattern)?,
            uses_max: self.uses_max.map(|uses| read_count(uses, "uses_max")).transpose()?,
            expires_at: optional(self.expires_at.as_ref(), |at| at.parse_time("expires_at"))?,
            approval: self.approval,
        })
    }
}

impl RotatedV1<'_> {
    pub(super) fn new(
        secret: EnrollmentSecretId,
        successor: EnrollmentSecretId,
        verifier: &Digest,
        overlap_until: Timestamp,
    ) -> Result<Self, EntryError> {
        Ok(Self {
            overlap_until: Text::time(overlap_until, "overlap_until")?,
            secret: Text::of(&secret),
            successor: Text::of(&successor),
            verifier: Text::of(verifier),
        })
    }

    pub(super) fn rotated(&self) -> Result<Event, EntryError> {
        Ok(Event::EnrollmentSecretRotated {
            secret: self.secret.parse("secret")?,
            successor: self.successor.parse("successor")?,
            verifier: self.verifier.parse("verifier")?,
            overlap_until: self.overlap_until.parse_time("overlap_until")?,
        })
    }
}

impl DisabledV1<'_> {
    pub(super) fn new(secret: EnrollmentSecretId) -> Self {
        Self { secret: Text::of(&secret) }
    }

    pub(super) fn disabled(&self) -> Result<Event, EntryError> {
        Ok(Event::EnrollmentSecretDisabled { secret: self.secret.parse("secret")? })
    }
}

impl<'a> Frozen<'a> for CreatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("enrollment_secret", self.secret.as_str())
    }
}

impl<'a> Frozen<'a> for RotatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("enrollment_secret", self.secret.as_str())
    }
}

impl<'a> Frozen<'a> for DisabledV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("enrollment_secret", self.secret.as_str())
    }
}
