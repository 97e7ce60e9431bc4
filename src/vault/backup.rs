//! Taking a backup: `pg_dump` of one moment, beside whatever runs, with a statement of where the log ended in that moment.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chrono::SecondsFormat;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio_postgres::Client;

pub use super::archive::Backup;
use super::archive::{Draft, hex};
use super::remembered::{Witness, witnesses};
use super::statement::{FORMAT, Statement};
use super::{VaultError, at};
use crate::credential::root_key::DerivedKeys;
use crate::domain::ids::LogId;
use crate::log::head::{self, Head};
use crate::log::read::check_nothing_past_end;
use crate::log::time::date_time;
use crate::node::replay;
use crate::postgres::{Database, Options, client_program};

const PROGRAM: &str = "pg_dump";
/// `pg_dump` reads a large table before it says something of it.
pub(super) const SILENCE_MAX: Duration = Duration::from_mins(10);
const CHUNK_BYTES: usize = 1 << 18;
/// Tables that come back empty.
const WITHOUT_ROWS: [&str; 3] = ["log.sealed_outcome", "projection.cursor", "projection.job"];
/// What is kept of what a program complains of.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;

/// Of what a backup is taken, and with what.
pub struct Source<'a> {
    pub database: &'a Database,
    pub options: &'a Options,
    /// What the machine remembers of the log is there.
    pub data_dir: &'a Path,
    /// Where `pg_dump` is.
    pub program: &'a Path,
    pub keys: &'a Arc<DerivedKeys>,
}

/// Writes a backup to `out`, which must not be there. `written` is told how many bytes of the dump there are.
///
/// What would not be restored is not backed up: a log that was changed, or that ends before what this machine has seen, is
/// told now, while there are other copies.
pub async fn take(source: &Source<'_>, out: &Path, mut written: impl FnMut(u64)) -> Result<Statement, VaultError> {
    let client = source.database.owner().await?;
    let (log, witnesses) = before(source, &client).await?;
    let mut draft = Draft::begin(out)?;
    let moment = Moment::begin(&client, log).await?;
    moment.check(&client, source.keys, &witnesses).await?;
    let mut child = dump(source, &moment)?;
    let complaints = tokio::spawn(complaints(child.stderr.take()));
    let copied = copy(&mut child, &mut draft, &mut written).await;
    if copied.is_err() {
        // What it says is of no use any more, and it would wait for a reader.
        drop(child.start_kill());
    }
    let status = child.wait().await.map_err(|source| VaultError::NoProgram { program: PROGRAM, source })?;
    let said = complaints.await.unwrap_or_default();
    copied?;
    if !status.success() {
        return Err(VaultError::Program { program: PROGRAM, said });
    }
    client.batch_execute("rollback").await?;
    let statement =
        Statement { dump_bytes: draft.dump_bytes(), dump_sha256: draft.dump_sha256(), ..moment.statement() };
    draft.finish(&statement, source.keys)?;
    Ok(statement)
}

/// What a backup that is taken now would hold, but for the dump itself: all is checked that would be checked, and nothing written.
pub async fn foresee(source: &Source<'_>, out: &Path) -> Result<Statement, VaultError> {
    let client = source.database.owner().await?;
    let (log, witnesses) = before(source, &client).await?;
    Draft::check(out)?;
    let moment = Moment::begin(&client, log).await?;
    moment.check(&client, source.keys, &witnesses).await?;
    client.batch_execute("rollback").await?;
    Ok(moment.statement())
}

/// Before the moment: a service that runs remembers more from one second to the next.
async fn before(source: &Source<'_>, client: &Client) -> Result<(LogId, Vec<Witness>), VaultError> {
    if !client.query_one(include_str!("backup/has_log.sql"), &[]).await?.try_get::<_, bool>(0)? {
        return Err(VaultError::NoLog);
    }
    let log = head::find(client, source.keys).await?.ok_or(VaultError::NoLog)?;
    Ok((log, witnesses(source.data_dir, source.keys, log)?))
}

