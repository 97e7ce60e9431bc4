//! Rows in the order in which they came: a persistent array of three levels.
//!
//! A copy shares everything, and a change copies the one leaf that it is in, with the pointers on the way to it. A row is
//! found by division alone, through two levels that stay in the cache, and lies beside its neighbours without a pointer of
//! its own: of a million rows, one is a single miss away. A leaf that is full needs no length, which would be a second.

use std::sync::Arc;

use arrayvec::ArrayVec;

/// Rows that a change copies: more would make changes dearer, fewer the directory larger than the cache.
const LEAF_ROWS: usize = 32;
/// Two KiB of pointers.
const BRANCH_LEAVES: usize = 256;

type Leaf<T> = Arc<[T; LEAF_ROWS]>;
type Branch<T> = ArrayVec<Leaf<T>, BRANCH_LEAVES>;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows<T> {
    /// Leaves that are full.
    branches: Arc<Vec<Arc<Branch<T>>>>,
    /// The leaf that is not.
    last: Arc<ArrayVec<T, LEAF_ROWS>>,
    len: usize,
}

/// Where a row is: which branch, which of its leaves, which place there.
fn place(row: usize) -> (usize, usize, usize) {
    let leaf = row / LEAF_ROWS;
    (leaf / BRANCH_LEAVES, leaf % BRANCH_LEAVES, row % LEAF_ROWS)
}

impl<T> Rows<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, row: usize) -> Option<&T> {
        let (branch, leaf, at) = place(row);
        if row / LEAF_ROWS == self.len / LEAF_ROWS {
            return self.last.get(at);
        }
        Some(&self.branches.get(branch)?.get(leaf)?[at])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).filter_map(|row| self.get(row))
    }
}

impl<T: Clone> Rows<T> {
    pub(super) fn get_mut(&mut self, row: usize) -> Option<&mut T> {
        if row >= self.len {
            return None;
        }
        let (branch, leaf, at) = place(row);
        if row / LEAF_ROWS == self.len / LEAF_ROWS {
            return Arc::make_mut(&mut self.last).get_mut(at);
        }
        let branch = Arc::make_mut(Arc::make_mut(&mut self.branches).get_mut(branch)?);
        Some(&mut Arc::make_mut(branch.get_mut(leaf)?)[at])
    }

    pub(super) fn push(&mut self, value: T) {
        let (branch, _, _) = place(self.len);
        self.len += 1;
        let last = Arc::make_mut(&mut self.last);
        last.push(value);
        if !last.is_full() {
            return;
        }
        let full = std::mem::take(last).into_inner();
        let branches = Arc::make_mut(&mut self.branches);
        if branch == branches.len() {
            branches.push(Arc::default());
        }
        Arc::make_mut(&mut branches[branch]).push(Arc::new(full.unwrap_or_else(|_| unreachable!("it is full"))));
    }
}

/// Not derived, which would ask it of `T`.
impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { branches: Arc::default(), last: Arc::default(), len: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Past the end of a branch.
    const MANY: usize = LEAF_ROWS * BRANCH_LEAVES + LEAF_ROWS + 1;

    #[test]
    fn every_row_is_where_it_was_put() {
        let mut rows = Rows::default();
        for row in 0..MANY {
            assert_eq!(rows.get(row), None);
            assert_eq!(rows.get_mut(row), None);
            rows.push(row);
            assert_eq!((rows.len(), rows.get(row)), (row + 1, Some(&row)));
        }
        assert!((0..MANY).all(|row| rows.get(row) == Some(&row)));
    }

    proptest! {
        #[test]
        fn a_copy_does_not_move_with_the_original(first in 0..MANY, changes in vec((0..MANY, any::<bool>()), 0..40)) {
            let mut rows = Rows::default();
            (0..first).for_each(|row| rows.push(row));
            let copy = rows.clone();
            let mut expected: Vec<usize> = (0..first).collect();
            for (value, push) in changes {
                if push {
                    rows.push(value);
                    expected.push(value);
                } else if let (Some(row), Some(known)) = (rows.get_mut(value), expected.get_mut(value)) {
                    *row += MANY;
                    *known += MANY;
                }
            }
            prop_assert!((0..first).all(|row| copy.get(row) == Some(&row)));
            prop_assert_eq!(copy.get(first), None);
            prop_assert_eq!((0..rows.len()).filter_map(|row| rows.get(row).copied()).collect::<Vec<_>>(), expected);
        }
    }
}
