//! The root key, and every key that is derived from it.
//!
//! One secret to guard and to back up. Each use gets a key of its own by BLAKE3's `derive_key` with a context that
//! names the use, so that a value made for one use can never stand in for another.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::secret::{SecretFileError, create_secret_file, read_secret_file};

/// Authenticates each event and all that came before it.
const LOG_CHAIN: &str = "portcullis 2026-11 log chain";
/// Authenticates what a node keeps of the log's end, beside its root key.
const LOG_SEEN: &str = "portcullis 2026-11 log seen";
/// Authenticates the snapshots of the Roll in the data directory.
const SNAPSHOT: &str = "portcullis 2026-11 roll snapshot";
/// Authenticates the headers of the mirror's segments; its entries have their macs.
const MIRROR: &str = "portcullis 2026-11 log mirror";
/// The seed of the Ed25519 key that signs the statements of backups.
const BACKUP_SIGNING: &str = "portcullis 2026-11 backup statement";
/// Makes the verifiers of API keys.
const KEY_VERIFIER: &str = "portcullis 2026-11 api key verifier";
/// Makes the verifiers of static secrets.
const STATIC_SECRET_VERIFIER: &str = "portcullis 2026-11 static secret verifier";
/// Makes the verifiers of enrollment secrets.
const ENROLLMENT_SECRET_VERIFIER: &str = "portcullis 2026-11 enrollment secret verifier";
/// Turns a caller's idempotency key into a command id.
const COMMAND_ID: &str = "portcullis 2026-11 command id";
/// Tells whether a repeated command has the content of the first.
const FINGERPRINT: &str = "portcullis 2026-11 command fingerprint";
/// Authenticates the outcome that is kept of a command.
const OUTCOME_MAC: &str = "portcullis 2026-11 outcome mac";
/// From it, with what only the caller knows, comes the key that seals one command's outcome.
const OUTCOME_SEAL: &str = "portcullis 2026-11 outcome seal";
/// Seals the private halves of signing keys.
const SIGNING_KEY_SEAL: &str = "portcullis 2026-11 signing key seal";
/// Seals the secrets that webhooks are signed with.
const WEBHOOK_SEAL: &str = "portcullis 2026-11 webhook seal";
/// Gives the public value by which a wrong root key is noticed.
const ROOT_KEY_CHECK: &str = "portcullis 2026-11 root key check";

/// 256 random bits, from a file beside the data or from one that the operator names.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct RootKey([u8; 32]);

/// Whether [`RootKey::load_or_create`] made the key, or found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Now,
    Before,
}

#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("the root key file `{0}` should hold 64 hexadecimal digits and a newline; restore it from its backup")]
    Malformed(std::path::PathBuf),
    #[error("the system gave no random bytes to make a root key of")]
    Entropy,
}

impl RootKey {
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn load(path: &Path) -> Result<Self, RootKeyError> {
        let text = read_secret_file(path)?;
        let mut key = Self([0; 32]);
        decode_hex(text.expose_secret(), &mut key.0).ok_or_else(|| RootKeyError::Malformed(path.to_owned()))?;
        Ok(key)
    }

