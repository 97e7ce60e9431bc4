//! The writer: one order for several services on one database, nothing lost, nothing twice, fates found out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::command::{CommandError, Wish, mint};
use portcullis::domain::command::Command;
use portcullis::domain::ids::{CommandId, WorkerId};
use portcullis::domain::roll::Roll;
use portcullis::log::entry;
use portcullis::postgres::{Database, Options};
use secrecy::SecretString;
use tokio_postgres::Client;

use crate::support::cluster::{PrivateCluster, Scratch, shared_socket};
use crate::support::node::{TestNode, bootstrap, create_worker, keys, wish};
use crate::support::proxy::Proxy;

/// The whole log, folded in this process: what every node's Roll must equal (promise 3).
async fn fold(client: &Client) -> Roll {
    let rows = client.query("select entry from log.event order by position", &[]).await.unwrap();
    let mut roll = Roll::default();
    for row in rows {
        roll.apply(&entry::decode(row.get(0)).unwrap());
    }
    roll
}

async fn positions(client: &Client) -> Vec<i64> {
    let rows = client.query("select position from log.event order by position", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until the node has read what is in the log now.
async fn caught_up(node: &TestNode, client: &Client) {
    let head: i64 = client.query_one("select next_position from log.head", &[]).await.unwrap().get(0);
    while node.running.node.snapshot().roll.next_position() < u64::try_from(head).unwrap() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_on_one_database_write_one_order_and_lose_nothing() {
    const CALLERS: usize = 16;
    const EACH: usize = 25;
    let scratch = Scratch::new().await;
    let first = Arc::new(TestNode::start(scratch.database().await).await);
    let second = Arc::new(TestNode::start(scratch.database().await).await);
    tokio::join!(first.bootstrap(), second.bootstrap());

    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let node = if caller % 2 == 0 { first.clone() } else { second.clone() };
        callers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..EACH {
                let worker: WorkerId = format!("w-{caller}-{number}").parse().unwrap();
                let made = node.submit(create_worker(&worker)).await.unwrap();
                // Every node has a collision to lose: half of the removals are of another caller's workers.
                let other: WorkerId = format!("w-{}-{number}", (caller + 1) % CALLERS).parse().unwrap();
                let removed = node.submit(Command::RemoveWorker { worker: other }).await;
                assert!(matches!(&removed, Ok(_) | Err(CommandError::Refused(_))), "{removed:?}");
                acknowledged.push((worker, made));
            }
            acknowledged
        }));
    }
    let mut acknowledged = Vec::new();
    for caller in callers {
        acknowledged.extend(caller.await.unwrap());
    }

    let client = scratch.superuser().await;
    let found = positions(&client).await;
    assert_eq!(found, (0..i64::try_from(found.len()).unwrap()).collect::<Vec<_>>(), "positions are dense");
    let expected = fold(&client).await;
    for (worker, outcome) in &acknowledged {
        assert!(outcome.changed);
        let created = expected.worker(worker.as_str()).unwrap().created;
        assert_eq!(created, outcome.position, "{worker} is where its caller was told");
    }
    for node in [&first, &second] {
        caught_up(node, &client).await;
        assert!(node.running.node.snapshot().roll == expected, "a node's Roll is the fold of the log");
    }
}

