//! What a data directory remembers of the log: how far it was seen to go, and by what.

use std::path::Path;
use std::sync::Arc;

use super::VaultError;
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::log::seen::Seen;
use crate::node::snapshot::Snapshots;

pub const SEEN_FILE: &str = "log.seen";
pub const SNAPSHOTS_FOLDER: &str = "snapshots";

/// Something that has seen the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// For people.
    pub name: String,
    pub seen: Seen,
}

/// All but the mirrors.
pub fn witnesses(data_dir: &Path, keys: &Arc<DerivedKeys>, log: LogId) -> Result<Vec<Witness>, VaultError> {
    let file = data_dir.join(SEEN_FILE);
    let folder = data_dir.join(SNAPSHOTS_FOLDER);
    let kept = Seen::load(&file, keys)?.map(|seen| Witness { name: file.display().to_string(), seen });
    let newest = Snapshots::in_folder(folder.clone(), keys.clone()).newest(log).seen;
    let newest = newest.map(|seen| Witness { name: folder.display().to_string(), seen });
    Ok(kept.into_iter().chain(newest).collect())
}
