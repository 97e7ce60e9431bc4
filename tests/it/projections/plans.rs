//! H17: every combination of filters that the API offers goes by an index.

use portcullis::command::mint;
use portcullis::domain::key::{KeyKind, KeyStanding};
use portcullis::domain::worker::Standing;
use portcullis::projection::read::{Question, SETTINGS};
use portcullis::projection::{enrollment_secrets, fences, keys, operators, pools, workers};
use tokio_postgres::Client;

use super::Keeping;
use crate::support::cluster::Scratch;

/// Rows as a large fleet has them: more than enough that to look at each costs more than any index.
const FILL: &str = "
    insert into workers_1.worker
    select 'w' || n, 'pool-' || n % 50, 'name-' || n % 5000, jsonb_build_object('site', 'site-' || n % 100),
           (array['pending', 'active', 'active', 'isolated', 'rejected', 'removed'])[1 + n % 6],
           case when n % 12 = 3 then now() + n * interval '1 second' end,
           case when n % 5 = 0 then now() + (n - 20000) * interval '1 minute' end,
           n % 6 < 4, now(), n, null, '{}', '{}', false
      from generate_series(1, 40000) n;
    insert into keys_1.key
    select lpad(n::text, 22, '0'), 1000 + n, case when n % 50 = 0 then 'static_secret' else 'api_key' end, 'w' || n / 2,
           case when n % 500 = 0 then array['w' || n / 2, 'w' || n] end,
           case when n % 3 = 0 then 'secret-' || n % 7 end,
           case when n % 500 = 0 then array['secret-' || n % 7, null] end, case when n % 1000 = 0 then 'op' || n end,
           'pool-' || n % 50, (array['live', 'superseded', 'revoked', 'refused'])[1 + n % 4], null, null,
           case when n % 4 = 0 then now() + (n - 20000) * interval '1 minute' end, now(), null, false, n % 500 = 0
      from generate_series(1, 40000) n;
    insert into pools_1.pool
    select 'pool-' || n, '', 900, 'each', 'a', '{}', false, 0, now(), false from generate_series(1, 20000) n;
    insert into enrollment_secrets_1.enrollment_secret
    select lpad(n::text, 22, '0'), 'pool-1', 'live', null, '{}', null, null, 0, 0, null, false, now(), n, 0, null
      from generate_series(1, 20000) n;
    insert into operators_1.operator
    select lpad(n::text, 22, '0'), 'op', 'auditor', false, now(), '{}', '{}' from generate_series(1, 20000) n;
    insert into fences_1.fence select 'worker:w' || n, n, n, now() from generate_series(1, 20000) n;
    insert into keys_1.floor select 'worker:w' || n, n from generate_series(1, 300) n;
    insert into keys_1.floor values ('pool:pool-7', 9000), ('everything', 2000), ('enrollment_secret:secret-3', 7000);
    insert into workers_1.floor select * from keys_1.floor;
    analyze workers_1.worker; analyze keys_1.key; analyze pools_1.pool; analyze operators_1.operator;
    analyze enrollment_secrets_1.enrollment_secret; analyze fences_1.fence; analyze keys_1.floor; analyze workers_1.floor";

/// Every combination of filters, on the first page and on one further on.
fn questions() -> Vec<(String, Question)> {
    let now = mint::now();
    let mut all: Vec<(String, Question)> = Vec::new();
    for further in [false, true] {
        let made_id = || further.then(|| "0000000000000000000005".parse().unwrap());
        all.push(("pools".to_owned(), pools::list(further.then(|| "pool-5".to_owned()), 100)));
        all.push(("enrollment secrets".to_owned(), enrollment_secrets::list(made_id(), 100)));
        let operator = further.then(|| "0000000000000000000005".parse().unwrap());
        all.push(("operators".to_owned(), operators::list(operator, 100)));
        let states = Standing::ALL.into_iter().map(Some).chain([None]);
        for (state, bits) in states.flat_map(|state| (0..8).map(move |bits| (state, bits))) {
            let filter = workers::Filter {
                after: further.then(|| "w5".to_owned()),
                pool: (bits & 1 != 0).then(|| "pool-7".parse().unwrap()),
                labels: (bits & 2 != 0).then(|| ("site".to_owned(), "site-9".to_owned())).into_iter().collect(),
                name: (bits & 4 != 0).then(|| "name-77".to_owned()),
                state,
            };
            all.push((format!("{filter:?}"), workers::list(&filter, now, 100)));
        }
        let scope = further.then(|| "worker:w5".parse().unwrap());
        all.push(("fences".to_owned(), fences::list(scope.as_ref(), 100)));
        let states = KeyStanding::ALL.into_iter().map(Some).chain([None]);
        for (state, bits) in states.flat_map(|state| (0..48).map(move |bits| (state, bits))) {
            let filter = keys::Filter {
                after: further.then_some(5_000),
                worker: (bits & 1 != 0).then(|| "w500".parse().unwrap()),
                shared: bits & 2 != 0,
                pool: (bits & 4 != 0).then(|| "pool-7".parse().unwrap()),
                operator: (bits & 8 != 0).then(|| "0000000000000000000005".parse().unwrap()),
                kind: match bits / 16 {
                    0 => None,
                    1 => Some(KeyKind::Api),
                    _ => Some(KeyKind::Static),
                },
                state,
            };
            all.push((format!("{filter:?}"), keys::list(&filter, now, 100)));
        }
    }
    all
}

async fn plan(client: &Client, question: &Question) -> String {
    let schema = question.projection().schema();
    client.batch_execute(&format!("set search_path to {schema}")).await.unwrap();
    let statement = format!("explain {}", question.statement());
    let rows = client.query(&statement, &question.parameters()).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_combination_of_filters_goes_by_an_index() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.caught_up().await;
    let client = scratch.superuser().await;
    client.batch_execute(FILL).await.unwrap();
    client.batch_execute(&format!("begin; {SETTINGS}")).await.unwrap();
    let questions = questions();
    assert_eq!(questions.len(), 2 * (4 + 7 * 8 + 6 * 48));
    for (asked, question) in &questions {
        let plan = plan(&client, question).await;
        // The few fences that stand are read as a whole.
        let scans = plan.replace("Seq Scan on floor", "");
        assert!(plan.contains("Index") && !scans.contains("Seq Scan"), "{asked}:\n{plan}");
    }
    // What the test looks for is there to be found.
    client.batch_execute("drop index workers_1.worker_labels, workers_1.worker_pool").await.unwrap();
    client.batch_execute("set enable_indexscan to off; set enable_bitmapscan to off").await.unwrap();
    assert!(plan(&client, &questions[4].1).await.contains("Seq Scan"));
}
