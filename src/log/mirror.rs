//! The mirror: an append-only copy of the log's entries outside of the database (decision 0016).
//!
//! A backup is as old as it is; what was revoked since lies in the mirror, and a restore takes it from there (promise 9). It
//! is a folder of segments of bounded size, each of which joins the one before. Every entry lies there with its mac of the
//! log's chain, so whoever has not the root key can add, change or move none; what they can do is cut off the end, which
//! whatever else has seen the log tells.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::seen::Seen;
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;

mod reader;
mod segment;
mod writer;

pub use self::reader::{Copied, Reader};
pub use self::writer::Writer;

const ENDING: &str = ".segment";
/// Where the copies go that a restore has given up, or that were damaged. Nothing here looks into them.
pub const ASIDE: &str = "abandoned-";

/// A folder with a copy of a log.
#[derive(Clone, Debug)]
pub struct Mirror {
    folder: PathBuf,
    keys: Arc<DerivedKeys>,
}

#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error("the mirror cannot be read or written at {}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "the mirror was changed at position {position}, or not written with this root key: {what} ({})",
        .path.display()
    )]
    Damaged { path: PathBuf, position: u64, what: &'static str },
    #[error("another service writes the mirror in {}", .0.display())]
    InUse(PathBuf),
    #[error("the mirror in {} is of another log", .0.display())]
    Foreign(PathBuf),
    #[error("the mirror in {} begins at position {begins}, and is needed from {needed} on", .folder.display())]
    BeginsLater { folder: PathBuf, begins: u64, needed: u64 },
    #[error("what follows in the log does not follow what is in the mirror at position {position}")]
    OtherHistory { position: u64 },
}

/// What a whole mirror holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub log: LogId,
    pub from: u64,
    pub next_position: u64,
    pub segments: usize,
    pub bytes: u64,
    /// Of a last record that was not written whole, as a crash leaves it: the next start cuts it off.
    pub torn_bytes: u64,
}

impl Mirror {
    pub fn in_folder(folder: PathBuf, keys: Arc<DerivedKeys>) -> Self {
        Self { folder, keys }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How far it goes; `None` where there is none. The newest segment is read for it, and the end of one that was torn
    /// is no end.
    pub fn end(&self) -> Result<Option<Seen>, MirrorError> {
        let Some((_, newest)) = self.segments()?.pop() else { return Ok(None) };
        let mut reader = Reader::over(vec![newest], self.keys.clone())?;
        while reader.read_next()?.is_some() {}
        Ok(Some(reader.seen().clone()))
    }

    /// Its entries from the segment on that holds `position`.
    pub fn read_from(&self, position: u64) -> Result<Option<Reader>, MirrorError> {
        let segments = self.segments()?;
        let Some((begins, _)) = segments.first() else { return Ok(None) };
        if *begins > position {
            let folder = self.folder.clone();
            return Err(MirrorError::BeginsLater { folder, begins: *begins, needed: position });
        }
        let skipped = segments.partition_point(|(first, _)| *first <= position).saturating_sub(1);
        let paths = segments.into_iter().skip(skipped).map(|(_, path)| path).collect();
        Reader::over(paths, self.keys.clone()).map(Some)
    }

    /// Reads all of it; `passed` is told how far. `None` where there is no mirror.
    pub fn verify(&self, mut passed: impl FnMut(u64)) -> Result<Option<Account>, MirrorError> {
        let segments = self.segments()?;
        let Some((from, _)) = segments.first() else { return Ok(None) };
        let (from, count, mut bytes) = (*from, segments.len(), 0);
        for (_, path) in &segments {
            bytes += fs::metadata(path).map_err(at(path))?.len();
        }
        let mut reader = Reader::over(segments.into_iter().map(|(_, path)| path).collect(), self.keys.clone())?;
        while let Some(copied) = reader.read_next()? {
            reader.check_meaning(&copied)?;
            passed(copied.position + 1);
        }
        let Seen { log, next_position, .. } = *reader.seen();
        Ok(Some(Account { log, from, next_position, segments: count, bytes, torn_bytes: reader.torn_bytes() }))
    }

    /// Puts every segment aside that holds something at `position` or after it. Answers to where, if there was one.
    pub fn set_aside_from(&self, position: u64) -> Result<Option<PathBuf>, MirrorError> {
        let segments = self.segments()?;
        // Of one that is damaged, nobody knows the end.
        let end = self.end().ok().flatten().map_or(u64::MAX, |end| end.next_position);
        let ends = segments.iter().skip(1).map(|(first, _)| *first).chain([end]);
        let wrong: Vec<PathBuf> =
            segments.iter().zip(ends).filter(|(_, end)| *end > position).map(|((_, path), _)| path.clone()).collect();
        if wrong.is_empty() {
            return Ok(None);
        }
        let aside = unused(&self.folder, position);
        fs::create_dir(&aside).map_err(at(&aside))?;
        for path in wrong {
            let name = path.file_name().unwrap_or_default();
            fs::rename(&path, aside.join(name)).map_err(at(&path))?;
        }
        fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(at(&self.folder))?;
        Ok(Some(aside))
    }

    /// Oldest first, with their first positions.
    fn segments(&self) -> Result<Vec<(u64, PathBuf)>, MirrorError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at(&self.folder))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(at(&self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(first) = name.and_then(|name| name.strip_suffix(ENDING)).and_then(|digits| digits.parse().ok())
            {
                found.push((first, path));
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// A name in `folder` for what is put aside there, that nothing has yet.
#[must_use]
pub fn unused(folder: &Path, position: u64) -> PathBuf {
    let plain = folder.join(format!("{ASIDE}{position}"));
    let numbered = (2_u32..).map(|number| folder.join(format!("{ASIDE}{position}.{number}")));
    std::iter::once(plain).chain(numbered).find(|path| !path.exists()).unwrap_or_default()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MirrorError {
    let path = path.to_owned();
    move |source| MirrorError::Io { path, source }
}

#[cfg(test)]
mod tests;
