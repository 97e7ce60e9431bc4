//! The task that tells every webhook what it is to be told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::message::Message;
use super::target::{SendError, Sender};
use crate::command::{CommandQueue, Wish, mint};
use crate::credential::root_key::DerivedKeys;
use crate::domain::actor::Author;
use crate::domain::command::{Command, Context};
use crate::domain::ids::{CommandId, WebhookId};
use crate::domain::webhook::{Delivery, Outcome, Webhook, WebhookCommand};
use crate::log::LogFault;
use crate::log::entry;
use crate::log::search::{Search, search};
use crate::node::{Node, NotCurrent};
use crate::postgres::{Database, DatabaseError, PoolError};

/// Before the second attempt. Each wait is four times the one before: the eighth attempt comes most of an hour after the first.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_mins(30);
/// A receiver that cannot take what this message is will not take it in an hour either, and the next one waits.
const REFUSED_MAX: u64 = 3;
/// How often is looked for webhooks that came or went, and whether another node tells no more.
const TICK: Duration = Duration::from_millis(250);
/// What comes in a burst is looked for together.
const SETTLE: Duration = Duration::from_millis(50);
/// After something has failed here, and not at a receiver.
const PAUSE: Duration = Duration::from_secs(1);
/// After so long without an answer of the database the session is given up, and with it the lock.
const PATIENCE: Duration = Duration::from_secs(10);
/// A node that stands still loses its session, and another goes on.
const SILENCE_MAX: &str = "set idle_session_timeout to '3s'";

/// What telling works with.
#[derive(Clone)]
pub struct Start {
    pub database: Database,
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    pub sender: Sender,
    /// How often a message is sent before it is given up.
    pub attempts: u64,
}

