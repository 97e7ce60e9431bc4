//! A snapshot as bytes: which log and where in it, the Roll there, and a keyed digest over all of it.
//!
//! What opens a snapshot is the same in every format, so that one of another format still says how far its log had come.
//! Nothing is decoded before the digest was found right; what decodes is hardened all the same.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::domain::key::Key;
use crate::domain::roll::Roll;
use crate::domain::roll::stored::{KeysStored, Rest, Unfit, WorkerRow, WorkersStored};
use crate::domain::worker::WorkerIndex;
use crate::log::head::Head;
use crate::log::seal::{Frontier, Hash, NotAFrontier, Seals};
use crate::log::seen::Seen;
use crate::node::replay::Folded;

/// Counts the shapes of the Roll, of its parts as they are written here, and the meanings of events: what one program folded
/// from a log, the next must have folded too. `tests/golden/snapshot` fails until it is raised.
pub(super) const FORMAT: u32 = 4;

const MAGIC: &[u8; 16] = b"portcullis roll\n";
const DIGEST_BYTES: usize = 32;

/// Rows in one frame: few enough that the bytes of one stay in the cache.
const FRAME_ROWS: usize = 4_096;

/// What a frame holds. They stand in this order; there may be many of each but of the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Part {
    End = 1,
    Rest = 2,
    Workers = 3,
    WorkersById = 4,
    WorkersByName = 5,
    Keys = 6,
}

/// What the head says beside position and mac.
#[derive(Serialize, Deserialize)]
struct End<'a> {
    version: i64,
    frontier: &'a [u8],
}

/// Why a snapshot is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it is no snapshot")]
    NoSnapshot,
    #[error("it was damaged, or not written with this root key")]
    Digest,
    #[error("it is of format {0}, and this version reads format {FORMAT} only")]
    Format(u32),
    #[error("it cannot be decoded: {0}")]
    Undecodable(#[from] postcard::Error),
    #[error("it cannot be put together: {0}")]
    Unfit(#[from] Unfit),
    #[error("it cannot be put together: {0}")]
    Frontier(#[from] NotAFrontier),
    #[error("it cannot be put together: {0}")]
    Frame(&'static str),
}

/// A snapshot whose digest is right.
pub(super) struct Opened<'a> {
    format: u32,
    /// The place in the log that it was taken at.
    pub(super) seen: Seen,
    frames: &'a [u8],
}

// === writing ===

/// Writes the state at `head`, which is where the Roll ends.
pub(super) fn write(out: impl Write, keys: &DerivedKeys, log: LogId, head: &Head, roll: &Roll) -> io::Result<()> {
    let mut sealing = Sealing { out, hasher: blake3::Hasher::new_keyed(keys.snapshot()) };
    for bytes in [
        &MAGIC[..],
        &FORMAT.to_le_bytes(),
        &{ log.0 }.to_le_bytes(),
        &head.next_position.to_le_bytes(),
        &head.seals.mac,
    ] {
        sealing.put(bytes)?;
    }
    let frontier = head.seals.frontier.to_bytes();
    sealing.frame(Part::End, &End { version: head.version, frontier: &frontier })?;
    sealing.frame(Part::Rest, &roll.rest())?;
    sealing.frames(Part::Workers, roll.worker_rows())?;
    sealing.frames(Part::WorkersById, roll.workers_by_id())?;
    sealing.frames(Part::WorkersByName, roll.workers_by_name())?;
    sealing.frames(Part::Keys, roll.key_rows())?;
    let Sealing { mut out, hasher } = sealing;
    out.write_all(hasher.finalize().as_bytes())?;
    out.flush()
}

struct Sealing<W> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Sealing<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn frame(&mut self, part: Part, content: &impl Serialize) -> io::Result<()> {
        let bytes = postcard::to_stdvec(content).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&[part as u8])?;
        self.put(&length.to_le_bytes())?;
        self.put(&bytes)
    }

    /// So many rows at a time, that the whole is never in memory twice.
    fn frames<T: Serialize>(&mut self, part: Part, rows: impl Iterator<Item = T>) -> io::Result<()> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let some: Vec<T> = rows.by_ref().take(FRAME_ROWS).collect();
            self.frame(part, &some)?;
        }
        Ok(())
    }
}

// === reading ===

