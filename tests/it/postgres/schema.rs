//! The schema of the log: what the service may do, what nobody may, and how it is migrated.

use portcullis::postgres::{Database, MigrationError, Options};
use secrecy::SecretString;
use tokio_postgres::error::SqlState;

use crate::support::cluster::Scratch;

/// All of them, in their order.
pub(super) const MIGRATIONS: [&str; 5] =
    ["V1__log", "V2__nodes", "V3__projections", "V4__incidents", "V5__key_sources"];
const VERSION: i32 = 5;

/// What nobody may do. Each finds a row to do it to.
const CHANGES: &[&str] = &[
    "update log.event set entry = 'x'",
    "delete from log.event",
    "truncate log.event",
    "update log.event_p0 set entry = 'x'",
    "delete from log.event_p0",
    "truncate log.event_p0",
    "truncate log.event_p1",
    "update log.command set outcome = 'x'",
    "delete from log.command",
    "truncate log.command",
    "update log.genesis set root_key_check = 'x'",
    "delete from log.genesis",
    "truncate log.genesis",
    "delete from log.head",
    "truncate log.head",
];

/// What the owner may do, and the service may not.
const OWNERS: &[&str] = &[
    "alter table log.event add column more text",
    "alter table log.event disable trigger all",
    "drop table log.event",
    "drop trigger event_append_only on log.event",
    "create table log.more ()",
    "create table public.more ()",
    "set session_replication_role = replica",
    "select log.refuse_change()",
    "insert into log.event_p0 select * from log.event",
    "update log.sealed_outcome set expires_at = now()",
    "delete from public.refinery_schema_history",
];

const ONE_EVENT: &str = "
    insert into log.genesis (log_id, root_key_check, created_at) values (gen_random_uuid(), '\\x00', now());
    insert into log.head (version, next_position, mac, merkle_root, frontier)
        values (1, 1, sha256('mac'), sha256('root'), sha256('frontier'));
    insert into log.event (position, entry, mac, leaf_hash, recorded_at, kind, schema, subject_kind, subject_id, actor, command_id)
        values (0, convert_to('{\"position\":0}', 'UTF8'), sha256('mac'), sha256('leaf'), now(), 'k', 1, 's', 'i', 'a', gen_random_uuid());
    insert into log.command (command_id, fingerprint, position, recorded_at, outcome)
        values (gen_random_uuid(), '\\x00', 0, now(), '\\x00');
    insert into log.sealed_outcome (command_id, sealed, expires_at) values (gen_random_uuid(), '\\x00', now());
    ";

#[tokio::test]
async fn the_service_can_only_add() {
    let scratch = Scratch::new().await;
    let client = scratch.database().await.client().await.unwrap();
    client.batch_execute(ONE_EVENT).await.unwrap();
    client.batch_execute("update log.head set version = 2, next_position = 1").await.unwrap();
    client.batch_execute("delete from log.sealed_outcome; select * from log.entries").await.unwrap();
    for statement in CHANGES.iter().chain(OWNERS) {
        let error = client.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {error:?}");
    }
}

#[tokio::test]
async fn the_owner_is_stopped_by_the_triggers() {
    let scratch = Scratch::new().await;
    let client = scratch.superuser().await;
    client.batch_execute(ONE_EVENT).await.unwrap();
    for role in ["origin", "replica"] {
        client.batch_execute(&format!("set session_replication_role = {role}")).await.unwrap();
        for statement in CHANGES {
            let error = client.batch_execute(statement).await.expect_err(statement);
            assert_eq!(error.code(), Some(&SqlState::RESTRICT_VIOLATION), "{statement}: {error:?}");
            assert!(error.as_db_error().unwrap().message().contains("append-only"), "{statement}");
        }
    }
    for backwards in ["version = 1", "version = 3", "version = 2, next_position = 0", "next_position = 2"] {
        let statement = format!("update log.head set {backwards}");
        let error = client.batch_execute(&statement).await.expect_err(&statement);
        assert_eq!(error.code(), Some(&SqlState::RESTRICT_VIOLATION), "{statement}: {error:?}");
    }
    client.batch_execute("update log.head set version = 2, next_position = 7").await.unwrap();
}

