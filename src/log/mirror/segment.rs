//! One segment as bytes: a sealed header that says where it goes on, and a record for each entry.
//!
//! A record is a length, the entry and its mac. The mac covers the entry and all before it, so a length that was changed is
//! a mac that is wrong.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::{ENDING, MirrorError, at};
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::log::entry::ENTRY_BYTES_MAX;
use crate::log::seal::{Hash, next_mac};
use crate::log::seen::Seen;

const MAGIC: &[u8; 16] = b"portcullis copy\n";
const FORMAT: u32 = 1;
const HASH_BYTES: usize = 32;
/// What the digest of the header covers: magic, format, log, first position, and the mac before it.
const COVERED_BYTES: usize = 16 + 4 + 16 + 8 + HASH_BYTES;
pub(super) const HEADER_BYTES: usize = COVERED_BYTES + HASH_BYTES;
const LENGTH_BYTES: usize = 4;

/// Between the system calls of a reader.
const BUFFER_BYTES: usize = 1 << 18;

/// A segment that is being read: every entry so far is one that a node wrote.
pub(super) struct Segment {
    path: PathBuf,
    reader: BufReader<File>,
    /// Where it is.
    pub(super) seen: Seen,
    /// Bytes that were found good.
    pub(super) good: u64,
    bytes: u64,
}

/// Where a segment that begins at this position lies.
pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{ENDING}"))
}

/// What a segment opens with, that goes on from `from`.
pub(super) fn header(keys: &DerivedKeys, from: &Seen) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let (covered, digest) = header.split_at_mut(COVERED_BYTES);
    let parts = [
        &MAGIC[..],
        &FORMAT.to_le_bytes(),
        &{ from.log.0 }.to_be_bytes(),
        &from.next_position.to_le_bytes(),
        &from.mac,
    ];
    covered.copy_from_slice(&parts.concat());
    digest.copy_from_slice(blake3::keyed_hash(keys.mirror(), covered).as_bytes());
    header
}

/// Adds a record to `out`, and answers its mac.
pub(super) fn write_record(out: &mut Vec<u8>, keys: &DerivedKeys, before: &Hash, entry: &[u8]) -> Hash {
    let mac = next_mac(keys.log_chain(), before, entry);
    let length = u32::try_from(entry.len()).expect("an entry has at most 65,535 bytes");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(entry);
    out.extend_from_slice(&mac);
    mac
}

impl Segment {
    pub(super) fn open(path: PathBuf, keys: &DerivedKeys) -> Result<Self, MirrorError> {
        let file = File::open(&path).map_err(at(&path))?;
        let bytes = file.metadata().map_err(at(&path))?.len();
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let position = named_position(&path);
        let mut header = [0; HEADER_BYTES];
        if let Err(error) = reader.read_exact(&mut header) {
            return Err(match error.kind() {
                io::ErrorKind::UnexpectedEof => damaged(&path, position, "its header is cut off"),
                _ => at(&path)(error),
            });
        }
        let seen = read_header(&header, keys).map_err(|what| damaged(&path, position, what))?;
        if seen.next_position != position {
            return Err(damaged(&path, position, "it is the segment of another position"));
        }
        Ok(Self { path, reader, seen, good: HEADER_BYTES as u64, bytes })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is left after the last good record: 0 of one that is whole.
    pub(super) fn torn_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.good)
    }

    /// Reads the next entry; `None` at the end, and where the record is not all there.
    pub(super) fn read_next(&mut self, keys: &DerivedKeys) -> Result<Option<Vec<u8>>, MirrorError> {
        let left = self.torn_bytes();
        if left < LENGTH_BYTES as u64 {
            return Ok(None);
        }
        let mut length = [0; LENGTH_BYTES];
        self.reader.read_exact(&mut length).map_err(at(&self.path))?;
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 || length > ENTRY_BYTES_MAX {
            return Err(self.damaged("no entry has such a length"));
        }
        let record = (LENGTH_BYTES + length + HASH_BYTES) as u64;
        if left < record {
            return Ok(None);
        }
        let (mut entry, mut mac) = (vec![0; length], [0; HASH_BYTES]);
        self.reader.read_exact(&mut entry).map_err(at(&self.path))?;
        self.reader.read_exact(&mut mac).map_err(at(&self.path))?;
        if mac != next_mac(keys.log_chain(), &self.seen.mac, &entry) {
            return Err(self.damaged("the mac of its entry is wrong"));
        }
        self.good += record;
        self.seen.mac = mac;
        self.seen.next_position += 1;
        Ok(Some(entry))
    }

    pub(super) fn damaged(&self, what: &'static str) -> MirrorError {
        damaged(&self.path, self.seen.next_position, what)
    }
}

fn damaged(path: &Path, position: u64, what: &'static str) -> MirrorError {
    MirrorError::Damaged { path: path.to_owned(), position, what }
}

/// The position in the name of a segment; names are where a segment is found, and its header is what is believed.
fn named_position(path: &Path) -> u64 {
    path.file_stem().and_then(|stem| stem.to_str()).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

fn read_header(header: &[u8; HEADER_BYTES], keys: &DerivedKeys) -> Result<Seen, &'static str> {
    let (covered, digest) = header.split_at(COVERED_BYTES);
    let digest: Hash = digest.try_into().map_err(|_| "its header is cut off")?;
    if blake3::keyed_hash(keys.mirror(), covered) != blake3::Hash::from_bytes(digest) {
        return Err("the digest of its header is wrong");
    }
    let mut rest = covered;
    if take(&mut rest)? != *MAGIC {
        return Err("it is no segment");
    }
    if u32::from_le_bytes(take(&mut rest)?) != FORMAT {
        return Err("it is of a format that this version does not read");
    }
    Ok(Seen {
        log: LogId(u128::from_be_bytes(take(&mut rest)?)),
        next_position: u64::from_le_bytes(take(&mut rest)?),
        mac: take(&mut rest)?,
    })
}

fn take<const LENGTH: usize>(bytes: &mut &[u8]) -> Result<[u8; LENGTH], &'static str> {
    let (taken, rest) = bytes.split_first_chunk().ok_or("its header is cut off")?;
    *bytes = rest;
    Ok(*taken)
}
