//! Adding to a mirror. Nothing that lies there is ever written again.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::reader::Reader;
use super::segment::{self, HEADER_BYTES};
use super::{Mirror, MirrorError, at};
use crate::domain::ids::LogId;
use crate::log::seal::genesis_mac;
use crate::log::seen::Seen;

/// A start reads the newest segment, and a restore those after its backup: 64 MiB are a tenth of a second.
pub(super) const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The one that adds to a mirror; the folder is locked for as long as it lives.
pub struct Writer {
    mirror: Mirror,
    _lock: File,
    at: Seen,
    segment: Option<Open>,
    segment_bytes_max: u64,
    unsynced: bool,
}

/// The newest segment.
struct Open {
    file: File,
    bytes: u64,
}

impl Writer {
    /// Goes on where the mirror ends, or begins one. A last record that was not written whole is cut off.
    pub fn open(mirror: Mirror, log: LogId) -> Result<Self, MirrorError> {
        Self::with_segments_of(mirror, log, SEGMENT_BYTES_MAX)
    }

    pub(super) fn with_segments_of(mirror: Mirror, log: LogId, segment_bytes_max: u64) -> Result<Self, MirrorError> {
        let folder = mirror.folder();
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))?;
        let lock = lock(folder)?;
        let genesis = Seen { log, next_position: 0, mac: genesis_mac(mirror.keys.log_chain(), log) };
        let (at, segment) = match mirror.segments()?.pop() {
            None => (genesis, None),
            Some((_, newest)) => {
                let mut reader = Reader::over(vec![newest.clone()], mirror.keys.clone())?;
                while reader.read_next()?.is_some() {}
                if reader.seen().log != log {
                    return Err(MirrorError::Foreign(folder.to_owned()));
                }
                (reader.seen().clone(), Some(mend(&newest, &reader).map_err(at(&newest))?))
            }
        };
        Ok(Self { mirror, _lock: lock, at, segment, segment_bytes_max, unsynced: false })
    }

    /// Where it ends.
    pub fn seen(&self) -> &Seen {
        &self.at
    }

    /// Adds entries, which follow the last one: all of them or, where it fails, none. After a failure the writer is of no
    /// use any more: another is opened, which mends what was written in part.
    pub fn add<'e>(&mut self, entries: impl IntoIterator<Item = &'e [u8]>) -> Result<(), MirrorError> {
        let (mut bytes, mut end) = (Vec::new(), self.at.clone());
        for entry in entries {
            end.mac = segment::write_record(&mut bytes, &self.mirror.keys, &end.mac, entry);
            end.next_position += 1;
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let full = self.segment.as_ref().is_none_or(|segment| segment.bytes >= self.segment_bytes_max);
        if full {
            self.sync()?;
            self.segment = Some(self.begin_segment()?);
        }
        if let Some(segment) = &mut self.segment {
            segment.file.write_all(&bytes).map_err(at(self.mirror.folder()))?;
            segment.bytes += bytes.len() as u64;
        }
        (self.at, self.unsynced) = (end, true);
        Ok(())
    }

    /// What was added survives a power cut from here on. It survives the end of this process already.
    pub fn sync(&mut self) -> Result<(), MirrorError> {
        if self.unsynced
            && let Some(segment) = &self.segment
        {
            segment.file.sync_data().map_err(at(self.mirror.folder()))?;
        }
        self.unsynced = false;
        Ok(())
    }

    /// Whether there is something to sync.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Its header is whole before it has its name.
    fn begin_segment(&self) -> Result<Open, MirrorError> {
        let path = segment::path(self.mirror.folder(), self.at.next_position);
        let draft = path.with_extension("draft");
        let begin = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&segment::header(&self.mirror.keys, &self.at))?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            crate::secret::sync_folder(&path)?;
            Ok(file)
        };
        let file = begin().map_err(at(&path))?;
        Ok(Open { file, bytes: HEADER_BYTES as u64 })
    }
}

/// Opens the newest segment behind its last whole record.
fn mend(path: &Path, reader: &Reader) -> std::io::Result<Open> {
    let file = OpenOptions::new().append(true).open(path)?;
    let bytes = reader.good_bytes();
    if reader.torn_bytes() > 0 {
        let position = reader.seen().next_position;
        tracing::warn!(position, bytes = reader.torn_bytes(), "the mirror's last record was not whole, and is cut off");
        file.set_len(bytes)?;
        file.sync_all()?;
    }
    Ok(Open { file, bytes })
}

fn lock(folder: &Path) -> Result<File, MirrorError> {
    let file = File::open(folder).map_err(at(folder))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(MirrorError::InUse(folder.to_owned())),
        // Network file systems may lock files only, and two services with one mirror are a slip that its macs show.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}
