//! `portcullis mirror`: the copy of the log outside of the database. Looked at without a service and without a database.

use std::path::PathBuf;

use serde_json::json;

use super::failure::Failure;
use super::offline::{self, RootKeyArgs};
use super::output::{Column, Screen};
use crate::log::mirror::{Mirror, MirrorError};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Read the whole mirror and check every seal, against the root key alone. Exit code 7 where it was changed.
    #[command(after_help = "Examples:\n  portcullis mirror verify\n  \
                            portcullis mirror verify --mirror /srv/portcullis-mirror --output json")]
    Verify(VerifyArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    root_key: RootKeyArgs,
    /// The folder of the mirror.
    ///
    /// Default: `mirror` in the data directory.
    #[arg(long, env = "PORTCULLIS_MIRROR", value_name = "DIR")]
    mirror: Option<PathBuf>,
}

const COLUMNS: &[Column] = &[
    ("mirror", "mirror"),
    ("log", "log"),
    ("from position", "from"),
    ("to position", "to"),
    ("events", "events"),
    ("segments", "segments"),
    ("bytes", "bytes"),
    ("last record cut off, bytes", "torn_bytes"),
];

pub(crate) fn run(verb: &Verb, screen: Screen) -> Result<(), Failure> {
    let Verb::Verify(args) = verb;
    let data_dir = args.root_key.data_dir()?;
    let keys = args.root_key.load(&data_dir)?;
    let folder = args.mirror.clone().unwrap_or_else(|| data_dir.join("mirror"));
    let mirror = Mirror::in_folder(folder.clone(), keys);
    let bar = offline::progress("verify", "events");
    let verified = mirror.verify(|position| bar.set_position(position));
    bar.finish_and_clear();
    let account = verified.map_err(failure)?.ok_or_else(|| {
        Failure::Usage(format!("there is no mirror in {}; name its folder with --mirror", folder.display()))
    })?;
    screen.object(
        COLUMNS,
        &json!({
            "mirror": folder.display().to_string(),
            "log": uuid::Uuid::from_u128(account.log.0).to_string(),
            "from": account.from,
            "to": account.next_position.checked_sub(1),
            "events": account.next_position - account.from,
            "segments": account.segments,
            "bytes": account.bytes,
            "torn_bytes": account.torn_bytes,
        }),
    )
}

/// What was changed is a finding; what cannot be read is a fault.
fn failure(error: MirrorError) -> Failure {
    match error {
        MirrorError::Damaged { .. } => Failure::Differs(error.to_string()),
        error => Failure::fault("the mirror cannot be verified", error),
    }
}
