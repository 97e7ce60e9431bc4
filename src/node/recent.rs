//! The newest events, as this node has taken them up: for its own tasks that go along the log behind it. From the database they
//! would be read, and here checked and understood, once more for each of them, a moment after that was done.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::event::Recorded;

/// Of the entries together: some hundred lists of keys, or ten thousand other events. As events they take about
/// as much memory.
const BYTES_MAX: usize = 4 << 20;

/// An event that was taken up, and how long its entry is.
#[derive(Clone, Debug)]
pub struct Taken {
    pub recorded: Arc<Recorded>,
    pub bytes: usize,
}

/// Without a gap, the oldest first.
#[derive(Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    events: VecDeque<Taken>,
    bytes: usize,
}

impl Recent {
    /// Adds what comes next, and lets go of the oldest. What does not follow on what is here takes its place.
    pub(crate) fn add(&self, taken: Vec<Taken>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for next in taken {
            if kept.events.back().is_some_and(|last| last.recorded.position + 1 != next.recorded.position) {
                *kept = Kept::default();
            }
            kept.bytes += next.bytes;
            kept.events.push_back(next);
        }
        while kept.bytes > BYTES_MAX
            && let Some(oldest) = kept.events.pop_front()
        {
            kept.bytes -= oldest.bytes;
        }
    }

    /// All events from `from` up to, and without, `to`; or nothing, where some of them are not here.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Option<Vec<Arc<Recorded>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = kept.events.front()?.recorded.position;
        let begin = usize::try_from(from.checked_sub(first)?).ok()?;
        let end = usize::try_from(to.checked_sub(first)?).ok()?;
        // What ends beyond the newest, or before it begins, is not here.
        (begin <= end && end <= kept.events.len())
            .then(|| kept.events.range(begin..end).map(|taken| taken.recorded.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::ids::KeyId;

    fn taken(positions: std::ops::Range<u64>, bytes: usize) -> Vec<Taken> {
        let recorded = |position: u64| Event::KeyRevoked { key: KeyId(position.into()) }.recorded_at(position);
        positions.map(|position| Taken { recorded: Arc::new(recorded(position)), bytes }).collect()
    }

    fn positions(recent: &Recent, from: u64, to: u64) -> Option<Vec<u64>> {
        Some(recent.between(from, to)?.iter().map(|recorded| recorded.position).collect())
    }

    #[test]
    fn a_range_is_given_whole_or_not_at_all() {
        let recent = Recent::default();
        assert_eq!(positions(&recent, 0, 1), None, "nothing is here yet");
        recent.add(taken(5..7, 1));
        recent.add(Vec::new());
        recent.add(taken(7..9, 1));
        assert_eq!(positions(&recent, 5, 9), Some(vec![5, 6, 7, 8]));
        assert_eq!(positions(&recent, 6, 8), Some(vec![6, 7]));
        assert_eq!(positions(&recent, 9, 9), Some(vec![]));
        for (from, to) in [(4, 9), (5, 10), (9, 10), (0, 5), (8, 6), (10, 10)] {
            assert_eq!(positions(&recent, from, to), None, "{from}..{to}");
        }
    }

    #[test]
    fn what_does_not_follow_takes_the_place_of_what_was_there() {
        let recent = Recent::default();
        recent.add(taken(0..3, 1));
        recent.add(taken(4..6, 1));
        assert_eq!((positions(&recent, 0, 3), positions(&recent, 4, 6)), (None, Some(vec![4, 5])));
        recent.add(taken(5..6, 1));
        assert_eq!((positions(&recent, 4, 6), positions(&recent, 5, 6)), (None, Some(vec![5])));
    }

    #[test]
    fn the_oldest_make_room() {
        let recent = Recent::default();
        recent.add(taken(0..4, BYTES_MAX / 4));
        assert!(recent.between(0, 4).is_some());
        recent.add(taken(4..5, 1));
        assert_eq!((positions(&recent, 0, 1), positions(&recent, 1, 5)), (None, Some(vec![1, 2, 3, 4])));
        recent.add(taken(5..6, BYTES_MAX + 1));
        assert_eq!(positions(&recent, 5, 6), None, "one alone that is too long");
        recent.add(taken(6..7, 1));
        assert_eq!(positions(&recent, 6, 7), Some(vec![6]));
    }
}
