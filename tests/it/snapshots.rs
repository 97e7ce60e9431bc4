//! Starts from a snapshot: the same state, from a file that is believed only as far as the log agrees.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::log::{refit_head, tamper};
use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service};

/// A service that has two workers and has revoked the key of one; and that key, and the good one of the other.
async fn with_a_revoked_key(scratch: &Scratch) -> (Service, String, String) {
    let service = Service::start(scratch).await;
    let mut keys = Vec::new();
    for worker in ["w-1", "w-2"] {
        service.post("/v1/workers", json!({ "id": worker })).await.expect(201);
        keys.push(service.post(&format!("/v1/workers/{worker}/keys"), json!({})).await.expect(201));
    }
    let revoked = service.post(&format!("/v1/keys/{}/revoke", keys[0]["id"].as_str().unwrap()), json!({})).await;
    assert!(revoked.status.is_success(), "{revoked:?}");
    let text = |key: &serde_json::Value| key["key"].as_str().unwrap().to_owned();
    (service, text(&keys[0]), text(&keys[1]))
}

async fn again(scratch: &Scratch, before: &Service) -> Service {
    Launch::on(scratch).data_dir_of(before).start().await
}

async fn accepts(service: &Service, credential: &str) -> bool {
    let verdict = service.post("/v1/validate", json!({ "credential": credential })).await.expect(200);
    verdict["active"].as_bool().unwrap()
}

/// Newest first.
fn snapshots(service: &Service) -> Vec<PathBuf> {
    let entries = fs::read_dir(service.file("snapshots")).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found.reverse();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_goes_on_from_what_it_kept_when_it_stopped() {
    let scratch = Scratch::new().await;
    let (mut service, revoked, good) = with_a_revoked_key(&scratch).await;
    let pools = service.get("/v1/pools").await.expect(200);
    assert!(service.stop());
    assert_eq!(snapshots(&service).len(), 1);

    let mut resumed = again(&scratch, &service).await;
    assert!(resumed.log().contains("read a snapshot"), "{}", resumed.log());
    assert!(!accepts(&resumed, &revoked).await && accepts(&resumed, &good).await);
    assert_eq!(resumed.get("/v1/pools").await.expect(200), pools);
    resumed.until("the rest of the log is checked", async || resumed.log().contains("it is whole")).await;
    resumed.post("/v1/workers", json!({ "id": "w-3" })).await.expect(201);
    // Killed, it leaves no newer one: the tail is read from the log.
    resumed.kill();
    let resumed = again(&scratch, &resumed).await;
    resumed.get("/v1/workers/w-3").await.expect(200);
    assert_eq!(snapshots(&resumed).len(), 1);
}

/// Told to stop, and killed at some moment of that: before the snapshot, in the middle, or after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_while_it_writes_a_snapshot_starts_again() {
    let scratch = Scratch::new().await;
    let (mut service, revoked, good) = with_a_revoked_key(&scratch).await;
    for round in 0..6_u64 {
        service.post("/v1/workers", json!({ "id": format!("round-{round}") })).await.expect(201);
        let pid = Pid::from_raw(i32::try_from(service.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..60))).await;
        service.kill();
        // What a kill in the middle leaves for certain.
        fs::create_dir_all(service.file("snapshots")).unwrap();
        fs::write(service.file("snapshots/00000000000000000999.roll.new"), "portcullis roll\nhalf").unwrap();

        service = again(&scratch, &service).await;
        assert!(!accepts(&service, &revoked).await && accepts(&service, &good).await);
        service.get(&format!("/v1/workers/round-{round}")).await.expect(200);
        assert!(!service.log().contains("a snapshot is ignored"), "{}", service.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_ignored_with_a_warning() {
    let scratch = Scratch::new().await;
    let (mut service, revoked, good) = with_a_revoked_key(&scratch).await;
    assert!(service.stop());
    let path = &snapshots(&service)[0];
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    let service = again(&scratch, &service).await;
    assert!(service.log().contains("a snapshot is ignored"), "{}", service.log());
    assert!(!accepts(&service, &revoked).await && accepts(&service, &good).await);
}

/// H19: `log.seen` is gone, as after a crash at the wrong moment, and the snapshot still knows more than the database.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_ends_before_the_snapshot_is_refused() {
    let scratch = Scratch::new().await;
    let (mut service, revoked, _) = with_a_revoked_key(&scratch).await;
    assert!(service.stop());
    fs::remove_file(service.file("log.seen")).unwrap();
    tamper(
        &scratch,
        "delete from log.event where position >= (select position from log.event where kind = 'key.revoked')",
    )
    .await;
    refit_head(&scratch).await;

    let launch = || Launch::on(&scratch).data_dir_of(&service);
    let log = launch().try_start().await.err().unwrap();
    assert!(log.contains("an older database was put in its place") && log.contains("snapshots"), "{log}");
    // Whoever means it says so; and what was revoked in what is missing works again, as they were told.
    fs::remove_dir_all(service.file("snapshots")).unwrap();
    fs::remove_dir_all(service.file("mirror")).unwrap();
    assert!(accepts(&launch().start().await, &revoked).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_another_event_where_the_snapshot_ends_is_refused() {
    let scratch = Scratch::new().await;
    let (mut service, ..) = with_a_revoked_key(&scratch).await;
    assert!(service.stop());
    fs::remove_file(service.file("log.seen")).unwrap();
    let last = "position = (select max(position) from log.event)";
    tamper(&scratch, &format!("update log.event set mac = decode(repeat('00', 32), 'hex') where {last}")).await;
    let log = Launch::on(&scratch).data_dir_of(&service).try_start().await.err().unwrap();
    assert!(log.contains("another was put in its place"), "{log}");
}

/// What a start from a snapshot does not read is read afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_changed_before_the_snapshot_stops_the_node_later() {
    let scratch = Scratch::new().await;
    let (mut service, ..) = with_a_revoked_key(&scratch).await;
    assert!(service.stop());
    tamper(&scratch, "update log.event set actor = 'operator:nobody' where position = 3").await;
    let mut service = again(&scratch, &service).await;
    let ready = async |service: &Service| service.send(service.request(Method::GET, "/readyz")).await;
    service.until("it stops", async || ready(&service).await.status == 503).await;
    let answer = ready(&service).await;
    assert_eq!(answer.problem(503), "stopped");
    assert!(answer.text.contains("position 3"), "{}", answer.text);
    // From the snapshot it would serve until that is found again.
    service.stop();
    let log = Launch::on(&scratch).data_dir_of(&service).try_start().await.err().unwrap();
    assert!(log.contains("position 3"), "{log}");
}
