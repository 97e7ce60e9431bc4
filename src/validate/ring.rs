//! The signing keys at hand: unsealed once for each change of them, not for each token.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::credential::root_key::DerivedKeys;
use crate::credential::signing_key::{Jwk, Signer, VerifyingKey};
use crate::domain::ids::SigningKeyId;
use crate::domain::roll::Roll;
use crate::domain::signing_key::{SigningKey, SigningKeyState};
use crate::domain::time::Timestamp;
use crate::log::LogFault;

/// The keys of one state of the Roll.
pub struct SigningRing {
    active: Option<Signer>,
    verifying: HashMap<SigningKeyId, Verifying>,
    jwks: Vec<(SigningKeyState, Value)>,
    /// Which keys in which states it was made of.
    made_of: Vec<(SigningKeyId, SigningKeyState)>,
}

struct Verifying {
    key: Arc<VerifyingKey>,
    state: SigningKeyState,
}

impl SigningRing {
    /// Unseals the active key and prepares all that still verify.
    pub(crate) fn of(roll: &Roll, keys: &DerivedKeys) -> Result<Self, LogFault> {
        let mut ring = Self { active: None, verifying: HashMap::new(), jwks: Vec::new(), made_of: made_of(roll) };
        for key in roll.signing_keys() {
            let jwk: Jwk =
                serde_json::from_str(&key.public_jwk).map_err(|_| unusable(key, "its JWK cannot be read"))?;
            let verifying = VerifyingKey::from_jwk(&jwk).map_err(|_| unusable(key, "its JWK is no key"))?;
            ring.verifying.insert(key.id, Verifying { key: Arc::new(verifying), state: key.state });
            let published = serde_json::to_value(&jwk).map_err(|_| unusable(key, "its JWK cannot be written"))?;
            ring.jwks.push((key.state, published));
            if key.state == SigningKeyState::Active {
                let private = keys
                    .open_signing_key(key.id, &key.sealed)
                    .map_err(|_| unusable(key, "it does not open under this root key"))?;
                let signer =
                    Signer::new(key.id, key.algorithm, &private).map_err(|_| unusable(key, "it is no private key"))?;
                ring.active = Some(signer);
            }
        }
        Ok(ring)
    }

    /// Whether the Roll's signing keys are the ones that this ring was made of.
    pub(crate) fn is_of(&self, roll: &Roll) -> bool {
        roll.signing_keys().map(|key| (key.id, key.state)).eq(self.made_of.iter().copied())
    }

    /// What signs; `None` before the first start has made the keys.
    pub fn active(&self) -> Option<&Signer> {
        self.active.as_ref()
    }

    /// The key with which a token's signature is checked, if what it signed is still good.
    pub fn verifying(&self, id: SigningKeyId, now: Timestamp) -> Option<Arc<VerifyingKey>> {
        self.verifying.get(&id).filter(|found| found.state.verifies(now)).map(|found| found.key.clone())
    }

    /// The JWK set (RFC 7517) that offline verifiers fetch: every key whose signatures are good, and the next one.
    pub fn jwks(&self, now: Timestamp) -> Value {
        let good: Vec<&Value> = self.jwks.iter().filter(|(state, _)| state.verifies(now)).map(|(_, jwk)| jwk).collect();
        json!({ "keys": good })
    }
}

fn made_of(roll: &Roll) -> Vec<(SigningKeyId, SigningKeyState)> {
    roll.signing_keys().map(|key| (key.id, key.state)).collect()
}

fn unusable(key: &SigningKey, why: &'static str) -> LogFault {
    LogFault::SigningKey { key: key.id, why }
}
