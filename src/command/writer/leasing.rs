//! Holding the lease of this node, confirming the head, and telling those who wait how far the log is applied here.
//!
//! All over a connection of its own. An append may take seconds, on a disk that is slow or behind a lock, and the writer
//! does nothing else meanwhile; what it has published is the newest state all the same, for as long as the head stands
//! where it stands.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::POLL_INTERVAL;
use super::clock::Clock;
use crate::log::LogFault;
use crate::log::head::Head;
use crate::node::Node;
use crate::node::lease::Uptime;
use crate::node::presence::{self, Identity};
use crate::postgres::{Database, DatabaseError, Session};

/// Far below `max_stale`, so that there is time for a second attempt over a new connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// A lease is renewed when this part of it is over: two renewals may fail before it ends.
const RENEWED_AFTER: u32 = 3;

pub(super) struct Leasing {
    pub(super) database: Database,
    pub(super) node: Arc<Node>,
    pub(super) clock: Arc<Clock>,
    pub(super) identity: Identity,
    /// Where the published Roll ends.
    pub(super) published: watch::Receiver<Head>,
    /// When the last renewal was sent that counts; `None` where the lease was lost.
    pub(super) renewed: Option<Uptime>,
    /// Where the log ended after this node had come on the list: no lease counts before all below is applied. `None` where
    /// that is not known: the node may be on the list, and the answer that said so, or the head after it, was lost.
    pub(super) admitted_from: Option<u64>,
    /// The highest position that somebody waits for, and what they have been told.
    pub(super) wanted: u64,
    pub(super) told: u64,
}

/// What there is to do.
enum Wake {
    Poll,
    /// The published Roll has moved.
    Moved,
    /// Somebody waits for this position, or the connection that says so is gone.
    Wanted(Option<u64>),
}

#[derive(Debug, thiserror::Error)]
enum Setback {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Log(#[from] LogFault),
}

impl Leasing {
    /// Runs beside the writer, and ends with it.
    pub(super) async fn keep(mut self) {
        let mut polls = tokio::time::interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut session = None;
        loop {
            let wake = tokio::select! {
                _ = polls.tick() => Wake::Poll,
                moved = self.published.changed() => match moved {
                    Ok(()) => Wake::Moved,
                    Err(_) => return,
                },
                wanted = wanted(&mut session) => Wake::Wanted(wanted),
            };
            if session.is_none() && matches!(wake, Wake::Poll) {
                session = self.connected().await;
            }
            // A connection of which the answer was not awaited is of no further use: it would answer the next question.
            session = match tokio::time::timeout(PATIENCE, self.answer(session.take(), wake)).await {
                Ok(Ok(session)) => session,
                // What is wrong with the database the writer finds out too, and says.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the lease could not be seen to");
                    None
                }
                Err(_) => None,
            };
        }
    }

    /// Gives the connection back, if there is one that is of further use.
    async fn answer(&mut self, session: Option<Session>, wake: Wake) -> Result<Option<Session>, Setback> {
        let session = match (session, &wake) {
            (_, Wake::Wanted(None)) => return Ok(None),
            // A lease that is renewed at an old primary is one that nobody else can see.
            (Some(session), _) if session.is_superseded() => return Ok(None),
            (Some(session), _) => session,
            // The next poll connects: not each of a thousand appends a second, to a database that is down.
            (None, Wake::Poll | Wake::Moved | Wake::Wanted(_)) => return Ok(None),
        };
        match wake {
            Wake::Poll => self.look(&session).await?,
            Wake::Moved if self.renewed.is_none() => self.renew(&session).await?,
            Wake::Moved => self.tell(&session).await?,
            Wake::Wanted(position) => {
                self.wanted = self.wanted.max(position.unwrap_or_default());
                self.tell(&session).await?;
            }
        }
        Ok(Some(session))
    }

    /// Connecting has a time limit of its own: to a database far away it takes more steps than any statement.
    async fn connected(&self) -> Option<Session> {
        let session = self.database.session().await.ok()?;
        let client = &session.client;
        let prepared = async { tokio::try_join!(presence::limit_statements(client), presence::listen(client)) };
        let prepared = tokio::time::timeout(PATIENCE, prepared).await;
        prepared.is_ok_and(|prepared| prepared.is_ok()).then_some(session)
    }

    async fn look(&mut self, session: &Session) -> Result<(), LogFault> {
        let asked = Uptime::now();
        let found = Head::read(&session.client).await?;
        // Positions alone would not do: another history may be as long. What differs is for the writer to follow, or to refuse.
        if *self.published.borrow() == found {
            self.node.confirm(asked);
        }
        let length = self.node.lease().length();
        if self.renewed.is_none_or(|sent| sent.elapsed() >= length / RENEWED_AFTER) {
            self.renew(session).await?;
        }
        // What a lost notification has asked for is told at the next look.
        self.tell(session).await?;
        self.clock.compare(&session.client).await
    }

    /// A node that does not follow renews nothing: whoever waits for it would wait for ever.
    async fn renew(&mut self, session: &Session) -> Result<(), LogFault> {
        let sent = Uptime::now();
        if !self.node.is_confirmed(sent) {
            return Ok(());
        }
        let (client, length) = (&session.client, self.node.lease().length());
        let applied = self.published.borrow().next_position;
        if !presence::renew(client, self.identity.id, applied).await? {
            // Before it is asked for: whatever becomes of the answer, the next renewal may find the node on the list.
            (self.renewed, self.admitted_from) = (None, None);
            presence::enlist(client, &self.identity, applied, length).await?;
        }
        self.told = applied;
        let admitted_from = match self.admitted_from {
            Some(position) => position,
            None => *self.admitted_from.insert(Head::read(client).await?.next_position),
        };
        let held = self.published.borrow().next_position >= admitted_from;
        self.renewed = held.then_some(sent);
        if held {
            self.node.lease().renewed(sent);
        }
        Ok(())
    }

    /// Only where somebody waits: a write for each batch on each node would cost more than the batch.
    async fn tell(&mut self, session: &Session) -> Result<(), LogFault> {
        let applied = self.published.borrow().next_position;
        if applied > self.told && self.told <= self.wanted {
            presence::acknowledge(&session.client, self.identity.id, applied).await?;
            self.told = applied;
        }
        Ok(())
    }
}

/// The next position that somebody waits for; `None` where the connection is gone.
async fn wanted(session: &mut Option<Session>) -> Option<u64> {
    match session {
        None => std::future::pending().await,
        // What cannot be read is nobody's wish.
        Some(session) => session.notifications.recv().await.map(|heard| heard.payload().parse().unwrap_or_default()),
    }
}
