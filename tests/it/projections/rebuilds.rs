//! Projections made anew: with the same rows, while they are read, and while events keep coming.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::command::mint;
use portcullis::domain::command::{Command, MakePlan};
use portcullis::domain::ids::PlanId;
use portcullis::domain::key::KeyStanding;
use portcullis::domain::plan::{Criterion, PlanKind, Selector};
use portcullis::projection::build::{self, Haste};
use portcullis::projection::runner::Pace;
use portcullis::projection::{ALL, Projection, cursor, job, keys};

use super::history::History;
use super::{Keeping, PATIENCE, ask, dump, questions};
use crate::support::cluster::Scratch;

/// A list waits for an attempt to switch for a twentieth of a second; on a machine that does much else.
const HELD_UP_MAX: Duration = Duration::from_millis(800);

/// Makes a projection anew in a runner's stead.
pub(super) async fn rebuild(keeping: &Keeping, projection: &'static Projection) {
    let snapshot = keeping.node.running.node.snapshot();
    let position =
        build::build(&keeping.start.database, projection, snapshot, Arc::default(), Haste::Resting).await.unwrap();
    assert_eq!(position, keeping.known());
    let mut session = keeping.start.database.session().await.unwrap();
    build::switch(&mut session.client, projection, &[], position, PATIENCE).await.unwrap();
}

/// On the same log a rebuild gives the same rows; while it is made the old ones are read.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_gives_identical_rows() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    History::new(5).go_on(&keeping.node, 150).await;
    keeping.assert_exact().await;
    let superuser = scratch.superuser().await;
    let before = dump(&superuser).await;
    for projection in &ALL {
        rebuild(&keeping, projection).await;
    }
    assert_eq!(dump(&superuser).await, before);
    let leftovers = "select count(*) from pg_namespace where nspname like '%\\_next'";
    assert_eq!(superuser.query_one(leftovers, &[]).await.unwrap().get::<_, i64>(0), 0);
    keeping.assert_exact().await;
}

/// Who reads for a long time is not disturbed, and keeps nobody else from reading: a switch waits until it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_waits_for_long_readers_and_stops_nobody() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.caught_up().await;
    let reader = scratch.superuser().await;
    reader.batch_execute("begin; select * from projection.pools").await.unwrap();
    let pools = Projection::named("pools").unwrap();
    let asked = job::request(&keeping.start.database, pools, job::Kind::Rebuild).await.unwrap();
    let state = || async {
        let jobs = job::newest(&keeping.start.database, pools).await.unwrap();
        jobs.into_iter().find(|job| job.id == asked.id).unwrap().state
    };
    // Long enough for several attempts to have given up.
    let began = Instant::now();
    let (mut number, mut longest) = (0, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(4) {
        number += 1;
        keeping.node.worker(&format!("w-{number}")).await;
        keeping.caught_up().await;
        // What has nothing to wait for but the switch.
        let asked = Instant::now();
        ask(&keeping.start, &portcullis::projection::pools::list(None, 1_000), 0).await;
        longest = longest.max(asked.elapsed());
    }
    assert!(longest < HELD_UP_MAX, "a list was held up for {longest:?}");
    assert_eq!(state().await, "running");
    reader.batch_execute("commit").await.unwrap();
    let give_up = Instant::now() + PATIENCE;
    while state().await != "done" {
        assert!(Instant::now() < give_up, "the rebuild never ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    keeping.assert_exact().await;
}

/// Where everything is past keeping row by row and every build is far behind when it is finished: it is brought nearer step
/// by step until it can take its place. Meanwhile lists are answered, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_finished_while_events_keep_coming() {
    let scratch = Scratch::new().await;
    let pace = Pace { events_max: 15, rows_max: 12, step_facts: 20, held_max: Duration::from_millis(300) };
    let keeping = Keeping::at_pace(&scratch, pace).await;
    keeping.node.bootstrap().await;
    let mut history = History::new(13);
    history.go_on(&keeping.node, 50).await;
    let asked: Vec<_> = futures_util::future::join_all(
        ALL.iter().map(|projection| job::request(&keeping.start.database, projection, job::Kind::Rebuild)),
    )
    .await
    .into_iter()
    .map(|job| job.unwrap().id)
    .collect();
    let done = async || {
        let mut done = 0;
        for projection in &ALL {
            let jobs = job::newest(&keeping.start.database, projection).await.unwrap();
            done += jobs.iter().filter(|job| asked.contains(&job.id) && job.state == "done").count();
        }
        done == ALL.len()
    };
    for _ in 0..15 {
        history.go_on(&keeping.node, 20).await;
        let before = keeping.known();
        for question in questions() {
            ask(&keeping.start, &question, before).await;
        }
    }
    let give_up = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < give_up, "the rebuilds never end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    keeping.assert_exact().await;
    history.assert_lists_agree(&keeping.start, &keeping.roll()).await;
}

/// Rows that a plan changes by the thousand are made anew once, when it is recorded: a build that is begun before would be behind
/// when it is finished. What the plan decided stands in the rows before that, and small projections go on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_large_plan_records_is_made_anew_when_it_is_recorded() {
    let scratch = Scratch::new().await;
    let keeping = fleet(&scratch, 10 * PATIENCE).await;
    let plan = applied_to_all(&keeping, PlanKind::RevokeAll).await;
    keeping.caught_up().await;
    let applied = keeping.known();
    let filter = keys::Filter { state: Some(KeyStanding::Fenced), ..Default::default() };
    let refused = ask(&keeping.start, &keys::list(&filter, mint::now(), 1_000), applied).await;
    assert_eq!(refused.len(), WORKERS, "the fence stands there already");

    keeping.node.worker("later").await;
    let position = async |schema: &str| {
        let kept = cursor::all(&keeping.start.database).await.unwrap();
        kept.into_iter().find(|kept| kept.name == schema).unwrap().next_position
    };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!((position("keys").await, position("workers").await), (applied, applied));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(position("pools").await, keeping.known(), "what is small goes on");

    keeping.node.submit(Command::ContinuePlan { plan, done: 0 }).await.unwrap();
    keeping.assert_exact().await;
}

