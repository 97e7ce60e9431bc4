//! The writer's connection: made, listened on, and given up when it no longer answers.

use tokio_postgres::{Client, Statement};

use super::{HEAD_HELD_MAX, LOCK_TIMEOUT, STATEMENT_PATIENCE, STATEMENT_TIMEOUT, Setback, Writer};
use crate::log::append;
use crate::log::read::Look;
use crate::log::{CHANNEL, LogFault, outcome};
use crate::node::presence;
use crate::postgres::Session;

/// Partitions are made when fewer positions than this are left in those that there are: minutes at full speed.
const PARTITION_LEAD: u64 = 1 << 19;

/// The writer's connection.
pub(super) struct Link {
    pub(super) session: Session,
    pub(super) append: Statement,
    pub(super) outcomes: Statement,
    pub(super) look: Look,
}

impl Writer {
    pub(super) async fn connect(&mut self) -> Result<(), Setback> {
        let session = self.database.session().await.map_err(|error| Setback::Lost(error.to_string()))?;
        bounded(&session.client).await?;
        planned_once(&session.client).await?;
        patient(self.clock.compare(&session.client)).await?;
        // Listening first: what is appended between this and the first look is heard.
        let client = &session.client;
        let prepared = Box::pin(async {
            client.batch_execute(&format!("listen {CHANNEL}")).await?;
            let append = append::prepare(client).await?;
            let outcomes = outcome::prepare(client).await?;
            Ok((append, outcomes, Look::prepare(client).await?))
        });
        let (append, outcomes, look) = patient(prepared).await?;
        self.link = Some(Link { session, append, outcomes, look });
        Ok(())
    }

    pub(super) fn client(&self) -> Result<&Client, Setback> {
        self.link.as_ref().map(|link| &link.session.client).ok_or_else(no_link)
    }

    pub(super) async fn execute(&self, statement: &str) -> Result<(), Setback> {
        let execute = self.client()?.batch_execute(statement);
        match tokio::time::timeout(STATEMENT_PATIENCE, execute).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Setback::Lost(error.to_string())),
            Err(_) => Err(Setback::Lost("the database did not answer in time".to_owned())),
        }
    }

    pub(super) async fn make_partitions(&mut self, next_position: u64) -> Result<(), Setback> {
        if next_position + PARTITION_LEAD <= self.partitioned {
            return Ok(());
        }
        let through = next_position + 2 * PARTITION_LEAD;
        patient(append::make_partitions(self.client()?, through)).await?;
        self.partitioned = through;
        Ok(())
    }

    /// What nobody can ask for any more: sealed outcomes, and nodes that ended without leaving.
    pub(super) async fn forget(&self) {
        let Ok(client) = self.client() else { return };
        if let Err(error) = patient(presence::forget(client)).await {
            tracing::warn!(%error, "nodes that ended long ago could not be taken off the list");
        }
        match patient(outcome::forget_sealed(client)).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "removed sealed outcomes whose day is over"),
            Err(error) => tracing::warn!(%error, "sealed outcomes whose day is over could not be removed"),
        }
    }
}

/// The answer, unless it takes longer than a link is trusted for: one that was cut silently never answers.
pub(super) async fn patient<T>(answer: impl Future<Output = Result<T, LogFault>>) -> Result<T, LogFault> {
    tokio::time::timeout(STATEMENT_PATIENCE, answer).await.unwrap_or(Err(LogFault::Silent))
}

/// Postgres ends what this side has given up, and sooner: a backend that waits for a lock does not notice that nobody
/// listens to it any more, and each retry would leave another one behind.
async fn bounded(client: &Client) -> Result<(), LogFault> {
    let (lock, statement) = (LOCK_TIMEOUT.as_millis(), STATEMENT_TIMEOUT.as_millis());
    let idle = HEAD_HELD_MAX.as_millis();
    let settings = format!(
        "set lock_timeout = {lock}; set statement_timeout = {statement}; set idle_in_transaction_session_timeout = {idle}"
    );
    patient(async { Ok(client.batch_execute(&settings).await?) }).await
}

/// What is prepared here is planned before the tables are what they will be, and for as long as the link lasts: so by index
/// whatever they hold at the moment, and not anew for each batch.
///
/// And nothing is compiled: where a scan is to be avoided it counts as very dear, so that even the one row of the head, which
/// has no other way to be read, would be worth compiling for: a tenth of a second of a core, each time anew.
async fn planned_once(client: &Client) -> Result<(), LogFault> {
    let settings = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off";
    patient(async { Ok(client.batch_execute(settings).await?) }).await
}

/// Reading a long log is one statement that takes as long as it takes; who reads it keeps its own patience.
pub(super) async fn unhurried(client: &Client) -> Result<(), LogFault> {
    patient(async { Ok(client.batch_execute("set statement_timeout = 0").await?) }).await
}

pub(super) fn no_link() -> Setback {
    Setback::Lost("not connected".to_owned())
}
