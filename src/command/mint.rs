//! The one place where time, ids and entropy are made. They enter `decide` as values.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::TryRng;
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::credential::key::{self, KeyKind};
use crate::credential::root_key::DerivedKeys;
use crate::credential::signing_key::{self, Signer, SigningKeyError};
use crate::domain::command::DrillCredentials;
use crate::domain::ids::{EnrollmentSecretId, KeyId, SigningKeyId, WorkerId};
use crate::domain::incident::DRILL_WORKERS_MAX;
use crate::domain::key::Digest;
use crate::domain::signing_key::{NewSigningKey, SigningAlgorithm};
use crate::domain::time::Timestamp;

/// A key that nobody has yet: what a command keeps of it, and the text that its holder is shown once.
pub struct FreshKey {
    pub id: KeyId,
    pub text: SecretString,
    pub verifier: Digest,
}

/// The wall clock. The log's order never depends on it, only what people read and what expires.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A fresh UUIDv7, of which every made id is one.
#[must_use]
pub fn id() -> Uuid {
    Uuid::now_v7()
}

/// An id for a worker that was given none.
#[must_use]
pub fn worker_id() -> WorkerId {
    KeyId::from_uuid(id()).to_string().parse().expect("22 base62 digits are a worker's id")
}

/// 256 bits for one secret, from the operating system.
#[must_use]
pub fn entropy() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    // Without entropy there is no secret worth making, and nothing that a caller could do about it.
    SysRng.try_fill_bytes(&mut *bytes).expect("the operating system gives random bytes");
    bytes
}

/// A new API key of this kind.
#[must_use]
pub fn api_key(keys: &DerivedKeys, kind: KeyKind) -> FreshKey {
    let id = KeyId::from_uuid(self::id());
    let text = key::mint(kind, id, &entropy());
    let parsed = key::parse(text.expose_secret()).expect("what was just written parses");
    let verifier = Digest(*keys.api_key_verifier(&parsed).as_bytes());
    FreshKey { id, text, verifier }
}

/// Credentials for the copies of a drill. Their texts are dropped here, so nobody can present one.
#[must_use]
pub fn drill_credentials(keys: &DerivedKeys) -> DrillCredentials {
    let fresh = |_| {
        let key = api_key(keys, KeyKind::Worker);
        (key.id, key.verifier)
    };
    let secret = api_key(keys, KeyKind::Enrollment);
    let verifier = Digest(*keys.enrollment_verifier(secret.text.expose_secret()).as_bytes());
    DrillCredentials {
        keys: (0..DRILL_WORKERS_MAX).map(fresh).collect(),
        enrollment: (EnrollmentSecretId::from_uuid(id()), verifier),
    }
}

/// A new signing key, its private half sealed. Of RSA that takes up to a second of one core.
pub fn signing_key(keys: &DerivedKeys, algorithm: SigningAlgorithm) -> Result<NewSigningKey, SigningKeyError> {
    let id = SigningKeyId::from_uuid(self::id());
    let private = signing_key::generate(algorithm)?;
    let signer = Signer::new(id, algorithm, &private)?;
    let public_jwk = serde_json::to_string(&signer.jwk()).expect("a JWK is JSON");
    let sealed = keys.seal_signing_key(id, &private);
    Ok(NewSigningKey { id, algorithm, public_jwk: public_jwk.into(), sealed: sealed.into() })
}
