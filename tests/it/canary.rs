//! Promise 7: secrets are nowhere. Canaries go through every kind of request, right and wrong, and then they are looked
//! for wherever something could have been written down: the dump of the database, its files, the logs at their most
//! talkative, metrics, events, lists, problems, and the arguments of every process.

mod requests;
mod search;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portcullis::postgres::embedded::{Binaries, DATABASE, OWNER, socket_url};

use self::requests::Hunt;
use self::search::Needles;
use crate::support::cluster::connect;
use crate::support::program::run;
use crate::support::service::{Launch, Service};

/// The files of the data directory that are secret themselves.
const SECRET_FILES: [&str; 2] = ["root.key", "admin.token"];

/// Everything that can be read about the service from outside, by name.
async fn haystacks(service: &Service) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![("its log".to_owned(), service.log().into_bytes())];
    for path in [
        "/metrics",
        "/openapi.json",
        "/v1/pools",
        "/v1/workers",
        "/v1/keys?shared=true",
        "/v1/enrollment-secrets",
        "/v1/signing-keys",
        "/v1/operators",
        "/.well-known/jwks.json",
    ] {
        let answer = service.get(path).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text);
        found.push((path.to_owned(), answer.text.into_bytes()));
    }
    let mut path = "/v1/events?limit=1000".to_owned();
    loop {
        let page = service.get(&path).await.expect(200);
        found.push((path, page.to_string().into_bytes()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/events?limit=1000&cursor={cursor}");
    }
    found.push(("the dump of the database".to_owned(), dump(service)));
    found.extend(backup(service));
    files(service.data_dir(), &mut found);
    processes(service, &mut found);
    found
}

fn database_url(service: &Service) -> String {
    socket_url(&service.file("run"), 5432, OWNER, DATABASE)
}

fn dump(service: &Service) -> Vec<u8> {
    let binaries = Binaries::find(None, None).unwrap();
    let mut command = Command::new(binaries.program("pg_dump"));
    command.arg("--dbname").arg(database_url(service));
    let ran = run(command, "", Duration::from_mins(1));
    assert!(ran.success && ran.stdout.contains("COPY log.event"), "{}", ran.stderr);
    ran.stdout.into_bytes()
}

/// A backup as it is, and what is packed in it.
fn backup(service: &Service) -> [(String, Vec<u8>); 2] {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("gate.backup");
    let taken = crate::mirror::offline(service.data_dir(), &["backup", "--out", file.to_str().unwrap()]);
    assert!(taken.success, "{}", taken.stderr);
    let mut unpack = Command::new("tar");
    unpack.arg("xf").arg(&file).arg("-C").arg(folder.path());
    assert!(run(unpack, "", Duration::from_mins(1)).success);
    let mut listing = Command::new(Binaries::find(None, None).unwrap().program("pg_restore"));
    listing.arg("--file=-").arg(folder.path().join("portcullis.dump"));
    let listed = run(listing, "", Duration::from_mins(1));
    assert!(listed.success && listed.stdout.contains("COPY log.event"), "{}", listed.stderr);
    let root_key = std::fs::read_to_string(service.file("root.key")).unwrap();
    let whole = std::fs::read(&file).unwrap();
    for text in [listed.stdout.as_bytes(), &whole] {
        assert!(!text.windows(64).any(|window| window == root_key.trim().as_bytes()), "the root key is in a backup");
    }
    [("a backup".to_owned(), whole), ("the dump in a backup".to_owned(), listed.stdout.into_bytes())]
}

/// All files, those of Postgres too: what was deleted from a table still lies in its pages and in the write-ahead log.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path);
        if kind.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
            files(&path, found);
        } else if kind.is_ok_and(|kind| kind.is_file())
            && !SECRET_FILES.iter().any(|secret| path.ends_with(secret))
            // Postgres removes files while we look.
            && let Ok(bytes) = std::fs::read(&path)
        {
            found.push((path.display().to_string(), bytes));
        }
    }
}

/// The arguments of every process of the machine, and what the children of the service have in their environment.
fn processes(service: &Service, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let is_process = path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        // One that ends meanwhile has nothing to show.
        if !is_process {
            continue;
        }
        if let Ok(arguments) = std::fs::read(path.join("cmdline")) {
            found.push((format!("{}/cmdline", path.display()), arguments));
        }
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim);
        if parent == Some(&service.pid().to_string())
            && let Ok(environment) = std::fs::read(path.join("environ"))
        {
            found.push((format!("{}/environ", path.display()), environment));
        }
    }
}

/// Puts a canary wherever the search looks, to show that it would be found.
async fn plant(service: &Service, canary: &str) -> std::process::Child {
    let client = connect(&database_url(service)).await.unwrap();
    client.batch_execute("create table public.planted (as_text text, as_bytes bytea)").await.unwrap();
    client.execute("insert into public.planted values ($1, $2)", &[&canary, &canary.as_bytes()]).await.unwrap();
    std::fs::write(service.file("planted"), format!("something {canary} something")).unwrap();
    Command::new("sleep").arg0(canary).arg("60").spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_written_down_anywhere() {
    let enrollment = requests::random_secret();
    let launch =
        Launch::embedded().variable("PORTCULLIS_LOG", "trace").variable("PORTCULLIS_AUTO_ENROLLMENT_KEY", &enrollment);
    let service = launch.start().await;
    let mut hunt = Hunt::new(&service);
    hunt.keep("the enrollment secret of the environment", &enrollment);
    let root_key = std::fs::read(service.file("root.key")).unwrap();
    hunt.keep("the root key", String::from_utf8_lossy(&root_key).trim());
    requests::send_all(&mut hunt, &enrollment).await;
    // The failures of the minute are recorded at the end of it; here they are when the service stops, below.
    let needles = Needles::new(&hunt.canaries);

    for (name, problem) in &hunt.problems {
        assert_eq!(needles.found_in(problem.as_bytes()), Vec::<String>::new(), "{name} was answered {problem}");
    }
    for (name, bytes) in haystacks(&service).await {
        let found = needles.found_in(&bytes);
        assert!(found.is_empty(), "{name} holds {found:?}: {}", needles.lines_of(&bytes));
    }

    let mut process = plant(&service, &enrollment).await;
    let planted: Vec<String> = haystacks(&service)
        .await
        .into_iter()
        .filter(|(_, bytes)| !needles.found_in(bytes).is_empty())
        .map(|it| it.0)
        .collect();
    process.kill().unwrap();
    process.wait().unwrap();
    for place in ["the dump", "/planted", "/cmdline", "/postgres/"] {
        assert!(
            planted.iter().any(|name| name.contains(place)),
            "a canary planted in {place} is not found: {planted:?}"
        );
    }
}

/// Failures are counted into the log when the service stops, at the latest: what they say of the credentials is their
/// public ids.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_of_failures_holds_no_secret() {
    let mut service = Launch::embedded().variable("PORTCULLIS_LOG", "trace").start().await;
    let mut hunt = Hunt::new(&service);
    requests::send_wrong(&mut hunt).await;
    let needles = Needles::new(&hunt.canaries);
    drop(hunt);
    let next = Launch::embedded().data_dir_of(&service);
    assert!(service.stop());
    let service = next.start().await;
    let events = service.get("/v1/events?kind=auth.failures_observed").await.expect(200).to_string();
    assert!(events.contains("auth.failures_observed"), "{events}");
    assert_eq!(needles.found_in(events.as_bytes()), Vec::<String>::new(), "{events}");
    assert_eq!(needles.found_in(&dump(&service)), Vec::<String>::new());
}