/// Where each row is marked, the rows say nothing of it before they are made anew: that waits for no record.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_large_plan_marks_is_made_anew_at_once() {
    let scratch = Scratch::new().await;
    let keeping = fleet(&scratch, 10 * PATIENCE).await;
    applied_to_all(&keeping, PlanKind::Isolate { until: None }).await;
    keeping.assert_exact().await;
}

/// A plan that nobody goes on with is waited for once.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_do_not_come_are_waited_for_once() {
    let scratch = Scratch::new().await;
    let keeping = fleet(&scratch, Duration::from_millis(500)).await;
    applied_to_all(&keeping, PlanKind::RevokeAll).await;
    keeping.assert_exact().await;
    let built = async || {
        let kept = cursor::all(&keeping.start.database).await.unwrap();
        kept.into_iter().map(|kept| (kept.name, kept.built_at)).collect::<Vec<_>>()
    };
    keeping.node.worker("later").await;
    keeping.assert_exact().await;
    let before = built().await;
    for number in 0..5 {
        keeping.node.worker(&format!("later-{number}")).await;
        keeping.assert_exact().await;
    }
    assert_eq!(built().await, before, "row by row from then on");
}

/// More workers than are brought up to date row by row, each with a key.
const WORKERS: usize = 30;

async fn fleet(scratch: &Scratch, held_max: Duration) -> Keeping {
    let pace = Pace { events_max: 1_000, rows_max: WORKERS / 2, step_facts: 20, held_max };
    let keeping = Keeping::at_pace(scratch, pace).await;
    keeping.node.bootstrap().await;
    for number in 0..WORKERS {
        keeping.node.worker(&format!("w-{number}")).await;
    }
    keeping.assert_exact().await;
    keeping
}

/// The plan, applied, and none of its items recorded.
async fn applied_to_all(keeping: &Keeping, kind: PlanKind) -> PlanId {
    let plan = PlanId::from_uuid(mint::id());
    let selector = Selector::new(vec![Criterion::Everything], None, None).unwrap();
    let roll = keeping.roll();
    let digest = roll.plan_digest(&kind, &selector, &roll.select(&kind, &selector));
    let made = MakePlan { plan, kind, selector, replaces: None };
    keeping.node.submit(Command::MakePlan(made)).await.unwrap();
    keeping.node.submit(Command::ApplyPlan { plan, digest, signing_key: None }).await.unwrap();
    plan
}
