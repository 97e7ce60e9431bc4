//! Waiting until every node has applied a position, or can answer for nothing any more.
//!
//! What makes it safe is in `presence/*.sql` and [`super::lease`]; this only watches and measures. Nothing here reads a
//! wall clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use uuid::Uuid;

use super::presence::{self, Holder};
use crate::log::LogFault;

/// Between two looks: short at first, since most nodes confirm within a few milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// How a barrier ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The names of the nodes that have applied the position.
    pub confirmed: Vec<String>,
    /// Of those that said nothing for so long that they refuse by themselves.
    pub waited_out: Vec<String>,
    /// Of those that were still waited for when the time was over. Where there are any, nothing is promised.
    pub missing: Vec<String>,
}

/// One barrier, and what it has seen of each node.
pub struct Barrier {
    position: u64,
    still_since: HashMap<Uuid, (i64, Instant)>,
    passed: Passed,
}

impl Barrier {
    /// For the event at `position`.
    #[must_use]
    pub fn at(position: u64) -> Self {
        Self { position, still_since: HashMap::new(), passed: Passed::default() }
    }

    /// Looks until no node is left to wait for, or until `deadline`.
    pub async fn wait(mut self, client: &Client, deadline: Instant) -> Result<Passed, LogFault> {
        let mut pause = PAUSE_MIN;
        loop {
            let holders = presence::holders(client).await?;
            let seen = Instant::now();
            let silent = self.look(&holders, seen);
            for (node, renewals) in silent {
                if presence::retire(client, node, renewals).await?
                    && let Some(holder) = holders.iter().find(|holder| holder.id == node)
                {
                    self.passed.waited_out.push(holder.name.clone());
                }
            }
            let left: Vec<&Holder> = holders.iter().filter(|holder| holder.applied <= self.position).collect();
            let waited_out = |holder: &&Holder| self.passed.waited_out.contains(&holder.name);
            if left.iter().all(|holder| waited_out(&holder)) || Instant::now() >= deadline {
                let names = |holders: Vec<&Holder>| holders.iter().map(|holder| holder.name.clone()).collect();
                let (_, missing): (Vec<&Holder>, Vec<&Holder>) = left.into_iter().partition(|holder| waited_out(&holder));
                self.passed.missing = names(missing);
                self.passed.confirmed =
                    names(holders.iter().filter(|holder| holder.applied > self.position).collect());
                return Ok(self.passed);
            }
            tokio::time::sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The nodes that have not applied the position and whose renewals have stood still for a whole lease, counted from
    /// when that was first *seen*: the renewal itself was sent before.
    fn look(&mut self, holders: &[Holder], seen: Instant) -> Vec<(Uuid, i64)> {
        let mut silent = Vec::new();
        for holder in holders.iter().filter(|holder| holder.applied <= self.position) {
            let since = self.still_since.entry(holder.id).or_insert((holder.renewals, seen));
            if since.0 != holder.renewals {
                *since = (holder.renewals, seen);
            }
            if seen.saturating_duration_since(since.1) > holder.lease {
                silent.push((holder.id, holder.renewals));
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(applied: u64, renewals: i64) -> Holder {
        Holder { id: Uuid::from_u128(1), name: "one".into(), applied, renewals, lease: Duration::from_secs(5) }
    }

    #[test]
    fn only_a_node_that_stands_still_for_a_whole_lease_is_given_up() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut barrier = Barrier::at(7);
        assert_eq!(barrier.look(&[holder(7, 1)], start), []);
        assert_eq!(barrier.look(&[holder(7, 1)], after(5)), [], "not longer than a lease");
        assert_eq!(barrier.look(&[holder(7, 2)], after(6)), [], "it has renewed: counted anew");
        assert_eq!(barrier.look(&[holder(7, 2)], after(11)), []);
        assert_eq!(barrier.look(&[holder(7, 2)], after(12)), [(Uuid::from_u128(1), 2)]);
        assert_eq!(barrier.look(&[holder(8, 2)], after(30)), [], "it has applied the position");
    }
}
