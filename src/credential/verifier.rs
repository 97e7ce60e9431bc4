//! Verifiers: what is kept of a secret, so that the secret itself need not be.
//!
//! A verifier is a keyed BLAKE3 digest. The secrets are random or have passed the rules in
//! [`strength`](super::strength), so a fast digest is enough; the key, which is not in the database, makes a stolen
//! table useless even against a weak one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use zeroize::Zeroizing;

use super::key::{KeyKind, ParsedKey, SECRET_DIGITS};
use super::root_key::{DerivedKeys, HEX, decode_hex};

/// The digest by which a presented secret is recognized.
///
/// All comparison, `==` too, takes the same time wherever two verifiers differ.
#[derive(Clone, Copy)]
pub struct Verifier([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a verifier is 64 hexadecimal digits")]
pub struct VerifierFormatError;

impl Verifier {
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both were made from the same secret. The one comparison there is of secrets.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        // That comparison is in constant time (`blake3::Hash`'s documentation), and in a few instructions.
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Eq for Verifier {}

impl Hash for Verifier {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Of no use to a guesser without the root key, but a log is still no place for it.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(..)")
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl FromStr for Verifier {
    type Err = VerifierFormatError;

    fn from_str(text: &str) -> Result<Self, VerifierFormatError> {
        let mut bytes = [0; 32];
        decode_hex(text, &mut bytes).ok_or(VerifierFormatError)?;
        Ok(Self(bytes))
    }
}

/// Kind, id and secret: 61 bytes, which is one block of BLAKE3.
const API_KEY_INPUT_BYTES: usize = 1 + 16 + SECRET_DIGITS;

impl DerivedKeys {
    /// The verifier of an API key. Does not allocate: every validation comes through here.
    ///
    /// The kind and the id are part of it, so that a verifier copied to another row of the database verifies nothing.
    #[must_use]
    pub fn api_key_verifier(&self, key: &ParsedKey<'_>) -> Verifier {
        let mut input = Zeroizing::new([0_u8; API_KEY_INPUT_BYTES]);
        input[0] = match key.kind {
            KeyKind::Worker => b'w',
            KeyKind::Enrollment => b'e',
            KeyKind::Operator => b'o',
        };
        input[1..17].copy_from_slice(&key.id.0.to_be_bytes());
        input[17..].copy_from_slice(key.secret);
        Verifier(*blake3::keyed_hash(&self.key_verifier, input.as_slice()).as_bytes())
    }

    /// The verifier of a static secret: the same for the same value, whoever has it, so that re-use is found.
    #[must_use]
    pub fn static_secret_verifier(&self, secret: &str) -> Verifier {
        Verifier(*blake3::keyed_hash(&self.static_secret_verifier, secret.as_bytes()).as_bytes())
    }

    /// The verifier of an enrollment secret, over its whole text, whether it was made here or chosen by the caller.
    #[must_use]
    pub fn enrollment_verifier(&self, secret: &str) -> Verifier {
        Verifier(*blake3::keyed_hash(&self.enrollment_secret_verifier, secret.as_bytes()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::key::{mint, parse};
    use crate::credential::root_key::RootKey;
    use crate::domain::ids::KeyId;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    fn of(root: u8, kind: KeyKind, id: u128, entropy: [u8; 32]) -> Verifier {
        let text = mint(kind, KeyId(id), &entropy);
        RootKey::from_bytes([root; 32]).derive().api_key_verifier(&parse(text.expose_secret()).unwrap())
    }

    #[test]
    fn a_verifier_is_bound_to_root_key_kind_id_and_secret() {
        let verifier = of(1, KeyKind::Worker, 1, [1; 32]);
        assert!(verifier.matches(&of(1, KeyKind::Worker, 1, [1; 32])));
        let others = [
            of(2, KeyKind::Worker, 1, [1; 32]),
            of(1, KeyKind::Operator, 1, [1; 32]),
            of(1, KeyKind::Worker, 2, [1; 32]),
            of(1, KeyKind::Worker, 1, [2; 32]),
        ];
        for other in others {
            assert!(!verifier.matches(&other));
        }
    }

    #[test]
    fn one_text_used_in_two_ways_has_two_verifiers() {
        let keys = RootKey::from_bytes([1; 32]).derive();
        assert!(keys.static_secret_verifier("x").matches(&keys.static_secret_verifier("x")));
        assert!(!keys.static_secret_verifier("x").matches(&keys.enrollment_verifier("x")));
    }

    proptest! {
        #[test]
        fn verifiers_round_trip_as_text(bytes: [u8; 32]) {
            let verifier = Verifier::from_bytes(bytes);
            prop_assert_eq!(verifier.to_string().parse(), Ok(verifier));
            prop_assert_eq!(format!("{verifier:?}"), "Verifier(..)");
        }

        #[test]
        fn other_texts_are_refused(text: String) {
            prop_assert_eq!(text.parse::<Verifier>(), Err(VerifierFormatError));
        }
    }
}
