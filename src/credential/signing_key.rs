//! Signing keys: made, sealed by [`seal`](super::seal), published as JWK, and held ready to sign and to verify.
//!
//! Signing goes to aws-lc-rs directly: `jsonwebtoken` parses the private key anew for each token, and the signer that
//! it can hand out is not `Send`. Verification goes through `jsonwebtoken`.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::domain::ids::SigningKeyId;
use crate::domain::signing_key::SigningAlgorithm;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    #[error("the cryptographic library could not make a signing key")]
    NotMade,
    #[error("the private half of the signing key is no PKCS#8 of its algorithm")]
    Private,
    #[error("the JWK is not the public half of a signing key of ours")]
    Jwk,
    #[error("the cryptographic library could not sign")]
    NotSigned,
}

/// Makes the private half of a new signing key, as PKCS#8. Of RSA that takes up to a second of one core.
pub fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<Vec<u8>>, SigningKeyError> {
    let made = match algorithm {
        SigningAlgorithm::EdDsa => Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8()),
        SigningAlgorithm::Es256 => {
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).and_then(|pair| pair.to_pkcs8v1())
        }
        SigningAlgorithm::Rs256 => return generate_rsa(),
    };
    made.map(|document| Zeroizing::new(document.as_ref().to_vec())).map_err(|_| SigningKeyError::NotMade)
}

fn generate_rsa() -> Result<Zeroizing<Vec<u8>>, SigningKeyError> {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};

    let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| SigningKeyError::NotMade)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| SigningKeyError::NotMade)?;
    Ok(Zeroizing::new(der.as_ref().to_vec()))
}

/// The public half of a signing key as RFC 7517 writes it: what `jwks.json` lists and what the log keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    #[serde(flatten)]
    pub numbers: JwkNumbers,
    #[serde(with = "jose_name")]
    pub alg: SigningAlgorithm,
    #[serde(rename = "use")]
    pub usage: JwkUse,
    pub kid: String,
}

/// The numbers of a public key in base64url, by type of key (RFC 7518, RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum JwkNumbers {
    #[serde(rename = "OKP")]
    Okp { crv: String, x: String },
    #[serde(rename = "RSA")]
    Rsa { n: String, e: String },
    #[serde(rename = "EC")]
    Ec { crv: String, x: String, y: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JwkUse {
    #[serde(rename = "sig")]
    Signature,
}

/// A signing key, parsed once and ready to sign on any thread.
pub struct Signer {
    id: SigningKeyId,
    pair: Pair,
    /// The protected header in base64url: the same in every token of this key.
    header: String,
}

enum Pair {
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
}

impl Signer {
    pub fn new(id: SigningKeyId, algorithm: SigningAlgorithm, pkcs8: &[u8]) -> Result<Self, SigningKeyError> {
        let pair = match algorithm {
            SigningAlgorithm::EdDsa => Ed25519KeyPair::from_pkcs8(pkcs8).map(Pair::EdDsa),
            SigningAlgorithm::Rs256 => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::Rs256),
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map(Pair::Es256)
            }
        };
        let pair = pair.map_err(|_| SigningKeyError::Private)?;
        let header = super::token::header(algorithm, id);
        Ok(Self { id, pair, header: URL_SAFE_NO_PAD.encode(header) })
    }

    #[must_use]
    pub fn id(&self) -> SigningKeyId {
        self.id
    }

    #[must_use]
    pub fn algorithm(&self) -> SigningAlgorithm {
        match self.pair {
            Pair::EdDsa(_) => SigningAlgorithm::EdDsa,
            Pair::Rs256(_) => SigningAlgorithm::Rs256,
            Pair::Es256(_) => SigningAlgorithm::Es256,
        }
    }

    /// The public half. Built from the numbers: `jsonwebtoken` refuses Ed25519 keys in the PKCS#8 that aws-lc writes.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        let base64url = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let numbers = match &self.pair {
            Pair::EdDsa(pair) => {
                JwkNumbers::Okp { crv: "Ed25519".to_owned(), x: base64url(pair.public_key().as_ref()) }
            }
            Pair::Rs256(pair) => {
                let numbers = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                JwkNumbers::Rsa { n: base64url(&numbers.n), e: base64url(&numbers.e) }
            }
            Pair::Es256(pair) => {
                // An uncompressed point: 0x04, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                JwkNumbers::Ec { crv: "P-256".to_owned(), x: base64url(x), y: base64url(y) }
            }
        };
        Jwk { numbers, alg: self.algorithm(), usage: JwkUse::Signature, kid: self.id.to_string() }
    }

    pub(super) fn header(&self) -> &str {
        &self.header
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::EdDsa(pair) => pair.try_sign(message).map(|signature| signature.as_ref().to_vec()),
            Pair::Es256(pair) => pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map(|()| signature)
            }
        }
        .map_err(|_| SigningKeyError::NotSigned)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} {})", self.algorithm().as_str(), self.id)
    }
}

/// The public half of a signing key, ready to verify.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    id: SigningKeyId,
    algorithm: SigningAlgorithm,
    key: DecodingKey,
}

