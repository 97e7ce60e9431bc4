//! This node: the Roll as it is published to every reader, and how sure the node is that it is the newest.
//!
//! One task writes here (the writer of [`crate::command`]); everyone else takes a [`Snapshot`], which is one atomic load,
//! and keeps it for as long as it answers one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use crate::credential::root_key::DerivedKeys;
use crate::domain::roll::Roll;
use crate::log::LogFault;
use crate::validate::Snapshot;
use crate::validate::ring::SigningRing;

pub mod replay;

/// Without a confirmation of the head for longer than this, a node refuses (promise 5).
pub const MAX_STALE_DEFAULT: Duration = Duration::from_secs(5);

/// The published state of this node.
pub struct Node {
    keys: Arc<DerivedKeys>,
    published: ArcSwap<Snapshot>,
    started: Instant,
    /// Milliseconds after `started` up to which the head is confirmed; 0 before the first time.
    confirmed_ms: AtomicU64,
    max_stale: Duration,
    fault: ArcSwapOption<String>,
}

/// Why a node does not answer for its state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCurrent {
    #[error("this node has not confirmed the head of the log for longer than it may")]
    Stale,
    #[error("this node has stopped following the log: {0}")]
    Stopped(Arc<String>),
}

impl Node {
    /// A node that has folded the log. It is not current before the writer has confirmed the head.
    pub fn new(keys: Arc<DerivedKeys>, roll: Roll, max_stale: Duration) -> Result<Self, LogFault> {
        let ring = Arc::new(SigningRing::of(&roll, &keys)?);
        Ok(Self {
            keys,
            published: ArcSwap::from_pointee(Snapshot { roll, ring }),
            started: Instant::now(),
            confirmed_ms: AtomicU64::new(0),
            max_stale,
            fault: ArcSwapOption::empty(),
        })
    }

    /// The state to validate against, if this node may answer for it at all. One clock reading, three atomic loads; never
    /// held across an `await`.
    pub fn current(&self) -> Result<Guard<Arc<Snapshot>>, NotCurrent> {
        // Looked at first: a state that is published after this is only newer.
        self.check_current()?;
        Ok(self.published.load())
    }

    /// The newest state that was published, current or not: for reads that say which position they are of.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    pub fn keys(&self) -> &Arc<DerivedKeys> {
        &self.keys
    }

    /// Whether this node may answer for its state.
    pub fn check_current(&self) -> Result<(), NotCurrent> {
        if let Some(fault) = self.fault.load().as_ref() {
            return Err(NotCurrent::Stopped(fault.clone()));
        }
        let confirmed = Duration::from_millis(self.confirmed_ms.load(Ordering::Acquire));
        if confirmed.is_zero() || self.started.elapsed() > confirmed + self.max_stale {
            return Err(NotCurrent::Stale);
        }
        Ok(())
    }

    /// Swaps in a newer state. The Roll only ever moves forward (H2).
    pub(crate) fn publish(&self, roll: Roll) -> Result<(), LogFault> {
        let before = self.published.load();
        debug_assert!(roll.next_position() >= before.roll.next_position());
        let ring =
            if before.ring.is_of(&roll) { before.ring.clone() } else { Arc::new(SigningRing::of(&roll, &self.keys)?) };
        self.published.store(Arc::new(Snapshot { roll, ring }));
        Ok(())
    }

    /// The published state was the newest at `asked`, the moment *before* the database was asked.
    pub(crate) fn confirm(&self, asked: Instant) {
        let after_start = asked.saturating_duration_since(self.started).as_millis();
        // At least 1: 0 says that there was none.
        let confirmed = u64::try_from(after_start).unwrap_or(u64::MAX).max(1);
        self.confirmed_ms.fetch_max(confirmed, Ordering::AcqRel);
    }

    /// The log cannot be believed any more. The node refuses everything from now on, and says why to operators.
    pub(crate) fn stop(&self, fault: &LogFault) {
        tracing::error!(%fault, "this node stops: it does not follow a log that it cannot believe");
        self.fault.store(Some(Arc::new(fault.to_string())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::root_key::RootKey;

    fn node(max_stale: Duration) -> Node {
        Node::new(RootKey::from_bytes([7; 32]).derive(), Roll::default(), max_stale).unwrap()
    }

    #[test]
    fn a_node_is_current_only_for_as_long_as_its_confirmation_lasts() {
        let node = node(Duration::from_millis(40));
        assert_eq!(node.check_current(), Err(NotCurrent::Stale), "never confirmed");

        let asked = Instant::now();
        node.confirm(asked);
        assert_eq!(node.check_current(), Ok(()));
        while asked.elapsed() <= Duration::from_millis(45) {
            std::thread::yield_now();
        }
        assert_eq!(node.check_current(), Err(NotCurrent::Stale), "not confirmed for longer than it may");

        node.confirm(Instant::now());
        node.confirm(asked);
        assert_eq!(node.check_current(), Ok(()), "an older answer that comes late takes nothing back");
    }

    #[test]
    fn a_node_that_was_stopped_stays_stopped() {
        let node = node(MAX_STALE_DEFAULT);
        node.confirm(Instant::now());
        node.stop(&LogFault::WrongRootKey);
        node.confirm(Instant::now());
        assert!(matches!(node.check_current(), Err(NotCurrent::Stopped(_))));
    }
}
