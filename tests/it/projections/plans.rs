//! H17: every combination of filters that the API offers goes by an index.

use portcullis::command::mint;
use portcullis::domain::key::{KeyKind, KeyStanding};
use portcullis::domain::worker::Standing;
use portcullis::projection::read::{Question, SETTINGS};
use portcullis::projection::{enrollment_secrets, fences, keys, operators, pools, workers};
use tokio_postgres::Client;

use super::Keeping;
use crate::support::cluster::Scratch;

/// Rows as a large fleet has them: more than enough that to look at each costs more than any index. Of each filter there is a
/// value that few rows have, so that its index is the way to them; [`Asked::ways`] names it.
const FILL: &str = "
    insert into workers_1.worker
    select 'w' || n, 'pool-' || n % 400, 'name-' || n % 5000, jsonb_build_object('site', 'site-' || n % 400),
           case when n % 800 < 4 then (array['pending', 'isolated', 'rejected', 'removed'])[1 + n % 800]
                else 'active' end,
           case when n % 1600 = 1 then now() + n * interval '1 second' end,
           case when n % 800 = 5 then now() - n * interval '1 second'
                when n % 5 = 0 then now() + n * interval '1 minute' end,
           n % 800 not in (2, 3), now(), n, null, '{}', '{}', false
      from generate_series(1, 40000) n;
    insert into keys_1.key
    select lpad(n::text, 22, '0'), 1000 + n, case when n % 400 = 3 then 'static_secret' else 'api_key' end, 'w' || n / 2,
           case when n % 500 = 0 then array['w' || n / 2, 'w' || n] end,
           case when n % 3 = 0 then 'secret-' || n % 7 end,
           case when n % 500 = 0 then array['secret-' || n % 7, null] end, case when n % 1000 = 0 then 'op' || n end,
           'pool-' || n % 400,
           case when n % 400 = 1 then 'revoked' when n % 400 = 2 then 'superseded' else 'live' end, null, null,
           case when n % 800 = 5 then now() - n * interval '1 second'
                when n % 4 = 0 then now() + n * interval '1 minute' end, now(), null, false, n % 500 = 0
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

/// What is asked, and by which indexes it may go.
struct Asked {
    name: String,
    question: Question,
    /// Of each filter that few rows pass: the indexes that lead to them. One of these has to be the way; where there is none,
    /// any index is.
    ways: Vec<&'static [&'static str]>,
}

fn asked(name: impl Into<String>, question: Question) -> Asked {
    Asked { name: name.into(), question, ways: Vec::new() }
}

/// Every combination of filters, on the first page and on one further on.
fn questions() -> Vec<Asked> {
    let mut all = Vec::new();
    for further in [false, true] {
        let made_id = || further.then(|| "0000000000000000000005".parse().unwrap());
        all.push(asked("pools", pools::list(further.then(|| "pool-5".to_owned()), 100)));
        all.push(asked("enrollment secrets", enrollment_secrets::list(made_id(), 100)));
        let operator = further.then(|| "0000000000000000000005".parse().unwrap());
        all.push(asked("operators", operators::list(operator, 100)));
        let scope = further.then(|| "worker:w5".parse().unwrap());
        all.push(asked("fences", fences::list(scope.as_ref(), 100)));
        all.extend(of_workers(further));
        all.extend(of_keys(further));
    }
    all
}

fn of_workers(further: bool) -> impl Iterator<Item = Asked> {
    let states = Standing::ALL.into_iter().map(Some).chain([None]);
    states.flat_map(|state| (0..8).map(move |bits| (state, bits))).map(move |(state, bits)| {
        let filter = workers::Filter {
            after: further.then(|| "w5".to_owned()),
            pool: (bits & 1 != 0).then(|| "pool-7".parse().unwrap()),
            labels: (bits & 2 != 0).then(|| ("site".to_owned(), "site-9".to_owned())).into_iter().collect(),
            name: (bits & 4 != 0).then(|| "name-77".to_owned()),
            state,
        };
        let of_state: Option<&[&str]> = match state {
            None | Some(Standing::Active) => None,
            Some(Standing::Expired) => Some(&["worker_expires_at"]),
            Some(_) => Some(&["worker_state"]),
        };
        let ways = [
            filter.pool.as_ref().map(|_| -> &[&str] { &["worker_pool"] }),
            (!filter.labels.is_empty()).then_some(&["worker_labels"]),
            filter.name.as_ref().map(|_| -> &[&str] { &["worker_name"] }),
            of_state,
        ];
        let ways = ways.into_iter().flatten().collect();
        Asked { name: format!("{filter:?}"), question: workers::list(&filter, mint::now(), 100), ways }
    })
}

