//! Where a row stands, by the hash of its id: a persistent hash table that grows by one bucket at a time.
//!
//! A trie of hashes costs a miss of the cache for each of its levels, and a million keys are levels enough that a verdict
//! would be spent on waiting. Here a look-up reads one slot of the directory and one bucket. Linear hashing (W. Litwin,
//! VLDB 1980) splits the buckets in turn, so that no insertion ever pays for a table made anew.

use std::sync::Arc;

use super::prefetch::prefetch;
use super::rows::Rows;

/// Slots that a bucket has on average: two lines of the cache.
const LOAD: usize = 8;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    buckets: Rows<Arc<[Slot]>>,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slot {
    /// Of which the low digits are the number of the bucket: a split asks nobody else.
    hash: u32,
    row: u32,
}

impl Slot {
    /// `row` is below four billion, as everything in a log of which each row takes bytes of memory.
    pub(super) fn new(hash: u32, row: usize) -> Self {
        Self { hash, row: u32::try_from(row).expect("fewer than four billion rows in one log") }
    }
}

impl Index {
    /// The rows that were inserted under this hash, oldest first. Which of them is meant is for the caller to compare.
    pub(super) fn rows(&self, hash: u32) -> impl Iterator<Item = usize> {
        let bucket = self.buckets.get(self.bucket_of(hash)).map_or(&[][..], |bucket| bucket);
        bucket.iter().filter(move |slot| slot.hash == hash).map(|slot| slot.row as usize)
    }

    /// Asks memory for the bucket of this hash.
    pub(super) fn prefetch(&self, hash: u32) {
        let Some(bucket) = self.buckets.get(self.bucket_of(hash)) else { return };
        // Rarely more than two lines.
        [bucket.first(), bucket.get(LOAD - 1)].into_iter().flatten().for_each(prefetch);
    }

    pub(super) fn insert(&mut self, hash: u32, row: usize) {
        if self.len == self.buckets.len() * LOAD {
            self.grow();
        }
        let at = self.bucket_of(hash);
        let bucket = self.buckets.get_mut(at).expect("a bucket for each hash");
        *bucket = bucket.iter().copied().chain([Slot::new(hash, row)]).collect();
        self.len += 1;
    }

    fn bucket_of(&self, hash: u32) -> usize {
        bucket(hash, self.buckets.len())
    }

    /// Adds the bucket n. What belongs in it stood in the one of its number without the highest digit.
    fn grow(&mut self) {
        let new = self.buckets.len();
        let Some(level) = new.checked_ilog2() else {
            self.buckets.push(Arc::default());
            return;
        };
        let mask = (2 << level) - 1;
        let split = self.buckets.get_mut(new - (1 << level)).expect("a bucket below the one to come");
        let (moving, staying): (Vec<Slot>, Vec<Slot>) = split.iter().partition(|slot| slot.hash as usize & mask == new);
        *split = staying.into();
        self.buckets.push(moving.into());
    }

    /// What inserting these one after the other would have made: but each bucket is made once, and not anew for each slot
    /// that comes.
    pub(super) fn of(slots: &[Slot]) -> Self {
        let count = slots.len().div_ceil(LOAD);
        // Where each bucket ends, when all slots stand in the order of their buckets; while they are placed, where it goes on.
        let mut places = vec![0_usize; count + 1];
        for slot in slots {
            places[bucket(slot.hash, count) + 1] += 1;
        }
        for at in 1..places.len() {
            places[at] += places[at - 1];
        }
        let mut sorted = vec![Slot { hash: 0, row: 0 }; slots.len()];
        for slot in slots {
            let place = &mut places[bucket(slot.hash, count)];
            sorted[*place] = *slot;
            *place += 1;
        }
        let mut buckets = Rows::default();
        let mut first = 0;
        for end in places.into_iter().take(count) {
            buckets.push(sorted[first..end].into());
            first = end;
        }
        Self { buckets, len: slots.len() }
    }
}

/// Of so many buckets, the hash modulo the power of two above their number; or below it, where that bucket is not there yet.
fn bucket(hash: u32, count: usize) -> usize {
    let mask = count.checked_ilog2().map_or(0, |level| (2 << level) - 1);
    let wide = hash as usize & mask;
    if wide < count { wide } else { wide & (mask >> 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        /// The rule that a plain list states: every row under its hash, in order, and under no other.
        #[test]
        fn each_row_is_found_under_its_hash_in_order(hashes in vec(prop_oneof![0..40_u32, any::<u32>()], 0..600)) {
            let mut index = Index::default();
            for (row, hash) in hashes.iter().enumerate() {
                index.insert(*hash, row);
            }
            for asked in hashes.iter().copied().chain([7, u32::MAX]) {
                let expected: Vec<usize> = (0..hashes.len()).filter(|row| hashes[*row] == asked).collect();
                prop_assert_eq!(index.rows(asked).collect::<Vec<_>>(), expected);
            }
        }

        #[test]
        fn made_at_once_it_is_the_one_that_insertions_make(hashes in vec(prop_oneof![0..40_u32, any::<u32>()], 0..600)) {
            let slots: Vec<Slot> = hashes.iter().enumerate().map(|(row, hash)| Slot::new(*hash, row)).collect();
            let mut inserted = Index::default();
            for (row, hash) in hashes.iter().enumerate() {
                inserted.insert(*hash, row);
            }
            prop_assert_eq!(Index::of(&slots), inserted);
        }

        #[test]
        fn a_copy_does_not_move_with_the_original(hashes in vec(any::<u32>(), 1..200), more in vec(any::<u32>(), 1..200)) {
            let mut index = Index::default();
            for (row, hash) in hashes.iter().enumerate() {
                index.insert(*hash, row);
            }
            let copy = index.clone();
            let before: Vec<Vec<usize>> = more.iter().map(|hash| copy.rows(*hash).collect()).collect();
            for (row, hash) in more.iter().enumerate() {
                index.insert(*hash, row);
            }
            let after: Vec<Vec<usize>> = more.iter().map(|hash| copy.rows(*hash).collect()).collect();
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn buckets_stay_short() {
        let mut index = Index::default();
        for row in 0..100_000_u32 {
            // The golden ratio's multiples are spread as evenly as random numbers, and the same in each run.
            index.insert(row.wrapping_mul(2_654_435_769), row as usize);
        }
        let longest = (0..index.buckets.len()).filter_map(|at| index.buckets.get(at)).map(|bucket| bucket.len()).max();
        assert!(longest.is_some_and(|longest| longest <= 4 * LOAD), "{longest:?}");
    }
}