    /// The key in the file, which is made if there is none.
    ///
    /// A key made here fits no database that exists already: compare [`DerivedKeys::root_key_check`] with what that
    /// database keeps before anything is written to it.
    pub fn load_or_create(path: &Path) -> Result<(Self, Created), RootKeyError> {
        let mut key = Self([0; 32]);
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            _ => return Ok((Self::load(path)?, Created::Before)),
        }
        aws_lc_rs::rand::fill(&mut key.0).map_err(|_| RootKeyError::Entropy)?;
        match create_secret_file(path, &key.to_hex()) {
            Ok(()) => Ok((key, Created::Now)),
            // Another process was faster. Its key is the key.
            Err(SecretFileError::Exists(_)) => Ok((Self::load(path)?, Created::Before)),
            Err(error) => Err(error.into()),
        }
    }

    /// All keys that this service needs, made once and shared.
    #[must_use]
    pub fn derive(&self) -> Arc<DerivedKeys> {
        let derived = |context| blake3::derive_key(context, &self.0);
        Arc::new(DerivedKeys {
            log_chain: derived(LOG_CHAIN),
            log_seen: derived(LOG_SEEN),
            snapshot: derived(SNAPSHOT),
            mirror: derived(MIRROR),
            backup_signing: derived(BACKUP_SIGNING),
            key_verifier: derived(KEY_VERIFIER),
            static_secret_verifier: derived(STATIC_SECRET_VERIFIER),
            enrollment_secret_verifier: derived(ENROLLMENT_SECRET_VERIFIER),
            command_id: derived(COMMAND_ID),
            fingerprint: derived(FINGERPRINT),
            outcome_mac: derived(OUTCOME_MAC),
            outcome_seal: derived(OUTCOME_SEAL),
            signing_key_seal: derived(SIGNING_KEY_SEAL),
            webhook_seal: derived(WEBHOOK_SEAL),
            root_key_check: derived(ROOT_KEY_CHECK),
        })
    }

    fn to_hex(&self) -> SecretString {
        let mut text = Zeroizing::new([0_u8; 64]);
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        SecretString::from(std::str::from_utf8(text.as_slice()).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// The keys derived from a [`RootKey`], one for each use. Wiped when the last holder lets go.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DerivedKeys {
    log_chain: [u8; 32],
    log_seen: [u8; 32],
    snapshot: [u8; 32],
    mirror: [u8; 32],
    backup_signing: [u8; 32],
    pub(super) key_verifier: [u8; 32],
    pub(super) static_secret_verifier: [u8; 32],
    pub(super) enrollment_secret_verifier: [u8; 32],
    pub(super) command_id: [u8; 32],
    pub(super) fingerprint: [u8; 32],
    pub(super) outcome_mac: [u8; 32],
    pub(super) outcome_seal: [u8; 32],
    pub(super) signing_key_seal: [u8; 32],
    pub(super) webhook_seal: [u8; 32],
    root_key_check: [u8; 32],
}

impl DerivedKeys {
    /// The key of the chain that seals the log. It leaves this module, for the log computes its own macs.
    #[must_use]
    pub fn log_chain(&self) -> &[u8; 32] {
        &self.log_chain
    }

    /// The key of the digest over [what a node has seen](crate::log::seen) of the log.
    #[must_use]
    pub fn log_seen(&self) -> &[u8; 32] {
        &self.log_seen
    }

    /// The key of the digest over [a snapshot of the Roll](crate::node::snapshot).
    #[must_use]
    pub fn snapshot(&self) -> &[u8; 32] {
        &self.snapshot
    }

    /// The key of the digests over the headers of [the mirror](crate::log::mirror).
    #[must_use]
    pub fn mirror(&self) -> &[u8; 32] {
        &self.mirror
    }

    /// The seed of the key that signs what a backup says of itself.
    #[must_use]
    pub fn backup_signing(&self) -> &[u8; 32] {
        &self.backup_signing
    }

    /// A public value that the database keeps. It tells a wrong root key from the right one, and reveals nothing
    /// about either.
    #[must_use]
    pub fn root_key_check(&self) -> [u8; 32] {
        self.root_key_check
    }
}

impl fmt::Debug for DerivedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKeys(..)")
    }
}

pub(super) const HEX: &[u8; 16] = b"0123456789abcdef";

/// Fills `bytes` from exactly twice as many hexadecimal digits.
pub(super) fn decode_hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    };
    if text.len() != bytes.len() * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_root_key_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");

        let (first, made) = RootKey::load_or_create(&path).unwrap();
        let (second, found) = RootKey::load_or_create(&path).unwrap();

        assert_eq!((made, found), (Created::Now, Created::Before));
        assert_eq!(first.0, second.0);
        assert_eq!(first.0, RootKey::load(&path).unwrap().0);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.len(), text.ends_with('\n')), (65, true));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_or_exposed_file_is_refused_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let load = |content: &str, mode| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let result = RootKey::load_or_create(&path).map(|_| ());
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            result
        };
        assert!(matches!(load(&"0".repeat(63), 0o600), Err(RootKeyError::Malformed(_))));
        assert!(matches!(load(&"g".repeat(64), 0o600), Err(RootKeyError::Malformed(_))));
        assert!(matches!(load("", 0o600), Err(RootKeyError::File(SecretFileError::Empty(_)))));
        assert!(matches!(load(&"0".repeat(64), 0o644), Err(RootKeyError::File(SecretFileError::Exposed { .. }))));
        assert!(load(&"0f".repeat(32), 0o600).is_ok());
    }

    #[test]
    fn every_use_has_a_key_of_its_own_and_nothing_is_printed() {
        let keys = RootKey::from_bytes([7; 32]).derive();
        let all = [
            keys.log_chain,
            keys.log_seen,
            keys.snapshot,
            keys.mirror,
            keys.backup_signing,
            keys.key_verifier,
            keys.static_secret_verifier,
            keys.enrollment_secret_verifier,
            keys.command_id,
            keys.fingerprint,
            keys.outcome_mac,
            keys.outcome_seal,
            keys.signing_key_seal,
            keys.webhook_seal,
            keys.root_key_check,
        ];
        assert_eq!(BTreeSet::from(all).len(), all.len());
        assert_eq!(format!("{keys:?} {:?}", RootKey::from_bytes([7; 32])), "DerivedKeys(..) RootKey(..)");
        assert_ne!(keys.root_key_check(), RootKey::from_bytes([8; 32]).derive().root_key_check());
    }
}
