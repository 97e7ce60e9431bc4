//! Events of signing keys on disk. The sealed private key is base64url (RFC 4648, section 5) without padding.
//!
//! 2026-11-22: `signing_keys.installed` and `signing_keys.rotated`, schema 1.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Frozen;
use crate::domain::event::Event;
use crate::domain::signing_key::{NewSigningKey, SigningAlgorithm};
use crate::domain::time::Timestamp;
use crate::log::entry::EntryError;
use crate::log::text::Text;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstalledV1<'a> {
    #[serde(borrow)]
    active: SigningKeyV1<'a>,
    #[serde(borrow)]
    next: SigningKeyV1<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotatedV1<'a> {
    #[serde(borrow)]
    next: SigningKeyV1<'a>,
    #[serde(borrow)]
    retired_verifies_until: Text<'a>,
}

/// The public JWK is kept as text: an entry has to hold the very bytes that were published.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SigningKeyV1<'a> {
    #[serde(borrow)]
    algorithm: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    public_jwk: Text<'a>,
    #[serde(borrow)]
    sealed: Text<'a>,
}

impl<'a> InstalledV1<'a> {
    pub(super) fn new(active: &'a NewSigningKey, next: &'a NewSigningKey) -> Self {
        Self { active: SigningKeyV1::new(active), next: SigningKeyV1::new(next) }
    }

    pub(super) fn installed(&self) -> Result<Event, EntryError> {
        Ok(Event::SigningKeysInstalled { active: self.active.read()?, next: self.next.read()? })
    }
}

impl<'a> RotatedV1<'a> {
    pub(super) fn new(next: &'a NewSigningKey, retired_verifies_until: Timestamp) -> Result<Self, EntryError> {
        Ok(Self {
            next: SigningKeyV1::new(next),
            retired_verifies_until: Text::time(retired_verifies_until, "retired_verifies_until")?,
        })
    }

    pub(super) fn rotated(&self) -> Result<Event, EntryError> {
        Ok(Event::SigningKeysRotated {
            next: self.next.read()?,
            retired_verifies_until: self.retired_verifies_until.parse_time("retired_verifies_until")?,
        })
    }
}

impl<'a> SigningKeyV1<'a> {
    fn new(key: &'a NewSigningKey) -> Self {
        Self {
            algorithm: Text::borrowed(match key.algorithm {
                SigningAlgorithm::EdDsa => "EdDSA",
                SigningAlgorithm::Rs256 => "RS256",
                SigningAlgorithm::Es256 => "ES256",
            }),
            id: Text::of(&key.id),
            public_jwk: Text::borrowed(&key.public_jwk),
            sealed: Text::of(&BASE64_URL_SAFE_NO_PAD.encode(&key.sealed)),
        }
    }

    fn read(&self) -> Result<NewSigningKey, EntryError> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(self.sealed.as_str());
        Ok(NewSigningKey {
            id: self.id.parse("id")?,
            algorithm: match self.algorithm.as_str() {
                "EdDSA" => SigningAlgorithm::EdDsa,
                "RS256" => SigningAlgorithm::Rs256,
                "ES256" => SigningAlgorithm::Es256,
                _ => return Err(EntryError::Malformed { field: "algorithm" }),
            },
            public_jwk: self.public_jwk.to_shared(),
            sealed: sealed.map_err(|_| EntryError::Malformed { field: "sealed" })?.into(),
        })
    }
}

impl<'a> Frozen<'a> for InstalledV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("signing_key", self.active.id.as_str())
    }
}

impl<'a> Frozen<'a> for RotatedV1<'a> {
    fn subject(&self) -> (&'static str, &str) {
        ("signing_key", self.next.id.as_str())
    }
}
