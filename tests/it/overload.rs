//! More than there is room for: clients that do not read, a queue and a pool that are full. Each has its answer, and none of
//! them keeps anybody from validating.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::cluster::{Scratch, shared_socket};
use crate::support::service::{Answer, Launch, Service};
use crate::support::wire::{Mode, Wire};

/// For what has nothing to wait for; on a machine that does much else.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A service, and a credential that it takes.
async fn start(launch: Launch) -> (Service, Value) {
    let service = launch.flag("--disable-tls").start().await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    let key = service.post("/v1/workers/w/keys", json!({})).await.expect(201);
    (service, json!({ "credential": key["key"] }))
}

async fn validates(service: &Service, credential: &Value) {
    let began = Instant::now();
    assert_eq!(service.post("/v1/validate", credential.clone()).await.expect(200)["active"], true);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

/// With an Idempotency-Key that is the worker's name.
async fn create(service: &Service, worker: String) -> (String, Answer) {
    let request = service.request(Method::POST, "/v1/workers").bearer_auth(&service.token);
    let request = request.header("Idempotency-Key", &worker).json(&json!({ "id": worker }));
    let answer = service.send(request).await;
    (worker, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_full_says_so_at_once_and_leaves_nothing_half_done() {
    const COMMANDS: usize = 40;
    let scratch = Scratch::new().await;
    let (service, credential) = start(Launch::on(&scratch).argument("--queue-length", "4")).await;
    // Held by somebody else, the head's row lets nothing through.
    let blocker = scratch.superuser().await;
    blocker.batch_execute("begin; select * from log.head for update").await.unwrap();
    let asked = join_all((0..COMMANDS).map(|number| create(&service, format!("w-{number}"))));
    let meanwhile = async {
        for _ in 0..20 {
            validates(&service, &credential).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        blocker.batch_execute("rollback").await.unwrap();
    };
    let (answers, ()) = tokio::join!(asked, meanwhile);

    let (full, done): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, answer)| answer.status == 503);
    assert!(full.len() >= COMMANDS / 2 && !done.is_empty(), "{} of {COMMANDS} were refused", full.len());
    for (worker, answer) in &done {
        answer.expect(201);
        service.get(&format!("/v1/workers/{worker}")).await.expect(200);
    }
    for (worker, answer) in full {
        assert_eq!(answer.problem(503), "queue_full");
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(service.get(&format!("/v1/workers/{worker}")).await.status, 404, "nothing was changed");
        create(&service, worker).await.1.expect(201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_exhausted_refuses_reads_of_the_database_and_nothing_else() {
    let scratch = Scratch::new().await;
    // A lease that outlasts what blocks it.
    let launch = Launch::on(&scratch).argument("--database-pool-size", "2").argument("--max-stale", "60s");
    let (service, credential) = start(launch).await;
    let blocker = scratch.superuser().await;
    blocker.batch_execute("begin; lock table log.node in access exclusive mode").await.unwrap();
    let held = join_all((0..2).map(|_| service.get("/v1/nodes")));
    let meanwhile = async {
        let waiting = "select count(*) from pg_locks where relation = 'log.node'::regclass and not granted";
        let waits = async || scratch.superuser().await.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) >= 2;
        service.until("both connections are in use", waits).await;
        let refused = async {
            let refused = service.get("/v1/events").await;
            assert_eq!(refused.problem(503), "database_busy");
            assert_eq!(refused.headers["retry-after"], "1");
        };
        let goes_on = async {
            for number in 0..20 {
                validates(&service, &credential).await;
                create(&service, format!("w-{number}")).await.1.expect(201);
                service.get(&format!("/v1/workers/w-{number}")).await.expect(200);
            }
        };
        tokio::join!(refused, goes_on);
        blocker.batch_execute("rollback").await.unwrap();
    };
    let (held, ()) = tokio::join!(held, meanwhile);
    for answer in held {
        answer.expect(200);
    }
    service.get("/v1/events").await.expect(200);
}

/// A database that is gone takes all places of the pool too, by those who try to reach it.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_not_said_to_be_busy() {
    let scratch = Scratch::new().await;
    let wire = Wire::start(shared_socket()).await;
    let launch = Launch::on_urls(&scratch.url_on(wire.port), &scratch.owner_url());
    let launch = launch.argument("--database-pool-size", "2").argument("--database-connect-timeout", "1s");
    let (service, credential) = start(launch.argument("--max-stale", "60s")).await;
    service.get("/v1/events").await.expect(200);
    wire.set(Mode::Frozen);
    // More than come to their turn in the time that each waits.
    for answer in join_all((0..32).map(|_| service.get("/v1/events"))).await {
        assert_eq!(answer.problem(503), "log_unavailable");
    }
    validates(&service, &credential).await;
    wire.set(Mode::Open);
    service.until("it is back", async || service.get("/v1/events").await.status == 200).await;
}

/// Asks for many pages of events in one go, with room for a few packets of the answers.
async fn ask_for_much(service: &Service, times: usize) -> TcpStream {
    let address = service.url.strip_prefix("http://").unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let token = &service.token;
    let request =
        format!("GET /v1/events?limit=100 HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.repeat(times).as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_their_answers_hold_nothing_that_others_need() {
    const SILENT: usize = 48;
    const PAGES: usize = 200;
    let scratch = Scratch::new().await;
    let (service, credential) = start(Launch::on(&scratch).argument("--database-pool-size", "2")).await;
    join_all((0..100).map(|number| create(&service, format!("w-{number}")))).await;
    let page = service.get("/v1/events?limit=100").await.text;

    // Some never read; one reads a little at a time, and gets all that it asked for.
    let silent = join_all((0..SILENT).map(|_| ask_for_much(&service, PAGES))).await;
    let mut slow = ask_for_much(&service, 3).await;
    let reading = async {
        let (mut chunk, mut read) = (vec![0; 4 << 10], Vec::new());
        while read.windows(page.len()).filter(|some| *some == page.as_bytes()).count() < 3 {
            let length = tokio::time::timeout(AT_ONCE, slow.read(&mut chunk)).await.unwrap().unwrap();
            assert_ne!(length, 0, "the connection ended before its answers");
            read.extend_from_slice(&chunk[..length]);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let meanwhile = async {
        for number in 0..20 {
            let began = Instant::now();
            assert_eq!(service.get("/v1/events?limit=100").await.expect(200)["items"].as_array().unwrap().len(), 100);
            create(&service, format!("more-{number}")).await.1.expect(201);
            assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
            validates(&service, &credential).await;
        }
    };
    tokio::join!(reading, meanwhile);
    drop(silent);
}