/// What the database was in the one moment that everything is read in.
struct Moment {
    snapshot: String,
    log: LogId,
    head: Head,
    schema: i32,
    server_version: String,
    /// What the dump is not to hold, as options of its program.
    left_out: Vec<String>,
}

impl Moment {
    /// It lasts for as long as the transaction that is begun here.
    async fn begin(client: &Client, log: LogId) -> Result<Self, VaultError> {
        client.batch_execute("begin isolation level repeatable read read only").await?;
        let row = client.query_one(include_str!("backup/moment.sql"), &[]).await?;
        let mut left_out = Vec::new();
        for row in client.query(include_str!("backup/left_out.sql"), &[]).await? {
            let (option, name): (&str, &str) = (row.try_get("option")?, row.try_get("name")?);
            left_out.push(format!("--{option}={name}"));
        }
        let schema = client.query_one(include_str!("backup/schema.sql"), &[]).await?.try_get(0)?;
        Ok(Self {
            snapshot: row.try_get("snapshot")?,
            log,
            head: Head::read(client).await?,
            schema,
            server_version: row.try_get("server_version")?,
            left_out,
        })
    }

    /// Every seal, as a start without a snapshot does.
    async fn check(&self, client: &Client, keys: &Arc<DerivedKeys>, witnesses: &[Witness]) -> Result<(), VaultError> {
        let folded = replay::fold(client, keys, self.log, None).await?;
        for witness in witnesses {
            witness.seen.check_against(client, self.log, &folded.head).await?;
        }
        Ok(check_nothing_past_end(client).await?)
    }

    fn statement(&self) -> Statement {
        let time = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        Statement {
            format: FORMAT,
            log: uuid::Uuid::from_u128(self.log.0),
            next_position: self.head.next_position,
            mac: hex(&self.head.seals.mac),
            merkle_root: hex(&self.head.seals.frontier.root()),
            recorded_at: time(date_time(self.head.recorded_at)),
            schema: self.schema,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server_version: self.server_version.clone(),
            taken_at: time(chrono::Utc::now()),
            dump_bytes: 0,
            dump_sha256: String::new(),
        }
    }
}

/// Answers that wait for their caller to ask again are not taken along: a day later they are gone from the database, and
/// would lie in the backup for ever. Nor is where projections stand, since they are not there themselves.
fn dump(source: &Source<'_>, moment: &Moment) -> Result<Child, VaultError> {
    let mut command = client_program(source.program, source.options)?;
    command.args(["--format=custom", "--no-password"]).args(&moment.left_out);
    command.args(WITHOUT_ROWS.map(|table| format!("--exclude-table-data={table}")));
    command.arg(format!("--snapshot={}", moment.snapshot)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = Command::from(command);
    command.kill_on_drop(true).spawn().map_err(|source| VaultError::NoProgram { program: PROGRAM, source })
}

async fn copy(child: &mut Child, draft: &mut Draft, written: &mut impl FnMut(u64)) -> Result<(), VaultError> {
    let Some(mut stdout) = child.stdout.take() else { return Ok(()) };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let silent = |_| VaultError::Silent { program: PROGRAM, minutes: SILENCE_MAX.as_secs() / 60 };
        let read = tokio::time::timeout(SILENCE_MAX, stdout.read(&mut chunk)).await.map_err(silent)?;
        let count = read.map_err(at(Path::new(PROGRAM)))?;
        if count == 0 {
            return Ok(());
        }
        draft.write(&chunk[..count])?;
        written(draft.dump_bytes());
    }
}

/// The beginning of what a program complains of. The rest is read too, or it would wait for that.
pub(super) async fn complaints(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut said = Vec::new();
    // What cannot be read is not told.
    drop((&mut stderr).take(COMPLAINT_BYTES_MAX).read_to_end(&mut said).await);
    drop(tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await);
    String::from_utf8_lossy(&said).trim().to_owned()
}
