//! A rebuild shows how far it is: over HTTP, and on a terminal.

use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::cluster::Scratch;
use crate::support::service::{Service, program};

/// One more than the rows of a statement, which are told of at a time.
const WORKERS: u64 = 2_001;

/// Lets nothing be written to the rows that are being made, once what is being written is there.
async fn hold(client: &Client) {
    client.batch_execute("begin; lock table workers_1_next.worker in share mode").await.unwrap();
}

async fn rebuild(service: &Service) -> Value {
    service.get("/v1/projections/workers").await.expect(200)["rebuild"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_shows_how_far_it_is() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let make = |number: u64| {
        let worker = json!({ "id": format!("w-{number}") });
        let service = &service;
        async move { service.post("/v1/workers", worker).await.expect(201) }
    };
    futures_util::stream::iter((0..WORKERS).map(make)).buffer_unordered(64).collect::<Vec<Value>>().await;
    let client = scratch.superuser().await;

    // On a terminal, or it would show nothing.
    let mut terminal = Command::new("script");
    let line = format!("{} projection rebuild workers", program().display());
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    terminal.env("PORTCULLIS_URL", &service.url).env("PORTCULLIS_DATA_DIR", service.data_dir()).env("TERM", "xterm");
    let terminal = terminal.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = "select to_regclass('workers_1_next.worker') is not null";
    while !client.query_one(begun, &[]).await.unwrap().get::<_, bool>(0) {}
    // Whoever waits for a lock gets it in its turn: between two attempts one statement is carried out at the most.
    let mut written = 0;
    while written == 0 {
        hold(&client).await;
        let rows = "select count(*) from workers_1_next.worker";
        written = client.query_one(rows, &[]).await.unwrap().get::<_, i64>(0).unsigned_abs();
        service.until("it says how far it is", async || rebuild(&service).await["rows_done"] == written).await;
        service.until("and how far there is to go", async || rebuild(&service).await["rows_total"] == WORKERS).await;
        assert_eq!(rebuild(&service).await["state"], "running");
        if written > 0 {
            // Until the terminal has drawn it.
            tokio::time::sleep(Duration::from_millis(800)).await;
        }
        client.batch_execute("commit").await.unwrap();
    }
    assert_eq!(written, 2_000, "some of its rows are there");
    let shown = tokio::task::spawn_blocking(|| terminal.wait_with_output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("rebuild workers") && text.contains("2,000/2,001 rows"), "{text}");
    let ended = rebuild(&service).await;
    assert_eq!((&ended["state"], &ended["rows_done"]), (&json!("done"), &json!(WORKERS)), "{ended}");
}
