//! Signing keys: what access tokens are signed with. Several at once, so that rotating them is no outage.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::SigningKeyId;
use super::time::Timestamp;

/// How tokens are signed (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    #[default]
    EdDsa,
    Rs256,
    Es256,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    pub id: SigningKeyId,
    pub algorithm: SigningAlgorithm,
    /// The public JWK (RFC 7517), as JSON text.
    pub public_jwk: Arc<str>,
    /// The private key, sealed under a key that is derived from the root key.
    pub sealed: Arc<[u8]>,
    pub state: SigningKeyState,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningKeyState {
    /// Published before it signs, so that verifiers that cache the JWKS know it in time.
    Next,
    Active,
    /// Signs no more; what it signed is good until then.
    Retired {
        verify_until: Timestamp,
    },
}

/// A fresh key, as a command carries it: everything but the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSigningKey {
    pub id: SigningKeyId,
    pub algorithm: SigningAlgorithm,
    pub public_jwk: Arc<str>,
    pub sealed: Arc<[u8]>,
}

impl SigningAlgorithm {
    pub const ALL: [SigningAlgorithm; 3] = [SigningAlgorithm::EdDsa, SigningAlgorithm::Rs256, SigningAlgorithm::Es256];

    /// The name in the JOSE registry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SigningAlgorithm::EdDsa => "EdDSA",
            SigningAlgorithm::Rs256 => "RS256",
            SigningAlgorithm::Es256 => "ES256",
        }
    }
}

impl SigningKeyState {
    /// Whether what the key signed is still good.
    #[must_use]
    pub fn verifies(self, now: Timestamp) -> bool {
        match self {
            SigningKeyState::Next | SigningKeyState::Active => true,
            SigningKeyState::Retired { verify_until } => now < verify_until,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SigningKeyState::Next => "next",
            SigningKeyState::Active => "active",
            SigningKeyState::Retired { .. } => "retired",
        }
    }
}
