//! The projections: whatever happened, their rows are what the log says; and what keeps them can be killed at any moment.

mod history;
mod plans;
mod progress;
mod rebuilds;
mod serving;
mod silence;
mod uses;

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::domain::roll::Roll;
use portcullis::projection::build::Progress;
use portcullis::projection::read::{Question, ReadError};
use portcullis::projection::runner::{self, Pace, Start};
use portcullis::projection::verify::{Verdict, verify};
use portcullis::projection::{ALL, Projection, keys, operators, pools, workers};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::cluster::Scratch;
use crate::support::node::TestNode;
use history::History;

const PATIENCE: Duration = Duration::from_secs(30);

/// A node with its runner.
struct Keeping {
    node: TestNode,
    start: Start,
    running: JoinHandle<()>,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Keeping {
    async fn start(scratch: &Scratch) -> Self {
        Self::at_pace(scratch, Pace::default()).await
    }

    async fn at_pace(scratch: &Scratch, pace: Pace) -> Self {
        let database = scratch.database().await;
        // A start holds several states at once.
        let node = Box::pin(TestNode::start(database.clone())).await;
        let running = &node.running;
        let (heads, log, reached) = (running.heads.clone(), running.log, Arc::default());
        let start = Start { database, node: running.node.clone(), heads, log, reached, pace };
        let running = tokio::spawn(runner::run(start.clone()));
        Self { node, start, running }
    }

    /// Kills what keeps the projections, wherever it is, and starts it again.
    fn restart_runner(&mut self) {
        self.running.abort();
        self.running = tokio::spawn(runner::run(self.start.clone()));
    }

    fn known(&self) -> u64 {
        self.node.running.node.snapshot().roll.next_position()
    }

    fn roll(&self) -> Roll {
        self.node.running.node.snapshot().roll.clone()
    }

    /// Waits until every projection holds all that this node knows.
    async fn caught_up(&self) {
        for question in questions() {
            ask(&self.start, &question, self.known()).await;
        }
    }

    async fn verified(&self, projection: &'static Projection) -> Verdict {
        verify(&self.start, projection, &Progress::default()).await.unwrap()
    }

    /// That each projection is what the log says, up to what this node knows.
    async fn assert_exact(&self) {
        self.caught_up().await;
        for projection in &ALL {
            let verdict = self.verified(projection).await;
            assert_eq!(verdict.difference, None, "{}", projection.name);
            assert!(verdict.next_position >= self.known(), "{}", projection.name);
        }
    }
}

/// One of each projection.
fn questions() -> Vec<Question> {
    let now = portcullis::command::mint::now();
    vec![
        pools::list(None, 1_000),
        workers::list(&workers::Filter::default(), now, 1_000),
        keys::list(&keys::Filter::default(), now, 1_000),
        portcullis::projection::enrollment_secrets::list(None, 1_000),
        operators::list(None, 1_000),
        portcullis::projection::fences::list(None, 1_000),
    ]
}

async fn ask(start: &Start, question: &Question, wanted: u64) -> Vec<Value> {
    let rows = question.ask(&start.database, wanted, 10_000, PATIENCE).await;
    rows.unwrap_or_else(|error| panic!("{}: {error}", question.projection().name)).rows
}

/// Every row of every projection, as text, in order.
async fn dump(client: &Client) -> Vec<String> {
    let mut all = Vec::new();
    for projection in &ALL {
        let statement = format!("select to_json(rows)::text from projection.{} rows order by 1", projection.name);
        all.extend(client.query(&statement, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
    }
    all
}

/// Whatever is wished in whatever order: once the runner has caught up, the rows are the fold of the log, and lists
/// find what the Roll says at any moment.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_the_fold_of_the_log_whatever_happened() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    let mut history = History::new(7);
    for _ in 0..8 {
        history.go_on(&keeping.node, 60).await;
        keeping.assert_exact().await;
        history.assert_lists_agree(&keeping.start, &keeping.roll()).await;
    }
    assert_readers_see_fences(&scratch.superuser().await, &keeping.roll()).await;
    for projection in &ALL {
        assert!(keeping.verified(projection).await.rows > 2, "{} has hardly been tried", projection.name);
    }
}

/// Killed at any moment, between batches or in one, it loses nothing and does nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_again_and_again_loses_nothing() {
    let scratch = Scratch::new().await;
    let mut keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    kill_at_random(&mut keeping, History::new(11)).await;
    keeping.assert_exact().await;
}

/// Kills the runner while it works, and not once it is idle, for as long as the history goes on.
async fn kill_at_random(keeping: &mut Keeping, mut history: History) {
    let mut random = rand::rngs::StdRng::seed_from_u64(11);
    let Keeping { node, start, running } = keeping;
    let mut history = std::pin::pin!(history.go_on(node, 1_000));
    loop {
        let pause = tokio::time::sleep(Duration::from_micros(random.random_range(30_000..200_000)));
        tokio::select! {
            () = &mut history => return,
            () = pause => {
                running.abort();
                *running = tokio::spawn(runner::run(start.clone()));
            }
        }
    }
}

/// Two nodes on one database: one keeps the projections, and when it is gone the other does.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_keep_one_set_of_projections() {
    let scratch = Scratch::new().await;
    let mut one = Keeping::start(&scratch).await;
    one.node.bootstrap().await;
    one.caught_up().await;
    let mut other = Keeping::start(&scratch).await;
    let (mut here, mut there) = (History::new(1), History::new(2));
    for round in 0..6 {
        tokio::join!(here.go_on(&one.node, 20), there.go_on(&other.node, 20));
        // Whoever asks either finds what it has just made.
        one.caught_up().await;
        other.caught_up().await;
        if round % 2 == 0 { one.restart_runner() } else { other.restart_runner() }
    }
    one.assert_exact().await;
    one.running.abort();
    here.go_on(&one.node, 20).await;
    one.assert_exact().await;
}

