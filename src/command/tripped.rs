//! Uses of keys that nobody has any business to show: counted in memory, recorded by window, the first of a key at once.
//!
//! Whoever holds a key that was revoked can show it as often as they like, and whoever holds many can show them all. So there
//! is one event for a key, an address and a window at the most, and so many of each kind for a node: flooding one kind hides
//! no other, and a honey key least of all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{CommandQueue, Wish, mint};
use crate::domain::actor::Author;
use crate::domain::command::{Command, Context, RecordTrip};
use crate::domain::ids::{CommandId, KeyId, WorkerId};
use crate::domain::incident::StepTemplate;
use crate::domain::key::Key;
use crate::domain::time::Timestamp;
use crate::domain::tripwire::{PRESENTERS_MAX, Trip, Why};
use crate::domain::worker::WorkerIndex;
use crate::node::Node;
use crate::postgres::Database;
use crate::projection::used::{self, KeysUsed};

/// One event for each window and (key, address).
pub const WINDOW: Duration = Duration::from_mins(1);
/// Events of one kind that a node records in a window. After a whole fleet was revoked each of its workers trips, and what
/// they all do is no news.
pub const EVENTS_PER_WINDOW_MAX: u32 = 100;
/// Pairs of a key and an address, of one kind, that are counted apart: what more there is stands in the counts of failed
/// attempts alone. It bounds the memory.
const ROWS_MAX: usize = 10_000;
/// Addresses of one key that are counted apart; whoever comes from ever new ones fills no log.
const SOURCES_MAX: usize = 16;
/// For how long a trip waits until it is known who may have shown the key.
const PRESENTERS_PATIENCE: Duration = Duration::from_secs(1);
/// Between two rounds of recording: what comes meanwhile goes together.
const ROUND: Duration = Duration::from_millis(250);
/// How often it is looked for windows that have ended.
const LOOK: Duration = Duration::from_secs(1);
/// Before it is tried again where the log could not be written or read.
const PAUSE: Duration = Duration::from_secs(1);
/// Keys that are looked at to find out who has shown a honey key. More than one worker is ambiguous anyway.
const KEYS_SEEN_MAX: usize = 64;

/// Where a worker was longer ago it may be no more, and another in its place: a day.
const SEEN_WITHIN_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// The uses that were not recorded yet.
pub struct Tripwires {
    /// In the order of [`Why::ALL`].
    kinds: Mutex<[Kind; Why::ALL.len()]>,
    /// A key was shown that was not shown within the window before.
    shown: Notify,
}

struct Kind {
    rows: HashMap<Place, Row>,
    /// How many rows each key has.
    of_key: HashMap<KeyId, usize>,
    /// When the window began that the budget is of.
    began: Instant,
    recorded: u32,
    /// Uses for which there was no room.
    passed_over: u64,
}

type Place = (KeyId, Option<IpAddr>);

struct Row {
    worker: Option<WorkerIndex>,
    count: u64,
    from: Timestamp,
    to: Timestamp,
    /// When it can be recorded, or forgotten where nothing was counted.
    due: Instant,
}

/// What is to be recorded.
struct Due {
    why: Why,
    place: Place,
    worker: Option<WorkerIndex>,
    count: u64,
    from: Timestamp,
    to: Timestamp,
}

/// What the recording works with.
pub struct Recording {
    pub trips: Arc<Tripwires>,
    pub node: Arc<Node>,
    pub queue: CommandQueue,
    /// Where it is kept from where each key was last shown.
    pub database: Database,
    pub used: Arc<KeysUsed>,
    /// For incidents that rules open.
    pub checklist: Vec<StepTemplate>,
}