/// Between real commands, in one batch with them or not, a dry run sees what those before it have done, and those after it see
/// nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_sees_those_before_it_and_changes_nothing_for_those_after_it() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    let client = scratch.superuser().await;
    for round in 0..8 {
        let (first, second): (WorkerId, WorkerId) =
            (format!("a-{round}").parse().unwrap(), format!("b-{round}").parse().unwrap());
        let before = i64::try_from(positions(&client).await.len()).unwrap();
        let id = || CommandId::from_uuid(mint::id());
        let real = |command| node.running.queue.submit(wish(id(), None, command));
        // With a fingerprint, as it comes over HTTP where one was given: nothing is kept under it.
        let dry = |command| node.running.queue.submit(Wish { dry_run: true, ..wish(id(), Some([7; 32]), command) });
        // Joined, they are queued in this order before the writer has its turn.
        let (made, dry_second, dry_first, removal, made_second, gone) = tokio::join!(
            real(create_worker(&first)),
            dry(create_worker(&second)),
            dry(create_worker(&first)),
            dry(Command::RemoveWorker { worker: first.clone() }),
            real(create_worker(&second)),
            real(Command::RemoveWorker { worker: first.clone() }),
        );
        let (made, dry_second, removal) = (made.unwrap(), dry_second.unwrap(), removal.unwrap());
        assert!(made.changed && dry_second.changed && removal.changed);
        assert_eq!((&dry_second.body["events"], &removal.body["events"]), (&1.into(), &1.into()));
        assert_eq!(dry_second.position, made.position, "it names the state that it was decided on");
        assert!(!dry_first.unwrap().changed, "it has seen the one before");
        assert!(made_second.unwrap().changed, "nobody has made it yet");
        assert!(gone.unwrap().changed, "nobody has removed it yet");
        let after = positions(&client).await;
        assert_eq!(after, (0..before + 3).collect::<Vec<_>>(), "three real commands, three events");
    }
    let kept: i64 =
        client.query_one("select count(*) from log.command where length(fingerprint) > 0", &[]).await.unwrap().get(0);
    assert_eq!(kept, 0, "no outcome of a dry run is kept");
    caught_up(&node, &client).await;
    assert!(node.running.node.snapshot().roll == fold(&client).await, "nothing of a dry run is in the Roll");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_that_two_services_wish_at_once_happens_once() {
    let scratch = Scratch::new().await;
    let (first, second) =
        tokio::join!(TestNode::start(scratch.database().await), TestNode::start(scratch.database().await));
    tokio::join!(first.bootstrap(), second.bootstrap());
    let client = scratch.superuser().await;
    let operators: i64 =
        client.query_one("select count(*) from log.event where kind = 'operator.created'", &[]).await.unwrap().get(0);
    assert_eq!(operators, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_gets_the_first_answer_and_with_other_content_is_refused() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    let other = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    let id = CommandId::from_uuid(mint::id());
    let create = || create_worker(&"once".parse().unwrap());

    let first = node.running.queue.submit(wish(id, Some([1; 32]), create())).await.unwrap();
    let remove = Command::RemoveWorker { worker: "once".parse().unwrap() };
    node.submit(remove).await.unwrap();
    let again = node.running.queue.submit(wish(id, Some([1; 32]), create())).await.unwrap();
    let elsewhere = other.running.queue.submit(wish(id, Some([1; 32]), create())).await.unwrap();
    let changed = node.running.queue.submit(wish(id, Some([2; 32]), create())).await;

    assert!(first.changed && !first.repeated);
    for repeat in [again, elsewhere] {
        assert_eq!((repeat.position, &repeat.body, repeat.repeated), (first.position, &first.body, true));
    }
    assert_eq!(changed, Err(CommandError::OtherContent));
    let kinds = scratch.superuser().await.query("select kind from log.event where subject_id = 'once'", &[]).await;
    assert_eq!(kinds.unwrap().len(), 2, "created once, removed once");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_sent_many_times_at_once_to_two_services_appends_once() {
    let scratch = Scratch::new().await;
    let nodes = [TestNode::start(scratch.database().await).await, TestNode::start(scratch.database().await).await];
    nodes[0].bootstrap().await;
    let id = CommandId::from_uuid(mint::id());
    let send = |node: usize| {
        let create = create_worker(&"once".parse().unwrap());
        nodes[node % 2].running.queue.submit(wish(id, Some([1; 32]), create))
    };
    let outcomes = futures_util::future::join_all((0..32).map(send)).await;

    let positions: HashSet<u64> = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().position).collect();
    assert_eq!(positions.len(), 1, "all callers hear of one event");
    let first_answers = outcomes.iter().filter(|outcome| !outcome.as_ref().unwrap().repeated).count();
    assert_eq!(first_answers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_kept_too_for_whoever_can_repeat_it() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    let id = CommandId::from_uuid(mint::id());
    let worker: WorkerId = "late".parse().unwrap();
    let isolate = || Command::IsolateWorker { worker: "late".parse().unwrap(), until: None };

    let refused = node.running.queue.submit(wish(id, Some([1; 32]), isolate())).await;
    assert!(matches!(refused, Err(CommandError::Refused(_))));
    node.submit(create_worker(&worker)).await.unwrap();
    let again = node.running.queue.submit(wish(id, Some([1; 32]), isolate())).await;
    assert!(matches!(again, Err(CommandError::RefusedBefore { code, .. }) if code == "worker_unknown"));
}

/// A server that is shot while commits are on their way leaves the writer not knowing; it has to find out.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_fate_is_unknown_is_found_out_and_never_guessed() {
    const COMMANDS: usize = 400;
    let mut cluster = PrivateCluster::start().await;
    let database = Database::open(cluster.options()).await.unwrap();
    database.migrate().await.unwrap();
    let node = Arc::new(TestNode::start(database).await);
    node.bootstrap().await;

    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let node = node.clone();
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for number in 0..COMMANDS / 8 {
                    let worker: WorkerId = format!("w-{caller}-{number}").parse().unwrap();
                    answers.push((worker.clone(), node.submit(create_worker(&worker)).await));
                }
                answers
            })
        })
        .collect();
    for pause in [13, 41, 97] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        cluster.kill();
        cluster.restart().await;
    }
    let client = crate::support::cluster::connect(&cluster.owner_url()).await.unwrap();
    let mut acknowledged = 0;
    for caller in callers {
        for (worker, answer) in caller.await.unwrap() {
            let row = client
                .query_one(
                    "select count(*) from log.event where kind = 'worker.created' and subject_id = $1",
                    &[&worker.as_str()],
                )
                .await
                .unwrap();
            let found: i64 = row.get(0);
            match answer {
                Ok(outcome) => {
                    acknowledged += 1;
                    assert!(outcome.changed, "{worker}: a retry of our own must not look like somebody else's command");
                    assert_eq!(found, 1, "{worker} was acknowledged");
                }
                Err(error) => assert_eq!(found, 0, "{worker} was refused with {error} and is in the log all the same"),
            }
        }
    }
    assert!(acknowledged > 0, "some commands have to get through for this to say anything");
    let expected = fold(&client).await;
    caught_up(&node, &client).await;
    assert!(node.running.node.snapshot().roll == expected);
}

