//! Making a projection from nothing, beside the one that is being read, and putting it in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_postgres::{Client, GenericClient, Transaction};

use super::{Projection, ProjectionError, cursor};
use crate::postgres::Database;
use crate::validate::Snapshot;

/// Rows of one statement: enough that the statement costs nothing, few enough that the text of them is a MiB.
const CHUNK_ROWS: usize = 2_000;
/// Chunks that are rendered ahead of those that are written.
const CHUNKS_WAITING: usize = 4;
/// How long a switch waits for those who read the old rows. It is tried again, and meanwhile others can read: whoever
/// waits for an exclusive lock keeps everyone who comes later waiting too.
const SWITCH_PATIENCE: &str = "2s";

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
) -> Result<u64, ProjectionError> {
    let session = database.session().await?;
    let (client, schema) = (&session.client, projection.next_schema());
    hasten(client).await?;
    // The build of a node that has lost its place may still be running.
    if !cursor::lock(client, &schema).await? {
        return Err(ProjectionError::Building { schema });
    }
    client.execute("select projection.drop_schema($1)", &[&schema]).await?;
    client.execute("select projection.make_schema($1)", &[&schema]).await?;
    client.batch_execute(&format!("set search_path to {schema}, pg_temp")).await?;
    client.batch_execute(projection.sql.tables).await?;

    let next_position = snapshot.roll.next_position();
    progress.of((projection.render.count)(&snapshot.roll));
    let (sender, mut chunks) = mpsc::channel(CHUNKS_WAITING);
    let rendering = tokio::task::spawn_blocking(move || render_all(projection, &snapshot, &sender));
    let upsert = client.prepare(projection.sql.upsert).await?;
    while let Some((rows, count)) = chunks.recv().await {
        client.execute(&upsert, &[&rows]).await?;
        progress.add(count);
    }
    rendering.await?;
    client.batch_execute(projection.sql.indexes).await?;
    // Without it, nothing is known of a new table, and the first questions are answered by guesses.
    client.batch_execute(&format!("analyze {}", projection.table)).await?;
    Ok(next_position)
}

/// Every row, as JSON arrays of them with their counts.
fn render_all(projection: &Projection, snapshot: &Snapshot, sender: &mpsc::Sender<(String, usize)>) {
    let mut rows = (projection.render.all)(&snapshot.roll);
    loop {
        let chunk: Vec<String> = rows.by_ref().take(CHUNK_ROWS).map(|row| row.json).collect();
        let count = chunk.len();
        // Nobody is left to take them: the build has failed, and says so itself.
        if chunk.is_empty() || sender.blocking_send((array(&chunk), count)).is_err() {
            return;
        }
    }
}

/// Puts the build in the place of what is read now, in one transaction with the events that came while it was made: the
/// rows `touched` by them, which bring it to `position`.
pub async fn switch(
    client: &mut Client,
    projection: &Projection,
    touched: &[String],
    position: u64,
) -> Result<(), ProjectionError> {
    let (schema, next, table) = (projection.schema(), projection.next_schema(), projection.table);
    let transaction = client.transaction().await?;
    transaction.batch_execute(&format!("set local lock_timeout to '{SWITCH_PATIENCE}'")).await?;
    write(&transaction, projection, &next, touched).await?;
    transaction.execute("select projection.make_schema($1)", &[&schema]).await?;
    transaction
        .batch_execute(&format!(
            "drop view if exists projection.{name}; drop table if exists {schema}.{table}; \
             alter table {next}.{table} set schema {schema}",
            name = projection.name
        ))
        .await?;
    transaction.execute("select projection.drop_schema($1)", &[&next]).await?;
    make_view(&transaction, projection).await?;
    cursor::set(&transaction, projection, position).await?;
    Ok(transaction.commit().await?)
}

/// By which people read it whatever its version.
async fn make_view(transaction: &Transaction<'_>, projection: &Projection) -> Result<(), ProjectionError> {
    let (name, schema, table) = (projection.name, projection.schema(), projection.table);
    let statements = format!(
        "drop view if exists projection.{name}; create view projection.{name} as select * from {schema}.{table}; \
         grant select on projection.{name} to portcullis_reader"
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
    transaction.batch_execute(&format!("set local lock_timeout to '{SWITCH_PATIENCE}'")).await?;
    // The view may be of the other version, and would go with it.
    make_view(&transaction, projection).await?;
    transaction.execute("select projection.drop_schema($1)", &[&other]).await?;
    cursor::forget(&transaction, other).await?;
    Ok(transaction.commit().await?)
}

/// Writes rows into the table in `schema`.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    projection: &Projection,
    schema: &str,
    rows: &[String],
) -> Result<(), ProjectionError> {
    transaction.batch_execute(&format!("set local search_path to {schema}, pg_temp")).await?;
    for chunk in rows.chunks(CHUNK_ROWS) {
        transaction.execute(projection.sql.upsert, &[&array(chunk)]).await?;
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
