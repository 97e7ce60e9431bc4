//! Backups, and what comes of them: what was revoked after one stays revoked (H19, promise 9), or it is refused.

mod doubted;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::log::{refit_head, tamper};
use crate::mirror::{offline, verified};
use crate::support::cluster::{Scratch, connect};
use crate::support::program::Ran;
use crate::support::service::{Launch, Service, program};

/// A service with a backup, after which much was taken away, and much given.
struct World {
    scratch: Scratch,
    service: Service,
    folder: TempDir,
    /// A key that was revoked after the backup, one whose worker was isolated, and one that is good.
    revoked: String,
    isolated: String,
    good: String,
    /// One that a fence over its worker refuses.
    fenced: String,
    /// A key that was made after the backup.
    later: String,
    /// A token that was revoked after the backup, and one that was not.
    token_revoked: String,
    token_good: String,
}

async fn key_of(service: &Service, worker: &str) -> (String, String) {
    service.post("/v1/workers", json!({ "id": worker })).await.expect(201);
    let key = service.post(&format!("/v1/workers/{worker}/keys"), json!({})).await.expect(201);
    (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned())
}

async fn token_of(service: &Service, key: &str) -> String {
    let answer = service.post_as(key, "/v1/register", json!({})).await;
    assert!(answer.status.is_success(), "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// Whether it is accepted, and why not.
async fn verdict(service: &Service, credential: &str) -> (bool, String) {
    let verdict = service.post("/v1/validate", json!({ "credential": credential })).await.expect(200);
    (verdict["active"].as_bool().unwrap(), verdict["reason"].as_str().unwrap_or_default().to_owned())
}

async fn next_position(owner_url: &str) -> u64 {
    let client = connect(owner_url).await.unwrap();
    let next: i64 = client.query_one("select next_position from log.head", &[]).await.unwrap().get(0);
    u64::try_from(next).unwrap()
}

impl World {
    async fn new() -> Self {
        let scratch = Scratch::new().await;
        let mut service = Service::start(&scratch).await;
        let folder = TempDir::new().unwrap();
        let (revoked_id, revoked) = key_of(&service, "w-revoked").await;
        let (_, isolated) = key_of(&service, "w-isolated").await;
        let (_, good) = key_of(&service, "w-good").await;
        let (_, fenced) = key_of(&service, "w-fenced").await;
        let wish = json!({ "id": "lost", "title": "The disk is lost", "severity": "high" });
        service.post("/v1/incidents", wish).await.expect(201);
        let (token_revoked, token_good) = (token_of(&service, &good).await, token_of(&service, &good).await);
        let taken = backup(&scratch, service.data_dir(), &folder.path().join("gate.backup"));
        assert!(taken.success, "{}", taken.stderr);
        service.post(&format!("/v1/keys/{revoked_id}/revoke"), json!({})).await.expect(200);
        service.post("/v1/workers/w-isolated/isolate", json!({ "reason": "leaked" })).await.expect(200);
        service.post("/v1/fences", json!({ "scope": "worker:w-fenced" })).await.expect(200);
        let cut = service.post("/v1/compromised", json!({ "credential": token_revoked })).await;
        assert!(cut.status.is_success(), "{cut:?}");
        let (_, later) = key_of(&service, "w-later").await;
        assert!(service.stop());
        Self { scratch, service, folder, revoked, isolated, good, fenced, later, token_revoked, token_good }
    }

    fn backup(&self) -> PathBuf {
        self.folder.path().join("gate.backup")
    }

    /// Into this database, with the data directory of the service.
    fn restore(&self, into: &Scratch, more: &[&str]) -> Ran {
        restore(into, self.service.data_dir(), &self.backup(), more)
    }

    async fn start_on(&self, database: &Scratch) -> Service {
        let mut service = Launch::on(database).data_dir_of(&self.service).start().await;
        service.token.clone_from(&self.service.token);
        service
    }
}

fn on_database<'a>(scratch_urls: &'a (String, String), rest: &[&'a str]) -> Vec<&'a str> {
    let urls =
        ["--database-url", &scratch_urls.0, "--owner-database-url", &scratch_urls.1, "--allow-unsafe-durability"];
    rest.iter().copied().chain(urls).collect()
}

fn backup(of: &Scratch, data_dir: &Path, out: &Path) -> Ran {
    let urls = (of.url(), of.owner_url());
    offline(data_dir, &on_database(&urls, &["backup", "--output", "json", "--out", out.to_str().unwrap()]))
}

fn restore(into: &Scratch, data_dir: &Path, file: &Path, more: &[&str]) -> Ran {
    let urls = (into.url(), into.owner_url());
    let mut arguments = on_database(&urls, &["restore", file.to_str().unwrap(), "--output", "json"]);
    arguments.extend(["--reason", "the disk is lost"]);
    arguments.extend(more);
    offline(data_dir, &arguments)
}

fn adopt(database: &Scratch, data_dir: &Path) -> Ran {
    let urls = (database.url(), database.owner_url());
    offline(data_dir, &on_database(&urls, &["restore", "adopt", "--output", "json"]))
}

#[track_caller]
fn done(ran: &Ran) -> Value {
    assert!(ran.success, "{}\n{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}

#[track_caller]
fn refused(ran: &Ran, why: &str) {
    assert!(!ran.success && ran.stderr.contains(why), "not `{why}`:\n{}\n{}", ran.stdout, ran.stderr);
}

/// The promise: with the mirror, nothing at all is lost, and what every node remembers still holds.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_after_the_backup_stays_revoked_with_the_mirror() {
    let world = World::new().await;
    let known = next_position(&world.scratch.owner_url()).await;
    let into = Scratch::unmigrated().await;
    let foreseen = done(&world.restore(&into, &["--dry-run"]));
    assert_eq!(foreseen["lost"], Value::Null);
    let restored = done(&world.restore(&into, &["--incident", "lost"]));
    assert_eq!(restored["brought_back"], json!(known - foreseen["events"].as_u64().unwrap()));
    let kinds = &restored["kinds"];
    assert_eq!(
        (&kinds["key.revoked"], &kinds["worker.isolated"], &kinds["fence.raised"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(restored["kinds"], foreseen["kinds"]);
    assert_eq!(restored["position"], json!(known), "the log goes on where it was");

    // With log.seen, the snapshots and the mirror of before.
    let mut service = world.start_on(&into).await;
    assert_eq!(verdict(&service, &world.revoked).await, (false, "key_revoked".to_owned()));
    assert_eq!(verdict(&service, &world.isolated).await, (false, "worker_isolated".to_owned()));
    assert_eq!(verdict(&service, &world.fenced).await, (false, "fenced".to_owned()));
    assert!(!verdict(&service, &world.token_revoked).await.0);
    let checklist = service.get("/v1/incidents/lost").await.expect(200)["checklist"].clone();
    let step = checklist.as_array().unwrap().iter().find(|step| step["id"] == "restore").unwrap();
    assert_eq!((&step["state"], &step["position"]), (&json!("filled"), &json!(known)), "it is done for the incident");
    for good in [&world.good, &world.later, &world.token_good] {
        assert!(verdict(&service, good).await.0, "{:?}", verdict(&service, good).await);
    }
    let events = service.get("/v1/events?kind=log.restored").await.expect(200);
    let event = &events["items"][0];
    assert_eq!(event["reason"], "the disk is lost");
    assert_eq!(event["data"]["brought_back"], restored["brought_back"]);
    assert_eq!(event["data"]["reductions"], restored["reductions"]);
    assert!(event["data"]["given_up"].is_null(), "{event}");
    // Everything can be written and read as before, and the projections say what the log says.
    let verify = service.post("/v1/projections/keys/verify", json!({})).await;
    assert!(verify.status.is_success(), "{verify:?}");
    key_of(&service, "w-new").await;
    service.get("/v1/workers/w-later").await.expect(200);
    assert!(service.stop());
    assert_eq!(verified(service.data_dir())["events"], json!(next_position(&into.owner_url()).await));
}

/// The refusal: what this machine has seen is nowhere to be had. It is named, and has to be named back.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_mirror_it_is_refused_and_what_is_lost_has_to_be_named() {
    let world = World::new().await;
    fs::remove_dir_all(world.service.file("mirror")).unwrap();
    let known = next_position(&world.scratch.owner_url()).await;
    let into = Scratch::unmigrated().await;
    let events = done(&world.restore(&into, &["--dry-run"]))["events"].as_u64().unwrap();
    let lost = format!("{events}-{}", known - 1);
    refused(&world.restore(&into, &[]), &format!("--accept-lost-revocations {lost}"));
    refused(&world.restore(&into, &["--accept-lost-revocations", "unknown"]), "nothing was changed");
    refused(&world.restore(&into, &["--accept-lost-revocations", "0-1"]), "nothing was changed");
    let client = connect(&into.owner_url()).await.unwrap();
    let there = "select count(*) from pg_namespace where nspname in ('log', 'portcullis_restore')";
    assert_eq!(client.query_one(there, &[]).await.unwrap().get::<_, i64>(0), 0);

    let restored = done(&world.restore(&into, &["--accept-lost-revocations", &lost]));
    assert_eq!((&restored["lost"], &restored["brought_back"]), (&json!(lost), &json!(0)));
    let service = world.start_on(&into).await;
    // As it was said: what was revoked works again, what was made is unknown, and every token has ended.
    assert!(verdict(&service, &world.revoked).await.0);
    assert_eq!(verdict(&service, &world.later).await, (false, "key_unknown".to_owned()));
    for token in [&world.token_good, &world.token_revoked] {
        assert!(!verdict(&service, token).await.0);
    }
    let event = &service.get("/v1/events?kind=log.restored").await.expect(200)["items"][0];
    assert_eq!(event["data"]["given_up"]["known_to"], json!(known));
    assert!(verdict(&service, &token_of(&service, &world.good).await).await.0);
    // What it had seen is kept.
    let aside: Vec<_> = fs::read_dir(service.data_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(aside.iter().any(|name| name.to_string_lossy().starts_with("abandoned-")), "{aside:?}");
}

/// Nobody has seen anything, as on a new machine: then nobody can say that nothing was revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_has_seen_nothing_needs_a_mirror_or_a_word() {
    let world = World::new().await;
    let machine = TempDir::new().unwrap();
    fs::copy(world.service.file("root.key"), machine.path().join("root.key")).unwrap();
    let into = Scratch::unmigrated().await;
    let backup = world.backup();
    refused(&restore(&into, machine.path(), &backup, &[]), "--accept-lost-revocations unknown");
    let mirror = world.service.file("mirror");
    let restored = done(&restore(&into, machine.path(), &backup, &["--mirror", mirror.to_str().unwrap()]));
    assert_eq!(restored["lost"], Value::Null);
    // Who knows that the mirror had stood still says so: the tokens end, and other nodes can be told.
    let (third, other) = (TempDir::new().unwrap(), Scratch::unmigrated().await);
    fs::copy(world.service.file("root.key"), third.path().join("root.key")).unwrap();
    let stood_still = ["--mirror", mirror.to_str().unwrap(), "--accept-lost-revocations", "unknown"];
    let restored = done(&restore(&other, third.path(), &backup, &stood_still));
    assert_eq!((&restored["lost"], restored["ends_at"].is_string()), (&json!("unknown"), true));
    let service = world.start_on(&into).await;
    assert_eq!(verdict(&service, &world.revoked).await, (false, "key_revoked".to_owned()));
}

/// Another node has seen what was given up: it refuses until it is told, and believes only what the log says.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_seen_what_was_given_up_refuses_until_it_adopts_the_restore() {
    let world = World::new().await;
    let machine = TempDir::new().unwrap();
    fs::copy(world.service.file("root.key"), machine.path().join("root.key")).unwrap();
    let into = Scratch::unmigrated().await;
    let accepted = ["--accept-lost-revocations", "unknown"];
    done(&restore(&into, machine.path(), &world.backup(), &accepted));
    let launch = || Launch::on(&into).data_dir_of(&world.service);
    let said = launch().try_start().await.err().unwrap();
    assert!(said.contains("in its place") && said.contains("portcullis restore adopt"), "{said}");
    let urls = (into.url(), into.owner_url());
    let line = ["restore", "adopt", "--dry-run", "--output", "json"];
    let foreseen = done(&offline(world.service.data_dir(), &on_database(&urls, &line)));
    assert_eq!((&foreseen["dry_run"], &foreseen["put_aside"]), (&json!(true), &json!([])));
    let adopted = done(&adopt(&into, world.service.data_dir()));
    assert_eq!(adopted["parted"], foreseen["parted"]);
    assert_eq!(adopted["put_aside"].as_array().unwrap().len(), 2, "{adopted}");
    let mut service = launch().start().await;
    service.post("/v1/pools", json!({ "name": "later" })).await.expect(201);
    assert!(service.stop());
    assert_eq!(verified(service.data_dir())["events"], json!(next_position(&into.owner_url()).await));
    assert_eq!(done(&adopt(&into, service.data_dir()))["parted"], Value::Null);
    // A restore that it has seen explains nothing that is missing since.
    let last = "delete from log.event where position = (select max(position) from log.event)";
    crate::log::tamper(&into, last).await;
    crate::log::refit_head(&into).await;
    refused(&adopt(&into, service.data_dir()), "an older database was put in its place");
}

/// An older database that nobody has restored is adopted by nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_restore_explains_is_not_adopted() {
    let world = World::new().await;
    crate::log::tamper(
        &world.scratch,
        "delete from log.event where position >= (select position from log.event where kind = 'key.revoked')",
    )
    .await;
    crate::log::refit_head(&world.scratch).await;
    refused(&adopt(&world.scratch, world.service.data_dir()), "an older database was put in its place");
}

/// Each byte that counts: of the dump, the statement, the mirror. Nothing is put in place.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_is_refused() {
    let world = World::new().await;
    let into = Scratch::unmigrated().await;
    let whole = fs::read(world.backup()).unwrap();
    let statement = whole.windows(15).position(|window| window == b"\"next_position\"").unwrap();
    for (at, why) in [(4_000, "the digest of its dump"), (statement + 17, "the signature of its statement")] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(world.backup(), changed).unwrap();
        refused(&world.restore(&into, &[]), why);
        let ran = offline(world.service.data_dir(), &["backup", "verify", world.backup().to_str().unwrap()]);
        refused(&ran, why);
    }
    fs::write(world.backup(), &whole[..whole.len() / 2]).unwrap();
    refused(&world.restore(&into, &[]), "was changed");
    fs::write(world.backup(), &whole).unwrap();

    let segment = world.service.file(&format!("mirror/{:020}.segment", 0));
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(11).rposition(|window| window == b"key.revoked").unwrap();
    bytes[at] = b'K';
    fs::write(&segment, bytes).unwrap();
    refused(&world.restore(&into, &[]), "the mirror was changed at position");
    refused(&world.restore(&world.scratch, &["--dry-run"]), "the mirror was changed at position");
}

/// What no restore would believe is not backed up either.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_changed_or_has_gone_back_is_not_backed_up() {
    let world = World::new().await;
    let out = world.folder.path().join("second.backup");
    let attempt = || backup(&world.scratch, world.service.data_dir(), &out);
    tamper(&world.scratch, "update log.event set subject_id = 'w-good' where position = 3").await;
    refused(&attempt(), "position 3");
    let urls = (world.scratch.url(), world.scratch.owner_url());
    let dry = ["backup", "--dry-run", "--out", out.to_str().unwrap()];
    refused(&offline(world.service.data_dir(), &on_database(&urls, &dry)), "position 3");

    let world = World::new().await;
    tamper(&world.scratch, "delete from log.event where position = (select max(position) from log.event)").await;
    refit_head(&world.scratch).await;
    let attempt = || backup(&world.scratch, world.service.data_dir(), &out);
    refused(&attempt(), "an older database was put in its place");
    // A machine that has seen nothing of it can say nothing.
    let other = TempDir::new().unwrap();
    fs::copy(world.service.file("root.key"), other.path().join("root.key")).unwrap();
    done(&backup(&world.scratch, other.path(), &out));
}

/// What was left by one that was killed is written over; what others have put there is neither followed nor replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_writes_to_a_file_of_its_own_alone() {
    let world = World::new().await;
    let (folder, attempt) = (world.folder.path(), |out: &Path| backup(&world.scratch, world.service.data_dir(), out));
    fs::write(folder.join("victim"), "precious").unwrap();
    std::os::unix::fs::symlink(folder.join("victim"), folder.join("a.backup.part")).unwrap();
    let urls = (world.scratch.url(), world.scratch.owner_url());
    let dry = |out: &Path| {
        let line = ["backup", "--dry-run", "--output", "json", "--out", out.to_str().unwrap()];
        offline(world.service.data_dir(), &on_database(&urls, &line))
    };
    let foreseen = done(&dry(&folder.join("a.backup")));
    assert!(!folder.join("a.backup").exists() && folder.join("a.backup.part").is_symlink(), "nothing is written");
    let taken = done(&attempt(&folder.join("a.backup")));
    assert_eq!((&foreseen["dry_run"], &foreseen["next_position"]), (&json!(true), &taken["next_position"]));
    refused(&dry(&folder.join("a.backup")), "a.backup");
    assert_eq!(fs::read_to_string(folder.join("victim")).unwrap(), "precious");
    assert!(!folder.join("a.backup.part").exists());
    std::os::unix::fs::symlink(folder.join("nowhere"), folder.join("b.backup")).unwrap();
    refused(&attempt(&folder.join("b.backup")), "exists already");
}

