//! A worker's whole life with `curl` and nothing else, over HTTPS, with the CA file that the service wrote.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::cluster::Scratch;
use crate::support::program::run;
use crate::support::service::Service;

struct Curl<'a> {
    service: &'a Service,
}

impl Curl<'_> {
    /// Runs curl. What is secret goes over its standard input, as whoever minds the process list does it.
    #[track_caller]
    fn call(&self, method: &str, path: &str, credential: &str, body: Option<&Value>) -> (u16, Value) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "30", "--config", "-", "--request", method]);
        command.arg("--cacert").arg(self.service.file("tls/ca.pem"));
        command.args(["--write-out", "\n%{http_code}"]).arg(format!("{}{path}", self.service.url));
        let mut config = String::new();
        if !credential.is_empty() {
            config.push_str(&format!("header = \"Authorization: Bearer {credential}\"\n"));
        }
        if let Some(body) = body {
            let quoted = body.to_string().replace('\\', "\\\\").replace('"', "\\\"");
            config.push_str(&format!("data = \"{quoted}\"\n"));
        }
        let ran = run(command, &config, Duration::from_secs(60));
        assert!(ran.success, "{}", ran.stderr);
        let (text, status) = ran.stdout.rsplit_once('\n').unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(text).unwrap() };
        (status.parse().unwrap(), body)
    }

    #[track_caller]
    fn ok(&self, method: &str, path: &str, credential: &str, body: Option<&Value>) -> Value {
        let (status, body) = self.call(method, path, credential, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    #[track_caller]
    fn verdict(&self, credential: &str) -> (bool, String) {
        let body = json!({ "credential": credential });
        let verdict = self.ok("POST", "/v1/validate", &self.service.token, Some(&body));
        (verdict["active"].as_bool().unwrap(), verdict["reason"].as_str().unwrap().to_owned())
    }
}

fn text(body: &Value, field: &str) -> String {
    body[field].as_str().unwrap_or_else(|| panic!("no {field} in {body}")).to_owned()
}

#[tokio::test]
async fn curl_alone_gets_in_renews_rotates_and_is_turned_away() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let curl = Curl { service: &service };
    let admin = &service.token;

    let secret = text(&curl.ok("POST", "/v1/enrollment-secrets", admin, Some(&json!({ "pool": "default" }))), "secret");
    let wish = json!({ "name": "curl-1", "labels": { "os": "linux" }, "nonce": "0123456789abcdef" });
    let enrolled = curl.ok("POST", "/v1/enroll", &secret, Some(&wish));
    assert_eq!(enrolled["state"], "active");
    assert_eq!(curl.ok("POST", "/v1/enroll", &secret, Some(&wish)), enrolled, "a lost answer can be asked for again");
    let (worker, key) = (text(&enrolled, "id"), text(&enrolled, "key"));

    let token = text(&curl.ok("POST", "/v1/register", &key, None), "token");
    let renewed = text(&curl.ok("POST", "/v1/renew", &token, None), "token");
    let own = curl.ok("GET", "/v1/worker", &renewed, None);
    assert_eq!((&own["id"], &own["name"], &own["labels"]["os"]), (&json!(worker), &json!("curl-1"), &json!("linux")));
    for credential in [&key, &token, &renewed] {
        assert_eq!(curl.verdict(credential), (true, "ok".to_owned()));
        assert_eq!(curl.call("GET", "/v1/check", credential, None).0, 204);
    }

    // With an overlap both keys work; with none, only the new one.
    let second = text(&curl.ok("POST", "/v1/worker/key/rotate", &key, Some(&json!({ "overlap": "1h" }))), "key");
    assert!(curl.verdict(&key).0 && curl.verdict(&second).0);
    let third = text(&curl.ok("POST", "/v1/worker/key/rotate", &second, Some(&json!({ "overlap": "0s" }))), "key");
    assert!(curl.verdict(&third).0);
    assert!(!curl.verdict(&second).0, "a key that was rotated at once is over at once");

    // Isolated, it is refused everything; released, it is let in again.
    curl.ok("POST", &format!("/v1/workers/{worker}/isolate"), admin, Some(&json!({ "reason": "a drill" })));
    assert_eq!(curl.verdict(&third), (false, "worker_isolated".to_owned()));
    assert_eq!(curl.call("POST", "/v1/register", &third, None).0, 401);
    curl.ok("POST", &format!("/v1/workers/{worker}/release"), admin, None);
    let token = text(&curl.ok("POST", "/v1/register", &third, None), "token");

    // It kills its own token, and then its key: for that it needs nothing but the thing itself.
    curl.ok("POST", "/v1/compromised", "", Some(&json!({ "credential": token })));
    assert!(!curl.verdict(&token).0);
    assert!(curl.verdict(&third).0, "exactly that one");
    curl.ok("POST", "/v1/compromised", "", Some(&json!({ "credential": third })));
    assert!(!curl.verdict(&third).0);
    let (status, refused) = curl.call("POST", "/v1/register", &third, None);
    assert_eq!((status, &refused["code"]), (401, &json!("unauthorized")));

    curl.ok("DELETE", &format!("/v1/workers/{worker}?reason=scrapped"), admin, None);
    let events = curl.ok("GET", &format!("/v1/events?subject=worker:{worker}&limit=1000"), admin, None);
    let kinds: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    for kind in ["worker.created", "worker.isolated", "worker.released", "worker.removed"] {
        assert_eq!(kinds.iter().filter(|it| **it == kind).count(), 1, "{kind} in {kinds:?}");
    }
}

