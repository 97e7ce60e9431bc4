//! Events into a database, sealed as the writer seals them, thousands to an append.

use portcullis::domain::event::Recorded;
use portcullis::log::append::{self, Appended, Batch};
use portcullis::log::head::{self, Head};
use tokio_postgres::{Client, Statement};

use super::fleet::Fleet;

const BATCH: usize = 4_096;

/// A log that is being filled.
pub(crate) struct Filling {
    client: Client,
    statement: Statement,
    batch: Batch,
}

impl Filling {
    /// Begins the log, with what the first start writes.
    pub(crate) async fn begin(client: Client, fleet: &mut Fleet, events: usize) -> anyhow::Result<Self> {
        head::open(&client, &fleet.keys, None).await?;
        append::make_partitions(&client, events as u64).await?;
        let statement = append::prepare(&client).await?;
        let batch = Batch::after(&Head::read(&client).await?);
        let mut filling = Self { client, statement, batch };
        for recorded in fleet.bootstrap()? {
            filling.push(fleet, &recorded).await?;
        }
        Ok(filling)
    }

    pub(crate) async fn push(&mut self, fleet: &Fleet, recorded: &Recorded) -> anyhow::Result<()> {
        self.batch.push(recorded, &fleet.keys)?;
        if self.batch.event_count() < BATCH { Ok(()) } else { self.append().await }
    }

    /// Writes what is left, and gives the connection back.
    pub(crate) async fn finish(mut self) -> anyhow::Result<Client> {
        self.append().await?;
        // To read the whole of it takes as long as it takes.
        self.client.batch_execute("set statement_timeout = 0").await?;
        Ok(self.client)
    }

    async fn append(&mut self) -> anyhow::Result<()> {
        let appended = self.batch.append(&self.client, &self.statement).await?;
        anyhow::ensure!(appended == Appended::Done, "somebody else wrote to the log");
        self.batch = Batch::after(self.batch.head());
        Ok(())
    }
}
