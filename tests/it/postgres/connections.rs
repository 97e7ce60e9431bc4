//! Connections of the service: their role and limits, and what becomes of them when the server ends them.

use std::time::Duration;

use portcullis::postgres::{Database, DatabaseError, Options};
use tokio_postgres::error::SqlState;

use crate::support::cluster::{PrivateCluster, Scratch};

#[tokio::test]
async fn every_connection_is_in_the_services_role() {
    let scratch = Scratch::new().await;
    let database = scratch.database().await;
    let question = "select current_user || ' ' || current_setting('application_name') || ' '
        || current_setting('idle_in_transaction_session_timeout')";
    let pooled = database.client().await.unwrap();
    let session = database.session().await.unwrap();
    for client in [&**pooled, &session.client] {
        let answer = client.query_one(question, &[]).await.unwrap();
        assert_eq!(answer.get::<_, &str>(0), "portcullis_service portcullis 30s");
        client.batch_execute("reset all; reset role").await.unwrap();
        let answer = client.query_one(question, &[]).await.unwrap();
        assert_eq!(answer.get::<_, &str>(0), "portcullis_service portcullis 30s");
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_cancelled() {
    let scratch = Scratch::new().await;
    let options = Options { statement_timeout: Duration::from_millis(50), ..scratch.options() };
    let client = Database::open(options).await.unwrap().client().await.unwrap();
    let error = client.batch_execute("select pg_sleep(30)").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_replaced_unseen() {
    let scratch = Scratch::new().await;
    let database = Database::open(Options { pool_size: 1, ..scratch.options() }).await.unwrap();
    drop(database.client().await.unwrap());
    let superuser = scratch.superuser().await;
    for _ in 0..3 {
        let ended = superuser
            .query_one(
                "select count(pg_terminate_backend(pid, 1000)) from pg_stat_activity
                 where datname = current_database() and usename = 'portcullis_login'",
                &[],
            )
            .await
            .unwrap();
        assert_eq!(ended.get::<_, i64>(0), 1);
        database.client().await.unwrap().batch_execute("select 1").await.unwrap();
    }
}

#[tokio::test]
async fn a_pool_that_is_in_use_says_so() {
    let scratch = Scratch::new().await;
    let options = Options { pool_size: 1, acquire_timeout: Duration::from_millis(20), ..scratch.options() };
    let database = Database::open(options).await.unwrap();
    let held = database.client().await.unwrap();
    assert!(database.client().await.unwrap_err().is_exhausted());
    drop(held);
    drop(database.client().await.unwrap());
}

#[tokio::test]
async fn a_session_hears_and_drops_what_it_need_not_hear() {
    let scratch = Scratch::new().await;
    let database = scratch.database().await;
    let mut session = database.session().await.unwrap();
    session.client.batch_execute("listen head").await.unwrap();
    let sender = database.client().await.unwrap();
    for _ in 0..200 {
        sender.batch_execute("notify head").await.unwrap();
    }
    // Not held up by notifications that nobody takes.
    session.client.batch_execute("select 1").await.unwrap();
    assert_eq!(session.notifications.recv().await.unwrap().channel(), "head");
    while session.notifications.try_recv().is_ok() {}
    sender.batch_execute("notify head").await.unwrap();
    session.notifications.recv().await.unwrap();

    let superuser = scratch.superuser().await;
    superuser
        .batch_execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and usename = 'portcullis_login'",
        )
        .await
        .unwrap();
    assert!(session.notifications.recv().await.is_none(), "the end of the connection is heard");
}

#[tokio::test]
async fn a_server_that_loses_commits_is_refused() {
    let scratch = Scratch::new().await;
    let options = Options { allow_unsafe_durability: false, ..scratch.options() };
    let error = Database::open(options).await.err().unwrap();
    assert!(matches!(error, DatabaseError::NotDurable), "{error}");
}

#[tokio::test]
async fn the_pool_outlives_a_killed_server() {
    let mut cluster = PrivateCluster::start().await;
    let database = Database::open(cluster.options()).await.unwrap();
    database.migrate().await.unwrap();
    drop(database.client().await.unwrap());
    cluster.kill();
    assert!(database.client().await.is_err());
    cluster.restart().await;
    database.client().await.unwrap().batch_execute("select from log.event").await.unwrap();
}

/// A standby says of every transaction that it is read-only, and so does this database.
#[tokio::test]
async fn a_database_that_cannot_be_written_to_is_not_followed() {
    let scratch = Scratch::new().await;
    let name: String = {
        let superuser = scratch.superuser().await;
        let name = superuser.query_one("select current_database()", &[]).await.unwrap().get(0);
        superuser
            .batch_execute(&format!("alter database {name} set default_transaction_read_only = on"))
            .await
            .unwrap();
        name
    };
    let refused = Database::open(scratch.options()).await.err().unwrap().to_string();
    assert!(refused.contains("does not allow writes"), "{name}: {refused}");
}
