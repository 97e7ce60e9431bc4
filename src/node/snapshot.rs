//! Snapshots: the Roll in the data directory now and then, so that a start reads only what came after (decision 0012).
//!
//! A snapshot is sealed with a digest that is keyed with the root key. What it says is state: whoever could forge one could
//! revive a key. One that is damaged, of another log or of another format is ignored with a warning, and the whole log is
//! folded; one that is newer than the database shows that the database has gone back (H19).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::domain::roll::Roll;
use crate::log::head::Head;
use crate::log::seen::Seen;
use crate::node::replay::Folded;

mod encoding;
mod file;
pub mod keeper;
#[cfg(test)]
mod tests;

/// Where snapshots are kept.
#[derive(Clone)]
pub struct Snapshots {
    folder: PathBuf,
    keys: Arc<DerivedKeys>,
}

/// What was found of them.
#[derive(Default)]
pub struct Found {
    /// How far the log had come, by the newest one whose digest is right: of whatever format.
    pub seen: Option<Seen>,
    /// The state of the newest one that can be put together.
    pub state: Option<Folded>,
}

impl Snapshots {
    pub fn in_folder(folder: PathBuf, keys: Arc<DerivedKeys>) -> Self {
        Self { folder, keys }
    }

    /// Removes them all.
    pub fn discard(&self) -> io::Result<()> {
        file::list(&self.folder)?.into_iter().try_for_each(std::fs::remove_file)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one of the state at `head`, which is where the Roll ends.
    pub fn write(&self, log: LogId, head: &Head, roll: &Roll) -> io::Result<PathBuf> {
        file::write(&self.folder, head.next_position, |out| encoding::write(out, &self.keys, log, head, roll))
    }

    /// The newest of this log that is of use.
    pub fn newest(&self, log: LogId) -> Found {
        let mut found = Found::default();
        let paths = file::list(&self.folder).unwrap_or_else(|error| {
            tracing::warn!(%error, folder = %self.folder.display(), "the folder of the snapshots cannot be read");
            Vec::new()
        });
        for path in paths {
            let began = Instant::now();
            if let Err(why) = self.look_at(&path, log, &mut found) {
                tracing::warn!(snapshot = %path.display(), %why, "a snapshot is ignored");
            } else if found.state.is_some() {
                tracing::info!(snapshot = %path.display(), elapsed = ?began.elapsed(), "read a snapshot");
                break;
            }
        }
        found
    }

    /// The newest of this log that holds nothing at `position` or after it. Its mac is not compared with the log's: whoever reads
    /// on from there finds that the next event chains to it, or does not.
    pub fn newest_before(&self, log: LogId, position: u64) -> Option<Folded> {
        let paths = file::list(&self.folder).unwrap_or_default();
        let early = paths.into_iter().filter(|path| file::position(path).is_some_and(|found| found <= position));
        early.into_iter().find_map(|path| {
            let mut found = Found::default();
            let looked = self.look_at(&path, log, &mut found);
            if let Err(why) = looked {
                tracing::warn!(snapshot = %path.display(), %why, "a snapshot is ignored");
            }
            // A file may be called otherwise than what is in it.
            found.state.filter(|state| state.head.next_position <= position)
        })
    }

    fn look_at(&self, path: &Path, log: LogId, found: &mut Found) -> Result<(), Ignored> {
        let bytes = file::read(path)?;
        let opened = encoding::open(&bytes, &self.keys)?;
        if opened.seen.log != log {
            return Err(Ignored::Foreign);
        }
        let newest = found.seen.get_or_insert_with(|| opened.seen.clone());
        if opened.seen.next_position > newest.next_position {
            newest.clone_from(&opened.seen);
        }
        found.state = Some(opened.decode()?);
        Ok(())
    }
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
enum Ignored {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error(transparent)]
    Unusable(#[from] encoding::Unusable),
    #[error("it is of another log")]
    Foreign,
}