/// Checks the digest, and finds out what the snapshot is of.
pub(super) fn open<'a>(bytes: &'a [u8], keys: &DerivedKeys) -> Result<Opened<'a>, Unusable> {
    let (sealed, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(Unusable::NoSnapshot)?;
    let rest = sealed.strip_prefix(MAGIC).ok_or(Unusable::NoSnapshot)?;
    if blake3::keyed_hash(keys.snapshot(), sealed) != *digest {
        return Err(Unusable::Digest);
    }
    let (format, rest) = rest.split_first_chunk().ok_or(Unusable::NoSnapshot)?;
    let (log, rest) = rest.split_first_chunk().ok_or(Unusable::NoSnapshot)?;
    let (next_position, rest) = rest.split_first_chunk().ok_or(Unusable::NoSnapshot)?;
    let (mac, frames) = rest.split_first_chunk::<{ size_of::<Hash>() }>().ok_or(Unusable::NoSnapshot)?;
    let log = LogId(u128::from_le_bytes(*log));
    let seen = Seen { log, next_position: u64::from_le_bytes(*next_position), mac: *mac };
    Ok(Opened { format: u32::from_le_bytes(*format), seen, frames })
}

impl Opened<'_> {
    /// Puts the Roll together, on two threads.
    pub(super) fn decode(&self) -> Result<Folded, Unusable> {
        if self.format != FORMAT {
            return Err(Unusable::Format(self.format));
        }
        let mut frames = Frames(self.frames);
        let end: End<'_> = decode(frames.next(Part::End)?)?;
        let rest: Rest = decode(frames.next(Part::Rest)?)?;
        let (of_workers, of_keys) = frames.split()?;
        let (workers, keys) = std::thread::scope(|scope| {
            let keys = scope.spawn(|| decode_keys(&of_keys));
            let workers = decode_workers(&of_workers, WorkersStored::of(&rest));
            (workers, keys.join().unwrap_or_else(|_| Err(Unusable::Frame("the thread broke off"))))
        });
        let roll = Roll::assemble(rest, workers?, keys?);
        let next_position = self.seen.next_position;
        if roll.next_position() != next_position {
            return Err(Unusable::Frame("its Roll is of another position"));
        }
        let frontier = Frontier::from_bytes(next_position, end.frontier)?;
        let (seals, recorded_at) = (Seals { mac: self.seen.mac, frontier }, roll.recorded_at());
        Ok(Folded { head: Head { version: end.version, next_position, seals, recorded_at }, roll })
    }
}

type Frame<'a> = (u8, &'a [u8]);

/// What is left to read.
struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    fn pop(&mut self) -> Result<Option<Frame<'a>>, Unusable> {
        let Some((part, rest)) = self.0.split_first() else { return Ok(None) };
        let (length, rest) = rest.split_first_chunk().ok_or(Unusable::Frame("a frame is cut off"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (frame, rest) = rest.split_at_checked(length).ok_or(Unusable::Frame("a frame is cut off"))?;
        self.0 = rest;
        Ok(Some((*part, frame)))
    }

    fn next(&mut self, wanted: Part) -> Result<&'a [u8], Unusable> {
        match self.pop()? {
            Some((part, frame)) if part == wanted as u8 => Ok(frame),
            Some(_) | None => Err(Unusable::Frame("a frame is missing")),
        }
    }

    /// What is left, apart: what is about workers, and what about keys.
    fn split(mut self) -> Result<(Vec<Frame<'a>>, Vec<&'a [u8]>), Unusable> {
        let (mut of_workers, mut of_keys) = (Vec::new(), Vec::new());
        while let Some((part, frame)) = self.pop()? {
            if part == Part::Keys as u8 { of_keys.push(frame) } else { of_workers.push((part, frame)) }
        }
        Ok((of_workers, of_keys))
    }
}

fn decode_workers(frames: &[Frame<'_>], mut workers: WorkersStored) -> Result<WorkersStored, Unusable> {
    for (part, frame) in frames {
        if *part == Part::Workers as u8 {
            let rows: Vec<WorkerRow<'_>> = decode(frame)?;
            rows.into_iter().try_for_each(|row| workers.push(row))?;
        } else if *part == Part::WorkersById as u8 {
            let rows: Vec<WorkerIndex> = decode(frame)?;
            rows.into_iter().try_for_each(|row| workers.push_by_id(row))?;
        } else if *part == Part::WorkersByName as u8 {
            let rows: Vec<WorkerIndex> = decode(frame)?;
            rows.into_iter().try_for_each(|row| workers.push_by_name(row))?;
        } else {
            return Err(Unusable::Frame("a frame is of no known kind"));
        }
    }
    Ok(workers)
}

fn decode_keys(frames: &[&[u8]]) -> Result<KeysStored, Unusable> {
    let mut keys = KeysStored::default();
    for frame in frames {
        let rows: Vec<Key> = decode(frame)?;
        for key in rows {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, Unusable> {
    let (content, rest) = postcard::take_from_bytes(frame)?;
    if rest.is_empty() { Ok(content) } else { Err(Unusable::Frame("a frame is longer than what it holds")) }
}