fn of_keys(further: bool) -> impl Iterator<Item = Asked> {
    let states = KeyStanding::ALL.into_iter().map(Some).chain([None]);
    states.flat_map(|state| (0..48).map(move |bits| (state, bits))).map(move |(state, bits)| {
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
        let of_state: Option<&[&str]> = match state {
            Some(KeyStanding::Expired) => Some(&["key_ends_at"]),
            Some(KeyStanding::Revoked | KeyStanding::Overlapping) => Some(&["key_state"]),
            _ => None,
        };
        let ways = [
            // Its own, and those that it has with others.
            filter.worker.as_ref().map(|_| -> &[&str] { &["key_worker", "key_sharers"] }),
            filter.shared.then_some(&["key_shared"]),
            filter.pool.as_ref().map(|_| -> &[&str] { &["key_pool"] }),
            filter.operator.as_ref().map(|_| -> &[&str] { &["key_operator"] }),
            (filter.kind == Some(KeyKind::Static)).then_some(&["key_kind"]),
            of_state,
        ];
        let mut ways: Vec<&[&str]> = ways.into_iter().flatten().collect();
        if bits == 0 && state.is_none() {
            ways.push(&["key_issued"]);
        }
        Asked { name: format!("{filter:?}"), question: keys::list(&filter, mint::now(), 100), ways }
    })
}

impl Asked {
    /// The plan, where it does not go by an index that it should.
    async fn astray(&self, client: &Client) -> Option<String> {
        let plan = plan(client, &self.question).await;
        // The few fences that stand are read as a whole.
        let scans = plan.replace("Seq Scan on floor", "");
        // That others of a worker's name are counted by an index is no way to the worker.
        let lists = plan.replace("worker_name on worker namesake", "");
        let uses =
            |index: &&str| lists.contains(&format!("{index} on ")) || lists.contains(&format!("Scan on {index} "));
        let on_its_way = self.ways.is_empty() || self.ways.iter().any(|way| way.iter().all(uses));
        (!plan.contains("Index") || scans.contains("Seq Scan") || !on_its_way).then_some(plan)
    }
}

async fn plan(client: &Client, question: &Question) -> String {
    let schema = question.projection().schema();
    client.batch_execute(&format!("set search_path to {schema}")).await.unwrap();
    let statement = format!("explain {}", question.statement());
    let rows = client.query(&statement, &question.parameters()).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_combination_of_filters_goes_by_an_index_and_every_index_is_needed_for_that() {
    let scratch = Scratch::new().await;
    let keeping = Keeping::start(&scratch).await;
    keeping.node.bootstrap().await;
    keeping.caught_up().await;
    let client = scratch.superuser().await;
    client.batch_execute(FILL).await.unwrap();
    client.batch_execute(&format!("begin; {SETTINGS}")).await.unwrap();
    let questions = questions();
    assert_eq!(questions.len(), 2 * (4 + 7 * 8 + 6 * 48));
    for asked in &questions {
        let astray = asked.astray(&client).await;
        assert!(astray.is_none(), "{}:\n{}", asked.name, astray.unwrap_or_default());
    }
    // Without any one of them some question goes astray: so an index that is missing is seen here.
    let indexes = indexes(&client).await;
    assert!(indexes.len() >= 14, "{indexes:?}");
    for index in indexes {
        client.batch_execute(&format!("savepoint whole; drop index {index}")).await.unwrap();
        let mut needed = false;
        for asked in &questions {
            needed = needed || asked.astray(&client).await.is_some();
        }
        client.batch_execute("rollback to whole").await.unwrap();
        assert!(needed, "nothing that is asked needs {index}");
    }
}

/// Those that `indexes.sql` makes, of all projections.
async fn indexes(client: &Client) -> Vec<String> {
    let question = "select indexrelid::regclass::text from pg_index
                     where not indisunique and indrelid in (
                               select oid from pg_class where relnamespace::regnamespace::text ~ '^[a-z_]+_[0-9]+$')
                       and indexrelid::regclass::text !~ 'pg_|^log\\.|^projection\\.'";
    client.query(question, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}
