//! When snapshots are taken, and where: on a thread of its own that gives way to everyone else.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::Snapshots;
use crate::domain::ids::LogId;
use crate::log::head::Head;
use crate::node::{Node, NotCurrent};
use crate::turns::give_way;
use crate::validate::Snapshot;

/// A start folds so many events in about a second, of the three that it may take.
const EVENTS_MAX: u64 = 100_000;
/// But a fleet that writes without a pause is not written to the disk over and over: a million keys are 150 MB.
/// At 5,000 events a second as many come meanwhile as are worth one.
const INTERVAL_MIN: Duration = Duration::from_secs(20);
/// And one that writes little gets its snapshot once there is something to gain by it.
const INTERVAL_MAX: Duration = Duration::from_mins(30);
const EVENTS_MIN: u64 = 1_000;
/// How often it is looked whether one is due.
const LOOK: Duration = Duration::from_secs(5);
/// The Roll and the head are published one after the other: a reader in between asks again, and gives up where the writer
/// has ended between the two.
const PAIRING_PAUSE: Duration = Duration::from_millis(1);
const PAIRINGS_MAX: usize = 1_000;

/// Whom it takes snapshots of.
pub struct Keeper {
    pub snapshots: Snapshots,
    pub node: Arc<Node>,
    pub log: LogId,
    pub heads: watch::Receiver<Head>,
    /// Where the newest snapshot ends; 0 where there is none.
    pub kept: u64,
}

/// The running thread.
pub struct Keeping {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Keeper {
    pub fn start(self) -> std::io::Result<Keeping> {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("snapshots".to_owned()).spawn(move || self.run(stopped))?;
        Ok(Keeping { stop, thread })
    }

    fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        give_way();
        let mut taken = Instant::now();
        loop {
            thread::park_timeout(LOOK);
            let stopping = !matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty));
            let new = self.heads.borrow().next_position.saturating_sub(self.kept);
            if (stopping && new > 0) || is_due(new, taken.elapsed()) {
                self.take();
                // After a failure too: a disk that is full is not tried every few seconds.
                taken = Instant::now();
            }
            if stopping {
                return;
            }
        }
    }

    pub(super) fn take(&mut self) {
        let began = Instant::now();
        // Of a log that was found to be another there is none: the next start is to read it, and to refuse.
        if self.has_stopped() {
            return;
        }
        let Some((head, state)) = self.pair() else { return };
        let written = self.snapshots.write(self.log, &head, &state.roll);
        // Who has stopped the node meanwhile has removed what there was, and not what was on its way.
        if self.has_stopped() {
            return drop(self.snapshots.discard());
        }
        match written {
            Ok(path) => {
                self.kept = head.next_position;
                tracing::info!(snapshot = %path.display(), elapsed = ?began.elapsed(), "wrote a snapshot");
            }
            Err(error) => {
                let folder = self.snapshots.folder().display();
                tracing::warn!(%error, %folder, "a snapshot could not be written; the next start takes longer");
            }
        }
    }

    fn has_stopped(&self) -> bool {
        matches!(self.node.check_current(), Err(NotCurrent::Stopped(_)))
    }

    /// The newest state with the head that it ends at.
    pub(super) fn pair(&self) -> Option<(Head, Arc<Snapshot>)> {
        for _ in 0..PAIRINGS_MAX {
            let (head, state) = (self.heads.borrow().clone(), self.node.snapshot());
            if head.next_position == state.roll.next_position() {
                return Some((head, state));
            }
            thread::sleep(PAIRING_PAUSE);
        }
        None
    }
}

impl Keeping {
    /// Takes the last one, of all that there is, and ends.
    pub async fn end(self) {
        drop(self.stop);
        self.thread.thread().unpark();
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("the taking of snapshots broke off");
        }
    }
}

/// Whether so many events that are in no snapshot, and so long after the last one, are worth one.
fn is_due(new: u64, elapsed: Duration) -> bool {
    (new >= EVENTS_MAX && elapsed >= INTERVAL_MIN) || (new >= EVENTS_MIN && elapsed >= INTERVAL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_after_many_events_or_after_a_while_with_some() {
        let table = [
            (0, INTERVAL_MAX * 10, false),
            (EVENTS_MIN - 1, INTERVAL_MAX, false),
            (EVENTS_MIN, INTERVAL_MAX, true),
            (EVENTS_MIN, INTERVAL_MAX / 2, false),
            (EVENTS_MAX, INTERVAL_MIN, true),
            (EVENTS_MAX - 1, INTERVAL_MIN, false),
            (EVENTS_MAX * 10, INTERVAL_MIN / 2, false),
        ];
        for (new, elapsed, expected) in table {
            assert_eq!(is_due(new, elapsed), expected, "{new} events, {elapsed:?}");
        }
    }
}
