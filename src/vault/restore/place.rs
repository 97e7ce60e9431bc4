//! Doing it: the dump into an empty database, everything that it brought checked, and what came after it appended.
//!
//! From the first step on a schema of its own marks the database as half restored, and no service starts on it. It goes in the
//! last one. Whoever finds it there at the beginning of another attempt removes all that is, and begins anew.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio_postgres::Client;

use super::{Loss, Outlook};
use crate::command::mint;
use crate::credential::root_key::DerivedKeys;
use crate::domain::actor::Author;
use crate::domain::command::{Command, Context};
use crate::domain::decide;
use crate::domain::event::{Event, GivenUp, LogRestored, Recorded};
use crate::domain::ids::{CommandId, IncidentId};
use crate::domain::key::Digest;
use crate::domain::roll::Roll;
use crate::domain::signing_key::SigningAlgorithm;
use crate::domain::time::{Seconds, Timestamp};
use crate::log::append::{self, Appended, Batch};
use crate::log::guard;
use crate::log::head::{self, Head};
use crate::log::read::check_nothing_past_end;
use crate::node::replay::{self, Folded};
use crate::postgres::{Database, Options, SERVICE_ROLE, client_program};
use crate::vault::VaultError;
use crate::vault::backup::{Backup, complaints};

const PROGRAM: &str = "pg_restore";
const ROLES: [&str; 2] = [SERVICE_ROLE, "portcullis_reader"];
/// The advisory lock of whoever restores into a database: "restore" as ASCII has it.
const RESTORING: i64 = 0x0072_6573_746f_7265;
/// Entries in one append.
const PAGE: usize = 512;

/// Where a backup is put.
pub struct Place<'a> {
    pub database: &'a Database,
    pub options: &'a Options,
    /// Where `pg_restore` is.
    pub program: &'a Path,
    pub keys: &'a Arc<DerivedKeys>,
}

/// What has been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The position of its event: the last of the log.
    pub position: u64,
    /// Whether it carries the incident: one that the restored log does not know, or knows as closed, it cannot carry.
    pub for_incident: bool,
}

/// What it is done for.
#[derive(Clone, Copy, Debug)]
pub struct Why<'a> {
    pub reason: &'a str,
    pub incident: Option<&'a IncidentId>,
}

