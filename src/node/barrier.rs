//! Waiting until every node has applied a position, or can answer for nothing any more.
//!
//! What makes it safe is in `presence/*.sql` and [`super::lease`]; this only watches and measures. Nothing here reads a
//! wall clock. One task watches for all who wait on this node, so that a thousand of them cost no more than one.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::lease::Uptime;
use super::presence::{self, Holder};
use crate::log::LogFault;
use crate::postgres::{Database, Session};

/// Between two looks: short at first, since most nodes confirm within a few milliseconds.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// After a look that failed: a database that comes back is not to be asked for by everybody at once.
const PAUSE_FAILED: Duration = Duration::from_millis(500);
/// How often those who are waited for are reminded: the first word may have been lost.
const REMINDED: Duration = Duration::from_millis(100);
/// A look that takes longer is given up with its connection.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// As many as a queue of commands holds.
const WAITING_MAX: usize = 16_384;

/// A node by its id, which is its own, and by its name, which may be another's too.
pub type Named = BTreeMap<Uuid, String>;

/// How a barrier ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The nodes that have applied the position.
    pub confirmed: Named,
    /// Those that have left, or said nothing for so long that they refuse by themselves.
    pub waited_out: Named,
    /// Those that were still waited for when the time was over. Where there are any, nothing is promised.
    pub missing: Named,
}

impl Passed {
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.missing.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BarrierError {
    #[error("the nodes could not be asked in time")]
    Unanswered,
    #[error("the service is stopping")]
    Stopping,
}

/// The way to the task that watches.
#[derive(Clone)]
pub struct Barriers(mpsc::Sender<Waiter>);

/// Somebody who waits, and what was seen for them.
struct Waiter {
    position: u64,
    deadline: Instant,
    reply: oneshot::Sender<Passed>,
    /// Every node that was seen while it was behind.
    awaited: Named,
    /// How it stood at the last look, if there was one.
    last: Option<Passed>,
}

/// One connection, and what was seen over it. A database that was restarted, or put in another's place, is seen anew: it may
/// have forgotten a renewal that was seen before, or never have had it.
struct View {
    session: Session,
    still: Stillness,
    /// When those who are waited for were last told so.
    reminded: Option<Instant>,
}

/// Since when each node's renewals have stood still.
#[derive(Default)]
struct Stillness(HashMap<Uuid, (i64, Uptime)>);

impl Barriers {
    /// Starts the task; it ends when nobody can ask any more.
    #[must_use]
    pub fn start(database: Database) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(watch(database, receiver));
        Self(sender)
    }

    /// Waits for the event at `position`, at most until `patience` is over.
    pub async fn wait(&self, position: u64, patience: Duration) -> Result<Passed, BarrierError> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + patience;
        let waiter = Waiter { position, deadline, reply, awaited: Named::new(), last: None };
        self.0.send(waiter).await.map_err(|_| BarrierError::Stopping)?;
        answer.await.map_err(|_| BarrierError::Unanswered)
    }
}

async fn watch(database: Database, mut asked: mpsc::Receiver<Waiter>) {
    let mut waiting = Vec::new();
    let mut view = None;
    let mut connecting = None;
    let mut pause = PAUSE_MIN;
    // Said once and not at each of twenty looks a second, for as long as the database is down.
    let mut is_said = false;
    loop {
        if waiting.is_empty() {
            // What was seen before nobody looked says nothing of what has been since.
            view = view.map(View::forgetting);
            match asked.recv().await {
                Some(waiter) => waiting.push(waiter),
                None => return,
            }
            pause = PAUSE_MIN;
        }
        // The others wait in the channel, whose length is the bound.
        while waiting.len() < WAITING_MAX
            && let Ok(waiter) = asked.try_recv()
        {
            waiting.push(waiter);
        }
        let look = look(&database, view.take(), &mut connecting, &mut waiting);
        let late = |_| Err("the database did not answer in time".to_owned());
        match tokio::time::timeout(LOOK_PATIENCE, look).await.unwrap_or_else(late) {
            Ok(used) => (view, is_said) = (Some(used), false),
            Err(error) => {
                if !is_said {
                    tracing::warn!(error, "the other nodes cannot be asked how far they are");
                }
                (pause, is_said) = (PAUSE_FAILED, true);
            }
        }
        give_up(&mut waiting, Instant::now());
        waiting.retain(|waiter| !waiter.reply.is_closed());
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            Some(waiter) = asked.recv(), if view.is_some() && waiting.len() < WAITING_MAX => {
                waiting.push(waiter);
                pause = PAUSE_MIN;
            }
        }
    }
}

