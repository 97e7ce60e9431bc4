//! Promise 8: someone with full write access to Postgres, but without the root key, changes nothing unseen.

use std::time::{Duration, Instant};

use portcullis::command::writer::StartError;
use portcullis::command::{CommandError, mint};
use portcullis::credential::root_key::RootKey;
use portcullis::domain::command::Command;
use portcullis::domain::ids::{CommandId, LogId};
use portcullis::log::head;
use portcullis::log::seal::Frontier;
use portcullis::log::seen::Seen;
use portcullis::log::{LogFault, Tampered};
use portcullis::node::{NotCurrent, replay};
use reqwest::Method;
use serde_json::json;

use crate::support::cluster::Scratch;
use crate::support::node::{TestNode, create_worker, keys, wish};
use crate::support::service::{Launch, Service};

/// A log of a dozen events or so.
async fn written() -> Scratch {
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    for name in ["a", "b", "c", "d"] {
        node.worker(name).await;
    }
    node.stop().await;
    scratch
}

/// What a superuser does with the triggers out of the way, who puts them back afterwards.
pub(crate) async fn tamper(scratch: &Scratch, statement: &str) {
    let triggers = ["event_append_only", "head_no_delete", "head_forward", "command_append_only"];
    let alter = |how: &str| {
        let table = |trigger: &str| trigger.split('_').next().unwrap().to_owned();
        triggers.map(|trigger| format!("alter table log.{} {how} trigger {trigger};", table(trigger))).concat()
    };
    let script = format!("{} {statement}; {}", alter("disable"), alter("enable always"));
    scratch.superuser().await.batch_execute(&script).await.unwrap();
}

/// Makes the head fit the rows that are there, as whoever has the database can: the mac is the last row's, the tree is
/// made of their leaf hashes, and neither takes a key.
pub(crate) async fn refit_head(scratch: &Scratch) {
    let client = scratch.superuser().await;
    let rows = client.query("select mac, leaf_hash from log.event order by position", &[]).await.unwrap();
    let mut frontier = Frontier::default();
    for row in &rows {
        frontier.push(row.get::<_, &[u8]>("leaf_hash").try_into().unwrap());
    }
    let (mac, root): (&[u8], _) = (rows.last().unwrap().get("mac"), frontier.root());
    let statement = "update log.head set mac = $1, merkle_root = $2, frontier = $3, next_position = $4,
                     recorded_at = (select recorded_at from log.event order by position desc limit 1)";
    let position = i64::try_from(rows.len()).unwrap();
    client.batch_execute("alter table log.head disable trigger head_forward").await.unwrap();
    client.execute(statement, &[&mac, &&root[..], &frontier.to_bytes(), &position]).await.unwrap();
    client.batch_execute("alter table log.head enable always trigger head_forward").await.unwrap();
}

async fn start(scratch: &Scratch) -> Result<(), StartError> {
    TestNode::try_start(scratch.database().await, keys()).await.map(|_| ())
}

