//! Records applied plans item by item, beside all other traffic, until the last of them is in the log.
//!
//! The plan is in force already, so nothing hurries. The node that applied it goes on at once; should it end before the plan
//! does, any other goes on where it stood still. Two that go on with the same items do no harm: the later one finds that the
//! plan has come further, and records nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{CommandQueue, Wish, mint};
use crate::domain::actor::Author;
use crate::domain::command::{Command, Context};
use crate::domain::ids::{CommandId, PlanId};
use crate::log::head::Head;
use crate::node::Node;

/// How often it is looked for plans that another node has left, when nothing else happens.
const LOOK: Duration = Duration::from_millis(500);
/// A plan that has not moved for so long has nobody who goes on with it. The node that does is never so slow while it lives.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// Before it is tried again where the log could not be written.
const PAUSE: Duration = Duration::from_secs(1);

/// What the recording works with.
pub struct Plans {
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    /// Where the published Roll ends.
    pub heads: watch::Receiver<Head>,
    /// The newest position at which this node itself has taken access away.
    pub reductions: watch::Receiver<u64>,
}

/// How far a plan had come when it was last looked at, and since when.
struct Seen {
    done: u64,
    since: Instant,
    /// Whether it was this node that recorded the last items.
    ours: bool,
}

/// One plan to go on with.
struct Next {
    plan: PlanId,
    done: u64,
}

impl Plans {
    /// Runs until `stopped` ends. What is not recorded by then is left to another node, or to the next start.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        tokio::select! {
            () = self.record_all() => {}
            () = stopped => {}
        }
    }

    async fn record_all(&mut self) {
        let mut seen = HashMap::new();
        loop {
            for next in self.due(&mut seen) {
                if !self.record(&next, &mut seen).await {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            if self.due(&mut seen).is_empty() {
                tokio::select! {
                    moved = self.heads.changed() => if moved.is_err() { return },
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }

    /// The plans that this node should go on with.
    fn due(&self, seen: &mut HashMap<PlanId, Seen>) -> Vec<Next> {
        let snapshot = self.node.snapshot();
        let (now, reduced) = (Instant::now(), *self.reductions.borrow());
        let mut due = Vec::new();
        let mut running = HashMap::new();
        for (plan, progress) in snapshot.roll.running_plans() {
            let before = seen.remove(&plan.id).filter(|seen| seen.done == progress.done);
            // What was applied here is begun here. A later reduction of this node hides that, and costs a moment's wait.
            let applied_here = progress.done == 0 && reduced == progress.applied;
            let state = before.unwrap_or(Seen { done: progress.done, since: now, ours: applied_here });
            if state.ours || state.since.elapsed() >= STOOD_STILL {
                due.push(Next { plan: plan.id, done: progress.done });
            }
            running.insert(plan.id, state);
        }
        *seen = running;
        due
    }

    /// Whether the next items are in the log.
    async fn record(&self, next: &Next, seen: &mut HashMap<PlanId, Seen>) -> bool {
        let Next { plan, done } = *next;
        let wish = Wish {
            id: CommandId::from_uuid(mint::id()),
            fingerprint: None,
            command: Command::ContinuePlan { plan, done },
            context: Context { now: mint::now(), author: Author::system(), reason: None, incident: None },
            answer: Arc::new(|_, _| serde_json::Value::Null),
            sealed: None,
        };
        if let Err(error) = self.queue.submit(wish).await {
            tracing::warn!(%error, %plan, done, "a plan's items could not be recorded yet");
            return false;
        }
        let snapshot = self.node.snapshot();
        let progress = snapshot.roll.plan(plan).and_then(|plan| plan.progress.as_ref());
        if let Some(done) = progress.map(|progress| progress.done) {
            seen.insert(plan, Seen { done, since: Instant::now(), ours: true });
        }
        true
    }
}