#[derive(Debug, thiserror::Error)]
enum Unrecorded {
    #[error(transparent)]
    Command(#[from] super::CommandError),
    #[error(transparent)]
    Lookup(#[from] crate::projection::ProjectionError),
    #[error("the database did not answer in time")]
    Silent,
}

// === impl Tripwires ===

impl Default for Tripwires {
    fn default() -> Self {
        Self { kinds: Mutex::new(std::array::from_fn(|_| Kind::new())), shown: Notify::new() }
    }
}

impl Tripwires {
    /// Counts one use. A few nanoseconds, and no I/O.
    pub fn note(&self, trip: &Trip, source: Option<IpAddr>, now: Timestamp) {
        self.note_at(trip, source, now, Instant::now());
    }

    fn note_at(&self, trip: &Trip, source: Option<IpAddr>, now: Timestamp, at: Instant) {
        if self.with(trip.why, |kind| kind.add(trip, source, now, at)) {
            self.shown.notify_one();
        }
    }

    fn with<T>(&self, why: Why, change: impl FnOnce(&mut Kind) -> T) -> T {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut kinds[place_of(why)])
    }

    /// Takes what can be recorded now, honey keys first; at the `end` also what is not yet due.
    fn take_at(&self, at: Instant, end: bool) -> Vec<Due> {
        Why::ALL.into_iter().flat_map(|why| self.with(why, |kind| kind.take(why, at, end))).collect()
    }
}

fn place_of(why: Why) -> usize {
    match why {
        Why::Honey => 0,
        Why::Revoked => 1,
        Why::Rotated => 2,
    }
}

// === impl Kind ===

impl Kind {
    fn new() -> Self {
        Self { rows: HashMap::new(), of_key: HashMap::new(), began: Instant::now(), recorded: 0, passed_over: 0 }
    }

    /// Whether it is the first use of the key for a while.
    fn add(&mut self, trip: &Trip, source: Option<IpAddr>, now: Timestamp, at: Instant) -> bool {
        let rows = self.of_key.get(&trip.key).copied().unwrap_or_default();
        let apart = rows < SOURCES_MAX || self.rows.contains_key(&(trip.key, source));
        let place = (trip.key, source.filter(|_| apart));
        if let Some(row) = self.rows.get_mut(&place) {
            row.count(trip.worker, now);
            return false;
        }
        if self.rows.len() >= ROWS_MAX {
            self.passed_over += 1;
            return false;
        }
        let is_first = rows == 0;
        let due = if is_first { at } else { at + WINDOW };
        self.rows.insert(place, Row { worker: trip.worker, count: 1, from: now, to: now, due });
        *self.of_key.entry(trip.key).or_default() += 1;
        is_first
    }

    fn take(&mut self, why: Why, now: Instant, end: bool) -> Vec<Due> {
        if now.duration_since(self.began) >= WINDOW {
            (self.began, self.recorded) = (now, 0);
            let passed_over = std::mem::take(&mut self.passed_over);
            if passed_over > 0 {
                tracing::warn!(why = why.as_str(), passed_over, "more keys trip than are told apart");
            }
        }
        let mut due = Vec::new();
        // Nothing more can be recorded in this minute: whoever validates waits for as long as the rows are gone through.
        if self.recorded >= EVENTS_PER_WINDOW_MAX {
            return due;
        }
        let mut waiting: Vec<_> =
            self.rows.iter_mut().filter(|(_, row)| row.count > 0 && (end || row.due <= now)).collect();
        // Those that have waited longest go first: keys that are shown all the time keep no other out.
        waiting.sort_by_key(|(_, row)| row.due);
        for (place, row) in waiting {
            if self.recorded == EVENTS_PER_WINDOW_MAX {
                break;
            }
            self.recorded += 1;
            let (worker, from, to) = (row.worker, row.from, row.to);
            due.push(Due { why, place: *place, worker, count: std::mem::take(&mut row.count), from, to });
            row.due = now + WINDOW;
        }
        let of_key = &mut self.of_key;
        self.rows.retain(|(key, _), row| {
            let stays = row.count > 0 || row.due > now;
            if !stays && let Some(rows) = of_key.get_mut(key) {
                *rows -= 1;
            }
            stays
        });
        of_key.retain(|_, rows| *rows > 0);
        due
    }

