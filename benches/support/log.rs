//! Events into a database by `COPY`, sealed as the writer seals them: a million in seconds, ten million in minutes.
//!
//! All of a filling is one transaction, which moves the head at its end and says so: to whoever follows the log, it is what a
//! writer's batch is, only larger.

use chrono::{DateTime, Utc};
use portcullis::domain::event::Recorded;
use portcullis::log::append;
use portcullis::log::entry;
use portcullis::log::head::{self, Head};
use portcullis::log::seal::Sealed;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::fleet::Fleet;

/// Rows that are handed over together: sealing and sending each have a core.
const PAGE: usize = 1_024;
const PAGES_WAITING: usize = 8;

const COPY: &str =
    "copy log.event (position, entry, mac, leaf_hash, recorded_at, kind, schema, subject_kind, subject_id, pool,
    actor, incident, command_id) from stdin binary";
const TYPES: [Type; 13] = [
    Type::INT8,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::INT4,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::UUID,
];
const MOVE_HEAD: &str =
    "update log.head set version = $1 + 1, next_position = $2, mac = $3, merkle_root = $4, frontier = $5,
    recorded_at = $6 where version = $1 returning pg_notify('portcullis_log', next_position::text)";

/// A log that is being filled.
pub(crate) struct Filling {
    head: Head,
    page: Vec<Row>,
    pages: mpsc::Sender<Vec<Row>>,
    copying: JoinHandle<anyhow::Result<Client>>,
}

/// One that is full, and that nobody sees yet.
pub(crate) struct Filled {
    head: Head,
    client: Client,
}

struct Row {
    position: i64,
    entry: Vec<u8>,
    sealed: Sealed,
    recorded_at: DateTime<Utc>,
    kind: &'static str,
    schema: i32,
    subject_kind: &'static str,
    subject_id: String,
    pool: Option<String>,
    actor: String,
    incident: Option<String>,
    command: Uuid,
}

impl Filling {
    /// Begins the log, with what the first start writes.
    pub(crate) async fn begin(client: Client, fleet: &mut Fleet, events: usize) -> anyhow::Result<Self> {
        head::open(&client, &fleet.keys, None).await?;
        let mut filling = Self::go_on(client, events).await?;
        for recorded in fleet.bootstrap()? {
            filling.push(fleet, &recorded).await?;
        }
        Ok(filling)
    }

    /// Adds to a log that there is.
    pub(crate) async fn go_on(client: Client, events: usize) -> anyhow::Result<Self> {
        // It takes as long as it takes.
        client.batch_execute("set statement_timeout = 0").await?;
        let head = Head::read(&client).await?;
        append::make_partitions(&client, head.next_position + events as u64).await?;
        let (pages, waiting) = mpsc::channel(PAGES_WAITING);
        let copying = tokio::spawn(copy(client, waiting));
        Ok(Self { head, page: Vec::with_capacity(PAGE), pages, copying })
    }

    pub(crate) async fn push(&mut self, fleet: &Fleet, recorded: &Recorded) -> anyhow::Result<()> {
        let entry = entry::encode(recorded)?;
        let sealed = self.head.seals.advance(fleet.keys.log_chain(), &entry);
        let columns = entry::columns(recorded);
        anyhow::ensure!(columns.position == self.head.next_position, "events come in order");
        self.head.next_position += 1;
        self.head.recorded_at = recorded.recorded_at;
        self.page.push(Row {
            position: columns.position.try_into()?,
            entry,
            sealed,
            recorded_at: date_time(recorded.recorded_at.0),
            kind: columns.kind,
            schema: columns.schema.try_into()?,
            subject_kind: columns.subject_kind,
            subject_id: columns.subject_id,
            pool: columns.pool.map(ToString::to_string),
            actor: columns.actor,
            incident: columns.incident.map(str::to_owned),
            command: columns.command_id,
        });
        if self.page.len() == PAGE {
            self.hand_over().await;
        }
        Ok(())
    }

    /// Commits, and gives the connection back.
    pub(crate) async fn finish(self) -> anyhow::Result<Client> {
        self.fill().await?.commit().await
    }

    /// All but the commit.
    pub(crate) async fn fill(mut self) -> anyhow::Result<Filled> {
        self.hand_over().await;
        drop(self.pages);
        Ok(Filled { head: self.head, client: self.copying.await?? })
    }

    async fn hand_over(&mut self) {
        let page = std::mem::replace(&mut self.page, Vec::with_capacity(PAGE));
        // Where nobody takes it, the copying has failed and says why in the end.
        self.pages.send(page).await.ok();
    }
}

impl Filled {
    pub(crate) async fn commit(self) -> anyhow::Result<Client> {
        let Self { head, client } = self;
        let (root, position) = (head.seals.frontier.root(), i64::try_from(head.next_position)?);
        let (mac, frontier, at) = (head.seals.mac, head.seals.frontier.to_bytes(), date_time(head.recorded_at.0));
        let moved = client.query(MOVE_HEAD, &[&head.version, &position, &&mac[..], &&root[..], &frontier, &at]).await?;
        anyhow::ensure!(moved.len() == 1, "somebody else wrote to the log");
        client.batch_execute("commit").await?;
        Ok(client)
    }
}

async fn copy(client: Client, mut pages: mpsc::Receiver<Vec<Row>>) -> anyhow::Result<Client> {
    client.batch_execute("begin").await?;
    let sink = client.copy_in(COPY).await?;
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &TYPES));
    while let Some(page) = pages.recv().await {
        for row in &page {
            let (mac, leaf_hash) = (&row.sealed.mac[..], &row.sealed.leaf_hash[..]);
            let values: [&(dyn ToSql + Sync); 13] = [
                &row.position,
                &row.entry,
                &mac,
                &leaf_hash,
                &row.recorded_at,
                &row.kind,
                &row.schema,
                &row.subject_kind,
                &row.subject_id,
                &row.pool,
                &row.actor,
                &row.incident,
                &row.command,
            ];
            writer.as_mut().write(&values).await?;
        }
    }
    writer.finish().await?;
    Ok(client)
}

fn date_time(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
