//! Confirming the head while the writer waits for something else.
//!
//! An append may take seconds, on a disk that is slow or behind a lock, and the writer does nothing else meanwhile. The
//! state that it has published is the newest all the same, for as long as the head stands where it stands: so the head is
//! looked at over a connection of its own, and a slow append makes no node stale.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::POLL_INTERVAL;
use super::clock::Clock;
use crate::log::head::Head;
use crate::node::Node;
use crate::postgres::{Database, Session};

/// Far below `max_stale`, so that there is time for a second attempt over a new connection.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks at the head again and again; ends with the writer, beside which it runs.
pub(super) async fn confirm(database: &Database, node: &Node, clock: &Clock, published: watch::Receiver<Head>) {
    let mut polls = tokio::time::interval(POLL_INTERVAL);
    polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut session = None;
    loop {
        polls.tick().await;
        // What is wrong with the database the writer finds out too, and says.
        session = tokio::time::timeout(PATIENCE, look(database, session, node, clock, &published)).await.ok().flatten();
    }
}

/// Gives the connection back if it is of further use.
async fn look(
    database: &Database,
    session: Option<Session>,
    node: &Node,
    clock: &Clock,
    published: &watch::Receiver<Head>,
) -> Option<Session> {
    let session = match session {
        Some(session) => session,
        None => database.session().await.ok()?,
    };
    let asked = Instant::now();
    let found = Head::read(&session.client).await.ok()?;
    // Positions alone would not do: another history may be as long. What differs is for the writer to follow, or to refuse.
    if *published.borrow() == found {
        node.confirm(asked);
    }
    clock.compare(&session.client).await.ok()?;
    Some(session)
}