#[tokio::test]
async fn partitions_are_made_ahead_and_once() {
    const POSITIONS: i64 = 1 << 20;
    let scratch = Scratch::new().await;
    let database = scratch.database().await;
    let client = database.client().await.unwrap();
    let make = "select log.make_partitions($1)";
    for (through, made) in [(0, 0), (2 * POSITIONS - 1, 0), (2 * POSITIONS, 1), (2 * POSITIONS, 0), (5 * POSITIONS, 3)]
    {
        assert_eq!(client.query_one(make, &[&through]).await.unwrap().get::<_, i32>(0), made, "through {through}");
    }
    for refused in [-1, 70 * POSITIONS] {
        let error = client.query_one(make, &[&refused]).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INVALID_PARAMETER_VALUE), "{refused}");
    }
    let (one, other) = (database.client().await.unwrap(), database.client().await.unwrap());
    let through = 9 * POSITIONS;
    // Nobody who writes is waited for, or has to wait.
    let mut writer = database.client().await.unwrap();
    let transaction = writer.transaction().await.unwrap();
    transaction.batch_execute(ONE_EVENT).await.unwrap();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&through];
    let (one, other) = tokio::join!(one.query_one(make, &parameters), other.query_one(make, &parameters));
    assert_eq!(one.unwrap().get::<_, i32>(0) + other.unwrap().get::<_, i32>(0), 4);

    transaction.rollback().await.unwrap();

    let last = 10 * POSITIONS - 1;
    let owner = scratch.superuser().await;
    owner.batch_execute(&ONE_EVENT.replace("values (0, convert", &format!("values ({last}, convert"))).await.unwrap();
    for statement in ["update log.event_p9 set kind = 'x'", "delete from log.event", "truncate log.event_p9"] {
        let error = owner.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code(), Some(&SqlState::RESTRICT_VIOLATION), "{statement}");
    }
    // A partition that was archived and dropped is not made again.
    owner.batch_execute("drop table log.event_p1").await.unwrap();
    assert_eq!(client.query_one(make, &[&through]).await.unwrap().get::<_, i32>(0), 0);
}

#[tokio::test]
async fn migrating_again_changes_nothing_even_without_the_right_to() {
    let scratch = Scratch::new().await;
    let report = scratch.database().await.migrate().await.unwrap();
    assert_eq!((report.version, report.applied), (VERSION, vec![]));
    let service_only = Options { owner_url: None, ..scratch.options() };
    let report = Database::open(service_only).await.unwrap().migrate().await.unwrap();
    assert_eq!((report.version, report.applied), (VERSION, vec![]));
}

#[tokio::test]
async fn many_migrate_at_once_and_one_does_it() {
    let scratch = Scratch::unmigrated().await;
    let database = scratch.database().await;
    let runs = futures_util::future::join_all((0..8).map(|_| database.migrate())).await;
    let applied: Vec<_> = runs.into_iter().flat_map(|run| run.unwrap().applied).collect();
    assert_eq!(applied, MIGRATIONS);
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    let scratch = Scratch::new().await;
    let owner = scratch.superuser().await;
    owner
        .batch_execute("insert into refinery_schema_history values (99, 'later', '2099-01-01T00:00:00Z', '1')")
        .await
        .unwrap();
    let error = scratch.database().await.migrate().await.unwrap_err();
    assert!(matches!(error, MigrationError::DatabaseIsNewer { database: 99, binary: VERSION }), "{error}");
    assert!(error.to_string().contains("start a newer portcullis"), "{error}");
}

#[tokio::test]
async fn migrating_lets_the_login_serve() {
    let scratch = Scratch::unmigrated().await;
    let superuser = scratch.superuser().await;
    let login = "\"a fresh login\"";
    superuser.batch_execute(&format!("create role {login} login")).await.unwrap();
    let url = scratch.url().replace("portcullis_login", "a%20fresh%20login");
    let database =
        Database::open(Options { url: SecretString::from(url.as_str()), ..scratch.options() }).await.unwrap();
    for _ in 0..2 {
        database.migrate().await.unwrap();
        database.client().await.unwrap().batch_execute("select from log.event").await.unwrap();
    }
    drop(database);
    superuser.batch_execute(&format!("drop role {login}")).await.unwrap();
}

#[tokio::test]
async fn an_owner_needs_no_superuser_and_may_also_serve() {
    let scratch = Scratch::unmigrated().await;
    let superuser = scratch.superuser().await;
    let name: String = superuser.query_one("select current_database()", &[]).await.unwrap().get(0);
    superuser
        .batch_execute(&format!(
            "create role {name}_owner login createrole; alter database {name} owner to {name}_owner"
        ))
        .await
        .unwrap();
    let url = scratch.url().replace("portcullis_login", &format!("{name}_owner"));
    let only = Options { owner_url: None, url: SecretString::from(url.as_str()), ..scratch.options() };
    let database = Database::open(only).await.unwrap();
    assert_eq!(database.migrate().await.unwrap().applied, MIGRATIONS);
    let client = database.client().await.unwrap();
    client.batch_execute(ONE_EVENT).await.unwrap();
    assert_eq!(
        client.query_one("select current_user::text", &[]).await.unwrap().get::<_, &str>(0),
        "portcullis_service"
    );
    assert!(client.batch_execute("delete from log.event").await.is_err());
    // What the service may execute as the owner, it may execute here too.
    client.batch_execute("select log.make_partitions(3 << 20)").await.unwrap();
}