/// One look, for all who wait. Gives back what the next one goes on with.
///
/// Connecting goes on where a look is given up: with a primary that hangs it takes longer than a look until a standby is asked.
async fn look(
    database: &Database,
    view: Option<View>,
    connecting: &mut Option<JoinHandle<Result<View, String>>>,
    waiting: &mut Vec<Waiter>,
) -> Result<View, String> {
    // An old primary that still answers would be looked at for ever, and its log never ends any later.
    let view = view.filter(|view| !view.session.is_superseded());
    let mut view = if let Some(view) = view {
        view
    } else {
        let task = connecting.get_or_insert_with(|| tokio::spawn(View::connected(database.clone())));
        let connected = task.await;
        *connecting = None;
        connected.map_err(|error| error.to_string())??
    };
    view.look_over(waiting).await.map_err(|error| error.to_string())?;
    Ok(view)
}

impl View {
    async fn connected(database: Database) -> Result<Self, String> {
        let session = database.session().await.map_err(|error| error.to_string())?;
        presence::limit_statements(&session.client).await.map_err(|error| error.to_string())?;
        Ok(Self { session, still: Stillness::default(), reminded: None })
    }

    fn forgetting(self) -> Self {
        Self { still: Stillness::default(), reminded: None, ..self }
    }

    async fn look_over(&mut self, waiting: &mut Vec<Waiter>) -> Result<(), LogFault> {
        let client = &self.session.client;
        let is_new = waiting.iter().any(|waiter| waiter.last.is_none());
        if is_new || self.reminded.is_none_or(|at| at.elapsed() >= REMINDED) {
            let furthest = waiting.iter().map(|waiter| waiter.position).max().unwrap_or_default();
            presence::ask(client, furthest).await?;
            self.reminded = Some(Instant::now());
        }
        let (holders, end) = presence::holders(client).await?;
        for holder in self.still.silent(&holders, Uptime::now()) {
            // Whoever renewed after all is seen to at the next look.
            if presence::retire(client, holder.id, holder.renewals).await? {
                tracing::warn!(node = holder.name, "waited out: it has not renewed its lease, and refuses by itself");
            }
        }
        let remaining = std::mem::take(waiting);
        waiting.extend(remaining.into_iter().filter_map(|waiter| waiter.seeing(&holders, end)));
        Ok(())
    }
}

/// Answers those whose time is over.
fn give_up(waiting: &mut Vec<Waiter>, now: Instant) {
    for Waiter { reply, last, .. } in waiting.extract_if(.., |waiter| now >= waiter.deadline) {
        // One who has not been looked for hears nothing, which says that nobody knows.
        if let Some(last) = last {
            drop(reply.send(last));
        }
    }
}

impl Waiter {
    /// Answers and ends where no node is left to wait for. A log that ends before what is waited for is that of a database
    /// that was left behind: what it says of the nodes says nothing.
    fn seeing(mut self, holders: &[Holder], end: u64) -> Option<Self> {
        if end <= self.position {
            return Some(self);
        }
        let (behind, ahead): (Vec<&Holder>, Vec<&Holder>) =
            holders.iter().partition(|holder| holder.applied <= self.position);
        let named = |holders: Vec<&Holder>| -> Named {
            holders.into_iter().map(|holder| (holder.id, holder.name.clone())).collect()
        };
        let (missing, confirmed) = (named(behind), named(ahead));
        self.awaited.extend(missing.clone());
        let is_there = |id: &Uuid| missing.contains_key(id) || confirmed.contains_key(id);
        let waited_out = self.awaited.iter().filter(|(id, _)| !is_there(id)).map(|(id, name)| (*id, name.clone()));
        let seen = Passed { waited_out: waited_out.collect(), confirmed, missing };
        if !seen.is_everywhere() {
            self.last = Some(seen);
            return Some(self);
        }
        // Who has gone away misses the answer only.
        drop(self.reply.send(seen));
        None
    }
}

