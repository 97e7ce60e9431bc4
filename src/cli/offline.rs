//! What commands share that work on files and on the database themselves, and ask no service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::failure::Failure;
use crate::config::settings::platform_data_dir;
use crate::credential::root_key::{DerivedKeys, RootKey};

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
