//! The file `log.seen` in the data directory: what this node has seen of the log, so that a later start notices a database
//! that has less of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::watch;

use crate::command::writer::StartError;
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::log::head::Head;
use crate::log::seen::Seen;
use crate::log::{LogFault, Tampered};

/// What is appended within this time before a crash is not in the file, and its loss not noticed.
const INTERVAL: Duration = Duration::from_secs(2);

pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("log.seen")
}

/// Keeps the file up to date until told to stop, and once more then.
pub(super) async fn keep(
    path: PathBuf,
    keys: Arc<DerivedKeys>,
    log: LogId,
    heads: watch::Receiver<Head>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut kept = None;
    loop {
        let stopped = tokio::select! {
            () = tokio::time::sleep(INTERVAL) => false,
            () = &mut stop => true,
        };
        let seen = Seen::of(log, &heads.borrow());
        if kept.as_ref() != Some(&seen) && save(&path, &keys, &seen).await {
            kept = Some(seen);
        }
        if stopped {
            return;
        }
    }
}

/// On a thread that may wait for the disk. True if it was saved.
async fn save(path: &Path, keys: &Arc<DerivedKeys>, seen: &Seen) -> bool {
    let saving = tokio::task::spawn_blocking({
        let (path, keys, seen) = (path.to_owned(), keys.clone(), seen.clone());
        move || seen.save(&path, &keys)
    });
    match saving.await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "what was seen of the log could not be kept; a database that goes back to before it would not be noticed at the next start");
            false
        }
        Err(error) => {
            tracing::error!(%error, "keeping what was seen of the log broke off");
            false
        }
    }
}

/// Says what to do about a database that has less than was seen.
pub(super) fn explained(error: StartError, path: &Path, snapshots: &Path) -> anyhow::Error {
    match error {
        StartError::Log(LogFault::Tampered(tampered @ (Tampered::WentBack { .. } | Tampered::OtherHistory { .. }))) => {
            anyhow!(
                "{tampered}. Nothing was changed. Credentials that were revoked in what is missing would work again: give the \
                 service the newest database, or put a backup in place with `portcullis restore`, which brings back from the \
                 mirror what came after it. If somebody has done that on another machine and had to give up what this node has \
                 seen, `portcullis restore adopt` accepts it here: it puts aside {}, {} and the end of the mirror",
                path.display(),
                snapshots.display()
            )
        }
        error => error.into(),
    }
}
