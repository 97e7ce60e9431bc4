//! The mirror of the log: looked at before the log is opened, and kept while the service runs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::command::writer::{Mirrored, Running};
use crate::credential::root_key::DerivedKeys;
use crate::log::mirror::{Mirror, MirrorError};
use crate::log::seen::Seen;
use crate::node::mirroring::{self, Fresh, Keeping, QUEUE_LENGTH, State};
use crate::postgres::Database;
use crate::telemetry::Metrics;

/// A mirror that was looked at.
pub(super) struct Mirroring {
    mirror: Mirror,
    end: Option<Seen>,
    fresh: mpsc::Sender<Fresh>,
    queue: mpsc::Receiver<Fresh>,
}

/// One that is kept.
pub(super) struct Mirrors {
    keeping: Keeping,
    state: Arc<State>,
}

impl Mirroring {
    /// One that was damaged is put aside, and another begun from the log: the database is there, and is compared with what
    /// else this node has seen of it.
    pub(super) fn open(folder: PathBuf, keys: &Arc<DerivedKeys>) -> anyhow::Result<Self> {
        let mirror = Mirror::in_folder(folder, keys.clone());
        let end = loop {
            match mirror.end() {
                Err(MirrorError::Damaged { path, position, what }) => {
                    let aside =
                        mirror.set_aside_from(position).context("the mirror was damaged, and cannot be put aside")?;
                    let aside = aside.context("the mirror was damaged, and is not where it was")?;
                    let (path, aside) = (path.display(), aside.display());
                    tracing::error!(%path, position, what, %aside, "the mirror was damaged; that part is made anew from the log");
                }
                end => break end?,
            }
        };
        let (fresh, queue) = mpsc::channel(QUEUE_LENGTH);
        Ok(Self { mirror, end, fresh, queue })
    }

    pub(super) fn for_writer(&mut self) -> Mirrored {
        Mirrored { end: self.end.take(), fresh: self.fresh.clone() }
    }

    pub(super) fn start(
        self,
        running: &Running,
        database: &Database,
        keys: &Arc<DerivedKeys>,
        metrics: &Metrics,
    ) -> anyhow::Result<Mirrors> {
        let state = Arc::new(State::default());
        let (told, node) = (state.clone(), running.node.clone());
        metrics.watch_mirror(move || told.behind(node.snapshot().roll.next_position()));
        let mirroring = mirroring::Mirroring {
            database: database.clone(),
            keys: keys.clone(),
            log: running.log,
            heads: running.heads.clone(),
            fresh: self.queue,
            mirror: self.mirror,
            state: state.clone(),
        };
        let keeping = mirroring.start().context("cannot start the thread that keeps the mirror")?;
        Ok(Mirrors { keeping, state })
    }
}

impl Mirrors {
    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }

    pub(super) async fn end(self) {
        self.keeping.end().await;
    }
}
