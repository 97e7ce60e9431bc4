//! Backups that are right, or wrong, in ways that nothing shows but a look at the log itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::Ed25519KeyPair;
use portcullis::credential::root_key::RootKey;
use portcullis::log::seal::Frontier;
use portcullis::postgres::client_program;
use portcullis::postgres::embedded::{Settings, newest_programs};

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the log is up to a position, from the rows themselves: a digest over all, the last mac, and the Merkle root.
async fn history(database: &Scratch, end: u64) -> (String, String, String) {
    let rows = "select mac, leaf_hash, sha256(entry) as entry from log.event where position < $1 order by position";
    let rows = database.superuser().await.query(rows, &[&i64::try_from(end).unwrap()]).await.unwrap();
    assert_eq!(rows.len() as u64, end);
    let (mut frontier, mut all) = (Frontier::default(), Vec::new());
    for row in &rows {
        frontier.push(row.get::<_, &[u8]>("leaf_hash").try_into().unwrap());
        for column in ["mac", "entry"] {
            all.extend_from_slice(row.get::<_, &[u8]>(column));
        }
    }
    let mac = hex(rows.last().unwrap().get("mac"));
    (hex(digest(&SHA256, &all).as_ref()), mac, hex(&frontier.root()))
}

/// Writes until it is told to stop; where the newest change is that was acknowledged.
struct Writers {
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn start(service: &Arc<Service>) -> Self {
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let write = |writer: u32| {
            let (service, acknowledged, stop) = (service.clone(), acknowledged.clone(), stop.clone());
            tokio::spawn(async move {
                for number in 0_u32.. {
                    let body = json!({ "id": format!("w-{writer}-{number}") });
                    let answer = service.post("/v1/workers", body).await;
                    assert_eq!(answer.status, 201, "{answer:?}");
                    acknowledged.fetch_max(answer.position(), Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                }
            })
        };
        let tasks = (0..4).map(write).collect();
        Self { acknowledged, stop, tasks }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// A backup is of one moment, whoever writes meanwhile: it has what was acknowledged before it, and is restored to the very end
/// that it states.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_taken_while_others_write_is_of_one_moment() {
    let scratch = Scratch::new().await;
    let service = Arc::new(Service::start(&scratch).await);
    let folder = TempDir::new().unwrap();
    let writers = Writers::start(&service);
    let mut taken = Vec::new();
    for number in 0..3 {
        service.until("somebody writes", async || writers.acknowledged() > 20 * (number + 1)).await;
        let (file, before) = (folder.path().join(format!("{number}.backup")), writers.acknowledged());
        let statement = tokio::task::block_in_place(|| done(&backup(&scratch, service.data_dir(), &file)));
        let end = statement["next_position"].as_u64().unwrap();
        assert!(end > before, "what was acknowledged before is in it");
        let after = || writers.acknowledged() > end;
        service.until("it was written meanwhile, and after", async || after()).await;
        taken.push((file, statement, end));
    }
    writers.stop().await;
    for (file, statement, end) in taken {
        let machine = TempDir::new().unwrap();
        fs::copy(service.file("root.key"), machine.path().join("root.key")).unwrap();
        let verified =
            done(&offline(machine.path(), &["backup", "verify", file.to_str().unwrap(), "--output", "json"]));
        assert_eq!(verified["dump_sha256"], statement["dump_sha256"]);
        let into = Scratch::unmigrated().await;
        done(&restore(&into, machine.path(), &file, &["--accept-lost-revocations", "unknown"]));
        let (there, restored) = (history(&scratch, end).await, history(&into, end).await);
        assert_eq!(restored, there, "byte for byte what was there");
        assert_eq!((&json!(restored.1), &json!(restored.2)), (&statement["mac"], &statement["merkle_root"]));
        let next = "select kind from log.event where position = $1";
        let next = into.superuser().await.query_one(next, &[&i64::try_from(end).unwrap()]).await.unwrap();
        assert_ne!(next.get::<_, &str>("kind"), "worker.created", "nothing that came after the moment is in it");
    }
}

/// Nothing is left on the machine that has seen more, but a snapshot of the state.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_alone_is_witness_enough_that_something_is_lost() {
    let world = World::new().await;
    fs::remove_dir_all(world.service.file("mirror")).unwrap();
    fs::remove_file(world.service.file("log.seen")).unwrap();
    assert_eq!(fs::read_dir(world.service.file("snapshots")).unwrap().count(), 1);
    let known = next_position(&world.scratch.owner_url()).await;
    let into = Scratch::unmigrated().await;
    let events = done(&world.restore(&into, &["--dry-run"]))["events"].as_u64().unwrap();
    refused(&world.restore(&into, &[]), &format!("--accept-lost-revocations {events}-{}", known - 1));
    refused(&world.restore(&into, &["--accept-lost-revocations", "unknown"]), "nothing was changed");
    let client = connect(&into.owner_url()).await.unwrap();
    let there = "select count(*) from pg_namespace where nspname in ('log', 'portcullis_restore')";
    assert_eq!(client.query_one(there, &[]).await.unwrap().get::<_, i64>(0), 0);
    // Without it nobody knows of anything.
    fs::remove_dir_all(world.service.file("snapshots")).unwrap();
    done(&world.restore(&into, &["--accept-lost-revocations", "unknown"]));
}

/// A dump of the database as it is now, in an archive whose statement was signed with the root key and says what that of the
/// backup says. So much can only be made by whoever has the root key; the log's own seals are asked all the same.
async fn signed_anew(world: &World, out: &Path) {
    let programs = newest_programs(&Settings { binaries: None }).unwrap();
    let mut command = client_program(&programs.program("pg_dump"), &world.scratch.options()).unwrap();
    command.args(["--format=custom", "--no-password"]);
    let left_out = include_str!("../../../src/vault/backup/left_out.sql");
    for row in world.scratch.superuser().await.query(left_out, &[]).await.unwrap() {
        command.arg(format!("--{}={}", row.get::<_, &str>("option"), row.get::<_, &str>("name")));
    }
    let dumped = command.output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));

    let mut statement = Value::Null;
    let mut archive = tar::Archive::new(fs::File::open(world.backup()).unwrap());
    for entry in archive.entries().unwrap().map(Result::unwrap) {
        if entry.path().unwrap().ends_with("statement.json") {
            statement = serde_json::from_reader(entry).unwrap();
        }
    }
    statement["dump_bytes"] = json!(dumped.stdout.len());
    statement["dump_sha256"] = json!(hex(digest(&SHA256, &dumped.stdout).as_ref()));
    let statement = serde_json::to_vec_pretty(&statement).unwrap();
    let keys = RootKey::load(&world.service.file("root.key")).unwrap().derive();
    let signature = Ed25519KeyPair::from_seed_unchecked(keys.backup_signing()).unwrap().sign(&statement);
    let mut archive = tar::Builder::new(fs::File::create_new(out).unwrap());
    let parts = [
        ("portcullis.dump", &dumped.stdout[..]),
        ("statement.json", &statement),
        ("statement.sig", signature.as_ref()),
    ];
    for (name, content) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.finish().unwrap();
}

