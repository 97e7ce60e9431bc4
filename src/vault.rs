//! Backups, and putting one in place so that what was revoked since stays revoked (promise 9, decision 0016).
//!
//! A [`backup`] is a dump of one moment with a signed [`statement`] of what is in it. A [`restore`] believes a dump only as
//! far as the statement and the log's seals go, and brings back from the mirror, entry by entry and as they were, what came
//! after it. [`adopt`] is for the other nodes, where something had to be given up.

pub mod adopt;
mod archive;
pub mod backup;
pub mod remembered;
pub mod restore;
pub mod statement;

use std::io;
use std::path::PathBuf;

use crate::log::LogFault;
use crate::log::mirror::MirrorError;
use crate::postgres::{DatabaseError, MigrationError, SettingsError};

/// Why there is no backup, or why none was put in place.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} exists already, and is not overwritten", .0.display())]
    Exists(PathBuf),
    #[error(
        "`{program}` cannot be run: {source}; install the programs of Postgres, or name their folder in PORTCULLIS_PG_BIN"
    )]
    NoProgram { program: &'static str, source: io::Error },
    #[error("`{program}` failed: {said}")]
    Program { program: &'static str, said: String },
    #[error("`{program}` said nothing for {minutes} minutes")]
    Silent { program: &'static str, minutes: u64 },
    #[error("the backup {} was changed, or not made with this root key: {what}", .path.display())]
    Damaged { path: PathBuf, what: &'static str },
    #[error("there is no log in this database that could be backed up")]
    NoLog,
    #[error("the database is not empty: a backup is put in place of nothing. Give it an empty one")]
    NotEmpty,
    #[error("another restore works on this database; wait for its end")]
    AnotherRestore,
    #[error("what was restored is not what the backup's statement says: {0}")]
    NotAsStated(&'static str),
    #[error(
        "{witness} has seen another history than this backup and the mirror have: they part before position {position}. \
         Nothing was changed"
    )]
    OtherHistory { witness: String, position: u64 },
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error(transparent)]
    Log(#[from] LogFault),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Migration(#[from] MigrationError),
    #[error("the database failed: {0}")]
    Query(#[from] tokio_postgres::Error),
    #[error("{0}")]
    Append(String),
    #[error(transparent)]
    Remembered(#[from] crate::log::seen::SeenError),
}

impl VaultError {
    /// Whether what it is about was changed by somebody, and does not merely fail.
    #[must_use]
    pub fn is_tampering(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::NotAsStated(_)
                | Self::OtherHistory { .. }
                | Self::Mirror(MirrorError::Damaged { .. } | MirrorError::OtherHistory { .. })
                | Self::Log(LogFault::Tampered(_))
        )
    }
}

fn at(path: &std::path::Path) -> impl FnOnce(io::Error) -> VaultError {
    let path = path.to_owned();
    move |source| VaultError::File { path, source }
}
