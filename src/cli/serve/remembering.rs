//! What a service keeps of the log in its data directory while it runs: how far it has seen it, and snapshots of the state;
//! and the check of what the snapshot that it started from has spared it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::seen;
use crate::command::writer::Running;
use crate::config::Settings;
use crate::credential::root_key::DerivedKeys;
use crate::node::recheck::{Recheck, Rechecking};
use crate::node::snapshot::Snapshots;
use crate::node::snapshot::keeper::{Keeper, Keeping};
use crate::postgres::Database;

pub(super) fn snapshots(data_dir: &Path, keys: &Arc<DerivedKeys>) -> Snapshots {
    Snapshots::in_folder(data_dir.join("snapshots"), keys.clone())
}

/// What runs for it.
pub(super) struct Remembering {
    seeing: JoinHandle<()>,
    stop_seeing: oneshot::Sender<()>,
    keeping: Keeping,
    rechecking: Option<Rechecking>,
}

impl Remembering {
    pub(super) fn start(
        settings: &Settings,
        running: &Running,
        database: &Database,
        keys: &Arc<DerivedKeys>,
    ) -> anyhow::Result<Self> {
        let (stop_seeing, stop_seen) = oneshot::channel::<()>();
        let stopped = async { drop(stop_seen.await) };
        let (seen_file, heads) = (seen::path(&settings.data_dir), running.heads.clone());
        let seeing = tokio::spawn(seen::keep(seen_file, keys.clone(), running.log, heads, stopped));
        let keeper = Keeper {
            snapshots: snapshots(&settings.data_dir, keys),
            node: running.node.clone(),
            log: running.log,
            heads: running.heads.clone(),
            kept: running.resumed.as_ref().map_or(0, |head| head.next_position),
        };
        let recheck = running.resumed.clone().map(|end| Recheck {
            database: database.clone(),
            keys: keys.clone(),
            node: running.node.clone(),
            log: running.log,
            snapshots: snapshots(&settings.data_dir, keys),
            end,
        });
        Ok(Self {
            seeing,
            stop_seeing,
            keeping: keeper.start().context("cannot start the thread that takes snapshots")?,
            rechecking: recheck
                .map(Recheck::start)
                .transpose()
                .context("cannot start the thread that checks the log")?,
        })
    }

    /// Once nothing is written any more: keeps the end.
    pub(super) async fn end(self) {
        drop(self.rechecking);
        self.keeping.end().await;
        drop(self.stop_seeing);
        if let Err(error) = self.seeing.await {
            tracing::error!(%error, "keeping what was seen of the log broke off");
        }
    }
}