#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error(transparent)]
    Connect(#[from] DatabaseError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("the database failed: {0}")]
    Database(#[from] tokio_postgres::Error),
    #[error("the database did not answer in time")]
    Silent,
    #[error(transparent)]
    Log(#[from] LogFault),
    #[error(transparent)]
    NotCurrent(#[from] NotCurrent),
    #[error("the entry at {0} cannot be told: it is not what the log writes")]
    Entry(u64),
}

/// One webhook's task, which ends with this.
struct Telling(JoinHandle<()>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells until it is dropped. It can be at any moment: what is not known to have arrived is told again.
pub async fn run(start: Start) {
    loop {
        let Err(error) = keep(&start).await;
        tracing::warn!(%error, "this node tells no webhooks, until it can again");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn keep(start: &Start) -> Result<std::convert::Infallible, DeliverError> {
    let session = patient(async { Ok(start.database.session().await?) }).await?;
    let client = session.client;
    patient(async { Ok(client.batch_execute(SILENCE_MAX).await?) }).await?;
    while !patient(lock(&client)).await? {
        tokio::time::sleep(TICK).await;
    }
    tracing::debug!("this node tells the webhooks");
    let mut telling: HashMap<WebhookId, Telling> = HashMap::new();
    loop {
        start.node.check_current()?;
        let snapshot = start.node.snapshot();
        let wanted = |id: &WebhookId| snapshot.roll.webhook(*id).is_some_and(|webhook| webhook.enabled);
        telling.retain(|id, telling| wanted(id) && !telling.0.is_finished());
        for webhook in snapshot.roll.webhooks().filter(|webhook| webhook.enabled) {
            telling.entry(webhook.id).or_insert_with(|| Telling(tokio::spawn(tell(start.clone(), webhook.id))));
        }
        tokio::time::sleep(TICK).await;
        // Says that this node is there, and hears whether it still holds the lock: a session that has ended has lost it.
        patient(async { Ok(client.batch_execute("select 1").await?) }).await?;
    }
}

async fn lock(client: &Client) -> Result<bool, DeliverError> {
    Ok(client.query_one(include_str!("deliver/lock.sql"), &[]).await?.try_get(0)?)
}

async fn patient<T>(work: impl Future<Output = Result<T, DeliverError>>) -> Result<T, DeliverError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(DeliverError::Silent))
}

/// Tells one webhook whatever there is to tell, in order.
async fn tell(start: Start, id: WebhookId) {
    let mut looked_to = 0;
    loop {
        let Some(webhook) = webhook(&start, id) else { return };
        match next(&start, &webhook, &mut looked_to).await {
            Ok(Some((position, message))) => {
                let Some(delivery) = deliver(&start, id, position, &message).await else { return };
                settle(&start, id, delivery).await;
            }
            Ok(None) => {
                start.node.reached(looked_to).await;
                tokio::time::sleep(SETTLE).await;
            }
            Err(error) => {
                tracing::warn!(%error, webhook = %id, "what a webhook is to be told cannot be read");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn webhook(start: &Start, id: WebhookId) -> Option<Webhook> {
    start.node.snapshot().roll.webhook(id).filter(|webhook| webhook.enabled).cloned()
}

/// The oldest event that it is to be told of and was not. `looked_to`: before that position there is none.
async fn next(start: &Start, webhook: &Webhook, looked_to: &mut u64) -> Result<Option<(u64, Message)>, DeliverError> {
    let end = start.node.snapshot().roll.next_position();
    let from = (webhook.settled + 1).max(*looked_to);
    let mut oldest: Option<(u64, Vec<u8>, &str)> = None;
    let client = start.database.client().await?;
    for (kind, since) in webhook.kinds.iter().zip(webhook.since.iter()) {
        let from = from.max(since + 1);
        let to = oldest.as_ref().map_or(end, |(position, _, _)| *position);
        let wanted =
            Search { from, to, kind: Some(kind), subject: None, incident: None, newest_first: false, limit: 1 };
        let found = search(&client, start.node.keys(), &wanted).await?;
        oldest = found.entries.into_iter().next().map(|found| (found.position, found.entry, &**kind)).or(oldest);
    }
    let Some((position, bytes, kind)) = oldest else {
        *looked_to = end;
        return Ok(None);
    };
    *looked_to = position;
    let recorded = entry::decode(&bytes).map_err(|_| DeliverError::Entry(position))?;
    let raw = String::from_utf8(bytes).ok().and_then(|text| RawValue::from_string(text).ok());
    let raw = raw.ok_or(DeliverError::Entry(position))?;
    let at = chrono::DateTime::from_timestamp_micros(recorded.recorded_at.0).unwrap_or_default();
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    Ok(Some((position, Message::of_event(webhook.id, position, kind, &at, &raw))))
}

/// Sends it until it arrives, or has been sent too often; `None` where it is to be told nothing any more.
async fn deliver(start: &Start, id: WebhookId, position: u64, message: &Message) -> Option<Delivery> {
    let mut attempts = 0;
    loop {
        // As it is now: its URL may have been mended since.
        let webhook = webhook(start, id)?;
        attempts += 1;
        let sent = attempt(start.node.keys(), &start.sender, &webhook, message).await;
        let outcome = match sent {
            Ok(status) => Outcome::Delivered { status: status.into() },
            Err(error) if attempts >= start.attempts || (attempts >= REFUSED_MAX && error.is_of_the_message()) => {
                tracing::warn!(webhook = %id, position, attempts, %error, "a webhook could not be told, and is not tried again");
                Outcome::Failed { why: error.to_string().into() }
            }
            Err(error) => {
                tracing::info!(webhook = %id, position, attempts, %error, "a webhook could not be told yet");
                tokio::time::sleep(wait(attempts)).await;
                continue;
            }
        };
        return Some(Delivery { position, attempts, outcome });
    }
}

/// One attempt.
pub async fn attempt(
    keys: &DerivedKeys,
    sender: &Sender,
    webhook: &Webhook,
    message: &Message,
) -> Result<u16, SendError> {
    let secret = keys.open_webhook_secret(webhook.id, &webhook.sealed).map_err(|error| {
        tracing::error!(%error, webhook = %webhook.id, "the secret of a webhook does not open");
        SendError::Other
    })?;
    sender.send(&webhook.url, &secret, message, mint::now().unix_seconds()).await
}

/// Four times as long each time, with a part by chance: receivers that were away are not all called at one instant.
fn wait(attempts: u64) -> Duration {
    let exponent = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    WAIT_FIRST.saturating_mul(4_u32.saturating_pow(exponent)).min(WAIT_MAX).mul_f64(rand::random_range(0.8..1.2))
}

/// Has it recorded, however long that takes: what is not recorded is told again.
async fn settle(start: &Start, webhook: WebhookId, delivery: Delivery) {
    loop {
        let wish = Wish {
            id: CommandId::from_uuid(mint::id()),
            fingerprint: None,
            command: Command::Webhook(WebhookCommand::Settle { webhook, delivery: delivery.clone() }),
            context: Context { now: mint::now(), author: Author::system(), reason: None, incident: None },
            answer: Arc::new(|_, _| serde_json::Value::Null),
            sealed: None,
            dry_run: false,
        };
        match start.queue.submit(wish).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, %webhook, "how a delivery ended could not be recorded yet");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WEBHOOK_ATTEMPTS_MAX;

    #[test]
    fn the_attempts_are_spread_over_most_of_an_hour() {
        let all: Duration = (1..WEBHOOK_ATTEMPTS_MAX).map(wait).sum();
        assert!((Duration::from_mins(30)..Duration::from_mins(75)).contains(&all), "{all:?}");
        assert!(wait(1) <= Duration::from_millis(1_200) && wait(u64::MAX) <= WAIT_MAX.mul_f64(1.2));
    }
}
