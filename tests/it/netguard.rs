//! Netguard: what the service says is to be blocked, and what becomes of packets in real network namespaces.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixListener};

use crate::support::cluster::Scratch;
use crate::support::service::{Launch, Service, program};

mod world;

use world::{Running, Space, World};

/// Long enough that a block which was to go would have gone: the service is asked again at once.
const A_WHILE: Duration = Duration::from_millis(900);
/// A second is enough, on a machine that is not doing something else meanwhile: one of so many isolations must take no more.
const TRIES: usize = 3;

/// A worker with a key that was shown from these addresses.
async fn worker_at(service: &Service, id: &str, addresses: &[&str]) -> String {
    service.post("/v1/workers", json!({ "id": id })).await.expect(201);
    let made = service.post(&format!("/v1/workers/{id}/keys"), json!({})).await.expect(201);
    let key = made["key"].as_str().unwrap().to_owned();
    for source in addresses {
        seen_at(service, &key, source).await;
    }
    key
}

async fn seen_at(service: &Service, key: &str, source: &str) {
    service.post("/v1/validate", json!({ "credential": key, "source": source })).await.expect(200);
}

async fn isolate(service: &Service, id: &str) {
    service.post(&format!("/v1/workers/{id}/isolate"), json!({})).await.expect(200);
}

