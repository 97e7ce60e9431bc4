//! Making a projection from nothing, beside the one that is being read, and putting it in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_postgres::{Client, GenericClient, Transaction};

use super::runner::patient;
use super::{Projection, ProjectionError, Table, cursor};
use crate::postgres::Database;
use crate::validate::Snapshot;

/// Rows of one statement: enough that the statement costs nothing, few enough that the text of them is a MiB.
const CHUNK_ROWS: usize = 2_000;
/// Chunks that are rendered ahead of those that are written.
const CHUNKS_WAITING: usize = 4;
/// How long a switch waits for those who read the old rows: whoever waits for an exclusive lock keeps everyone who comes later
/// waiting too, so lists are held up for as long. It is tried again after a pause, in which they are read.
pub(super) const SWITCH_PATIENCE: Duration = Duration::from_millis(50);
/// And one that has given way for a minute: where lists never end all at once, it would never take its place.
pub(super) const SWITCH_PATIENCE_MAX: Duration = Duration::from_secs(1);

/// How a build treats what runs beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Nothing can be read before it is done.
    Full,
    /// There are rows to be read meanwhile: the processors and the disk are for others for as long as it works.
    Resting,
}

impl Haste {
    /// How often as long as a statement took it rests.
    const REST: u32 = 1;

    async fn rest(self, worked: Duration) {
        match self {
            Self::Full => {}
            Self::Resting => tokio::time::sleep(worked * Self::REST).await,
        }
    }

    /// An index that is made by several processes at a time is there sooner, and takes all processors.
    fn settings(self) -> &'static str {
        match self {
            Self::Full => "",
            Self::Resting => "set max_parallel_maintenance_workers to 0",
        }
    }
}