impl VerifyingKey {
    /// Refuses a JWK whose numbers are not those of its own `alg`: the algorithm of a key is never a matter of choice.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, SigningKeyError> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| SigningKeyError::Jwk);
        let key = match (jwk.alg, &jwk.numbers) {
            (SigningAlgorithm::EdDsa, JwkNumbers::Okp { crv, x }) if crv == "Ed25519" && bytes(x)?.len() == 32 => {
                DecodingKey::from_ed_components(x)
            }
            (SigningAlgorithm::Rs256, JwkNumbers::Rsa { n, e }) if bytes(n)?.len() >= 256 => {
                DecodingKey::from_rsa_components(n, e)
            }
            (SigningAlgorithm::Es256, JwkNumbers::Ec { crv, x, y })
                if crv == "P-256" && bytes(x)?.len() == 32 && bytes(y)?.len() == 32 =>
            {
                DecodingKey::from_ec_components(x, y)
            }
            _ => return Err(SigningKeyError::Jwk),
        };
        Ok(Self {
            id: jwk.kid.parse().map_err(|_| SigningKeyError::Jwk)?,
            algorithm: jwk.alg,
            key: key.map_err(|_| SigningKeyError::Jwk)?,
        })
    }

    #[must_use]
    pub fn id(&self) -> SigningKeyId {
        self.id
    }

    #[must_use]
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// Whether `signature`, in base64url, is this key's under `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.key, jose(self.algorithm)).unwrap_or(false)
    }
}

const fn jose(algorithm: SigningAlgorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        SigningAlgorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        SigningAlgorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        SigningAlgorithm::Es256 => jsonwebtoken::Algorithm::ES256,
    }
}

/// Algorithms by their names in the JOSE registry, as JWKs have them.
mod jose_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::SigningAlgorithm;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
    pub(super) fn serialize<S: Serializer>(algorithm: &SigningAlgorithm, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(algorithm.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SigningAlgorithm, D::Error> {
        let name = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        let found = SigningAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
        found.ok_or_else(|| D::Error::custom("no algorithm that a signing key of ours has"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::root_key::RootKey;
    use crate::credential::seal::OpenError;

    const ID: SigningKeyId = SigningKeyId(5);

    #[test]
    fn keys_of_each_algorithm_survive_sealing_and_publishing() {
        let keys = RootKey::from_bytes([1; 32]).derive();
        for algorithm in SigningAlgorithm::ALL {
            let sealed = keys.seal_signing_key(ID, &generate(algorithm).unwrap());
            let signer = Signer::new(ID, algorithm, &keys.open_signing_key(ID, &sealed).unwrap()).unwrap();
            assert_eq!(keys.open_signing_key(SigningKeyId(6), &sealed).unwrap_err(), OpenError::DoesNotOpen);

            let text = serde_json::to_string(&signer.jwk()).unwrap();
            let verifying = VerifyingKey::from_jwk(&serde_json::from_str(&text).unwrap()).unwrap();

            assert_eq!((verifying.id(), verifying.algorithm()), (ID, algorithm));
            let signature = URL_SAFE_NO_PAD.encode(signer.sign(b"message").unwrap());
            assert!(verifying.verifies(b"message", &signature), "{algorithm:?}");
            assert!(!verifying.verifies(b"another", &signature), "{algorithm:?}");
        }
    }

    #[test]
    fn the_private_half_of_one_algorithm_is_none_of_another() {
        let pkcs8 = generate(SigningAlgorithm::EdDsa).unwrap();
        for algorithm in [SigningAlgorithm::Rs256, SigningAlgorithm::Es256] {
            assert_eq!(Signer::new(ID, algorithm, &pkcs8).unwrap_err(), SigningKeyError::Private);
        }
        assert_eq!(Signer::new(ID, SigningAlgorithm::EdDsa, b"").unwrap_err(), SigningKeyError::Private);
    }

    #[test]
    fn a_jwk_that_contradicts_itself_is_refused() {
        let good = Signer::new(ID, SigningAlgorithm::EdDsa, &generate(SigningAlgorithm::EdDsa).unwrap()).unwrap().jwk();
        assert!(VerifyingKey::from_jwk(&good).is_ok());
        let okp = |crv: &str, x: &str| JwkNumbers::Okp { crv: crv.to_owned(), x: x.to_owned() };
        let rsa = JwkNumbers::Rsa { n: "AQAB".to_owned(), e: "AQAB".to_owned() };
        let wrong = [
            Jwk { alg: SigningAlgorithm::Rs256, ..good.clone() },
            Jwk { alg: SigningAlgorithm::Rs256, numbers: rsa, ..good.clone() },
            Jwk { numbers: okp("Ed448", &"A".repeat(43)), ..good.clone() },
            Jwk { numbers: okp("Ed25519", "AAAA"), ..good.clone() },
            Jwk { numbers: okp("Ed25519", "not base64url"), ..good.clone() },
            Jwk { kid: "?".to_owned(), ..good },
        ];
        for jwk in wrong {
            assert_eq!(VerifyingKey::from_jwk(&jwk).unwrap_err(), SigningKeyError::Jwk, "{jwk:?}");
        }
    }
}
