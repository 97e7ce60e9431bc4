//! What a node has seen of the log, kept beside its root key: where the log ended, and the mac there.
//!
//! The chain proves that nothing was changed up to the end that the database shows. It cannot prove that this is the end:
//! an older copy of the database, or one whose last events were cut off and whose head was moved back to fit, is a log in
//! order. A key that was revoked in what is missing would work again. So a start compares the log with this file, which
//! whoever has only the database cannot reach; its digest is keyed, so that a slip of the pen in it is noticed too.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::Client;

use super::append::signed;
use super::head::Head;
use super::seal::Hash;
use super::{LogFault, Tampered};
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::secret::{SecretFileError, read_secret_file, write_secret_file};

/// A place in a log: all before `next_position` was there, and chained to `mac`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub log: LogId,
    pub next_position: u64,
    pub mac: Hash,
}

#[derive(Debug, thiserror::Error)]
pub enum SeenError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error(
        "`{0}`, which says what this node has seen of the log, was not written with this root key, or was damaged; \
         restore it from a backup, or remove it if you are sure of the database"
    )]
    Damaged(PathBuf),
}

impl Seen {
    /// Where this head ends its log.
    #[must_use]
    pub fn of(log: LogId, head: &Head) -> Self {
        Self { log, next_position: head.next_position, mac: head.seals.mac }
    }

    /// What was kept at `path`; `None` where nothing was.
    pub fn load(path: &Path, keys: &DerivedKeys) -> Result<Option<Self>, SeenError> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let text = read_secret_file(path)?;
        let seen = Self::parse(text.expose_secret(), keys).ok_or_else(|| SeenError::Damaged(path.to_owned()))?;
        Ok(Some(seen))
    }

    /// Keeps it at `path`: the old content stays there until the new one is on the disk.
    pub fn save(&self, path: &Path, keys: &DerivedKeys) -> Result<(), SeenError> {
        let (log, mac, digest) = ({ self.log.0 }, blake3::Hash::from_bytes(self.mac), self.digest(keys));
        let text = format!("{log:032x} {} {mac} {digest}", self.next_position);
        Ok(write_secret_file(path, &SecretString::from(text))?)
    }

    fn parse(text: &str, keys: &DerivedKeys) -> Option<Self> {
        let mut words = text.split(' ');
        let log = LogId::from_uuid(uuid::Uuid::parse_str(words.next()?).ok()?);
        let next_position = words.next()?.parse().ok()?;
        let mac = blake3::Hash::from_hex(words.next()?).ok()?.into();
        let digest = blake3::Hash::from_hex(words.next()?).ok()?;
        let seen = Self { log, next_position, mac };
        (words.next().is_none() && seen.digest(keys) == digest).then_some(seen)
    }

    fn digest(&self, keys: &DerivedKeys) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(keys.log_seen());
        hasher.update(&self.log.0.to_be_bytes()).update(&self.next_position.to_be_bytes()).update(&self.mac).finalize()
    }

    /// Compares it with a log that ends at `end`, all but for what lies before it.
    pub async fn check_against(&self, client: &Client, log: LogId, end: &Head) -> Result<(), LogFault> {
        if self.log != log {
            return Err(Tampered::OtherHistory { position: 0 }.into());
        }
        self.check_end(end)?;
        self.check_in(client).await
    }

    /// Compares it with the one row of a log that stood at its end: for a start that does not read that far back.
    async fn check_in(&self, client: &Client) -> Result<(), LogFault> {
        let Some(position) = self.next_position.checked_sub(1) else { return Ok(()) };
        let row = client.query_opt(include_str!("mac_at.sql"), &[&signed(position)]).await?;
        let row = row.ok_or(Tampered::Missing { position })?;
        let mac: &[u8] = row.try_get("mac").map_err(|_| Tampered::Column { position, column: "mac" })?;
        if *mac != self.mac {
            return Err(Tampered::OtherHistory { position: self.next_position }.into());
        }
        Ok(())
    }

    /// Compares it with a log that is being read, after every event on the way.
    pub(crate) fn check_passing(&self, next_position: u64, mac: &Hash) -> Result<(), LogFault> {
        if next_position == self.next_position && *mac != self.mac {
            return Err(Tampered::OtherHistory { position: self.next_position }.into());
        }
        Ok(())
    }

    /// Compares it with the end of a log that was read.
    pub(crate) fn check_end(&self, head: &Head) -> Result<(), LogFault> {
        if head.next_position < self.next_position {
            return Err(Tampered::WentBack { known: self.next_position, found: head.next_position }.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::root_key::RootKey;

    #[test]
    fn what_was_saved_is_loaded_and_what_was_altered_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.seen");
        let keys = RootKey::from_bytes([7; 32]).derive();
        let seen = Seen { log: LogId::from_uuid(uuid::Uuid::from_u128(9)), next_position: 41, mac: [3; 32] };
        assert_eq!(Seen::load(&path, &keys).unwrap(), None);
        seen.save(&path, &keys).unwrap();
        assert_eq!(Seen::load(&path, &keys).unwrap(), Some(seen));

        let other = RootKey::from_bytes([8; 32]).derive();
        assert!(matches!(Seen::load(&path, &other), Err(SeenError::Damaged(_))));
        let text = std::fs::read_to_string(&path).unwrap();
        for altered in [text.replace(" 41 ", " 40 "), text.replace("0303", "0304"), text.trim().to_owned() + " x"] {
            std::fs::write(&path, altered).unwrap();
            assert!(matches!(Seen::load(&path, &keys), Err(SeenError::Damaged(_))));
        }
    }
}
