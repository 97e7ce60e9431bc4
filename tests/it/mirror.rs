//! The mirror of the log: whole whatever is killed, behind rather than in the way, and a witness of what the database had.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::log::{refit_head, tamper};
use crate::support::cluster::{Scratch, connect};
use crate::support::program::{Ran, run};
use crate::support::service::{Launch, Service, program};

/// Runs a command that works without a service, on the data directory given.
pub(crate) fn offline(data_dir: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program());
    command.args(arguments).env("PORTCULLIS_DATA_DIR", data_dir);
    run(command, "", Duration::from_secs(100))
}

/// What `mirror verify` finds.
pub(crate) fn verified(data_dir: &Path) -> Value {
    let ran = offline(data_dir, &["mirror", "verify", "--output", "json"]);
    assert!(ran.success, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

async fn next_position(scratch: &Scratch) -> u64 {
    let client = connect(&scratch.owner_url()).await.unwrap();
    let next: i64 = client.query_one("select next_position from log.head", &[]).await.unwrap().get(0);
    u64::try_from(next).unwrap()
}

async fn ready(service: &Service) -> String {
    service.send(service.request(Method::GET, "/readyz")).await.text
}

/// Two nodes write, one is killed again and again; its mirror has everything, once, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_has_the_whole_log_whoever_wrote_it_and_whoever_was_killed() {
    let scratch = Scratch::new().await;
    let mut one = Service::start(&scratch).await;
    let root_key = one.file("root.key");
    let other = Launch::on(&scratch).argument("--root-key-file", root_key.to_str().unwrap());
    let mut other = other.start().await;
    other.token.clone_from(&one.token);
    for round in 0..4_u64 {
        let writes = (0..30).map(|number| {
            let by = if number % 3 == 0 { &other } else { &one };
            async move { by.post("/v1/workers", json!({ "id": format!("w-{round}-{number}") })).await.expect(201) }
        });
        futures_util::future::join_all(writes).await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..40))).await;
        one.kill();
        one = Launch::on(&scratch).data_dir_of(&one).start().await;
    }
    assert!(one.stop() && other.stop());
    let events = next_position(&scratch).await;
    let found = verified(one.data_dir());
    let key = ["mirror", "verify", "--output", "json", "--root-key-file", root_key.to_str().unwrap()];
    let of_other: Value = serde_json::from_str(&offline(other.data_dir(), &key).stdout).unwrap();
    assert_eq!((&found["from"], &found["events"]), (&json!(0), &of_other["events"]));
    assert_eq!(found["events"], json!(events), "{found}");
    assert_eq!(found["torn_bytes"], 0);
}

/// What a node appends goes to its mirror by itself: it is there even where the database can never be read again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_appends_is_in_its_mirror_without_being_read_from_the_log() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "before" })).await.expect(201);
    service
        .until("the mirror has it", async || service.get("/metrics").await.text.contains("portcullis_mirror_lag 0\n"))
        .await;
    let revoke = "revoke select on log.event from portcullis_service";
    scratch.superuser().await.batch_execute(revoke).await.unwrap();
    let created = service.post("/v1/workers", json!({ "id": "after" })).await;
    assert_eq!(created.status, 201, "{created:?}");
    let events = next_position(&scratch).await;
    let mirrored = async || service.get("/metrics").await.text.contains("portcullis_mirror_lag 0\n");
    service.until("the mirror has it", mirrored).await;
    service.kill();
    assert_eq!(verified(service.data_dir())["events"], json!(events));
}

/// H19, with nothing but the mirror to tell: `log.seen` and the snapshots are gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_ends_before_the_mirror_is_refused() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    assert!(service.stop());
    fs::remove_file(service.file("log.seen")).unwrap();
    fs::remove_dir_all(service.file("snapshots")).unwrap();
    tamper(&scratch, "delete from log.event where position = (select max(position) from log.event)").await;
    refit_head(&scratch).await;
    let said = Launch::on(&scratch).data_dir_of(&service).try_start().await.err().unwrap();
    assert!(said.contains("an older database was put in its place") && said.contains("portcullis restore"), "{said}");
}

/// The disk of the mirror is full: validation and commands go on, `/readyz` and the metric say so, and it catches up.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_cannot_be_written_is_in_nobodys_way_and_catches_up() {
    let scratch = Scratch::new().await;
    let launch = Launch::on(&scratch);
    let folder = launch.data_dir().join("mirror");
    fs::create_dir(&folder).unwrap();
    let full = folder.join(format!("{:020}.draft", 0));
    symlink("/dev/full", &full).unwrap();
    let mut service = launch.start().await;
    service.until("it says so", async || ready(&service).await.contains("cannot be written")).await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    let key = service.post("/v1/workers/w/keys", json!({})).await.expect(201);
    let verdict = service.post("/v1/validate", json!({ "credential": key["key"] })).await.expect(200);
    assert_eq!(verdict["active"], true);
    let metrics = service.get("/metrics").await.text;
    let lag = metrics.lines().find_map(|line| line.strip_prefix("portcullis_mirror_lag ")).expect("the metric");
    assert!(lag.parse::<u64>().unwrap() >= 2, "{lag}");
    assert!(service.log().contains("No space left"), "{}", service.log());

    fs::remove_file(full).unwrap();
    service.until("it is written again", async || ready(&service).await == "ready\n").await;
    assert!(service.stop());
    assert_eq!(verified(service.data_dir())["events"], json!(next_position(&scratch).await));
}

/// A change is found with its position, and what was changed is put aside and made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_was_changed_is_told_with_the_position_and_made_anew() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    service.post("/v1/workers", json!({ "id": "victim" })).await.expect(201);
    assert!(service.stop());
    let segment = service.file(&format!("mirror/{:020}.segment", 0));
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"victim").unwrap();
    bytes[at] = b'V';
    fs::write(&segment, bytes).unwrap();
    let ran = offline(service.data_dir(), &["mirror", "verify"]);
    assert!(!ran.success && ran.stderr.contains("was changed at position"), "{}", ran.stderr);

    let mut service = Launch::on(&scratch).data_dir_of(&service).start().await;
    assert!(service.log().contains("the mirror was damaged"), "{}", service.log());
    assert!(service.stop());
    assert_eq!(verified(service.data_dir())["events"], json!(next_position(&scratch).await));
    assert!(fs::read_dir(service.file("mirror")).unwrap().count() > 1, "the damaged one is kept");
}

/// `--no-mirror` keeps none.
#[tokio::test(flavor = "multi_thread")]
async fn no_mirror_is_kept_where_none_is_wanted() {
    let scratch = Scratch::new().await;
    let mut service = Launch::on(&scratch).flag("--no-mirror").start().await;
    service.post("/v1/workers", json!({ "id": "w" })).await.expect(201);
    assert!(service.stop());
    assert!(!service.file("mirror").exists());
}
