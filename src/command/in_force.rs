//! Records when what took access away was in force on every node: `barrier.passed`, for whoever asks later.
//!
//! The node that took it away waits and records at once. Should it end before, any other does so after a while. While one
//! barrier is waited for, whatever comes meanwhile is left to the next: their number is bounded by time, and not by load.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{CommandQueue, Wish, mint};
use crate::domain::actor::Author;
use crate::domain::command::{Command, Context};
use crate::domain::ids::CommandId;
use crate::node::Node;
use crate::node::barrier::{Barriers, Named, Passed};

/// Between two records of one node. The moment of a reduction is known to within this and the barrier's own time.
const PAUSE: Duration = Duration::from_millis(250);
/// For how long another node is given time to record its own.
const FALLBACK: Duration = Duration::from_secs(10);
/// A barrier that takes longer is begun anew, and said so: a node that renews its lease and does not follow keeps it up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the recording works with.
pub struct InForce {
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    pub barriers: Barriers,
    /// The newest position at which this node itself has taken access away.
    pub reductions: watch::Receiver<u64>,
}

impl InForce {
    /// Runs until `stopped` ends. What is not recorded by then is left to another node, or to the next start.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        tokio::select! {
            () = self.record_all() => {}
            () = stopped => {}
        }
    }

    async fn record_all(&mut self) {
        let mut overdue = Instant::now() + FALLBACK;
        loop {
            tokio::select! {
                reduced = self.reductions.changed() => if reduced.is_err() { return },
                () = tokio::time::sleep_until(overdue) => {}
            }
            overdue = Instant::now() + FALLBACK;
            let snapshot = self.node.snapshot();
            let (reduced, in_force) = (snapshot.roll.reduced(), snapshot.roll.in_force());
            drop(snapshot);
            if reduced > in_force {
                self.record(reduced).await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn record(&mut self, through: u64) {
        // What is published up to here is waited for with it.
        self.reductions.mark_unchanged();
        let passed = match self.barriers.wait(through, PATIENCE).await {
            Ok(passed) => passed,
            Err(error) => {
                tracing::warn!(%error, through, "it cannot be recorded yet when this was in force everywhere");
                return self.reductions.mark_changed();
            }
        };
        if !passed.is_everywhere() {
            let missing: Vec<&String> = passed.missing.values().collect();
            tracing::warn!(through, ?missing, "not in force everywhere yet: these nodes renew their leases and lag");
            return self.reductions.mark_changed();
        }
        if let Err(error) = self.queue.submit(wish(through, &passed)).await {
            tracing::warn!(%error, through, "it could not be recorded when this was in force everywhere");
        }
    }
}

fn wish(through: u64, passed: &Passed) -> Wish {
    let names = |nodes: &Named| nodes.values().map(|name| name.as_str().into()).collect();
    let command =
        Command::RecordBarrier { through, confirmed: names(&passed.confirmed), waited_out: names(&passed.waited_out) };
    Wish {
        id: CommandId::from_uuid(mint::id()),
        fingerprint: None,
        command,
        context: Context { now: mint::now(), author: Author::system(), reason: None, incident: None },
        answer: Arc::new(|_, _| serde_json::Value::Null),
        sealed: None,
        dry_run: false,
    }
}