/// The cursor is a compare-and-swap: whoever moves it from where it is not has moved nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_somebody_else_has_moved_is_noticed() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.assert_exact().await;
    let superuser = scratch.superuser().await;
    superuser.batch_execute("update projection.cursor set position = 1 where name = 'workers'").await.unwrap();
    let mut history = History::new(3);
    history.go_on(&keeping.node, 10).await;
    keeping.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_edited_is_found() {
    let table = [
        (
            "pools",
            "update pools_1.pool set audience = 'mine' where id = 'default'",
            "in the row of default the column `audience` is \"mine\", and the log says \"portcullis\"",
        ),
        ("workers", "update workers_1.worker set state = 'active' where id = 'w-1'", "`state` is \"active\""),
        ("workers", "delete from workers_1.worker where id = 'w-1'", "the row of w-1 is missing"),
        (
            "workers",
            "insert into workers_1.worker select (jsonb_populate_record(w, '{\"id\":\"w-1a\"}')).* from workers_1.worker w
             where id = 'w-1'",
            "there is a row of w-1a, of which the log says nothing",
        ),
        ("keys", "update keys_1.key set state = 'live', ends_at = null where worker = 'w-1'", "`state` is \"live\""),
        ("operators", "update operators_1.operator set role = 'auditor'", "`role` is \"auditor\""),
    ];
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    let (worker, key, _) = keeping.node.worker("w-1").await;
    keeping.node.submit(history::revoke(key)).await.unwrap();
    keeping.node.submit(history::isolate(&worker, None)).await.unwrap();
    keeping.node.worker("w-2").await;
    keeping.caught_up().await;
    let superuser = scratch.superuser().await;
    for (name, harm, expected) in table {
        let projection = Projection::named(name).unwrap();
        assert_eq!(keeping.verified(projection).await.difference, None, "before: {harm}");
        superuser.batch_execute(harm).await.unwrap();
        let found = keeping.verified(projection).await.difference.map(|found| found.to_string());
        assert!(found.as_ref().is_some_and(|found| found.contains(expected)), "{harm}: {found:?}");
        rebuilds::rebuild(&keeping, projection).await;
    }
}

