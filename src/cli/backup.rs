//! `portcullis backup`: a consistent dump with a signed statement of what is in it, beside a running service or without one.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::dry_run;
use super::failure::Failure;
use super::offline::{self, DatabaseAt, OfflineArgs, RootKeyArgs};
use super::output::{Column, Screen};
use crate::vault::VaultError;
use crate::vault::backup::{self, Backup, Source};
use crate::vault::statement::{Statement, public_key_pem};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    take: TakeArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TakeArgs {
    /// The file to write: one that is not there yet. It is for its owner alone; whoever reads it knows the fleet. The log is
    /// verified before: of one that was changed, or that ends before what this machine has seen, there is no backup.
    #[arg(long, value_name = "FILE", required = true)]
    out: Option<PathBuf>,
    /// Check all that would be checked, the whole log with it, and write nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    offline: OfflineArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Check a backup against its statement, and that against the root key; print the public key that others check it with.
    /// Exit code 7 where it was changed.
    #[command(after_help = "Examples:\n  portcullis backup verify gate.backup\n  \
                            portcullis backup verify gate.backup --output json | jq -r .public_key > backup.pub.pem\n\n\
                            Without the root key, with nothing but that public key:\n  \
                            tar xf gate.backup\n  \
                            openssl pkeyutl -verify -pubin -inkey backup.pub.pem -rawin -in statement.json -sigfile statement.sig\n  \
                            sha256sum portcullis.dump && jq -r .dump_sha256 statement.json")]
    Verify {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        root_key: RootKeyArgs,
    },
}

const COLUMNS: &[Column] = &[
    ("backup", "backup"),
    ("events", "next_position"),
    ("recorded", "recorded_at"),
    ("taken", "taken_at"),
    ("log", "log"),
    ("mac", "mac"),
    ("Merkle root", "merkle_root"),
    ("schema", "schema"),
    ("portcullis", "version"),
    ("Postgres", "server_version"),
    ("dump, bytes", "dump_bytes"),
    ("dump, SHA-256", "dump_sha256"),
    ("public key", "public_key"),
];

pub(crate) fn run(args: Args, screen: Screen) -> Result<(), Failure> {
    match args.verb {
        Some(Verb::Verify { file, root_key }) => verify(&file, &root_key, screen),
        None => offline::block_on(take(args.take, screen)),
    }
}

fn verify(file: &std::path::Path, root_key: &RootKeyArgs, screen: Screen) -> Result<(), Failure> {
    let keys = root_key.load(&root_key.data_dir()?)?;
    let backup = Backup::open(file, &keys).map_err(failure)?;
    let bar = offline::progress("verify", "bytes");
    let read = backup.read_dump(|chunk| {
        bar.inc(chunk.len() as u64);
        Ok(())
    });
    bar.finish_and_clear();
    read.map_err(failure)?;
    let mut shown = shown(file, &backup.statement);
    shown["public_key"] = json!(public_key_pem(&keys));
    screen.object(COLUMNS, &shown)
}

async fn take(args: TakeArgs, screen: Screen) -> Result<(), Failure> {
    let out = args.out.ok_or_else(|| Failure::Usage("name the file to write with --out".to_owned()))?;
    let data_dir = args.offline.root_key.data_dir()?;
    let keys = args.offline.root_key.load(&data_dir)?;
    let program = args.offline.program(&data_dir, "pg_dump")?;
    let at = DatabaseAt::running_or_not(&args.offline, &data_dir).await?;
    let bar = offline::progress("dump", "bytes");
    let taken = async {
        let database = at.open().await?;
        let (options, data_dir) = (at.options(), data_dir.as_path());
        let source = Source { database: &database, options, data_dir, program: &program, keys: &keys };
        if args.dry_run {
            return backup::foresee(&source, &out).await;
        }
        backup::take(&source, &out, |bytes| bar.set_position(bytes)).await
    }
    .await;
    bar.finish_and_clear();
    at.close().await?;
    let statement = taken.map_err(failure)?;
    if args.dry_run {
        let mut foreseen = shown(&out, &statement);
        foreseen["dry_run"] = json!(true);
        // Of a dump there is nothing to say yet.
        for field in ["dump_bytes", "dump_sha256"] {
            foreseen[field] = Value::Null;
        }
        dry_run::nothing_was_changed(screen);
        return screen.object(COLUMNS, &foreseen);
    }
    screen.note("the root key is not in it: keep that elsewhere, for without it the backup opens nothing");
    screen.object(COLUMNS, &shown(&out, &statement))
}

fn shown(file: &std::path::Path, statement: &Statement) -> Value {
    let mut shown = serde_json::to_value(statement).unwrap_or_default();
    shown["backup"] = json!(file.display().to_string());
    shown
}

/// What was changed is a finding; what cannot be read, or has no room, is a fault.
pub(super) fn failure(error: VaultError) -> Failure {
    if error.is_tampering() { Failure::Differs(error.to_string()) } else { Failure::Fault(anyhow::Error::new(error)) }
}
