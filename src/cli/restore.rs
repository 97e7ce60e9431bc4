//! `portcullis restore`: a backup put in place, and all that came after it brought back from the mirror.

use std::path::{Path, PathBuf};

use chrono::Utc;
use serde_json::{Value, json};

use super::backup::failure;
use super::dry_run;
use super::failure::Failure;
use super::offline::{self, DatabaseAt, OfflineArgs};
use super::output::{Column, Screen};
use crate::domain::ids::{IncidentId, LogId};
use crate::log::mirror::Mirror;
use crate::vault::VaultError;
use crate::vault::adopt::{Adopted, adopt, parting, put_aside};
use crate::vault::backup::Backup;
use crate::vault::remembered::witnesses;
use crate::vault::restore::place::{Place, Why};
use crate::vault::restore::{Loss, Outlook, mirrors};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    restore: RestoreArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The backup.
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    /// A mirror beside the one in the data directory, to bring back from what came after the backup; may be repeated, for
    /// those of other nodes. The longest is used, and the others have to agree with it.
    ///
    /// Example: `--mirror /mnt/node-2/mirror`
    #[arg(long, env = "PORTCULLIS_MIRROR", value_name = "DIR")]
    mirror: Vec<PathBuf>,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Accept that what was revoked at these positions works again, named as the refusal names them. Every token ends.
    ///
    /// Example: `--accept-lost-revocations 120-131`
    #[arg(long, value_name = "POSITIONS")]
    accept_lost_revocations: Option<Loss>,
    #[command(flatten)]
    offline: OfflineArgs,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Accept on this machine that a restore has given up what this node has seen. Its word for that is in the log, and has to
    /// be genuine. What the node remembers is put aside.
    #[command(
        after_help = "Example:\n  portcullis restore adopt --database-url postgres://portcullis@db.example.org/portcullis"
    )]
    Adopt(AdoptArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArgs {
    /// The mirror of this node.
    ///
    /// Default: `mirror` in the data directory.
    #[arg(long, env = "PORTCULLIS_MIRROR", value_name = "DIR")]
    mirror: Option<PathBuf>,
    /// Say from where on something would be put aside, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    offline: OfflineArgs,
}

const COLUMNS: &[Column] = &[
    ("backup", "backup"),
    ("events in it", "events"),
    ("taken", "taken_at"),
    ("mirror", "mirror"),
    ("brought back", "brought_back"),
    ("of these take access away", "reductions"),
    ("by kind", "kinds"),
    ("ends at", "ends_at"),
    ("lost", "lost"),
    ("restored at position", "position"),
    ("cluster before", "cluster_before"),
    ("put aside", "put_aside"),
];

const ADOPT_COLUMNS: &[Column] = &[("parted at position", "parted"), ("put aside", "put_aside")];

pub(crate) fn run(args: Args, screen: Screen, reason: Option<&str>, incident: Option<&str>) -> Result<(), Failure> {
    match args.verb {
        Some(Verb::Adopt(args)) => offline::block_on(adopt_here(args, screen)),
        None => offline::block_on(restore(args.restore, screen, reason, incident)),
    }
}

async fn restore(
    args: RestoreArgs,
    screen: Screen,
    reason: Option<&str>,
    incident: Option<&str>,
) -> Result<(), Failure> {
    let incident: Option<IncidentId> = incident
        .map(|id| id.parse().map_err(|_| Failure::Usage(format!("`{id}` is no id of an incident"))))
        .transpose()?;
    let file = args.file.clone().ok_or_else(|| Failure::Usage("name the backup".to_owned()))?;
    let data_dir = args.offline.root_key.data_dir()?;
    let keys = args.offline.root_key.load(&data_dir)?;
    // Held from here on: what is looked at is to be what is there when it is done.
    let held = DatabaseAt::lock(&data_dir)?;
    let backup = Backup::open(&file, &keys).map_err(failure)?;
    let bar = offline::progress("verify the dump", "bytes");
    let read = backup.read_dump(|chunk| {
        bar.inc(chunk.len() as u64);
        Ok(())
    });
    bar.finish_and_clear();
    read.map_err(failure)?;
    let own = data_dir.join("mirror");
    let folders = args.mirror.iter().cloned().chain([own.clone()]).collect();
    let seen = witnesses(&data_dir, &keys, LogId::from_uuid(backup.statement.log)).map_err(failure)?;
    let bar = offline::progress("read the mirror", "events");
    let outlook = Outlook::of(&backup, mirrors(folders, &keys), seen, |position| bar.set_position(position));
    bar.finish_and_clear();
    let mut outlook = outlook.map_err(failure)?;
    let mut shown = foreseen(&backup, &outlook);
    if args.dry_run {
        dry_run::nothing_was_changed(screen);
        shown["dry_run"] = json!(true);
        return screen.object(COLUMNS, &shown);
    }
    check_loss(&outlook, args.accept_lost_revocations)?;
    // Who knows of more than anything here has seen may say so.
    outlook.loss = args.accept_lost_revocations;
    shown["lost"] = json!(outlook.loss.map(|loss| loss.to_string()));
    if outlook.loss.is_none() {
        screen.note(format_args!(
            "the log that comes of it ends at {}: if more was recorded after that, say so with --accept-lost-revocations unknown",
            outlook.ends_at
        ));
    }
    let reason = reason.ok_or_else(|| Failure::Usage("say why, with --reason: it is kept in the log".to_owned()))?;

    let program = args.offline.program(&data_dir, "pg_restore")?;
    let (at, before) = DatabaseAt::emptied(&args.offline, &data_dir, held, &aside_name()).await?;
    if let Some(before) = &before {
        screen.note(format_args!("moved the cluster that was there to {}", before.display()));
    }
    let placed = async {
        let database = at.open().await?;
        let place = Place { database: &database, options: at.options(), program: &program, keys: &keys };
        let why = Why { reason, incident: incident.as_ref() };
        place.put(backup, &outlook, why, |stage| screen.note(stage)).await
    }
    .await;
    at.close().await?;
    let placed = placed.map_err(failure)?;
    let aside = match outlook.loss {
        Some(_) => {
            let mirror = Mirror::in_folder(own, keys.clone());
            put_aside(&data_dir, &mirror, outlook.end.next_position).map_err(failure)?
        }
        None => Vec::new(),
    };
    shown["position"] = json!(placed.position);
    shown["cluster_before"] = json!(before.map(|path| path.display().to_string()));
    shown["put_aside"] = paths(&aside);
    say_what_is_left_to_do(screen, outlook.loss, incident.filter(|_| !placed.for_incident).as_ref());
    screen.object(COLUMNS, &shown)
}

/// `unknown`: the incident that the restored log does not have.
fn say_what_is_left_to_do(screen: Screen, loss: Option<Loss>, unknown: Option<&IncidentId>) {
    if let Some(incident) = unknown {
        screen.warn(format_args!(
            "the log that was restored has no open incident {incident}, so the restore is not recorded for it: open it anew"
        ));
    }
    if loss.is_some() {
        screen.warn(
            "what was revoked in what is lost works again until it is revoked again; every token has ended. Nodes that have \
             seen more refuse until they are told: `portcullis restore adopt` on each",
        );
    }
    screen.note("start the service");
}

/// Nothing is given up by accident: whoever does it names what it is.
fn check_loss(outlook: &Outlook, accepted: Option<Loss>) -> Result<(), Failure> {
    let why = match (outlook.loss, accepted) {
        (None, None | Some(Loss::Unknown)) => return Ok(()),
        (Some(loss), Some(accepted)) if loss == accepted => return Ok(()),
        (None, Some(Loss::Positions { .. })) => {
            let message =
                "nothing here has seen these positions; leave out --accept-lost-revocations, or give `unknown`";
            return Err(Failure::Usage(message.to_owned()));
        }
        (Some(Loss::Unknown), _) => {
            "there is no mirror that goes on from this backup, so nobody can say what was revoked after it".to_owned()
        }
        (Some(Loss::Positions { first, last }), _) => {
            format!("this machine has seen the events {first} to {last}, and neither the backup nor a mirror has them")
        }
    };
    let loss = outlook.loss.map(|loss| loss.to_string()).unwrap_or_default();
    Err(Failure::Partly(format!(
        "{why}. What was revoked there would work again, so nothing was changed. Give the mirror of a node that has them, with \
         --mirror, or a newer backup. Where there is none: --accept-lost-revocations {loss}"
    )))
}

fn foreseen(backup: &Backup, outlook: &Outlook) -> Value {
    json!({
        "backup": backup.path().display().to_string(),
        "events": outlook.backup.next_position,
        "taken_at": backup.statement.taken_at,
        "mirror": outlook.mirror.as_ref().map(|mirror| mirror.folder().display().to_string()),
        "brought_back": outlook.end.next_position - outlook.backup.next_position,
        "reductions": outlook.reductions,
        "kinds": outlook.brought_back,
        "ends_at": outlook.ends_at,
        "lost": outlook.loss.map(|loss| loss.to_string()),
    })
}

fn aside_name() -> String {
    format!("postgres.before-{}", Utc::now().format("%Y%m%dT%H%M%S%.3fZ"))
}

fn paths(paths: &[PathBuf]) -> Value {
    json!(paths.iter().map(|path: &PathBuf| Path::display(path).to_string()).collect::<Vec<_>>())
}

async fn adopt_here(args: AdoptArgs, screen: Screen) -> Result<(), Failure> {
    let data_dir = args.offline.root_key.data_dir()?;
    let keys = args.offline.root_key.load(&data_dir)?;
    let mirror = Mirror::in_folder(args.mirror.unwrap_or_else(|| data_dir.join("mirror")), keys.clone());
    let at = DatabaseAt::stopped(&args.offline, &data_dir).await?;
    let adopted = async {
        let database = at.open().await?;
        // Nothing is adopted of a restore that has not come to its end.
        database.root_key_check().await?;
        if args.dry_run {
            let parted = parting(&database, &keys, &data_dir, &mirror).await?;
            return Ok(Adopted { parted, aside: Vec::new() });
        }
        adopt(&database, &keys, &data_dir, &mirror).await
    }
    .await;
    at.close().await?;
    let adopted = adopted.map_err(|error: VaultError| failure(error))?;
    if adopted.parted.is_none() {
        screen.note("this node has seen nothing that the log does not have; nothing was changed");
    }
    let mut shown = json!({ "parted": adopted.parted, "put_aside": paths(&adopted.aside) });
    if args.dry_run {
        dry_run::nothing_was_changed(screen);
        shown["dry_run"] = json!(true);
    }
    screen.object(ADOPT_COLUMNS, &shown)
}
