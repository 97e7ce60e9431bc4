//! `portcullis serve` with nothing given: the first start, the next ones, and the starts that must be refused.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use portcullis::postgres::embedded::{DATABASE, OWNER, socket_url};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::support::cluster::{PrivateCluster, Scratch, connect, is_alive, postmaster};
use crate::support::service::{Launch, Service, answer};

async fn database(service: &Service) -> Client {
    connect(&socket_url(&service.file("run"), 5432, OWNER, DATABASE)).await.unwrap()
}

/// Everything that a start could have written: how many events, outcomes and migrations there are, and the head.
async fn contents(client: &Client) -> (i64, i64, i64, i64) {
    let question = "select (select count(*) from log.event), (select count(*) from log.command),
                           (select version from log.head), (select count(*) from public.refinery_schema_history)";
    let row = client.query_one(question, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

#[track_caller]
fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_everything_and_the_next_ones_keep_it() {
    let mut service = Launch::embedded().start().await;
    assert_eq!((mode(&service.file("root.key")), mode(&service.file("admin.token"))), (0o600, 0o600));
    assert!(service.url.starts_with("https://127.0.0.1:"), "{}", service.url);
    let admin = service.get("/v1/whoami").await.expect(200);
    assert_eq!(admin["operator"]["role"], "admin", "{admin}");
    let path = service.file("admin.token").display().to_string();
    service.until("the token's path is printed", || async { service.log().contains(&path) }).await;
    assert!(service.log().contains("SHA-256 fingerprint"), "{}", service.log());
    assert!(!service.log().contains(&service.token), "the token itself is not printed");

    service.post("/v1/workers", json!({ "id": "w-1", "labels": { "rack": "7" } })).await.expect(201);
    let worker = service.get("/v1/workers/w-1").await.expect(200);
    let before = contents(&database(&service).await).await;
    let files = |service: &Service| {
        ["root.key", "admin.token", "tls/ca.pem"].map(|name| std::fs::read_to_string(service.file(name)).unwrap())
    };
    let kept = files(&service);

    let server = postmaster(&service.file("postgres")).unwrap();
    let next = Launch::embedded().data_dir_of(&service);
    assert!(service.stop(), "{}", service.log());
    assert!(!is_alive(server), "Postgres stops with the service");
    let service = next.start().await;
    assert_eq!(service.get("/v1/workers/w-1").await.expect(200), worker);
    assert_eq!(contents(&database(&service).await).await, before, "a start appends nothing");
    assert_eq!(files(&service), kept);
    service.until("the token's path is printed again", || async { service.log().contains(&path) }).await;
}

/// What is wrong with the settings is said before a cluster is made for them.
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_are_refused_before_anything_is_made() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    certificate(folder.path());
    write_private(&folder.path().join("other"), "no certificate");
    write_private(&folder.path().join("exposed"), &format!("{}\n", "5a".repeat(32)));
    std::fs::set_permissions(folder.path().join("exposed"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let pair = |launch: Launch, cert: &str, key: &str| {
        launch.argument("--tls-cert", &file(cert)).argument("--tls-key", &file(key))
    };
    let table: [(&dyn Fn(Launch) -> Launch, &str); 8] = [
        (&|launch| launch.port(port), "--bind"),
        (&|launch| launch.bind("192.0.2.1:3000"), "--bind"),
        (&|launch| pair(launch, "missing", "key.pem"), "missing"),
        (&|launch| pair(launch, "other", "key.pem"), "holds no certificate"),
        (&|launch| pair(launch, "cert.pem", "other"), "holds no private key"),
        (&|launch| launch.argument("--root-key-file", &file("missing")), "missing"),
        (&|launch| launch.argument("--root-key-file", &file("exposed")), "chmod 600"),
        (&|launch| launch.variable("PORTCULLIS_AUTO_ENROLLMENT_KEY", "short"), "PORTCULLIS_AUTO_ENROLLMENT_KEY"),
    ];
    for (change, expected) in table {
        let launch = change(Launch::embedded());
        let data = launch.hold_data_dir();
        let log = launch.try_start().await.err().unwrap();
        assert!(log.contains(expected), "{expected}: {log}");
        let made: Vec<_> = std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(made.is_empty() || made == ["lock"], "{expected}: {made:?}");
    }
}

/// What is secret in the data directory is its owner's alone: a private key that others could read is refused, as sshd does.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_others_could_read_are_refused_or_mended() {
    let scratch = Scratch::new().await;
    let launch = Launch::on(&scratch);
    let data = launch.data_dir().to_owned();
    std::fs::remove_dir(&data).unwrap();
    let mut service = launch.start().await;
    assert_eq!(mode(&data), 0o700, "made anew, nobody else looks into it");
    let launch = || Launch::on(&scratch).data_dir_of(&service);
    let launches = [launch(), launch(), launch(), launch(), launch()];
    assert!(service.stop());
    let set_mode = |name: &str, mode| {
        std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let names = ["root.key", "tls/authority.pem", "tls/server.pem"];
    let mut launches = launches.into_iter();
    for (name, launch) in names.into_iter().zip(&mut launches) {
        set_mode(name, 0o640);
        let log = launch.try_start().await.err().unwrap();
        assert!(log.contains(name) && log.contains("chmod 600"), "{name}: {log}");
        set_mode(name, 0o600);
    }
    set_mode("admin.token", 0o644);
    set_mode("", 0o777);
    let mut service = launches.next().unwrap().start().await;
    assert_eq!(mode(&data.join("admin.token")), 0o600, "mended");
    let told = |what: &str| service.log().lines().any(|line| line.contains("WARN") && line.contains(what));
    assert!(told("admin.token"), "{}", service.log());
    assert!(told("chmod go-w"), "{}", service.log());
    set_mode("", 0o700);
    assert!(service.stop());
    let mut service = launches.next().unwrap().start().await;
    assert!(service.stop() && !service.log().contains("WARN"), "{}", service.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_the_same_data_is_refused_while_the_first_lives() {
    let mut service = Launch::embedded().start().await;
    let log = Launch::embedded().data_dir_of(&service).try_start().await.err().unwrap();
    assert!(log.contains("another portcullis") && log.contains(&service.pid().to_string()), "{log}");
    service.get("/v1/pools").await.expect(200);
    let next = Launch::embedded().data_dir_of(&service);
    service.kill();
    next.start().await.get("/v1/pools").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_answers_what_is_running_first() {
    let mut service = Launch::embedded().start().await;
    let server = postmaster(&service.file("postgres")).unwrap();
    // Held by somebody else, the head's row lets no command through.
    let blocker = database(&service).await;
    blocker.batch_execute("begin; select * from log.head for update").await.unwrap();
    let request =
        service.request(Method::POST, "/v1/workers").bearer_auth(&service.token).json(&json!({ "id": "w-1" }));
    let running = tokio::spawn(answer(request));
    let watcher = database(&service).await;
    let waiting = "select exists (select from pg_stat_activity where wait_event_type = 'Lock')";
    let is_waiting = async || watcher.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0);
    service.until("the command is on its way", is_waiting).await;
    drop(watcher);
    let stopping = tokio::task::spawn_blocking(move || (service.stop(), service));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!stopping.is_finished(), "it does not leave a request unanswered");
    blocker.batch_execute("rollback").await.unwrap();
    drop(blocker);
    running.await.unwrap().unwrap().expect(201);
    let (well, service) = stopping.await.unwrap();
    assert!(well, "{}", service.log());
    assert!(!is_alive(server), "Postgres stops with the service");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_or_missing_root_key_is_noticed_before_anything_is_written() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    assert!(service.stop());
    let client = scratch.superuser().await;
    let before = contents(&client).await;

    let missing = Launch::on(&scratch);
    let folder = missing.data_dir().to_owned();
    let log = missing.try_start().await.err().unwrap();
    assert!(log.contains("the root key of this log is missing"), "{log}");
    assert!(!folder.join("root.key").exists(), "no key is made for a log that has one");

    let wrong = Launch::on(&scratch);
    write_private(&wrong.data_dir().join("root.key"), &format!("{}\n", "5a".repeat(32)));
    let token = wrong.data_dir().join("admin.token");
    let log = wrong.try_start().await.err().unwrap();
    assert!(log.to_lowercase().contains("root key"), "{log}");
    assert!(!token.exists());
    assert_eq!(contents(&client).await, before, "nothing was written");

    let genuine = Launch::on(&scratch).data_dir_of(&service).start().await;
    genuine.get("/v1/pools").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_elsewhere_is_used_and_never_made() {
    let scratch = Scratch::new().await;
    let elsewhere = TempDir::new().unwrap();
    let file = elsewhere.path().join("the-root-key");
    let launch = || Launch::on(&scratch).variable("PORTCULLIS_ROOT_KEY_FILE", file.to_str().unwrap());
    let log = launch().try_start().await.err().unwrap();
    assert!(log.contains("the-root-key"), "{log}");
    write_private(&file, &format!("{}\n", "5a".repeat(32)));
    let service = launch().start().await;
    service.get("/v1/pools").await.expect(200);
    assert!(!service.file("root.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_newer_than_the_binary_is_refused() {
    let scratch = Scratch::new().await;
    let client = scratch.superuser().await;
    let insert = "insert into public.refinery_schema_history (version, name, applied_on, checksum)
                  values (999, 'from_the_future', '2030-01-01T00:00:00Z', '1')";
    client.batch_execute(insert).await.unwrap();
    let log = Launch::on(&scratch).try_start().await.err().unwrap();
    assert!(log.contains("newer"), "{log}");
    let begun: i64 = client.query_one("select count(*) from log.genesis", &[]).await.unwrap().get(0);
    assert_eq!(begun, 0, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_for_loopback_unless_it_is_allowed() {
    let scratch = Scratch::new().await;
    let log = Launch::on(&scratch).flag("--disable-tls").bind("0.0.0.0:0").try_start().await.err().unwrap();
    assert!(log.contains("--allow-plaintext"), "{log}");
    let service = Launch::on(&scratch).flag("--disable-tls").start().await;
    assert!(service.url.starts_with("http://127.0.0.1:"), "{}", service.url);
    service.get("/v1/pools").await.expect(200);
    assert!(!service.file("tls").exists());
}

/// A certificate for this machine, that vouches for itself.
fn certificate(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    write_private(&folder.join("key.pem"), &made.signing_key.serialize_pem());
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.pem()
}

async fn accepts(service: &Service, certificate: &str) -> bool {
    let trusted = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([trusted]).build().unwrap();
    client.get(format!("{}/healthz", service.url)).send().await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_up_without_a_restart() {
    let scratch = Scratch::new().await;
    let folder = TempDir::new().unwrap();
    let first = certificate(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let launch = Launch::on(&scratch).argument("--tls-cert", &file("cert.pem"));
    let service = launch.variable("PORTCULLIS_TLS_KEY", &file("key.pem")).start().await;
    assert!(accepts(&service, &first).await);

    let second = certificate(folder.path());
    let pid = rustix::process::Pid::from_raw(i32::try_from(service.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    service.until("the new certificate is shown", || accepts(&service, &second)).await;
    assert!(!accepts(&service, &first).await);
}

/// Whoever has moved the authority away reads of it here, and not from clients that refuse the service.
#[tokio::test]
async fn a_new_authority_for_a_service_that_was_there_is_told() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    let told = |service: &Service| service.log().contains("made a new certificate authority");
    assert!(service.stop() && !told(&service), "{}", service.log());
    let mut same = Launch::on(&scratch).data_dir_of(&service).start().await;
    assert!(same.stop() && !told(&same), "{}", same.log());
    std::fs::remove_dir_all(service.file("tls")).unwrap();
    let mut anew = Launch::on(&scratch).data_dir_of(&service).start().await;
    assert!(anew.stop() && told(&anew), "{}", anew.log());
}

/// Who has lost every admin's token gets in again, and can lock the lost one out.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_can_make_a_further_admin() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    let lost = service.get("/v1/whoami").await.expect(200);
    let next = || Launch::on(&scratch).data_dir_of(&service);
    let (again, plain) = (next().flag("--new-admin"), next());
    assert!(service.stop());
    let lost_token = service.token.clone();
    let mut service = again.start().await;
    assert_ne!(service.token, lost_token);
    let found = service.get("/v1/whoami").await.expect(200);
    assert_eq!(found["operator"]["role"], "admin", "{found}");
    assert_ne!(found["operator"]["id"], lost["operator"]["id"]);
    let path = format!("/v1/operators/{}", lost["operator"]["id"].as_str().unwrap());
    let request = service.request(Method::DELETE, &path).bearer_auth(&service.token);
    assert!(service.send(request).await.status.is_success());
    assert_eq!(service.get_as(&lost_token, "/v1/whoami").await.status, 401);

    let token = service.token.clone();
    assert!(service.stop());
    assert_eq!(plain.start().await.token, token, "the next start makes none");
}

/// With a database of one's own too: what lies in the data directory is one service's.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_service_on_the_same_folder_is_refused_whatever_its_database() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let log = Launch::on(&scratch).data_dir_of(&service).try_start().await.err().unwrap();
    assert!(log.contains("another portcullis") && log.contains(&service.pid().to_string()), "{log}");
    service.get("/v1/pools").await.expect(200);
}

/// A load balancer takes away a node that has lost sight of the log, and gives it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_see_the_log_is_not_ready() {
    let mut cluster = PrivateCluster::start().await;
    let service = Launch::on_urls(&cluster.url(), &cluster.owner_url()).start().await;
    let ready = async || service.send(service.request(Method::GET, "/readyz")).await;
    ready().await;
    cluster.kill();
    service.until("it is not ready", async || ready().await.status == 503).await;
    assert_eq!(ready().await.problem(503), "stale");
    let health = service.send(service.request(Method::GET, "/healthz")).await;
    assert_eq!(health.status, 200, "the process lives");
    cluster.restart().await;
    service.until("it is ready again", async || ready().await.status == 200).await;
}