impl Stillness {
    /// The nodes whose renewals have stood still for longer than a lease, counted from when that was first *seen*: the
    /// renewal itself was sent before.
    fn silent<'a>(&mut self, holders: &'a [Holder], seen: Uptime) -> Vec<&'a Holder> {
        let mut next = HashMap::new();
        let mut silent = Vec::new();
        for holder in holders {
            let known = self.0.get(&holder.id).filter(|(renewals, _)| *renewals == holder.renewals);
            let since = known.map_or(seen, |(_, since)| *since);
            if seen.since(since) > holder.lease {
                silent.push(holder);
            }
            next.insert(holder.id, (holder.renewals, since));
        }
        self.0 = next;
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(id: u128, applied: u64, renewals: i64) -> Holder {
        let name = format!("node-{id}");
        Holder { id: Uuid::from_u128(id), name, applied, renewals, lease: Duration::from_secs(5) }
    }

    fn named(ids: &[u128]) -> Named {
        ids.iter().map(|id| (Uuid::from_u128(*id), format!("node-{id}"))).collect()
    }

    fn waiter(position: u64) -> (Waiter, oneshot::Receiver<Passed>) {
        let (reply, answer) = oneshot::channel();
        (Waiter { position, deadline: Instant::now(), reply, awaited: Named::new(), last: None }, answer)
    }

    #[test]
    fn only_a_node_that_stands_still_for_a_whole_lease_is_given_up() {
        let start = Uptime::now();
        let mut still = Stillness::default();
        let mut silent = |second, renewals| {
            let holders = [holder(1, 7, renewals)];
            !still.silent(&holders, start.after(Duration::from_secs(second))).is_empty()
        };
        // (second, renewals, given up)
        let table = [
            (0, 1, false),
            (5, 1, false), // not longer than a lease
            (6, 2, false), // it has renewed: counted anew
            (11, 2, false),
            (12, 2, true),
            (13, 3, false),
        ];
        for (second, renewals, expected) in table {
            assert_eq!(silent(second, renewals), expected, "second {second}");
        }
    }

    #[test]
    fn a_node_that_was_away_between_two_looks_is_counted_anew() {
        let start = Uptime::now();
        let mut still = Stillness::default();
        assert!(still.silent(&[holder(1, 7, 0)], start).is_empty());
        assert!(still.silent(&[], start).is_empty());
        assert!(still.silent(&[holder(1, 7, 0)], start.after(Duration::from_secs(9))).is_empty());
    }

    #[test]
    fn a_barrier_passes_when_no_holder_is_behind_and_says_who_was_waited_out() {
        let (waiter, mut answer) = waiter(7);
        // A position is applied when the next one is the holder's.
        let waiter = waiter.seeing(&[holder(1, 7, 1), holder(2, 8, 1), holder(3, 0, 1)], 8).expect("two are behind");
        assert!(answer.try_recv().is_err());
        assert!(waiter.seeing(&[holder(1, 8, 1), holder(2, 9, 1)], 9).is_none(), "the third holds no lease any more");
        let passed = answer.try_recv().unwrap();
        assert_eq!(passed, Passed { confirmed: named(&[1, 2]), waited_out: named(&[3]), missing: Named::new() });
        assert!(passed.is_everywhere());
    }

    #[test]
    fn a_database_that_was_left_behind_lets_nobody_pass() {
        let (waiter, mut answer) = waiter(7);
        let waiter = waiter.seeing(&[holder(1, 7, 1)], 7).expect("its log ends before the position");
        assert!(waiter.seeing(&[], 0).is_some(), "and so does none");
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed), "nobody knows");
    }

    #[test]
    fn whoever_is_out_of_time_hears_who_is_missing_and_never_that_all_is_well() {
        let (looked, mut answer) = waiter(7);
        let looked = looked.seeing(&[holder(1, 7, 1), holder(2, 7, 1)], 8).expect("two are behind");
        let mut waiting = vec![looked.seeing(&[holder(1, 7, 1), holder(2, 8, 1)], 8).expect("one is behind")];
        give_up(&mut waiting, Instant::now());
        let passed = answer.try_recv().unwrap();
        assert_eq!((&passed.missing, &passed.confirmed), (&named(&[1]), &named(&[2])));
        assert!(!passed.is_everywhere());

        let (unlooked, mut answer) = waiter(7);
        let mut waiting = vec![unlooked];
        give_up(&mut waiting, Instant::now());
        assert!(waiting.is_empty());
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed), "nobody knows");
    }
}