/// How far a build or a verification is.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    pub fn rows(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    pub(super) fn of(&self, total: usize) {
        self.total.store(total as u64, Ordering::Relaxed);
    }

    pub(super) fn add(&self, rows: usize) {
        self.done.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

/// Writes every row of the snapshot beside the rows that are read now, with its indexes. Returns the position of the first
/// event that they do not hold.
pub async fn build(
    database: &Database,
    projection: &'static Projection,
    snapshot: Arc<Snapshot>,
    progress: Arc<Progress>,
    haste: Haste,
) -> Result<u64, ProjectionError> {
    let session = database.session().await?;
    let (client, schema) = (&session.client, projection.next_schema());
    hasten(client).await?;
    client.batch_execute(haste.settings()).await?;
    // The build of a node that has lost its place may still be running.
    if !cursor::lock(client, &schema).await? {
        return Err(ProjectionError::Building { schema });
    }
    client.execute("select projection.drop_schema($1)", &[&schema]).await?;
    client.execute("select projection.make_schema($1)", &[&schema]).await?;
    client.batch_execute(&format!("set search_path to {schema}, pg_temp")).await?;
    for table in projection.tables {
        client.batch_execute(table.definition).await?;
    }

    let next_position = snapshot.roll.next_position();
    progress.of(projection.count(&snapshot.roll));
    let (sender, mut chunks) = mpsc::channel(CHUNKS_WAITING);
    let rendering = tokio::task::spawn_blocking(move || render_all(projection, &snapshot, &sender));
    while let Some(chunk) = chunks.recv().await {
        let began = Instant::now();
        client.execute(chunk.table.upsert, &[&chunk.rows]).await?;
        progress.add(chunk.count);
        haste.rest(began.elapsed()).await;
    }
    rendering.await?;
    client.batch_execute(projection.indexes).await?;
    for table in projection.tables {
        // Without it, nothing is known of a new table, and the first questions are answered by guesses.
        client.batch_execute(&format!("analyze {}", table.name)).await?;
    }
    Ok(next_position)
}

/// Rows of one statement, as a JSON array.
struct Chunk {
    table: &'static Table,
    rows: String,
    count: usize,
}

fn render_all(projection: &Projection, snapshot: &Snapshot, sender: &mpsc::Sender<Chunk>) {
    for table in projection.tables {
        let mut rows = (table.render.all)(&snapshot.roll);
        loop {
            let chunk: Vec<String> = rows.by_ref().take(CHUNK_ROWS).map(|row| row.json).collect();
            if chunk.is_empty() {
                break;
            }
            let chunk = Chunk { table, rows: array(&chunk), count: chunk.len() };
            // Nobody is left to take them: the build has failed, and says so itself.
            if sender.blocking_send(chunk).is_err() {
                return;
            }
        }
    }
}

/// Puts the build in the place of what is read now, in one transaction with the events that came while it was made: the
/// rows `touched` by them, which bring it to `position`.
pub async fn switch(
    client: &mut Client,
    projection: &Projection,
    touched: &[Vec<String>],
    position: u64,
    patience: Duration,
) -> Result<(), ProjectionError> {
    let (schema, next) = (projection.schema(), projection.next_schema());
    let transaction = client.transaction().await?;
    write(&transaction, projection, &next, touched).await?;
    limit_waits(&transaction, patience).await?;
    transaction.execute("select projection.make_schema($1)", &[&schema]).await?;
    transaction.batch_execute(&format!("drop view if exists projection.{}", projection.name)).await?;
    for Table { name, .. } in projection.tables {
        let replace = format!("drop table if exists {schema}.{name}; alter table {next}.{name} set schema {schema}");
        transaction.batch_execute(&replace).await?;
    }
    transaction.execute("select projection.drop_schema($1)", &[&next]).await?;
    make_view(&transaction, projection).await?;
    cursor::set(&transaction, projection, position).await?;
    Ok(transaction.commit().await?)
}

/// Of all that the transaction asks for from here on.
async fn limit_waits(transaction: &Transaction<'_>, patience: Duration) -> Result<(), ProjectionError> {
    Ok(transaction.batch_execute(&format!("set local lock_timeout to {}", patience.as_millis())).await?)
}

/// By which people read it whatever its version.
async fn make_view(transaction: &Transaction<'_>, projection: &Projection) -> Result<(), ProjectionError> {
    let (name, schema, view) = (projection.name, projection.schema(), projection.view);
    let statements = format!(
        "set local search_path to {schema}, pg_temp; drop view if exists projection.{name}; \
         create view projection.{name} as {view}; grant select on projection.{name} to portcullis_reader"
    );
    Ok(transaction.batch_execute(&statements).await?)
}

/// Removes versions that no node keeps any more: nobody holds the lock of such a one.
pub(super) async fn drop_others(client: &mut Client, projection: &Projection) -> Result<(), ProjectionError> {
    for other in cursor::other_versions(&*client, projection).await? {
        if !cursor::lock(&*client, &other).await? {
            continue;
        }
        let dropped = drop_version(client, projection, &other).await;
        cursor::unlock(&*client, &other).await?;
        dropped?;
        tracing::info!(projection = projection.name, schema = other, "dropped a version that no node keeps any more");
    }
    Ok(())
}

async fn drop_version(client: &mut Client, projection: &Projection, other: &str) -> Result<(), ProjectionError> {
    let transaction = client.transaction().await?;
    limit_waits(&transaction, SWITCH_PATIENCE).await?;
    // The view may be of the other version, and would go with it.
    make_view(&transaction, projection).await?;
    transaction.execute("select projection.drop_schema($1)", &[&other]).await?;
    cursor::forget(&transaction, other).await?;
    Ok(transaction.commit().await?)
}

/// Writes rows into the tables in `schema`.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    projection: &Projection,
    schema: &str,
    changes: &[Vec<String>],
) -> Result<(), ProjectionError> {
    transaction.batch_execute(&format!("set local search_path to {schema}, pg_temp")).await?;
    for (table, rows) in projection.tables.iter().zip(changes) {
        for chunk in rows.chunks(CHUNK_ROWS) {
            patient(async { Ok(transaction.execute(table.upsert, &[&array(chunk)]).await?) }).await?;
        }
    }
    Ok(())
}

fn array(rows: &[String]) -> String {
    format!("[{}]", rows.join(","))
}

/// A projection that loses its last rows in a crash loses its cursor's last moves with them, and both are made again: no
/// commit here waits for the disk.
pub(super) async fn hasten(client: &impl GenericClient) -> Result<(), ProjectionError> {
    let settings = "set synchronous_commit to off; set statement_timeout to 0; set maintenance_work_mem to '128MB'; \
                    set idle_in_transaction_session_timeout to '60s'; set client_min_messages to warning";
    Ok(client.batch_execute(settings).await?)
}
