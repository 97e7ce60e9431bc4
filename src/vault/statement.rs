//! What a backup says of itself: where the log ended, and the digest of the dump. Signed with a key that only the root key
//! gives, and checked by anyone who was given its public half.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::credential::root_key::DerivedKeys;

/// The form of the statement, and of the archive that it lies in.
pub const FORMAT: u32 = 1;
pub(super) const SIGNATURE_BYTES: usize = 64;
/// Between the lines of a PEM, as RFC 7468 has them.
const PEM_COLUMNS: usize = 64;

/// Hashes are written in hexadecimal digits, times as RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub format: u32,
    /// Which log.
    pub log: uuid::Uuid,
    /// How many events it had: the position of the next one.
    pub next_position: u64,
    /// The mac of the chain there.
    pub mac: String,
    /// The root of the Merkle tree over all of them.
    pub merkle_root: String,
    /// When the last of them was recorded.
    pub recorded_at: String,
    /// Of the schema of the database.
    pub schema: i32,
    /// Of Portcullis, and of the Postgres that the dump was taken from.
    pub version: String,
    pub server_version: String,
    pub taken_at: String,
    pub dump_bytes: u64,
    /// SHA-256.
    pub dump_sha256: String,
}

impl Statement {
    /// As it lies in the archive, and its signature.
    pub(super) fn sign(&self, keys: &DerivedKeys) -> (Vec<u8>, Vec<u8>) {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a statement is JSON");
        bytes.push(b'\n');
        let signature = key_pair(keys).sign(&bytes).as_ref().to_vec();
        (bytes, signature)
    }

    /// Reads one whose signature is right.
    pub(super) fn verify(bytes: &[u8], signature: &[u8], keys: &DerivedKeys) -> Result<Self, &'static str> {
        let public = UnparsedPublicKey::new(&ED25519, key_pair(keys).public_key().as_ref().to_vec());
        public.verify(bytes, signature).map_err(|_| "the signature of its statement is wrong")?;
        let statement: Self = serde_json::from_slice(bytes).map_err(|_| "its statement cannot be read")?;
        if statement.format == FORMAT {
            Ok(statement)
        } else {
            Err("it is of a format that this version does not read")
        }
    }
}

/// The public half of the key that signs backups, for whoever is to check one without the root key.
#[must_use]
pub fn public_key_pem(keys: &DerivedKeys) -> String {
    let der: PublicKeyX509Der<'_> = key_pair(keys).public_key().as_der().expect("an Ed25519 key has a DER form");
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> =
        text.as_bytes().chunks(PEM_COLUMNS).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn key_pair(keys: &DerivedKeys) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(keys.backup_signing()).expect("32 bytes are a seed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::root_key::RootKey;

    fn statement() -> Statement {
        Statement {
            format: FORMAT,
            log: uuid::Uuid::from_u128(9),
            next_position: 42,
            mac: "00".repeat(32),
            merkle_root: "11".repeat(32),
            recorded_at: "2026-11-22T03:10:41.123456Z".to_owned(),
            schema: 3,
            version: "0.1.0".to_owned(),
            server_version: "15.18".to_owned(),
            taken_at: "2026-11-22T03:10:42.000000Z".to_owned(),
            dump_bytes: 7,
            dump_sha256: "22".repeat(32),
        }
    }

    #[test]
    fn a_statement_is_believed_only_as_it_was_signed() {
        let keys = RootKey::from_bytes([7; 32]).derive();
        let (bytes, signature) = statement().sign(&keys);
        assert_eq!(Statement::verify(&bytes, &signature, &keys), Ok(statement()));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Statement::verify(&changed, &signature, &keys).is_err(), "byte {at}");
        }
        let other = RootKey::from_bytes([8; 32]).derive();
        assert!(Statement::verify(&bytes, &signature, &other).is_err());
        assert!(public_key_pem(&keys).starts_with("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA"));
        assert_ne!(public_key_pem(&keys), public_key_pem(&other));
    }

    #[test]
    fn another_format_is_refused_whoever_signed_it() {
        let keys = RootKey::from_bytes([7; 32]).derive();
        let (bytes, signature) = Statement { format: 2, ..statement() }.sign(&keys);
        assert_eq!(
            Statement::verify(&bytes, &signature, &keys),
            Err("it is of a format that this version does not read")
        );
    }
}