#[track_caller]
fn found(what: &str, started: Result<(), StartError>, position: u64) {
    match started {
        Err(StartError::Log(LogFault::Tampered(tampered))) => {
            let text = tampered.to_string();
            assert!(text.contains(&format!("position {position}")), "{what}: {text} should name position {position}");
        }
        Err(StartError::Log(LogFault::Unreadable { position: found, .. })) => assert_eq!(found, position, "{what}"),
        other => panic!("{what}: the service started, or failed for another reason: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_touched_is_folded() {
    let scratch = written().await;
    start(&scratch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_changing_history_is_found_at_start_with_its_position() {
    let table = [
        (
            "an edited entry",
            6,
            "update log.event set entry = convert_to(replace(convert_from(entry, 'UTF8'), '\"b\"', '\"z\"'), 'UTF8') where position = 6",
        ),
        ("an edited mac", 5, "update log.event set mac = decode(repeat('00', 32), 'hex') where position = 5"),
        (
            "an edited leaf hash",
            7,
            "update log.event set leaf_hash = decode(repeat('00', 32), 'hex') where position = 7",
        ),
        ("a deleted row", 4, "delete from log.event where position = 4"),
        ("a deleted first row", 0, "delete from log.event where position = 0"),
        (
            "two swapped rows",
            6,
            "update log.event set position = case position when 6 then 100 when 8 then 6 end where position in (6, 8);
            update log.event set position = 8 where position = 100",
        ),
        ("a truncated tail, the head left", 9, "delete from log.event where position >= 9"),
        ("an event hidden from a search by kind", 7, "update log.event set kind = 'worker.removed' where position = 7"),
        (
            "an event hidden from a search by subject",
            5,
            "update log.event set subject_id = 'nobody' where position = 5",
        ),
        ("an event under another author", 8, "update log.event set actor = 'operator:nobody' where position = 8"),
        ("an event in another pool", 4, "update log.event set pool = 'other' where position = 4"),
        (
            "an event at another time",
            9,
            "update log.event set recorded_at = recorded_at + interval '1 microsecond' where position = 9",
        ),
        ("an event at no time", 6, "update log.event set recorded_at = 'infinity' where position = 6"),
        (
            "an event without an author",
            7,
            "alter table log.event alter actor drop not null; update log.event set actor = null where position = 7",
        ),
        (
            // What it sends is what was sent before, and nothing is read of such a log all the same.
            "a column of another type",
            0,
            "alter table log.event alter schema type oid using schema::oid",
        ),
        ("an event of another command", 6, "update log.event set command_id = gen_random_uuid() where position = 6"),
        (
            // The seals are further ahead than what is said under them.
            "a wrong column before a wrong mac",
            6,
            "update log.event set kind = 'worker.removed' where position = 6;
            update log.event set mac = decode(repeat('00', 32), 'hex') where position = 8",
        ),
        ("an emptied log", 0, "delete from log.event"),
    ];
    for (what, position, statement) in table {
        let scratch = written().await;
        tamper(&scratch, statement).await;
        let started = start(&scratch).await;
        found(what, started, position);
    }
}

/// What is wrong of an event comes before what the log is after it: whoever looks for the fault begins there.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_column_is_named_before_the_other_history_that_ends_with_it() {
    let scratch = written().await;
    let session = scratch.database().await.session().await.unwrap();
    let log = head::open(&session.client, &keys(), None).await.unwrap();
    let other = Seen { log, next_position: 7, mac: [0; 32] };
    let fault = async || replay::fold(&session.client, &keys(), log, Some(&other)).await.err().unwrap();

    let parted = fault().await;
    assert!(matches!(parted, LogFault::Tampered(Tampered::OtherHistory { position: 7 })), "{parted:?}");
    tamper(&scratch, "update log.event set kind = 'worker.removed' where position = 6").await;
    let column = fault().await;
    assert!(matches!(column, LogFault::Tampered(Tampered::Column { position: 6, column: "kind" })), "{column:?}");
}

/// What a repeat is answered from is what a token is signed from: a forged one would be a credential.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_outcome_that_was_changed_is_found_and_never_an_answer() {
    let table = [
        (
            "an edited answer",
            "outcome = overlay(outcome placing '9' from position('\"events\":1'::bytea in outcome) + 9)",
        ),
        (
            "a forged answer",
            "outcome = '{\"outcome\":\"done\",\"changed\":true,\"body\":{\"events\":9},\"secrets\":false}'",
        ),
        (
            "another command's answer",
            "outcome = (select outcome from log.command other where other.command_id <> log.command.command_id limit 1)",
        ),
        ("an answer for another request", "fingerprint = decode(repeat('02', 32), 'hex')"),
        ("an answer of another time", "position = position - 1"),
        ("an emptied answer", "outcome = ''"),
    ];
    let scratch = Scratch::new().await;
    let node = TestNode::start(scratch.database().await).await;
    node.bootstrap().await;
    for (number, (what, change)) in table.into_iter().enumerate() {
        let id = CommandId::from_uuid(mint::id());
        let create = || create_worker(&format!("w-{number}").parse().unwrap());
        node.running.queue.submit(wish(id, Some([1; 32]), create())).await.unwrap();
        let row = format!("command_id = '{}'", uuid::Uuid::from_u128(id.0));
        tamper(&scratch, &format!("update log.command set {change} where {row}")).await;

        for fingerprint in [[1; 32], [2; 32]] {
            let again = node.running.queue.submit(wish(id, Some(fingerprint), create())).await;
            let Err(CommandError::Tampered(tampered)) = again else { panic!("{what}: {again:?}") };
            let text = tampered.to_string();
            assert!(text.contains(&uuid::Uuid::from_u128(id.0).to_string()), "{what}: {text} should name the command");
        }
    }
    node.running.node.check_current().unwrap();
}

/// Without its outcome a command looks as if nobody had asked for it yet. Its events tell that somebody has.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_whose_outcome_was_deleted_is_not_carried_out_again() {
    let scratch = written().await;
    let node = TestNode::start(scratch.database().await).await;
    let id = CommandId::from_uuid(mint::id());
    let worker = || "a".parse().unwrap();
    let isolate = || wish(id, Some([1; 32]), Command::IsolateWorker { worker: worker(), until: None });
    let first = node.running.queue.submit(isolate()).await.unwrap();
    node.submit(Command::ReleaseWorker { worker: worker() }).await.unwrap();
    let row = format!("command_id = '{}'", uuid::Uuid::from_u128(id.0));
    tamper(&scratch, &format!("delete from log.command where {row}")).await;

    let again = node.running.queue.submit(isolate()).await;
    assert_eq!(again, Err(CommandError::OutcomeLost { position: first.position }));
    let isolated = "select count(*) from log.event where kind = 'worker.isolated'";
    assert_eq!(scratch.superuser().await.query_one(isolated, &[]).await.unwrap().get::<_, i64>(0), 1);
    node.submit(create_worker(&"another".parse().unwrap())).await.unwrap();
}

/// Whoever can change a table can change its columns too.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_outcome_in_columns_of_another_type_is_found_and_never_an_answer() {
    let scratch = written().await;
    let node = TestNode::start(scratch.database().await).await;
    let id = CommandId::from_uuid(mint::id());
    let create = || wish(id, Some([1; 32]), create_worker(&"e".parse().unwrap()));
    node.running.queue.submit(create()).await.unwrap();
    let retype = "alter table log.command drop constraint command_position_not_negative;
                  alter table log.command alter column position type text";
    scratch.superuser().await.batch_execute(retype).await.unwrap();

    let found = loop {
        match node.running.queue.submit(create()).await {
            Err(CommandError::Tampered(tampered)) => break tampered,
            // The statement was prepared for the columns as they were: once.
            Err(CommandError::Fault(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(found.to_string().contains("`position`"), "{found}");
    node.submit(create_worker(&"f".parse().unwrap())).await.unwrap();
}

/// A row of the last event's, moved on so far.
fn foreign(further: u64) -> String {
    format!(
        "insert into log.event select position + {further}, entry, mac, leaf_hash, recorded_at, kind, schema, subject_kind,
                subject_id, pool, actor, incident, command_id from log.event order by position desc limit 1"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_past_the_end_that_the_head_names_is_found_at_start() {
    for further in [1, 1_000, 1 << 20] {
        let scratch = written().await;
        tamper(&scratch, &foreign(further)).await;
        found("a row past the end", start(&scratch).await, 11 + further);
        tamper(&scratch, &format!("delete from log.event where position = {}", 11 + further)).await;
        start(&scratch).await.unwrap();
    }
}

/// Such a row keeps its place from the event that belongs there: no attempt to write may spin over that.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_in_the_place_of_the_next_event_stops_the_node_and_is_named() {
    let scratch = written().await;
    let node = TestNode::start(scratch.database().await).await;
    tamper(&scratch, &foreign(1)).await;
    let began = Instant::now();
    let refused = node.submit(create_worker(&"late".parse().unwrap())).await;
    assert!(matches!(&refused, Err(CommandError::Fault(why)) if why.contains("position 12")), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "at once");
    let stopped = node.running.node.check_current();
    assert!(matches!(&stopped, Err(NotCurrent::Stopped(why)) if why.contains("position 12")), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_why_a_node_has_stopped_and_gateways_fail_closed() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    tamper(&scratch, "update log.head set recorded_at = 'infinity'").await;
    let ready = async || service.send(service.request(Method::GET, "/readyz")).await;
    service.until("it is not ready", async || ready().await.status == 503).await;
    let answer = ready().await;
    assert_eq!(answer.problem(503), "stopped");
    let why = "its time is not one that a node writes";
    assert!(answer.text.contains(why) && service.log().contains(why), "{}", answer.text);

    let validated = service.post("/v1/validate", json!({ "credential": "x" })).await;
    assert_eq!(validated.problem(503), "stopped");
    assert!(!validated.text.contains(why), "what is wrong with the log is for operators");
    assert_eq!(service.get_as("x", "/v1/check").await.status, 503);
    let health = service.send(service.request(Method::GET, "/healthz")).await;
    assert_eq!(health.status, 200, "the process lives, and says why");
}

/// With the head made to fit, only the chain tells that a row is not of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_put_after_the_end_is_found_though_the_head_fits() {
    let scratch = written().await;
    let forge =
        "insert into log.event select position + 1, entry, mac, leaf_hash, recorded_at, kind, schema, subject_kind,
                 subject_id, pool, actor, incident, command_id from log.event order by position desc limit 1";
    tamper(&scratch, forge).await;
    refit_head(&scratch).await;
    found("a row put after the end", start(&scratch).await, 12);
}

/// The end of the log cut off and the head made to fit is a log in order: only who has seen more can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_was_cut_off_is_found_by_a_start_that_has_seen_it() {
    let scratch = written().await;
    let node = TestNode::start(scratch.database().await).await;
    let seen = node.running.seen();
    node.stop().await;
    let begin = async |seen: Seen| {
        let node = TestNode::start_with(scratch.database().await, keys(), Duration::from_secs(5), Some(seen)).await;
        node.map(drop)
    };
    begin(seen.clone()).await.unwrap();
    let other = Seen { mac: [1; 32], ..seen.clone() };
    found("another history of the same length", begin(other).await, seen.next_position);
    let stranger = Seen { log: LogId::from_uuid(mint::id()), ..seen.clone() };
    found("another log", begin(stranger).await, 0);

    tamper(&scratch, "delete from log.event where position = (select max(position) from log.event)").await;
    refit_head(&scratch).await;
    found("a tail cut off", begin(seen.clone()).await, seen.next_position - 1);
    start(&scratch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_does_not_start_on_a_log_that_has_forgotten_a_revocation() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w-1" })).await.expect(201);
    let key = service.post("/v1/workers/w-1/keys", json!({})).await.expect(201);
    let id = key["id"].as_str().unwrap();
    let revoked = service.post(&format!("/v1/keys/{id}/revoke"), json!({})).await;
    assert!(revoked.status.is_success(), "{revoked:?}");
    let file = service.file("log.seen");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Killed a while after, the service has had no moment to write anything down.
    let before = std::fs::read(&file).unwrap();
    service.until("the revocation is noted", async || std::fs::read(&file).unwrap() != before).await;
    service.kill();

    let tail = format!("delete from log.event where position >= {}", revoked.position());
    tamper(&scratch, &tail).await;
    refit_head(&scratch).await;
    let launch = || Launch::on(&scratch).data_dir_of(&service);
    let log = launch().try_start().await.err().unwrap();
    assert!(log.contains("an older database was put in its place") && log.contains("log.seen"), "{log}");
    // Whoever means it says so.
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir_all(service.file("mirror")).unwrap();
    launch().start().await.get("/v1/pools").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_root_key_is_noticed_before_anything_is_written() {
    let scratch = written().await;
    let client = scratch.superuser().await;
    let head = "select version::text || next_position::text from log.head";
    let before: String = client.query_one(head, &[]).await.unwrap().get(0);

    let other = RootKey::from_bytes([8; 32]).derive();
    let started = TestNode::try_start(scratch.database().await, other).await;

    assert!(matches!(started, Err(StartError::Log(LogFault::WrongRootKey))));
    assert_eq!(client.query_one(head, &[]).await.unwrap().get::<_, String>(0), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_does_not_follow_a_forged_event_and_stops_answering() {
    let scratch = written().await;
    let node = TestNode::start(scratch.database().await).await;
    let before = node.running.node.snapshot().roll.next_position();
    tamper(
        &scratch,
        "insert into log.event select position + 1, entry, mac, leaf_hash, recorded_at, kind, schema, subject_kind, subject_id, pool, actor, incident, command_id
           from log.event order by position desc limit 1;
         update log.head set version = version + 1, next_position = next_position + 1",
    )
    .await;

    let stopped = loop {
        match node.running.node.check_current() {
            Err(NotCurrent::Stopped(why)) => break why,
            Ok(()) | Err(NotCurrent::Stale) => tokio::task::yield_now().await,
        }
    };
    assert!(!stopped.is_empty());
    assert_eq!(node.running.node.snapshot().roll.next_position(), before, "nothing of it became state");
    let refused = node.submit(create_worker(&"late".parse().unwrap())).await;
    assert!(refused.is_err(), "and nothing is written after it");
}

/// Whoever can write to the head can write what no node would, and what no node can read.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_cannot_be_read_stops_a_start_and_a_running_node() {
    let scratch = written().await;
    let node = TestNode::start(scratch.database().await).await;
    tamper(&scratch, "update log.head set recorded_at = 'infinity'").await;
    let why = loop {
        match node.running.node.check_current() {
            Err(NotCurrent::Stopped(why)) => break why,
            Ok(()) | Err(NotCurrent::Stale) => tokio::task::yield_now().await,
        }
    };
    assert!(why.contains("its time is not one that a node writes"), "{why}");
    assert!(!node.running.task.is_finished());
    assert!(matches!(start(&scratch).await, Err(StartError::Log(LogFault::Head(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_gone_back_is_noticed_by_a_running_node() {
    let scratch = written().await;
    let older = scratch.superuser().await;
    older.batch_execute("create table saved as select * from log.head").await.unwrap();
    let node = TestNode::start(scratch.database().await).await;
    node.submit(Command::RemoveWorker { worker: "a".parse().unwrap() }).await.unwrap();

    tamper(
        &scratch,
        "delete from log.event where position = (select max(position) from log.event);
         delete from log.head; insert into log.head select * from saved",
    )
    .await;
    let why = loop {
        match node.running.node.check_current() {
            Err(NotCurrent::Stopped(why)) => break why,
            Ok(()) | Err(NotCurrent::Stale) => tokio::task::yield_now().await,
        }
    };
    assert!(why.contains("older database"), "{why}");
}
