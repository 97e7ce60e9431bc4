//! This node: the Roll as it is published to every reader, and how sure the node is that it is the newest.
//!
//! One task writes here (the writer of [`crate::command`]); everyone else takes a [`Snapshot`], which is one atomic load,
//! and keeps it for as long as it answers one request.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use tokio::sync::watch;

use crate::credential::root_key::DerivedKeys;
use crate::domain::roll::Roll;
use crate::log::LogFault;
use crate::validate::Snapshot;
use crate::validate::ring::SigningRing;

use lease::{Deadline, Lease, Uptime};
use plan_lists::PlanLists;
use recent::Recent;

pub mod background;
pub mod barrier;
pub mod lease;
pub mod mirroring;
pub mod plan_lists;
pub mod presence;
pub mod recent;
pub mod recheck;
pub mod replay;
pub mod snapshot;

/// Without a confirmation of the head for longer than this, a node refuses (promise 5).
pub const MAX_STALE_DEFAULT: Duration = Duration::from_secs(5);

/// The published state of this node.
pub struct Node {
    keys: Arc<DerivedKeys>,
    published: ArcSwap<Snapshot>,
    /// The position of the next event, for those who wait for one.
    next_position: watch::Sender<u64>,
    /// Until when what is published counts as the newest.
    confirmed_until: Deadline,
    max_stale: Duration,
    lease: Lease,
    fault: ArcSwapOption<String>,
    plan_lists: PlanLists,
    recent: Recent,
}

/// Why a node does not answer for its state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCurrent {
    #[error("this node has not confirmed the head of the log, or its lease, for longer than it may")]
    Stale,
    #[error("this node has stopped following the log: {0}")]
    Stopped(Arc<String>),
}

impl Node {
    /// A node that has folded the log. It is not current before the head is confirmed and it holds a lease.
    pub fn new(keys: Arc<DerivedKeys>, roll: Roll, max_stale: Duration) -> Result<Self, LogFault> {
        let ring = Arc::new(SigningRing::of(&roll, &keys)?);
        Ok(Self {
            plan_lists: PlanLists::default(),
            recent: Recent::default(),
            keys,
            next_position: watch::Sender::new(roll.next_position()),
            published: ArcSwap::from_pointee(Snapshot { roll, ring }),
            confirmed_until: Deadline::default(),
            max_stale,
            lease: Lease::none(max_stale),
            fault: ArcSwapOption::empty(),
        })
    }

    /// The state to validate against, if this node may answer for it at all. One clock reading, four atomic loads; never
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

    /// What plans have shown.
    pub fn plan_lists(&self) -> &PlanLists {
        &self.plan_lists
    }

    /// The newest events that were decided or followed one by one: what is published holds them, or is about to.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    pub fn keys(&self) -> &Arc<DerivedKeys> {
        &self.keys
    }

    /// Whether this node may answer for its state.
    pub fn check_current(&self) -> Result<(), NotCurrent> {
        if let Some(fault) = self.fault.load().as_ref() {
            return Err(NotCurrent::Stopped(fault.clone()));
        }
        let now = Uptime::now();
        if self.is_confirmed(now) && self.lease.is_live(now) { Ok(()) } else { Err(NotCurrent::Stale) }
    }

    /// Whether the published state was the newest not longer than `max_stale` ago (promise 5).
    pub(crate) fn is_confirmed(&self, now: Uptime) -> bool {
        self.confirmed_until.is_ahead_of(now)
    }

    /// What the other nodes go by (promise 4).
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Waits until the event at `position` is in the published state.
    pub async fn reached(&self, position: u64) {
        let mut next = self.next_position.subscribe();
        // The sender is this node's own, so there is one for as long as anybody waits.
        drop(next.wait_for(|next| *next > position).await);
    }

    /// Swaps in a newer state. The Roll only ever moves forward (H2).
    pub(crate) fn publish(&self, roll: Roll) -> Result<(), LogFault> {
        let before = self.published.load();
        debug_assert!(roll.next_position() >= before.roll.next_position());
        let ring =
            if before.ring.is_of(&roll) { before.ring.clone() } else { Arc::new(SigningRing::of(&roll, &self.keys)?) };
        let next_position = roll.next_position();
        self.published.store(Arc::new(Snapshot { roll, ring }));
        self.next_position.send_replace(next_position);
        Ok(())
    }

    /// The published state was the newest at `asked`, the moment *before* the database was asked.
    pub(crate) fn confirm(&self, asked: Uptime) {
        self.confirmed_until.move_on(asked.after(self.max_stale));
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

    fn is_current(node: &Node, confirmed: Option<Uptime>, renewed: Option<Uptime>) -> bool {
        if let Some(asked) = confirmed {
            node.confirm(asked);
        }
        if let Some(sent) = renewed {
            node.lease().renewed(sent);
        }
        node.check_current().is_ok()
    }

    #[test]
    fn a_node_is_current_only_while_both_its_confirmation_and_its_lease_last() {
        let max_stale = Duration::from_secs(64);
        let now = Uptime::now();
        let long_ago = Uptime::at_start();
        // (confirmed, renewed, is current)
        let table = [
            (None, None, false),
            (Some(now), None, false),
            (None, Some(now), false),
            (Some(now), Some(now), true),
            (Some(long_ago), Some(now), false),
            (Some(now), Some(long_ago), false),
        ];
        for (confirmed, renewed, expected) in table {
            assert_eq!(is_current(&node(max_stale), confirmed, renewed), expected, "{confirmed:?} {renewed:?}");
        }
    }

    #[test]
    fn an_older_answer_that_comes_late_takes_nothing_back() {
        let (node, now) = (node(Duration::from_secs(64)), Uptime::now());
        assert!(is_current(&node, Some(now), Some(now)));
        assert!(is_current(&node, Some(Uptime::at_start()), Some(Uptime::at_start())));
    }

    #[test]
    fn a_node_that_was_stopped_stays_stopped() {
        let node = node(MAX_STALE_DEFAULT);
        assert!(is_current(&node, Some(Uptime::now()), Some(Uptime::now())));
        node.stop(&LogFault::WrongRootKey);
        assert!(!is_current(&node, Some(Uptime::now()), Some(Uptime::now())));
        assert!(matches!(node.check_current(), Err(NotCurrent::Stopped(_))));
    }
}
