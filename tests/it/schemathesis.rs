//! schemathesis asks everything that `/openapi.json` allows, and much that it does not, with all its checks.
//!
//! It is given a small fleet to ask about and the credentials that each operation is for: a request about nothing, by
//! nobody, is answered 401 or 404 before it has reached what there is to test.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cluster::Scratch;
use crate::support::program::{python_program, run};
use crate::support::service::{Launch, Service};

/// Of the whole run; the phases that could go on for ever end by then.
const PATIENCE: Duration = Duration::from_mins(9);

/// Of the document's links, those that it follows at least. Which ones is its choice, but the same in every run.
const LINKS_FOLLOWED_MIN: u32 = 6;

const HOOKS: &str = "schemathesis_hooks.py";

/// What it asks about.
#[derive(Default)]
struct Fleet {
    pools: Vec<String>,
    workers: Vec<String>,
    keys: Vec<String>,
    operators: Vec<String>,
    enrollment_secrets: Vec<String>,
    incidents: Vec<String>,
    /// Operations, and what stands in `Authorization` there: the others are asked by the admin.
    credentials: Vec<(&'static str, String)>,
}

/// Each kind of thing that is named in a path, with the operations that name it.
const PATHS: [(&str, &str, &str); 6] = [
    ("pools", "pool", "^/v1/pools/"),
    ("workers", "id", "^/v1/workers/"),
    ("keys", "id", "^/v1/keys/"),
    ("operators", "id", "^/v1/operators/"),
    ("enrollment-secrets", "id", "^/v1/enrollment-secrets/"),
    ("incidents", "id", "^/v1/incidents/"),
];

impl Fleet {
    async fn make(service: &Service) -> Self {
        let mut fleet = Self::default();
        for name in ["asked", "shared", "empty"] {
            let pool = json!({ "name": name, "sharing": name == "shared" });
            fleet.pools.push(id_of(&service.post("/v1/pools", pool).await.expect(201)));
        }
        for number in 0..6 {
            let worker = json!({ "pool": "asked", "id": format!("asked-{number}"), "pending": number % 3 == 2 });
            let worker = id_of(&service.post("/v1/workers", worker).await.expect(201));
            let key = service.post(&format!("/v1/workers/{worker}/keys"), json!({})).await.expect(201);
            fleet.keys.push(id_of(&key));
            fleet.workers.push(worker);
        }
        for role in ["operator", "auditor"] {
            let operator = json!({ "name": "asked", "role": role });
            fleet.operators.push(id_of(&service.post("/v1/operators", operator).await.expect(201)));
        }
        for _ in 0..2 {
            let secret = service.post("/v1/enrollment-secrets", json!({ "pool": "asked" })).await.expect(201);
            fleet.enrollment_secrets.push(id_of(&secret));
        }
        for number in 0..3 {
            let incident = json!({ "id": format!("asked-{number}"), "title": "asked", "severity": "low" });
            fleet.incidents.push(id_of(&service.post("/v1/incidents", incident).await.expect(201)));
        }
        fleet.admit(service).await;
        fleet
    }

    /// Makes the credentials of whom nobody asks about, so that nothing that is tried revokes them.
    async fn admit(&mut self, service: &Service) {
        let secret = service.post("/v1/enrollment-secrets", json!({ "pool": "default" })).await.expect(201);
        let secret = text(&secret["secret"]);
        for operation in
            ["GET /v1/worker", "GET /v1/check", "POST /v1/register", "POST /v1/worker/key/rotate", "POST /oauth2/token"]
        {
            let worker = service.post_as(&secret, "/v1/enroll", json!({})).await.expect(201);
            let key = text(&worker["key"]);
            let shown = if operation == "POST /oauth2/token" {
                let request =
                    service.request(Method::POST, "/").basic_auth(id_of(&worker), Some(&key)).build().unwrap();
                request.headers()["authorization"].to_str().unwrap().to_owned()
            } else {
                format!("Bearer {key}")
            };
            self.credentials.push((operation, shown));
            if operation == "POST /v1/register" {
                let token = service.post_as(&key, "/v1/register", json!({})).await.expect(200);
                self.credentials.push(("POST /v1/renew", format!("Bearer {}", text(&token["token"]))));
            }
        }
        self.credentials.push(("POST /v1/enroll", format!("Bearer {secret}")));
    }

