//! The same over HTTP and by the command line, with real services.

use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::cluster::{Scratch, shared_socket};
use crate::support::links::{Link as LinkOf, Links};
use crate::support::program;
use crate::support::service::{Launch, Service, program as binary};

/// Two services on one log: the second with the first one's root key, and asked with its token.
async fn pair(scratch: &Scratch) -> (Service, Service) {
    let first = Launch::on(scratch).argument("--node-name", "gate-1").argument("--max-stale", "2s").start().await;
    let second = Launch::on(scratch)
        .argument("--node-name", "gate-2")
        .argument("--max-stale", "2s")
        .argument("--root-key-file", first.file("root.key").to_str().unwrap());
    let mut second = second.start().await;
    second.token.clone_from(&first.token);
    (first, second)
}

/// A worker's key: its id, and what is presented.
async fn key(service: &Service) -> (String, String) {
    let worker = service.post("/v1/workers", json!({})).await.expect(201);
    let path = format!("/v1/workers/{}/keys", worker["id"].as_str().unwrap());
    let key = service.post(&path, json!({})).await.expect(201);
    (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned())
}

async fn verdict(service: &Service, credential: &str) -> Value {
    service.post("/v1/validate", json!({ "credential": credential })).await.expect(200)["reason"].clone()
}

