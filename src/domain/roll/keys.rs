//! All keys of the Roll, in the order in which they came, found by their ids; static secrets by their values too.
//!
//! The rows are not behind pointers of their own: a validation reads the row, and nothing on the way to it but the
//! index. No key is ever taken out, since a revoked one must go on being recognized.

use super::index::{Index, Slot};
use super::prefetch::prefetch;
use super::rows::Rows;
use crate::domain::ids::KeyId;
use crate::domain::key::{Digest, Key, KeyKind};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Keys {
    rows: Rows<Key>,
    by_id: Index,
    /// Every static secret ever, by verifier: a value is never used again.
    by_static_secret: Index,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, id: KeyId) -> Option<&Key> {
        self.by_id.rows(hash_of_id(id)).filter_map(|row| self.rows.get(row)).find(|key| key.id == id)
    }

    pub(super) fn prefetch_index(&self, id: KeyId) {
        self.by_id.prefetch(hash_of_id(id));
    }

    pub(super) fn prefetch(&self, id: KeyId) {
        for key in self.by_id.rows(hash_of_id(id)).filter_map(|row| self.rows.get(row)) {
            // Its two lines that a verdict reads.
            prefetch(&key.id);
            prefetch(&key.holder);
        }
    }

    pub(super) fn get_mut(&mut self, id: KeyId) -> Option<&mut Key> {
        let row = self.row(id)?;
        self.rows.get_mut(row)
    }

    /// The keys whose static secret has this verifier, oldest first.
    pub(super) fn with_static_secret(&self, verifier: Digest) -> impl Iterator<Item = &Key> + use<'_> {
        let same = self.by_static_secret.rows(hash_of_digest(&verifier)).filter_map(|row| self.rows.get(row));
        same.filter(move |key| key.verifier == verifier)
    }

    /// Keys in the order in which they came, from the one after `cursor` on; `None` where there is no such key.
    pub(super) fn after(&self, cursor: Option<KeyId>) -> Option<impl Iterator<Item = &Key>> {
        let from = match cursor {
            Some(id) => self.row(id)? + 1,
            None => 0,
        };
        Some((from..self.rows.len()).filter_map(|row| self.rows.get(row)))
    }

    /// The keys that were issued after this position, oldest first. Rows are in the order of their positions.
    pub(super) fn issued_after(&self, position: u64) -> impl Iterator<Item = &Key> {
        let (mut first, mut end) = (0, self.rows.len());
        while first < end {
            let middle = usize::midpoint(first, end);
            match self.rows.get(middle) {
                Some(key) if key.issued <= position => first = middle + 1,
                Some(_) | None => end = middle,
            }
        }
        (first..self.rows.len()).filter_map(|row| self.rows.get(row))
    }

    /// The id must be new.
    pub(super) fn insert(&mut self, key: Key) {
        let row = self.rows.len();
        self.by_id.insert(hash_of_id(key.id), row);
        if key.kind == KeyKind::Static {
            self.by_static_secret.insert(hash_of_digest(&key.verifier), row);
        }
        self.rows.push(key);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.rows.iter()
    }

    fn row(&self, id: KeyId) -> Option<usize> {
        self.by_id.rows(hash_of_id(id)).find(|row| self.rows.get(*row).is_some_and(|key| key.id == id))
    }
}

/// Keys that come in the order of their rows, with ids that are all different: their indexes are made once, at the end.
#[derive(Default)]
pub struct KeysStored {
    rows: Rows<Key>,
    ids: Vec<Slot>,
    static_secrets: Vec<Slot>,
}

impl KeysStored {
    pub fn push(&mut self, key: Key) {
        let row = self.rows.len();
        self.ids.push(Slot::new(hash_of_id(key.id), row));
        if key.kind == KeyKind::Static {
            self.static_secrets.push(Slot::new(hash_of_digest(&key.verifier), row));
        }
        self.rows.push(key);
    }

    pub(super) fn finish(self) -> Keys {
        Keys { rows: self.rows, by_id: Index::of(&self.ids), by_static_secret: Index::of(&self.static_secrets) }
    }
}

/// The id itself: ids are made by us alone, so nobody can aim at a bucket, and the low half of a UUIDv7 is random.
#[expect(clippy::cast_possible_truncation, reason = "the low digits are the random ones")]
fn hash_of_id(id: KeyId) -> u32 {
    id.0 as u32
}

fn hash_of_digest(digest: &Digest) -> u32 {
    let [a, b, c, d, ..] = digest.0;
    u32::from_le_bytes([a, b, c, d])
}
