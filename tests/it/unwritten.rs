//! H18: a validation is no write. Ten thousand of them leave nothing in the log, and ask nothing of Postgres; when each key was
//! last used is written down in batches.

use std::time::Instant;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::cluster::{PrivateCluster, connect};
use crate::support::service::{Launch, Service};

const KEYS: usize = 20;
const ONE_BY_ONE: usize = 3_000;
const CHECKED: usize = 3_000;
const IN_BULK: usize = 4;
const AT_ONCE: usize = 1_000;

/// A node asks where the log ends, and sees to its lease and its projections, whether anybody validates or not: so many
/// statements a second at the most.
const STATEMENTS_A_SECOND: u64 = 100;

/// What Postgres itself has counted: statements of everyone but the one who asks.
async fn statements(superuser: &Client) -> u64 {
    let question = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements
                     where userid <> (select oid from pg_roles where rolname = current_user)";
    superuser.query_one(question, &[]).await.unwrap().get::<_, i64>(0).unsigned_abs()
}

async fn in_the_log(superuser: &Client) -> (i64, i64) {
    let question = "select next_position, (select count(*) from log.event) from log.head";
    let row = superuser.query_one(question, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn keys(service: &Service) -> Vec<Value> {
    let mut keys = Vec::new();
    for number in 0..KEYS {
        service.post("/v1/workers", json!({ "id": format!("w-{number}") })).await.expect(201);
        let key = service.post(&format!("/v1/workers/w-{number}/keys"), json!({})).await.expect(201);
        keys.push(key["key"].clone());
    }
    keys
}

/// In each way there is.
async fn validate(service: &Service, keys: &[Value]) {
    let one_by_one = (0..ONE_BY_ONE).map(|nth| async move {
        let answer = service.post("/v1/validate", json!({ "credential": keys[nth % KEYS] })).await;
        assert_eq!(answer.expect(200)["active"], true);
    });
    let checked = (0..CHECKED).map(|nth| async move {
        assert_eq!(service.get_as(keys[nth % KEYS].as_str().unwrap(), "/v1/check").await.status, 204);
    });
    futures_util::stream::iter(one_by_one).buffer_unordered(16).collect::<Vec<()>>().await;
    futures_util::stream::iter(checked).buffer_unordered(16).collect::<Vec<()>>().await;
    for _ in 0..IN_BULK {
        let items: Vec<Value> = (0..AT_ONCE).map(|nth| json!({ "credential": keys[nth % KEYS] })).collect();
        let answer = service.post("/v1/validate", json!({ "credentials": items })).await.expect(200);
        assert!(answer["verdicts"].as_array().unwrap().iter().all(|verdict| verdict["active"] == true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_validations_make_no_event_and_no_statement_of_their_own() {
    let cluster =
        PrivateCluster::start_with(|_, _| vec!["shared_preload_libraries=pg_stat_statements".to_owned()]).await;
    let launch = Launch::on_urls(&cluster.url(), &cluster.owner_url()).flag("--disable-tls");
    // Counts of what was refused, and of what was in force everywhere, are recorded before it begins.
    let mut service = launch.start().await;
    let superuser = connect(&cluster.owner_url()).await.unwrap();
    superuser.batch_execute("create extension pg_stat_statements").await.unwrap();
    let keys = keys(&service).await;

    let (events, before, began) = (in_the_log(&superuser).await, statements(&superuser).await, Instant::now());
    validate(&service, &keys).await;
    let (made, elapsed) = (statements(&superuser).await - before, began.elapsed());
    let validations = u64::try_from(ONE_BY_ONE + CHECKED + IN_BULK * AT_ONCE).unwrap();
    assert!(made > 0, "Postgres counts");
    let bound = (elapsed.as_secs() + 2) * STATEMENTS_A_SECOND;
    assert!(made < bound && made < validations / 4, "{made} statements for {validations} validations in {elapsed:?}");
    assert_eq!(in_the_log(&superuser).await, events, "nothing was recorded");

    // What was noted is written when the service ends, if not before: all keys by one statement.
    assert!(service.stop());
    let used = "select count(*) from projection.key_used";
    let used: i64 = superuser.query_one(used, &[]).await.unwrap().get(0);
    assert!(used >= i64::try_from(KEYS).unwrap(), "{used} keys");
    let written = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements where query like '%insert into projection.key_used%'";
    let written: i64 = superuser.query_one(written, &[]).await.unwrap().get(0);
    assert!((1..=4 + elapsed.as_secs().cast_signed() / 10).contains(&written), "{written} statements");
}