fn signal(service: &Service, signal: Signal) {
    kill_process(Pid::from_raw(service.pid().cast_signed()).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_waits_names_the_nodes_and_is_recorded() {
    let scratch = Scratch::new().await;
    let (mut first, mut second) = pair(&scratch).await;
    let (id, credential) = key(&first).await;
    let made = first.get(&format!("/v1/keys/{id}")).await.position();
    let seen = second.get(&format!("/v1/keys/{id}?at_least={made}")).await.expect(200);
    assert_eq!(seen["id"], *id, "a read that names the position sees what was written there");
    assert_eq!(verdict(&second, &credential).await, "ok");

    let revoked = first.post(&format!("/v1/keys/{id}/revoke?wait=everywhere"), json!({})).await;
    let position = revoked.position();
    let in_force = revoked.expect(200)["in_force"].clone();
    assert_eq!(in_force, json!({ "position": position, "confirmed": ["gate-1", "gate-2"], "waited_out": [] }));
    assert_eq!(verdict(&second, &credential).await, "key_revoked");

    let path = format!("/v1/in-force/{position}");
    first.until("the moment is recorded", async || !second.get(&path).await.json()["at"].is_null()).await;
    let record = second.get(&path).await.expect(200);
    assert_eq!((&record["in_force"], &record["confirmed"]), (&json!(true), &json!(["gate-1", "gate-2"])));
    let recorded = record["recorded"].as_u64().unwrap();
    let event = first.get(&format!("/v1/events?from={recorded}&limit=1")).await.expect(200)["items"][0].clone();
    assert_eq!((&event["kind"], &event["occurred_at"]), (&json!("barrier.passed"), &record["at"]));

    let nodes = first.get("/v1/nodes").await.expect(200);
    let names: Vec<&Value> = nodes["items"].as_array().unwrap().iter().map(|node| &node["name"]).collect();
    assert_eq!(names, ["gate-1", "gate-2"]);
    assert!(second.stop());
    let left = first.get("/v1/nodes").await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1, "one that stops is not waited for: {left}");
    assert!(first.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_stopped_in_its_tracks_is_waited_out_and_wakes_up_refusing() {
    let scratch = Scratch::new().await;
    let (first, second) = pair(&scratch).await;
    let (id, credential) = key(&first).await;
    let (_, other) = key(&first).await;
    let made = first.get("/v1/pools").await.position();
    second.get(&format!("/v1/pools?at_least={made}")).await.expect(200);
    assert_eq!(verdict(&second, &credential).await, "ok");

    signal(&second, Signal::STOP);
    let path = format!("/v1/keys/{id}/revoke?wait=everywhere");
    let asked = first.request(reqwest::Method::POST, &format!("{path}&timeout=0s")).json(&json!({}));
    let late = first.send(asked.bearer_auth(&first.token)).await;
    assert_eq!(late.problem(504), "not_in_force_everywhere", "{late:?}");
    assert!(late.text.contains("gate-2") && late.text.contains("/v1/in-force/"), "{late:?}");
    let revoked = first.post(&path, json!({})).await.expect(200);
    assert_eq!(revoked["in_force"]["waited_out"], json!(["gate-2"]), "{revoked}");
    assert_eq!(revoked["changed"], false, "it was done the first time");

    signal(&second, Signal::CONT);
    let answers = async |credential: &str| {
        let body = json!({ "credential": credential });
        second.post("/v1/validate", body).await
    };
    // The first answers of a node that has just woken: whatever they are, never that the key is good.
    for _ in 0..20 {
        let answer = answers(&credential).await;
        assert!(answer.status == 503 || answer.json()["reason"] == "key_revoked", "{answer:?}");
    }
    second.until("it has caught up", async || answers(&other).await.status == 200).await;
    assert_eq!(verdict(&second, &other).await, "ok");
    assert_eq!(verdict(&second, &credential).await, "key_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_or_read_is_said_in_time() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let newest = service.get("/v1/pools").await.position();
    let beyond = service.get(&format!("/v1/pools?at_least={}", newest + 1_000)).await;
    assert_eq!(beyond.problem(504), "position_not_reached");
    assert!(beyond.text.contains(&newest.to_string()), "it says what it has: {beyond:?}");
    for wrong in ["/v1/pools?at_least=soon", "/v1/pools?wait=everywhere", "/v1/in-force/soon"] {
        assert_eq!(service.get(wrong).await.problem(400), "invalid", "{wrong}");
    }
    assert_eq!(service.get(&format!("/v1/in-force/{}", newest + 1_000)).await.problem(404), "not_found");
    let wrong = service.post("/v1/workers/w/isolate?wait=nowhere", json!({})).await;
    assert_eq!(wrong.problem(400), "invalid");
}

/// Behind a load balancer the next page may be asked of a node that has not heard of the last key of the page before.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_after_a_key_that_a_node_has_not_heard_of_comes_when_it_has() {
    let scratch = Scratch::new().await;
    let links = Links::start(shared_socket()).await;
    let first = Service::start(&scratch).await;
    let behind = Launch::on_urls(&scratch.url_on(links.port), &scratch.owner_url()).argument("--max-stale", "60s");
    let mut behind = behind.argument("--root-key-file", first.file("root.key").to_str().unwrap()).start().await;
    behind.token.clone_from(&first.token);
    links.freeze(LinkOf::Writer, true);
    let (id, _) = key(&first).await;
    let next = format!("/v1/keys?cursor={id}");
    assert_eq!(behind.get(&next).await.problem(504), "position_not_reached");
    let (page, ()) = tokio::join!(behind.get(&next), async { links.freeze(LinkOf::Writer, false) });
    assert_eq!(page.expect(200)["items"], json!([]));
    let nobody = "0000000000000000000005";
    assert_eq!(behind.get(&format!("/v1/keys?cursor={nobody}")).await.problem(404), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_nodes_as_they_confirm() {
    let scratch = Scratch::new().await;
    let (first, second) = pair(&scratch).await;
    let (id, _) = key(&first).await;
    let run = |line: String| {
        let mut command = Command::new(binary());
        command.args(line.split_whitespace()).env_clear().env("PORTCULLIS_URL", &first.url);
        command.env("PORTCULLIS_DATA_DIR", first.data_dir());
        tokio::task::spawn_blocking(move || program::run(command, "", Duration::from_secs(60)))
    };
    let revoked = run(format!("key revoke {id} --yes --wait")).await.unwrap();
    assert!(revoked.stderr.contains("gate-1 has it") && revoked.stderr.contains("gate-2 has it"), "{}", revoked.stderr);
    assert!(revoked.stderr.contains("In force on every node."), "{}", revoked.stderr);
    let position = first.get("/v1/pools").await.position();
    let shown = run(format!("node in-force {position} --wait --output json")).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&shown.stdout).unwrap()["position"], position, "{}", shown.stdout);

    signal(&second, Signal::STOP);
    let isolated = run("worker create --id w --wait --wait-timeout 20s".to_owned()).await.unwrap();
    signal(&second, Signal::CONT);
    assert!(isolated.stderr.contains("gate-2 did not answer and was waited out"), "{}", isolated.stderr);
    let listed = run("node list".to_owned()).await.unwrap();
    assert!(listed.stdout.contains("gate-1") && listed.stdout.contains("gate-2"), "{}", listed.stdout);
}
