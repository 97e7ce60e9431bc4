//! A node that has seen what a restore had to give up refuses the log that came of it. Here it is told that this was meant.
//!
//! The word for it is in the log: `log.restored`, in a chain that nobody without the root key can write, says that from its
//! position on there was another history, and that it was given up. Whoever has the database alone cannot make one. What the
//! node remembers of that history is put aside, and not removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_postgres::Client;

use super::remembered::{SEEN_FILE, SNAPSHOTS_FOLDER, Witness, witnesses};
use super::{VaultError, at};
use crate::credential::root_key::DerivedKeys;
use crate::domain::event::{Event, LogRestored};
use crate::domain::ids::LogId;
use crate::log::head::{self, Head};
use crate::log::mirror::{Mirror, unused};
use crate::log::{LogFault, Tampered, entry};
use crate::node::replay;
use crate::postgres::Database;

/// What was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// From where on the node had seen what was given up; `None` where it has seen nothing of the kind.
    pub parted: Option<u64>,
    pub aside: Vec<PathBuf>,
}

/// Compares what the data directory and the mirror remember with the log, all of which is verified, and puts aside what a
/// restore has given up. What no restore explains is refused.
pub async fn adopt(
    database: &Database,
    keys: &Arc<DerivedKeys>,
    data_dir: &Path,
    mirror: &Mirror,
) -> Result<Adopted, VaultError> {
    let parted = parting(database, keys, data_dir, mirror).await?;
    let aside = parted.map(|parts| put_aside(data_dir, mirror, parts)).transpose()?;
    Ok(Adopted { parted, aside: aside.unwrap_or_default() })
}

/// From where on the node has seen what a restore has given up: there is nothing to adopt where it has seen none. What no restore
/// explains is refused. Nothing is changed.
pub async fn parting(
    database: &Database,
    keys: &Arc<DerivedKeys>,
    data_dir: &Path,
    mirror: &Mirror,
) -> Result<Option<u64>, VaultError> {
    let session = database.session().await?;
    let client = &session.client;
    client.batch_execute("set statement_timeout = 0").await?;
    let log = head::find(client, keys).await?.ok_or(VaultError::NoLog)?;
    let folded = replay::fold(client, keys, log, None).await?;
    let mut known = witnesses(data_dir, keys, log)?;
    known.extend(mirror.end()?.map(|seen| Witness { name: mirror.folder().display().to_string(), seen }));
    let mut disagreeing = Vec::new();
    for witness in known {
        match witness.seen.check_against(client, log, &folded.head).await {
            Ok(()) => {}
            Err(LogFault::Tampered(found)) => disagreeing.push((witness, found)),
            Err(fault) => return Err(fault.into()),
        }
    }
    let Some(shortest) = disagreeing.iter().map(|(witness, _)| witness.seen.next_position).min() else {
        return Ok(None);
    };
    // The first that is news to this node: what it has seen parts from the log there. A restore that it has seen explains
    // nothing that came after it; to whoever cuts off the end of the log it would be a way in.
    for restored in given_up(client, &folded.head).await? {
        if restored.parts < shortest && !restored.is_in(mirror, client, log, &folded.head).await? {
            return Ok(Some(restored.parts));
        }
    }
    let (_, found) = disagreeing.swap_remove(0);
    Err(LogFault::from(found).into())
}

/// A restore that gave something up.
struct Restored {
    /// From here on there was another history.
    parts: u64,
    /// Of its event.
    position: u64,
}

impl Restored {
    /// Whether this node's mirror has the restore itself.
    async fn is_in(&self, mirror: &Mirror, client: &Client, log: LogId, head: &Head) -> Result<bool, VaultError> {
        let end = self.position + 1;
        if mirror.end()?.is_none_or(|seen| seen.next_position < end) {
            return Ok(false);
        }
        let Some(mut reader) = mirror.read_from(end)? else { return Ok(false) };
        while reader.seen().next_position < end && reader.read_next()?.is_some() {}
        match reader.seen().check_against(client, log, head).await {
            Ok(()) => Ok(true),
            Err(LogFault::Tampered(_)) => Ok(false),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// The restores that have given something up, in order. The log was verified up to `head`, its columns too.
async fn given_up(client: &Client, head: &Head) -> Result<Vec<Restored>, VaultError> {
    let mut found = Vec::new();
    for row in client.query(include_str!("adopt/restores.sql"), &[]).await? {
        let (position, bytes): (i64, &[u8]) = (row.try_get("position")?, row.try_get("entry")?);
        let position = position.unsigned_abs();
        let recorded = entry::decode(bytes).map_err(|cause| LogFault::Unreadable { position, cause })?;
        if position >= head.next_position || recorded.position != position {
            return Err(LogFault::from(Tampered::Position { position, says: recorded.position }).into());
        }
        if let Event::LogRestored(LogRestored { backup, brought_back, given_up: Some(_), .. }) = recorded.event {
            // What stands there is the restore's own: the log parts before its event.
            found.push(Restored { parts: backup + brought_back, position });
        }
    }
    Ok(found)
}

/// Puts aside everything that remembers the history that parted at `parts`.
pub fn put_aside(data_dir: &Path, mirror: &Mirror, parts: u64) -> Result<Vec<PathBuf>, VaultError> {
    let mut aside = Vec::new();
    let names = [SEEN_FILE, SNAPSHOTS_FOLDER];
    if names.iter().any(|name| data_dir.join(name).exists()) {
        let folder = unused(data_dir, parts);
        fs::create_dir(&folder).map_err(at(&folder))?;
        for name in names.iter().filter(|name| data_dir.join(name).exists()) {
            fs::rename(data_dir.join(name), folder.join(name)).map_err(at(&folder))?;
        }
        crate::secret::sync_folder(&folder).map_err(at(&folder))?;
        aside.push(folder);
    }
    let ends_later = mirror.end()?.is_some_and(|end| end.next_position > parts);
    if ends_later {
        aside.extend(mirror.set_aside_from(parts)?);
    }
    Ok(aside)
}
