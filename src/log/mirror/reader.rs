//! Reading a mirror in order, over all of its segments.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::MirrorError;
use super::segment::Segment;
use crate::credential::root_key::DerivedKeys;
use crate::log::entry;
use crate::log::seen::Seen;

/// An entry whose mac is right.
pub struct Copied {
    pub position: u64,
    pub entry: Vec<u8>,
}

pub struct Reader {
    keys: Arc<DerivedKeys>,
    current: Segment,
    later: VecDeque<PathBuf>,
}

impl Reader {
    /// Over these segments, of which there is at least one.
    pub(super) fn over(paths: Vec<PathBuf>, keys: Arc<DerivedKeys>) -> Result<Self, MirrorError> {
        let mut later = VecDeque::from(paths);
        let first = later.pop_front().unwrap_or_default();
        Ok(Self { current: Segment::open(first, &keys)?, keys, later })
    }

    /// Where it is: all before is there, and chained to this mac.
    pub fn seen(&self) -> &Seen {
        &self.current.seen
    }

    /// At the end: what is left of a last record that was not written whole.
    pub fn torn_bytes(&self) -> u64 {
        self.current.torn_bytes()
    }

    pub(super) fn good_bytes(&self) -> u64 {
        self.current.good
    }

    pub fn read_next(&mut self) -> Result<Option<Copied>, MirrorError> {
        loop {
            let position = self.current.seen.next_position;
            if let Some(entry) = self.current.read_next(&self.keys)? {
                return Ok(Some(Copied { position, entry }));
            }
            let Some(path) = self.later.pop_front() else { return Ok(None) };
            // Only the newest can have been torn: the others were whole before the next was begun.
            if self.current.torn_bytes() > 0 {
                return Err(self.current.damaged("it is cut off, and others follow"));
            }
            let next = Segment::open(path, &self.keys)?;
            if next.seen != self.current.seen {
                return Err(self.current.damaged("the segment after it does not go on from there"));
            }
            self.current = next;
        }
    }

    /// Whether the entry can be read, and says that it stands where it stands.
    pub fn check_meaning(&self, copied: &Copied) -> Result<(), MirrorError> {
        let says = entry::decode(&copied.entry).map(|recorded| recorded.position);
        if says == Ok(copied.position) {
            return Ok(());
        }
        let path = self.current.path().to_owned();
        let what = "its entry cannot be read, or says that it stands elsewhere; a newer release may have written it";
        Err(MirrorError::Damaged { path, position: copied.position, what })
    }
}
