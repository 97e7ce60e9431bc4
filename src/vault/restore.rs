//! Putting a backup in place, in two steps: what it would come to, from files alone, and then doing just that.
//!
//! What came after the backup is not decided again and not made anew: the mirror's entries are appended as they were, at the
//! positions where they were. So the log goes on as every node, token and fence remembers it, and nothing that was revoked
//! works again. Only where the mirror ends before what else has seen the log is something lost: that has to be accepted by
//! naming it, it is said in the event `log.restored`, and no token of before is good any more.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use chrono::SecondsFormat;

use super::VaultError;
use super::backup::Backup;
use super::remembered::Witness;
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::log::entry;
use crate::log::mirror::{Mirror, MirrorError, Reader};
use crate::log::schema;
use crate::log::seal::Hash;
use crate::log::seen::Seen;
use crate::log::time::date_time;
use crate::log::{LogFault, Tampered};

pub mod place;

/// What putting a backup in place comes to.
#[derive(Debug)]
pub struct Outlook {
    /// Where the backup ends.
    pub backup: Seen,
    /// Where the log ends that comes of it.
    pub end: Seen,
    /// When its last event was recorded, as RFC 3339 has it. A mirror that stood still for days says nothing of them, and where
    /// nothing else has seen more only a person can tell.
    pub ends_at: String,
    /// The one that goes on from the backup.
    pub mirror: Option<Mirror>,
    /// What is brought back from it, by kind.
    pub brought_back: BTreeMap<&'static str, u64>,
    /// How many of these take access away.
    pub reductions: u64,
    pub loss: Option<Loss>,
    /// Those that have seen no more than the backup has, and are compared with it in the database.
    pub earlier: Vec<Witness>,
}

/// What is not brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// There is no mirror that goes on from the backup, and nobody can say what came after it.
    Unknown,
    /// Something has seen these.
    Positions { first: u64, last: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write the positions as the refusal names them, such as `120-131`, or `unknown`")]
pub struct NotALoss;

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Unknown => f.write_str("unknown"),
            Loss::Positions { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl FromStr for Loss {
    type Err = NotALoss;

    fn from_str(text: &str) -> Result<Self, NotALoss> {
        if text == "unknown" {
            return Ok(Loss::Unknown);
        }
        let (first, last) = text.split_once('-').ok_or(NotALoss)?;
        let position = |digits: &str| digits.parse().map_err(|_| NotALoss);
        Ok(Loss::Positions { first: position(first)?, last: position(last)? })
    }
}

impl Outlook {
    /// Reads the mirror from the backup on; `passed` is told how far. Whatever has seen another history than these two is a
    /// reason to refuse.
    pub fn of(
        backup: &Backup,
        mirrors: Vec<Mirror>,
        mut witnesses: Vec<Witness>,
        mut passed: impl FnMut(u64),
    ) -> Result<Self, VaultError> {
        let start = end_of(backup)?;
        let mut longest: Option<(Mirror, Seen)> = None;
        for mirror in mirrors {
            let Some(end) = mirror.end()? else { continue };
            if longest.as_ref().is_none_or(|(_, known)| end.next_position > known.next_position) {
                longest = Some((mirror.clone(), end.clone()));
            }
            witnesses.push(Witness { name: mirror.folder().display().to_string(), seen: end });
        }
        if let Some(witness) = witnesses.iter().find(|witness| witness.seen.log != start.log) {
            return Err(VaultError::OtherHistory { witness: witness.name.clone(), position: 0 });
        }
        let mirror = longest.filter(|(_, end)| end.next_position >= start.next_position).map(|(mirror, _)| mirror);
        let mut outlook = Self {
            end: start.clone(),
            ends_at: backup.statement.recorded_at.clone(),
            backup: start,
            mirror,
            brought_back: BTreeMap::new(),
            reductions: 0,
            loss: None,
            earlier: Vec::new(),
        };
        outlook.read_mirror(&witnesses, &mut passed)?;
        let end = outlook.end.next_position;
        let furthest = witnesses.iter().map(|witness| witness.seen.next_position).max().unwrap_or_default();
        outlook.loss = match outlook.mirror {
            _ if furthest > end => Some(Loss::Positions { first: end, last: furthest - 1 }),
            None => Some(Loss::Unknown),
            Some(_) => None,
        };
        let begins = outlook.backup.next_position;
        outlook.earlier = witnesses.into_iter().filter(|witness| witness.seen.next_position <= begins).collect();
        Ok(outlook)
    }

    fn read_mirror(&mut self, witnesses: &[Witness], passed: &mut impl FnMut(u64)) -> Result<(), VaultError> {
        let Some(mut reader) = self.after_backup()? else { return Ok(()) };
        loop {
            self.end = reader.seen().clone();
            let here = |witness: &&Witness| witness.seen.next_position == self.end.next_position;
            if let Some(other) = witnesses.iter().filter(here).find(|witness| witness.seen.mac != self.end.mac) {
                let position = self.end.next_position;
                return Err(VaultError::OtherHistory { witness: other.name.clone(), position });
            }
            passed(self.end.next_position);
            let Some(copied) = reader.read_next()? else { return Ok(()) };
            let position = copied.position;
            let recorded = entry::decode(&copied.entry).map_err(|cause| LogFault::Unreadable { position, cause })?;
            *self.brought_back.entry(schema::kind(&recorded.event).0).or_default() += recorded.event.facts();
            self.reductions += u64::from(recorded.event.reduces_access());
            self.ends_at = date_time(recorded.recorded_at).to_rfc3339_opts(SecondsFormat::Micros, true);
        }
    }

    /// The mirror, where the backup ends: it must have the backup's own mac there.
    fn after_backup(&self) -> Result<Option<Reader>, VaultError> {
        let Some(mirror) = &self.mirror else { return Ok(None) };
        let position = self.backup.next_position;
        let Some(mut reader) = mirror.read_from(position)? else { return Ok(None) };
        while reader.seen().next_position < position {
            if reader.read_next()?.is_none() {
                return Err(LogFault::from(Tampered::Missing { position: reader.seen().next_position }).into());
            }
        }
        if *reader.seen() != self.backup {
            return Err(MirrorError::OtherHistory { position }.into());
        }
        Ok(Some(reader))
    }
}

/// Where the log ended that the backup is of.
fn end_of(backup: &Backup) -> Result<Seen, VaultError> {
    let statement = &backup.statement;
    let mac = hash(&statement.mac).ok_or(VaultError::NotAsStated("its mac is no mac"))?;
    Ok(Seen { log: LogId::from_uuid(statement.log), next_position: statement.next_position, mac })
}

pub(super) fn hash(text: &str) -> Option<Hash> {
    Some(blake3::Hash::from_hex(text).ok()?.into())
}

/// The folders as mirrors; each once.
#[must_use]
pub fn mirrors(folders: Vec<PathBuf>, keys: &std::sync::Arc<DerivedKeys>) -> Vec<Mirror> {
    let mut found: Vec<Mirror> = Vec::new();
    for folder in folders {
        if found.iter().all(|known| known.folder() != folder) {
            found.push(Mirror::in_folder(folder, keys.clone()));
        }
    }
    found
}
