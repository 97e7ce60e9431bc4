//! The private cluster of the embedded default: made, started, stopped, and recovered from what kills it.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use portcullis::postgres::Database;
use portcullis::postgres::embedded::{self, Account, Binaries, Cluster, EmbeddedError, Settings};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::schema::MIGRATIONS;
use crate::support::cluster::{connect, is_alive, postmaster};

async fn start(data_dir: &Path) -> Result<Cluster, EmbeddedError> {
    embedded::start(data_dir, &Settings::default(), embedded::lock(data_dir)?).await
}

fn running(data_dir: &Path) -> Pid {
    postmaster(&data_dir.join("postgres")).expect("Postgres runs")
}

/// A cluster with one row in the log, by which a later look sees that it is the same.
async fn start_with_a_row(data_dir: &Path) -> (Cluster, Database) {
    let cluster = start(data_dir).await.unwrap();
    let database = Database::open(cluster.options()).await.unwrap();
    assert_eq!(database.migrate().await.unwrap().applied, MIGRATIONS);
    let client = database.client().await.unwrap();
    client
        .batch_execute(
            "insert into log.genesis (log_id, root_key_check, created_at) values (gen_random_uuid(), '', now())",
        )
        .await
        .unwrap();
    drop(client);
    (cluster, database)
}

async fn rows(database: &Database) -> i64 {
    let client = database.client().await.unwrap();
    client.query_one("select count(*) from log.genesis", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn it_is_made_stopped_and_started_again() {
    let data = TempDir::new().unwrap();
    let (cluster, database) = start_with_a_row(data.path()).await;
    let pid = running(data.path());

    let process = std::fs::metadata(format!("/proc/{}", pid.as_raw_nonzero())).unwrap();
    assert_ne!(process.uid(), 0, "Postgres does not run as root");
    let mode = |name: &str| std::fs::metadata(data.path().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("postgres"), mode("run"), mode("postgres.log"), mode("lock")), (0o700, 0o700, 0o600, 0o600));

    let owner = connect(cluster.options().owner_url.unwrap().expose_secret()).await.unwrap();
    for (setting, value) in
        [("fsync", "on"), ("synchronous_commit", "on"), ("data_checksums", "on"), ("listen_addresses", "")]
    {
        let row = owner.query_one("select current_setting($1)", &[&setting]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), value, "{setting}");
    }

    // A second service is told who is there, and does no harm.
    let error = start(data.path()).await.err().unwrap();
    assert!(
        matches!(&error, EmbeddedError::InUse { pid: Some(holder), .. } if *holder == std::process::id()),
        "{error}"
    );
    assert_eq!(rows(&database).await, 1);
    // Not even where somebody has tidied the lock away: its Postgres would be taken for a leftover, and stopped.
    std::fs::remove_file(data.path().join("lock")).unwrap();
    let error = start(data.path()).await.err().unwrap();
    assert!(matches!(&error, EmbeddedError::InUse { pid: None, .. }), "{error}");
    assert!(is_alive(pid));

    drop((database, owner));
    cluster.stop().await.unwrap();
    assert!(!is_alive(pid));
    let cluster = start(data.path()).await.unwrap();
    assert_eq!(rows(&Database::open(cluster.options()).await.unwrap()).await, 1);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn killed_postgres_is_started_again() {
    let data = TempDir::new().unwrap();
    let (cluster, database) = start_with_a_row(data.path()).await;
    for socket_folder_too in [false, true] {
        let killed = running(data.path());
        if socket_folder_too {
            std::fs::remove_dir_all(data.path().join("run")).unwrap();
        }
        kill_process(killed, Signal::KILL).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if postmaster(&data.path().join("postgres")).is_some_and(|pid| pid != killed)
                && database.client().await.is_ok()
            {
                break;
            }
            assert!(Instant::now() < deadline, "Postgres is not started again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(rows(&database).await, 1);
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_killed_service_left_behind_is_stopped() {
    let data = TempDir::new().unwrap();
    let (cluster, _) = start_with_a_row(data.path()).await;
    cluster.stop().await.unwrap();

    let folder = data.path().canonicalize().unwrap();
    let account = Account::choose(&folder.join("postgres")).unwrap();
    let binaries = Binaries::find(None, None).unwrap();
    let sockets = TempDir::new().unwrap();
    account.own(sockets.path()).unwrap();
    let mut leftover = account
        .command(binaries.program("postgres"))
        .arg("-D")
        .arg(folder.join("postgres"))
        .arg("-k")
        .arg(sockets.path())
        .args(["-c", "listen_addresses="])
        .spawn()
        .unwrap();
    let url = embedded::socket_url(sockets.path(), 5432, embedded::OWNER, embedded::DATABASE);
    let deadline = Instant::now() + Duration::from_secs(10);
    while connect(&url).await.is_err() {
        assert!(Instant::now() < deadline, "the leftover starts");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cluster = start(data.path()).await.unwrap();
    assert!(leftover.try_wait().unwrap().expect("the leftover was stopped").success());
    assert_eq!(rows(&Database::open(cluster.options()).await.unwrap()).await, 1);
    cluster.stop().await.unwrap();
}

/// The kernel tells Postgres when the thread that started it is gone: that is what `kill -9` of the service comes to.
#[test]
fn a_program_ends_with_the_thread_that_started_it() {
    let account = Account::choose(Path::new("/nonexistent")).unwrap();
    let start_and_end = move || {
        let child = account.command("sleep").arg("600").spawn().unwrap();
        let name = format!("/proc/{}/comm", child.id());
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_to_string(&name).unwrap().trim() != "sleep" {
            assert!(Instant::now() < deadline, "the program starts");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    };
    let mut child = std::thread::spawn(start_and_end).join().unwrap();
    assert!(!child.wait().unwrap().success());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_no_obstacle() {
    let data = TempDir::new().unwrap();
    let deep = data.path().join("a".repeat(120));
    let mode = |mode| std::fs::set_permissions(data.path(), Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    if rustix::process::geteuid().is_root() {
        let closed = start(&deep).await.err().unwrap();
        assert!(matches!(closed, EmbeddedError::Unreachable { .. }), "{closed}");
        assert!(closed.to_string().contains("Choose another --data-dir"), "{closed}");
    }
    mode(0o711);
    let (cluster, database) = start_with_a_row(&deep).await;
    assert_eq!(rows(&database).await, 1);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_not_ours_to_open_is_left_alone() {
    let data = TempDir::new().unwrap();
    let cluster = data.path().join("postgres");
    std::fs::create_dir(&cluster).unwrap();
    let error = start(data.path()).await.err().unwrap();
    assert!(matches!(error, EmbeddedError::NotACluster(_)), "{error}");
    std::fs::write(cluster.join("PG_VERSION"), "9\n").unwrap();
    let error = start(data.path()).await.err().unwrap();
    assert!(matches!(error, EmbeddedError::OtherVersion { cluster: 9, .. }), "{error}");
    assert_eq!(std::fs::read_dir(&cluster).unwrap().count(), 1);
}