/// Rightly signed, and of a log that is not what it was: what counts is the chain, and not who vouches for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rightly_signed_backup_of_a_log_with_a_broken_chain_is_refused() {
    let world = World::new().await;
    // After the backup there is more, which belongs into none that states what this one does.
    let end = done(&world.restore(&Scratch::unmigrated().await, &["--dry-run"]))["events"].as_u64().unwrap();
    tamper(&world.scratch, &format!("delete from log.event where position >= {end}")).await;
    refit_head(&world.scratch).await;
    let sound = world.folder.path().join("sound.backup");
    signed_anew(&world, &sound).await;
    let edit = |from: &str, to: &str| {
        format!(
            "update log.event set entry = convert_to(replace(convert_from(entry, 'UTF8'), '{from}', '{to}'), 'UTF8')
              where position = (select min(position) from log.event where subject_id = 'w-revoked')"
        )
    };
    tamper(&world.scratch, &edit("w-revoked", "w-forgiven")).await;
    let edited = world.folder.path().join("edited.backup");
    signed_anew(&world, &edited).await;
    tamper(&world.scratch, &edit("w-forgiven", "w-revoked")).await;
    tamper(&world.scratch, &format!("delete from log.event where position = {}", end - 1)).await;
    refit_head(&world.scratch).await;
    let cut_off = world.folder.path().join("cut-off.backup");
    signed_anew(&world, &cut_off).await;

    let into = Scratch::unmigrated().await;
    let attempt = |file: &Path| restore(&into, world.service.data_dir(), file, &[]);
    for (file, why) in [(&edited, "position"), (&cut_off, "the log in it has another length")] {
        let ran = attempt(file);
        refused(&ran, why);
        // What came of the attempt is served by nobody.
        let said = Launch::on(&into).data_dir_of(&world.service).try_start().await.err().unwrap();
        assert!(said.contains("run `portcullis restore` again"), "{said}");
    }
    // And is in nobody's way: signed in the same manner, and sound, it is put in place.
    done(&attempt(&sound));
    let service = world.start_on(&into).await;
    assert_eq!(verdict(&service, &world.revoked).await, (false, "key_revoked".to_owned()));
}
