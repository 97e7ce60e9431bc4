//! Fences: one event refuses all that was issued to a scope at or before a position, however much that is.
//!
//! A fence compares positions, never clocks, and ends nothing that is issued after it. Fences over the scopes of one
//! credential are combined by their maximum: the lower one never gives back what the higher one took (H5). They are for
//! the workers' side, and leave operators' keys alone: whoever raises a fence over everything must be able to go on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ids::{EnrollmentSecretId, PoolId, WorkerId};
use super::time::Timestamp;

/// Whose credentials a fence is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FenceScope {
    /// Every worker's credentials, and every enrollment secret.
    Everything,
    /// Those of the pool's workers, and the enrollment secrets that let workers into it.
    Pool(PoolId),
    /// The enrollment secret, what it was rotated into, and the credentials of all workers that these let in.
    Lineage(EnrollmentSecretId),
    Worker(WorkerId),
}

/// The first position that is past all fences raised over something. One number, since it lies in the row of each worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Floor(u64);

/// A fence that stands: of those raised over its scope, the one that refuses most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// All that was issued at this position or before it is refused.
    pub up_to: u64,
    /// The position of its event.
    pub raised: u64,
    pub raised_at: Timestamp,
}

/// How much a fence refuses that was good before it. Of tokens nothing is kept one by one, so they are not counted: a
/// token goes with the key that it was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// API keys and static secrets.
    pub keys: u64,
    /// Workers that lose at least one of them.
    pub workers: u64,
    pub enrollment_secrets: u64,
}

impl Floor {
    /// That of a fence up to this position.
    #[must_use]
    pub fn above(position: u64) -> Self {
        Self(position.saturating_add(1))
    }

    /// The first position at which it refuses nothing.
    #[must_use]
    pub fn first_good(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn refuses(self, issued: u64) -> bool {
        issued < self.0
    }

    /// A fence is only ever added: the greater of two holds.
    pub fn raise(&mut self, other: Floor) {
        *self = (*self).max(other);
    }
}

/// A kind and an id, as events name their subjects: `worker:web-1`.
impl fmt::Display for FenceScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FenceScope::Everything => f.write_str("everything"),
            FenceScope::Pool(id) => write!(f, "pool:{id}"),
            FenceScope::Lineage(id) => write!(f, "enrollment_secret:{id}"),
            FenceScope::Worker(id) => write!(f, "worker:{id}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`everything`, or `pool:`, `enrollment_secret:` or `worker:` and an id")]
pub struct NotAScope;

impl FromStr for FenceScope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        match text.split_once(':') {
            None if text == "everything" => Ok(FenceScope::Everything),
            Some(("pool", id)) => id.parse().map(FenceScope::Pool).map_err(|_| NotAScope),
            Some(("enrollment_secret", id)) => id.parse().map(FenceScope::Lineage).map_err(|_| NotAScope),
            Some(("worker", id)) => id.parse().map(FenceScope::Worker).map_err(|_| NotAScope),
            None | Some(_) => Err(NotAScope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_refuses_what_was_issued_at_or_before_the_fence() {
        assert!(!Floor::default().refuses(0), "without a fence nothing is refused");
        let floor = Floor::above(7);
        assert_eq!([0, 6, 7, 8, u64::MAX].map(|issued| floor.refuses(issued)), [true, true, true, false, false]);
        for (first, second) in [(3, 7), (7, 3)] {
            let mut both = Floor::above(first);
            both.raise(Floor::above(second));
            assert_eq!(both, Floor::above(7));
        }
    }

    #[test]
    fn a_scope_has_one_spelling() {
        for text in ["everything", "pool:blue", "enrollment_secret:0000000000000000000007", "worker:web-1"] {
            assert_eq!(text.parse::<FenceScope>().map(|scope| scope.to_string()).as_deref(), Ok(text));
        }
        for text in
            ["", "Everything", "everything:", "pool", "pool:", "pool:a b", "worker:a:b", "enrollment_secret:7", "key:a"]
        {
            assert_eq!(text.parse::<FenceScope>(), Err(NotAScope), "{text}");
        }
    }
}
