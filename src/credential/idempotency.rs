//! What lets a repeated command be recognized and answered again, without keeping what the caller sent.
//!
//! A caller who lost an answer asks again with the same idempotency key. Only keyed digests of that key are stored,
//! and an outcome that holds a secret is sealed under a key that takes both the root key and the caller's own text:
//! who reads the database and guesses a weak idempotency key still needs the root key.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::root_key::DerivedKeys;
use super::seal::{OpenError, Purpose, open, seal};
use crate::domain::ids::CommandId;

impl DerivedKeys {
    /// The command that `key`, an idempotency key, stands for when `actor` sends it. Two actors who choose the same
    /// text have two commands: neither learns of the other's.
    #[must_use]
    pub fn command_id(&self, actor: &str, key: &str) -> CommandId {
        let digest = keyed_parts(&self.command_id, &[actor.as_bytes(), key.as_bytes()]);
        let (head, _) = digest.as_bytes().split_first_chunk::<16>().expect("a digest has 32 bytes");
        CommandId(u128::from_be_bytes(*head))
    }

    /// What tells a repeated command from another one under the same id. Keyed, as commands hold secrets.
    #[must_use]
    pub fn fingerprint(&self, parts: &[&[u8]]) -> [u8; 32] {
        *keyed_parts(&self.fingerprint, parts).as_bytes()
    }

    /// What shows that a kept outcome is the one that this service kept, of this command and at this position. A token is
    /// signed from such an outcome when its request is repeated: who could forge one could mint a credential (promise 8).
    #[must_use]
    pub fn outcome_mac(&self, command: CommandId, fingerprint: &[u8], position: u64, outcome: &[u8]) -> blake3::Hash {
        let (command, position) = (command.0.to_be_bytes(), position.to_be_bytes());
        keyed_parts(&self.outcome_mac, &[&command, fingerprint, &position, outcome])
    }

    /// The key that seals one command's outcome, from what only its caller knows: the idempotency key or, when a
    /// worker enrolls, its nonce and the enrollment secret.
    #[must_use]
    pub fn outcome_key(&self, known_to_caller: &[&[u8]]) -> OutcomeKey {
        OutcomeKey(*keyed_parts(&self.outcome_seal, known_to_caller).as_bytes())
    }
}

/// Seals and opens the outcome of one command. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct OutcomeKey([u8; 32]);

impl OutcomeKey {
    #[must_use]
    pub fn seal(&self, command: CommandId, outcome: &[u8]) -> Vec<u8> {
        seal(&self.0, Purpose::Outcome, command.0, outcome)
    }

    pub fn open(&self, command: CommandId, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        open(&self.0, Purpose::Outcome, command.0, sealed)
    }
}

impl fmt::Debug for OutcomeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutcomeKey(..)")
    }
}

/// Each part goes in with its length: `ab` and `c` must not read like `a` and `bc`.
fn keyed_parts(key: &[u8; 32], parts: &[&[u8]]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::root_key::RootKey;

    #[test]
    fn a_command_id_depends_on_actor_key_and_root_key() {
        let keys = RootKey::from_bytes([1; 32]).derive();
        let id = keys.command_id("op/ada", "retry-1");
        assert_eq!(id, keys.command_id("op/ada", "retry-1"));
        assert_ne!(id, keys.command_id("op/eve", "retry-1"));
        assert_ne!(id, keys.command_id("op/ada", "retry-2"));
        assert_ne!(id, keys.command_id("op/adar", "etry-1"));
        assert_ne!(id, RootKey::from_bytes([2; 32]).derive().command_id("op/ada", "retry-1"));
    }

    #[test]
    fn fingerprints_see_where_one_part_ends() {
        let keys = RootKey::from_bytes([1; 32]).derive();
        assert_eq!(keys.fingerprint(&[b"ab", b"c"]), keys.fingerprint(&[b"ab", b"c"]));
        assert_ne!(keys.fingerprint(&[b"ab", b"c"]), keys.fingerprint(&[b"a", b"bc"]));
        assert_ne!(keys.fingerprint(&[b"ab"]), keys.fingerprint(&[b"ab", b""]));
    }

    #[test]
    fn an_outcome_mac_covers_all_of_the_row_and_takes_the_root_key() {
        let keys = RootKey::from_bytes([1; 32]).derive();
        let mac = keys.outcome_mac(CommandId(5), &[1; 32], 7, b"done");
        assert_eq!(mac, keys.outcome_mac(CommandId(5), &[1; 32], 7, b"done"));
        assert_ne!(mac, keys.outcome_mac(CommandId(6), &[1; 32], 7, b"done"));
        assert_ne!(mac, keys.outcome_mac(CommandId(5), &[2; 32], 7, b"done"));
        assert_ne!(mac, keys.outcome_mac(CommandId(5), &[1; 32], 8, b"done"));
        assert_ne!(mac, keys.outcome_mac(CommandId(5), &[1; 32], 7, b"gone"));
        let other = RootKey::from_bytes([2; 32]).derive();
        assert_ne!(mac, other.outcome_mac(CommandId(5), &[1; 32], 7, b"done"));
    }

    #[test]
    fn an_outcome_opens_for_who_knows_the_key_and_for_nobody_else() {
        let keys = RootKey::from_bytes([1; 32]).derive();
        let sealed = keys.outcome_key(&[b"retry-1"]).seal(CommandId(5), b"the new key");
        let opened = |keys: &DerivedKeys, known: &[u8], command| {
            keys.outcome_key(&[known]).open(CommandId(command), &sealed).map(|outcome| outcome.to_vec())
        };
        assert_eq!(opened(&keys, b"retry-1", 5).unwrap(), b"the new key");
        assert_eq!(opened(&keys, b"retry-2", 5), Err(OpenError::DoesNotOpen));
        assert_eq!(opened(&keys, b"retry-1", 6), Err(OpenError::DoesNotOpen));
        let other = RootKey::from_bytes([2; 32]).derive();
        assert_eq!(opened(&other, b"retry-1", 5), Err(OpenError::DoesNotOpen));
    }
}
