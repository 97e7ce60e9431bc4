//! What is counted in memory and written to the log by window: failed attempts, and tokens of pools that count them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::command::CommandQueue;
use crate::command::issued::IssuedCounts;
use crate::http::attempts::Attempts;

/// For how long the counts of the last window are tried to be written: where the database is gone, they are lost.
const LAST_COUNTS: Duration = Duration::from_secs(5);

/// The running counts.
pub(super) struct Counting {
    tasks: [(JoinHandle<()>, &'static str); 2],
    stop: watch::Sender<()>,
}

impl Counting {
    pub(super) fn start(attempts: Arc<Attempts>, issued: Arc<IssuedCounts>, queue: &CommandQueue) -> Self {
        let (stop, told_to_stop) = watch::channel(());
        let of_attempts = tokio::spawn({
            let (queue, mut told_to_stop) = (queue.clone(), told_to_stop.clone());
            async move { attempts.run(&queue, async { drop(told_to_stop.changed().await) }).await }
        });
        let of_tokens = tokio::spawn({
            let (queue, mut told_to_stop) = (queue.clone(), told_to_stop);
            async move { issued.run(&queue, async { drop(told_to_stop.changed().await) }).await }
        });
        Self { tasks: [(of_attempts, "failed attempts"), (of_tokens, "tokens")], stop }
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