/// An event that cannot be read is not passed over (H1): the projection stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_missing_stops_the_rows_before_it() {
    let scratch = Scratch::new().await;
    let mut keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.assert_exact().await;
    keeping.running.abort();
    let before = keeping.known();
    keeping.node.worker("w-1").await;
    keeping.node.worker("w-2").await;
    // A node that has checked an event itself a moment ago does not ask the database for it: one that has not keeps them now.
    let other = Box::pin(TestNode::start(scratch.database().await)).await;
    let superuser = scratch.superuser().await;
    let statement =
        format!("alter table log.event disable trigger all; delete from log.event where position = {before}");
    superuser.batch_execute(&statement).await.unwrap();
    keeping.start.node = other.running.node.clone();
    keeping.start.heads = other.running.heads.clone();
    keeping.restart_runner();
    tokio::time::sleep(Duration::from_millis(900)).await;
    let now = portcullis::command::mint::now();
    let question = workers::list(&workers::Filter::default(), now, 10);
    let found = question.ask::<Value>(&keeping.start.database, before + 1, 10, Duration::ZERO).await;
    assert!(matches!(found, Err(ReadError::Behind { reached: Some(reached), .. }) if reached == before), "{found:?}");
}

/// What the node has checked a moment ago is not read from the database, and checked, once more.
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_new_events_are_made_of_what_the_node_has() {
    let scratch = Scratch::new().await;
    let mut keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.assert_exact().await;
    keeping.running.abort();
    let before = keeping.known();
    keeping.node.worker("w-1").await;
    let statement =
        format!("alter table log.event disable trigger all; delete from log.event where position = {before}");
    scratch.superuser().await.batch_execute(&statement).await.unwrap();
    keeping.restart_runner();
    let workers = workers::list(&workers::Filter::default(), portcullis::command::mint::now(), 10);
    assert_eq!(ask(&keeping.start, &workers, keeping.known()).await.len(), 1);
}

/// The rows of a node that knows more than the database, which was put in another's place, are not of its log.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_does_not_move_beyond_the_end_of_the_log() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.assert_exact().await;
    keeping.running.abort();
    let (end, schemas) = (i64::try_from(keeping.known()).unwrap(), vec![ALL[0].schema()]);
    keeping.node.worker("w-1").await;
    let next = i64::try_from(keeping.known()).unwrap();
    let superuser = scratch.superuser().await;
    let advance = include_str!("../../src/projection/cursor/advance.sql");
    assert_eq!(superuser.execute(advance, &[&schemas, &end, &(next + 1)]).await.unwrap(), 0);
    assert_eq!(superuser.execute(advance, &[&schemas, &end, &next]).await.unwrap(), 1);
}

/// A list does not answer with less than was known when it was asked, and does not wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_behind_says_so_in_time() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.caught_up().await;
    let began = Instant::now();
    let question = pools::list(None, 10);
    let wanted = keeping.known() + 1;
    let late = question.ask::<Value>(&keeping.start.database, wanted, 10, Duration::from_millis(100)).await;
    assert!(matches!(late, Err(ReadError::Behind { .. })), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
}

/// The service can make and drop schemas of projections, and no other's.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_makes_and_drops_no_schema_but_its_own() {
    let scratch = Scratch::new().await;
    scratch.superuser().await.batch_execute("create schema sales_2024").await.unwrap();
    let service = scratch.database().await.client().await.unwrap();
    for statement in [
        "select projection.make_schema('sales_2024')",
        "select projection.drop_schema('sales_2024')",
        "select projection.drop_schema('log')",
        "select projection.make_schema('log')",
        "select projection.make_schema('pg_temp_1')",
        "select projection.make_schema(null)",
        "create schema mine_1",
    ] {
        assert!(service.batch_execute(statement).await.is_err(), "{statement}");
    }
    let own = "select projection.make_schema('mine_1'); create table mine_1.mine (); \
               select projection.drop_schema('mine_1')";
    service.batch_execute(own).await.unwrap();
}

