//! What keeps the tables that lists are read from: the runner of the projections, and the uses of keys.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::command::writer::Running;
use crate::node::{Node, background};
use crate::postgres::Database;
use crate::projection::lag::Reached;
use crate::projection::runner::{self, Pace};
use crate::projection::used::KeysUsed;
use crate::telemetry::Metrics;

/// For how long the last uses of keys are tried to be written: where the database is gone, they are lost.
const LAST_USES: Duration = Duration::from_secs(5);

/// How often is looked whether somebody was isolated: netguard blocks within a second, and asks no node but one.
const LOOK_FOR_ISOLATIONS: Duration = Duration::from_millis(100);

/// All tasks, and the thread of the runner.
pub(super) struct Projecting {
    running: thread::JoinHandle<()>,
    stop_running: oneshot::Sender<()>,
    hurrying: JoinHandle<()>,
    used: Arc<KeysUsed>,
    noting: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Projecting {
    pub(super) fn start(
        database: &Database,
        running: &Running,
        used: Arc<KeysUsed>,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let (node, reached) = (running.node.clone(), Arc::new(Reached::default()));
        let told = reached.clone();
        metrics.watch_lags(move || told.behind(node.snapshot().roll.next_position()).collect());
        let start = runner::Start {
            database: database.clone(),
            node: running.node.clone(),
            heads: running.heads.clone(),
            log: running.log,
            reached,
            pace: Pace::default(),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let hurrying = tokio::spawn(hurry(running.node.clone(), used.clone()));
        let (database, uses) = (database.clone(), used.clone());
        let noting = tokio::spawn(async move { uses.run(&database, async { drop(stopped.await) }).await });
        let (stop_running, told) = oneshot::channel::<()>();
        // Lists can be late, verdicts cannot.
        let running = background::spawn("projections", async {
            tokio::select! {
                () = runner::run(start) => {}
                _ = told => {}
            }
        });
        let running = running.context("cannot start the thread that keeps the projections")?;
        Ok(Self { running, stop_running, hurrying, used, noting, stop })
    }

    /// The runner can be ended anywhere; the uses of the last seconds are written down.
    pub(super) async fn end(self) {
        self.hurrying.abort();
        drop(self.stop_running);
        let joined = tokio::task::spawn_blocking(|| self.running.join());
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("the keeping of projections broke off");
        }
        drop(self.stop);
        self.used.hurry();
        match tokio::time::timeout(LAST_USES, self.noting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the noting of last uses broke off"),
            Err(_) => tracing::warn!("the last uses of keys could not be written down before the end"),
        }
    }
}

/// Whoever is isolated was seen somewhere, perhaps by this node alone and a moment ago: that is written down at once.
async fn hurry(node: Arc<Node>, used: Arc<KeysUsed>) {
    let mut before = node.snapshot();
    loop {
        tokio::time::sleep(LOOK_FOR_ISOLATIONS).await;
        let now = node.snapshot();
        if !now.roll.guards_as(&before.roll) {
            used.hurry();
        }
        before = now;
    }
}