/// Debian 12's curl drops an answer that comes over HTTP/2 before its body was taken, unless the stream ends well.
#[tokio::test]
async fn curl_is_told_of_every_refusal_over_http_2_however_long_its_body() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let gateway = json!({ "name": "gateway", "role": "gateway" });
    let gateway = text(&service.post("/v1/operators", gateway).await.expect(201), "key");
    let folder = tempfile::TempDir::new().unwrap();
    let body = |name: &str, length: usize| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{{\"reason\":\"{}\"}}", "x".repeat(length))).unwrap();
        format!("@{}", path.display())
    };
    let (long, too_long) = (body("long", 200_000), body("too-long", 1_500_000));
    let table = [
        (401, "POST", "/v1/pools", "", &long),
        (401, "POST", "/v1/pools", "guess", &long),
        (403, "POST", "/v1/pools", &gateway, &long),
        (404, "POST", "/v1/nothing", &gateway, &long),
        (405, "PUT", "/v1/pools", &gateway, &long),
        (400, "POST", "/v1/pools?unknown=1", &gateway, &long),
        (413, "POST", "/v1/pools", &service.token, &too_long),
    ];
    for (expected, method, path, credential, body) in table {
        for _ in 0..5 {
            let mut command = Command::new("curl");
            command.args(["--http2", "--silent", "--show-error", "--max-time", "30", "--request", method]);
            command.arg("--cacert").arg(service.file("tls/ca.pem")).args(["--config", "-", "--data-binary", body]);
            command.args(["--write-out", "\n%{http_version} %{http_code}"]).arg(format!("{}{path}", service.url));
            let config = format!("header = \"Authorization: Bearer {credential}\"\n");
            let ran = run(command, if credential.is_empty() { "" } else { &config }, Duration::from_secs(60));
            assert!(ran.success, "{expected} {path}: {}", ran.stderr);
            assert!(ran.stdout.ends_with(&format!("\n2 {expected}")), "{expected} {path}: {}", ran.stdout);
        }
    }
}

/// Who has no CA file does not get to send anything.
#[tokio::test]
async fn curl_without_the_ca_file_refuses_to_speak() {
    let scratch = Scratch::new().await;
    let service = Service::start(&scratch).await;
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30"]).arg(format!("{}/healthz", service.url));
    let ran = run(command, "", Duration::from_secs(60));
    assert!(!ran.success && ran.stderr.contains("certificate"), "{ran:?}");
}