impl Place<'_> {
    /// Puts the backup in place as was foreseen. `stage` is told what is being done.
    pub async fn put(
        &self,
        backup: Backup,
        outlook: &Outlook,
        why: Why<'_>,
        mut stage: impl FnMut(&str),
    ) -> Result<Placed, VaultError> {
        stage("preparing the database");
        let mut owner = self.database.owner().await?;
        // Held by its connection, so that it ends with whoever holds it.
        if !owner.query_one("select pg_try_advisory_lock($1)", &[&RESTORING]).await?.try_get::<_, bool>(0)? {
            return Err(VaultError::AnotherRestore);
        }
        self.begin(&owner).await?;
        stage("restoring the dump");
        let dump = dump_digest(&backup)?;
        let statement = backup.statement.clone();
        self.restore_dump(backup).await?;
        self.database.migrate().await?;
        stage("verifying the log");
        let session = self.database.session().await?;
        let client = &session.client;
        // A log of millions takes longer than any request may.
        client.batch_execute("set statement_timeout = 0").await?;
        let log = head::find(client, self.keys).await?.ok_or(VaultError::NotAsStated("there is no log in it"))?;
        if log != outlook.backup.log {
            return Err(VaultError::NotAsStated("it is another log"));
        }
        let restored = replay::fold(client, self.keys, log, None).await?;
        check_as_stated(&restored.head, outlook, &statement.merkle_root)?;
        for witness in &outlook.earlier {
            witness.seen.check_against(client, log, &restored.head).await?;
        }
        check_nothing_past_end(client).await?;
        guard::check(client).await?;
        stage("bringing back what came after the backup");
        let mut writing = Writing::begin(client, self.keys, &restored, why).await?;
        writing.bring_back(outlook).await?;
        writing.close(outlook, dump).await?;
        let for_incident = writing.incident().is_some();
        stage("verifying what was brought back");
        let end = Head::read(client).await?;
        let folded = replay::catch_up(client, self.keys, restored, &end).await?;
        if folded.head.seals != writing.head.seals {
            return Err(VaultError::NotAsStated("what was appended is not what is there"));
        }
        accept(&mut owner).await?;
        Ok(Placed { position: folded.head.next_position - 1, for_incident })
    }

    /// Marks the database as half restored; one that was left so is emptied.
    async fn begin(&self, owner: &Client) -> Result<(), VaultError> {
        let there = owner.query_one(include_str!("what_is_there.sql"), &[]).await?;
        let (is_marked, is_empty) = (there.try_get::<_, bool>("is_marked")?, there.try_get::<_, bool>("is_empty")?);
        if !is_marked && !is_empty {
            return Err(VaultError::NotEmpty);
        }
        owner.batch_execute(include_str!("mark.sql")).await?;
        if !is_empty {
            wipe(owner).await?;
        }
        // The dump names them, and no dump brings them along.
        for role in ROLES {
            let there = owner.query_one("select exists (select from pg_roles where rolname = $1)", &[&role]).await?;
            if !there.try_get::<_, bool>(0)? {
                owner.batch_execute(&format!("create role {role} nologin")).await?;
            }
        }
        Ok(())
    }

    /// All of it or, where it fails, nothing. It ends when the database does, so nobody has to watch the clock.
    async fn restore_dump(&self, backup: Backup) -> Result<(), VaultError> {
        let mut command = client_program(self.program, self.options)?;
        // On the command line it is the one thing that `pg_restore` does not take from its environment.
        let database = command.get_envs().find(|(name, _)| *name == "PGDATABASE").and_then(|(_, value)| value);
        let database = database.unwrap_or_default().to_owned();
        command.args(["--no-owner", "--single-transaction", "--exit-on-error", "--no-password", "--dbname"]);
        command.arg(database).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let no_program = |source| VaultError::NoProgram { program: PROGRAM, source };
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(no_program)?;
        let said = tokio::spawn(complaints(child.stderr.take()));
        let stdin =
            child.stdin.take().map(tokio::process::ChildStdin::into_owned_fd).transpose().map_err(no_program)?;
        let feeding = tokio::task::spawn_blocking(move || {
            let mut stdin = std::fs::File::from(stdin.ok_or(VaultError::NotAsStated("nobody reads the dump"))?);
            backup.read_dump(|chunk| stdin.write_all(chunk))
        });
        let fed = feeding.await.map_err(|error| no_program(std::io::Error::other(error)))?;
        let status = child.wait().await.map_err(no_program)?;
        // What it complains of tells more than that it has stopped reading.
        if !status.success() {
            return Err(VaultError::Program { program: PROGRAM, said: said.await.unwrap_or_default() });
        }
        fed
    }
}

/// Removes what an earlier attempt has left.
async fn wipe(owner: &Client) -> Result<(), VaultError> {
    for row in owner.query(include_str!("left_behind.sql"), &[]).await? {
        let schema: &str = row.try_get("schema")?;
        owner.batch_execute(&format!("drop schema {schema} cascade")).await?;
    }
    Ok(owner.batch_execute("drop table if exists public.refinery_schema_history").await?)
}

/// The end, all at once.
async fn accept(owner: &mut Client) -> Result<(), VaultError> {
    let transaction = owner.transaction().await?;
    for step in [
        include_str!("unguard_head.sql"),
        include_str!("advance_head.sql"),
        include_str!("guard_head.sql"),
        include_str!("unmark.sql"),
    ] {
        transaction.batch_execute(step).await?;
    }
    Ok(transaction.commit().await?)
}

fn check_as_stated(head: &Head, outlook: &Outlook, merkle_root: &str) -> Result<(), VaultError> {
    let stated = &outlook.backup;
    let agree = [
        ("the log in it has another length", head.next_position == stated.next_position),
        ("the log in it has another mac at its end", head.seals.mac == stated.mac),
        (
            "the log in it has another Merkle root",
            super::hash(merkle_root).is_some_and(|root| root == head.seals.frontier.root()),
        ),
    ];
    match agree.into_iter().find(|(_, agrees)| !agrees) {
        Some((what, _)) => Err(VaultError::NotAsStated(what)),
        None => Ok(()),
    }
}

fn dump_digest(backup: &Backup) -> Result<Digest, VaultError> {
    backup.statement.dump_sha256.parse().map_err(|_| VaultError::NotAsStated("its digest is no digest"))
}

/// Appends to the log that was restored, with nobody else there.
struct Writing<'a> {
    client: &'a Client,
    keys: &'a DerivedKeys,
    statement: tokio_postgres::Statement,
    head: Head,
    roll: Roll,
    context: Context,
    command: CommandId,
}