/// Two at once would make a log of two.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_restore_into_the_same_database_waits_for_the_first() {
    let world = World::new().await;
    let into = Scratch::unmigrated().await;
    let first = connect(&into.owner_url()).await.unwrap();
    first.query_one("select pg_advisory_lock(x'726573746f7265'::bigint)", &[]).await.unwrap();
    refused(&world.restore(&into, &[]), "another restore works on this database");
    drop(first);
    done(&world.restore(&into, &[]));
}

/// One that is under way.
fn restoring(world: &World, into: &Scratch) -> Child {
    let (urls, backup) = ((into.url(), into.owner_url()), world.backup());
    let arguments = on_database(&urls, &["restore", "--reason", "a drill", backup.to_str().unwrap()]);
    let mut command = Command::new(program());
    command.args(arguments).env("PORTCULLIS_DATA_DIR", world.service.data_dir());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A database that holds something is not restored into, and a half-restored one is not served from.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_is_run_again_and_nothing_is_served_before() {
    let world = World::new().await;
    refused(&world.restore(&world.scratch, &[]), "the database is not empty");
    let into = Scratch::unmigrated().await;
    let client = connect(&into.owner_url()).await.unwrap();
    let is_marked = async || {
        let marked = "select exists (select from pg_namespace where nspname = 'portcullis_restore')";
        client.query_one(marked, &[]).await.unwrap().get::<_, bool>(0)
    };
    let mut half_done = 0;
    for milliseconds in [0, 50, 100, 200, 400] {
        let mut child = restoring(&world, &into);
        while child.try_wait().unwrap().is_none() && !is_marked().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        if is_marked().await {
            half_done += 1;
            let said = Launch::on(&into).data_dir_of(&world.service).try_start().await.err().unwrap();
            assert!(said.contains("run `portcullis restore` again"), "{said}");
        }
    }
    assert!(half_done > 0, "no attempt was caught in the middle");
    let ended = world.restore(&into, &[]);
    assert!(ended.success || ended.stderr.contains("not empty"), "{}", ended.stderr);
    let service = world.start_on(&into).await;
    assert_eq!(verdict(&service, &world.revoked).await, (false, "key_revoked".to_owned()));
}

/// The private cluster is gone altogether, and comes back from the backup and the mirror; the old one, where there is one, is
/// kept. The backup is taken beside the running service.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cluster_comes_back_from_the_backup_and_the_mirror() {
    let mut service = Launch::embedded().start().await;
    let folder = TempDir::new().unwrap();
    let (id, key) = key_of(&service, "w").await;
    let file = folder.path().join("gate.backup");
    let (data_dir, file) = (service.data_dir().to_owned(), file.to_str().unwrap().to_owned());
    let taken = done(&offline(&data_dir, &["backup", "--out", &file, "--output", "json"]));
    assert_eq!(taken["dump_sha256"].as_str().unwrap().len(), 64);
    refused(&offline(&data_dir, &["backup", "--out", &file]), "exists already");
    service.post(&format!("/v1/keys/{id}/revoke"), json!({})).await.expect(200);
    refused(&offline(&data_dir, &["restore", &file, "--reason", "r"]), "another portcullis");
    assert!(service.stop());
    let restored = done(&offline(&data_dir, &["restore", &file, "--reason", "a drill", "--output", "json"]));
    let before = restored["cluster_before"].as_str().unwrap();
    assert!(Path::new(before).join("PG_VERSION").exists());

    fs::remove_dir_all(data_dir.join("postgres")).unwrap();
    done(&offline(&data_dir, &["restore", &file, "--reason", "the cluster is gone", "--output", "json"]));
    let service = Launch::embedded().data_dir_of(&service).start().await;
    assert_eq!(verdict(&service, &key).await, (false, "key_revoked".to_owned()));
}