fn networks<'a>(answer: &'a Value, list: &str) -> Vec<&'a str> {
    answer[list].as_array().unwrap().iter().map(|item| item["network"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_use_too_is_listed_and_not_blocked() {
    let scratch = Scratch::new().await;
    let service = Launch::on(&scratch).argument("--trusted-proxy", "192.0.2.200/32").start().await;
    worker_at(&service, "bad", &["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.200", "127.0.0.9", "2001:db8::1"])
        .await;
    worker_at(&service, "worse", &["192.0.2.3"]).await;
    worker_at(&service, "good", &["192.0.2.2"]).await;
    let quiet = service.get("/v1/netguard").await.expect(200);
    assert_eq!((networks(&quiet, "blocked"), networks(&quiet, "shared")), (vec![], vec![]));

    isolate(&service, "bad").await;
    let told = service.get("/v1/netguard").await.expect(200);
    // Where `worse` is, somebody is who is not isolated.
    assert_eq!(networks(&told, "blocked"), ["192.0.2.1/32", "2001:db8::1/128"], "{told}");
    let shared = |told: &Value| -> Vec<(String, String, Value)> {
        let items = told["shared"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        items.map(|item| (text(&item["network"]), text(&item["with"]), item["id"].clone())).collect()
    };
    let of = |network: &str, with: &str, id: Value| (network.to_owned(), with.to_owned(), id);
    let never = [
        of("127.0.0.9/32", "loopback", Value::Null),
        of("192.0.2.2/32", "worker", json!("good")),
        of("192.0.2.3/32", "worker", json!("worse")),
        of("192.0.2.200/32", "trusted_proxy", Value::Null),
    ];
    assert_eq!(shared(&told), never);
    assert_eq!(told["excepted"], json!(["192.0.2.200/32"]));

    isolate(&service, "worse").await;
    let told = service.get("/v1/netguard").await.expect(200);
    assert_eq!(networks(&told, "blocked"), ["192.0.2.1/32", "192.0.2.3/32", "2001:db8::1/128"]);
    assert_eq!(told["blocked"][1]["workers"], json!(["bad", "worse"]));

    service.post("/v1/netguard/addresses", json!({ "address": "198.51.100.9/24" })).await.expect(200);
    let except = json!({ "address": "192.0.2.1", "listing": "excepted" });
    service.post("/v1/netguard/addresses", except).await.expect(200);
    let told = service.get("/v1/netguard").await.expect(200);
    assert_eq!(
        told["blocked"][3],
        json!({ "network": "198.51.100.0/24", "workers": [], "worker_count": 0, "listed": true })
    );
    assert_eq!(told["excepted"], json!(["192.0.2.1/32", "192.0.2.200/32"]));
    for address in ["127.0.0.0/8", "10.0.0.0/7", "::/0", "::1", "nowhere"] {
        let refused = service.post("/v1/netguard/addresses", json!({ "address": address })).await;
        assert_eq!(refused.problem(400), "invalid", "{address}");
    }
}

/// Nothing new is waited for; what is new comes at once. A release and an end that comes by itself are new too.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_waits_for_what_is_new() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let made = service.post("/v1/operators", json!({ "name": "gate", "role": "gateway" })).await.expect(201);
    let gateway = made["key"].as_str().unwrap().to_owned();
    worker_at(&service, "bad", &["192.0.2.1"]).await;
    let told = service.get_as(&gateway, "/v1/netguard").await.expect(200);
    let version = told["version"].as_str().unwrap().to_owned();
    let path = |version: &str, timeout: &str| format!("/v1/netguard?unless={version}&timeout={timeout}");
    assert_eq!(service.get_as(&gateway, &path(&version, "0s")).await.expect(200), told);

    let waiting = service.request(Method::GET, &path(&version, "25s")).bearer_auth(&gateway);
    let waiting = tokio::spawn(waiting.send());
    let until = chrono::Utc::now() + Duration::from_secs(2);
    service.post("/v1/workers/bad/isolate", json!({ "until": until.to_rfc3339() })).await.expect(200);
    let answer: Value = waiting.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(networks(&answer, "blocked"), ["192.0.2.1/32"]);

    let version = answer["version"].as_str().unwrap();
    let answer = service.get_as(&gateway, &path(version, "25s")).await.expect(200);
    assert_eq!(
        (networks(&answer, "blocked"), &answer["version"]),
        (vec![], &told["version"]),
        "it came back by itself"
    );
    assert!(chrono::Utc::now() >= until);
}

/// Everything that the gateway's netguard needs to reach the service.
struct Reach {
    folder: TempDir,
    port: u16,
    _relay: Running,
    _carrying: tokio::task::JoinHandle<()>,
}

impl Reach {
    fn new(service: &Service, gateway: &Space) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("way");
        let port: u16 = service.url.rsplit(':').next().unwrap().parse().unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let carrying = tokio::spawn(async move {
            while let Ok((mut inside, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // Without a service there is nobody to be connected to, and the connection ends.
                    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    drop(tokio::io::copy_bidirectional(&mut inside, &mut outside).await);
                });
            }
        });
        let relay = gateway.relay(port, &path);
        std::fs::copy(service.file("tls/ca.pem"), folder.path().join("ca.pem")).unwrap();
        std::fs::copy(service.file("admin.token"), folder.path().join("token")).unwrap();
        Self { folder, port, _relay: relay, _carrying: carrying }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn netguard(&self, gateway: &Space, arguments: &[&str]) -> std::process::Command {
        let mut command = gateway.portcullis(&["netguard", "run"]);
        command.args(["--url", &format!("https://127.0.0.1:{}", self.port), "--retries", "0"]);
        command.arg("--ca-file").arg(self.file("ca.pem")).arg("--token-file").arg(self.file("token"));
        command.arg("--health-file").arg(self.file("health")).args(arguments);
        command
    }

    async fn health(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let give_up = tokio::time::Instant::now() + world::PATIENCE;
        loop {
            let text = std::fs::read_to_string(self.file("health")).unwrap_or_default();
            if serde_json::from_str(&text).is_ok_and(|health| condition(&health)) {
                return;
            }
            assert!(tokio::time::Instant::now() < give_up, "never {what}: {text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// A probe stays as it is, for a while.
fn stays(probe: &Running, what: &str) {
    assert_eq!(probe.line(A_WHILE), None, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_an_isolated_worker_are_dropped_and_others_flow_whatever_happens_to_the_service() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    let world = World::new();
    let gateway = &world.gateway;
    worker_at(&service, "a", &["10.77.1.2"]).await;
    worker_at(&service, "b", &["10.77.2.2"]).await;
    let reach = Reach::new(&service, gateway);
    gateway.nft("add table inet theirs { set here { type ipv4_addr; elements = { 10.77.1.2 }; }; }");
    let theirs = gateway.run("nft list table inet theirs");
    let [a, b] = world.workers.each_ref().map(Space::probe);
    for probe in [&a, &b] {
        probe.must_be("up");
    }

    let mut netguard = Running::start(reach.netguard(gateway, &[]));
    reach.health("following", |health| health["state"] == "following").await;
    gateway.nft("add element inet portcullis blocked_v4 { 10.88.0.0-10.88.0.9 comment \"by hand\" }");
    for tried in 1.. {
        let isolated = seconds();
        isolate(&service, "a").await;
        let took = a.must_be("down") - isolated;
        eprintln!("the last packet of an isolated worker came through {:.0} ms after it was asked for", took * 1e3);
        if took < 1.0 {
            break;
        }
        // Less than a poll even so: the gateway heard of it at once.
        assert!(took < 5.0 && tried < TRIES, "its packets came through for {took} s");
        service.post("/v1/workers/a/release", json!({})).await.expect(200);
        a.must_be("up");
    }
    stays(&b, "b is not isolated");

    service.kill();
    reach.health("lost", |health| health["state"] == "lost" && health["blocked"] == 1).await;
    stays(&a, "the block stays while the service is away");
    netguard.end();
    stays(&a, "and when netguard is killed");
    let netguard = Running::start(reach.netguard(gateway, &[]));
    stays(&a, "and when it is started without a service");

    let port = reach.port;
    let service = Launch::on(&scratch).data_dir_of(&service).port(port).start().await;
    reach.health("following again", |health| health["state"] == "following").await;
    stays(&a, "it is still isolated");
    service.post("/v1/workers/a/release", json!({})).await.expect(200);
    a.must_be("up");
    let block = json!({ "address": "10.77.2.0/24" });
    service.post("/v1/netguard/addresses", block).await.expect(200);
    b.must_be("down");
    let except = json!({ "address": "10.77.2.2", "listing": "excepted" });
    service.post("/v1/netguard/addresses", except).await.expect(200);
    b.must_be("up");

    let table = gateway.run("nft list table inet portcullis");
    assert!(table.contains("10.88.0.0-10.88.0.9 comment \"by hand\""), "what others put there was touched: {table}");
    assert_eq!(gateway.run("nft list table inet theirs"), theirs);
    reach.health("told of it", |health| !health["foreign"].as_array().unwrap().is_empty()).await;
    drop(netguard);
}

/// What is printed is what is loaded; and a dry run loads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_that_are_printed_are_those_that_are_made() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    worker_at(&service, "a", &["10.77.1.2"]).await;
    isolate(&service, "a").await;
    let [world, other] = [World::new(), World::new()];
    let gateway = &world.gateway;
    let reach = Reach::new(&service, gateway);
    let dry = reach.netguard(gateway, &["--dry-run", "--output", "json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&dry.stdout).unwrap_or_else(|error| panic!("{error}: {dry:?}"));
    assert_eq!(told["would"]["blocked_v4"]["add"], json!(["10.77.1.2/32"]), "{told}");
    assert_eq!((&told["dry_run"], &told["changed"]), (&json!(true), &json!(true)));
    assert_eq!(gateway.run("nft list ruleset"), "");
    let shown = reach.netguard(gateway, &["--dry-run"]).output().unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains("10.77.1.2/32"), "a person reads a table");
    let rules = gateway.portcullis(&["netguard", "run", "--print-rules", "--output", "json"]).output().unwrap();
    let rules: Value = serde_json::from_slice(&rules.stdout).unwrap();
    assert!(rules["rules"].as_str().unwrap().contains("table inet portcullis"), "{rules}");

    for changed in [true, false] {
        let once = reach.netguard(gateway, &["--once", "--output", "json"]).output().unwrap();
        let told: Value = serde_json::from_slice(&once.stdout).unwrap_or_else(|error| panic!("{error}: {once:?}"));
        assert_eq!((once.status.success(), &told["changed"]), (true, &json!(changed)), "{told}");
    }
    let made = gateway.run("nft list table inet portcullis");
    let printed = gateway.portcullis(&["netguard", "run", "--print-rules"]).output().unwrap();
    let file = reach.file("rules");
    std::fs::write(&file, printed.stdout).unwrap();
    other.gateway.run(&format!("nft -f {}", file.display()));
    let rules = |listed: &str| -> Vec<String> {
        let lines = listed.lines().map(str::trim).filter(|line| !line.starts_with("elements"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(rules(&made), rules(&other.gateway.run("nft list table inet portcullis")));
    assert_eq!(made.matches(" drop ").count(), 8, "once, however often it is started: {made}");

    // The same user without the right to it: in the bounding set nothing is left.
    let mut powerless = gateway.command("setpriv");
    powerless.args(["--bounding-set", "-all", "--inh-caps", "-all"]);
    powerless.arg(program()).args(["netguard", "run", "--once", "--token-file"]).arg(reach.file("token"));
    let powerless = powerless.output().unwrap();
    let said = String::from_utf8_lossy(&powerless.stderr);
    assert!(!powerless.status.success() && said.contains("CAP_NET_ADMIN"), "{said}");
}
