//! What the service writes to the log by itself: counts by window, of failed attempts and of tokens of pools that count
//! them, when what took access away was in force on every node, the items of
//! plans, and keys that trip.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::command::CommandQueue;
use crate::command::in_force::InForce;
use crate::command::issued::IssuedCounts;
use crate::command::plans::Plans;
use crate::command::tripped::Recording;
use crate::http::attempts::Attempts;

/// For how long the counts of the last window are tried to be written: where the database is gone, they are lost.
const LAST_COUNTS: Duration = Duration::from_secs(5);

/// The running counts.
pub(super) struct Counting {
    tasks: [(JoinHandle<()>, &'static str); 5],
    stop: watch::Sender<()>,
}

impl Counting {
    pub(super) fn start(
        attempts: Arc<Attempts>,
        issued: Arc<IssuedCounts>,
        in_force: InForce,
        plans: Plans,
        trips: Recording,
        queue: &CommandQueue,
    ) -> Self {
        let (stop, told_to_stop) = watch::channel(());
        let of_attempts = tokio::spawn({
            let (queue, mut told_to_stop) = (queue.clone(), told_to_stop.clone());
            async move { attempts.run(&queue, async { drop(told_to_stop.changed().await) }).await }
        });
        let of_tokens = tokio::spawn({
            let (queue, mut told_to_stop) = (queue.clone(), told_to_stop.clone());
            async move { issued.run(&queue, async { drop(told_to_stop.changed().await) }).await }
        });
        let of_barriers = tokio::spawn({
            let mut told_to_stop = told_to_stop.clone();
            async move { in_force.run(async { drop(told_to_stop.changed().await) }).await }
        });
        let of_plans = tokio::spawn({
            let mut told_to_stop = told_to_stop.clone();
            async move { plans.run(async { drop(told_to_stop.changed().await) }).await }
        });
        let of_trips = tokio::spawn({
            let mut told_to_stop = told_to_stop;
            async move { trips.run(async { drop(told_to_stop.changed().await) }).await }
        });
        let tasks = [
            (of_attempts, "failed attempts"),
            (of_tokens, "tokens"),
            (of_barriers, "barriers"),
            (of_plans, "plans"),
            (of_trips, "tripwires"),
        ];
        Self { tasks, stop }
    }

    /// Writes what was counted last, if that can be done soon.
    pub(super) async fn end(self) {
        drop(self.stop);
        let written = async {
            for (task, of) in self.tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, of, "the counting broke off");
                }
            }
        };
        if tokio::time::timeout(LAST_COUNTS, written).await.is_err() {
            tracing::warn!("the last counts of failed attempts and of tokens could not be written before the end");
        }
    }
}