impl<'a> Writing<'a> {
    async fn begin(
        client: &'a Client,
        keys: &'a DerivedKeys,
        restored: &Folded,
        why: Why<'_>,
    ) -> Result<Self, VaultError> {
        let context = Context {
            now: mint::now(),
            author: Author::system(),
            reason: Some(why.reason.into()),
            incident: why.incident.cloned(),
        };
        Ok(Self {
            client,
            keys,
            statement: append::prepare(client).await?,
            head: restored.head.clone(),
            roll: restored.roll.clone(),
            context,
            command: CommandId::from_uuid(mint::id()),
        })
    }

    /// What the mirror has after the backup, as it was and where it was.
    async fn bring_back(&mut self, outlook: &Outlook) -> Result<(), VaultError> {
        let Some(mut reader) = outlook.after_backup()? else { return Ok(()) };
        while self.head.next_position < outlook.end.next_position {
            let mut batch = Batch::after(&self.head);
            // A mirror that another node goes on writing has become longer since.
            while batch.event_count() < PAGE
                && batch.head().next_position < outlook.end.next_position
                && let Some(copied) = reader.read_next()?
            {
                let recorded = batch.push_again(copied.entry, self.keys)?;
                self.roll.apply(&recorded);
            }
            if batch.is_empty() {
                return Err(VaultError::NotAsStated("the mirror has become shorter meanwhile"));
            }
            self.append(batch).await?;
        }
        if self.head.seals.mac == outlook.end.mac {
            Ok(())
        } else {
            Err(VaultError::NotAsStated("the mirror has become another meanwhile"))
        }
    }

    /// Says what has been done; where something is lost, after the end of all tokens. Nobody knows which of them were revoked
    /// in what is missing, nor at which of its positions they were issued, which is what fences compare.
    async fn close(&mut self, outlook: &Outlook, dump: Digest) -> Result<(), VaultError> {
        let mut batch = Batch::after(&self.head);
        if outlook.loss.is_some() && self.roll.active_signing_key().is_some() {
            // Twice: the one that was next may have signed tokens in what is missing.
            for _ in 0..2 {
                for event in self.rotation()? {
                    self.record(&mut batch, event)?;
                }
            }
        }
        let given_up = outlook.loss.map(|loss| GivenUp {
            known_to: match loss {
                Loss::Unknown => None,
                Loss::Positions { last, .. } => Some(last + 1),
            },
        });
        let restored = LogRestored {
            backup: outlook.backup.next_position,
            dump,
            brought_back: outlook.end.next_position - outlook.backup.next_position,
            reductions: outlook.reductions,
            given_up,
        };
        self.record(&mut batch, Event::LogRestored(restored))?;
        self.append(batch).await
    }

    fn rotation(&self) -> Result<Vec<Event>, VaultError> {
        let algorithm = self.roll.active_signing_key().map_or(SigningAlgorithm::default(), |key| key.algorithm);
        let next = mint::signing_key(self.keys, algorithm).map_err(|error| VaultError::Append(error.to_string()))?;
        let command = Command::RotateSigningKeys { next, overlap: Seconds(0) };
        decide(&self.roll, &command, &self.context).map_err(|refusal| VaultError::Append(refusal.to_string()))
    }

    /// The incident, where the log that is restored has it, and open.
    fn incident(&self) -> Option<&IncidentId> {
        let id = self.context.incident.as_ref()?;
        self.roll.incident(id.as_str()).is_some_and(|incident| !incident.is_closed()).then_some(id)
    }

    fn record(&mut self, batch: &mut Batch, event: Event) -> Result<(), VaultError> {
        let recorded = Recorded {
            position: batch.head().next_position,
            recorded_at: self.context.now.max(Timestamp(batch.head().recorded_at.0 + 1)),
            occurred_at: self.context.now,
            author: self.context.author.clone(),
            command: self.command,
            cause: None,
            incident: self.incident().cloned(),
            reason: self.context.reason.clone(),
            event,
        };
        batch.push(&recorded, self.keys)?;
        self.roll.apply(&recorded);
        Ok(())
    }

    async fn append(&mut self, batch: Batch) -> Result<(), VaultError> {
        append::make_partitions(self.client, batch.head().next_position).await?;
        match batch.append(self.client, &self.statement).await {
            Ok(Appended::Done) => {
                self.head = batch.head().clone();
                Ok(())
            }
            Ok(Appended::HeadMoved) => {
                Err(VaultError::Append("somebody else writes to this database; stop every service".to_owned()))
            }
            Err(error) => Err(VaultError::Append(error.to_string())),
        }
    }
}