/// An append that is still on its way when its command is answered must not take effect afterwards. Decided again on the
/// same state a command comes to the same events, whose append shuts the late one out; so here an outcome that somebody has
/// forged, and takes away again, makes it come to nothing. Only the head, moved by an empty batch, shuts it out then.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_arrives_after_its_command_was_answered_takes_no_effect() {
    let scratch = Scratch::new().await;
    let proxy = Proxy::start(shared_socket()).await;
    let url = SecretString::from(scratch.url_on(proxy.port));
    let node = TestNode::start(Database::open(Options { url, ..scratch.options() }).await.unwrap()).await;
    node.bootstrap().await;
    let id = CommandId::from_uuid(mint::id());
    let superuser = scratch.superuser().await;
    let forge = "insert into log.command values ($1, '', 0, now(), 'forged')";
    superuser.execute(forge, &[&uuid::Uuid::from_u128(id.0)]).await.unwrap();
    let head = "select version, next_position from log.head";
    let before: i64 = superuser.query_one(head, &[]).await.unwrap().get("next_position");

    let queue = node.running.queue.clone();
    // Without an Idempotency-Key: its outcome is looked for only once its append's fate is unknown.
    let create = wish(id, None, create_worker(&"late".parse().unwrap()));
    let waiting = tokio::spawn(async move { queue.submit(create).await });
    let held = proxy.hold().await;
    let answer = waiting.await.unwrap();
    assert!(matches!(answer, Err(CommandError::Tampered(_))), "{answer:?}");
    let remove = "alter table log.command disable trigger command_append_only;
                  delete from log.command where outcome = 'forged'";
    superuser.batch_execute(remove).await.unwrap();
    held.deliver().await;

    let after: i64 = superuser.query_one(head, &[]).await.unwrap().get("next_position");
    assert_eq!(after, before, "what was answered as not done was done");
    node.submit(create_worker(&"next".parse().unwrap())).await.unwrap();
    assert_eq!(positions(&superuser).await.len(), usize::try_from(before).unwrap() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_said_at_once() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    // Held by somebody else, the head's row lets nothing through.
    let blocker = scratch.superuser().await;
    blocker.batch_execute("begin; select * from log.head for update").await.unwrap();
    let waiting: Vec<_> = (0..2_000)
        .map(|number| {
            let queue = node.running.queue.clone();
            let create = create_worker(&format!("w-{number}").parse().unwrap());
            tokio::spawn(async move { queue.submit(wish(CommandId::from_uuid(mint::id()), None, create)).await })
        })
        .collect();
    while node.running.queue.depth() < 1_024 {
        tokio::task::yield_now().await;
    }
    let one_more = node.submit(create_worker(&"one-more".parse().unwrap())).await;
    assert_eq!(one_more, Err(CommandError::QueueFull));
    blocker.batch_execute("rollback").await.unwrap();
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert!(matches!(answer, Ok(_) | Err(CommandError::QueueFull)), "{answer:?}");
    }
}

/// A partition that somebody has dropped is not made again; no attempt to write may spin over that.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_missing_gets_a_clear_no() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    let superuser = scratch.superuser().await;
    superuser.batch_execute("alter table log.event detach partition log.event_p0").await.unwrap();
    let refused = node.submit(create_worker(&"nowhere".parse().unwrap())).await;
    assert!(matches!(&refused, Err(CommandError::Fault(why)) if why.contains("partition")), "{refused:?}");
    let attach = "alter table log.event attach partition log.event_p0 for values from (0) to (1 << 20)";
    superuser.batch_execute(attach).await.unwrap();
    node.submit(create_worker(&"somewhere".parse().unwrap())).await.unwrap();
}

