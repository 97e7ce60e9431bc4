//! The task of a node that keeps the projections where the log is.
//!
//! Each is kept by one node at a time, the one whose session holds its lock. For every batch of events it finds the rows
//! that they can have changed, renders these from the Roll as it is now, and writes them together with the cursor: rows
//! and cursor say the same position, whatever is killed in between.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;

use super::build::{self, hasten};
use super::lag::Reached;
use super::lane::Lane;
use super::silence::{awake, yield_when_silent};
use super::touched::Touched;
use super::{ALL, Changes, Projection, ProjectionError, Table, cursor};
use crate::domain::event::Recorded;
use crate::domain::ids::LogId;
use crate::log::entry;
use crate::log::head::Head;
use crate::log::search::{Search, search};
use crate::log::{LogFault, Tampered};
use crate::node::Node;
use crate::postgres::Database;
use crate::validate::Snapshot;

/// How often is looked for what nobody says: a projection that no node keeps any more, a job, a build that is finished.
const TICK: Duration = Duration::from_millis(250);
/// After so long without an answer the session is given up: a link that was cut silently never answers, and while it is
/// there no other node can take over.
const PATIENCE: Duration = Duration::from_secs(20);
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// Between two looks at what a plan records by lists: these come by the hundred in a second, and what a list of keys is read from
/// is mostly made anew once they are all there.
const LISTS_PAUSE: Duration = Duration::from_millis(100);
/// Events that are read at once.
const READ_EVENTS: usize = 1_024;

/// What the runner works with.
#[derive(Clone)]
pub struct Start {
    pub database: Database,
    pub node: Arc<Node>,
    /// Says when the published Roll has moved.
    pub heads: watch::Receiver<Head>,
    pub log: LogId,
    /// How far the projections are.
    pub reached: Arc<Reached>,
    pub pace: Pace,
}

/// How much is done at a time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Past so many events it is quicker to make a projection anew than to bring it up to date.
    pub events_max: u64,
    /// And so when so many rows have changed: a fence at an earlier position can end any number of keys that came of what it
    /// refuses, and a plan revokes them by lists.
    pub rows_max: usize,
    /// Facts by which a finished build is brought nearer to the head at a time, and the most of them in the moment in which
    /// it takes the old one's place. An event is one, or a list of them.
    pub step_facts: u64,
    /// For how long a build is put off that would only be behind when it is finished.
    pub held_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let held_max = Duration::from_mins(2);
        Self { events_max: 100_000, rows_max: 100_000, step_facts: 10_000, held_max }
    }
}

struct Runner {
    start: Start,
    lanes: Vec<Lane>,
}