/// What people read with a SQL client says the same of fences as the Roll.
async fn assert_readers_see_fences(client: &Client, roll: &Roll) {
    let rows = client.query("select id, fenced from projection.keys order by issued", &[]).await.unwrap();
    let seen: Vec<(String, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let keys = roll.keys_after(None).into_iter().flatten();
    let expected: Vec<_> = keys.map(|key| (key.id.to_string(), roll.is_fenced_for_all(key))).collect();
    assert_eq!(seen, expected);
    assert!(seen.iter().any(|(_, fenced)| *fenced) && seen.iter().any(|(_, fenced)| !*fenced));
}

/// A node that has left is remembered, though no list of nodes has it any more.
#[tokio::test(flavor = "multi_thread")]
async fn every_node_that_was_ever_there_is_seen() {
    let scratch = Scratch::new().await;
    let one = Keeping::start(&scratch).await;
    let other = Keeping::start(&scratch).await;
    let client = scratch.database().await.client().await.unwrap();
    let superuser = scratch.superuser().await;
    let seen = async || {
        let rows = superuser.query("select listed from projection.nodes_seen order by listed", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<bool>>()
    };
    assert_eq!(seen().await, [true, true]);
    let gone =
        client.execute("delete from log.node where node_id = (select min(node_id::text)::uuid from log.node)", &[]);
    assert_eq!(gone.await.unwrap(), 1);
    assert_eq!(seen().await, [false, true]);
    drop((one, other));
}

/// Old versions go once no node keeps them, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_no_node_keeps_is_dropped() {
    let scratch = Scratch::new().await;
    let superuser = scratch.superuser().await;
    let older = "select projection.make_schema('pools_0'); create table pools_0.pool (id text);
                 insert into projection.cursor values ('pools_0', 'pools', 0, 5, now())";
    superuser.batch_execute(older).await.unwrap();
    let lock = "select pg_advisory_lock(hashtextextended('portcullis: projection pools_0', 0))";
    superuser.batch_execute(lock).await.unwrap();
    let mut keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.caught_up().await;
    let there = "select to_regclass('pools_0.pool') is not null";
    let is_there = || async { superuser.query_one(there, &[]).await.unwrap().get::<_, bool>(0) };
    // Until it has been looked at.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(is_there().await, "a node of the older version still reads it");
    superuser.batch_execute("select pg_advisory_unlock_all()").await.unwrap();
    keeping.restart_runner();
    let give_up = Instant::now() + PATIENCE;
    while is_there().await {
        assert!(Instant::now() < give_up, "the older version stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    keeping.assert_exact().await;
    assert!(!dump(&superuser).await.is_empty());
}

/// People with a SQL client read the projections, and nothing of the log or of how they are kept.
#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_projections_and_nothing_else() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.node.worker("w-1").await;
    keeping.caught_up().await;
    let reader = scratch.superuser().await;
    reader.batch_execute("set role portcullis_reader").await.unwrap();
    let empty = ["enrollment_secrets", "fences", "key_used", "key_source"];
    for name in ["pools", "workers", "keys", "operators", "cursor", "nodes_seen"].into_iter().chain(empty) {
        let statement = format!("select * from projection.{name}");
        let rows = reader.query(&statement, &[]).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(rows.is_empty(), empty.contains(&name), "{name}");
    }
    for statement in [
        "select * from log.event",
        "select * from log.entries",
        "select * from log.command",
        "select * from log.head",
        "select * from projection.job",
        "select * from workers_1.worker",
        "select * from keys_1.floor",
        "select * from projection.node_left",
        "select * from log.node",
        "delete from projection.workers",
        "update projection.cursor set position = 0",
        "insert into projection.key_used values ('x', now())",
        "delete from projection.key_source",
        "create table projection.mine ()",
        "select projection.drop_schema('workers_1')",
    ] {
        let error = reader.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{statement}: {error:?}");
    }
    // A verifier of a secret is no secret, and still nobody's business.
    let columns = "select count(*) from information_schema.columns where column_name like '%verifier%'";
    assert_eq!(reader.query_one(columns, &[]).await.unwrap().get::<_, i64>(0), 0);
}
