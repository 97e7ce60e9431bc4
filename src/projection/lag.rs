//! How far each projection is, for the metrics: of those that this node keeps as it keeps them, of others as it last saw.

use std::sync::atomic::{AtomicU64, Ordering};

use super::ALL;

/// For each projection the position of the first event that its rows do not hold.
#[derive(Debug, Default)]
pub struct Reached([AtomicU64; ALL.len()]);

impl Reached {
    pub(super) fn tell(&self, name: &str, next_position: u64) {
        if let Some(place) = ALL.iter().position(|projection| projection.name == name) {
            self.0[place].store(next_position, Ordering::Relaxed);
        }
    }

    /// How many of the events before `known` each does not hold.
    pub fn behind(&self, known: u64) -> impl Iterator<Item = (&'static str, u64)> {
        let reached = self.0.iter().map(|reached| reached.load(Ordering::Relaxed));
        ALL.iter().zip(reached).map(move |(projection, reached)| (projection.name, known.saturating_sub(reached)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_built_lacks_everything_and_what_is_ahead_lacks_nothing() {
        let reached = Reached::default();
        reached.tell("workers", 7);
        reached.tell("keys", 12);
        reached.tell("of a newer version", 1);
        let behind: Vec<_> = reached.behind(10).take(3).collect();
        assert_eq!(behind, [("pools", 10), ("workers", 3), ("keys", 0)]);
    }
}
