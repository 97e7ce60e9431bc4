//! Tokens of pools that count them: one `tokens.issued` for each worker and window, instead of an event for each token.
//!
//! The counts of a window are in memory until it ends, and lost with a node that is killed: the price that a pool's
//! operator chose. What was counted of a worker is kept once, so the fleet bounds the memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;

use super::{CommandQueue, Wish, mint};
use crate::domain::actor::Author;
use crate::domain::command::{Command, Context};
use crate::domain::ids::{CommandId, WorkerId};
use crate::domain::time::Timestamp;

pub const WINDOW: Duration = Duration::from_mins(1);
/// Counts that wait for the writer at a time: enough for its batches, and a small part of the queue, which requests need.
const WRITTEN_AT_ONCE: usize = 64;

/// How many tokens each worker was given since the window began.
pub struct IssuedCounts {
    window: Mutex<Window>,
}

struct Window {
    from: Timestamp,
    counts: HashMap<WorkerId, u64>,
}

impl Default for IssuedCounts {
    fn default() -> Self {
        Self { window: Mutex::new(Window { from: mint::now(), counts: HashMap::new() }) }
    }
}

impl IssuedCounts {
    /// Counts one token.
    pub fn count(&self, worker: &WorkerId) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        match window.counts.get_mut(worker) {
            Some(count) => *count += 1,
            None => drop(window.counts.insert(worker.clone(), 1)),
        }
    }

    /// Writes the window that has passed into the log, and starts another. What cannot be written is counted on.
    pub async fn flush(&self, queue: &CommandQueue) {
        let to = mint::now();
        let (from, counts) = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            let from = std::mem::replace(&mut window.from, to);
            (from, std::mem::take(&mut window.counts))
        };
        let writes = counts.into_iter().map(async |(worker, count)| {
            let written = queue.submit(issued(worker.clone(), count, from, to)).await;
            (worker, count, written.err())
        });
        let mut writes = futures_util::stream::iter(writes).buffer_unordered(WRITTEN_AT_ONCE);
        let (mut unwritten, mut why) = (0, None);
        while let Some((worker, count, error)) = writes.next().await {
            if let Some(error) = error {
                self.count_on(worker, count, from);
                (unwritten, why) = (unwritten + count, Some(error));
            }
        }
        if let Some(error) = why {
            tracing::warn!(%error, unwritten, "counts of issued tokens could not be written yet");
        }
    }

    /// Flushes every window until `stopped` ends, and then the last one. Dropping it would drop counts with it.
    pub async fn run(&self, queue: &CommandQueue, stopped: impl Future<Output = ()>) {
        let mut windows = tokio::time::interval(WINDOW);
        let mut stopped = std::pin::pin!(stopped);
        loop {
            tokio::select! {
                _ = windows.tick() => self.flush(queue).await,
                () = &mut stopped => return self.flush(queue).await,
            }
        }
    }

    fn count_on(&self, worker: WorkerId, count: u64, from: Timestamp) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.from = window.from.min(from);
        *window.counts.entry(worker).or_default() += count;
    }
}

fn issued(worker: WorkerId, count: u64, from: Timestamp, to: Timestamp) -> Wish {
    Wish {
        id: CommandId::from_uuid(mint::id()),
        fingerprint: None,
        command: Command::RecordTokensIssued { worker, count, from, to },
        context: Context { now: to, author: Author::system(), reason: None, incident: None },
        answer: Arc::new(|_, _| serde_json::Value::Null),
        sealed: None,
        dry_run: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Outcome, Submission};

    fn counted(counts: &IssuedCounts) -> Vec<(String, u64)> {
        let window = counts.window.lock().unwrap();
        let mut counts: Vec<_> = window.counts.iter().map(|(worker, count)| (worker.to_string(), *count)).collect();
        counts.sort();
        counts
    }

    fn answer(submission: Submission) -> (String, u64) {
        let Command::RecordTokensIssued { worker, count, from, to } = &submission.wish.command else {
            unreachable!("nothing else is written")
        };
        assert!(from <= to);
        let outcome = Outcome {
            position: 1,
            changed: true,
            body: serde_json::Value::Null,
            repeated: false,
            sealed: None,
            secrets_gone: false,
        };
        let written = (worker.to_string(), *count);
        drop(submission.reply.send(Ok(outcome)));
        written
    }

    #[tokio::test]
    async fn a_window_is_written_once_a_worker() {
        let counts = IssuedCounts::default();
        let (queue, mut receiver) = CommandQueue::new(WRITTEN_AT_ONCE);
        let workers: Vec<WorkerId> = ["a", "b"].iter().map(|id| id.parse().unwrap()).collect();
        for worker in [&workers[0], &workers[1], &workers[0]] {
            counts.count(worker);
        }
        let writer = async {
            let mut written = vec![answer(receiver.recv().await.unwrap()), answer(receiver.recv().await.unwrap())];
            written.sort();
            written
        };
        let ((), written) = tokio::join!(counts.flush(&queue), writer);
        assert_eq!(written, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert_eq!(counted(&counts), []);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted_on() {
        let counts = IssuedCounts::default();
        let (queue, receiver) = CommandQueue::new(1);
        drop(receiver);
        counts.count(&"a".parse().unwrap());
        let from = counts.window.lock().unwrap().from;
        counts.flush(&queue).await;
        counts.count(&"a".parse().unwrap());
        assert_eq!(counted(&counts), [("a".to_owned(), 2)]);
        assert_eq!(counts.window.lock().unwrap().from, from, "the window is as long as what it counts");
    }
}
