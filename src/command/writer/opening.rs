//! What a node does before it serves anyone: it opens the log, checks it, and folds it.

use std::sync::Arc;
use std::time::Instant;

use super::StartError;
use super::link::unhurried;
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::log::head::{self, Head};
use crate::log::seen::Seen;
use crate::log::{guard, read};
use crate::node::background;
use crate::node::replay::{self, Folded, Remembered};
use crate::node::snapshot::{Found, Snapshots};
use crate::postgres::Database;

pub(super) struct Opening {
    pub(super) database: Database,
    pub(super) keys: Arc<DerivedKeys>,
    /// What this node has seen of the log before.
    pub(super) seen: Option<Seen>,
    /// Where its mirror ends.
    pub(super) mirrored: Option<Seen>,
    pub(super) snapshots: Option<Snapshots>,
}

pub(super) struct Opened {
    pub(super) log: LogId,
    pub(super) folded: Folded,
    /// Where the snapshot ends that it began from.
    pub(super) resumed: Option<Head>,
}

impl Opening {
    /// On a thread that gives way: this node serves nobody yet.
    pub(super) async fn open(self) -> Result<Opened, StartError> {
        // On the heap: whoever starts a node holds much already.
        Box::pin(background::apart("opening", self.open_here())).await.map_err(StartError::Thread)?
    }

    async fn open_here(self) -> Result<Opened, StartError> {
        let session = self.database.session().await?;
        unhurried(&session.client).await?;
        let has_seen = self.seen.as_ref().or(self.mirrored.as_ref());
        let log = head::open(&session.client, &self.keys, has_seen).await?;
        let began = Instant::now();
        let snapshots = newest_snapshot(self.snapshots, log).await;
        let resumed = snapshots.state.as_ref().map(|state| state.head.clone());
        let remembered = Remembered { seen: self.seen.as_ref(), mirrored: self.mirrored.as_ref() };
        let folded = replay::resume(&session.client, &self.keys, log, remembered, snapshots).await?;
        read::check_nothing_past_end(&session.client).await?;
        guard::check(&session.client).await?;
        let (from, end) = (resumed.as_ref().map_or(0, |head| head.next_position), folded.head.next_position);
        tracing::info!(from, events = end - from, elapsed = ?began.elapsed(), "folded the log");
        Ok(Opened { log, folded, resumed })
    }
}

/// On a thread that may wait for the disk.
async fn newest_snapshot(snapshots: Option<Snapshots>, log: LogId) -> Found {
    let Some(snapshots) = snapshots else { return Found::default() };
    let reading = background::blocking(true, move || snapshots.newest(log));
    reading.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the reading of the snapshots broke off; the whole log is folded");
        Found::default()
    })
}