    /// What could not be recorded is counted on, and tried again. Where nobody knows whether it was, it may be twice: that
    /// misleads less than not at all.
    fn put_back(&mut self, due: &Due, at: Instant) {
        self.recorded = self.recorded.saturating_sub(1);
        let row = self.rows.entry(due.place).or_insert_with(|| {
            *self.of_key.entry(due.place.0).or_default() += 1;
            Row { worker: due.worker, count: 0, from: due.from, to: due.to, due: at }
        });
        row.from = due.from;
        row.to = if row.count == 0 { due.to } else { row.to.max(due.to) };
        row.count += due.count;
        row.due = at;
    }
}

impl Row {
    fn count(&mut self, worker: Option<WorkerIndex>, now: Timestamp) {
        if self.count == 0 {
            self.from = now;
        }
        (self.worker, self.to) = (worker, self.to.max(now));
        self.count += 1;
    }
}

// === impl Recording ===

impl Recording {
    /// Runs until `stopped` ends, and then records what was counted last. Dropping it would drop that.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let end = tokio::select! {
                () = self.trips.shown.notified() => false,
                () = tokio::time::sleep(LOOK) => false,
                () = &mut stopped => true,
            };
            let recorded = self.record_all(end).await;
            if end {
                return;
            }
            tokio::time::sleep(if recorded { ROUND } else { PAUSE }).await;
        }
    }

    async fn record_all(&self, end: bool) -> bool {
        let due = self.trips.take_at(Instant::now(), end);
        let mut rest = due.iter();
        while let Some(next) = rest.next() {
            if let Err(error) = self.record(next).await {
                // The next would fare no better, and each may take the writer's whole patience to fail.
                for due in std::iter::once(next).chain(rest) {
                    self.trips.with(due.why, |kind| kind.put_back(due, Instant::now()));
                }
                tracing::warn!(%error, "uses of revoked, rotated or honey keys could not be recorded yet");
                return false;
            }
        }
        true
    }

    async fn record(&self, due: &Due) -> Result<(), Unrecorded> {
        let (key, source) = due.place;
        // That a key was shown is recorded whether or not it can be found out who has shown it.
        let presenters = tokio::time::timeout(PRESENTERS_PATIENCE, self.presenters(due)).await;
        let presenters = presenters.unwrap_or_else(|_| Err(Unrecorded::Silent)).unwrap_or_else(|error| {
            tracing::warn!(%error, "nobody knows who has shown a honey key: the keys seen from there cannot be read");
            Vec::new()
        });
        let worker = due.worker.and_then(|index| Some(self.node.snapshot().roll.worker_at(index)?.id.clone()));
        let Due { why, count, from, to, .. } = *due;
        let checklist = self.checklist.clone();
        let trip = RecordTrip { key, why, worker, source, count, from, to, presenters, checklist };
        let wish = Wish {
            id: CommandId::from_uuid(mint::id()),
            fingerprint: None,
            command: Command::RecordTrip(Box::new(trip)),
            context: Context { now: mint::now(), author: Author::system(), reason: None, incident: None },
            answer: Arc::new(|_, _| serde_json::Value::Null),
            sealed: None,
            dry_run: false,
        };
        self.queue.submit(wish).await?;
        Ok(())
    }

    /// Who may have shown a honey key, where a rule wants to know: the workers whose own keys were last seen from there.
    async fn presenters(&self, due: &Due) -> Result<Vec<WorkerId>, Unrecorded> {
        let (key, Some(source)) = due.place else { return Ok(Vec::new()) };
        let isolates = {
            let roll = &self.node.snapshot().roll;
            let pool = roll.honey_key(key).map(|key| key.pool.clone());
            due.why == Why::Honey && roll.tripwire_actions(pool.as_ref(), due.why).isolate
        };
        if !isolates {
            return Ok(Vec::new());
        }
        let seen_after = Timestamp(mint::now().0.saturating_sub(SEEN_WITHIN_MICROS));
        // What this node has noted of the last seconds too.
        self.used.flush(&self.database).await?;
        let keys = used::last_seen_from(&self.database, source, seen_after, KEYS_SEEN_MAX).await?;
        let (roll, now) = (&self.node.snapshot().roll, mint::now());
        let good = keys.into_iter().filter_map(|key| roll.key(key)).filter(|key| key.is_good(now));
        let workers = good.flat_map(Key::workers).filter_map(|index| roll.worker_at(*index));
        let mut found: Vec<WorkerId> = Vec::new();
        for worker in workers.filter(|worker| worker.is_member()) {
            if !found.contains(&worker.id) && found.len() < PRESENTERS_MAX {
                found.push(worker.id.clone());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
