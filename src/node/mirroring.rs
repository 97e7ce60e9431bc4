//! Keeps the mirror of the log: what this node publishes is written beside the database too, on a thread of its own.
//!
//! What the node itself appends, and what it follows of others, comes over a bounded queue, and so is there even if the database
//! is lost a moment later. What found the queue full, or was followed from far behind, is read from the log. Nothing waits for the
//! mirror: where it cannot be written it falls behind, says so, and is tried again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::background;
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::log::head::Head;
use crate::log::mirror::{Mirror, MirrorError, Writer};
use crate::log::raw::RawEvents;
use crate::log::read::{self, ChunkMax};
use crate::log::{LogFault, Tampered};
use crate::postgres::{Database, Session};

/// Batches that may wait, of this node or of others. What finds no room is read from the log.
pub const QUEUE_LENGTH: usize = 256;
/// What is followed at once and has more bytes, columns and all, is read from the log: the queue is in memory for as long as the mirror cannot be
/// written.
pub const FOLLOWED_BYTES_MAX: usize = 256 << 10;
/// Events that are read from the log at once.
const PAGE: u64 = 1_024;
/// What was written survives the end of the process at once. It survives a power cut after so long; more often, and commits
/// would wait for the disk behind it.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// For how long a position that was published may be on its way through the queue.
const LINGER: Duration = Duration::from_millis(50);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// What this node has appended or followed, and published, on its way to the mirror.
pub struct Fresh {
    pub first: u64,
    pub entries: Vec<Vec<u8>>,
}

/// How the mirror fares: what `/readyz` and `/metrics` say.
#[derive(Debug, Default)]
pub struct State {
    next_position: AtomicU64,
    trouble: Mutex<Option<String>>,
}

/// What a mirror is kept with.
pub struct Mirroring {
    pub database: Database,
    pub keys: Arc<DerivedKeys>,
    pub log: LogId,
    pub heads: watch::Receiver<Head>,
    pub fresh: mpsc::Receiver<Fresh>,
    pub mirror: Mirror,
    pub state: Arc<State>,
}

/// The running thread.
pub struct Keeping {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Log(#[from] LogFault),
    #[error("{0}")]
    Database(String),
}

/// What it works with while all is well.
struct Copying {
    writer: Writer,
    session: Option<Session>,
    synced: Instant,
}

impl State {
    /// How many events of a log that ends there are not in the mirror.
    #[must_use]
    pub fn behind(&self, next_position: u64) -> u64 {
        next_position.saturating_sub(self.next_position.load(Ordering::Relaxed))
    }

    /// Why it is not being written, if it is not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl Mirroring {
    pub fn start(self) -> std::io::Result<Keeping> {
        let (stop, stopped) = oneshot::channel();
        let thread = background::spawn("mirror", self.run(stopped))?;
        Ok(Keeping { stop, thread })
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut copying = None;
        loop {
            let told = tokio::select! {
                copied = self.copy(&mut copying) => match copied {
                    Ok(()) => continue,
                    Err(trouble) => {
                        self.complain(&trouble);
                        // What was written in part is mended when it is opened again.
                        copying = None;
                        tokio::time::timeout(PAUSE, &mut stopped).await.is_ok()
                    }
                },
                _ = &mut stopped => true,
            };
            if told {
                break;
            }
        }
        if let Err(trouble) = self.finish(copying).await {
            tracing::warn!(%trouble, "the end of the log is not in the mirror; the next start reads it from the log");
        }
    }