    /// As the configuration of schemathesis says it. Most of the time: what is made up is asked for too.
    fn config(&self, admin: &str) -> String {
        let mut config = String::new();
        writeln!(config, "hooks = \"{HOOKS}\"\nheaders = {{ Authorization = \"Bearer {admin}\" }}").unwrap();
        let all = [&self.pools, &self.workers, &self.keys, &self.operators, &self.enrollment_secrets, &self.incidents];
        for ((name, _, _), ids) in PATHS.iter().zip(all) {
            writeln!(config, "[dictionaries.{name}]\nvalues = {ids:?}").unwrap();
        }
        config.push_str(include_str!("clients/schemathesis.toml"));
        for (name, parameter, operations) in PATHS {
            writeln!(config, "[[operations]]\ninclude-path-regex = \"{operations}\"").unwrap();
            writeln!(config, "parameters.\"path.{parameter}\" = {{ dictionary = \"{name}\", probability = 0.8 }}")
                .unwrap();
        }
        for (operation, shown) in &self.credentials {
            writeln!(config, "[[operations]]\ninclude-name = \"{operation}\"").unwrap();
            writeln!(config, "headers = {{ Authorization = \"{shown}\" }}").unwrap();
        }
        config
    }
}

fn id_of(made: &Value) -> String {
    text(&made["id"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_failure() {
    let scratch = Scratch::new().await;
    let service = Launch::on(&scratch).start().await;
    let folder = TempDir::new().unwrap();
    // In a file and not in the arguments: the credentials are secret.
    let config = Fleet::make(&service).await.config(&service.token);
    std::fs::write(folder.path().join("schemathesis.toml"), config).unwrap();
    std::fs::write(folder.path().join(HOOKS), include_str!("clients/schemathesis_hooks.py")).unwrap();

    let mut command = Command::new(python_program("schemathesis"));
    command.current_dir(folder.path()).arg("--config-file").arg("schemathesis.toml").arg("run");
    command.arg(format!("{}/openapi.json", service.url));
    command.arg("--tls-verify").arg(service.file("tls/ca.pem"));
    command.args(["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"]);
    // What is removed stays to be looked at, with `removed` in it: its id is never used again, and the log speaks of it.
    command.args(["--exclude-checks", "use_after_free", "--generation-deterministic"]);
    // One worker: two are two threads, and CPython 3.11 counts the depth of `ast.parse` for all threads together, so that
    // a switch between them in the middle of one fails it (`AST constructor recursion depth mismatch`).
    command.args(["--workers", "1", "--request-timeout", "30", "--request-retries", "2"]);
    command.args(["--continue-on-failure", "--no-color"]);
    // It would win over --tls-verify.
    command.env_remove("REQUESTS_CA_BUNDLE");
    let ran = tokio::task::spawn_blocking(move || run(command, "", PATIENCE)).await.unwrap();
    assert!(ran.success, "{}\n{}", ran.stdout, ran.stderr);
    // It has asked each of them, and did not stop at a document that it cannot read.
    assert!(ran.stdout.contains("Tested:"), "{}", ran.stdout);
    // And has followed links: a document without any would pass too.
    let followed = ran.stdout.lines().find_map(|line| line.trim().strip_prefix("API Links:"));
    let followed = followed.and_then(|links| links.trim().split(' ').next()?.parse::<u32>().ok());
    assert!(followed.is_some_and(|covered| covered >= LINKS_FOLLOWED_MIN), "{}", ran.stdout);
}
