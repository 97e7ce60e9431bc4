//! The real nginx with `auth_request` in front of a static page: lets a worker in, tells the page who it is, and turns it
//! away once it is isolated or revoked, and when nobody can say.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::support::cluster::{Scratch, free_port};
use crate::support::service::{Answer, Service, answer};

const PAGE: &str = "the static page\n";

struct Nginx {
    process: Child,
    folder: TempDir,
    url: String,
    client: reqwest::Client,
}

// === impl Nginx ===

impl Nginx {
    async fn start(service: &Service) -> Self {
        let folder = tempfile::Builder::new().prefix("portcullis-nginx-").tempdir().unwrap();
        let (gate, page) = (free_port(), free_port());
        let fill = |text: &str| {
            text.replace("@FOLDER@", folder.path().to_str().unwrap())
                .replace("@GATE@", &gate.to_string())
                .replace("@PAGE@", &page.to_string())
                .replace("@PORTCULLIS@", &service.url)
                .replace("@CA@", service.file("tls/ca.pem").to_str().unwrap())
        };
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, fill(include_str!("nginx/nginx.conf"))).unwrap();
        std::fs::write(folder.path().join("check.conf"), fill(include_str!("nginx/check.conf"))).unwrap();
        std::fs::create_dir(folder.path().join("page")).unwrap();
        std::fs::write(folder.path().join("page/index.html"), PAGE).unwrap();
        let process = Command::new(program())
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("nginx is not here: run ops/test, which installs it");
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let nginx = Self { process, folder, url: format!("http://127.0.0.1:{gate}"), client };
        let give_up = Instant::now() + Duration::from_secs(30);
        while nginx.client.get(&nginx.url).send().await.is_err() {
            assert!(Instant::now() < give_up, "nginx does not start: {}", nginx.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        nginx
    }

    async fn get(&self, path: &str, credential: &str) -> Answer {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(credential);
        // What a visitor claims to be.
        answer(request.header("Portcullis-Worker", "somebody-else")).await.unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the log of nginx ---\n{}", self.log());
        }
    }
}

/// Debian keeps it where the `PATH` of a user who is not root does not look.
fn program() -> &'static Path {
    let debian = Path::new("/usr/sbin/nginx");
    if debian.exists() { debian } else { Path::new("nginx") }
}

async fn worker(service: &Service, id: &str) -> (String, String) {
    service.post("/v1/workers", json!({ "id": id })).await.expect(201);
    let key = service.post(&format!("/v1/workers/{id}/keys"), json!({})).await.expect(201);
    (key["id"].as_str().unwrap().to_owned(), key["key"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn nginx_lets_a_worker_in_and_turns_it_away_again() {
    let scratch = Scratch::new().await;
    let mut service = Service::start(&scratch).await;
    let (key_id, key) = worker(&service, "w-1").await;
    let (_, other) = worker(&service, "w-2").await;
    let token =
        service.post_as(&key, "/v1/register", json!({})).await.expect(200)["token"].as_str().unwrap().to_owned();
    let nginx = Nginx::start(&service).await;
    let status = async |credential: &str| nginx.get("/", credential).await.status.as_u16();

    for credential in [&key, &token] {
        let answer = nginx.get("/", credential).await;
        assert_eq!((answer.status.as_u16(), &*answer.text), (200, PAGE), "{answer:?}");
        assert_eq!(answer.headers["seen-worker"], "w-1", "whatever the visitor claims");
        assert_eq!(answer.headers["seen-pool"], "default");
        assert!(!answer.headers.contains_key("seen-credential"), "the page has no business with the credential");
    }
    let anonymous = answer(nginx.client.get(&nginx.url)).await.unwrap();
    assert_eq!(anonymous.status.as_u16(), 401);
    assert_eq!(status("nonsense").await, 401);
    // Good, but of another pool.
    assert_eq!(nginx.get("/only-green", &key).await.status.as_u16(), 403);

    service.post("/v1/workers/w-1/isolate", json!({ "reason": "a drill" })).await.expect(200);
    assert_eq!((status(&key).await, status(&token).await, status(&other).await), (401, 401, 200));
    service.post("/v1/workers/w-1/release", json!({})).await.expect(200);
    assert_eq!((status(&key).await, status(&token).await), (200, 200));
    service.post(&format!("/v1/keys/{key_id}/revoke"), json!({ "reason": "leaked" })).await.expect(200);
    assert_eq!((status(&key).await, status(&token).await, status(&other).await), (401, 401, 200));

    // Where nobody can say, nobody gets in.
    service.kill();
    assert_eq!(status(&other).await, 500, "nginx answers 500 when its check fails");
}