/// Whose commands' fate cannot be found out because the database is gone, ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_is_told_to_stop_ends_though_its_database_is_gone() {
    let mut cluster = PrivateCluster::start().await;
    let database = Database::open(cluster.options()).await.unwrap();
    database.migrate().await.unwrap();
    let node = TestNode::start(database).await;
    node.bootstrap().await;
    let queue = node.running.queue.clone();
    let blocker = crate::support::cluster::connect(&cluster.owner_url()).await.unwrap();
    blocker.batch_execute("begin; select * from log.head for update").await.unwrap();
    let create = create_worker(&"lost".parse().unwrap());
    let waiting = tokio::spawn(async move { queue.submit(wish(CommandId::from_uuid(mint::id()), None, create)).await });
    let blocked = "select exists (select from pg_stat_activity where wait_event_type = 'Lock')";
    while !blocker.query_one(blocked, &[]).await.unwrap().get::<_, bool>(0) {
        tokio::task::yield_now().await;
    }
    cluster.kill();
    let began = Instant::now();
    node.stop().await;
    assert!(began.elapsed() < Duration::from_secs(20));
    let answer = waiting.await.unwrap();
    assert!(matches!(answer, Err(CommandError::Unknown(_))), "{answer:?}");
}

/// Once stopped, the writer answers what was queued, and refuses what comes after.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_everyone() {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    let queue = node.running.queue.clone();
    let waiting: Vec<_> = (0..200)
        .map(|number| {
            let queue = queue.clone();
            let create = create_worker(&format!("w-{number}").parse().unwrap());
            tokio::spawn(async move { queue.submit(wish(CommandId::from_uuid(mint::id()), None, create)).await })
        })
        .collect();
    node.stop().await;
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert!(matches!(answer, Ok(_) | Err(CommandError::Stopping)), "{answer:?}");
    }
    let late =
        queue.submit(wish(CommandId::from_uuid(mint::id()), None, create_worker(&"late".parse().unwrap()))).await;
    assert_eq!(late, Err(CommandError::Stopping));
}

/// Behind a lock an append takes for ever. The node is as current as before, its command gets a clear no, and no backend
/// stays behind that waits for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_waits_makes_no_node_stale_and_ends_with_a_clear_no() {
    let scratch = Scratch::new().await;
    let node = TestNode::start_with(scratch.database().await, keys(), Duration::from_secs(2), None).await.unwrap();
    node.bootstrap().await;
    let blocker = scratch.superuser().await;
    blocker.batch_execute("begin; select * from log.head for update").await.unwrap();

    let queue = node.running.queue.clone();
    let create = create_worker(&"late".parse().unwrap());
    let began = Instant::now();
    let waiting = tokio::spawn(async move { queue.submit(wish(CommandId::from_uuid(mint::id()), None, create)).await });
    while !waiting.is_finished() {
        node.running.node.check_current().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(2), "longer than the node may be stale");
    assert!(matches!(waiting.await.unwrap(), Err(CommandError::Fault(_))), "known not to be in the log");
    let behind =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    assert_eq!(blocker.query_one(behind, &[]).await.unwrap().get::<_, i64>(0), 0);

    blocker.batch_execute("rollback").await.unwrap();
    node.submit(create_worker(&"late".parse().unwrap())).await.unwrap();
}

/// The database's clock goes back by a month: to the writer, its own is a month ahead.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recorded_from_a_clock_that_is_far_ahead() {
    let scratch = Scratch::new().await;
    let superuser = scratch.superuser().await;
    superuser
        .batch_execute(
            "create schema fake; grant usage on schema fake to public;
             create function fake.clock_timestamp() returns timestamptz language sql
                 as $f$select pg_catalog.clock_timestamp() - interval '32 days'$f$;
             do $$ begin execute format('alter database %I set search_path = fake, pg_catalog', current_database()); end $$",
        )
        .await
        .unwrap();
    let node = TestNode::start(scratch.database().await).await;
    let refused = node.submit(bootstrap(&node.keys)).await;
    assert!(matches!(&refused, Err(CommandError::Fault(why)) if why.contains("clock")), "{refused:?}");
    assert!(positions(&superuser).await.is_empty());

    superuser.batch_execute("drop function fake.clock_timestamp()").await.unwrap();
    while node.submit(bootstrap(&node.keys)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