/// Keeps the projections until it is dropped. It can be at any moment: what is not committed was not done.
pub async fn run(start: Start) {
    loop {
        let lanes = ALL.iter().map(Lane::new).collect();
        let mut runner = Runner { start: start.clone(), lanes };
        let Err(error) = runner.work().await;
        tracing::warn!(%error, "this node keeps the projections no more, until it can again");
        drop(runner);
        tokio::time::sleep(RECONNECT_PAUSE).await;
        while start.node.check_current().is_err() {
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

impl Runner {
    async fn work(&mut self) -> Result<Infallible, ProjectionError> {
        let session = patient(async { Ok(self.start.database.session().await?) }).await?;
        let mut client = session.client;
        patient(hasten(&client)).await?;
        patient(yield_when_silent(&client)).await?;
        let mut heads = self.start.heads.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                moved = heads.changed() => if moved.is_err() {
                    // The writer has ended, and so does the service.
                    return std::future::pending().await;
                },
                _ = tick.tick() => {
                    // Who does not know the newest state must not keep others from theirs.
                    self.start.node.check_current()?;
                    patient(self.look_around(&client)).await?;
                    for index in 0..self.lanes.len() {
                        // One after the other, where there are rows to be read meanwhile.
                        let others_build = self.lanes.iter().any(Lane::builds_beside_its_rows);
                        look_after(&mut client, &self.start, &mut self.lanes[index], others_build).await?;
                    }
                }
            }
            let had_lists = self.advance(&mut client).await?;
            for lane in &self.lanes {
                if let Some(cursor) = lane.cursor.filter(|_| lane.held) {
                    self.start.reached.tell(lane.projection.name, cursor);
                }
            }
            if had_lists {
                tokio::time::sleep(LISTS_PAUSE).await;
            }
        }
    }

    /// Where the projections are that other nodes keep.
    async fn look_around(&self, client: &Client) -> Result<(), ProjectionError> {
        if self.lanes.iter().all(|lane| lane.held) {
            return Ok(());
        }
        for kept in cursor::all_in(client).await? {
            let ours = |lane: &&Lane| lane.projection.schema() == kept.schema;
            if let Some(lane) = self.lanes.iter().find(ours) {
                self.start.reached.tell(lane.projection.name, kept.next_position);
            }
        }
        Ok(())
    }

    /// Brings every projection that this node keeps to where its Roll is. Answers whether there were lists on the way.
    async fn advance(&mut self, client: &mut Client) -> Result<bool, ProjectionError> {
        let mut had_lists = false;
        let snapshot = self.start.node.snapshot();
        let to = snapshot.roll.next_position();
        let mut behind: BTreeMap<u64, Vec<&mut Lane>> = BTreeMap::new();
        for lane in self.lanes.iter_mut().filter(|lane| lane.may_work() && !lane.awaits_build()) {
            // One that is ahead of us was kept by a node that knew more: it waits until we do.
            let Some(from) = lane.cursor.filter(|from| *from < to) else { continue };
            if to - from > self.start.pace.events_max || lane.records_to_come(&self.start).is_some() {
                lane.build_instead();
            } else {
                behind.entry(from).or_default().push(lane);
            }
        }
        for (from, mut lanes) in behind {
            let events = events(client, &self.start.node, from, to, self.start.pace.rows_max as u64).await?;
            had_lists |= facts(&events) > events.len() as u64;
            // Not rendered first: that would be the rows of a whole fleet, to be thrown away.
            if facts(&events) > self.start.pace.rows_max as u64 {
                for lane in lanes {
                    lane.build_instead();
                }
                continue;
            }
            let projections = lanes.iter().map(|lane| lane.projection).collect();
            let changes = awake(client, render(projections, events, &snapshot)).await?;
            patient(move_untouched(client, &mut lanes, &changes, from, to)).await?;
            for (lane, changes) in lanes.into_iter().zip(changes).filter(|(_, changes)| !is_empty(changes)) {
                if changes.iter().map(Vec::len).sum::<usize>() > self.start.pace.rows_max {
                    lane.build_instead();
                    continue;
                }
                match write(client, lane.projection, &changes, from, to).await {
                    Ok(()) => lane.cursor = Some(to),
                    // What is wrong with one keeps no other from being up to date.
                    Err(ProjectionError::Database(error)) if error.code().is_some() => {
                        let (error, projection) = (super::chain(&error), lane.projection.name);
                        tracing::error!(projection, error, "the database refuses rows of a projection");
                        lane.rest();
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(had_lists)
    }
}

/// Takes over what nobody keeps, and goes on with builds and jobs.
async fn look_after(
    client: &mut Client,
    start: &Start,
    lane: &mut Lane,
    others_build: bool,
) -> Result<(), ProjectionError> {
    if !lane.held {
        patient(lane.take_over(client)).await?;
    }
    if !lane.held {
        return Ok(());
    }
    patient(lane.drop_others(client)).await?;
    patient(lane.go_on_with_job(client, start)).await?;
    if lane.cursor.is_none() && lane.building.is_none() && lane.may_work() {
        lane.start_build(start, None);
    }
    lane.start_awaited_build(start, others_build);
    match lane.finished_build().await {
        None => {}
        Some(Ok(position)) => lane.built = Some(position),
        Some(Err(error)) => patient(lane.end_build(client, Err(error))).await?,
    }
    let Some(position) = lane.built.filter(|_| lane.giving_way.is_over()) else { return Ok(()) };
    // Rows of which a list has been given out are not taken back: a build of a node that knows less waits.
    if lane.cursor.is_some_and(|cursor| cursor > start.node.snapshot().roll.next_position()) {
        return Ok(());
    }
    match put_in_place(client, start, lane.projection, position, lane.giving_way.patience()).await {
        Err(error) if error.is_of_readers() => {
            lane.giving_way.again();
            let projection = lane.projection.name;
            tracing::info!(projection, "a new build waits for those who read the old one");
        }
        Ok(Placed::NotYet { built }) => lane.built = Some(built),
        Ok(Placed::At(position)) => patient(lane.end_build(client, Ok(position))).await?,
        Err(error) => patient(lane.end_build(client, Err(error))).await?,
    }
    Ok(())
}

/// How far a build is that was finished.
enum Placed {
    At(u64),
    /// There was too much to be done in the moment in which the rows change places.
    NotYet {
        built: u64,
    },
}

/// Puts a build that is finished, and holds the events before `from`, in its place; or brings it nearer to the head, while
/// events keep coming and the old rows are kept and read.
async fn put_in_place(
    client: &mut Client,
    start: &Start,
    projection: &'static Projection,
    from: u64,
    patience: Duration,
) -> Result<Placed, ProjectionError> {
    let snapshot = start.node.snapshot();
    let end = snapshot.roll.next_position();
    let to = end.min(from + start.pace.step_facts);
    let mut events = events(client, &start.node, from, to, start.pace.step_facts).await?;
    let read = from + events.len() as u64;
    let to = shorten(&mut events, start.pace.step_facts).unwrap_or(read);
    let changes = awake(client, render(vec![projection], events, &snapshot)).await?.pop().unwrap_or_default();
    if to < end {
        // Some of these rows are newer than `to`. Those that differ for it are among the ones that come after it.
        let transaction = client.transaction().await?;
        build::write(&transaction, projection, &projection.next_schema(), &changes).await?;
        transaction.commit().await?;
        return Ok(Placed::NotYet { built: to });
    }
    patient(build::switch(client, projection, &changes, to, patience)).await?;
    Ok(Placed::At(to))
}

fn facts(events: &[Arc<Recorded>]) -> u64 {
    events.iter().map(|recorded| recorded.event.facts()).sum()
}

/// Leaves so many facts, and the first event whatever it holds. Returns the position of the first event that it took away.
fn shorten(events: &mut Vec<Arc<Recorded>>, facts_max: u64) -> Option<u64> {
    let mut before = 0;
    let too_many = events.iter().position(|recorded| {
        before += recorded.event.facts();
        before > facts_max
    });
    let rest = events.split_off(too_many?.max(1).min(events.len()));
    rest.first().map(|recorded| recorded.position)
}

/// The events from `from` up to, and without, `to`; or, where they are not among the node's newest, the first of them, with
/// more than `facts_max` facts in all: of lists that would be a fleet's.
async fn events(
    client: &Client,
    node: &Node,
    from: u64,
    to: u64,
    facts_max: u64,
) -> Result<Vec<Arc<Recorded>>, ProjectionError> {
    if let Some(events) = node.recent().between(from, to) {
        return Ok(events);
    }
    let mut events: Vec<Arc<Recorded>> = Vec::new();
    let mut next = from;
    while next < to {
        if facts(&events) > facts_max {
            return Ok(events);
        }
        let part = Search {
            from: next,
            to,
            kind: None,
            subject: None,
            incident: None,
            newest_first: false,
            limit: READ_EVENTS,
        };
        let found = patient(async { Ok(search(client, node.keys(), &part).await?) }).await?;
        for found in &found.entries {
            // A projection that goes on without an event is wrong for ever after.
            if found.position != next {
                return Err(LogFault::from(Tampered::Missing { position: next }).into());
            }
            let unreadable = |cause| LogFault::Unreadable { position: next, cause };
            events.push(Arc::new(entry::decode(&found.entry).map_err(unreadable)?));
            next += 1;
        }
        if !found.more {
            break;
        }
    }
    if next < to {
        return Err(LogFault::from(Tampered::Missing { position: next }).into());
    }
    Ok(events)
}

/// For each projection the rows that these events can have changed, as they are in the snapshot.
async fn render(
    projections: Vec<&'static Projection>,
    events: Vec<Arc<Recorded>>,
    snapshot: &Arc<Snapshot>,
) -> Result<Vec<Changes>, ProjectionError> {
    let snapshot = snapshot.clone();
    let render = move || {
        let touched = Touched::by(&snapshot.roll, &events);
        let rows = |table: &Table| (table.render.touched)(&snapshot.roll, &touched);
        projections.iter().map(|projection| projection.tables.iter().map(rows).collect()).collect()
    };
    Ok(tokio::task::spawn_blocking(render).await?)
}

fn is_empty(changes: &Changes) -> bool {
    changes.iter().all(Vec::is_empty)
}

/// Moves the cursors of those that have nothing to write, all at once.
async fn move_untouched(
    client: &Client,
    lanes: &mut [&mut Lane],
    changes: &[Changes],
    from: u64,
    to: u64,
) -> Result<(), ProjectionError> {
    let untouched =
        || lanes.iter().zip(changes).filter(|(_, changes)| is_empty(changes)).map(|(lane, _)| lane.projection);
    let schemas: Vec<String> = untouched().map(Projection::schema).collect();
    if schemas.is_empty() {
        return Ok(());
    }
    if !cursor::advance(client, &schemas, from, to).await? {
        return Err(ProjectionError::CursorMoved { schema: schemas.join(", "), expected: from });
    }
    for (lane, _) in lanes.iter_mut().zip(changes).filter(|(_, changes)| is_empty(changes)) {
        lane.cursor = Some(to);
    }
    Ok(())
}

async fn write(
    client: &mut Client,
    projection: &Projection,
    changes: &Changes,
    from: u64,
    to: u64,
) -> Result<(), ProjectionError> {
    let schema = projection.schema();
    let transaction = client.transaction().await?;
    build::write(&transaction, projection, &schema, changes).await?;
    patient(async {
        if !cursor::advance(&transaction, std::slice::from_ref(&schema), from, to).await? {
            return Err(ProjectionError::CursorMoved { schema, expected: from });
        }
        Ok(transaction.commit().await?)
    })
    .await
}

/// An answer of the database, or that it does not come.
pub(super) async fn patient<T>(work: impl Future<Output = Result<T, ProjectionError>>) -> Result<T, ProjectionError> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(ProjectionError::Silent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::ids::{KeyId, PlanId};

    /// An event with so many keys on its list.
    fn listing(position: u64, keys: u128) -> Recorded {
        Event::KeysRevoked { plan: PlanId(1), keys: (0..keys).map(KeyId).collect() }.recorded_at(position)
    }

    #[test]
    fn a_step_has_so_many_facts_and_never_none() {
        for (lists, facts_max, left, next) in [
            (&[3, 3, 3][..], 6, 2, Some(12)),
            (&[3, 3, 3], 8, 2, Some(12)),
            (&[3, 3, 3], 9, 3, None),
            (&[5, 1], 4, 1, Some(11)),
            (&[5], 4, 1, None),
            (&[], 4, 0, None),
        ] {
            let mut events: Vec<_> = (10..).zip(lists).map(|(at, keys)| Arc::new(listing(at, *keys))).collect();
            assert_eq!((shorten(&mut events, facts_max), events.len()), (next, left), "{lists:?} {facts_max}");
        }
    }
}
