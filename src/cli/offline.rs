//! What commands share that work on files and on the database themselves, and ask no service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::failure::Failure;
use crate::config::settings::{Surroundings, database_source, platform_data_dir};
use crate::config::{DatabaseArgs, DatabaseSource};
use crate::credential::root_key::{DerivedKeys, RootKey};
use crate::postgres::embedded::{self, Cluster, EmbeddedError, Lock};
use crate::postgres::{Database, DatabaseError, Options};

/// Where the root key is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RootKeyArgs {
    /// The data directory of the service.
    ///
    /// Default: that of the platform: `~/.local/share/portcullis`, for root `/var/lib/portcullis`.
    #[arg(long, env = "PORTCULLIS_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The file that holds the root key.
    ///
    /// Default: `root.key` in the data directory.
    #[arg(long, env = "PORTCULLIS_ROOT_KEY_FILE", value_name = "FILE")]
    root_key_file: Option<PathBuf>,
}

/// Which database, and the root key of its log.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OfflineArgs {
    #[command(flatten)]
    pub(crate) root_key: RootKeyArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// A database that is worked on directly, and what is given back at the end.
pub(crate) struct DatabaseAt {
    options: Options,
    held: Held,
}

enum Held {
    Nothing,
    /// Kept for as long as no service may start.
    Lock {
        _lock: Lock,
    },
    Cluster(Cluster),
}

impl OfflineArgs {
    /// How to reach a database of one's own; `None` where it is the private cluster of the data directory.
    fn own(&self) -> Result<Option<Options>, Failure> {
        let source = database_source(&self.database, &Surroundings::of_process());
        Ok(match source.map_err(|error| Failure::Usage(error.to_string()))? {
            DatabaseSource::Embedded { .. } => None,
            DatabaseSource::Own { url, owner_url, ca_file, connect_timeout, allow_unsafe_durability, .. } => {
                Some(Options { owner_url, ca_file, connect_timeout, allow_unsafe_durability, ..Options::new(url) })
            }
        })
    }

    /// Where this program of Postgres is.
    pub(crate) fn program(&self, data_dir: &Path, name: &str) -> Result<PathBuf, Failure> {
        let found = match self.own()? {
            None => embedded::programs(data_dir, &cluster_settings()),
            Some(_) => embedded::newest_programs(&cluster_settings()),
        };
        Ok(found.map_err(embedded_failure)?.program(name))
    }
}

impl DatabaseAt {
    /// Beside a service that runs. A private cluster that stands still is started for it.
    pub(crate) async fn running_or_not(args: &OfflineArgs, data_dir: &Path) -> Result<Self, Failure> {
        if let Some(options) = args.own()? {
            return Ok(Self { options, held: Held::Nothing });
        }
        match embedded::lock(data_dir) {
            Ok(lock) => Self::cluster(data_dir, lock).await,
            Err(EmbeddedError::InUse { .. }) => {
                let options = embedded::running(data_dir).map_err(embedded_failure)?;
                Ok(Self { options, held: Held::Nothing })
            }
            Err(error) => Err(embedded_failure(error)),
        }
    }

    /// With no service on this data directory.
    pub(crate) async fn stopped(args: &OfflineArgs, data_dir: &Path) -> Result<Self, Failure> {
        let lock = Self::lock(data_dir)?;
        match args.own()? {
            None => Self::cluster(data_dir, lock).await,
            Some(options) => Ok(Self { options, held: Held::Lock { _lock: lock } }),
        }
    }

    /// Something to put a backup into. A private cluster is moved aside, and another is made; where it is now comes second.
    /// A database of one's own has to be empty.
    pub(crate) async fn emptied(
        args: &OfflineArgs,
        data_dir: &Path,
        lock: Lock,
        aside: &str,
    ) -> Result<(Self, Option<PathBuf>), Failure> {
        match args.own()? {
            None => {
                let before = embedded::set_aside(data_dir, aside, &lock).map_err(embedded_failure)?;
                Ok((Self::cluster(data_dir, lock).await?, before))
            }
            Some(options) => Ok((Self { options, held: Held::Lock { _lock: lock } }, None)),
        }
    }

    /// Keeps every service out of the data directory.
    pub(crate) fn lock(data_dir: &Path) -> Result<Lock, Failure> {
        embedded::lock(data_dir).map_err(embedded_failure)
    }

    async fn cluster(data_dir: &Path, lock: Lock) -> Result<Self, Failure> {
        let started = Box::pin(embedded::start(data_dir, &cluster_settings(), lock)).await;
        let cluster = started.map_err(embedded_failure)?;
        Ok(Self { options: cluster.options(), held: Held::Cluster(cluster) })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) async fn open(&self) -> Result<Database, DatabaseError> {
        Database::open(self.options.clone()).await
    }

    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self.held {
            Held::Cluster(cluster) => cluster.stop().await.map_err(embedded_failure),
            Held::Nothing | Held::Lock { .. } => Ok(()),
        }
    }
}

fn cluster_settings() -> embedded::Settings {
    let binaries = std::env::var_os("PORTCULLIS_PG_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    embedded::Settings { binaries }
}

fn embedded_failure(error: EmbeddedError) -> Failure {
    Failure::Fault(anyhow::Error::new(error))
}

/// Runs what talks to the database.
pub(crate) fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::fault("cannot start the runtime", error))?.block_on(work)
}

impl RootKeyArgs {
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Failure> {
        let found = self.data_dir.clone().or_else(platform_data_dir);
        found.ok_or_else(|| Failure::Usage("there is no home directory; give `--data-dir`".to_owned()))
    }

    /// The keys that are derived from it. None is ever made here: another would fit nothing.
    pub(crate) fn load(&self, data_dir: &Path) -> Result<Arc<DerivedKeys>, Failure> {
        let path = self.root_key_file.clone().unwrap_or_else(|| data_dir.join("root.key"));
        let key = RootKey::load(&path).map_err(|error| Failure::fault("the root key cannot be read", error))?;
        Ok(key.derive())
    }
}

/// A bar on a terminal; silent in a pipe.
pub(crate) fn progress(verb: &str, unit: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_message(verb.to_owned());
    match ProgressStyle::with_template(&format!("{{msg}} {{human_pos}} {unit}, {{per_sec}}")) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
