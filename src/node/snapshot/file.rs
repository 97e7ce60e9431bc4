//! The files of snapshots: written whole or not at all, for the owner alone, and the newest two kept.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::secret::sync_folder;

/// Two: when the newest is found damaged there is one before it, and the tail after that one is still short.
const KEPT: usize = 2;
/// Fifteen million workers with a key each. What is larger is none of ours, and is not read into memory to find out.
const BYTES_MAX: u64 = 4 << 30;
/// Between the system calls of a writer.
const BUFFER_BYTES: usize = 1 << 20;
/// Flushed so often, a snapshot never fills the queue of a disk on which the database waits for its own flushes.
const UNFLUSHED_BYTES_MAX: usize = 8 << 20;

const ENDING: &str = ".roll";
/// Of a file that is being written.
const DRAFT: &str = ".roll.new";

/// The snapshots in the folder, newest first: their names are their positions, all of one length.
pub(super) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    named(folder, ENDING)
}

/// Writes a snapshot at this position, and removes those that are older than the newest two.
pub(super) fn write(
    folder: &Path,
    next_position: u64,
    content: impl FnOnce(&mut Draft) -> io::Result<()>,
) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Left by whoever was killed in the middle. Nobody else writes here: a data directory is one service's.
    for draft in named(folder, DRAFT)? {
        fs::remove_file(draft)?;
    }
    let (path, draft) = (at(folder, next_position, ENDING), at(folder, next_position, DRAFT));
    let written = write_draft(&draft, content).and_then(|()| fs::rename(&draft, &path));
    if let Err(error) = written {
        // A disk that is full gets its room back. A failure here is seen at the next attempt.
        fs::remove_file(&draft).ok();
        return Err(error);
    }
    sync_folder(&path)?;
    // Some may be of another log, and none of theirs is newer than the one that is of this one.
    for old in list(folder)?.into_iter().filter(|other| *other != path).skip(KEPT - 1) {
        fs::remove_file(old)?;
    }
    Ok(path)
}

fn write_draft(path: &Path, content: impl FnOnce(&mut Draft) -> io::Result<()>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, Gradual { file, unflushed: 0 });
    content(&mut out)?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.file.sync_all()
}

/// A file that is being written.
pub(super) type Draft = BufWriter<Gradual>;

/// Goes to the disk as it is written, and not all at once at the end.
pub(super) struct Gradual {
    file: File,
    unflushed: usize,
}

impl Write for Gradual {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.unflushed += count;
        if self.unflushed >= UNFLUSHED_BYTES_MAX {
            self.file.sync_data()?;
            self.unflushed = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The whole file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file, or far too large"));
    }
    let mut bytes = Vec::new();
    // A size that does not fit into memory is an answer, and not the end of the process.
    bytes.try_reserve_exact(usize::try_from(metadata.len()).map_err(io::Error::other)?)?;
    file.take(metadata.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the file's name says that it was taken at.
pub(super) fn position(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok()
}

fn at(folder: &Path, next_position: u64, ending: &str) -> PathBuf {
    folder.join(format!("{next_position:020}{ending}"))
}

fn named(folder: &Path, ending: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(ending)) {
            found.push(folder.join(name));
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok(found)
}