    /// Waits for something new, and writes it.
    async fn copy(&mut self, copying: &mut Option<Copying>) -> Result<(), Trouble> {
        let copying = match copying {
            Some(copying) => copying,
            none => none.insert(self.open()?),
        };
        let until_sync = (copying.synced + SYNC_INTERVAL).saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            fresh = self.fresh.recv() => match fresh {
                Some(fresh) => self.add_fresh(copying, fresh).await?,
                // The writer has ended: nothing more is published.
                None => std::future::pending().await,
            },
            Ok(()) = self.heads.changed() => {
                // What was published is about to come over the queue.
                tokio::time::sleep(LINGER).await;
                while let Ok(fresh) = self.fresh.try_recv() {
                    self.add_fresh(copying, fresh).await?;
                }
                self.catch_up(copying).await?;
            }
            () = tokio::time::sleep(until_sync), if copying.writer.is_unsynced() => {}
        }
        self.state.next_position.store(copying.writer.seen().next_position, Ordering::Relaxed);
        if copying.synced.elapsed() >= SYNC_INTERVAL {
            copying.writer.sync()?;
            copying.synced = Instant::now();
        }
        if self.state.trouble().is_some() && self.state.behind(self.heads.borrow().next_position) == 0 {
            tracing::info!("the mirror of the log is written again");
            self.state.set_trouble(None);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Copying, Trouble> {
        let writer = Writer::open(self.mirror.clone(), self.log)?;
        self.state.next_position.store(writer.seen().next_position, Ordering::Relaxed);
        // What was published before it was opened is to be looked at too.
        self.heads.mark_changed();
        Ok(Copying { writer, session: None, synced: Instant::now() })
    }

    async fn add_fresh(&self, copying: &mut Copying, fresh: Fresh) -> Result<(), Trouble> {
        // What stands before it was followed from far behind, or did not fit into the queue.
        self.read_up_to(copying, fresh.first).await?;
        let known = copying.writer.seen().next_position - fresh.first;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        Ok(copying.writer.add(fresh.entries.iter().skip(known).map(Vec::as_slice))?)
    }

    async fn catch_up(&self, copying: &mut Copying) -> Result<(), Trouble> {
        let end = self.heads.borrow().next_position;
        self.read_up_to(copying, end).await
    }

    async fn read_up_to(&self, copying: &mut Copying, end: u64) -> Result<(), Trouble> {
        while copying.writer.seen().next_position < end {
            if copying.session.is_none() {
                let session = self.database.session().await.map_err(|error| Trouble::Database(error.to_string()))?;
                copying.session = Some(session);
            }
            let Some(session) = &copying.session else { continue };
            let from = copying.writer.seen().next_position;
            let to = end.min(from + PAGE);
            let mut rows = RawEvents::default();
            let reading = read::stream(&session.client, from, to, ChunkMax::events(to - from), |page| {
                rows = page;
                std::future::ready(Some(RawEvents::default()))
            });
            reading.await?;
            self.add_rows(copying, &rows)?;
            if copying.writer.seen().next_position < to {
                return Err(LogFault::from(Tampered::Missing { position: copying.writer.seen().next_position }).into());
            }
            self.state.next_position.store(to, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The mac of each row is what the mirror gives its entry, or something else stands there than was published.
    fn add_rows(&self, copying: &mut Copying, rows: &RawEvents) -> Result<(), Trouble> {
        let mut at = copying.writer.seen().clone();
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows.iter() {
            entries.push(read::check_link(&row, &mut at, &self.keys)?);
        }
        Ok(copying.writer.add(entries)?)
    }

    fn complain(&self, trouble: &Trouble) {
        let folder = self.mirror.folder().display();
        let before = self.state.trouble();
        // Said once, and not every few seconds for as long as a disk is full.
        if before.as_deref() != Some(&trouble.to_string()) {
            tracing::error!(%trouble, %folder, "the mirror of the log cannot be written, and falls behind");
        }
        self.state.set_trouble(Some(trouble.to_string()));
    }

    /// The last of it, once nothing is appended any more.
    async fn finish(&mut self, copying: Option<Copying>) -> Result<(), Trouble> {
        let mut copying = match copying {
            Some(copying) => copying,
            None => self.open()?,
        };
        while let Ok(fresh) = self.fresh.try_recv() {
            self.add_fresh(&mut copying, fresh).await?;
        }
        self.catch_up(&mut copying).await?;
        Ok(copying.writer.sync()?)
    }
}

impl Keeping {
    /// Writes what is left, and ends.
    pub async fn end(self) {
        drop(self.stop);
        let joined = tokio::task::spawn_blocking(|| self.thread.join());
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("the mirroring of the log broke off");
        }
    }
}
